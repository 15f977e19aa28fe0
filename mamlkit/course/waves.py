"""Waves: a task with its fits, and the plane of amplitude and phase."""

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.func import vmap

from mamlkit.course.grammar import (
    BLACK,
    COLOURS,
    MARKERS,
    look_of,
)
from mamlkit.tasks import Batch


def draw_truth(ax: Axes, x: Tensor, y: Tensor) -> None:
    """Draw the wave that a task is made from: broad and grey, behind all."""
    look = look_of("truth") | {"alpha": 0.18, "lw": 6, "zorder": 1}
    ax.plot(x.flatten(), y.flatten(), solid_capstyle="butt", **look)


def draw_support(ax: Axes, support: Batch, **style) -> None:
    """Draw the points that a task is learned from.

    Args:
        ax: where to draw.
        support: x and y, each with as many numbers as there are points.
        **style: for `Axes.plot`.
    """
    look = look_of("support") | {"linestyle": "", "ms": 6, "zorder": 3}
    ax.plot(*(t.flatten() for t in support), **look | style)


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
    # From a grey on which the white lines are seen, at the lowest place too.
    shades = {"cmap": "Greys", "vmin": -2.5, "vmax": 9, "alpha": 0.6}
    ax.contourf(a, b, losses.T, levels, extend="max", **shades)
    ax.contour(a, b, losses.T, levels, colors="white", linewidths=0.7)
    ax.set(xlabel="amplitude", ylabel="phase (rad)")
    ax.grid(False)
    return losses


def draw_path(
    ax: Axes, path: list[dict], what: str | int = 0, **style
) -> None:
    """Draw where the parameters of a `Wave` went, from a white circle on.

    Args:
        ax: amplitude to the right, phase upwards.
        path: the parameters after 0, 1, ... steps.
        what: key or name of the method in the grammar; or a number that
            picks colour and marker for what is not in it, such as a task.
        **style: for `Axes.plot`.
    """
    a, b = (
        [float(params[name]) for params in path]
        for name in ("amplitude", "phase")
    )
    if isinstance(what, str):
        look = look_of(what)
    else:
        look = {"color": COLOURS[what], "marker": MARKERS[what]}
    ax.plot(a, b, **look | {"ms": 5, "lw": 1.8} | style)
    ax.plot(a[0], b[0], "o", color="white", mec=BLACK, mew=1.6, ms=9)


def mark_best(
    ax: Axes, amplitude: float, phase: float, what: str | int = 0
) -> None:
    """Mark the parameters that are best for a task or a method by a star.

    Args:
        ax: amplitude to the right, phase upwards.
        amplitude: of the star.
        phase: of the star, in radians.
        what: as for `draw_path`.
    """
    colour = COLOURS[what] if isinstance(what, int) else look_of(what)["color"]
    ax.plot(amplitude, phase, "*", ms=16, color=colour, mec=BLACK)
