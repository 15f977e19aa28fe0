"""Figures: one theme, alt text on every picture, and boxes for diagrams."""

import base64
import io
from collections.abc import Callable

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor
from torch.func import vmap

from mamlkit.evaluate import mean_interval

#: One of six colours that colour-blind readers tell apart, after Okabe and
#: Ito 2008, without the yellow that white paper swallows.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#00795A", "#A8477F"
#: Likewise; grey is for what is not the point.
SKY, BLACK, GREY = "#56B4E9", "#222222", "#6B6B6B"
#: The colours in the order in which lines take them.
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, BLACK)
#: A marker for each colour, so that colour is never alone.
MARKERS = ("o", "s", "^", "D", "v", "P")
DPI = 144


def use_theme() -> None:
    """Set the course's fonts, grid, and colours that differ in marker too."""
    sns.set_theme(
        style="whitegrid",
        rc={
            "axes.edgecolor": GREY,
            "axes.labelcolor": BLACK,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.0, 3.6),
            "font.size": 10,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
            "text.color": BLACK,
        },
    )


def png(fig: Figure) -> bytes:
    """Render and close a figure; 128 colours keep the file small."""
    raw = io.BytesIO()
    fig.savefig(raw, format="png", dpi=DPI, facecolor="white")
    plt.close(fig)
    image = Image.open(raw).convert("RGB").quantize(128, dither=0)
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def show(fig: Figure, *, alt: str) -> None:
    """Display a figure as PNG with alt text.

    Args:
        fig: closed afterwards.
        alt: one or two sentences that state the finding, for readers who do
            not see the picture.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must state what the figure shows")
    width, height = (int(72 * inches) for inches in fig.get_size_inches())
    size = {"alt": alt, "width": width * 4 // 3, "height": height * 4 // 3}
    data = base64.b64encode(png(fig)).decode()
    display(
        {"image/png": data, "text/plain": alt},
        metadata={"image/png": size},
        raw=True,
    )


def plot_mean(
    ax: Axes, values: Tensor, label: str, *, number: int = 0, x=None, **style
) -> None:
    """Draw the mean over tasks with its 95 % interval, and label its end.

    Args:
        ax: where to draw.
        values: shape (tasks, points).
        label: written at the right end of the line.
        number: picks colour and marker.
        x: positions of the points; 0, 1, ... by default.
        **style: for `Axes.plot`.
    """
    x = range(values.shape[1]) if x is None else x
    mean, half = mean_interval(values)
    colour = COLOURS[number % len(COLOURS)]
    style = {"marker": MARKERS[number % len(MARKERS)], "ms": 5} | style
    ax.plot(x, mean, color=colour, **style)
    ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    label_end(ax, list(x)[-1], mean[-1].item(), label, colour)


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


def landscape(
    ax: Axes,
    loss_of: Callable[[dict], Tensor],
    *,
    amplitude: tuple[float, float] = (-0.5, 5.0),
    phase: tuple[float, float] = (-1.2, 4.4),
    points: int = 61,
) -> Tensor:
    """Draw a loss over the two parameters of a `Wave` as filled contours.

    Args:
        ax: where to draw.
        loss_of: `{"amplitude": ..., "phase": ...}` -> scalar.
        amplitude: range of the horizontal axis.
        phase: range of the vertical axis, in radians.
        points: grid points along each axis.

    Returns:
        the losses, shape (points, points), amplitude first.
    """
    a, b = torch.linspace(*amplitude, points), torch.linspace(*phase, points)
    grid = torch.cartesian_prod(a, b)
    losses = vmap(loss_of)({"amplitude": grid[:, 0], "phase": grid[:, 1]})
    losses = losses.detach().reshape(points, points)
    # Even steps of the root show both the basin and the slopes.
    levels = torch.linspace(0, 3, 13).square()
    ax.contourf(a, b, losses.T, levels, cmap="Greys", alpha=0.6, extend="max")
    ax.contour(a, b, losses.T, levels, colors="white", linewidths=0.7)
    ax.set(xlabel="amplitude", ylabel="phase (rad)")
    ax.grid(False)
    return losses


def draw_path(ax: Axes, path: list[dict], number: int = 0, **style) -> None:
    """Draw where the parameters of a `Wave` went; `number` picks the style."""
    a, b = (
        [float(params[name]) for params in path]
        for name in ("amplitude", "phase")
    )
    colour, marker = COLOURS[number], MARKERS[number]
    ax.plot(a, b, color=colour, marker=marker, ms=4, lw=1.6, **style)
    ax.plot(a[0], b[0], "o", color="white", mec=BLACK, mew=1.6, ms=9)


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
    ax: Axes, start: Text | tuple, end: Text | tuple, colour: str = GREY
) -> None:
    """Draw an arrow between boxes or points, from edge to edge of a box."""
    ends = {}
    for side, place in (("A", start), ("B", end)):
        if isinstance(place, Text):
            ends[f"patch{side}"] = place.get_bbox_patch()
        ends[f"shrink{side}"] = 3
    start, end = (
        place.get_position() if isinstance(place, Text) else place
        for place in (start, end)
    )
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6}
    ax.annotate("", end, start, arrowprops=style | ends)
