"""Omniglot, N ways and K shots: Finn et al. 2017, Sec. 5.2 and Table 1.

Split, rotations, batch norm and queries are those of the authors' code
(1,100 / 100 / 423 characters, turned in all three splits, K queries a class
at test, statistics of the batch at hand); the settings below are those that
reached most per minute on two CPU cores. Rates are in units of the mean loss.
"""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.inner import Params
from mamlkit.models import CNN, MLP
from mamlkit.objectives import meta_loss
from mamlkit.outer import History, cosine, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import read_result, row, write_result
from mamlkit.reproduce.jitter import jittered
from mamlkit.reproduce.judge import accuracies
from mamlkit.reproduce.learned_rates import LearnedRates
from mamlkit.reproduce.omniglot_settings import (
    COMMON,
    DEFAULTS,
    PAPER,
    SHARED,
)
from mamlkit.tasks import Batch, Tasks

MOST_STEPS = 3  # at test, as in the paper for 5 ways


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags; those without a value have defaults."""
    add = parser.add_argument
    add("--model", choices=("cnn", "mlp"), default="cnn")
    add("--ways", type=int, default=5, help="classes in a task")
    add("--shots", type=int, default=1, help="support examples a class")
    add("--iterations", type=int, help="meta-updates")
    add("--tasks", type=int, help="tasks an iteration")
    add("--queries", type=int, help="query examples a class in training")
    add("--inner-lr", type=float, help="α, where it starts if it is learned")
    add("--meta-lr", type=float, help="β, falls to 0 as a cosine")
    add("--steps", type=int, help="inner steps in training")
    add("--shared", nargs="*", help="beginnings of names not adapted")
    add("--fixed-rates", action="store_true", help="do not learn α")
    add(
        "--jitter",
        action=BooleanOptionalAction,
        help="distort the training images a little",
    )
    add(
        "--mirror",
        action=BooleanOptionalAction,
        help="train on mirror images, as further characters, too",
    )
    add("--start", type=Path, help="checkpoint to begin from")
    add("--test-tasks", type=int, default=1_000)
    add("--threads", type=int, default=1)
    add("--name", help="of the result and checkpoint files")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead(
        "--refit",
        action="store_true",
        help="go on from the result, now on the validation characters too: "
        "the paper's 1,200. Nothing is chosen any more",
    )
    instead(
        "--choose",
        action="store_true",
        help="do not test: add what validation says, under --name, to "
        "omniglot_choices.json",
    )


def build(model: str, ways: int) -> nn.Module:
    """Make the paper's CNN, or its network without convolutions."""
    if model == "cnn":
        return CNN(ways)
    return MLP(28 * 28, (256, 128, 64, 64), ways, norm=True)


def draw(split: str, args: Namespace, n_tasks: int) -> Tasks:
    """Draw tasks with K queries a class, always the same ones."""
    images = load_omniglot(split)
    return Episodes(images, args.ways, rotations=True).sample(
        n_tasks,
        k_shot=args.shots,
        k_query=args.shots,
        generator=torch.Generator().manual_seed(1_000_001),
    )


def complete(args: Namespace) -> Namespace:
    """Fill in what was left open on the command line."""
    key = (args.model, args.ways, args.shots)
    known = COMMON | {"shared": SHARED[args.model]} | DEFAULTS.get(key, {})
    given = {k: v for k, v in vars(args).items() if v is not None}
    infix = "mlp_" if args.model == "mlp" else ""
    name = f"omniglot_{infix}{args.ways}way_{args.shots}shot"
    if args.refit:
        known["start"] = CHECKPOINTS / f"{name}.pt"
        name += "_refit"
    return Namespace(**({"name": name} | known | given))


def begin_from(path: Path, model: nn.Module, ways: int) -> dict:
    """Copy the weights that fit from a checkpoint; say where it came from.

    The mean loss of more ways gives each class a smaller share of the step,
    so the rates grow with the ways.

    Raises:
        ValueError: no checkpoint, or one of another architecture.
    """
    state = load_checkpoint(path)
    found, own = state["params"], model.state_dict()
    if isinstance(model, LearnedRates):
        more = ways / state["settings"]["ways"]
        rates = {name: more * a for name, a in state["inner_lr"].items()}
        found = model.join(found, rates)
    fits = {
        name: value
        for name, value in found.items()
        if name in own and own[name].shape == value.shape
    }
    if not fits:
        raise ValueError(f"no weight in {path} fits this model")
    model.load_state_dict(own | fits)
    return state["settings"] | {"trained_seconds": state["seconds"]}


