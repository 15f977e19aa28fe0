"""Which code of mamlkit a chapter's outputs depend on, and whether it changed.

Names are followed from a chapter's cells through the definitions that they
mention, without executing anything. Each function, class or constant counts
by its syntax tree without docstrings, so comments and formatting do not. What
is left out: modules in `PLUMBING`, which change neither numbers nor pictures,
data files, and code that is found by a string only.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from mamlkit.course.chapters import code_cells

PACKAGE = Path(__file__).resolve().parents[1]
PLUMBING = ("mamlkit.exercises", "mamlkit.publish")
_BLOCKS = (ast.If, ast.Try, ast.With)


class _Names:
    """What the names at the top of a piece of code stand for."""

    def __init__(self, code: str):
        self.tree = ast.parse(code)
        self.nodes: dict[str, list[ast.AST]] = {}
        for node in _statements(self.tree.body):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names = [n.id for t in targets if t for n in _names(t)]
            for name in [getattr(node, "name", None), *names]:
                if name:
                    self.nodes.setdefault(name, []).append(node)
        self.imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
            if node.module.split(".")[0] == "mamlkit"
        }
        self.imported |= {
            alias.asname or alias.name: (alias.name,)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.split(".")[0] == "mamlkit"
        }


def helpers(nb: NotebookNode) -> dict[str, str]:
    """Hash every definition of mamlkit that a chapter reaches.

    Returns:
        "module:name" -> eight hexadecimal digits, sorted.
    """
    modules: dict[str, _Names | None] = {}
    found: dict[str, str] = {}
    cells = _Names("\n".join(cell.source for cell in code_cells(nb)))
    waiting = [*_mentioned(cells.tree, "", cells)]
    while waiting:
        module, name = waiting.pop()
        key = f"{module}:{name}"
        if key in found or module.startswith(PLUMBING):
            continue
        if module not in modules:
            modules[module] = _read(module)
        names = modules[module]
        if names is None:
            continue
        if name in names.nodes:
            nodes = names.nodes[name]
            text = repr([_shape(node) for node in nodes])
            found[key] = hashlib.sha256(text.encode()).hexdigest()[:8]
            for node in nodes:
                waiting += _mentioned(node, module, names)
        elif len(names.imported.get(name, ())) == 2:
            waiting.append(names.imported[name])
        elif name == "*":
            waiting += [(module, each) for each in names.nodes]
        elif _file(f"{module}.{name}"):
            waiting.append((f"{module}.{name}", "*"))
    return dict(sorted(found.items()))


def stamp(nb: NotebookNode) -> dict[str, str]:
    """Pack `helpers` for a notebook's metadata: a line for each module."""
    packed: dict[str, str] = {}
    for key, digits in helpers(nb).items():
        module, name = key.split(":")
        packed[module] = f"{packed.get(module, '')} {name} {digits}".strip()
    return packed


def changed(nb: NotebookNode) -> list[str]:
    """List the definitions that differ from those of the stored outputs."""
    old, new = {}, helpers(nb)
    stamped = nb.metadata.get("mamlkit", {}).get("helpers", {})
    for module, line in stamped.items():
        words = line.split()
        for name, digits in zip(words[::2], words[1::2]):
            old[f"{module}:{name}"] = digits
    return sorted(k for k in old.keys() | new if old.get(k) != new.get(k))


def _mentioned(
    node: ast.AST, module: str, names: _Names
) -> Iterator[tuple[str, str]]:
    """(module, name) of what a definition names; of modules, attributes."""
    inside = set()
    for part in ast.walk(node):  # from the outside in
        if isinstance(part, ast.Attribute) and isinstance(
            part.value, ast.Name
        ):
            target = ".".join(names.imported.get(part.value.id, ()))
            if target and _file(target):
                inside.add(part.value)
                yield target, part.attr
        elif isinstance(part, ast.Name) and part not in inside:
            if part.id in names.nodes and module:
                yield module, part.id
            elif len(names.imported.get(part.id, ())) == 2:
                yield names.imported[part.id]


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, _BLOCKS):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, part, []))


def _names(target: ast.AST) -> list[ast.Name]:
    return [n for n in ast.walk(target) if isinstance(n, ast.Name)]


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _read(module: str) -> _Names | None:
    path = _file(module)
    return _Names(path.read_text(encoding="utf-8")) if path else None


def _shape(node: Any) -> Any:
    """Nested lists for a tree: the same in every version of Python."""
    if isinstance(node, list):
        return [_shape(part) for part in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        fields["body"] = node.body[ast.get_docstring(node) is not None :]
    # Newer versions add fields, which are empty for older code.
    kept = {k: v for k, v in fields.items() if v is not None and v != []}
    return [type(node).__name__, [[k, _shape(v)] for k, v in kept.items()]]
