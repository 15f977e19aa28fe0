"""Surrogates: losses whose gradients are those of the expected return.

The expected return cannot be differentiated as it stands: the policy decides
which states are seen at all. A *surrogate* is a function of the log
probabilities of the actions taken, whose gradient has the right expectation.
MAML differentiates twice, and there surrogates with one and the same gradient
differ: see `naive`, `lvc` and `dice`.
"""

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mamlkit import calling
from mamlkit.calling import functional_call
from mamlkit.inner import LossFn
from mamlkit.rl.policy import Rollouts, log_prob

Surrogate = Callable[[Tensor, Tensor], Tensor]
WITHOUT_FLOAT64 = ("mps",)


def returns_to_go(rewards: Tensor, discount: float = 0.99) -> Tensor:
    """G_t = r_t + γ G_{t+1}, along the last axis.

    Examples:
        >>> returns_to_go(torch.tensor([1.0, 2.0, 4.0]), discount=0.5)
        tensor([3., 4., 4.])
    """
    total, found = torch.zeros_like(rewards[..., 0]), []
    for reward in rewards.flip(-1).unbind(-1):
        total = reward + discount * total
        found.append(total)
    return torch.stack(found[::-1], dim=-1)


def _where_float64_is(fit: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let the CPU do what a device without float64 cannot."""

    @wraps(fit)
    def moved(*tensors):
        device = tensors[0].device
        if device.type not in WITHOUT_FLOAT64:
            return fit(*tensors)
        return fit(*(t.cpu() for t in tensors)).to(device)

    return moved


@_where_float64_is
def linear_baseline(states: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
    """Predict returns by least squares on state and time, for each task.

    Features 1, s, s², t, t², t³ with t in hundreds of steps (Duan et al.
    2016), and a ridge of 1e-5. Fitted on the very batch it predicts, as the
    authors' code does.

    Args:
        states: shape (tasks, rollouts, horizon, states).
        returns: shape (tasks, rollouts, horizon).
        alive: likewise; steps with 0 do not count.

    Returns:
        shape (tasks, rollouts, horizon).
    """
    states = states.double().clamp(-10, 10)
    time = torch.arange(states.shape[2], device=states.device) / 100
    time = time.double()[:, None].expand(*states.shape[:3], 1)
    powers = [time**0, time, time**2, time**3]
    features = torch.cat([states, states**2, *powers], dim=-1).flatten(1, 2)
    seen = features * alive.flatten(1, 2)[..., None]
    ridge = 1e-5 * torch.eye(seen.shape[-1], device=seen.device)
    target = seen.mT @ returns.double().flatten(1, 2)[..., None]
    weights = torch.linalg.solve(seen.mT @ seen + ridge, target)
    return (features @ weights).view_as(returns).to(returns.dtype)


class Experience(NamedTuple):
    """What a policy gradient needs of one task's episodes.

    Attributes:
        states: shape (rollouts, horizon, states).
        actions: shape (rollouts, horizon, actions).
        advantages: how much better than expected, (rollouts, horizon).
        alive: 1.0 until an episode's end, then 0.0; shape likewise.
    """

    states: Tensor
    actions: Tensor
    advantages: Tensor
    alive: Tensor


def weigh(rollouts: Rollouts, discount: float = 0.99) -> Experience:
    """Turn rewards into advantages of mean 0 and deviation 1 in each task.

    Args:
        rollouts: stacked over tasks.
        discount: γ.

    Returns:
        Experience stacked over tasks; advantages are 0 after the end.

    Raises:
        ValueError: a reward is not finite.
    """
    states, actions, rewards, alive = rollouts
    _check_finite(rewards)
    returns = returns_to_go(rewards, discount)
    surprise = returns - linear_baseline(states, returns, alive)
    count = alive.sum((1, 2), keepdim=True)
    centred = surprise - (surprise * alive).sum((1, 2), keepdim=True) / count
    spread = (centred**2 * alive).sum((1, 2), keepdim=True) / count
    advantages = alive * centred / (spread.sqrt() + 1e-8)
    return Experience(states, actions, advantages, alive)


def naive(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Take log π(a_t|s_t) A_t: right once; of the Hessian only H2 remains.

    Args:
        log_probs: shape (..., horizon).
        advantages: likewise, held constant.

    Returns:
        terms to be summed, shape (..., horizon).
    """
    return log_probs * advantages


def lvc(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Ratio to itself, times A_t: low variance, Hessian H1 + H2.

    Rothfuss et al. 2019 (arXiv:1810.06784, Sec. 5). Arguments as `naive`.
    """
    return torch.exp(log_probs - log_probs.detach()) * advantages


def dice(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Credit to all earlier actions: every derivative is right.

    Foerster et al. 2018 (arXiv:1802.05098), in the form that takes advantages
    (Farquhar et al. 2019, arXiv:1909.10549). With returns-to-go instead,
    discounted to the episode's start, it has the derivatives of
    Σ_t □(a_0..a_t) γ^t r_t. Its value is 0. Arguments as `naive`.
    """
    through = log_probs.cumsum(-1)
    before = through - log_probs
    box = torch.exp(through - through.detach())
    box_before = torch.exp(before - before.detach())
    return (box - box_before) * advantages


def policy_loss(policy: nn.Module, surrogate: Surrogate) -> LossFn:
    """Make the loss of REINFORCE, to be descended on by `adapt`.

    Args:
        policy: states -> (mean, log_std).
        surrogate: `naive`, `lvc` or `dice`.

    Returns:
        loss_fn(params, experience) -> scalar, minus the mean of the
        surrogate over the time steps of one task's episodes.
    """
    places = calling.places(policy)

    def loss_fn(params, experience):
        states, actions, advantages, alive = experience
        mean, log_std = functional_call(
            policy, params, (states,), places=places
        )
        log_probs = log_prob(mean, log_std, actions)
        terms = surrogate(log_probs, advantages)
        return -(terms * alive).sum() / alive.sum()

    return loss_fn


def _check_finite(rewards: Tensor) -> None:
    if not rewards.isfinite().all():
        raise ValueError(
            "rewards must be finite: look at the environment's step, or at "
            "a policy that has diverged (lower the step sizes)"
        )
