"""Training on Omniglot, by any method, resumably."""

import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.models import CNN, MLP
from mamlkit.outer import History, cosine, meta_train
from mamlkit.paths import BUILD
from mamlkit.reproduce import reptile
from mamlkit.reproduce.jitter import jittered
from mamlkit.reproduce.judge import Walk, accuracies
from mamlkit.reproduce.learned_rates import LearnedRates
from mamlkit.reproduce.methods import objective, walk_of
from mamlkit.tasks import Tasks

PROBE = 10  # iterations whose processor time is measured


def build(model: str, ways: int, width: int = 64) -> nn.Module:
    """Make the paper's CNN, or its network without convolutions."""
    if model == "cnn":
        return CNN(ways, width=width)
    return MLP(28 * 28, (256, 128, 64, 64), ways, norm=True)


def draw(split: str, args: Namespace, n_tasks: int) -> Tasks:
    """Draw tasks with K queries a class, always the same ones."""
    return Episodes(load_omniglot(split), args.ways, rotations=True).sample(
        n_tasks,
        k_shot=args.shots,
        k_query=args.shots,
        generator=torch.Generator().manual_seed(1_000_001),
    )


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


def checkpoint_of(args: Namespace) -> Path:
    """Name the file that a training goes on from."""
    return BUILD / "reproduce" / f"{args.name}.pt"


def train(
    args: Namespace, *, judged: bool = True
) -> tuple[nn.Module, dict, History]:
    """Train by `args.method`, resumably.

    Args:
        args: as `omniglot.complete` fills them in.
        judged: keep a checkpoint on the way and judge on validation tasks;
            without, only the time is of interest.

    Returns:
        the architecture; "params" and "inner_lr", and in "before" what is
        known of the training that this one went on from; the history.
    """
    if args.method == "reptile":
        return train_reptile(args, judged=judged)
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways, args.width)
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
        return validation(net, walk, args)

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
        schedule=cosine(args.iterations) if args.anneal else None,
        validate=validate if judged and not args.refit else None,
        checkpoint=checkpoint_of(args) if judged else None,
    )  # fmt: skip
    state = parts(history.params) | {"before": before}
    state["params"] = {k: v.contiguous() for k, v in state["params"].items()}
    return net, state, history


def train_reptile(
    args: Namespace, *, judged: bool
) -> tuple[nn.Module, dict, History]:
    """Train with Reptile; return as `train` does, with "squares" besides."""
    torch.manual_seed(args.seed)
    net = build(args.model, args.ways, args.width)
    net.to(memory_format=torch.channels_last)

    def parts(params, squares):
        return {"params": params, "squares": squares,
                "inner_lr": args.inner_lr}  # fmt: skip

    def validate(params, squares):
        walk = walk_of("reptile", net, parts(params, squares), args)
        return validation(net, walk, args)

    history, squares = reptile.train(
        net,
        partial(training_tasks(args), k_shot=args.train_shots - 1, k_query=1),
        args,
        validate=validate if judged else None,
        checkpoint=checkpoint_of(args) if judged else None,
    )
    # Half as many bits do for the moments; judged is what is kept.
    squares = {
        k: v.contiguous().bfloat16().float() for k, v in squares.items()
    }
    weights = {k: v.contiguous() for k, v in history.params.items()}
    return net, parts(weights, squares) | {"before": None}, history


def training_tasks(args: Namespace) -> Callable[..., Tasks]:
    """Make the sampler of the characters that training may see."""
    images = load_omniglot("train")
    if args.refit:
        images = torch.cat([images, load_omniglot("val")])
    if args.mirror:
        images = torch.cat([images, images.flip(-1)])
    sample = Episodes(images, args.ways, rotations=True).sample
    return jittered(sample) if args.jitter else sample


def pace(args: Namespace) -> float:
    """Measure the processor seconds of an iteration, others' disregarded.

    The clock's seconds of a training are those of a machine that did other
    work, too. The least of three, as other programs only add.
    """
    times = []
    for _ in range(3):
        spent = []
        for iterations in (1, 1 + PROBE):
            own = Namespace(**vars(args) | {"iterations": iterations})
            begun = time.process_time()
            train(own, judged=False)
            spent.append(time.process_time() - begun)
        times.append((spent[1] - spent[0]) / PROBE)
    return min(times)


def validation(net: nn.Module, walk: Walk, args: Namespace) -> float:
    """Judge on validation tasks, in percent."""
    steps = args.test_steps or args.steps
    tasks = draw("val", args, args.validation_images // args.ways)
    found = accuracies(net, walk, tasks, steps=steps)
    percent = 100 * found[:, -1].mean().item()
    print(f"validation: {percent:.2f} %", flush=True)
    return percent
