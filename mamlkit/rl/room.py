"""A room with four corners, one of which pays: where to start decides.

Walking at random finds the corner that pays, and then everything is known;
the policy that is best on average stays in the middle and learns nothing. A
family on which exploring is worth something only after adapting.
"""

import torch
from torch import Tensor

from mamlkit.rl.navigation import SPEED

HALF = 0.5  # from the middle to a wall
HORIZON = 20  # time steps of a walk


def the_corners() -> Tensor:
    """Make the four goals, shape (4, 2)."""
    return HALF * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])


def near(position: Tensor, corner: Tensor) -> Tensor:
    """1 in a corner, falling to 0 at distance 0.5; shape (...,)."""
    return (1 - 2 * (position - corner).norm(dim=-1)).clamp(min=0)


def room_step(
    position: Tensor, action: Tensor, goal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one time step between walls: the goal pays, other corners cost.

    Args:
        position: shape (..., 2).
        action: shape (..., 2); ±1 is the greatest speed, 0.1, along an axis.
        goal: the corner that pays, shape (..., 2), or what broadcasts to it.

    Returns:
        the new position (..., 2); the reward (...,), up to 1 in the goal and
        down to -1 in another corner; and False, as no walk is over early.
    """
    position = position + SPEED * action.clamp(-1, 1)
    position = position.clamp(-HALF, HALF)
    pays = near(position, goal)
    corners = the_corners().to(position)
    costs = sum(near(position, corner) for corner in corners) - pays
    return position, pays - costs, pays > 1


def best_return(horizon: int = HORIZON) -> float:
    """Return of the straight walk to the corner: the best possible."""
    straight = torch.arange(1, horizon + 1).clamp(max=round(HALF / SPEED))
    straight = SPEED * straight[:, None] * torch.ones(2)
    return near(straight, the_corners()[0]).sum().item()