def train(args: Namespace) -> tuple[nn.Module, Params, Params | float, dict]:
    """Train; return the model, its weights, its rates, and the record."""
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways)
    learner = LearnedRates(net, args.inner_lr, tuple(args.shared))
    if args.model == "cnn":
        # A sixth faster on CPUs; the weights are the same numbers.
        learner.to(memory_format=torch.channels_last)
    whole = net if args.fixed_rates else learner
    before = begin_from(args.start, whole, args.ways) if args.start else None

    def parts(params):
        if args.fixed_rates:
            return params, args.inner_lr
        return learner.split(params)

    def validate(params):
        weights, lr = parts(params)
        tasks = draw("val", args, 2_000 // args.ways)
        found = accuracies(net, weights, tasks, lr=lr, steps=args.steps)
        percent = 100 * found[:, -1].mean().item()
        print(f"validation: {percent:.2f} %", flush=True)
        return percent

    images = load_omniglot("train")
    if args.refit:
        images = torch.cat([images, load_omniglot("val")])
    if args.mirror:
        images = torch.cat([images, images.flip(-1)])
    sample = Episodes(images, args.ways, rotations=True).sample
    history = meta_train(
        whole,
        partial(
            jittered(sample) if args.jitter else sample,
            k_shot=args.shots,
            k_query=args.queries,
        ),
        criterion=F.cross_entropy,
        inner_lr=args.inner_lr,
        meta_lr=args.meta_lr,
        n_tasks=args.tasks,
        iterations=args.iterations,
        generator=torch.Generator().manual_seed(args.seed),
        steps=args.steps,
        objective=meta_loss if args.fixed_rates else learner.objective,
        # Large tasks gain nothing from being batched.
        over_tasks="loop" if args.ways * args.shots >= 25 else "vmap",
        schedule=cosine(args.iterations),
        validate=None if args.refit else validate,
        checkpoint=BUILD / "reproduce" / f"{args.name}.pt",
    )
    weights, lr = parts(history.params)
    weights = {name: value.contiguous() for name, value in weights.items()}
    return net, weights, lr, {"history": history, "before": before}


def choose_steps(
    args: Namespace, judge: Callable[..., Tensor]
) -> tuple[int, list[float] | None]:
    """Choose the inner steps at test; give the accuracies that say so."""
    if args.refit:  # the validation characters are no longer new
        return args.steps, None
    # So many tasks that a difference of 0.05 between steps is no accident.
    tasks = draw("val", args, 8_000 // args.ways)
    by_steps = (100 * judge(tasks, steps=MOST_STEPS).mean(0)).tolist()
    # The fewest steps among those that are equally good.
    chosen = max(
        range(args.steps, MOST_STEPS + 1),
        key=lambda step: round(by_steps[step] / 0.05),
    )
    return chosen, [round(percent, 2) for percent in by_steps]


def settings_of(args: Namespace) -> dict[str, Any]:
    """Keep of the flags what another run would need."""
    left_out = ("command", "experiment", "start", "choose")
    kept = {k: v for k, v in vars(args).items() if k not in left_out}
    return kept | {"start": args.start.name if args.start else None}


def add_choice(args: Namespace, percents: Tensor, history: History) -> Path:
    """Add a short run, judged on validation tasks, to the table of choices."""
    table = read_result("omniglot_choices")
    table["rows"][args.name] = row(args.name, percents) | {
        "seconds": round(history.seconds, 1),
        "settings": settings_of(args),
        "curve": [[i, round(v, 2)] for i, v in history.validation],
    }
    return write_result(
        "omniglot_choices",
        settings=table["settings"],
        seed=args.seed,
        seconds=table["seconds"] + history.seconds,
        curve=[],
        rows=list(table["rows"].values()),
    )


def run(args: Namespace) -> None:
    """Train, choose the inner steps, test; write the result and weights."""
    args = complete(args)
    torch.set_num_threads(args.threads)
    net, weights, lr, record = train(args)
    history, before = record["history"], record["before"]
    if args.choose:
        tasks = draw("val", args, 4_000 // args.ways)
        percents = 100 * accuracies(
            net, weights, tasks, lr=lr, steps=args.steps
        )
        print(add_choice(args, percents[:, -1], history).read_text())
        return
    seconds = history.seconds
    seconds += before["trained_seconds"] if before else 0.0
    judge = partial(accuracies, net, weights, lr=lr)
    chosen, by_steps = choose_steps(args, judge)
    test = draw("test", args, args.test_tasks)
    found = 100 * judge(test, steps=MOST_STEPS)
    # One query a class is enough: each costs a pass over the support set.
    singles = Batch(*(t[:, :: args.shots] for t in test.query))
    alone = 100 * judge(
        Tasks(test.support, singles), steps=chosen, one_by_one=True
    )
    paper = PAPER.get((args.model, args.ways, args.shots))
    rates = {k: round(v.item(), 4) for k, v in lr.items()} if isinstance(
        lr, dict
    ) else lr  # fmt: skip
    settings = settings_of(args) | {
        "test_steps": chosen,
        "rates": rates,
        "validation_by_steps": by_steps,
        "started_from": before,
    }
    rows = [
        row("accuracy", found[:, chosen], paper),
        row("accuracy_non_transductive", alone),
    ]
    for step in range(MOST_STEPS + 1):
        rows.append(row(f"accuracy_after_{step}", found[:, step]))
    path = write_result(
        args.name,
        settings=settings,
        seed=args.seed,
        seconds=seconds,
        curve=[[i, round(v, 2)] for i, v in history.validation],
        rows=rows,
    )
    save_checkpoint(
        CHECKPOINTS / f"{args.name}.pt",
        {
            "params": weights,
            "inner_lr": lr,
            "steps": chosen,
            "settings": settings,
            "seconds": seconds,
        },
    )
    print(path.read_text())
