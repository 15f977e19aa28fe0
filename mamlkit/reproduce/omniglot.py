"""Omniglot, N ways and K shots, by MAML and by its variants.

Finn et al. 2017, Sec. 5.2 and Table 1. Split, rotations, batch norm and
queries are those of their code (1,100 / 100 / 423 characters, turned in all
three splits, K queries a class at test, statistics of the batch at hand).
Ours are grey 28 x 28 images by Lanczos' filter, where their script, run on
the published 1-bit drawings, takes the nearest pixel (cbfinn/maml#23); and
their network pads at one side only (SAME at stride 2), adds 1e-3 to the
variance in its norm (ours 1e-5), and leaves the norm's shift alone in the
inner steps, which ours adapt.

`--method learned`, the default, is MAML with one learned α for each
parameter, whose settings are those that reached most per minute on two CPU
cores; `fixed` is the paper's protocol; the rest are as their authors meant
them (omniglot_settings.py). Rates are in units of the mean loss.
"""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.models import CNN, MLP
from mamlkit.outer import History, cosine, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import read_result, reptile, row, write_result
from mamlkit.reproduce.jitter import jittered
from mamlkit.reproduce.judge import Walk, accuracies
from mamlkit.reproduce.learned_rates import LearnedRates
from mamlkit.reproduce.methods import objective, walk_of
from mamlkit.reproduce.omniglot_settings import (
    BY_TASK,
    COMMON,
    LEARNED,
    METHODS,
    PAPER,
    SHARED,
    VARIANTS,
)
from mamlkit.reproduce.untrained import choose_rule, rule_walk
from mamlkit.tasks import Batch, Tasks

