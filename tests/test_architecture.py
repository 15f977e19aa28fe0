"""Imports run downwards only, and a name means one thing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from chapters import CHAPTERS, code_cells, definitions, read

import mamlkit
import mamlkit.course
from mamlkit.paths import ROOT

PACKAGE = ROOT / "mamlkit"
ROOMS = ("datasets", "course", "exercises", "publish", "reproduce")
MODULES = sorted(PACKAGE.rglob("*.py"))
# What each room must not reach; the algorithm reaches none of them.
CLOSED = {
    "": ROOMS,
    "rl": ROOMS,
    "datasets": ("course", "exercises", "publish", "reproduce"),
    "exercises": ("datasets", "course", "publish", "reproduce"),
    "course": ("publish",),
    "publish": ("reproduce", "datasets"),
    "reproduce": ("course", "publish", "exercises"),
}
# Of the course, publish knows what a chapter is, and nothing else.
OPEN_TO_PUBLISH = {"mamlkit.course.chapters"}
AT_THE_DOOR = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}


def room(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else ""


def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of each import of mamlkit, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [f for f in found if f[0].split(".")[0] == "mamlkit"]


@pytest.mark.parametrize(
    "path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES]
)
def test_imports_run_downwards(path):
    own = room(path)
    for module, name in imports(path):
        # `from mamlkit import checks` reaches mamlkit.checks.
        parts = f"{module}.{name}".split(".")[1:]
        if path not in AT_THE_DOOR:
            assert parts[0] not in CLOSED[own], f"{module} is closed to {own}"
        if own == "publish" and parts[0] == "course":
            assert module in OPEN_TO_PUBLISH
        private = name.startswith("_") and not name.startswith("__")
        assert not private, f"{name} is private to {module}"
        through_the_door = module == "mamlkit" and name in mamlkit.__all__
        assert not through_the_door, f"import {name} from where it is defined"


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_a_chapter_never_redefines_a_shipped_name(path):
    shipped = {*mamlkit.__all__, *mamlkit.course.__all__}
    for cell in code_cells(read(path)):
        if "copy-me" not in cell.metadata.get("tags", []):
            assert not shipped & assigned(cell.source), cell.source


def assigned(source: str) -> set[str]:
    """Names that a cell defines or assigns at its top level."""
    found = {*definitions(source)}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.For | ast.AnnAssign):
            targets = getattr(node, "targets", None) or [node.target]
            for target in targets:
                found |= {
                    n.id for n in ast.walk(target) if isinstance(n, ast.Name)
                    and isinstance(n.ctx, ast.Store)
                }  # fmt: skip
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_a_chapter_imports_mamlkit_before_its_parameters(path):
    doors, setting_up = {"mamlkit", "mamlkit.course"}, True
    for cell in code_cells(read(path)):
        setting_up &= "parameters" not in cell.metadata.get("tags", [])
        for node in ast.parse(cell.source).body:
            if not isinstance(node, ast.ImportFrom | ast.Import):
                continue
            module = getattr(node, "module", None) or node.names[0].name
            if module.split(".")[0] == "mamlkit":
                assert module in doors
                assert setting_up, cell.source


def test_a_chapter_starts_without_nbformat():
    """Its import takes seconds of every kernel's start."""
    look = "import sys, mamlkit.course; sys.exit('nbformat' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look]).returncode == 0
