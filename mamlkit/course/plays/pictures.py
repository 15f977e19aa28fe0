"""The pictures that stand for the plays where nothing can be dragged."""

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from mamlkit.course.figures import WIDE, show
from mamlkit.course.grammar import BLACK
from mamlkit.course.plays.stage import COLOURS
from mamlkit.course.waves import landscape
from mamlkit.in_context import InContextLearner
from mamlkit.inner import Params, adapt, functional_loss
from mamlkit.models import MLP, Wave
from mamlkit.objectives import meta_loss
from mamlkit.rl.policy import (
    GaussianPolicy,
    Rollouts,
    repeat,
    roll_out,
    total_return,
)
from mamlkit.rl.surrogate import naive, policy_loss, weigh
from mamlkit.tasks import Batch, Tasks

AMPLITUDES, PHASES = (-0.5, 5.0), (-1.2, 4.4)  # as in `landscape`


def each_task(tasks: Tasks) -> Iterator[tuple[Batch, Batch]]:
    """Take stacked tasks apart into pairs of support and query set."""
    for support, query in zip(zip(*tasks.support), zip(*tasks.query)):
        yield Batch(*support), Batch(*query)


def best_wave(support: Batch, query: Batch) -> tuple[float, float]:
    """Fit amplitude and phase to all examples of a task by least squares.

    Returns:
        amplitude, 0 or more, and phase, in one turn from the plane's foot.
    """
    x, y = map(torch.cat, zip(support, query))
    waves = torch.cat([x.sin(), x.cos()], dim=1)
    p, q = torch.linalg.lstsq(waves, y).solution.flatten().tolist()
    phase = math.atan2(-q, p)  # p sin x + q cos x = a sin(x - phase)
    turns = math.ceil((PHASES[0] - phase) / (2 * math.pi))
    return round(math.hypot(p, q), 6), round(phase + turns * 2 * math.pi, 6)


