"""Inner rates that are learned: tensors that require grad, beside the weights.

Meta-SGD (Li et al. 2017, arXiv:1707.09835) meta-trains one rate for each
weight together with the weights. Rates are one number, a dict of tensors, or
a list of these, one a step; those that require grad are learned.
"""

from typing import Any

from torch import Tensor, nn

LEARNED = "inner_lr"  # begins the names under which they are trained
PER_STEP = list | tuple | nn.ParameterList  # of rates, one a step


def learned(lr: Any, name: str = LEARNED) -> dict[str, Tensor]:
    """Find the rates that are to be learned.

    Args:
        lr: number, tensor, dict of these, or list of all that.
        name: what to call `lr`.

    Returns:
        name -> tensor, as inner_lr['0.weight'] or inner_lr[1].

    Raises:
        ValueError: a tensor was computed from another, and cannot be moved.
    """
    if isinstance(lr, Tensor):
        if lr.requires_grad and not lr.is_leaf:
            raise ValueError(
                f"{name} was computed from other tensors and cannot be "
                "learned: pass what is to be learned, or detach it"
            )
        return {name: lr} if lr.requires_grad else {}
    found: dict[str, Tensor] = {}
    for key, value in _items(lr):
        found |= learned(value, f"{name}[{key!r}]")
    return found


def filled(lr: Any, values: dict[str, Any], name: str = LEARNED) -> Any:
    """Put values in the place of learned rates, and detach the others."""
    if isinstance(lr, Tensor):
        return values.get(name, lr.detach())
    if isinstance(lr, dict):
        return {
            key: filled(value, values, f"{name}[{key!r}]")
            for key, value in _items(lr)
        }
    if isinstance(lr, PER_STEP):
        return [
            filled(value, values, f"{name}[{key!r}]")
            for key, value in _items(lr)
        ]
    return lr


def _items(lr: Any) -> list[tuple]:
    if isinstance(lr, dict):
        return list(lr.items())
    if isinstance(lr, PER_STEP):
        return list(enumerate(lr))
    return []
