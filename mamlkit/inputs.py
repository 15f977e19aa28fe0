"""x of a batch: one tensor, or several, for a model of several arguments.

Ids and a mask, say, are a tuple, handed over in order, or a dict, handed over
by name. The chapters' models have one input; where `inputs.…` stands in a
function that they show, it stands for its first argument.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def each(fn: Callable[[Any], Any], x: Any) -> Any:
    """Apply `fn` to x, or to each of several inputs."""
    if isinstance(x, Mapping):
        return {name: fn(t) for name, t in x.items()}
    return tuple(map(fn, x)) if isinstance(x, tuple | list) else fn(x)


def tensors(x: Any) -> list[Tensor]:
    """List the inputs; one alone is a list of one."""
    if isinstance(x, Mapping):
        return list(x.values())
    return list(x) if isinstance(x, tuple | list) else [x]


def bare(t: Tensor) -> Tensor:
    """What vmap and grad have wrapped, as it was handed over."""
    while torch._C._functorch.is_functorch_wrapped_tensor(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


def named(x: Any, name: str) -> dict[str, Tensor]:
    """Call one input by its name, and several x[0], x[1] or x['mask']."""
    if isinstance(x, Mapping):
        return {f"{name}[{key!r}]": t for key, t in x.items()}
    if isinstance(x, tuple | list):
        return {f"{name}[{i}]": t for i, t in enumerate(x)}
    return {name: x}


def first(x: Any) -> Tensor:
    """Give one of the inputs, for what is the same in all."""
    return x if isinstance(x, Tensor) else tensors(x)[0]


def arguments(x: Any) -> tuple[tuple, dict[str, Tensor]]:
    """Split into what a model takes by position and what it takes by name."""
    if isinstance(x, Tensor):
        return (x,), {}
    return ((), dict(x)) if isinstance(x, Mapping) else (tuple(x), {})


def rows(batch: Any) -> Any:
    """Return (x, y) that can both be iterated over, task by task."""
    x, y = batch
    if isinstance(x, Tensor):
        return batch
    return [each(lambda t: t[i], x) for i in range(len(y))], y  # noqa: B023


def alike(fn: Callable[[Any], Any]) -> Callable[[Iterable], Any]:
    """Let `fn`, of a list of tensors, take a list of several inputs too."""

    def all_alike(xs):
        xs = tuple(xs)
        if isinstance(xs[0], Tensor):
            return fn(xs)
        if isinstance(xs[0], Mapping):
            return {name: fn([x[name] for x in xs]) for name in xs[0]}
        return tuple(map(fn, zip(*xs)))

    return all_alike


class _Several:
    """Several inputs, to be cut all alike."""

    def __init__(self, x: Any):
        self.x = x

    def __getitem__(self, at: Any) -> Any:
        return each(lambda t: t[at], self.x)


def cuttable(batch: Any) -> list:
    """List x and y so that `[first:last]` cuts every tensor in them."""
    x, y = batch
    return [x if isinstance(x, Tensor) else _Several(x), y]
