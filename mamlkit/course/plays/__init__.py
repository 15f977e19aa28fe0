"""Plays: what a reader does with mouse, finger or keys, here and on the site.

A play is one ESM file beside this one that exports `{ render({ model, el }) }`
and asks its model for nothing but `get`, `set`, `save_changes` and `on`. In
JupyterLab anywidget mounts it. A stored notebook and the site hold the same
state in a `div.mamlkit-play`, from which a script makes a model and mounts it.
"""

import base64

import torch
from torch import Tensor

from mamlkit.checkpoint import load_checkpoint
from mamlkit.course.figures import show
from mamlkit.course.game import deal_game, draw_rounds, pack
from mamlkit.course.plays.pictures import (
    best_wave,
    each_task,
    show_figures,
    show_fits,
    show_places,
    show_walks,
)
from mamlkit.course.plays.stage import COLOURS, Play, emit, script
from mamlkit.course.score import keep_game, read_games
from mamlkit.exercises.progress import somebody_is_there
from mamlkit.inner import Params
from mamlkit.models import MLP
from mamlkit.paths import CHECKPOINTS
from mamlkit.tasks import Batch, Sinusoids, Tasks

__all__ = ["Play", "emit", "fit", "gait", "game", "script", "valley", "walks"]

# Chosen as the other two rates were, on validation waves: 0.002 and 0.01
# leave a larger error after ten steps on ten points. A test looks again.
SCRATCH_LR = 0.005
GAMES_ON_A_PAGE = 3
# The size of the small transformer that `in_context` trains for the page.
READER = {"width": 32, "layers": 3, "heads": 4}


def _show_live(play: str, state: dict, how: str) -> Play:
    """Show a play, with a line for pages on which no script runs."""
    widget = Play(play, state)
    html = f"<p><em>{how} in JupyterLab, or on the course's site.</em></p>"
    emit(play, state, html=html, plain=f"{how} in JupyterLab.", widget=widget)
    return widget


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
    state = {
        "tasks": [
            {"support": _numbers(support), "query": _numbers(query)}
            for support, query in each_task(tasks)
        ],
        "optimum": [best_wave(*pair) for pair in each_task(tasks)],
        "start": [*start],
        "theta": [*start],
        "meta_lr": meta_lr,
        "colours": COLOURS,
        **options,
    }
    _show_live("valley", state, "Drag θ")
    show_places(tasks, options)


def _numbers(batch: Batch) -> dict:
    values = batch._asdict().items()
    return {k: [round(n, 7) for n in v.flatten().tolist()] for k, v in values}


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
    to_read = deal_game(images, n_rounds, seed, 0)
    first = Tasks(*(Batch(*(t[:1] for t in part)) for part in to_read))
    state = {"example": pack(first), "finished": None, "kept": ""}
    state["colours"] = COLOURS
    here = {"home": "kernel", "games": [dealt(played + 1)]}
    live = Play("game", state | here)

    def keep(change):
        live.kept = keep_game(**change["new"])
        live.games = [*live.games, dealt(played + len(live.games) + 1)]

    live.observe(keep, "finished")
    right = enumerate((to_read.query.y[:, 0] + 1).tolist(), 1)
    pairs = ", ".join(f"{n}: {answer}" for n, answer in right)
    reads = not somebody_is_there()
    answers = f"Answers, round by round: {pairs}." if reads else ""
    stored = [dealt(n) for n in range(1, GAMES_ON_A_PAGE + 1)]
    emit(
        "game",
        state | {"home": "page", "games": stored},
        html=f"<p>{answers}</p>",
        plain=answers or "Play in JupyterLab.",
        widget=live,
    )
    if reads:
        show(
            draw_rounds(to_read),
            alt=f"{n_rounds} rounds. In each, one drawing under a question "
            "mark, and five numbered drawings beside it; one of the five is "
            "the same character, drawn by another hand.",
        )


def fit(
    amplitude: float = 3.0,
    phase: float = 0.8,
    *,
    steps: int = 1,
    k_shot: int = 10,
    reader: bool = False,
) -> None:
    """Show networks that follow points while they are dragged.

    MAML's network and a pretrained one, both from the stored experiment, and
    an untrained one take up to ten steps on the points; the wave that least
    squares puts through them is the limit.

    Args:
        amplitude: of the hidden wave at first.
        phase: of the hidden wave at first, in radians.
        steps: of gradient descent at first, 0 to 10.
        k_shot: points at first, 1 to 10.
        reader: also show a small transformer, which takes no step.

    Raises:
        ValueError: `steps` is beyond the slider, or there are more than ten
            points or none.
    """
    if not 0 <= steps <= 10:
        raise ValueError(f"the slider goes from 0 to 10 steps, got {steps}")
    if not 1 <= k_shot <= 10:
        raise ValueError(f"the fit shows 1 to 10 points, got {k_shot}")
    family, x = Sinusoids(), torch.linspace(-4.5, 4.5, k_shot)[:, None]
    points = Batch(x, amplitude * torch.sin(x - phase))
    with torch.random.fork_rng(devices=[]):  # a new network draws its weights
        methods = _methods(reader)
    state = {
        "points": _numbers(points),
        "wave": {"amplitude": amplitude, "phase": phase},
        "family": {k: vars(family)[k] for k in ("amplitude", "phase", "x")},
        "steps": steps,
        "methods": [_packed(m) for m in methods],
        "colours": COLOURS,
    }
    _show_live("fit", state, "Drag the points")
    with torch.random.fork_rng(devices=[]):
        show_fits(points, (amplitude, phase), methods)


