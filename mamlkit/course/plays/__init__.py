"""Plays: what a reader does with mouse, finger or keys, here and on the site.

A play is one ESM file beside this one that exports `{ render({ model, el }) }`
and asks its model for nothing but `get`, `set`, `save_changes` and `on`. In
JupyterLab anywidget mounts it. A stored notebook and the site hold the same
state in a `div.mamlkit-play`, from which a script makes a model and mounts it.
"""

import base64
import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint
from mamlkit.course.figures import BLACK, draw_path, landscape, show
from mamlkit.course.game import deal_game, draw_rounds, pack
from mamlkit.course.plays.stage import COLOURS, Play, emit, script
from mamlkit.course.score import keep_game, read_games, somebody_is_there
from mamlkit.inner import Params, adapt, functional_loss
from mamlkit.models import MLP, Wave
from mamlkit.objectives import meta_loss
from mamlkit.paths import CHECKPOINTS
from mamlkit.tasks import Batch, Sinusoids, Tasks

__all__ = ["Play", "emit", "fit", "game", "script", "valley"]

# Chosen as the other two rates were, on validation waves: 0.002 and 0.01
# leave a larger error after ten steps on ten points. A test looks again.
SCRATCH_LR = 0.005
AMPLITUDES, PHASES = (-0.5, 5.0), (-1.2, 4.4)  # as in `landscape`
GAMES_ON_A_PAGE = 3


def _show_live(play: str, state: dict, how: str) -> Play:
    """Show a play, with a line for pages on which no script runs."""
    widget = Play(play, state)
    html = f"<p><em>{how} in JupyterLab, or on the course's site.</em></p>"
    emit(play, state, html=html, plain=f"{how} in JupyterLab.", widget=widget)
    return widget


# The valley ----------------------------------------------------------------


def valley(
    tasks: Tasks,
    *,
    start: tuple[float, float] = (0.6, 0.1),
    lr: float = 0.1,
    steps: int = 1,
    meta_lr: float = 0.05,
) -> None:
    """Show the plane of a `Wave`'s two parameters, with θ to be dragged.

    Each task takes its steps from θ on its support set; its gap is the loss
    on its query set. Buttons walk θ by joint training, first-order and full
    MAML, with plain gradient descent on the tasks shown.

    Args:
        tasks: one to eight waves, x of shape (tasks, examples, 1).
        start: amplitude and phase (rad) of θ at first.
        lr: α at first, 0 to 0.3, for the mean loss.
        steps: inner steps at first, 0 to 10.
        meta_lr: β, the length of an outer step per unit gradient.

    Raises:
        ValueError: there are more than eight tasks, or a setting is beyond
            the sliders.
    """
    if not 1 <= len(tasks.support.x) <= 8:
        raise ValueError(
            f"the valley shows 1 to 8 tasks, got {len(tasks.support.x)}"
        )
    if not (0 <= lr <= 0.3 and 0 <= steps <= 10):
        raise ValueError(
            "the sliders go from 0 to 0.3 for lr and from 0 to 10 for steps, "
            f"got {lr} and {steps}"
        )
    # In the float64 of the browser, so that both compute the same numbers.
    tasks = Tasks(*(Batch(*(t.double() for t in part)) for part in tasks))
    options = {"lr": lr, "steps": steps}
    _show_places(tasks, options)
    state = {
        "tasks": [
            {"support": _numbers(support), "query": _numbers(query)}
            for support, query in _each(tasks)
        ],
        "optimum": [_best_wave(*pair) for pair in _each(tasks)],
        "start": [*start],
        "theta": [*start],
        "meta_lr": meta_lr,
        "colours": COLOURS,
        **options,
    }
    _show_live("valley", state, "Drag θ")


def _each(tasks: Tasks) -> Iterator[tuple[Batch, Batch]]:
    for support, query in zip(zip(*tasks.support), zip(*tasks.query)):
        yield Batch(*support), Batch(*query)


def _numbers(batch: Batch) -> dict:
    values = batch._asdict().items()
    return {k: [round(n, 7) for n in v.flatten().tolist()] for k, v in values}


