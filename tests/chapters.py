"""What a chapter must look like; the tests apply it to every notebook."""

import ast
import math
import re
from pathlib import Path
from symtable import symtable

from mamlkit.course.chapters import (
    code_cells,
    declared_parameters,
    find_chapters,
    opening,
    read,
    tagged,
)

CHAPTERS = find_chapters()
MAX_WORDS = 3000
MAX_COLUMNS = 79
MAX_LINES = {False: 15, True: 25}  # by whether the cell is to be copied

# Arguments of shipped functions that the chapters' copies do not have.
PRACTICE = {"places", "groups", "rule", "adapted"}
# Private functions that a copy may do without.
PLUMBING = {"_moved", "_where_float64_is"}
MAX_MINUTES = 45
MAX_OPEN_LINES = 300
# Code lines that are not blank, before anything was folded.
LINES_BEFORE = {
    **{"00": 196, "01": 574, "02": 553, "03": 325, "04": 322, "05": 472},
    **{"06": 633, "07": 544, "08": 676, "09": 749, "10": 735, "11": 421},
    **{"12": 640, "13": 570},
}
MAX_OPEN_SHARE = 0.6
MAX_PICTURE = 700  # points of the page that a desktop's column is wide
MIN_TYPE = 11  # points; on a phone a picture is shown at half its size
# What a reader of the lesson need not read: cells that call these are folded.
FOLDED_CALLS = {"show", "explore", "claim", "predict", "use_theme"}

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
    faults += prose_faults(nb, path) + fold_faults(nb)
    faults += budget_faults(nb, path) + prediction_faults(nb, path)
    return faults + output_faults(nb) + name_faults(nb)


def has_tag(cell, tag: str) -> bool:
    """Say whether a cell has a tag."""
    return tag in cell.metadata.get("tags", [])


def output_faults(nb) -> list[str]:
    """List pictures that are too wide, and claims that speak up."""
    faults = []
    for number, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            width = output.get("metadata", {}).get("image/png", {})
            width = width.get("width", 0)
            if width > MAX_PICTURE:
                faults.append(
                    f"cell {number}: a picture of {width} points, more than "
                    f"{MAX_PICTURE}: make it WIDE inches"
                )
    return faults


def name_faults(nb) -> list[str]:
    """List names that get another value though an earlier function reads them.

    Such a function is called again by a widget, or by a reader who goes back.
    """
    faults, known, read_by = [], set(), {}
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        tree = _Lasting().visit(ast.parse(cell.source))
        table = symtable(ast.unparse(tree), "", "exec")
        given = {s.get_name() for s in table.get_symbols() if s.is_assigned()}
        faults += [
            f"cell {number} gives {name} another value, which a function of "
            f"cell {read_by[name]} reads"
            for name in sorted(given & known & read_by.keys())
        ]
        known |= given
        for name in globals_read_later(table):
            read_by.setdefault(name, number)
    return faults


class _Lasting(ast.NodeTransformer):
    """Leave out what adds to a value, and functions called on the spot."""

    def visit_AugAssign(self, node):
        return ast.copy_location(ast.Expr(node.value), node)

    def visit_keyword(self, node):
        return None if node.arg == "key" else self.generic_visit(node)


def globals_read_later(table, inside: bool = False) -> set[str]:
    """Names of the module that its functions read when they are called."""
    at_once = ("listcomp", "setcomp", "dictcomp", "genexpr")
    names = set()
    for child in table.get_children():
        later = child.get_type() == "function"
        later = inside or later and child.get_name() not in at_once
        if later:
            symbols = child.get_symbols()
            names |= {s.get_name() for s in symbols if s.is_global()}
        names |= globals_read_later(child, later)
    return names


def fold_faults(nb) -> list[str]:
    """List cells that are open though they are not the lesson, and so on."""
    faults = []
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        small = [size for size in type_sizes(cell.source) if size < MIN_TYPE]
        if small:
            faults.append(f"cell {number}: type of {min(small)} points")
        if has_tag(cell, "hide-input"):
            if not cell.source.startswith("# "):
                faults.append(
                    f"cell {number} is folded: its first line, which is what "
                    "JupyterLab shows of it, must be a comment that names it"
                )
            continue
        called = FOLDED_CALLS & calls(cell.source)
        sizes = re.search(r"^SIZES = ", cell.source, re.M)
        if called or sizes or has_tag(cell, "setup"):
            why = ", ".join(sorted(called)) or ("SIZES" if sizes else "setup")
            faults.append(f"cell {number} ({why}) must be tagged hide-input")
    return faults


def type_sizes(source: str) -> list[float]:
    """Sizes of type that a cell asks for, in points."""
    names = {"size", "fontsize", "labelsize", "title_fontsize"}
    asked = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in names:
            asked.append(node.value)
        elif isinstance(node, ast.Dict):
            asked += [
                value
                for key, value in zip(node.keys, node.values)
                if isinstance(key, ast.Constant) and key.value in names
            ]
    numbers = [n.value for n in asked if isinstance(n, ast.Constant)]
    return [n for n in numbers if isinstance(n, int | float)]


