"""Objectives: what the outer loop lowers, MAML's own first.

Each is called as `meta_loss` is and can be the `objective` of `meta_train`,
which follows its gradient. FOMAML needs no function of its own: it is
`meta_loss(..., first_order=True)`. iMAML is in `implicit.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mamlkit import checks, inputs
from mamlkit.inner import LossFn, Params, Rates, adapt
from mamlkit.rules import Rule
from mamlkit.tasks import Batch, OverTasks, Tasks, map_tasks


def meta_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    lr: Rates,
    steps: int = 1,
    first_order: bool = False,
    over_tasks: OverTasks = "vmap",
    rule: Rule | None = None,
) -> Tensor:
    """Adapt to each task from `params`; average the query losses.

    The meta-objective of Finn et al. 2017, Sec. 2.2, with a mean over tasks
    where the paper sums: the gradient keeps its size when their number
    changes.

    Args:
        params: θ, the shared starting point.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked; x of shape (tasks, examples, *features).
        lr: α, as in `adapt`.
        steps: inner steps on each support set.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".
        rule: as in `adapt`.

    Returns:
        scalar, differentiable in `params` through the inner steps.

    Raises:
        ValueError: tasks have no task axis or differ in number, the model
            keeps running statistics, or vmap would get it wrong.
    """
    checks.tasks(tasks, over_tasks)

    def task_loss(support, query):
        adapted = adapt(
            params,
            loss_fn,
            support,
            lr=lr,
            steps=steps,
            first_order=first_order,
            rule=rule,
        )
        return loss_fn(adapted, query)

    return map_tasks(task_loss, tasks, over_tasks).mean()


def multi_step_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    weights: Sequence[float] | Tensor,
    lr: Rates,
    steps: int,
    first_order: bool = False,
    over_tasks: OverTasks = "vmap",
) -> Tensor:
    """Adapt as `meta_loss` does; sum the query losses along the way.

    Σⱼ vⱼ L(θⱼ; query), averaged over tasks, θⱼ after j steps (Antoniou,
    Edwards and Storkey 2019, Sec. 4).

    Args:
        params: θ, the shared starting point.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked tasks.
        weights: v₁, v₂, ..., one a step; (0, ..., 0, 1) is `meta_loss`.
        lr: α, as in `adapt`.
        steps: inner steps.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".

    Returns:
        scalar, differentiable in `params` and in rates that are tensors.

    Raises:
        ValueError: as in `meta_loss`, or there is not one weight, or one
            rate in the list, for each step.
    """
    checks.tasks(tasks, over_tasks)
    checks.step_weights(weights, lr, steps)
    several = isinstance(lr, list | tuple | nn.ParameterList)
    rates = lr if several else [lr] * steps

    def task_loss(support, query):
        adapted, total = params, 0.0
        for rate, weight in zip(rates, weights):
            adapted = adapt(
                adapted, loss_fn, support, lr=rate, first_order=first_order
            )
            total = total + weight * loss_fn(adapted, query)
        return total

    return map_tasks(task_loss, tasks, over_tasks).mean()


def reptile_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    lr: Rates,
    steps: int,
    first_order: bool = True,
    over_tasks: OverTasks = "vmap",
    rule: Rule | None = None,
) -> Tensor:
    """Measure how far the inner steps lead away from `params`.

    Reptile (Nichol et al. 2018, Algorithm 2) moves θ towards the mean of the
    θ′. This is ½ |θ - θ′|², averaged over tasks, with θ′ held constant: its
    gradient is θ - mean θ′, and its value says nothing about the query loss.
    Every step sees all examples; its authors take different ones in each,
    which matters (chapter 06).

    Args:
        params: θ.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked; a task's support and query set are one training set
            here, as Reptile does not tell them apart.
        lr: α, as in `adapt`.
        steps: inner steps; with one, this is joint training scaled by α.
        first_order: makes no difference, as no step is differentiated.
        over_tasks: "vmap" or "loop".
        rule: as in `adapt`.

    Returns:
        scalar, differentiable in `params`.

    Raises:
        ValueError: as in `meta_loss`, or rates are to be learned, of which
            this distance is no judge.
    """
    checks.tasks(tasks, over_tasks)
    checks.frozen(params)
    checks.fixed(lr)
    start = {name: value.detach() for name, value in params.items()}

    def task_loss(support, query):
        examples = Batch(*map(inputs.alike(torch.cat), zip(support, query)))
        adapted = adapt(
            start, loss_fn, examples, lr=lr, steps=steps, rule=rule
        )
        return sum(
            (params[name] - value).square().sum() / 2
            for name, value in adapted.items()
        )

    return map_tasks(task_loss, tasks, over_tasks).mean()


def anil_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    adapted: Sequence[str],
    lr: Rates,
    steps: int = 1,
    first_order: bool = False,
    over_tasks: OverTasks = "vmap",
    rule: Rule | None = None,
) -> Tensor:
    """Compute `meta_loss` with inner steps on the named parameters only.

    "Almost no inner loop" (Raghu et al. 2020): the head is adapted to each
    task, the body is shared; both are meta-trained.

    Args:
        params: θ.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked tasks.
        adapted: names of the parameters that the inner steps change.
        lr: α, as in `adapt`; a dict has the names in `adapted`.
        steps: inner steps on each support set.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".
        rule: as in `adapt`.

    Returns:
        scalar, differentiable in all of `params`.

    Raises:
        ValueError: as in `meta_loss`, or a name is not in `params`.
    """
    checks.tasks(tasks, over_tasks)
    checks.adapted(params, adapted)
    head = {name: params[name] for name in adapted}
    options = {"lr": lr, "steps": steps, "first_order": first_order}

    def head_loss(head, batch):
        return loss_fn(params | head, batch)

    def task_loss(support, query):
        fitted = adapt(head, head_loss, support, rule=rule, **options)
        return head_loss(fitted, query)

    return map_tasks(task_loss, tasks, over_tasks).mean()
