"""MAML++'s multi-step loss: judge the query set after every inner step.

It can be the `objective` of `meta_train`, given its `weights`.
"""

from collections.abc import Sequence

from torch import Tensor

from mamlkit.checks import _check_step_weights, _check_tasks
from mamlkit.inner import LossFn, Params, adapt
from mamlkit.outer import map_tasks
from mamlkit.tasks import Tasks


def multi_step_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    weights: Sequence[float] | Tensor,
    lr: float | Params | Sequence[float | Params],
    steps: int,
    first_order: bool = False,
    over_tasks: str = "vmap",
) -> Tensor:
    """Adapt as `meta_loss` does; sum the query losses along the way.

    Σⱼ vⱼ L(θⱼ; query), averaged over tasks, θⱼ after j steps (Antoniou,
    Edwards and Storkey 2019, Sec. 4).

    Args:
        params: θ, the shared starting point.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked tasks.
        weights: v₁, v₂, ..., one a step; (0, ..., 0, 1) is `meta_loss`.
        lr: α, as in `adapt`, or a list or tuple of these, one a step.
        steps: inner steps.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".

    Returns:
        scalar, differentiable in `params` and in rates that are tensors.

    Raises:
        ValueError: as in `meta_loss`, or there is not one weight, or one
            rate in the list, for each step.
    """
    _check_tasks(loss_fn, tasks, over_tasks)
    _check_step_weights(weights, lr, steps)
    rates = lr if isinstance(lr, list | tuple) else [lr] * steps

    def task_loss(support, query):
        adapted, total = params, 0.0
        for rate, weight in zip(rates, weights):
            adapted = adapt(
                adapted, loss_fn, support, lr=rate, first_order=first_order
            )
            total = total + weight * loss_fn(adapted, query)
        return total

    return map_tasks(task_loss, tasks, over_tasks).mean()
