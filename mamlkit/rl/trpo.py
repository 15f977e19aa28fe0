"""Trust-region policy optimisation: the longest step that stays close."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vjp, vmap

from mamlkit import calling
from mamlkit.calling import functional_call
from mamlkit.inner import Params, adapt
from mamlkit.rl.policy import (
    Rollouts,
    kl_divergence,
    log_prob,
    repeat,
    roll_out,
)
from mamlkit.rl.surrogate import (
    Experience,
    Surrogate,
    naive,
    policy_loss,
    weigh,
)

Act = Callable[[Params], tuple[Tensor, Tensor]]


def flatten(params: Params) -> Tensor:
    """Join all parameters into one vector."""
    return torch.cat([p.flatten() for p in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """Undo `flatten`, with the names and shapes of `like`."""
    parts = vector.split([p.numel() for p in like.values()])
    return {k: v.view_as(like[k]) for k, v in zip(like, parts)}


def flat_conjugate_gradients(
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
    rounding = torch.finfo(target.dtype).eps ** 2
    for _ in range(iterations):
        if size <= rounding * (target @ target):
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
    (mean, log_std), back = vjp(act, params)[:2]
    # J is the transpose of Jᵀ: both products use the one graph.
    zeros = torch.zeros_like(mean), torch.zeros_like(log_std)
    along = vjp(back, zeros)[1]
    weights = weights[..., None]
    stiffness = weights * torch.exp(-2 * log_std), 2 * weights

    def product(vector):
        (moved,) = along((unflatten(vector, params),))
        force = tuple(
            (k * m.expand_as(mean)).sum_to_size(m.shape)
            for k, m in zip(stiffness, moved)
        )
        return flatten(back(force)[0])

    return product


@torch.no_grad()
def trpo_step(
    params: Params,
    judge: Callable[[Params], tuple[Tensor, Tensor]],
    product: Callable[[Tensor], Tensor],
    *,
    max_kl: float = 0.01,
    iterations: int = 10,
) -> Params:
    """Step along the natural gradient, as far as the KL allows.

    Schulman et al. 2015 (arXiv:1502.05477): solve H x = ∇loss by conjugate
    gradients, take the longest step that the quadratic model allows, or the
    first of 14 shorter ones, each 0.8 of the one before, at which the loss
    falls and the KL is small enough.

    Args:
        params: θ.
        judge: θ -> (loss, KL), two scalars: a loss that is
            importance-weighted, so that it holds away from the old θ too, and
            the mean KL(policy at the old θ || policy at θ).
        product: v -> H v, with the Hessian H of that KL at the old θ.
        max_kl: the limit, in nats.
        iterations: of conjugate gradients.

    Returns:
        the new θ, or the old one when no shorter step would do.

    Raises:
        ValueError: `max_kl` is not above 0.
    """
    _check_max_kl(max_kl)
    slope, (before, _) = grad_and_value(judge, has_aux=True)(params)
    slope = flatten(slope)

    def damped(vector):
        return product(vector) + 1e-5 * vector

    direction = flat_conjugate_gradients(damped, slope, iterations)
    bend = direction @ damped(direction)
    longest = (2 * max_kl / bend.clamp(min=1e-20)).sqrt()
    for attempt in range(15):
        move = unflatten(-longest * 0.8**attempt * direction, params)
        new = {name: p + move[name] for name, p in params.items()}
        loss, kl = judge(new)
        if loss < before and kl <= max_kl:
            return new
    return params


def meta_trpo_step(
    params: Params,
    policy: nn.Module,
    goals: Tensor,
    *,
    lr: float,
    generator: torch.Generator,
    steps: int = 1,
    surrogate: Surrogate = naive,
    rollouts: int = 20,
    told: Params | None = None,
    gather: Callable[[Params], Rollouts] | None = None,
    max_kl: float = 0.01,
) -> tuple[Params, Tensor]:
    """Sample, adapt to each goal, sample again, and move θ.

    Finn et al. 2017, Algorithm 3, with TRPO as the meta-optimiser.

    Args:
        params: θ.
        policy: states -> (mean, log_std).
        goals: one a task, shape (tasks, 2); of another family than
            navigation, whatever has a row a task.
        lr: α.
        generator: draws the actions.
        steps: of the inner loop, on the same rollouts; 0 adapts nothing,
            which is joint training.
        surrogate: of the inner loop.
        rollouts: episodes a task, before and again after adapting.
        told: parameters that each task brings along and that are not
            trained, leaves (tasks, *shape): the goal, for an oracle.
        gather: parameters of each task, leaves (tasks, *shape) -> Rollouts;
            by default 2D navigation to `goals`, `rollouts` times.
        max_kl: the limit of TRPO's step, in nats.

    Returns:
        the new θ, and the mean reward sum after adapting from the old one.
    """
    loss_fn = policy_loss(policy, surrogate)
    places = calling.places(policy)
    gather = gather or partial(
        roll_out,
        policy=policy,
        goals=goals,
        rollouts=rollouts,
        generator=generator,
    )

    def adapted(params, before):
        stacked = repeat(params, len(goals)) | (told or {})
        return vmap(lambda p, b: adapt(p, loss_fn, b, lr=lr, steps=steps))(
            stacked, before
        )

    def distribution(params, states):
        mean, log_std = functional_call(
            policy, params, (states,), places=places
        )
        return mean, log_std.expand(1, 1, -1)

    def actor(before, after):
        return lambda params: vmap(distribution)(
            adapted(params, before), after.states
        )

    before = weigh(gather(repeat(params, len(goals)) | (told or {})))
    start = adapted(params, before)
    seen = gather(start)
    after = weigh(seen)
    act, weights = actor(before, after), _mean_weights(after)
    with torch.no_grad():
        old: tuple[Tensor, Tensor] = vmap(distribution)(start, after.states)
    old_log_probs = log_prob(*old, after.actions)

    def judge(params):
        mean, log_std = act(params)
        ratio = (log_prob(mean, log_std, after.actions) - old_log_probs).exp()
        kl = weights * kl_divergence(*old, mean, log_std)
        return -(weights * ratio * after.advantages).sum(), kl.sum()

    # Every second rollout: this is where the time goes. A tenth of them is
    # faster still, but the policies that came of it were worse.
    few = [Experience(*(t[:, ::2] for t in part)) for part in (before, after)]
    product = fisher_product(params, actor(*few), _mean_weights(few[1]))
    new = trpo_step(params, judge, product, max_kl=max_kl)
    return new, seen.rewards.sum(-1).mean()


def _mean_weights(experience: Experience) -> Tensor:
    """Weights of a mean over tasks of means over living time steps."""
    alive = experience.alive
    return alive / alive.sum((1, 2), keepdim=True) / len(alive)


def _check_max_kl(max_kl: float) -> None:
    if not max_kl > 0:
        raise ValueError(f"max_kl must be > 0, got {max_kl}")