# Steps after which a result file gives an accuracy.
TOLD = (0, 1, 2, 3, 5, 10, 16, 20, 30, 50)


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags; those without a value have defaults."""
    add = parser.add_argument
    add("--method", choices=METHODS, default="learned")
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
    add("--test-steps", type=int, help="at test; else validation chooses")
    add("--most-steps", type=int, help="that validation may choose")
    add("--strength", type=float, help="λ of iMAML")
    add("--cg-steps", type=int, help="conjugate gradient steps of iMAML")
    add("--train-shots", type=int, help="examples a class, for Reptile")
    add("--batch", type=int, help="examples of an inner step of Reptile")
    add("--test-batch", type=int, help="the same at test")
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
    return Episodes(load_omniglot(split), args.ways).sample(
        n_tasks,
        k_shot=args.shots,
        k_query=args.shots,
        generator=torch.Generator().manual_seed(1_000_001),
    )


def complete(args: Namespace) -> Namespace:
    """Fill in what was left open on the command line."""
    model, method, task = args.model, args.method, (args.ways, args.shots)
    known = COMMON | {"shared": SHARED[model], "test_steps": None}
    if method == "learned":
        known |= LEARNED.get((model, *task), {})
    else:
        known |= VARIANTS[method] | BY_TASK.get((method, *task), {})
    given = {k: v for k, v in vars(args).items() if v is not None}
    infix = "mlp_" if model == "mlp" else ""
    infix += f"{method}_" if method != "learned" else ""
    name = f"omniglot_{infix}{args.ways}way_{args.shots}shot"
    if args.refit:
        known["start"] = CHECKPOINTS / f"{name}.pt"
        name += "_refit"
    return Namespace(**(vars(args) | {"name": name} | known | given))


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


def train(args: Namespace) -> tuple[nn.Module, dict, History]:
    """Train with Adam in the outer loop, as all but Reptile do.

    Returns:
        the architecture; "params" and "inner_lr", and in "before" what is
        known of the training that this one went on from; the history.
    """
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways)
    learns = args.method == "learned"
    learner = LearnedRates(net, args.inner_lr, tuple(args.shared))
    # Large tasks gain nothing from being batched.
    over_tasks = "loop" if args.ways * args.shots >= 25 else "vmap"
    if args.model == "cnn" and over_tasks == "loop":
        # A sixth faster on CPUs; the weights are the same numbers. Under vmap
        # it is a sixth slower.
        learner.to(memory_format=torch.channels_last)
    whole = learner if learns else net
    before = begin_from(args.start, whole, args.ways) if args.start else None

    def parts(params):
        weights, lr = params, args.inner_lr
        if learns:
            weights, lr = learner.split(params)
        return {"params": weights, "inner_lr": lr}

    def validate(params):
        walk = walk_of(args.method, net, parts(params), args)
        return validation(net, walk, args, 2_000 // args.ways)

    history = meta_train(
        whole,
        partial(training_tasks(args), k_shot=args.shots, k_query=args.queries),
        criterion=F.cross_entropy,
        inner_lr=args.inner_lr,
        meta_lr=args.meta_lr,
        n_tasks=args.tasks,
        iterations=args.iterations,
        generator=torch.Generator().manual_seed(args.seed),
        steps=args.steps,
        objective=learner.objective if learns
        else objective(args.method, net, args),
        first_order=args.method == "fomaml",
        over_tasks=over_tasks,
        schedule=cosine(args.iterations),
        validate=None if args.refit else validate,
        checkpoint=BUILD / "reproduce" / f"{args.name}.pt",
    )  # fmt: skip
    state = parts(history.params) | {"before": before}
    state["params"] = {k: v.contiguous() for k, v in state["params"].items()}
    return net, state, history


def train_reptile(args: Namespace) -> tuple[nn.Module, dict, History]:
    """Train with Reptile; return as `train` does, with "squares" besides."""
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways).to(memory_format=torch.channels_last)

    def parts(params, squares):
        return {"params": params, "squares": squares,
                "inner_lr": args.inner_lr}  # fmt: skip

    def validate(params, squares):
        walk = walk_of("reptile", net, parts(params, squares), args)
        return validation(net, walk, args, 1_000 // args.ways)

    history, squares = reptile.train(
        net,
        partial(training_tasks(args), k_shot=args.train_shots - 1, k_query=1),
        args,
        validate=validate,
        checkpoint=BUILD / "reproduce" / f"{args.name}.pt",
    )
    # Half as many bits do for the moments; judged is what is kept.
    squares = {
        k: v.contiguous().bfloat16().float() for k, v in squares.items()
    }
    weights = {k: v.contiguous() for k, v in history.params.items()}
    return net, parts(weights, squares) | {"before": None}, history


def training_tasks(args: Namespace):
    """Make the sampler of the characters that training may see."""
    images = load_omniglot("train")
    if args.refit:
        images = torch.cat([images, load_omniglot("val")])
    if args.mirror:
        images = torch.cat([images, images.flip(-1)])
    sample = Episodes(images, args.ways).sample
    return jittered(sample) if args.jitter else sample


def validation(
    net: nn.Module, walk: Walk, args: Namespace, n_tasks: int
) -> float:
    """Judge on validation tasks, in percent."""
    steps = args.test_steps or args.steps
    found = accuracies(net, walk, draw("val", args, n_tasks), steps=steps)
    percent = 100 * found[:, -1].mean().item()
    print(f"validation: {percent:.2f} %", flush=True)
    return percent


def choose_steps(
    args: Namespace, net: nn.Module, walk: Walk
) -> tuple[int, list[float] | None]:
    """Choose the inner steps at test; give the accuracies that say so.

    The authors' number is taken where they give one.
    """
    if args.refit:  # the validation characters are no longer new
        return args.steps, None
    # So many tasks that a difference of 0.05 between steps is no accident.
    tasks = draw("val", args, 8_000 // args.ways)
    most = max(args.most_steps, args.test_steps or 0)
    by_steps = 100 * accuracies(net, walk, tasks, steps=most).mean(0)
    by_steps = [round(percent, 2) for percent in by_steps.tolist()]
    # The fewest steps among those that are equally good.
    chosen = args.test_steps or max(
        range(args.steps, most + 1),
        key=lambda step: round(by_steps[step] / 0.05),
    )
    return chosen, by_steps


def settings_of(args: Namespace) -> dict[str, Any]:
    """Keep of the flags what another run would need."""
    left_out = ("command", "experiment", "start", "choose")
    kept = {
        k: v
        for k, v in vars(args).items()
        if k not in left_out and v is not None
    }
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


def judge(
    args: Namespace, net: nn.Module, walk: Walk, chosen: int
) -> list[dict[str, Any]]:
    """Judge on the test tasks: the rows of the result file."""
    test = draw("test", args, args.test_tasks)
    most = max(args.most_steps, chosen)
    found = 100 * accuracies(net, walk, test, steps=most)
    # One query a class is enough: each costs a pass over the support set.
    singles = Batch(*(t[:, :: args.shots] for t in test.query))
    alone = 100 * accuracies(
        net, walk, Tasks(test.support, singles), steps=chosen, one_by_one=True
    )
    paper = PAPER.get(args.method, {}).get((args.model, args.ways, args.shots))
    rows = [
        row("accuracy", found[:, chosen], paper),
        row("accuracy_non_transductive", alone),
    ]
    for step in TOLD:
        if step <= most:
            rows.append(row(f"accuracy_after_{step}", found[:, step]))
    return rows


def judge_untrained(args: Namespace) -> tuple[dict, dict[str, Any]]:
    """Judge the network before training, by its own best rule.

    ANIL's is one that leaves the body alone.

    Returns:
        a row for the result file, and for its settings what was chosen, on
        validation tasks, and from what.
    """
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways)
    tasks = draw("val", args, 1_000 // args.ways)
    only_head = args.method == "anil"
    rule = choose_rule(net, tasks, only_head=only_head)
    test = draw("test", args, args.test_tasks)
    walk = rule_walk(net, rule["lr"], only_head=only_head)
    found = 100 * accuracies(net, walk, test, steps=rule["steps"])
    return row("untrained_accuracy", found[:, -1]), rule


def run(args: Namespace) -> None:
    """Train, choose the inner steps, test; write the result and weights."""
    args = complete(args)
    torch.set_num_threads(args.threads)
    trained = train_reptile(args) if args.method == "reptile" else train(args)
    net, state, history = trained
    before = state.pop("before")
    walk = walk_of(args.method, net, state, args)
    if args.choose:
        tasks = draw("val", args, 4_000 // args.ways)
        percents = 100 * accuracies(
            net, walk, tasks, steps=args.test_steps or args.steps
        )
        print(add_choice(args, percents[:, -1], history).read_text())
        return
    seconds = history.seconds
    seconds += before["trained_seconds"] if before else 0.0
    chosen, by_steps = choose_steps(args, net, walk)
    rows = judge(args, net, walk, chosen)
    floor, rule = judge_untrained(args)
    lr = state["inner_lr"]
    settings = settings_of(args) | {
        "test_steps": chosen,
        "rates": {k: round(v.item(), 4) for k, v in lr.items()}
        if isinstance(lr, dict)
        else lr,
        "validation_by_steps": by_steps,
        "untrained": rule,
        "started_from": before,
    }
    path = write_result(
        args.name,
        settings=settings,
        seed=args.seed,
        seconds=seconds,
        curve=[[i, round(v, 2)] for i, v in history.validation],
        rows=[*rows, floor],
    )
    if "squares" in state:
        halves = {k: v.bfloat16() for k, v in state["squares"].items()}
        state["squares"] = halves
    save_checkpoint(
        CHECKPOINTS / f"{args.name}.pt",
        state | {"steps": chosen, "settings": settings, "seconds": seconds},
    )
    print(path.read_text())
