"""Tasks: small sets of examples, drawn from a family of related tasks.

A task is split in two: the *support* set, on which a model is adapted, and
the *query* set, on which the adapted model is judged. A batch of tasks is
stacked on a leading axis, so that `torch.func.vmap` can map over it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from mamlkit import checks, inputs

OverTasks = Literal["vmap", "loop"]


class Batch(NamedTuple):
    """Examples of one task.

    Attributes:
        x: inputs, shape (examples, *features); several of them are a tuple
            or dict, which the model gets as arguments.
        y: targets, shape (examples, *targets).
    """

    x: Tensor
    y: Tensor


class Tasks(NamedTuple):
    """Tasks stacked on a leading axis.

    Attributes:
        support: what each task is learned from, x of shape
            (tasks, examples, *features).
        query: what the adapted model is judged on, stacked likewise.
    """

    support: Batch
    query: Batch


def map_tasks(
    fn: Callable[[Batch, Batch], Tensor],
    tasks: Tasks,
    over_tasks: OverTasks = "vmap",
) -> Tensor:
    """Apply `fn(support, query)` to every task and stack what it returns.

    Args:
        fn: written for one task; support.x of shape (examples, *features).
        tasks: stacked on a leading axis.
        over_tasks: "vmap" runs all tasks as one batched computation; "loop"
            takes one after the other, for models that vmap cannot batch.

    Returns:
        shape (tasks, *shape of fn's result).
    """
    if over_tasks == "vmap":
        return vmap(fn, randomness="different")(tasks.support, tasks.query)
    pairs = zip(
        zip(*inputs.rows(tasks.support)), zip(*inputs.rows(tasks.query))
    )
    return torch.stack([fn(Batch(*s), Batch(*q)) for s, q in pairs])


@torch.no_grad()
def in_chunks(
    judge: Callable[[Tasks], Tensor], tasks: Tasks, size: int = 25
) -> Tensor:
    """Judge a few tasks at a time, which saves memory; keep no graph.

    Args:
        judge: tasks -> (tasks, ...), one row for each.
        tasks: any number of them.
        size: tasks in a chunk; the last may have fewer.

    Returns:
        the rows of all chunks, as one tensor.

    Raises:
        ValueError: there are no tasks, or `size` is below 1.
    """
    checks.chunks(tasks, size)
    parts = []
    for i in range(0, len(tasks.support.y), size):
        parts.append(judge(cut(tasks, i, i + size)))
    return torch.cat(parts)


def to_device(tasks: Tasks, device: torch.device) -> Tasks:
    """Move tasks to where a model's parameters are."""

    def move(t):
        return t.to(device)

    return Tasks(*(Batch(inputs.each(move, b.x), move(b.y)) for b in tasks))


def cut(tasks: Tasks, first: int, last: int) -> Tasks:
    """Take the tasks `first` to `last - 1`."""
    return Tasks(
        *(Batch(*(t[first:last] for t in inputs.cuttable(b))) for b in tasks)
    )


def split(x: Tensor, y: Tensor, k_shot: int) -> Tasks:
    """Make the first `k_shot` examples of each task its support set.

    Args:
        x: shape (tasks, examples, *features).
        y: shape (tasks, examples, *targets).
        k_shot: examples in the support set; the rest are the query set.
    """
    return Tasks(
        Batch(x[:, :k_shot], y[:, :k_shot]),
        Batch(x[:, k_shot:], y[:, k_shot:]),
    )


def uniform(
    low: float, high: float, shape: tuple, generator: torch.Generator
) -> Tensor:
    """Draw from U[low, high) on the generator's device."""
    checks.source(generator)
    unit = torch.rand(shape, generator=generator, device=generator.device)
    return low + (high - low) * unit


@dataclass(frozen=True)
class Sinusoids:
    """Waves y = A sin(x - φ); a task is one wave (Finn et al. 2017, Sec. 5.1).

    The ranges and the sign of φ are those of the authors' code.

    Attributes:
        amplitude: range of A.
        phase: range of φ, in radians.
        x: range of the inputs.
        oracle: append A and φ to every input, which tells a network what it
            would otherwise have to adapt for: x then has 3 features.
    """

    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)
    oracle: bool = False

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw waves, and points on each of them.

        Returns:
            x of shape (n_tasks, k, 1), or 3 with `oracle`; y (n_tasks, k, 1).

        Raises:
            ValueError: a count is below 1.
        """
        checks.counts(n_tasks, k_shot, k_query)
        amplitude = uniform(*self.amplitude, (n_tasks, 1, 1), generator)
        phase = uniform(*self.phase, (n_tasks, 1, 1), generator)
        x = uniform(*self.x, (n_tasks, k_shot + k_query, 1), generator)
        y = amplitude * torch.sin(x - phase)
        if self.oracle:
            told = [t.expand_as(x) for t in (amplitude, phase)]
            x = torch.cat([x, *told], dim=-1)
        return split(x, y, k_shot)


@dataclass(frozen=True)
class Harmonics:
    """Sums of a wave and its overtone: y = a₁ sin(x + b₁) + a₂ sin(2x + b₂).

    After Lacoste et al. 2018 (arXiv:1806.07528, Sec. 5.1), with one base
    frequency and no noise, so that tasks lie on the sinusoids' axes.

    Attributes:
        x: range of the inputs.
    """

    x: tuple[float, float] = (-5.0, 5.0)

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw a₁, a₂ from N(0, 1) and b₁, b₂ from U[0, 2π) for each task.

        Returns:
            x and y of shape (n_tasks, k, 1).

        Raises:
            ValueError: a count is below 1.
        """
        checks.counts(n_tasks, k_shot, k_query)
        checks.source(generator)
        shape = (n_tasks, 1, 2)
        height = torch.randn(
            shape, generator=generator, device=generator.device
        )
        shift = uniform(0, 2 * math.pi, shape, generator)
        x = uniform(*self.x, (n_tasks, k_shot + k_query, 1), generator)
        frequency = torch.tensor([1.0, 2.0], device=generator.device)
        waves = height * torch.sin(frequency * x + shift)
        return split(x, waves.sum(-1, keepdim=True), k_shot)


@dataclass(frozen=True)
class SinusoidsAndLines:
    """Each task is a wave or, as often, a line y = a x + b.

    After Finn et al. 2018 (arXiv:1806.02817, Sec. 5), without noise.

    Attributes:
        sinusoids: the family of the waves, without an oracle.
        coefficient: range of the lines' slope a and intercept b.
    """

    sinusoids: Sinusoids = Sinusoids()
    coefficient: tuple[float, float] = (-3.0, 3.0)

    def __post_init__(self) -> None:
        if self.sinusoids.oracle:
            raise ValueError(
                "a line has no amplitude and phase to tell: the sinusoids "
                "must be without oracle=True"
            )

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw waves, and replace about half of them by lines.

        Returns:
            x and y of shape (n_tasks, k, 1).

        Raises:
            ValueError: a count is below 1.
        """
        support, query = self.sinusoids.sample(
            n_tasks, k_shot=k_shot, k_query=k_query, generator=generator
        )
        shape = (n_tasks, 1, 1)
        slope = uniform(*self.coefficient, shape, generator)
        intercept = uniform(*self.coefficient, shape, generator)
        is_line = uniform(0, 1, shape, generator) < 0.5
        x = torch.cat([support.x, query.x], dim=1)
        y = torch.cat([support.y, query.y], dim=1)
        y = torch.where(is_line, slope * x + intercept, y)
        return split(x, y, k_shot)
