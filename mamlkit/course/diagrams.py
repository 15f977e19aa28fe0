"""Diagrams: boxes that carry the code's names, and arrows of four kinds."""

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerPatch
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Annotation, Text

from mamlkit.course.grammar import BLACK, BLUE, GREY, ORANGE, PINK


class Kind(NamedTuple):
    """What an arrow means, and how it is drawn.

    Attributes:
        meaning: as the legend says it.
        colour: as "#RRGGBB".
        line: as matplotlib names it, or its (offset, dashes).
        width: of the line, in points.
        head: matplotlib's arrow style.
    """

    meaning: str
    colour: str
    line: str | tuple
    width: float
    head: str


#: What each kind of arrow means and looks like, by key.
KINDS = {
    "data": Kind("values flow", GREY, "-", 1.8, "-|>"),
    "gradient": Kind("a gradient flows back", ORANGE, (0, (4, 2)), 1.8, "->"),
    "update": Kind("parameters are moved", PINK, "-", 3.2, "-|>"),
    "loop": Kind("again, several times", BLUE, (0, (6, 1, 1, 1)), 1.8, "-|>"),
}


def box(ax: Axes, x: float, y: float, text: str, colour: str = BLACK) -> Text:
    """Draw text in a rounded frame centred on (x, y), to tie arrows to."""
    frame = {
        "boxstyle": "round,pad=0.5",
        "facecolor": "white",
        "edgecolor": colour,
        "linewidth": 1.8,
    }
    return ax.text(x, y, text, ha="center", va="center", bbox=frame)


def arrow(
    ax: Axes,
    start: Text | tuple,
    end: Text | tuple,
    kind: str = "data",
    *,
    text: str = "",
    bend: float = 0.0,
) -> Annotation:
    """Draw an arrow between boxes or points, from edge to edge of a box.

    Args:
        ax: where to draw.
        start: a box, or a point (x, y).
        end: likewise; the same box as `start` makes a loop over it.
        kind: "data", "gradient", "update" or "loop".
        text: written beside its middle, in its colour.
        bend: how far it bows to its right, as a share of its length.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: an arrow is {', '.join(KINDS)}")
    style = _style(KINDS[kind])
    if start is end:
        return _loop(ax, start, style, text)
    for side, place in (("A", start), ("B", end)):
        if isinstance(place, Text):
            style[f"patch{side}"] = place.get_bbox_patch()
        style[f"shrink{side}"] = 3
    start, end = (
        place.get_position() if isinstance(place, Text) else place
        for place in (start, end)
    )
    style["connectionstyle"] = f"arc3,rad={bend}"
    (x, y), (x_end, y_end) = start, end
    drawing = ax.annotate("", end, start, arrowprops=style)
    if text:
        middle = (
            (x + x_end) / 2 + bend * (y_end - y) / 2,
            (y + y_end) / 2 - bend * (x_end - x) / 2,
        )
        level = abs(x_end - x) > abs(y_end - y)
        ax.annotate(
            text,
            middle,
            (0, 5) if level else (7, 0),
            textcoords="offset points",
            ha="center" if level else "left",
            va="bottom" if level else "center",
            color=style["color"],
            fontsize=12,
        )
    return drawing


def _style(kind: Kind) -> dict:
    return {
        "arrowstyle": kind.head,
        "color": kind.colour,
        "linestyle": kind.line,
        "linewidth": kind.width,
        "mutation_scale": 18,
        "joinstyle": "miter",
        "capstyle": "butt",
    }


def _loop(ax: Axes, place: Text, style: dict, text: str) -> Annotation:
    """An arrow out of the right of a box's top, and back into the left."""
    frame = place.get_bbox_patch()
    style |= {"connectionstyle": "arc3,rad=0.9", "shrinkA": 1, "shrinkB": 1}
    drawing = ax.annotate(
        "",
        (0.3, 1),
        (0.7, 1),
        xycoords=frame,
        textcoords=frame,
        arrowprops=style,
    )
    drawing.set_in_layout(False)  # the frame is laid out later than it
    if text:
        said = ax.annotate(
            text,
            (0.5, 1),
            (0, 24),
            xycoords=frame,
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=style["color"],
            fontsize=12,
        )
        said.set_in_layout(False)
    return drawing


def legend_of_arrows(ax: Axes, *kinds: str, **place) -> None:
    """Say what the kinds of arrows in a diagram mean.

    Args:
        ax: the diagram.
        *kinds: those that it uses; all of them by default.
        **place: for `Axes.legend`.
    """
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)} | place
    handles = [
        FancyArrowPatch((0, 0), (1, 0), **_style(KINDS[kind]))
        for kind in kinds or KINDS
    ]
    ax.legend(
        handles,
        [KINDS[kind].meaning for kind in kinds or KINDS],
        handler_map={FancyArrowPatch: HandlerPatch(_across)},
        **{"ncols": 2, "handlelength": 3} | place,
    )


def _across(legend, orig_handle, xdescent, ydescent, width, height, fontsize):
    middle, style = height / 2, orig_handle.get_arrowstyle()
    return FancyArrowPatch(
        (0, middle), (width, middle), arrowstyle=style, mutation_scale=14
    )
