"""Chapters: a notebook in `notebooks/`, found, read and listed."""

import ast
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mamlkit.paths import NOTEBOOKS

if TYPE_CHECKING:
    from nbformat import NotebookNode

SCALES = ("ci", "laptop", "paper")
VERDICTS = ("held", "failed", "not judged")
# The shorter of the two routes; the other one is all chapters.
CORE = ("00", "03", "04", "05", "06", "07", "09")


def find_chapters(names: Sequence[str] = ()) -> list[Path]:
    """Find chapters by number, file stem or path; all of them by default.

    Raises:
        ValueError: there is no such chapter, or no chapter at all.
    """
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise ValueError(f"no chapters in {NOTEBOOKS}: run from a checkout")
    found = []
    for name in names:
        path = Path(name)
        if path.is_file() and path.resolve().parent != NOTEBOOKS:
            raise ValueError(
                f"{name} is not a chapter in {NOTEBOOKS}: a copy of your own "
                f"runs with papermill {name} out.ipynb -p SCALE ci"
            )
        # From another folder notebooks/NN_….ipynb still is what it says.
        if path.name != str(name) and not (NOTEBOOKS.parent / path).is_file():
            raise ValueError(f"no such file: {name}")
        stem = path.name.removesuffix(".ipynb")
        matches = [p for p in paths if stem == p.stem]
        if stem.isdecimal():
            matches = [p for p in paths if int(stem) == int(p.name[:2])]
        if not matches:
            known = ", ".join(p.name[:2] for p in paths)
            raise ValueError(f"no chapter {name!r}: there are {known}")
        found += matches
    return sorted(set(found)) or paths


def read(path: Path) -> "NotebookNode":
    """Read a notebook, whatever version 4 form it is in."""
    import nbformat  # here, as its import takes seconds that a kernel can save

    return nbformat.read(path, as_version=4)


def code_cells(nb: "NotebookNode") -> "list[NotebookNode]":
    """List the cells that hold code."""
    return [c for c in nb.cells if c.cell_type == "code"]


def tagged(nb: "NotebookNode", tag: str) -> "list[NotebookNode]":
    """List the cells that have a tag."""
    return [c for c in nb.cells if tag in c.metadata.get("tags", [])]


def folds(tags: Sequence[str]) -> dict[str, dict[str, bool]]:
    """Make the metadata by which JupyterLab folds a cell as its tags say.

    Sites fold by the tags themselves, so tags are what an author writes.

    Args:
        tags: of the cell; `hide-input` folds its code, `hide-output` what it
            shows.

    Returns:
        a part of the cell's metadata; empty if nothing is folded.

    Examples:
        >>> folds(["hide-input"])
        {'jupyter': {'source_hidden': True}}
    """
    names = {"hide-input": "source_hidden", "hide-output": "outputs_hidden"}
    hidden = {name: True for tag, name in names.items() if tag in tags}
    return {"jupyter": hidden} if hidden else {}


def code_hash(nb: "NotebookNode") -> str:
    """Hash the code of all cells, SHA-256."""
    code = "\0".join(cell.source for cell in code_cells(nb))
    return hashlib.sha256(code.encode()).hexdigest()


def declared_parameters(nb: "NotebookNode") -> dict[str, Any]:
    """Read the literals of a chapter's `parameters` cell.

    Raises:
        ValueError: there is not exactly one such cell, or it holds anything
            but assignments of literals.
    """
    cells = tagged(nb, "parameters")
    if len(cells) != 1:
        raise ValueError(
            f"expected 1 cell tagged parameters, got {len(cells)}"
        )
    parameters = {}
    for node in ast.parse(cells[0].source).body:
        try:
            (target,) = node.targets
            parameters[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            raise ValueError(
                "the parameters cell must assign literals only, got "
                f"{ast.unparse(node)!r}"
            ) from None
    return parameters


class Opening(NamedTuple):
    """What a chapter's first cell says.

    Attributes:
        title: without the number.
        promise: the paragraph after the title.
        effort: the one after that: minutes, level, needs.
        gain: what the reader will have, as a map lists it; or "".
        needs: numbers of the chapters that it builds on.
        minutes: how long it takes; or "".
    """

    title: str
    promise: str
    effort: str
    gain: str
    needs: list[str]
    minutes: str


def opening(nb: "NotebookNode") -> Opening:
    """Read a chapter's first cell."""
    first = nb.cells[0].source.strip()
    title, *rest = re.split(r"\n\s*\n", first)
    promise, effort = (*rest, "", "")[:2]
    gain = re.search(r"you will have (.+?)[.\n]", first)
    minutes = re.search(r"About (\d+) minutes", first)
    # What a check will show is the chapter's business, not the map's.
    text = re.split(r"[,;] (?:and )?a? ?checks? ", gain[1] if gain else "")[0]
    return Opening(
        title.removeprefix("# "),
        promise,
        effort,
        text[:1].upper() + text[1:],
        re.findall(r"you have followed \[chapter (\d\d)\]", first),
        minutes[1] if minutes else "",
    )


def chapter_map(folder: Path = NOTEBOOKS, prefix: str = "notebooks/") -> str:
    """Make a table of the chapters that exist.

    Args:
        folder: of the notebooks.
        prefix: of the links, from where the table stands to the notebooks.

    Raises:
        ValueError: a chapter does not say what you will have, or how long
            it takes.
    """
    lines = [
        "| chapter | you end up with | builds on | minutes, exercises apart |",
        "|---|---|---|---|",
    ]
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        first = opening(read(path))
        if not first.gain:
            raise ValueError(f"{path.name} does not say what you will have")
        if not first.minutes:
            raise ValueError(f"{path.name} does not say how long it takes")
        link = f"[{path.name[:2]} {first.title}]({prefix}{path.name})"
        needs = ", ".join(first.needs)
        columns = link, first.gain, needs, first.minutes
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)
