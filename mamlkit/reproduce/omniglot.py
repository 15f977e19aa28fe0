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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit.checkpoint import save_checkpoint
from mamlkit.outer import History
from mamlkit.paths import BUILD, CHECKPOINTS, RESULTS
from mamlkit.reproduce import Known, read_result, row, untrained, write_result
from mamlkit.reproduce.judge import Walk, accuracies
from mamlkit.reproduce.methods import walk_of
from mamlkit.reproduce.omniglot_settings import (
    BY_TASK,
    COMMON,
    LEARNED,
    METHODS,
    PAPER,
    SHARED,
    VARIANTS,
)
from mamlkit.reproduce.training import build, draw, pace, train
from mamlkit.tasks import Batch, Tasks

CHOOSE_ON = 8_000  # validation queries, at 1 shot, that choose the steps
CHOOSE_FLOOR_ON = 1_000  # and the untrained network's rule
# Steps after which a result file gives an accuracy.
TOLD = (0, 1, 2, 3, 5, 10, 16, 20, 30, 50)
# What the network before training and its tasks depend on.
OF_THE_FLOOR = ("model", "ways", "shots", "width", "seed")


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags; those without a value have defaults."""
    add = parser.add_argument
    add("--method", choices=METHODS, default="learned")
    add("--model", choices=("cnn", "mlp"), default="cnn")
    add("--width", type=int, help="channels of the CNN")
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
    instead(
        "--floor",
        action="store_true",
        help="do not train: judge the untrained network alone",
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
    if args.floor:
        infix = f"untrained_{infix}"
    elif method != "learned":
        infix += f"{method}_"
    name = f"omniglot_{infix}{args.ways}way_{args.shots}shot"
    if args.refit:
        known["start"] = CHECKPOINTS / f"{name}.pt"
        name += "_refit"
    return Namespace(**(vars(args) | {"name": name} | known | given))


def choose_steps(
    args: Namespace, net: nn.Module, walk: Walk
) -> tuple[int, list[float] | None]:
    """Choose the inner steps at test; give the accuracies that say so.

    The authors' number is taken where they give one.
    """
    if args.refit:  # the validation characters are no longer new
        return args.steps, None
    # So many tasks that a difference of 0.05 between steps is no accident.
    tasks = draw("val", args, CHOOSE_ON // args.ways)
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
    left_out = ("command", "experiment", "start", "choose", "floor")
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


def stored_floor(args: Namespace) -> tuple[dict, dict[str, Any]] | None:
    """Find the floor in the file of another method on the same tasks.

    It is the same network, before any of them trains. Where one was judged
    on fewer tasks than another, the longer judgement counts.
    """
    same, found = {n: getattr(args, n) for n in OF_THE_FLOOR}, []
    for path in sorted(RESULTS.glob("omniglot_*.json")):
        settings, rows = map(read_result(path.stem).get, ("settings", "rows"))
        alike = same.items() <= settings.items() and "untrained" in settings
        anil = [m == "anil" for m in (settings.get("method"), args.method)]
        if alike and len({*anil}) == 1 and "untrained_accuracy" in rows:
            found.append((rows["untrained_accuracy"], settings["untrained"]))
    return max(found, key=lambda floor: floor[0]["n"], default=None)


def judge_untrained(args: Namespace) -> tuple[dict, dict[str, Any]]:
    """Judge the network before training, by its own best rule.

    ANIL's is one that leaves the body alone.

    Returns:
        a row for the result file, and for its settings what was chosen, on
        validation tasks, and from what.
    """
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways, args.width)
    tasks = draw("val", args, CHOOSE_FLOOR_ON // args.ways)
    only_head = args.method == "anil"
    known = Known(
        BUILD / "reproduce" / f"{args.name}_floor.pt",
        only_head=only_head,
        choose_on=CHOOSE_FLOOR_ON,
        rates=[*untrained.RATES],
        steps=untrained.STEPS,
        test_tasks=args.test_tasks,
        **{name: getattr(args, name) for name in OF_THE_FLOOR},
    )
    rule = untrained.choose_rule(net, tasks, only_head=only_head, known=known)
    test = draw("test", args, args.test_tasks)
    walk = untrained.rule_walk(net, rule["lr"], only_head=only_head)
    found = untrained.judge_in_parts(
        net, walk, test, known, steps=rule["steps"]
    )
    return row("untrained_accuracy", 100 * found), rule


def run(args: Namespace) -> None:
    """Train, choose the inner steps, test; write the result and weights."""
    args = complete(args)
    torch.set_num_threads(args.threads)
    if args.floor:
        floor, rule = judge_untrained(args)
        path = write_result(
            args.name,
            settings=settings_of(args) | {"untrained": rule},
            seed=args.seed,
            seconds=0.0,
            curve=[],
            rows=[floor],
        )
        print(path.read_text())
        return
    net, state, history = train(args)
    before = state.pop("before")
    walk = walk_of(args.method, net, state, args)
    if args.choose:
        tasks = draw("val", args, CHOOSE_ON // 2 // args.ways)
        percents = 100 * accuracies(
            net, walk, tasks, steps=args.test_steps or args.steps
        )
        print(add_choice(args, percents[:, -1], history).read_text())
        return
    seconds = history.seconds
    seconds += before["trained_seconds"] if before else 0.0
    chosen, by_steps = choose_steps(args, net, walk)
    rows = judge(args, net, walk, chosen)
    floor, rule = stored_floor(args) or judge_untrained(args)
    lr = state["inner_lr"]
    settings = settings_of(args) | {
        "test_steps": chosen,
        "rates": {k: round(v.item(), 4) for k, v in lr.items()}
        if isinstance(lr, dict)
        else lr,
        "validation_by_steps": by_steps,
        "untrained": rule,
        "iteration_cpu_ms": round(1000 * pace(args), 1),
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