def gait(
    points: Tensor, returns: Tensor, *, seconds: float = 0.05, steps: int = 1
) -> None:
    """Show how a half-cheetah runs before and after gradient steps.

    Args:
        points: of its stick figure in millimetres, shape (steps + 1,
            2 directions, frames, 10 points, 2), as `skeleton` orders them.
        returns: of these runs, shape (steps + 1, 2).
        seconds: between two frames.
        steps: that are shown first.

    Raises:
        ValueError: a shape is another one.
    """
    if points.shape[1:2] != (2,) or points.shape[3:] != (10, 2):
        raise ValueError(
            "points must have the shape (steps + 1, 2, frames, 10, 2), got "
            f"{tuple(points.shape)}"
        )
    # Every other frame and whole centimetres, as the browser fills in.
    seen = (points[:, :, ::2].double() / 10).round().numpy().astype("<i2")
    state = {
        "points": base64.b64encode(seen.tobytes()).decode(),
        "shape": [seen.shape[0] * 2, *seen.shape[2:4]],
        "returns": [round(r, 1) for r in returns.flatten().tolist()],
        "seconds": 2 * seconds,
        "steps": steps,
        "colours": {"back": COLOURS["maml"], "front": COLOURS["pretrained"]},
    }
    _show_live("gait", state, "Let it run")
    show_figures(points / 1000, returns)


def walks(
    params: Params,
    lrs: list[float],
    *,
    goal: tuple[float, float] = (0.4, 0.3),
) -> None:
    """Show a point's walks to a goal that the reader places.

    The policy takes 40 walks of at most 100 actions, and adapts to them by
    one step of REINFORCE at a time, all of it in the browser.

    Args:
        params: of a `GaussianPolicy` with two layers of 100, as stored.
        lrs: α of each step.
        goal: at first, in the square [-0.5, 0.5]².

    Raises:
        ValueError: the goal is outside the square.
    """
    if max(map(abs, goal)) > 0.5:
        raise ValueError(
            f"goal must be within -0.5 and 0.5 on both axes, got {goal}"
        )
    flat = torch.cat([p.flatten() for p in params.values()]).bfloat16()
    numbers = flat.view(torch.int16).numpy().astype("<i2")
    state = {
        "weights": base64.b64encode(numbers.tobytes()).decode(),
        "lr": [*lrs],
        "goal": [*goal],
        "colours": {"maml": COLOURS["maml"], "goal": COLOURS["pretrained"]},
    }
    _show_live("walks", state, "Place the goal")
    show_walks(params, lrs, goal)


def _methods(reader: bool) -> list[dict]:
    """List what is fitted, in the order of the legend.

    A `network` has parameters and a rate, a `reader` parameters and a size;
    `waves` is the closed form. The file `fit.js` has a fitter for each kind.
    """
    stored = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
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
    methods: list[dict] = [
        {"key": k, "kind": "network", "name": name, "params": p, "lr": lr}
        for k, (name, p, lr) in starts.items()
    ]
    if reader:
        small = load_checkpoint(CHECKPOINTS / "in_context.pt")["small"]
        method = {
            "key": "transformer",
            "kind": "reader",
            "name": "transformer",
        }
        methods.append(method | READER | {"params": small})
    return [
        *methods,
        {"key": "truth", "kind": "waves", "name": "least squares"},
    ]


def _packed(method: dict) -> dict:
    """Write parameters as base64, layer by layer.

    A network's as float32; a reader's, which is larger, as bfloat16.
    """
    packed = {k: v for k, v in method.items() if k != "params"}
    if "params" in method:
        flat = torch.cat([p.flatten() for p in method["params"].values()])
        if method["kind"] == "reader":
            numbers = flat.view(torch.int16).numpy().astype("<i2")
        else:
            numbers = flat.float().numpy().astype("<f4")
        packed["weights"] = base64.b64encode(numbers.tobytes()).decode()
    return packed
