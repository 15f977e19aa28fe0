"""Omniglot, N ways and K shots: Finn et al. 2017, Sec. 5.2 and Table 1.

Split, rotations, batch norm and queries are those of the authors' code
(1,100 / 100 / 423 characters, turned in all three splits, K queries a class
at test, statistics of the batch at hand); the settings below are those that
reached most per minute on two CPU cores. Rates are in units of the mean loss.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn, vmap
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.episodes import Episodes
from mamlkit.evaluate import adaptation_curve, functional_accuracy
from mamlkit.inner import Params, adapt, functional_loss
from mamlkit.models import CNN, MLP
from mamlkit.omniglot import load_omniglot
from mamlkit.outer import cosine, map_tasks, meta_loss, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import row, write_result
from mamlkit.reproduce.jitter import jittered
from mamlkit.reproduce.learned_rates import LearnedRates
from mamlkit.tasks import Batch, Tasks

# Table 1, accuracy in percent, by (model, ways, shots).
PAPER = {
    ("cnn", 5, 1): 98.7,
    ("cnn", 5, 5): 99.9,
    ("cnn", 20, 1): 95.8,
    ("cnn", 20, 5): 98.9,
    ("mlp", 5, 1): 89.7,
    ("mlp", 5, 5): 97.5,
}
# By (model, ways, shots): where the flags differ from the common ones.
DEFAULTS = {
    ("cnn", 5, 5): {
        "iterations": 2_500,
        "tasks": 6,
        "queries": 4,
        "meta_lr": 2e-3,
        "start": CHECKPOINTS / "omniglot_5way_1shot.pt",
    },
    ("mlp", 5, 1): {"iterations": 8_000, "shared": ("1.", "2.")},
}
COMMON = {
    "iterations": 5_000,
    "tasks": 12,
    "queries": 3,
    "inner_lr": 0.4,
    "meta_lr": 3e-3,
    "steps": 1,
}
# Learned rates of the first convolution came out as 0, so it need not be
# adapted, and an iteration takes 0.6 x as long.
SHARED = {"cnn": ("body.0.", "body.1."), "mlp": ()}
MOST_STEPS = 3  # at test, as in the paper for 5 ways
CHUNK = 25  # tasks evaluated at once


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
    add("--jitter", action="store_true", help="distort the training images")
    add("--start", type=Path, help="checkpoint to begin from")
    add("--test-tasks", type=int, default=1_000)
    add("--threads", type=int, default=1)
    add("--name", help="of the result and checkpoint files")


def build(model: str, ways: int) -> nn.Module:
    """Make the paper's CNN, or its network without convolutions."""
    if model == "cnn":
        return CNN(ways)
    return MLP(28 * 28, (256, 128, 64, 64), ways, norm=True)


def accuracies(
    net: nn.Module,
    params: Params,
    tasks: Tasks,
    *,
    lr: float | Params,
    steps: int,
    one_by_one: bool = False,
) -> Tensor:
    """Judge adapted models, on all queries at once or on one at a time.

    Args:
        net: the architecture.
        params: θ.
        tasks: stacked.
        lr: as in `adapt`.
        steps: inner steps.
        one_by_one: judge after the last step only, each query in a batch of
            the support set and itself, so that no other query helps (not
            transductive).

    Returns:
        in [0, 1], shape (tasks, steps + 1), or (tasks,) if `one_by_one`.
    """
    loss_fn = functional_loss(net, F.cross_entropy)

    def judge_singly(support, query):
        def right(x, y):
            batch = torch.cat([support.x, x.unsqueeze(0)])
            logits = functional_call(net, adapted, (batch,))
            return (logits[-1].argmax() == y).float()

        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        return vmap(right)(*query).mean()

    parts = []
    for i in range(0, len(tasks.support.y), CHUNK):
        chunk = Tasks(
            *(Batch(*(t[i : i + CHUNK] for t in part)) for part in tasks)
        )
        if one_by_one:
            with torch.no_grad():
                parts.append(map_tasks(judge_singly, chunk))
        else:
            metric = functional_accuracy(net)
            parts.append(
                adaptation_curve(
                    params, loss_fn, metric, chunk, lr=lr, steps=steps
                )
            )
    return torch.cat(parts)


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
    key = (args.model, args.ways, args.shots)
    known = COMMON | {"shared": SHARED[args.model]} | DEFAULTS.get(key, {})
    given = {k: v for k, v in vars(args).items() if v is not None}
    infix = "mlp_" if args.model == "mlp" else ""
    name = f"omniglot_{infix}{args.ways}way_{args.shots}shot"
    return Namespace(**({"name": name, "start": None} | known | given))


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
    whole = net if args.fixed_rates else learner
    before = begin_from(args.start, whole, args.ways) if args.start else None

    def parts(params):
        if args.fixed_rates:
            return params, args.inner_lr
        return learner.split(params)

    validation = draw("val", args, 2_000 // (args.ways * args.shots))

    def validate(params):
        weights, lr = parts(params)
        found = accuracies(net, weights, validation, lr=lr, steps=args.steps)
        percent = 100 * found[:, -1].mean().item()
        print(f"validation: {percent:.2f} %", flush=True)
        return percent

    sample = Episodes(load_omniglot("train"), args.ways).sample
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
        schedule=cosine(args.iterations),
        validate=validate,
        checkpoint=BUILD / "reproduce" / f"{args.name}.pt",
    )
    weights, lr = parts(history.params)
    return net, weights, lr, {"history": history, "before": before}


def run(args: Namespace) -> None:
    """Train, choose the inner steps, test; write the result and weights."""
    args = complete(args)
    torch.set_num_threads(args.threads)
    net, weights, lr, record = train(args)
    history, before = record["history"], record["before"]
    seconds = history.seconds
    seconds += before["trained_seconds"] if before else 0.0
    judge = partial(accuracies, net, weights, lr=lr)
    by_steps = 100 * judge(
        draw("val", args, 2_000 // args.ways), steps=MOST_STEPS
    ).mean(0)
    # The fewest steps among those that are equally good.
    chosen = max(
        range(args.steps, MOST_STEPS + 1),
        key=lambda step: round(by_steps[step].item(), 1),
    )
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
    settings = {
        k: v
        for k, v in vars(args).items()
        if k not in ("command", "experiment", "start") and not callable(v)
    }
    settings |= {
        "test_steps": chosen,
        "rates": rates,
        "validation_by_steps": [round(v, 2) for v in by_steps.tolist()],
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