def show_places(tasks: Tasks, options: dict) -> None:
    """Picture the best places to wait: for no step, and for those allowed."""
    loss_fn = functional_loss(Wave(), F.mse_loss)
    lr, last = options["lr"], options["steps"]
    count = f"{last} step" + "s" * (last != 1)
    titles = {0: "Lowest before any step", last: f"Lowest after {count}"}
    fig, axes = plt.subplots(
        1,
        len(titles),
        figsize=(WIDE, 4.1),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    said = []
    for ax, (steps, title) in zip(axes[0], titles.items()):

        def objective(params, steps=steps):
            return meta_loss(params, loss_fn, tasks, lr=lr, steps=steps)

        theta = _lowest(landscape(ax, objective))
        before, after = (objective(theta, n).item() for n in (0, last))
        _draw_lanes(ax, theta, tasks, options)
        ax.set_title(f"{title}:\n{before:.2f} → {after:.2f}")
        said.append(
            f"{title} is amplitude {theta['amplitude']:.1f}, phase "
            f"{theta['phase']:.1f}; from there the steps take the mean loss "
            f"from {before:.2f} to {after:.2f}."
        )
    show(
        fig,
        alt="Maps of a mean loss over amplitude and phase, with θ at the "
        "lowest place, each task's steps from it, and a star for each task's "
        f"own wave. {' '.join(said)}",
    )


def _lowest(losses: Tensor) -> Params:
    """Find the place of the smallest loss on the map of `landscape`."""
    points = len(losses) - 1
    place = divmod(losses.argmin().item(), len(losses))
    ranges = {"amplitude": AMPLITUDES, "phase": PHASES}
    return {
        name: torch.tensor(low + (high - low) * at / points).double()
        for (name, (low, high)), at in zip(ranges.items(), place)
    }


def _draw_lanes(ax: Axes, theta: Params, tasks: Tasks, options: dict):
    """Draw θ, every task's steps from it, and the star it aims at."""
    loss_fn = functional_loss(Wave(), F.mse_loss)
    for support, query in each_task(tasks):
        path = [
            adapt(theta, loss_fn, support, lr=options["lr"], steps=n)
            for n in range(options["steps"] + 1)
        ]
        a, b = ([float(p[name]) for p in path] for name in theta)
        goal = best_wave(support, query)
        gap = {"color": COLOURS["gap"], "ls": ":", "lw": 1.6}
        ax.plot([a[-1], goal[0]], [b[-1], goal[1]], **gap)
        ax.plot(a, b, color=BLACK, marker="o", ms=4, lw=1.6)
        ax.plot(*goal, "*", color=COLOURS["truth"], ms=13, mec="white")
    place = [float(value) for value in theta.values()]
    ax.plot(*place, "o", color=BLACK, mec="white", ms=15)
    middle = {"ha": "center", "va": "center_baseline", "style": "italic"}
    ax.text(*place, "θ", color="white", **middle)
    ax.set(xlim=AMPLITUDES, ylim=PHASES)


def show_fits(points: Batch, wave: tuple, methods: list[dict]) -> None:
    """Picture what each network makes of the points after 0, 1, 10 steps."""
    model, grid = MLP(), torch.linspace(-5, 5, 201)[:, None]
    loss_fn = functional_loss(model, F.mse_loss)
    truth = wave[0] * torch.sin(grid - wave[1])
    fig, axes = plt.subplots(
        1, 3, figsize=(WIDE, 3.2), sharey=True, layout="constrained"
    )
    errors = {}
    styles = dict(zip(("maml", "pretrained", "scratch"), ("-", "--", ":")))
    styles["transformer"] = "-."
    drawn = [m for m in methods if "params" in m]
    for ax, steps in zip(axes, (0, 1, 10)):
        ax.plot(grid, truth, color=COLOURS["wave"], lw=6, alpha=0.3)
        for method in drawn:
            if method["kind"] == "reader":
                y = read(method, points, grid)
            else:
                adapted = adapt(
                    method["params"],
                    loss_fn,
                    points,
                    lr=method["lr"],
                    steps=steps,
                )
                y = functional_call(model, adapted, (grid,)).detach()
            key = method["key"]
            errors[key, steps] = F.mse_loss(y, truth).item()
            ax.plot(grid, y, color=COLOURS[key], ls=styles[key], lw=2)
        ax.plot(*points, "o", color=BLACK, ms=5)
        ax.set_title(f"after {steps} step" + "s" * (steps != 1))
        ax.set_xlabel("x")
    axes[0].set(ylabel="y", ylim=(-6, 6))
    said = "; ".join(
        f"{m['name']} {errors[m['key'], 1]:.2f} after one step and "
        f"{errors[m['key'], 10]:.2f} after ten"
        for m in drawn
        if m["kind"] == "network"
    )
    reads = " A transformer reads the points." if len(drawn) > 3 else ""
    if reads:
        said += f"; transformer {errors['transformer', 0]:.2f} without a step"
    fig.legend(
        [*axes[0].lines[1 : len(drawn) + 1], axes[0].lines[0]],
        [*(m["name"] for m in drawn), "true wave"],
        loc="outside lower center",
        ncols=4 if len(drawn) == 3 else 3,
    )
    show(
        fig,
        alt=f"{len(points.x)} points of a wave, and three networks that are "
        "fitted to them by the same few steps of gradient descent."
        f"{reads} Mean squared error on the whole wave: {said}.",
    )


def show_figures(points: Tensor, returns: Tensor) -> None:
    """Picture a body's runs without a step and after one, from 0 to 5 s."""
    fig, axes = plt.subplots(
        4, 1, figsize=(WIDE, 5.4), sharex=True, layout="constrained"
    )
    names, said = ("forward", "backward"), []
    for i, pair in enumerate((axes[:2], axes[2:])):
        for steps, ax in enumerate(pair):
            frames = points[steps, i, :101:20].numpy()
            for number, body in enumerate(frames):
                look = {"alpha": 0.25 + 0.15 * number, "lw": 2}
                look["solid_capstyle"] = "round"
                ax.plot(*body[:4].T, color=COLOURS["maml"], **look)
                ax.plot(*body[4:8].T, color=COLOURS["pretrained"], **look)
                ax.plot(*body[3:5].T, color=BLACK, **look | {"lw": 3})
                ax.plot(*body[8:].T, color=BLACK, **look | {"lw": 3})
            count = f"{steps} step" + "s" * (steps != 1)
            ax.set_title(f"{names[i]}, {count}: {returns[steps, i]:.0f}")
            ax.set(aspect="equal", ylim=(0, 1.6), yticks=[])
            ax.axvline(0, color=BLACK, ls=":", lw=1)
            way = frames[-1, 3, 0] - frames[0, 3, 0]
            said.append(f"{names[i]} after {count} {way:.1f} m")
    axes[3].set_xlabel("metres from the start")
    show(
        fig,
        alt="Stick figures of a half-cheetah, one each second for five "
        "seconds, rewarded for running forward or backward. How far it has "
        f"come: {', '.join(said)}.",
    )


def show_walks(params: Params, lrs: list[float], goal: tuple) -> None:
    """Picture walks to one goal without a step, after one, and after all."""
    policy, stacked = GaussianPolicy(), repeat(params, 1)
    loss_fn, said = policy_loss(policy, naive), []
    generator = torch.Generator().manual_seed(0)
    fig, axes = plt.subplots(
        1, 3, figsize=(WIDE, 2.9), sharey=True, layout="constrained"
    )
    panels = dict(zip((0, 1, len(lrs)), axes))
    for steps, lr in enumerate([*lrs, 0.0]):
        seen = roll_out(
            stacked,
            policy,
            torch.tensor([goal]),
            rollouts=40,
            generator=generator,
        )
        found = total_return(seen).item()
        if steps in panels:
            count = f"{steps} step" + "s" * (steps != 1)
            _draw_walks(panels[steps], seen, goal)
            panels[steps].set_title(f"{count}: {found:.1f}")
            said.append(f"after {count} {found:.1f}")

        def step(params, experience, lr=lr):
            return adapt(params, loss_fn, experience, lr=lr)

        stacked = vmap(step)(stacked, weigh(seen))
    still = -100 * math.hypot(*goal)
    show(
        fig,
        alt="A square with a point's start in the middle, a goal as a star "
        f"at {goal[0]}, {goal[1]}, and eight of 40 walks. Mean return: "
        f"{', '.join(said)}; standing still has {still:.1f}.",
    )


def _draw_walks(ax: Axes, seen: Rollouts, goal: tuple) -> None:
    """Draw eight walks, the start, and the goal as a star."""
    gone = seen.alive[..., None] == 0
    for path in seen.states.masked_fill(gone, float("nan"))[0, :8]:
        ax.plot(*path.T, color=COLOURS["maml"], lw=1, alpha=0.7)
    ax.plot(*goal, "*", ms=14, color=COLOURS["pretrained"], mec="w", zorder=3)
    ax.plot(0, 0, "o", ms=6, color="w", mec=BLACK, zorder=3)
    ax.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), aspect="equal")
    ax.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])


@torch.no_grad()
def read(method: dict, points: Batch, x: Tensor) -> Tensor:
    """Answer at x by the transformer of a play's method."""
    size = {k: method[k] for k in ("width", "layers", "heads")}
    params = {k: p.float() for k, p in method["params"].items()}
    return functional_call(InContextLearner(**size), params, (points, x))
