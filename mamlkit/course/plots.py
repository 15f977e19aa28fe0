"""Plots: lines, floors, rows of scores and axes in the course's grammar.

`what` is a key or a name of `mamlkit.course.grammar`: "maml", "chance".
"""

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from mamlkit.course.grammar import (
    BLUE,
    COLOURS,
    FLOORS,
    GREY,
    MARKERS,
    find_look,
    look_of,
)
from mamlkit.evaluate import mean_interval

# Keeps letters readable where a line or a grid crosses them.
_HALO = [withStroke(linewidth=3, foreground="white")]


def plot_mean(
    ax: Axes,
    values: Tensor,
    what: str,
    *,
    text: str | None = None,
    number: int = 0,
    x: Sequence[float] | None = None,
    **style,
) -> None:
    """Draw the mean over tasks with its 95 % interval, and label its end.

    Args:
        ax: where to draw.
        values: shape (tasks, points).
        what: key or name in the grammar; or any words, for what is not in it.
        text: written at the right end of the line instead of its name; ""
            writes nothing.
        number: picks colour and marker for what is not in the grammar.
        x: positions of the points; 0, 1, ... by default.
        **style: for `Axes.plot`.
    """
    mean, half = mean_interval(values)
    _plot_band(ax, x, mean, (mean - half, mean + half), what, number, style)
    _label_last(ax, text)


def plot_runs(
    ax: Axes,
    values: Tensor,
    what: str,
    *,
    text: str | None = None,
    number: int = 0,
    x: Sequence[float] | None = None,
    **style,
) -> None:
    """Draw the mean over a few runs, and the range between its extremes.

    Args:
        ax: where to draw.
        values: shape (runs, points).
        what: as for `plot_mean`.
        text: as for `plot_mean`.
        number: as for `plot_mean`.
        x: as for `plot_mean`.
        **style: for `Axes.plot`.
    """
    mean, band = values.mean(0), values.aminmax(dim=0)
    _plot_band(ax, x, mean, band, what, number, style)
    _label_last(ax, text)


def _plot_band(ax, x, middle, band, what, number, style):
    x = range(len(middle)) if x is None else x
    if find_look(what):
        look = look_of(what)
    else:
        at = number % len(COLOURS)
        look = {"label": what, "color": COLOURS[at], "marker": MARKERS[at]}
    if "ls" in style:  # matplotlib refuses both of its names at once
        style = {"linestyle": style["ls"]} | style
        del style["ls"]
    (line,) = ax.plot(x, middle, **{"ms": 6} | look | style)
    ax.fill_between(x, *band, color=line.get_color(), alpha=0.2, lw=0)


def _label_last(ax, text):
    line = ax.lines[-1]
    text = line.get_label() if text is None else text
    x, y = line.get_xydata()[-1]
    label_end(ax, x, y, text, line.get_color())


