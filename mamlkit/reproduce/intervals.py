"""Intervals for few trainings, and for trainings and tasks together."""

import math

import torch
from torch import Tensor

from mamlkit.evaluate import mean_interval

# Student's t, two-sided 95 %, by degrees of freedom from 1.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


def student_interval(values: Tensor) -> tuple[float, float]:
    """Average a few trainings, and the half-width of the 95 % interval.

    1.96 standard errors are right for many values; of 3 or 5, the spread
    itself is known so badly that it takes 4.30 or 2.78.

    Args:
        values: one number a training, shape (trainings,), 2 to 21 of them.

    Raises:
        ValueError: too few, or so many that 1.96 will do.

    Examples:
        >>> mean, half = student_interval(torch.tensor([1.0, 2.0, 3.0]))
        >>> mean, round(half, 2)
        (2.0, 2.48)
    """
    n = len(values)
    if not 2 <= n <= len(STUDENT) + 1:
        raise ValueError(
            f"Student's interval is for 2 to {len(STUDENT) + 1} trainings, "
            f"got {n}"
        )
    error = values.double().std().item() / n**0.5
    return values.double().mean().item(), STUDENT[n - 2] * error


def row_of_trainings(name: str, values: Tensor, digits: int = 2) -> dict:
    """Summarise one number per training as a row of a result file.

    Args:
        name: what was measured.
        values: shape (trainings,).
        digits: to which all numbers are rounded.
    """
    mean, half = student_interval(values)
    return {
        "name": name,
        "value": round(mean, digits),
        "interval": round(half, digits),
        "n": len(values),
        "paper": None,
        "seeds": [round(v, digits) for v in values.tolist()],
    }


def row_of_trainings_and_tasks(
    name: str, values: Tensor, digits: int = 4
) -> dict:
    """Summarise few trainings, all judged on the same tasks, as a row.

    The interval covers another training as well as other tasks: Student's
    over the trainings and 1.96 standard errors over the tasks, added in
    quadrature. (Three trainings are too few to be drawn anew, as
    `bootstrap_interval` does: that interval is a third as wide as it should
    be.)

    Args:
        name: what was measured.
        values: shape (trainings, tasks).
        digits: to which all numbers are rounded.
    """
    by_training = values.double().mean(1)
    mean, over_trainings = student_interval(by_training)
    over_tasks = mean_interval(values.double().mean(0))[1].item()
    return {
        "name": name,
        "value": round(mean, digits),
        "interval": round(math.hypot(over_trainings, over_tasks), digits),
        "n": len(values),
        "tasks": values.shape[1],
        "paper": None,
        "seeds": [round(v, digits) for v in by_training.tolist()],
    }


def bootstrap_interval(
    first: Tensor, second: Tensor | None = None, *, draws: int = 5_000
) -> tuple[float, float, float]:
    """Average over trainings and tasks, with a 95 % interval for both.

    Draws trainings and tasks anew, with replacement, many times: the
    interval covers another training as well as other tasks. All trainings
    were judged on the same tasks, and so are all of one draw.

    Args:
        first: shape (trainings, tasks).
        second: if given, shape (other trainings, the same tasks); then it is
            the difference first - second that is averaged.
        draws: how many.

    Returns:
        mean, and the 2.5 % and 97.5 % quantiles of the means drawn. With few
        trainings these are somewhat narrow; five are few.
    """
    generator = torch.Generator().manual_seed(0)

    def weights(n):
        drawn = torch.randint(n, (draws, n), generator=generator)
        counts = torch.zeros(draws, n, dtype=torch.float64)
        ones = torch.ones(draws, n, dtype=torch.float64)
        return counts.scatter_add_(1, drawn, ones) / n

    def means(values, over_tasks):
        by_task = weights(len(values)) @ values.double()
        return (by_task * over_tasks).sum(1)

    over_tasks = weights(first.shape[1])
    found, mean = means(first, over_tasks), first.double().mean()
    if second is not None:
        found = found - means(second, over_tasks)
        mean = mean - second.double().mean()
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = found.quantile(ends).tolist()
    return mean.item(), low, high
