"""In-context learning beside MAML, on the waves of chapter 05.

A transformer that reads its task from the prompt, a linear probe on its
features, MAML, context parameters, fine-tuning, and the closed form, on the
same tasks: inside the family that all were trained on, and under seven shifts.
MAML and fine-tuning start from the networks of `sinusoid`. Last, attention
over the support set of a few characters, on the features of `budgets`.
"""

import time
from argparse import ArgumentParser, Namespace
from functools import partial
from itertools import product

import torch

from mamlkit.checkpoint import save_checkpoint
from mamlkit.inner import Params
from mamlkit.paths import CHECKPOINTS
from mamlkit.reproduce import write_result
from mamlkit.reproduce.in_context_characters import character_rows
from mamlkit.reproduce.in_context_link import link_rows
from mamlkit.reproduce.in_context_methods import (
    TEST_SEED,
    closed_form,
    descend,
    prompted,
    wave_basis,
)
from mamlkit.reproduce.in_context_trainings import (
    CONTEXT_SETTINGS,
    MAML_SETTINGS,
    SETTINGS,
    context_seconds,
    cpu_seconds,
    train,
    train_context,
)
from mamlkit.reproduce.judge_in_context import (
    context_rate,
    judge,
    small_transformer,
    start_of,
    tasks_of,
    trainings,
    transformer,
)


def arguments(parser: ArgumentParser) -> None:
    """Add no flags but those of every experiment."""


def milliseconds(act, seconds: float = 0.5) -> float:
    """Median time that a call keeps the processor busy."""
    times, end = [], time.perf_counter() + seconds
    act()
    while time.perf_counter() < end or len(times) < 5:
        begun = time.process_time()
        act()
        times.append(1000 * (time.process_time() - begun))
    return sorted(times)[len(times) // 2]


def costs(seed: int, k_shot: int = 10) -> dict[str, dict[str, float]]:
    """Time and memory for one new task of ten points and 100 queries.

    Returns:
        by method, "milliseconds" on one thread from the points to the
        answers, and "numbers", what has to be kept for this task's next
        query.
    """
    tasks = tasks_of("", k_shot, 1, TEST_SEED)
    found = {}
    for name, steps in product(("maml", "context"), (1, 10, 100)):
        start, loss_fn = start_of(name, seed)
        act = partial(
            descend, start, loss_fn, loss_fn, tasks, lr=0.001, at=(steps,)
        )
        found[f"{name}_after_{steps}"] = {
            "milliseconds": milliseconds(act),
            "numbers": sum(p.numel() for p in start.values()),
        }
    model, params = transformer(seed)
    # Keys and values of every example in every layer.
    kept = 2 * k_shot * len(model.layers) * model.write.in_features
    act = partial(prompted, model, params, tasks)
    found["transformer"] = {"milliseconds": milliseconds(act), "numbers": kept}
    act = partial(closed_form, wave_basis, tasks)
    found["least_squares"] = {"milliseconds": milliseconds(act), "numbers": 2}
    return {
        name: {k: round(v, 3) for k, v in each.items()}
        for name, each in found.items()
    }


def run(args: Namespace) -> None:
    """Train, choose, judge; write in_context.json and in_context.pt."""
    torch.set_num_threads(1)
    seed, small = args.seed, small_transformer(args.seed)[1]
    readers = [train(s) for s in trainings(seed)]
    lr, tried = context_rate()
    around = [train_context(s, lr) for s in trainings(seed)]
    every = SETTINGS["iterations"] // 200
    means = torch.tensor(readers[0].loss).view(-1, every).mean(1).tolist()
    rows, chosen = judge(seed)
    characters, chosen_there = character_rows()
    path = write_result(
        "in_context",
        settings=SETTINGS
        | {
            "parameters": size_of(readers[0].params),
            "cpu_seconds": round(cpu_seconds(f"transformer_{seed}"), 1),
            "small_parameters": size_of(small),
            "context": CONTEXT_SETTINGS
            | {
                "inner_lr": lr,
                "tried": [[rate, error] for rate, error in tried.items()],
                "parameters": size_of(around[0].params),
                "cpu_seconds": round(context_seconds(seed, lr), 1),
            },
            "maml": MAML_SETTINGS
            | {
                "parameters": size_of(start_of("maml", seed)[0]),
                # The first training of five is that of `sinusoid`.
                "cpu_seconds": round(cpu_seconds(f"maml_{seed + 1}"), 1),
            },
            "costs": costs(seed),
            "chosen": chosen,
            "characters": chosen_there,
        },
        seed=seed,
        seconds=readers[0].seconds,
        curve=[[(i + 1) * every, round(m, 4)] for i, m in enumerate(means)],
        rows=[*rows, *characters, *link_rows(range(seed, seed + 5))],
    )
    stored = {
        "transformer": readers[0].params,
        "small": {k: p.bfloat16() for k, p in small.items()},
        "context": {
            k.removeprefix("net."): p for k, p in around[0].params.items()
        },
    }
    save_checkpoint(CHECKPOINTS / "in_context.pt", stored)
    print(path)


def size_of(params: Params) -> int:
    """Count numbers."""
    return sum(p.numel() for p in params.values())
