"""Trust-region policy optimisation: the longest step that stays close."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value, jvp, vjp

from mamlkit.inner import Params

Act = Callable[[Params], tuple[Tensor, Tensor]]


def flatten(params: Params) -> Tensor:
    """Join all parameters into one vector."""
    return torch.cat([p.flatten() for p in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """Undo `flatten`, with the names and shapes of `like`."""
    parts = vector.split([p.numel() for p in like.values()])
    return {k: v.view_as(like[k]) for k, v in zip(like, parts)}


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, iterations: int = 10
) -> Tensor:
    """Solve A x = target, knowing A only by its products with vectors.

    Args:
        product: x -> A x, for a symmetric positive definite A.
        target: shape (n,).
        iterations: at most; n of them are exact but for rounding.

    Returns:
        x, shape (n,).
    """
    x, residual = torch.zeros_like(target), target
    direction, size = target, target @ target
    for _ in range(iterations):
        if size <= 1e-10 * (target @ target):
            break
        image = product(direction)
        length = size / (direction @ image)
        x = x + length * direction
        residual = residual - length * image
        size, previous = residual @ residual, size
        direction = residual + size / previous * direction
    return x


def fisher_product(
    params: Params, act: Act, weights: Tensor
) -> Callable[[Tensor], Tensor]:
    """Product with the Hessian of the mean KL(old || new) at new = old.

    For a normal distribution that Hessian is Jᵀ F J, where J is the Jacobian
    of means and log deviations, and F holds 1/σ² for the former and 2 for the
    latter: exact, without a third derivative of the policy.

    Args:
        params: θ.
        act: θ -> (means, log deviations), of the policies after adapting.
        weights: of each state in the mean, shape of the means without their
            last axis.

    Returns:
        product(vector) -> vector, both flat.
    """
    (mean, log_std), back = vjp(act, params)
    weights = weights[..., None]
    stiffness = weights * torch.exp(-2 * log_std), 2 * weights

    def product(vector):
        direction = unflatten(vector, params)
        _, moved = jvp(act, (params,), (direction,))
        force = tuple(
            (k * m.expand_as(mean)).sum_to_size(m.shape)
            for k, m in zip(stiffness, moved)
        )
        return flatten(back(force)[0])

    return product


@torch.no_grad()
def trpo_step(
    params: Params,
    loss: Callable[[Params], Tensor],
    kl: Callable[[Params], Tensor],
    product: Callable[[Tensor], Tensor],
    *,
    max_kl: float = 0.01,
    iterations: int = 10,
) -> Params:
    """Step along the natural gradient, as far as `kl` allows.

    Schulman et al. 2015 (arXiv:1502.05477): solve H x = ∇loss by conjugate
    gradients, go back from the longest step that the quadratic model allows,
    by 0.8 up to 15 times, until the loss falls and the KL is small enough.

    Args:
        params: θ.
        loss: θ -> scalar; importance-weighted, so that it may be judged away
            from θ.
        kl: θ -> scalar, mean KL(policy at the old θ || policy at θ).
        product: v -> H v, with the Hessian H of `kl` at the old θ.
        max_kl: the limit, in nats.
        iterations: of conjugate gradients.

    Returns:
        the new θ, or the old one when no shorter step would do.

    Raises:
        ValueError: `max_kl` is not above 0.
    """
    _check_max_kl(max_kl)
    slope, before = grad_and_value(loss)(params)
    slope = flatten(slope)

    def damped(vector):
        return product(vector) + 1e-5 * vector

    direction = conjugate_gradient(damped, slope, iterations)
    bend = direction @ damped(direction)
    longest = (2 * max_kl / bend.clamp(min=1e-20)).sqrt()
    for attempt in range(15):
        move = unflatten(-longest * 0.8**attempt * direction, params)
        new = {name: p + move[name] for name, p in params.items()}
        if loss(new) < before and kl(new) <= max_kl:
            return new
    return params


def _check_max_kl(max_kl: float) -> None:
    if not max_kl > 0:
        raise ValueError(f"max_kl must be > 0, got {max_kl}")
