"""2D navigation as a gymnasium environment, for other people's agents.

An optional extra: it needs `gymnasium`, which nothing else here does.
"""

import numpy as np
import torch

from mamlkit.rl.navigation import navigate

try:
    import gymnasium
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "NavigationEnv needs gymnasium: pip install 'mamlkit[rl]'",
        name="gymnasium",
    ) from None


class NavigationEnv(gymnasium.Env):
    """One walk at a time to one goal, with the rules of `navigate`.

    Args:
        goal: where to walk; None draws one from [-0.5, 0.5)² at each reset.
        horizon: time steps after which an episode is truncated.

    Raises:
        ValueError: `horizon` is below 1, or `goal` is not two numbers.
    """

    metadata = {"render_modes": []}

    def __init__(
        self, goal: tuple[float, float] | None = None, horizon: int = 100
    ):
        if horizon < 1:
            raise ValueError(f"horizon must be >= 1, got {horizon}")
        if goal is not None and np.shape(goal) != (2,):
            raise ValueError(f"goal must be two numbers, got {goal}")
        self.fixed, self.horizon = goal, horizon
        reach = 0.1 * horizon
        box = gymnasium.spaces.Box
        self.observation_space = box(-reach, reach, (2,), np.float64)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Go back to the origin; return (observation, info)."""
        super().reset(seed=seed)
        drawn = self.np_random.uniform(-0.5, 0.5, 2)
        goal = drawn if self.fixed is None else self.fixed
        self.goal = torch.as_tensor(np.asarray(goal, dtype=np.float64))
        self.position = torch.zeros(2, dtype=torch.float64)
        self.elapsed = 0
        return self.position.numpy().copy(), {"goal": self.goal.numpy()}

    def step(self, action: np.ndarray):
        """Move; return observation, reward, terminated, truncated, info."""
        push = torch.as_tensor(np.asarray(action, dtype=np.float64))
        self.position, reward, done = navigate(self.position, push, self.goal)
        self.elapsed += 1
        truncated = self.elapsed >= self.horizon
        observation = self.position.numpy().copy()
        return observation, reward.item(), bool(done), truncated, {}
