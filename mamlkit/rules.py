"""Inner steps that are not plain gradient descent: momentum and Adam.

A rule turns gradients into the direction that `adapt` goes, and remembers
what it needs: `rule(grads, state) -> (direction, state)`, the state being
None at first. It writes nothing in place, so that the outer loop can
differentiate through it, and every task begins with a state of its own.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["adam", "momentum"]

Direction = dict[str, Tensor]
Rule = Callable[[Direction, Any], tuple[Direction, Any]]


def momentum(decay: float = 0.9) -> Rule:
    """Make the rule v ← decay · v + ∇L; step along v.

    As torch.optim.SGD(momentum=decay).

    Args:
        decay: share of the last direction that is kept, in [0, 1).

    Raises:
        ValueError: `decay` lies elsewhere.
    """
    _share("decay", decay)

    def rule(grads, velocity):
        if velocity is not None:
            grads = {k: decay * velocity[k] + g for k, g in grads.items()}
        return grads, grads

    return rule


def adam(
    decay: float = 0.9, decay_square: float = 0.999, eps: float = 1e-8
) -> Rule:
    """Make Adam's rule (Kingma and Ba 2015, Algorithm 1).

    A step has about the length `lr` in each parameter, whatever the size of
    the gradient. `eps` stands under the root, where it keeps the derivative
    finite at a gradient of zero; torch.optim.Adam adds it to the root.

    Args:
        decay: β₁, of the mean of gradients, in [0, 1).
        decay_square: β₂, of the mean of their squares, in [0, 1).
        eps: > 0; gradients much smaller than this take shorter steps.

    Raises:
        ValueError: a decay lies elsewhere, or `eps` is not positive.
    """
    _share("decay", decay)
    _share("decay_square", decay_square)
    if not eps > 0:
        raise ValueError(f"eps must be > 0, got {eps}")

    def rule(grads, state):
        zeros = {name: 0 * g for name, g in grads.items()}
        mean, square, done = state or (zeros, zeros, 0)
        done += 1
        mean = {k: _mix(decay, mean[k], g) for k, g in grads.items()}
        square = {
            k: _mix(decay_square, square[k], g * g) for k, g in grads.items()
        }
        # Both means begin at 0 and are too small at first.
        scale = 1 / (1 - decay**done)
        scale_square = 1 / (1 - decay_square**done)
        direction = {
            k: scale * m / (scale_square * square[k] + eps**2).sqrt()
            for k, m in mean.items()
        }
        return direction, (mean, square, done)

    return rule


def _mix(decay: float, old: Tensor, new: Tensor) -> Tensor:
    return decay * old + (1 - decay) * new


def _share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