def _best_wave(support: Batch, query: Batch) -> tuple[float, float]:
    """Fit amplitude and phase to all examples of a task by least squares."""
    x, y = map(torch.cat, zip(support, query))
    waves = torch.cat([x.sin(), x.cos()], dim=1)
    p, q = torch.linalg.lstsq(waves, y).solution.flatten().tolist()
    phase = math.atan2(-q, p)  # p sin x + q cos x = a sin(x - phase)
    turns = math.ceil((PHASES[0] - phase) / (2 * math.pi))
    return round(math.hypot(p, q), 6), round(phase + turns * 2 * math.pi, 6)


def _show_places(tasks: Tasks, options: dict) -> None:
    """Picture the best places to wait: for no step, and for those allowed."""
    loss_fn = functional_loss(Wave(), F.mse_loss)
    lr, last = options["lr"], options["steps"]
    count = f"{last} step" + "s" * (last != 1)
    titles = {0: "Lowest before any step", last: f"Lowest after {count}"}
    fig, axes = plt.subplots(
        1, len(titles), figsize=(8.0, 3.9), sharey=True, squeeze=False
    )
    said = []
    for ax, (steps, title) in zip(axes[0], titles.items()):

        def objective(params, steps=steps):
            return meta_loss(params, loss_fn, tasks, lr=lr, steps=steps)

        theta = _lowest(landscape(ax, objective))
        before, after = (objective(theta, n).item() for n in (0, last))
        _draw_lanes(ax, theta, tasks, options)
        ax.set_title(f"{title}: {before:.2f} → {after:.2f}")
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
    for support, query in _each(tasks):
        path = [
            adapt(theta, loss_fn, support, lr=options["lr"], steps=n)
            for n in range(options["steps"] + 1)
        ]
        a, b = ([float(p[name]) for p in path] for name in theta)
        goal = _best_wave(support, query)
        gap = {"color": COLOURS["gap"], "ls": ":", "lw": 1.6}
        ax.plot([a[-1], goal[0]], [b[-1], goal[1]], **gap)
        ax.plot(a, b, color=BLACK, marker="o", ms=4, lw=1.6)
        ax.plot(*goal, "*", color=COLOURS["truth"], ms=13, mec="white")
    place = [float(value) for value in theta.values()]
    ax.plot(*place, "o", color=BLACK, mec="white", ms=15)
    middle = {"ha": "center", "va": "center_baseline", "style": "italic"}
    ax.text(*place, "θ", color="white", **middle)
    ax.set(xlim=AMPLITUDES, ylim=PHASES)


# The game ------------------------------------------------------------------


def game(images: Tensor, *, seed: int = 0, n_rounds: int = 10) -> None:
    """Show the few-shot game; where nobody can play, also rounds to read.

    In JupyterLab `keep_game` keeps a finished game, and the next one is
    dealt. A page holds a few games, and keeps the score in the browser.

    Args:
        images: characters to play with, as `Episodes` takes them.
        seed: decides the rounds, together with the number of games so far.
        n_rounds: rounds in a game.
    """

    def dealt(number):
        return pack(deal_game(images, n_rounds, seed, number))

    try:
        played = len(read_games())
    except (OSError, ValueError):
        played = 0  # what is wrong is said when a game ends
    state = {"finished": None, "kept": "", "colours": COLOURS}
    here = {"home": "kernel", "games": [dealt(played + 1)]}
    live = Play("game", state | here)

    def keep(change):
        live.kept = keep_game(**change["new"])
        live.games = [*live.games, dealt(played + len(live.games) + 1)]

    live.observe(keep, "finished")
    to_read = ""
    if not somebody_is_there():
        to_read = _show_rounds(deal_game(images, n_rounds, seed, 0))
    stored = [dealt(n) for n in range(1, GAMES_ON_A_PAGE + 1)]
    emit(
        "game",
        state | {"home": "page", "games": stored},
        html=f"<p>{to_read}</p>",
        plain=to_read or "Play in JupyterLab.",
        widget=live,
    )


def _show_rounds(rounds: Tasks) -> str:
    """Picture rounds, and return their answers."""
    show(
        draw_rounds(rounds),
        alt=f"{len(rounds.query.y)} rounds. In each, one drawing under a "
        "question mark, and five numbered drawings beside it; one of the five "
        "is the same character, drawn by another hand.",
    )
    right = enumerate((rounds.query.y[:, 0] + 1).tolist(), 1)
    pairs = ", ".join(f"{n}: {answer}" for n, answer in right)
    return f"Answers, round by round: {pairs}."


# The fit -------------------------------------------------------------------


