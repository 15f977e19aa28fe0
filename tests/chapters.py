"""What a chapter must look like; the tests apply it to every notebook."""

import ast
import re
from pathlib import Path

from mamlkit.course.chapters import (
    code_cells,
    declared_parameters,
    find_chapters,
    read,
    tagged,
)

CHAPTERS = find_chapters()
MAX_WORDS = 3500
MAX_COLUMNS = 79
MAX_LINES = {False: 15, True: 25}  # by whether the cell is to be copied

# Arguments of shipped functions that the chapters' copies do not have.
PRACTICE = {"places", "groups"}

# Stops a kernel from reaching beyond this machine; goes into sitecustomize.
NO_NETWORK = """
import sys

def refuse(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        raise OSError(f"no network in this test: {host}")

sys.addaudithook(refuse)
"""


def form_faults(path: Path) -> list[str]:
    """List where a chapter breaks the form that all chapters share."""
    nb = read(path)
    faults = []
    if not re.fullmatch(r"\d\d(_[a-z]+)+\.ipynb", path.name):
        faults.append("file name is not NN_verb_phrase.ipynb")
    ids = [c.get("id") for c in nb.cells]
    if len({*ids}) < len(ids) or None in ids:
        faults.append("cell ids are missing or repeated")
    try:
        declared = declared_parameters(nb)
        if (declared.get("SCALE"), declared.get("SEED")) != ("laptop", 0):
            faults.append('parameters must have SCALE = "laptop", SEED = 0')
    except ValueError as fault:
        faults.append(str(fault))
    if len(tagged(nb, "setup")) != 1:
        faults.append("there must be 1 cell tagged setup")
    code = code_cells(nb)
    called = {name for cell in code for name in calls(cell.source)}
    faults += [f"no {name}()" for name in {"claim", "check"} - called]
    if "report_claims" not in calls(code[-1].source):
        faults.append("the last code cell does not report_claims(SCALE)")
    for number, cell in enumerate(nb.cells):
        lines = cell.source.splitlines()
        if cell.cell_type == "code":
            budget = MAX_LINES["copy-me" in cell.metadata.get("tags", [])]
            if sum(bool(line.strip()) for line in lines) > budget:
                faults.append(f"cell {number} has more than {budget} lines")
            if any(len(line) > MAX_COLUMNS for line in lines):
                faults.append(f"cell {number} is wider than {MAX_COLUMNS}")
    return faults + prose_faults(nb, path)


