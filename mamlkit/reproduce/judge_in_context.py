"""Who fits a new wave how well, inside the family and under seven shifts.

Each training has test tasks of its own, the same for every method. What is
open is chosen for each method, setting, number of points and number of steps
on tasks that no test uses.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.in_context import InContextLearner
from mamlkit.inner import LossFn, Params, functional_loss
from mamlkit.models import MLP
from mamlkit.paths import BUILD
from mamlkit.reproduce import row_of_seeds
from mamlkit.reproduce.in_context_methods import (
    TEST_SEED,
    VALIDATION,
    VALIDATION_SEED,
    best_for_one_point,
    closed_form,
    descend,
    draw,
    harmonic_basis,
    line_basis,
    probed,
    prompt_losses,
    prompted,
    rate_grid,
    tuned,
    wave_basis,
)
from mamlkit.reproduce.in_context_trainings import (
    TRAININGS,
    WithContext,
    train,
)
from mamlkit.tasks import Batch, Tasks

INSIDE = (1, 2, 3, 5, 10, 20)  # points, of the family that all trained on
# Setting -> numbers of points.
SHIFTED = {
    "points": (50, 100),  # of the same family
    "amplitude": (10, 50),
    "phase": (10, 50),
    "x": (10, 50),
    "noise": (10, 50),
    "lines": (10, 50),
    "harmonics": (10, 50),
}
STEPS = (1, 5, 10, 100)
TESTS = {"": 500, "shifted": 100}  # tasks for each training, its own ones
PROBE = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e4, 1e8)  # strengths
ORACLES = {"lines": line_basis, "harmonics": harmonic_basis}
# SGD and Adam, on weights and on a context.
RATES = {False: rate_grid(0.0003, 6), True: rate_grid(0.0003, 5)}
CONTEXT_RATES = {False: rate_grid(0.03, 6), True: rate_grid(0.01, 5)}
GRADIENT = ("maml", "maml_wide", "cavia", "pretrained", "untrained")
TUNED_STEPS, TUNED_TESTS = (1, 5, 20), 20  # of the transformer itself


def start_of(name: str, seed: int) -> tuple[Params, LossFn]:
    """Give what a method adapts to a task, and its loss."""
    if name == "untrained":
        torch.manual_seed(seed)
        model = MLP()
        start = {k: p.detach() for k, p in model.named_parameters()}
        return start, functional_loss(model, F.mse_loss)
    return start_from(name, seed, TRAININGS[name])


def start_from(name: str, seed: int, settings: dict) -> tuple[Params, LossFn]:
    """Give what a training's method adapts to a task, and its loss."""
    model = settings["model"]()
    params = train(name, seed, settings, quiet=True).params
    loss_fn = functional_loss(model, F.mse_loss)
    if not isinstance(model, WithContext):
        return params, loss_fn
    start = {"context": torch.zeros_like(model.context)}
    return start, lambda context, batch: loss_fn(params | context, batch)


def settings() -> list[tuple[str, int]]:
    """List all (setting, points)."""
    inside = [("", k_shot) for k_shot in INSIDE]
    return inside + [(s, k) for s, each in SHIFTED.items() for k in each]


def tasks_of(setting: str, k_shot: int, count: int, seed: int) -> Tasks:
    """Draw tasks; "points" is the family itself."""
    return draw(setting.replace("points", ""), k_shot, count, seed)


def gradient_errors(
    name: str, setting: str, k_shot: int, seeds: range
) -> tuple[dict[str, Tensor], dict]:
    """Errors of a method that takes steps, (seeds, tasks), resumably.

    Returns:
        by "after_1", "after_5", ... and "best", the number of steps with the
        lowest error on the tasks for validation; and what was chosen.
    """
    kind = "shifted" if setting else ""
    label = f"{name}_{setting}_{k_shot}"
    path = BUILD / "reproduce" / f"in_context_judged_{label}.pt"
    if path.exists():
        state = load_checkpoint(path)
        return state["found"], state["chosen"]
    at, count = STEPS, TESTS[kind]
    grid = CONTEXT_RATES if name == "cavia" else RATES
    start, loss_fn = start_of(name, seeds[0])
    run = partial(descend, start, loss_fn, loss_fn)
    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    choice, errors = tuned(run, val, at, grid)
    found = {f"after_{steps}": [] for steps in at}
    for seed in seeds:
        start, loss_fn = start_of(name, seed)
        run = partial(descend, start, loss_fn, loss_fn)
        tests = tasks_of(setting, k_shot, count, TEST_SEED + seed)
        done: dict[tuple, Tensor] = {}
        for steps in reversed(at):
            adam, lr = choice[steps]
            if (adam, lr) not in done:  # a longer run passes by here, too
                until = at[: at.index(steps) + 1]
                done[adam, lr] = run(tasks=tests, lr=lr, at=until, adam=adam)
            column = done[adam, lr][:, at.index(steps)]
            found[f"after_{steps}"].append(column)
    found = {k: torch.stack(v) for k, v in found.items()}
    best = min(at, key=errors.get)
    found["best"] = found[f"after_{best}"]
    chosen = {
        "best": best,
        **{
            str(k): ["Adam" if a else "SGD", lr]
            for k, (a, lr) in choice.items()
        },
    }
    save_checkpoint(path, {"found": found, "chosen": chosen})
    return found, chosen