def fit(amplitude: float = 3.0, phase: float = 0.8, *, steps: int = 1) -> None:
    """Show networks that follow ten points while they are dragged.

    MAML's network and a pretrained one, both from the stored experiment, and
    an untrained one take up to ten steps on the points; the wave that least
    squares puts through them is the limit.

    Args:
        amplitude: of the hidden wave at first.
        phase: of the hidden wave at first, in radians.
        steps: of gradient descent at first, 0 to 10.

    Raises:
        ValueError: `steps` is beyond the slider.
    """
    if not 0 <= steps <= 10:
        raise ValueError(f"the slider goes from 0 to 10 steps, got {steps}")
    x = torch.linspace(-4.5, 4.5, 10)[:, None]
    points = Batch(x, amplitude * torch.sin(x - phase))
    methods = _methods()
    _show_fits(points, (amplitude, phase), methods)
    state = {
        "points": _numbers(points),
        "wave": {"amplitude": amplitude, "phase": phase},
        "family": vars(Sinusoids()),
        "steps": steps,
        "methods": [_packed(m) for m in methods],
        "colours": COLOURS,
    }
    _show_live("fit", state, "Drag the points")


def _methods() -> list[dict]:
    """List what is fitted, in the order of the legend.

    A `network` has parameters and a rate; `waves` is the closed form. The
    file `fit.js` has a fitter for each kind.
    """
    stored = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = {k: p.detach() for k, p in MLP().named_parameters()}
    starts = {
        "maml": ("MAML", stored["maml"], stored["inner_lr"]),
        "pretrained": (
            "pretrained",
            stored["pretrained"],
            stored["fine_tuning_lr"],
        ),
        "scratch": ("from scratch", untrained, SCRATCH_LR),
    }
    return [
        {"key": k, "kind": "network", "name": name, "params": p, "lr": lr}
        for k, (name, p, lr) in starts.items()
    ] + [{"key": "truth", "kind": "waves", "name": "least squares"}]


def _packed(method: dict) -> dict:
    """Write a network's parameters as base64 of float32, layer by layer."""
    packed = {k: v for k, v in method.items() if k != "params"}
    if "params" in method:
        flat = torch.cat([p.flatten() for p in method["params"].values()])
        data = flat.float().numpy().astype("<f4").tobytes()
        packed["weights"] = base64.b64encode(data).decode()
    return packed


def _show_fits(points: Batch, wave: tuple, methods: list[dict]) -> None:
    """Picture what each network makes of the points after 0, 1, 10 steps."""
    model, grid = MLP(), torch.linspace(-5, 5, 201)[:, None]
    loss_fn = functional_loss(model, F.mse_loss)
    truth = wave[0] * torch.sin(grid - wave[1])
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.0), sharey=True)
    errors = {}
    styles = dict(zip(("maml", "pretrained", "scratch"), ("-", "--", "-.")))
    for ax, steps in zip(axes, (0, 1, 10)):
        ax.plot(grid, truth, color=COLOURS["truth"], lw=6, alpha=0.3)
        for method in methods:
            if method["kind"] != "network":
                continue
            adapted = adapt(
                method["params"], loss_fn, points, lr=method["lr"], steps=steps
            )
            y = functional_call(model, adapted, (grid,)).detach()
            key = method["key"]
            errors[key, steps] = F.mse_loss(y, truth).item()
            ax.plot(grid, y, color=COLOURS[key], ls=styles[key], lw=2)
        ax.plot(*points, "o", color=BLACK, ms=5)
        ax.set(title=f"after {steps} step" + "s" * (steps != 1), xlabel="x")
    axes[0].set(ylabel="y", ylim=(-6, 6))
    said = "; ".join(
        f"{m['name']} {errors[m['key'], 1]:.2f} after one step and "
        f"{errors[m['key'], 10]:.2f} after ten"
        for m in methods
        if m["kind"] == "network"
    )
    names = [m["name"] for m in methods if m["kind"] == "network"]
    fig.legend(
        [axes[0].lines[i] for i in (1, 2, 3, 0)],
        [*names, "true wave"],
        loc="outside lower center",
        ncols=4,
    )
    show(
        fig,
        alt="Ten points of a wave, and three networks that are fitted to "
        "them by the same few steps of gradient descent. Mean squared error "
        f"on the whole wave: {said}.",
    )
