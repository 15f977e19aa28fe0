"""Evaluation: how good are adapted models, step by step, over many tasks?

`adaptation_curve` keeps no graph: adapting needs gradients, judging does not.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from mamlkit import calling, checks
from mamlkit.calling import functional_call
from mamlkit.inner import LossFn, Params, Rates, adapt, of_part, path
from mamlkit.rates import PER_STEP
from mamlkit.rules import Rule
from mamlkit.tasks import Batch, OverTasks, Tasks, map_tasks, to_device

Metric = Callable[[Params, Batch], Tensor]


@torch.no_grad()
def adaptation_curve(
    params: Params,
    loss_fn: LossFn,
    metric: Metric,
    tasks: Tasks,
    *,
    lr: Rates,
    steps: int,
    over_tasks: OverTasks = "vmap",
    adapted: Sequence[str] | None = None,
    rule: Rule | None = None,
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
        adapted: names of the parameters that the inner steps change, as in
            `anil_loss`; None: all.
        rule: as in `adapt`.

    Returns:
        shape (tasks, steps + 1), without a graph.

    Raises:
        ValueError: as in `meta_loss`.
    """
    checks.tasks(tasks, over_tasks)
    if adapted is not None:
        params, (loss_fn, metric) = of_part(params, adapted, loss_fn, metric)
    checks.steps_and_lr(params, lr, steps)
    tasks = to_device(tasks, next(iter(params.values())).device)

    def curve(support, query):
        if rule is not None or isinstance(lr, PER_STEP):
            way = path(params, loss_fn, support, lr, steps, False, rule)
            return torch.stack([metric(theta, query) for theta in way])
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

    Raises:
        ValueError: from the metric, labels not of shape (examples,), or
            parameters that the model does not have.
    """
    needs = checks.needs(model)
    places = calling.places(model)

    def accuracy(params, batch):
        checks.call(needs, params, batch.x)
        logits = functional_call(model, params, (batch.x,), places=places)
        checks.labels(logits, batch.y)
        return (logits.argmax(-1) == batch.y).float().mean()

    return accuracy


def mean_interval(
    values: Tensor, groups: Sequence | Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Average over tasks, and the half-width of its 95 % interval.

    The interval covers what would change if other tasks were drawn: that the
    mean over all such tasks lies in it is true 19 times in 20, with some
    thirty tasks or more; of fewer, `groups=range(n)` asks more. It does not
    cover another training, nor other classes than those that the tasks were
    cut from.

    Args:
        values: shape (tasks, ...), one independent task a row.
        groups: where rows are not independent, which task (or subject, or
            class) each is of: many draws from a few tasks are a few tasks.

    Returns:
        mean and 1.96 standard errors, each of shape (...). With `groups`,
        each group counts once, and few of them have a wider interval
        (Student's t).

    Raises:
        ValueError: fewer than two tasks or groups, or numbers in no tensor.

    Examples:
        >>> mean, half = mean_interval(torch.tensor([1.0, 3.0]))
        >>> mean.item(), round(half.item(), 2)
        (2.0, 1.96)
        >>> twice = torch.tensor([1.0, 1.0, 3.0, 3.0])
        >>> mean, half = mean_interval(twice, groups=["a", "a", "b", "b"])
        >>> mean.item(), round(half.item(), 2)
        (2.0, 12.71)
    """
    checks.tensor(values)
    if groups is not None:
        return _grouped_interval(values, groups)
    if len(values) < 2:
        raise ValueError(f"an interval needs 2 tasks, got {len(values)}")
    error = values.std(dim=0) / math.sqrt(len(values))
    return values.mean(dim=0), 1.96 * error


def _grouped_interval(values: Tensor, groups) -> tuple[Tensor, Tensor]:
    labels = groups.tolist() if hasattr(groups, "tolist") else [*groups]
    if len(labels) != len(values):
        raise ValueError(
            f"groups must name one for each of {len(values)} values, got "
            f"{len(labels)}"
        )
    rows: dict = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    if len(rows) < 2:
        raise ValueError(f"an interval needs 2 groups, got {len(rows)}")
    means = torch.stack([values[of].mean(dim=0) for of in rows.values()])
    error = means.std(dim=0) / math.sqrt(len(means))
    return means.mean(dim=0), _student(len(means) - 1) * error


def _student(freedom: int) -> float:
    """97.5 % quantile of Student's t, to 0.2 %."""
    few = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
    z, n = 1.959964, freedom
    # Abramowitz and Stegun 26.7.5.
    return few.get(n) or (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def slope_error(
    objective: Callable[[Params], Tensor],
    params: Params,
    gradient: Params,
    *,
    eps: float = 1e-5,
    directions: int = 20,
) -> float:
    """Compare a gradient with central differences along random directions.

    In float64 a right gradient differs by less than 1e-5 where the objective
    is smooth; float32 rounds too much for this `eps`. A direction shows only
    about 1/√P of an error in P numbers, so of a large model even 1e-5 may hide
    one: ask for the 1e-9 that right gradients reach.

    Args:
        objective: params -> scalar, the same at every call.
        params: where to compare.
        gradient: what is doubted, named and shaped as `params`.
        eps: length of a step along a direction of length 1.
        directions: how many are tried, always the same ones.

    Returns:
        the largest difference of slopes, as a share of the gradient's length.
    """
    g, wrong = torch.Generator().manual_seed(0), []
    length = sum((t**2).sum() for t in gradient.values()) ** 0.5
    for _ in range(directions):
        v = {k: torch.randn(p.shape, generator=g) for k, p in params.items()}
        norm = sum((t**2).sum() for t in v.values()) ** 0.5
        v = {k: t.to(params[k]) / norm for k, t in v.items()}
        up = objective({k: p + eps * v[k] for k, p in params.items()})
        down = objective({k: p - eps * v[k] for k, p in params.items()})
        slope = sum((gradient[k] * v[k]).sum() for k in v)
        wrong.append((slope - (up - down) / (2 * eps)).abs() / length)
    return torch.stack(wrong).max().item()  # Python's max() would lose NaN


def one_by_one(
    model: nn.Module, params: Params, support_x: Tensor, x: Tensor
) -> Tensor:
    """Classify examples that do not see each other: not transductively.

    Each is put beside the support set, so that batch normalisation meets
    what the task's parameters were adapted on, and one example more.

    Args:
        model: a classifier.
        params: θ′, adapted to the support set.
        support_x: shape (support examples, *features).
        x: shape (examples, *features), any number of them.

    Returns:
        logits, shape (examples, n_way).

    Raises:
        ValueError: x and `support_x` differ in more than their number.
    """
    checks.fit(checks.needs(model), params)
    checks.beside(support_x, x)
    places = calling.places(model)

    def beside_support(one):
        batch = torch.cat([support_x, one.unsqueeze(0)])
        return functional_call(model, params, (batch,), places=places)[-1]

    return vmap(beside_support)(x)