def prose_faults(nb, path: Path) -> list[str]:
    """List faults in the text: too long, headings, links."""
    cells = [c.source for c in nb.cells if c.cell_type == "markdown"]
    # In code spans and fences, # and ](...) are not markdown.
    text = re.sub(r"```.*?```|`[^`\n]*`", "", "\n\n".join(cells), flags=re.S)
    faults = []
    words = sum(len(source.split()) for source in cells)
    if words > MAX_WORDS:
        faults.append(f"{words} words, more than {MAX_WORDS}")
    titles = re.findall(r"^# .+$", text, re.M)
    if len(titles) != 1 or not nb.cells[0].source.startswith("# "):
        faults.append("there must be one title, in the first cell")
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    anchors = {heading.strip().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if link.startswith(("https://", "mailto:")):
            continue
        if target and not (path.parent / target).exists():
            faults.append(f"link to {target}, which does not exist")
        if not target and anchor not in anchors:
            faults.append(f"link to #{anchor}, which is no heading")
    return faults


def calls(source: str) -> set[str]:
    """Names of the functions called."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    }


def definitions(source: str) -> dict[str, ast.AST]:
    """Functions and classes at the top level, by name."""
    kinds = ast.FunctionDef | ast.ClassDef
    body = ast.parse(source).body
    return {node.name: node for node in body if isinstance(node, kinds)}


class _Plain(ast.NodeTransformer):
    """Strip what a copy may differ in: docstrings, annotations, checks.

    Checks are calls of `checks.…`, as statements or around a value, and of a
    module's own private functions. The chapters' models have one input, so
    `inputs.…` stands for its first argument; `to_device` moves tasks. What
    else practice asks for are arguments in `PRACTICE`, with values that bear
    their names, and an `if` on them.
    """

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        node.annotation = ast.Constant(None)  # a field keeps its name
        return self.generic_visit(node)

    def visit_Expr(self, node):
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return None
        return None if _checks(value) else node

    def visit_Assign(self, node):
        plumbing = isinstance(node.value, ast.Call) and (
            _checks(node.value) or ast.unparse(node.value.func) == "to_device"
        )
        plumbing |= {*map(ast.unparse, node.targets)} <= PRACTICE
        return None if plumbing else self.generic_visit(node)

    def visit_Call(self, node):
        # checks.scalar(loss) returns the loss.
        aside = _checks(node) or ast.unparse(node.func).startswith("inputs.")
        return self.visit(node.args[0]) if aside else self.generic_visit(node)

    def visit_keyword(self, node):
        return None if node.arg in PRACTICE else self.generic_visit(node)

    def visit_arguments(self, node):
        kept = [
            (arg, default)
            for arg, default in zip(node.kwonlyargs, node.kw_defaults)
            if arg.arg not in PRACTICE
        ]
        node.kwonlyargs = [arg for arg, _ in kept]
        node.kw_defaults = [default for _, default in kept]
        while node.args and node.args[-1].arg in PRACTICE:
            node.args.pop()
            node.defaults.pop()
        return self.generic_visit(node)

    def visit_If(self, node):
        named = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        return None if named & PRACTICE else self.generic_visit(node)

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)


def _checks(node: ast.AST) -> bool:
    name = isinstance(node, ast.Call) and ast.unparse(node.func)
    return bool(name) and name.startswith(("checks.", "_"))


def plain(node: ast.AST) -> str:
    """Write a definition without docstrings, annotations, input checks."""
    copy = ast.parse(ast.unparse(node))
    return ast.unparse(_Plain().visit(copy))


def earlier_cells(path: Path) -> list:
    """`copy-me` cells of the chapters before this one, in order."""
    return [
        cell
        for chapter in CHAPTERS
        if chapter.name < path.name
        for cell in tagged(read(chapter), "copy-me")
    ]


def copy_me_faults(
    nb, shipped: dict[str, list[ast.AST]], earlier: list = ()
) -> list[str]:
    """List `copy-me` cells that differ from what `mamlkit` ships.

    Args:
        nb: the chapter.
        shipped: the definitions of all modules, by name.
        earlier: `copy-me` cells of earlier chapters.
    """
    faults = []
    seen = {name for cell in earlier for name in definitions(cell.source)}
    for cell in tagged(nb, "copy-me"):
        first, found = cell.source.split("\n")[0], definitions(cell.source)
        needs = needed(cell.source)
        if not re.fullmatch(r"# copy-me(; needs: \w+(, \w+)*)?", first):
            faults.append(f"first line is {first!r}")
        if not found:
            faults.append(f"nothing to copy below {first!r}")
        faults += [f"needs {n}, which comes later" for n in needs - seen]
        for name, node in found.items():
            same = [plain(other) for other in shipped.get(name, [])]
            if plain(node) not in same:
                faults.append(f"{name} is not what mamlkit ships")
        seen |= found.keys()
    return faults


def needed(source: str) -> set[str]:
    """Names that a `copy-me` cell's first line says it needs."""
    names = source.split("\n")[0].partition("needs: ")[2]
    return {*names.split(", ")} - {""}


def with_needs(nb, cell, earlier: list = ()) -> str:
    """Paste a `copy-me` cell below the earlier ones that it needs."""
    parts = [cell.source]
    for other in reversed([*earlier, *tagged(nb, "copy-me")]):
        wanted = {name for part in parts for name in needed(part)}
        if other is not cell and definitions(other.source).keys() & wanted:
            parts.insert(0, other.source)
    return "\n\n\n".join(parts) + "\n"


def solve(source: str, solution: str) -> str:
    """Replace the stub in an `exercise` cell by its solution."""
    check_ = [
        ast.unparse(node)
        for node in ast.parse(source).body
        if isinstance(node, ast.Expr)
    ]
    return "\n\n".join([solution.strip(), *check_])
