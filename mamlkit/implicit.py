"""iMAML: a meta-gradient that needs no path back through the inner steps.

Where the inner problem is tied to its start and solved, the implicit function
theorem gives the gradient (Rajeswaran et al. 2019, arXiv:1909.04630).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vjp

from mamlkit import checks
from mamlkit.inner import LossFn, Params, Rates, adapt
from mamlkit.tasks import Batch, OverTasks, Tasks, map_tasks


def proximal_loss(
    loss_fn: LossFn, center: Params, *, strength: float
) -> LossFn:
    """Tie a loss to `center`: L(φ) + λ/2 |φ - θ|² (Rajeswaran et al., Eq. 3).

    Args:
        loss_fn: L, `(params, batch)` -> scalar.
        center: θ, where the pull leads.
        strength: λ; 1/λ plays the part of α times the number of steps.

    Returns:
        loss of the same form, for `adapt` and `adaptation_curve`.
    """

    def tied(params, batch):
        pull = sum(
            (value - center[name]).square().sum()
            for name, value in params.items()
        )
        return loss_fn(params, batch) + strength / 2 * pull

    return tied


def conjugate_gradients(
    product: Callable[[Params], Params], target: Params, *, steps: int
) -> Params:
    """Solve A x = b from x = b, given only the product v -> A v.

    Args:
        product: v -> A v, for a symmetric, positive definite A. Along a
            direction where it is not positive, or once nothing is left to
            solve, x stays.
        target: b, name -> tensor.
        steps: products besides the first; 0 returns b, and as many as b has
            entries solve exactly.

    Returns:
        x, with names and shapes of b.
    """

    def dot(a, b):
        return sum((a[name] * b[name]).sum() for name in a)

    def add(a, scale, b):
        return {name: a[name] + scale * b[name] for name in a}

    x = target
    if steps:
        direction = residual = add(target, -1, product(target))
    for _ in range(steps):
        # pyrefly: ignore[unbound-name]  # there are steps
        ahead = product(direction)
        # pyrefly: ignore[unbound-name]
        size, curvature = dot(residual, residual), dot(direction, ahead)
        fine = (curvature > 0) & (size > 0)
        length = torch.where(fine, size / curvature, 0)
        x = add(x, length, direction)
        residual = add(residual, -length, ahead)
        turn = torch.where(fine, dot(residual, residual) / size, 0)
        direction = add(residual, turn, direction)
    return x


def implicit_gradient(
    adapted: Params,
    loss_fn: LossFn,
    support: Batch,
    query: Batch,
    *,
    strength: float,
    cg_steps: int = 5,
) -> Params:
    """Differentiate the query loss where a tied inner problem ends.

    If θ′ minimises L(φ; support) + λ/2 |φ - θ|², then dL(θ′; query)/dθ is
    (I + H/λ)⁻¹ ∇L(θ′; query), H the support loss's Hessian at θ′, whatever
    the path from θ to θ′ was (Rajeswaran et al. 2019, Lemma 1).

    Args:
        adapted: θ′, for one task.
        loss_fn: L without the tie, `(params, batch)` -> scalar.
        support: what θ′ was fitted to.
        query: what θ′ is judged on.
        strength: λ > 0; it must exceed the steepest downward bend of L.
        cg_steps: as in `conjugate_gradients`; 0 returns ∇L(θ′; query).

    Returns:
        gradient with respect to θ, name -> tensor. From PyTorch 2.14 on, a
        model with batch norm needs `torch.no_grad()` around the call.

    Raises:
        ValueError: `strength` is not positive or `cg_steps` negative.
    """
    checks.solver(strength, cg_steps)
    # pyrefly: ignore[bad-unpacking]  # two, as nothing else is returned
    _, hessian_times = vjp(lambda p: grad(loss_fn)(p, support), adapted)

    def product(v):
        bent = hessian_times(v)[0]
        return {name: v[name] + bent[name] / strength for name in v}

    target = grad(loss_fn)(adapted, query)
    return conjugate_gradients(product, target, steps=cg_steps)


def with_gradient(value: Tensor, params: Params, slope: Params) -> Tensor:
    """Give `value` the gradient `slope` with respect to `params`.

    Args:
        value: scalar.
        params: name -> tensor, to be differentiated by.
        slope: name -> tensor, like `params`.

    Returns:
        scalar equal to `value`.
    """
    # What is added is 0, but its slope is not.
    return value + sum(
        ((params[name] - params[name].detach()) * g).sum()
        for name, g in slope.items()
    )


def imaml_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    strength: float,
    lr: Rates,
    steps: int,
    cg_steps: int = 5,
    first_order: bool = False,
    over_tasks: OverTasks = "vmap",
) -> Tensor:
    """Average the query losses; the gradient is the implicit one.

    iMAML (Rajeswaran et al. 2019, Algorithms 1 and 2): the inner steps
    descend on `proximal_loss`, and nothing is differentiated through them.

    Args:
        params: θ.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked tasks.
        strength: λ, as in `proximal_loss`.
        lr: α of the inner steps; α (λ + curvature) must stay below 2.
        steps: inner steps; the gradient is right as far as they arrive.
        cg_steps: as in `implicit_gradient`.
        first_order: take no conjugate gradient steps.
        over_tasks: "vmap" or "loop".

    Returns:
        scalar, the mean query loss after the inner steps. Its gradient is
        the mean implicit gradient; it cannot be differentiated twice.

    Raises:
        ValueError: as in `meta_loss` and `implicit_gradient`.
    """
    checks.tasks(tasks, over_tasks)
    checks.frozen(params)
    start = {name: value.detach() for name, value in params.items()}
    tied = proximal_loss(loss_fn, start, strength=strength)
    solver = {"strength": strength, "cg_steps": cg_steps}
    if first_order:
        solver["cg_steps"] = 0

    def task_loss(support, query):
        adapted = adapt(start, tied, support, lr=lr, steps=steps)
        # Not differentiated again: batch norm has no third derivative.
        with torch.no_grad():
            meta_grad = implicit_gradient(
                adapted, loss_fn, support, query, **solver
            )
        return with_gradient(loss_fn(adapted, query), params, meta_grad)

    return map_tasks(task_loss, tasks, over_tasks).mean()
