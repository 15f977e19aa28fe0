"""Evaluation: how good are adapted models, step by step, over many tasks?

Nothing here keeps a graph: adapting needs gradients, judging does not.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mamlkit.checks import _check_tasks
from mamlkit.inner import LossFn, Params, adapt
from mamlkit.outer import map_tasks
from mamlkit.tasks import Batch, Tasks

Metric = Callable[[Params, Batch], Tensor]


@torch.no_grad()
def adaptation_curve(
    params: Params,
    loss_fn: LossFn,
    metric: Metric,
    tasks: Tasks,
    *,
    lr: float | Params,
    steps: int,
    over_tasks: str = "vmap",
) -> Tensor:
    """Judge every task's query set after 0, 1, ..., `steps` inner steps.

    Every task starts again from `params`.

    Args:
        params: θ, the shared starting point.
        loss_fn: what the inner steps descend on.
        metric: `(params, batch)` -> scalar, computed on the query set; may
            be `loss_fn`.
        tasks: stacked tasks.
        lr: as in `adapt`.
        steps: number of inner steps.
        over_tasks: "vmap" or "loop", as in `meta_loss`.

    Returns:
        shape (tasks, steps + 1), without a graph.

    Raises:
        ValueError: as in `meta_loss`.
    """
    _check_tasks(loss_fn, tasks, over_tasks)

    def curve(support, query):
        adapted, values = params, [metric(params, query)]
        for _ in range(steps):
            adapted = adapt(adapted, loss_fn, support, lr=lr)
            values.append(metric(adapted, query))
        return torch.stack(values)

    return map_tasks(curve, tasks, over_tasks)


def functional_accuracy(model: nn.Module) -> Metric:
    """Turn a classifier into a metric: the share of right answers, in [0, 1].

    The logits are computed for the whole batch at once, so a model with
    batch normalisation is judged transductively.
    """

    def accuracy(params, batch):
        logits = functional_call(model, params, (batch.x,))
        return (logits.argmax(-1) == batch.y).float().mean()

    return accuracy


def mean_interval(values: Tensor) -> tuple[Tensor, Tensor]:
    """Average over tasks, and the half-width of its 95 % interval.

    Args:
        values: shape (tasks, ...), one independent task a row.

    Returns:
        mean and 1.96 standard errors, each of shape (...).

    Raises:
        ValueError: fewer than two tasks.

    Examples:
        >>> mean, half = mean_interval(torch.tensor([1.0, 3.0]))
        >>> mean.item(), round(half.item(), 2)
        (2.0, 1.96)
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs 2 tasks, got {len(values)}")
    error = values.std(dim=0) / math.sqrt(len(values))
    return values.mean(dim=0), 1.96 * error