def budget_faults(nb, path: Path) -> list[str]:
    """List what there is too much of: minutes, open lines."""
    faults = []
    minutes = int(opening(nb).minutes or 0)
    if minutes > MAX_MINUTES:
        faults.append(f"{minutes} minutes, more than {MAX_MINUTES}")
    opened = sum(
        bool(line.strip())
        for cell in code_cells(nb)
        if not has_tag(cell, "hide-input")
        for line in cell.source.splitlines()
    )
    before = LINES_BEFORE.get(path.name[:2], math.inf)
    budget = min(MAX_OPEN_LINES, MAX_OPEN_SHARE * before)
    if opened > budget:
        faults.append(f"{opened} open code lines, more than {budget:.0f}")
    return faults


def prediction_faults(nb, path: Path) -> list[str]:
    """List predictions that guard nothing, and guards without a prediction."""
    faults, guarded, asked, open_ = [], set(), [], False
    revealed = {key for c in code_cells(nb) for key, _ in keyed(c, "reveal")}
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            if re.search("predict, then run", cell.source, re.I):
                faults.append(f"cell {number}: a prediction guards nothing")
            open_ = open_ and not re.search(r"^#{2,3} ", cell.source, re.M)
            continue
        # A claim says what came out, so it stays shut as long as a prediction
        # of its section may still be unanswered.
        answers = open_ and "claim" in calls(cell.source)
        if answers and not has_tag(cell, "hide-output"):
            faults.append(
                f"cell {number}: a claim tells the answer of a prediction "
                "above it; tag it hide-output"
            )
        open_ = open_ or "predict" in calls(cell.source)
        for key, call in keyed(cell, "predict"):
            asked.append(key)
            if not re.fullmatch(rf"{int(path.name[:2])}[a-z]", key):
                faults.append(f"predict({key!r}): the key is not like '3a'")
            if key not in revealed:
                faults.append(f"predict({key!r}) is never revealed")
            options = {k.arg: k.value for k in call.keywords}
            count = ast.literal_eval(options.get("cells", ast.Constant(1)))
            below = code_below(nb, number)[:count]
            if len(below) < count or not has_tag(below[-1], "hide-output"):
                faults.append(
                    f"predict({key!r}): code cell {count} below it, in the "
                    "same section, must be tagged hide-output"
                )
            guarded |= {c.id for c in below}
        if has_tag(cell, "hide-output"):
            if cell.id not in guarded and not answers:
                faults.append(f"cell {number}: no predict() guards it")
            if not has_tag(cell, "hide-input"):
                faults.append(
                    f"cell {number} is tagged hide-output alone: JupyterLab "
                    "then shows the first line of the answer; tag hide-input"
                )
        elif cell.id in guarded and cell.outputs:
            faults.append(f"cell {number} is guarded: tag it hide-output")
    if len({*asked}) < len(asked):
        faults.append("two predictions have one key")
    if asked and "predictions" not in calls(code_cells(nb)[-1].source):
        faults.append("the last code cell does not count predictions()")
    return faults


def keyed(cell, function: str) -> list[tuple[str, ast.Call]]:
    """Calls of a function in a code cell, by their literal first argument."""
    return [
        (ast.literal_eval(node.args[0]), node)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function
    ]


def code_below(nb, number: int) -> list:
    """Code cells below a cell, up to the next heading."""
    below = []
    for cell in nb.cells[number + 1 :]:
        if cell.cell_type == "code":
            below.append(cell)
        elif re.search(r"^#+ ", cell.source, re.M):
            break
    return below


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
    module's own private functions, decorators among them. The chapters'
    models have one input, so `inputs.…` stands for its first argument;
    `to_device` and `device=` say where tensors are, and `tie_weights` of
    `functional_call` only saves time. What else practice asks for are
    arguments in `PRACTICE`, with values that bear their names, and an `if`
    on them.
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
        plumbing |= [*map(ast.unparse, node.targets)] == ["places"]
        return None if plumbing else self.generic_visit(node)

    def visit_Call(self, node):
        # checks.scalar(loss) returns the loss.
        aside = _checks(node) or ast.unparse(node.func).startswith("inputs.")
        return self.visit(node.args[0]) if aside else self.generic_visit(node)

    def visit_keyword(self, node):
        aside = node.arg in ("tie_weights", "device")
        aside |= node.arg in PRACTICE and ast.unparse(node.value) == node.arg
        return None if aside else self.generic_visit(node)

    def visit_arguments(self, node):
        kept = [
            (arg, default)
            for arg, default in zip(node.kwonlyargs, node.kw_defaults)
            if arg.arg not in PRACTICE or default is None
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
        node.decorator_list = [
            d for d in node.decorator_list if not _private(ast.unparse(d))
        ]
        return self.generic_visit(node)


def _checks(node: ast.AST) -> bool:
    name = isinstance(node, ast.Call) and ast.unparse(node.func)
    return bool(name) and (name.startswith("checks.") or _private(name))


def _private(name: str) -> bool:
    return name.startswith("_check") or name in PLUMBING


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
