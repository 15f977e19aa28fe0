"""Rows of errors: of several trainings, on the same tasks."""

import math

from torch import Tensor

from mamlkit.evaluate import mean_interval
from mamlkit.reproduce.intervals import bootstrap_interval


def error_row(name: str, errors: Tensor, rival: Tensor, scale: float) -> dict:
    """Summarise the errors of one method.

    Args:
        name: of the row.
        errors: shape (trainings, tasks).
        rival: the transformers', (trainings, the same tasks and perhaps
            more).
        scale: mean square of y.

    Returns:
        mean and interval; "median"; "exploded", the share of tasks with more
        than ten times the mean square of y; "gap" and "gap_interval", of the
        difference to the transformer, task by task; "by_training", the mean
        of each; "gaps", gap and interval over tasks for each training of the
        transformer. The intervals of several trainings are half of what a
        bootstrap over both trainings and tasks spans. What is not finite is
        None.
    """
    errors, rival = errors.double(), rival[:, : errors.shape[1]].double()
    mean, half = _mean_over_both(errors)
    gap, wide = _mean_over_both(errors, rival)
    pairs = [mean_interval(difference) for difference in errors - rival]
    numbers = {
        "value": mean,
        "interval": half,
        "median": errors.median().item(),
        "exploded": (~(errors < 10 * scale)).double().mean().item(),
        "gap": gap,
        "gap_interval": wide,
    }
    row = {k: _significant(v) for k, v in numbers.items()}
    return {
        "name": name,
        "n": errors.shape[1],
        "trainings": len(errors),
        "paper": None,
        **row,
        "by_training": [_significant(v.mean().item()) for v in errors],
        "gaps": [[_significant(v.item()) for v in pair] for pair in pairs],
    }


def _mean_over_both(
    errors: Tensor, rival: Tensor | None = None
) -> tuple[float, float]:
    """Mean, and half-width of its interval over trainings and tasks."""
    if len(errors) == 1 and (rival is None or len(rival) == 1):
        alone = errors[0] if rival is None else errors[0] - rival[0]
        mean, half = mean_interval(alone)
        return mean.item(), half.item()
    mean, low, high = bootstrap_interval(errors, rival)
    return mean, (high - low) / 2


def _significant(number: float) -> float | None:
    """Round to five digits; None for what JSON has no number for."""
    return float(f"{number:.5g}") if math.isfinite(number) else None
