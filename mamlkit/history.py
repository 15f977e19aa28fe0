"""What happened during a training, and where it stands."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mamlkit.inner import Params


class Best(NamedTuple):
    """The starting point that `validate` liked best.

    Attributes:
        iteration: iterations done.
        value: what `validate` returned.
        params: a copy of the weights, name -> tensor.
    """

    iteration: int
    value: float
    params: Params


@dataclass
class History:
    """What happened during `meta_train`.

    Attributes:
        loss: the meta-loss at each iteration, on that iteration's new tasks.
        params: the starting point that was left in the model, name -> tensor;
            in a callback, a copy of the weights so far.
        validation: (iterations done, what `validate` returned) pairs.
        seconds: of the clock, validation and callbacks included, summed over
            runs if it was resumed.
        best: where `validate` was best; None without it.
        start: the weights before training, to compare with.
        inner_lr: α as it was given or learned, to adapt with.
    """

    loss: list[float] = field(default_factory=list)
    params: Params = field(default_factory=dict)
    validation: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    best: Best | None = None
    start: Params = field(default_factory=dict)
    inner_lr: Any = None


@dataclass
class Run:
    """A training at some iteration.

    Attributes:
        params: weights, and inner rates that are learned; moved in place.
        optimizer: of all of these.
        lrs: its learning rate for each of its groups, before a schedule.
        generator: draws the tasks.
        history: so far.
        best: of `params`, a copy from where `validate` was best, or empty.
        done: iterations.
        states: of all generators after `done` iterations.
    """

    params: Params
    optimizer: torch.optim.Optimizer
    lrs: list[float]
    generator: torch.Generator
    history: History
    best: Params = field(default_factory=dict)
    done: int = 0
    states: dict[str, Tensor] = field(default_factory=dict)


def copied(params: Params) -> Params:
    """Copy tensors, without their graph."""
    return {name: p.detach().clone() for name, p in params.items()}


def laid_out(t: Tensor, like: Tensor) -> Tensor:
    """Give `t` the memory order of `like`, which fused optimizers go by."""
    if t.stride() == like.stride():
        return t
    return torch.empty_like(like, dtype=t.dtype).copy_(t)


def mark(run: Run, done: int) -> None:
    """Note how far a run is, and where its random numbers stand.

    Dropout draws from torch's own generators, samplers from the run's.
    """
    run.done = done
    run.states = {
        "generator": run.generator.get_state(),
        "torch": torch.get_rng_state(),
    }
    device = next(iter(run.params.values())).device
    if device.type == "cuda":
        run.states["cuda"] = torch.cuda.get_rng_state(device)


def best_of(values: list[float], maximize: bool) -> int | None:
    """Place of the first of the best values; not a number is none."""
    sign = -1 if maximize else 1
    fine = [i for i, value in enumerate(values) if not math.isnan(value)]
    return min(fine, key=lambda i: sign * values[i], default=None)
