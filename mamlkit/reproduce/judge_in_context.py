"""Who fits a new wave how well, inside the family and under shifts.

All methods are judged on the same tasks: five trainings of the transformer,
of MAML and of context parameters, five untrained networks, one pretrained.
What is open is chosen for each network, setting, number of points and number
of steps on tasks that no test uses.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint
from mamlkit.in_context import InContextLearner
from mamlkit.inner import LossFn, Params, functional_loss
from mamlkit.models import MLP
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import Known
from mamlkit.reproduce.in_context_methods import (
    TEST_SEED,
    VALIDATION,
    VALIDATION_SEED,
    Choice,
    best_for_one_point,
    closed_form,
    descend,
    draw,
    harmonic_basis,
    line_basis,
    prompt_losses,
    prompted,
    rate_grid,
    tuned,
    wave_basis,
)
from mamlkit.reproduce.in_context_probe import (
    chosen_probe,
    probe_errors,
    probed,
)
from mamlkit.reproduce.in_context_rows import error_row
from mamlkit.reproduce.in_context_trainings import (
    CONTEXT,
    CONTEXT_LRS,
    SIZES,
    TRIAL_ITERATIONS,
    ContextMLP,
    train,
    train_context,
    train_maml,
)
from mamlkit.reproduce.variants import difference_row
from mamlkit.tasks import Batch, Tasks

INSIDE = (1, 2, 5, 10, 20)  # points, of the family that all trained on
# Setting -> numbers of points.
SHIFTED = {
    "points": (50,),  # of the same family
    "amplitude": (10, 50),
    "phase": (10, 50),
    "x": (10, 50),
    "noise": (10, 50),
    "lines": (10, 50),
    "harmonics": (10, 50),
}
STEPS = (1, 5, 10, 100)
TRAININGS = 5  # of the transformer, and networks of the methods below
SEVERAL = ("maml", "context", "untrained")
STEPPING = ("maml", "context", "pretrained", "untrained")
TESTS = {"": 500, "shifted": 200}  # tasks
ORACLES = {"lines": line_basis, "harmonics": harmonic_basis}
# Of SGD and of Adam.
RATES = {False: rate_grid(0.001, 4), True: rate_grid(0.001, 4)}
CONTEXT_RATES = {False: rate_grid(1 / 9, 4), True: rate_grid(0.01, 4)}
# Of the transformer itself: under which shifts, steps, and on how many tasks.
TUNED, TUNED_STEPS, TUNED_TESTS = ("x", "lines"), (1, 5, 20), 40


def start_of(name: str, seed: int) -> tuple[Params, LossFn]:
    """Give what a method adapts to a task, and its loss."""
    if name == "context":
        return start_of_context(seed, context_rate()[0])
    if name == "maml" and seed:
        params = train_maml(seed).params
        return params, functional_loss(MLP(), F.mse_loss)
    torch.manual_seed(seed)
    model = MLP()
    start = {k: p.detach() for k, p in model.named_parameters()}
    if name != "untrained":  # the networks of chapter 05
        start = load_checkpoint(CHECKPOINTS / "sinusoid.pt")[name]
    return start, functional_loss(model, F.mse_loss)


def start_of_context(seed: int, lr: float, **options) -> tuple:
    """Give a context of 0, and the loss of a context."""
    params = train_context(seed, lr, **options).params
    loss_fn = functional_loss(ContextMLP(), F.mse_loss)

    def of_context(context, batch):
        return loss_fn(params | context, batch)

    return {"context": torch.zeros(CONTEXT)}, of_context


@cache
def context_rate() -> tuple[float, dict[float, float]]:
    """Choose α for the trainings of context parameters, by short ones.

    All trainings have the α that is best for the short one of seed 0. A grid
    whose best value is at its edge grows.

    Returns:
        α, and by α the error with five points, after the best number of
        steps with the best rate, on tasks that no test uses.
    """
    grid, tried = sorted(CONTEXT_LRS), {}
    val = tasks_of("", 5, VALIDATION, VALIDATION_SEED)
    while True:
        for lr in set(grid) - set(tried):
            start, loss_fn = start_of_context(
                0, lr, iterations=TRIAL_ITERATIONS
            )
            run = partial(descend, start, loss_fn, loss_fn)
            _, errors = tuned(run, val, STEPS, CONTEXT_RATES)
            tried[lr] = round(min(errors.values()), 4)
        best = min(tried, key=tried.get)
        if best not in (grid[0], grid[-1]):
            return best, tried
        more = best / 3 if best == grid[0] else best * 3
        grid = sorted([*grid, float(f"{more:.1g}")])


def settings() -> list[tuple[str, int]]:
    """List all (setting, points)."""
    inside = [("", k_shot) for k_shot in INSIDE]
    return inside + [(s, k) for s, each in SHIFTED.items() for k in each]


def tasks_of(setting: str, k_shot: int, count: int, seed: int) -> Tasks:
    """Draw tasks; "points" is the family itself."""
    return draw(setting.replace("points", ""), k_shot, count, seed)


def tests_of(setting: str, k_shot: int) -> Tasks:
    """Draw the tasks on which all methods are judged."""
    count = TESTS["shifted" if setting else ""]
    return tasks_of(setting, k_shot, count, TEST_SEED)


def gradient_errors(
    name: str, setting: str, k_shot: int, seed: int
) -> tuple[dict[str, Tensor], dict]:
    """Errors of a method that takes steps, (tasks,).

    Returns:
        by "after_1", "after_5", ... and "best", the number of steps with the
        lowest error on the tasks for validation; and what was chosen.
    """
    start, loss_fn = start_of(name, seed)
    run = partial(descend, start, loss_fn, loss_fn)
    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    rates = CONTEXT_RATES if name == "context" else RATES
    choice, errors = tuned(run, val, STEPS, rates)
    return chosen_errors(run, tests_of(setting, k_shot), choice, errors)


def chosen_errors(
    run: Callable[..., Tensor],
    tests: Tasks,
    choice: dict[int, Choice],
    errors: dict[int, float],
) -> tuple[dict[str, Tensor], dict]:
    """Judge the steps and rates that were chosen, as `tuned` returns them.

    Args:
        run: `descend` but for tasks, lr, at and adam.
        tests: the tasks to judge on.
        choice: optimiser and rate for each number of steps, increasing.
        errors: of each on other tasks.

    Returns:
        see `gradient_errors`.
    """
    at, done, found = tuple(choice), {}, {}
    for i, steps in reversed([*enumerate(at)]):
        adam, lr = choice[steps]
        if (adam, lr) not in done:  # a longer run passes by here, too
            done[adam, lr] = run(tasks=tests, lr=lr, at=at[: i + 1], adam=adam)
        found[f"after_{steps}"] = done[adam, lr][:, i]
    best = min(at, key=errors.get)
    found["best"] = found[f"after_{best}"]
    chosen = {str(k): _told(*c) for k, c in choice.items()} | {"best": best}
    return found, chosen


@cache
def transformer(
    seed: int, size: str = "transformer"
) -> tuple[InContextLearner, Params]:
    """Give the architecture and the trained weights."""
    return InContextLearner(**SIZES[size]), train(seed, size).params


def small_transformer(seed: int) -> tuple[InContextLearner, Params]:
    """Give the small one as a page holds it: two bytes a weight."""
    model, params = transformer(seed, "small")
    return model, {k: p.bfloat16().float() for k, p in params.items()}


def probe(setting: str, k_shot: int, seed: int) -> tuple[Tensor, list]:
    """Errors of a probe on the transformer's features, (tasks,).

    Returns:
        the errors, and what was chosen.
    """
    return probe_of(*transformer(seed), setting, k_shot)


def probe_of(
    model: InContextLearner, params: Params, setting: str, k_shot: int
) -> tuple[Tensor, list]:
    """Choose the probe and judge it, as `probe` does, on any weights."""
    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    centre, penalty = chosen_probe(probed(model, params, val))
    tests = probed(model, params, tests_of(setting, k_shot))
    return probe_errors(tests, penalty, centre), [centre, penalty]


def prompt_errors(setting: str, k_shot: int, seed: int) -> dict[str, Tensor]:
    """Errors of the transformers and of closed forms, (trainings, tasks)."""
    tests = tests_of(setting, k_shot)
    # The best answer of those who do not see the points: the mean wave.
    mean_wave = -(2 * 2.55 / math.pi) * tests.query.x.cos()
    found = {
        "small_": prompted(*small_transformer(seed), tests),
        "zero_": tests.query.y.square().mean((1, 2)),
        "blind_": (mean_wave - tests.query.y).square().mean((1, 2)),
        "least_squares_": closed_form(wave_basis, tests),
    }
    if setting in ORACLES:
        found["oracle_"] = closed_form(ORACLES[setting], tests)
    if (setting, k_shot) == ("", 1):
        found["possible_"] = best_for_one_point(tests)
    found = {name: errors[None] for name, errors in found.items()}
    found[""] = torch.stack(
        [prompted(*transformer(s), tests) for s in trainings(seed)]
    )
    return found


def tuned_transformer(
    setting: str, k_shot: int, seed: int
) -> tuple[dict[str, Tensor], dict]:
    """Errors after steps on the transformer's own weights.

    Judged on the first of the tasks on which the others are judged.
    """
    model, params = transformer(seed)
    loss_fn, metric = prompt_losses(model)

    def run(*, tasks, **options):
        few = [Batch(*(t[:TUNED_TESTS] for t in part)) for part in tasks]
        pairs = Tasks(few[0], (few[0], few[1]))
        return descend(params, loss_fn, metric, pairs, **options)

    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    rates = {False: rate_grid(0.001, 2), True: rate_grid(0.0003, 2)}
    choice, _ = tuned(run, val, TUNED_STEPS, rates)
    adam, lr = choice[TUNED_STEPS[-1]]
    tests = tests_of(setting, k_shot)
    errors = run(tasks=tests, lr=lr, at=TUNED_STEPS, adam=adam)
    found = {f"after_{s}": errors[:, i] for i, s in enumerate(TUNED_STEPS)}
    return found, {"rate": _told(adam, lr)}


def judged(
    label: str, find: Callable, setting: str, k_shot: int, seed: int
) -> Any:
    """Give what `find` found, now or in an earlier run, for one training."""
    mark = f"_{seed}" if seed else ""
    name = f"in_context_judged_{label}_{setting}_{k_shot}{mark}.pt"
    known = Known(BUILD / "reproduce" / name)
    return known("judged", partial(find, setting, k_shot, seed))


def trainings(seed: int) -> range:
    """Seeds of the trainings of one method."""
    return range(seed, seed + TRAININGS)


def judge(seed: int) -> tuple[list[dict], dict[str, Any]]:
    """Judge all methods in all settings; rows, and what was chosen."""
    rows, chosen = [], {}
    for setting, k_shot in settings():
        where = f"shifted_{setting}_" if setting else ""
        where += f"mse_{k_shot}shot"
        errors = prompt_errors(setting, k_shot, seed)
        found = {f"{name}{where}": each for name, each in errors.items()}
        if k_shot > 1:
            several = [
                judged("probe", probe, setting, k_shot, s)
                for s in trainings(seed)
            ]
            found[f"probe_{where}"] = torch.stack([e for e, _ in several])
            chosen[f"probe_{where}"] = [choice for _, choice in several]
        for name in STEPPING:
            seeds = trainings(seed) if name in SEVERAL else [seed]
            find = partial(gradient_errors, name)
            several = [judged(name, find, setting, k_shot, s) for s in seeds]
            found |= {
                f"{name}_{where}_{k}": torch.stack([e[k] for e, _ in several])
                for k in several[0][0]
            }
            choices = [choice for _, choice in several]
            chosen[f"{name}_{where}"] = (
                choices if name in SEVERAL else choices[0]
            )
        if setting in TUNED and k_shot == 10:
            each, choice = judged(
                "itself", tuned_transformer, setting, k_shot, seed
            )
            found |= {f"itself_{where}_{k}": v[None] for k, v in each.items()}
            chosen[f"itself_{where}"] = choice
        # What a learned start adds to the same steps.
        compared = (f"{m}_{where}_best" for m in ("maml", "untrained"))
        start_gap = difference_row(*compared, found)
        scale = errors["zero_"].mean().item()
        for name, values in found.items():
            # The transformer's own steps are beside that very training.
            own = name.startswith("itself")
            rival = errors[""][:1] if own else errors[""]
            rows.append(error_row(name, values, rival, scale))
            print(name, rows[-1]["value"], rows[-1]["interval"], flush=True)
        rows.append(start_gap)
    return rows, chosen


def _told(adam: bool, lr: float) -> list:
    return ["Adam" if adam else "SGD", lr]
