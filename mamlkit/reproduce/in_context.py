"""In-context learning beside MAML, on the waves of chapter 05.

A transformer that reads its task from the prompt, MAML, context parameters
(CAVIA), fine-tuning, and the closed form, on the same tasks: inside the family
that all were trained on, and under eight shifts. Five trainings of each.
"""

import math
import time
from argparse import ArgumentParser, Namespace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.in_context import InContextLearner
from mamlkit.inner import LossFn, Params, functional_loss
from mamlkit.models import MLP
from mamlkit.objectives import anil_loss
from mamlkit.outer import History, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import row_of_seeds, write_result
from mamlkit.reproduce.in_context_characters import character_rows
from mamlkit.reproduce.in_context_link import link_rows
from mamlkit.reproduce.judge_in_context import (
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
from mamlkit.tasks import Batch, Sinusoids, Tasks

MOST_SHOTS = 20  # that any training sees
WARM_UP = 200  # iterations


class WithContext(nn.Module):
    """The sinusoid network with a context vector beside x.

    Zintgraf et al. 2019 (CAVIA, arXiv:1810.03642): a task is learned by steps
    on the context, from 0, and the weights are shared.

    Args:
        n_context: numbers in the context.
        hidden: as in `MLP`.
    """

    def __init__(self, n_context: int = 5, hidden: tuple[int, ...] = (40, 40)):
        super().__init__()
        self.context = nn.Parameter(
            torch.zeros(n_context), requires_grad=False
        )
        self.net = MLP(1 + n_context, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (examples, 1) to y (examples, 1)."""
        context = self.context.expand(len(x), -1)
        return self.net(torch.cat([x, context], dim=-1))


def context_loss(params: Params, loss_fn, tasks: Tasks, **options) -> Tensor:
    """Compute `meta_loss` with inner steps on the context only, from 0."""
    start = params | {"context": torch.zeros(options.pop("n_context"))}
    return anil_loss(start, loss_fn, tasks, adapted=["context"], **options)


def prompt_loss(
    params: Params, _, tasks: Tasks, *, model: nn.Module, **options
) -> Tensor:
    """Mean squared error of answers read off the prompts; no inner step."""
    inputs = tasks.support, tasks.query.x
    return F.mse_loss(functional_call(model, params, inputs), tasks.query.y)


def any_shots(n_tasks: int, *, generator: torch.Generator) -> Tasks:
    """Draw waves with 1 to 20 points, as many for all, and 8 queries."""
    k_shot = torch.randint(1, MOST_SHOTS + 1, (), generator=generator)
    return Sinusoids().sample(
        n_tasks, k_shot=int(k_shot), k_query=8, generator=generator
    )


def warm_cosine(iterations: int, i: int) -> float:
    """Schedule: up from 0 within 200 iterations, then a cosine to 0."""
    fall = 0.5 + 0.5 * math.cos(math.pi * i / iterations)
    return min(1.0, (i + 1) / WARM_UP) * fall


# What is trained, and how: the arguments of `meta_train` that differ.
WAVES = {
    "meta_lr": 1e-3,
    "n_tasks": 25,
    "iterations": 70_000,
    "sample_tasks": partial(Sinusoids().sample, k_shot=10, k_query=10),
    "compile": True,
}
WIDE = (64, 64, 64)
TRAININGS = {
    "transformer": {
        "model": InContextLearner,
        "sample_tasks": any_shots,
        "inner_lr": 0.0,
        "meta_lr": 2e-3,
        "n_tasks": 16,
        "iterations": 40_000,
        "steps": 0,
    },
    # The paper's 40-40 network, one step, with the α of `sinusoid`.
    "maml": WAVES | {"model": MLP, "inner_lr": 0.001, "steps": 1},
    "pretrained": WAVES | {"model": MLP, "inner_lr": 0.0, "steps": 0},
}
# Short trainings that decide what stands for MAML at its best, and for CAVIA.
CANDIDATES = {
    f"maml_{'x'.join(map(str, hidden))}_{steps}_steps_lr_{lr}": WAVES
    | {
        "model": partial(MLP, hidden=hidden),
        "inner_lr": lr,
        "steps": steps,
    }
    for hidden in ((40, 40), WIDE)
    for steps in (1, 5)
    for lr in (0.001, 0.003, 0.01, 0.03)
} | {
    f"cavia_{n_context}_steps_{steps}_lr_{lr}": WAVES
    | {
        "model": partial(WithContext, n_context),
        "inner_lr": lr,
        "steps": steps,
    }
    for n_context, steps, lr in (
        (5, 1, 0.1), (5, 1, 0.3), (5, 1, 1.0), (5, 1, 3.0),
        (2, 1, 1.0), (10, 1, 1.0), (5, 3, 0.3), (5, 3, 1.0),
    )
}  # fmt: skip


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="trainings of each method")


def train(
    name: str, seed: int, settings: dict, *, quiet: bool = False
) -> History:
    """Train one method, resumably.

    Args:
        name: of the checkpoint.
        seed: of weights and tasks.
        settings: a value of `TRAININGS`.
        quiet: do not say how long it took.
    """
    settings = dict(settings)
    torch.manual_seed(seed)
    model = settings.pop("model")()
    if isinstance(model, InContextLearner):
        settings["objective"] = partial(prompt_loss, model=model)
        iterations = settings["iterations"]
        settings["schedule"] = partial(warm_cosine, iterations)
    if isinstance(model, WithContext):
        n_context = len(model.context)
        settings["objective"] = partial(context_loss, n_context=n_context)
    begun = time.process_time()
    history = meta_train(
        model,
        settings.pop("sample_tasks"),
        criterion=F.mse_loss,
        generator=torch.Generator().manual_seed(seed),
        checkpoint=BUILD / "reproduce" / f"in_context_{name}_{seed}.pt",
        **settings,
    )
    if not quiet:
        spent = time.process_time() - begun
        print(f"{name} {seed}: {history.seconds:.0f} s, processor {spent:.0f}")
    return history


# --- judging -----------------------------------------------------------------

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
STEPS = {"": (1, 5, 10, 100), "shifted": (1, 5, 10, 100, 1000)}
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
    model = TRAININGS[name]["model"]()
    params = train(name, seed, TRAININGS[name], quiet=True).params
    loss_fn = functional_loss(model, F.mse_loss)
    if name != "cavia":
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
    at, count = STEPS[kind], TESTS[kind]
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


# --- what it costs -----------------------------------------------------------


def milliseconds(act, seconds: float = 0.5) -> float:
    """Median time of a call."""
    times, end = [], time.perf_counter() + seconds
    act()
    while time.perf_counter() < end or len(times) < 5:
        begun = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - begun))
    return sorted(times)[len(times) // 2]


def costs(k_shot: int = 10) -> dict[str, dict[str, float]]:
    """Time and memory for one new task of ten points and 100 queries.

    Returns:
        by method, "milliseconds" on one thread from the points to the
        answers, and "numbers", what has to be kept for this task's next
        query.
    """
    tasks = tasks_of("", k_shot, 1, TEST_SEED)
    start, loss_fn = start_of("maml", 0)
    context, context_loss_fn = start_of("cavia", 0)
    size = sum(p.numel() for p in start.values())
    found = {}
    for name, begin, loss, kept in (
        ("maml", start, loss_fn, size),
        ("cavia", context, context_loss_fn, context["context"].numel()),
    ):
        for steps in (1, 10, 100):
            act = partial(
                descend, begin, loss, loss, tasks, lr=0.001, at=(steps,)
            )
            found[f"{name}_after_{steps}"] = {
                "milliseconds": milliseconds(act),
                "numbers": kept,
            }
    model, params = transformer(0)
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


def training_costs(seeds: range) -> dict[str, dict[str, float]]:
    """What each training took: parameters, tasks, seconds (mean of seeds)."""
    found = {}
    for name, settings in TRAININGS.items():
        runs = [train(name, seed, settings, quiet=True) for seed in seeds]
        found[name] = {
            "parameters": sum(p.numel() for p in runs[0].params.values()),
            "iterations": settings["iterations"],
            "tasks": settings["iterations"] * settings["n_tasks"],
            "seconds": round(sum(r.seconds for r in runs) / len(runs), 1),
            "seconds_each": [round(r.seconds, 1) for r in runs],
        }
    return found


def run(args: Namespace) -> None:
    """Train, choose, judge; write in_context.json and in_context.pt."""
    torch.set_num_threads(1)
    seeds = range(args.seed, args.seed + args.seeds)
    for name, settings in TRAININGS.items():
        for seed in seeds:
            train(name, seed, settings)
    history = train("transformer", seeds[0], TRAININGS["transformer"])
    every = TRAININGS["transformer"]["iterations"] // 200
    means = torch.tensor(history.loss).view(-1, every).mean(1).tolist()
    rows, chosen = judge(seeds)
    characters, character_choices = character_rows(seeds)
    path = write_result(
        "in_context",
        settings={
            "seeds": args.seeds,
            "chosen": chosen,
            "characters_chosen": character_choices,
            "training": training_costs(seeds),
            "costs": costs(),
        },
        seed=args.seed,
        seconds=history.seconds,
        curve=[[(i + 1) * every, round(m, 4)] for i, m in enumerate(means)],
        rows=[*rows, *characters, *link_rows(seeds)],
    )
    save_checkpoint(
        CHECKPOINTS / "in_context.pt",
        {
            "params": history.params,
            **{
                name: train(name, seeds[0], TRAININGS[name]).params
                for name in ("cavia", "maml_wide")
            },
        },
    )
    print(path)