def label_end(ax: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Write `text` just right of the point (x, y), in the line's colour."""
    ax.annotate(
        text,
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        annotation_clip=False,
    )


def draw_floor(
    ax: Axes,
    what: str,
    value: float,
    *,
    axis: str = "y",
    at: float = 0.99,
    text: str | None = None,
    below: bool = False,
) -> None:
    """Draw what costs nothing to reach as a line across, and name it.

    Args:
        ax: where to draw.
        what: key or name of a floor in the grammar.
        value: where the line lies, in the unit of the axis.
        axis: "y" if values run upwards, "x" if they run to the right.
        at: how far along the line its name ends, 0 to 1; along an upright
            line names begin beside its upper end.
        text: written instead of its name, as "predicting 0: 4.25"; "" writes
            nothing.
        below: write under a level line instead of over it.

    Raises:
        ValueError: `what` is no floor, or `axis` neither "x" nor "y".
    """
    look = look_of(what)
    if look["label"] not in {floor.name for floor in FLOORS.values()}:
        raise ValueError(f"{what!r} is no floor: they are {', '.join(FLOORS)}")
    if axis not in ("x", "y"):
        raise ValueError(f'axis must be "x" or "y", got {axis!r}')
    text = look["label"] if text is None else text
    line = {"color": look["color"], "ls": look["linestyle"], "lw": 1.4}
    style = {"textcoords": "offset points", "color": look["color"]}
    style |= {"fontsize": 12, "path_effects": _HALO}
    if axis == "y":
        ax.axhline(value, **line)
        style |= {"xycoords": ("axes fraction", "data"), "ha": "right"}
        style |= {"va": "top"} if below else {"va": "bottom"}
        ax.annotate(text, (at, value), (0, -3 if below else 3), **style)
    else:
        ax.axvline(value, **line)
        style |= {"xycoords": ("data", "axes fraction"), "va": "top"}
        ax.annotate(text, (value, at), (5, 0), **style)


def plot_scores(
    ax: Axes, scores: Mapping[str, Tensor], *, chance: float | None = None
) -> None:
    """Draw accuracies as rows, from the first one down, each with its number.

    Args:
        ax: where to draw; its x axis becomes accuracy in percent.
        scores: by key, name, or any words, the accuracy on each task in
            percent, shape (tasks,).
        chance: what guessing reaches, in percent.
    """
    names = []
    for place, (what, values) in enumerate(scores.items()):
        look = {"label": what, "color": BLUE, "marker": "o"}
        look = look_of(what) if find_look(what) else look
        look |= {"marker": look["marker"] or "D", "linestyle": ""}
        mean, half = (v.item() for v in mean_interval(values))
        ax.errorbar(mean, -place, xerr=half, capsize=4, ms=8, **look)
        ax.annotate(
            f"{mean:.1f}",
            (mean, -place),
            (0, 7),
            textcoords="offset points",
            ha="center",
            path_effects=_HALO,
        )
        names.append(look["label"])
    if chance is not None:
        draw_floor(ax, "chance", chance, axis="x")
    accuracy_axis(ax, "x")
    ax.set_yticks(range(0, -len(names), -1), names)
    ax.set_ylim(0.5 - len(names), 0.7)


def accuracy_axis(ax: Axes, axis: str = "y", what: str = "accuracy") -> None:
    """Make an axis one of percent, from 0 to just over 100.

    Args:
        ax: what is drawn on it is in percent.
        axis: "x" or "y".
        what: the label, to which " (%)" is added.
    """
    ticks = range(0, 101, 20)
    limits = (0, 104)  # a marker at 100 is seen whole
    ax.set(
        **{
            f"{axis}label": f"{what} (%)",
            f"{axis}ticks": ticks,
            f"{axis}lim": limits,
        }
    )


def name_panels(axes: Iterable[Axes]) -> None:
    """Put a, b, c, ... in bold before the titles that the panels have.

    Args:
        axes: the panels of one figure, or an array of them.

    Raises:
        ValueError: there is one panel only, which needs no name.
    """
    axes = [*getattr(axes, "flat", axes)]
    if len(axes) < 2:
        raise ValueError("one panel needs no name: give it a title")
    for letter, ax in zip(ascii_lowercase, axes):
        title = ax.get_title(loc="left") or ax.get_title()
        ax.set_title("", loc="center")
        ax.set_title(rf"$\mathbf{{{letter}}}$  {title}".rstrip(), loc="left")


def legend_above(fig: Figure, axes: Iterable[Axes], **options) -> None:
    """Draw one legend over all panels, each name once.

    Args:
        fig: the figure.
        axes: its panels, or an array of them.
        **options: for `Figure.legend`, as `ncols=4`.
    """
    found = {}
    for ax in getattr(axes, "flat", axes):
        handles, labels = ax.get_legend_handles_labels()
        found = dict(zip(labels, handles)) | found
    options = {"ncols": min(4, len(found))} | options
    place = {"loc": "outside upper center"}
    fig.legend(found.values(), found.keys(), **place | options)


def draw_ink(ax: Axes, image: Tensor, title: str = "") -> None:
    """Draw a character or a face, ink dark, in a thin frame.

    Args:
        ax: where to draw.
        image: ink in [0, 1], shape (1, height, width) or (height, width).
        title: centred over it.
    """
    ax.imshow(image.squeeze(), cmap="Greys", vmin=0, vmax=1)
    ax.set_title(title, loc="center", fontsize=12)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=GREY)


def in_percent(values: Tensor) -> str:
    """Write the mean over tasks and its 95 % interval, as "93.1 ± 0.4 %".

    Args:
        values: shares in [0, 1], shape (tasks,).
    """
    mean, half = mean_interval(100 * values)
    return f"{mean:.1f} ± {half:.1f} %"