def transformer(seed: int) -> tuple[InContextLearner, Params]:
    """Give the architecture and the trained weights."""
    history = train("transformer", seed, TRAININGS["transformer"], quiet=True)
    return InContextLearner(), history.params


def prompt_errors(
    setting: str, k_shot: int, seeds: range
) -> dict[str, Tensor]:
    """Errors of the transformer, of a probe, and of closed forms."""
    count = TESTS["shifted" if setting else ""]
    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    strength = PROBE[-1]
    if k_shot > 1:
        strengths = probed(*transformer(seeds[0]), val, PROBE).mean(0)
        strength = PROBE[int(strengths.argmin())]
    found: dict[str, list[Tensor]] = {}
    for seed in seeds:
        tests = tasks_of(setting, k_shot, count, TEST_SEED + seed)
        squares = tests.query.y.square().mean((1, 2))
        # The best answer of those who do not see the points: the mean wave.
        cosine = -(2 * 2.55 / math.pi) * tests.query.x.cos()
        each = {
            "": prompted(*transformer(seed), tests),
            "zero_": squares,
            "blind_": (cosine - tests.query.y).square().mean((1, 2)),
            "least_squares_": closed_form(wave_basis, tests),
        }
        if k_shot > 1:
            each["probe_"] = probed(*transformer(seed), tests, (strength,))[
                :, 0
            ]
        if setting in ORACLES:
            each["oracle_"] = closed_form(ORACLES[setting], tests)
        if (setting, k_shot) == ("", 1):
            each["possible_"] = best_for_one_point(tests)
        for name, values in each.items():
            found.setdefault(name, []).append(values)
    return {name: torch.stack(values) for name, values in found.items()}


def tuned_transformer(
    setting: str, k_shot: int, seeds: range
) -> tuple[dict[str, Tensor], dict]:
    """Errors after steps on the transformer's own weights, resumably."""
    path = (
        BUILD / "reproduce" / f"in_context_judged_itself_{setting}_{k_shot}.pt"
    )
    if path.exists():
        state = load_checkpoint(path)
        return state["found"], state["chosen"]
    model = InContextLearner()
    loss_fn, metric = prompt_losses(model)

    def run(seed, *, tasks, **options):
        pairs = Tasks(tasks.support, (tasks.support, tasks.query))
        params = transformer(seed)[1]
        return descend(params, loss_fn, metric, pairs, **options)

    val = tasks_of(setting, k_shot, TUNED_TESTS, VALIDATION_SEED)
    rates = {False: rate_grid(0.0003, 4), True: rate_grid(0.0001, 3)}
    choice, _ = tuned(partial(run, seeds[0]), val, TUNED_STEPS, rates)
    adam, lr = choice[TUNED_STEPS[-1]]
    found = []
    for seed in seeds:
        # The first of the tasks on which the others are judged.
        tests = tasks_of(setting, k_shot, TESTS["shifted"], TEST_SEED + seed)
        some = Tasks(
            *(Batch(*(t[:TUNED_TESTS] for t in part)) for part in tests)
        )
        found.append(run(seed, tasks=some, lr=lr, at=TUNED_STEPS, adam=adam))
    stacked = torch.stack(found)
    found = {f"after_{s}": stacked[..., i] for i, s in enumerate(TUNED_STEPS)}
    chosen = {"rate": ["Adam" if adam else "SGD", lr]}
    save_checkpoint(path, {"found": found, "chosen": chosen})
    return found, chosen


def error_row(name: str, errors: Tensor, scale: Tensor) -> dict:
    """Summarise errors (seeds, tasks); say how many tasks exploded.

    "exploded" is the share of tasks with more than ten times the mean square
    of y; "median" is over all tasks of all seeds.
    """
    exploded = (~(errors < 10 * scale)).float().mean().item()
    return row_of_seeds(
        name,
        errors.double().mean(1),
        median=float(f"{errors.median().item():.4g}"),
        exploded=round(exploded, 4),
    )


def judge(seeds: range) -> tuple[list[dict], dict]:
    """Judge all methods in all settings; rows, and what was chosen."""
    rows, chosen = [], {}
    for setting, k_shot in settings():
        where = f"shifted_{setting}_" if setting else ""
        where += f"mse_{k_shot}shot"
        others = prompt_errors(setting, k_shot, seeds)
        scale = others["zero_"].mean()
        for name, errors in others.items():
            rows.append(error_row(f"{name}{where}", errors, scale))
        for name in GRADIENT:
            found, choice = gradient_errors(name, setting, k_shot, seeds)
            chosen[f"{name}_{where}"] = choice
            for when, errors in found.items():
                row = error_row(f"{name}_{where}_{when}", errors, scale)
                rows.append(row)
        if setting and k_shot == 10:
            found, choice = tuned_transformer(setting, k_shot, seeds)
            chosen[f"itself_{where}"] = choice
            for when, errors in found.items():
                row = error_row(f"itself_{where}_{when}", errors, scale)
                rows.append(row)
        for row in rows[-40:]:
            if where in row["name"] and "after" not in row["name"]:
                print(row["name"], row["value"], row["interval"], flush=True)
    return rows, chosen
