"""2D navigation: walk to a goal that the observation does not show.

Finn et al. 2017, Sec. 5.3.1. Where the paper and its authors' code disagree
this is the code, which made the published numbers: the reward is minus the
distance (the paper: its square), and an episode ends in a box around the goal
(the paper: in a disc). Everything is a tensor operation over any number of
walkers at once.
"""

import numpy as np
import torch
from torch import Tensor

from mamlkit.tasks import uniform

SPEED = 0.1  # distance along one axis for an action of 1
REACH = 0.01  # half the width of the box that counts as the goal


def navigate(
    position: Tensor, action: Tensor, goal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one time step.

    Args:
        position: shape (..., 2).
        action: shape (..., 2); ±1 is the greatest speed, 0.1, along an axis,
            and what lies beyond is clipped.
        goal: shape (..., 2), or what broadcasts to it.

    Returns:
        the new position (..., 2); the reward (...,), minus its distance from
        the goal; and whether it is within 0.01 of the goal on both axes.
    """
    position = position + SPEED * action.clamp(-1, 1)
    away = position - goal
    done = (away.abs() < REACH).all(-1)
    return position, -away.norm(dim=-1), done


def sample_goals(n_tasks: int, *, generator: torch.Generator) -> Tensor:
    """Draw goals from the square [-0.5, 0.5)², shape (n_tasks, 2).

    Raises:
        ValueError: `n_tasks` is below 1.
    """
    if n_tasks < 1:
        raise ValueError(f"n_tasks must be >= 1, got {n_tasks}")
    return uniform(-0.5, 0.5, (n_tasks, 2), generator)


def the_40_goals() -> Tensor:
    """Make the goals of the paper's Table 4, shape (40, 2).

    Standing still scores -40.08 on them over 100 time steps.
    """
    goals = np.random.RandomState(1).uniform(-0.5, 0.5, size=(40, 2))
    return torch.tensor(goals, dtype=torch.float32)
