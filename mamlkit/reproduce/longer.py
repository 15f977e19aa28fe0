"""Longer walks: `in_context`'s 1 to 100 steps, and 300 and 1,000 more.

There 100 steps are the best of nearly all networks, which is the edge of what
was tried. Here MAML, context parameters, pretrained and untrained networks go
on, on the same tasks, in the family and under each shift. The rows have the
names of those in in_context.json, so that one may stand in the place of the
other. With them is the floor of the probe: one on untrained transformers.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from math import inf

import torch
from torch import Tensor

from mamlkit.in_context import InContextLearner
from mamlkit.paths import BUILD
from mamlkit.reproduce import Known, read_result, write_result
from mamlkit.reproduce.in_context_methods import (
    FACTOR,
    VALIDATION,
    VALIDATION_SEED,
    descend,
    prompted,
    tuned,
)
from mamlkit.reproduce.in_context_rows import error_row
from mamlkit.reproduce.in_context_trainings import SIZES
from mamlkit.reproduce.judge_in_context import (
    CONTEXT_RATES,
    RATES,
    SEVERAL,
    STEPPING,
    STEPS,
    chosen_errors,
    probe_of,
    settings,
    start_of,
    start_of_context,
    tasks_of,
    tests_of,
    trainings,
    transformer,
)
from mamlkit.reproduce.variants import difference_row

LONGER = (300, 1000)


def arguments(parser: ArgumentParser) -> None:
    """Add no flags but those of every experiment."""


def untrained_probe(
    setting: str, k_shot: int, seed: int
) -> tuple[Tensor, list]:
    """Errors of the probe on features that nobody trained, (tasks,).

    Returns:
        the errors, and what was chosen.
    """
    torch.manual_seed(seed)
    model = InContextLearner(**SIZES["transformer"])
    params = {name: p.detach() for name, p in model.named_parameters()}
    return probe_of(model, params, setting, k_shot)


def choose_and_walk(
    name: str, setting: str, k_shot: int, seed: int, context_lr: float
) -> tuple[dict[str, Tensor], dict]:
    """Errors of a method after 1 to 1,000 steps.

    Rates for 1 to 100 steps are chosen as in `in_context`, for SGD and for
    Adam alone. The longer walks start from the best of 100 steps and a third
    of it; a grid whose best value is at its edge grows.

    Args:
        name: a method of `STEPPING`.
        setting: a shift, or "".
        k_shot: points.
        seed: of the training.
        context_lr: α with which context parameters were trained.

    Returns:
        see `gradient_errors`.
    """
    if name == "context":
        start, loss_fn = start_of_context(seed, context_lr)
    else:
        start, loss_fn = start_of(name, seed)
    run = partial(descend, start, loss_fn, loss_fn)
    val = tasks_of(setting, k_shot, VALIDATION, VALIDATION_SEED)
    choice, errors = {}, {}
    for adam, grid in (CONTEXT_RATES if name == "context" else RATES).items():
        short, before = tuned(run, val, STEPS, {adam: grid})
        near = short[STEPS[-1]][1]
        rates = {adam: (near / FACTOR, near)}
        long, after = tuned(run, val, LONGER, rates)
        for steps, error in (before | after).items():
            if error <= errors.get(steps, inf):
                errors[steps], choice[steps] = error, (short | long)[steps]
    return chosen_errors(run, tests_of(setting, k_shot), choice, errors)


def walked(
    name: str, setting: str, k_shot: int, seed: int, context_lr: float
) -> tuple[dict[str, Tensor], dict]:
    """Give what `choose_and_walk` found, now or in an earlier run."""
    label = f"longer_{name}_{setting}_{k_shot}_{seed}.pt"
    known = Known(BUILD / "reproduce" / label, context_lr=context_lr)
    find = partial(choose_and_walk, name, setting, k_shot, seed, context_lr)
    return known("walked", find)


def run(args: Namespace) -> None:
    """Choose, judge; write in_context_longer.json."""
    torch.set_num_threads(1)
    stored = read_result("in_context")["settings"]
    context_lr, rows, chosen = stored["context"]["inner_lr"], [], {}
    for setting, k_shot in settings():
        where = f"shifted_{setting}_" if setting else ""
        where += f"mse_{k_shot}shot"
        tests, found = tests_of(setting, k_shot), {}
        rival = torch.stack(
            [prompted(*transformer(s), tests) for s in trainings(args.seed)]
        )
        scale = tests.query.y.square().mean().item()
        for name in STEPPING:
            seeds = trainings(args.seed) if name in SEVERAL else [args.seed]
            several = [
                walked(name, setting, k_shot, s, context_lr) for s in seeds
            ]
            for k in several[0][0]:
                errors = torch.stack([e[k] for e, _ in several])
                found[f"{name}_{where}_{k}"] = errors
            chosen[f"{name}_{where}"] = [choice for _, choice in several]
        if k_shot > 1:
            several = [
                untrained_probe(setting, k_shot, s)
                for s in trainings(args.seed)
            ]
            name = f"probe_untrained_{where}"
            found[name] = torch.stack([e for e, _ in several])
            chosen[name] = [choice for _, choice in several]
        for name, errors in found.items():
            rows.append(error_row(name, errors, rival, scale))
            print(name, rows[-1]["value"], rows[-1]["interval"], flush=True)
        compared = (f"{m}_{where}_best" for m in ("maml", "untrained"))
        rows.append(difference_row(*compared, found))
    path = write_result(
        "in_context_longer",
        settings={
            "steps": STEPS + LONGER,
            "context_inner_lr": context_lr,
            "chosen": chosen,
        },
        seed=args.seed,
        seconds=0.0,
        curve=[],
        rows=rows,
    )
    print(path)
