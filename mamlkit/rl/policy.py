"""Policies: which action to take where, and what comes of it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from mamlkit import calling
from mamlkit.calling import functional_call
from mamlkit.inner import Params
from mamlkit.rl.navigation import navigate


class GaussianPolicy(nn.Module):
    """Actions from a normal distribution around a ReLU network's output.

    The log standard deviation is a parameter too, the same in every state.
    Weights are Xavier-uniform, biases and the log standard deviations 0, as
    in the authors' code.

    Args:
        states: numbers in an observation.
        hidden: widths of the hidden layers.
        actions: numbers in an action.
    """

    def __init__(
        self,
        states: int = 2,
        hidden: tuple[int, ...] = (100, 100),
        actions: int = 2,
    ):
        super().__init__()
        layers = []
        for width in (*hidden, actions):
            layers += [nn.Linear(states, width), nn.ReLU()]
            nn.init.xavier_uniform_(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
            states = width
        self.mean = nn.Sequential(*layers[:-1])
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Map states (..., states) to means (..., actions) and log std."""
        return self.mean(states), self.log_std


def log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Log density of actions, summed over their dimensions.

    Args:
        mean: shape (..., actions).
        log_std: shape (actions,), or what broadcasts.
        actions: shape (..., actions).

    Returns:
        shape (...,).
    """
    deviation = (actions - mean) / log_std.exp()
    terms = deviation**2 / 2 + log_std + math.log(2 * math.pi) / 2
    return -terms.sum(-1)


def kl_divergence(
    mean: Tensor, log_std: Tensor, new_mean: Tensor, new_log_std: Tensor
) -> Tensor:
    """KL(old || new) of two normal distributions with diagonal covariance.

    Args:
        mean: of the old distribution, shape (..., actions).
        log_std: of the old one, shape (actions,), or what broadcasts.
        new_mean: of the new distribution.
        new_log_std: of the new one.

    Returns:
        shape (...,), in nats.
    """
    gap = (new_mean - mean) / new_log_std.exp()
    wider = new_log_std - log_std
    return (wider + (torch.exp(-2 * wider) + gap**2 - 1) / 2).sum(-1)


class Rollouts(NamedTuple):
    """What happened in each task's episodes, until each one's end.

    Attributes:
        states: before the action, shape (tasks, rollouts, horizon, states).
        actions: shape (tasks, rollouts, horizon, actions).
        rewards: shape (tasks, rollouts, horizon); 0 after an episode's end.
        alive: 1.0 until an episode's last step, then 0.0; shape likewise.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor


def repeat(params: Params, n_tasks: int) -> Params:
    """Give every task the same parameters: a new leading axis."""
    return {k: p.expand(n_tasks, *p.shape) for k, p in params.items()}


@torch.no_grad()
def roll_out(
    params: Params,
    policy: nn.Module,
    goals: Tensor,
    *,
    rollouts: int,
    generator: torch.Generator,
    horizon: int = 100,
    step: Callable = navigate,
) -> Rollouts:
    """Let each task's policy act from the origin, several times.

    Args:
        params: one set of parameters a task, leaves (tasks, *shape); see
            `repeat`.
        policy: states -> (mean, log_std); its parameter `log_std` has one
            number for each component of an action.
        goals: shape (tasks, 2).
        rollouts: episodes a task.
        generator: draws the actions' noise, on its own device.
        horizon: time steps after which an episode ends at the latest.
        step: `(position, action, goal)` -> (position, reward, done).

    Raises:
        ValueError: a count is below 1, or `goals` has another shape.
    """
    _check_rollout(params, goals, rollouts, horizon)
    places = calling.places(policy)
    act = vmap(
        lambda p, states: functional_call(policy, p, (states,), places=places)
    )
    size = (horizon, len(goals), rollouts, params["log_std"].shape[-1])
    position, goals = goals.new_zeros(*size[1:3], 2), goals[:, None]
    alive = position[..., 0] + 1
    seen = []
    for noise in _moved(
        torch.randn(
            size,
            generator=generator,
            dtype=goals.dtype,
            device=generator.device,
        ),
        goals.device,
    ):
        mean, log_std = act(params, position)
        action = mean + log_std.exp()[:, None] * noise
        after, reward, done = step(position, action, goals)
        seen.append((position, action, reward * alive, alive))
        position, alive = after, alive * ~done
    return Rollouts(*(torch.stack(parts, dim=2) for parts in zip(*seen)))


def total_return(rollouts: Rollouts) -> Tensor:
    """Sum of rewards without discount, mean over rollouts; (tasks,)."""
    return rollouts.rewards.sum(-1).mean(-1)


def _moved(noise: Tensor, device: torch.device) -> Tensor:
    """Bring what was drawn on the generator's device to another."""
    return noise.to(device)


def _check_rollout(params, goals, rollouts, horizon) -> None:
    for name, count in (("rollouts", rollouts), ("horizon", horizon)):
        if count < 1:
            raise ValueError(f"{name} must be >= 1, got {count}")
    if goals.dim() != 2 or goals.shape[1] != 2:
        shape = tuple(goals.shape)
        raise ValueError(f"goals must have shape (tasks, 2), got {shape}")
    for name, value in params.items():
        if value.shape[:1] != goals.shape[:1]:
            raise ValueError(
                f"{name} must have {len(goals)} rows, one a task, got shape "
                f"{tuple(value.shape)}: repeat(params, n_tasks) makes them"
            )
