"""The map of the course, made from the chapters that exist."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

import nbformat
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from mamlkit.figures import BLACK, BLUE, GREY
from mamlkit.paths import NOTEBOOKS


class Chapter(NamedTuple):
    """What a chapter's first cell says about it.

    Attributes:
        number: as "03".
        title: a verb phrase.
        promise: what follows "you will have".
        minutes: how long it takes.
        after: number of the chapter it builds on: the last one that it says
            you have followed, else the one before it; "" for the first.
        file: name of the notebook.
    """

    number: str
    title: str
    promise: str
    minutes: int
    after: str
    file: str


def chapters(folder: Path = NOTEBOOKS) -> list[Chapter]:
    """Read the first cells of all chapters that exist, in order.

    Raises:
        ValueError: a chapter does not say what you will have, or how long it
            takes.
    """
    found: list[Chapter] = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        first = nbformat.read(path, as_version=4).cells[0].source
        title = re.search(r"^# (.+)", first, re.MULTILINE)[1]
        promise = re.search(r"you will have (.+?)[.\n]", first)
        minutes = re.search(r"About (\d+) minutes", first)
        if not promise:
            raise ValueError(f"{path.name} does not say what you will have")
        if not minutes:
            raise ValueError(f"{path.name} does not say how long it takes")
        # What a check will show is the chapter's business, not the map's.
        text = re.split(r"[,;] (?:and )?a? ?checks? ", promise[1])[0]
        known = [chapter.number for chapter in found]
        needs = re.findall(r"\]\((\d\d)_", first)
        found.append(
            Chapter(
                path.name[:2],
                title,
                text[0].upper() + text[1:],
                int(minutes[1]),
                max([n for n in needs if n in known] or known[-1:] or [""]),
                path.name,
            )
        )
    return found


def chapter_map(folder: Path = NOTEBOOKS, *, prefix: str = "") -> str:
    """Make a table of the chapters that exist, in markdown.

    Args:
        folder: of the notebooks.
        prefix: of the links, from where the table stands to the notebooks.
    """
    lines = ["| chapter | you end up with | minutes |", "|---|---|---|"]
    for chapter in chapters(folder):
        link = f"[{chapter.number} {chapter.title}]({prefix}{chapter.file})"
        lines.append(f"| {link} | {chapter.promise} | {chapter.minutes} |")
    return "\n".join(lines)


def draw_map(ax: Axes, course: Sequence[Chapter]) -> str:
    """Draw which chapter builds on which, as paths that part.

    Args:
        ax: its frame is removed.
        course: as `chapters` returns them.

    Returns:
        the same in words, for the figure's alt text.
    """
    places = _places(course)
    parents = {chapter.after for chapter in course}
    for chapter in course:
        x, y = places[chapter.number]
        if chapter.after:
            _draw_way(ax, places[chapter.after], (x, y))
        ax.plot(x, y, "o", ms=24, color="white", mec=BLUE, mew=2, zorder=3)
        style = {"xycoords": "data", "textcoords": "offset points"}
        centre = {"ha": "center", "va": "center", "zorder": 4} | style
        ax.annotate(chapter.number, (x, y), (0, 0), color=BLUE, **centre)
        if chapter.number not in parents:
            title, at = chapter.title, (19, 0)
            style |= {"va": "center"}
        elif y > 0:  # between two rows
            title, at = chapter.title, (-12, 14)
        else:
            title, at = "\n".join(_lines(chapter.title)), (0, 17)
            style |= {"ha": "center", "va": "bottom"}
        ax.annotate(title, (x, y), at, color=BLACK, **style)
    xs, ys = zip(*places.values())
    ax.set(xlim=(min(xs) - 0.5, max(xs) + 1.7))
    ax.set(ylim=(max(ys) + 0.5, min(ys) - 1.4))
    ax.axis("off")
    ways = [f"{c.number} after {c.after}" for c in course if c.after]
    return f"Chapters as stations on parting paths: {', '.join(ways)}."


def _lines(title: str) -> list[str]:
    return wrap(title, 11, break_long_words=False, break_on_hyphens=False)


def _places(course: Sequence[Chapter]) -> dict[str, tuple[float, float]]:
    """Put each chapter right of the one it builds on, siblings below."""
    places: dict[str, tuple[float, float]] = {}

    def settle(number: str, depth: int, row: float) -> float:
        """Place a chapter and all that follow; return the next free row."""
        children = [c.number for c in course if c.after == number]
        if children and row:
            row += 0.4  # its title stands above it
        places[number] = (depth, row)
        free = row + 1
        for child in children:
            free = settle(child, depth + 1, row)
            row = free
        return free

    settle(course[0].number, 0, 0)
    return places


def _draw_way(ax: Axes, start: tuple, end: tuple) -> None:
    (x0, y0), (x1, y1) = start, end
    bend = (x0 + x1) / 2
    points = [(x0, y0), (bend, y0), (bend, y1), (x1, y1)]
    codes = [Curve.MOVETO, *[Curve.CURVE4] * 3]
    curve = Curve(points, codes)
    ax.add_patch(PathPatch(curve, fc="none", ec=GREY, lw=2, alpha=0.6))
