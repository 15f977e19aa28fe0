"""How each method is trained, and how its networks adapt to a new task."""

from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.inner import Params, functional_loss
from mamlkit.objectives import anil_loss, meta_loss
from mamlkit.reproduce.imaml import damped_imaml_loss
from mamlkit.reproduce.judge import Walk, descent
from mamlkit.reproduce.reptile import adam_walk


def head_of(names: Iterable[str]) -> tuple[str, ...]:
    """Name the weight and bias of the last layer."""
    return tuple(names)[-2:]


def objective(method: str, net: nn.Module, args: Namespace) -> Callable:
    """Look up what Adam follows in `method`; FOMAML is `meta_loss`, too.

    Args:
        method: "fixed", "fomaml", "anil" or "imaml".
        net: the network, whose head ANIL adapts.
        args: with `strength` and `cg_steps`, for iMAML.
    """
    if method == "anil":
        head = head_of(k for k, _ in net.named_parameters())
        return partial(anil_loss, adapted=head)
    if method == "imaml":
        return partial(
            damped_imaml_loss, strength=args.strength, cg_steps=args.cg_steps
        )
    return meta_loss


def walk_of(
    method: str, net: nn.Module, state: dict[str, Any], args: Namespace
) -> Walk:
    """Make the walk on which a trained network adapts, as it was trained.

    Args:
        method: one of `METHODS`.
        net: the architecture.
        state: "params", "inner_lr" and, for Reptile, "squares".
        args: with `test_batch`, for Reptile.
    """
    loss_fn = functional_loss(net, F.cross_entropy)
    params, lr = state["params"], state["inner_lr"]
    if method == "reptile":
        return adam_walk(
            loss_fn, params, state["squares"], lr=lr, batch=args.test_batch
        )
    if method == "anil":
        lr = head_only(params, lr)
    return descent(loss_fn, params, lr)


def head_only(params: Params, lr: float) -> dict[str, Tensor | float]:
    """Give rates that leave the body where it is."""
    head = head_of(params)
    # Numbers, not tensors: `adapt` takes either.
    return {name: lr if name in head else 0.0 for name in params}


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """Make a checkpoint's second moments, kept as 16 bits, usable again."""
    if "squares" not in state:
        return state
    wide = {name: value.float() for name, value in state["squares"].items()}
    return state | {"squares": wide}
