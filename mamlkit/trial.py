"""What `meta_train` measures once, on two tasks, before it trains.

Which module vmap gets wrong cannot be told from its type: the same wrong
second-order gradient comes from a function, and a frozen norm is exact. So
the meta-gradient by vmap is compared with that of the loop.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit import inputs
from mamlkit.calling import LOOP
from mamlkit.gradient import gradient_of
from mamlkit.inner import LossFn, Params, functional_loss
from mamlkit.tasks import Batch, Tasks, cut

# On the models that we ship the two differ by 1e-7 to 1e-6 of the gradient in
# float32, with conjugate gradients by up to 2e-4; so what exceeds the limit is
# measured again in float64, where rounding cannot reach it.
LIMIT = 1e-5
# Where there is no float64, as on some devices.
ROUGH_LIMIT = 1e-3


def vmap_is_right(
    follow: Callable[..., Tensor],
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    model: nn.Module,
    criterion: Callable[[Any, Tensor], Tensor],
) -> None:
    """Refuse a model whose meta-gradient by vmap is not that of the loop.

    Args:
        follow: the objective, `(params, loss_fn, tasks, over_tasks=...)`.
        params: θ.
        loss_fn: of `model` and `criterion`.
        tasks: of which the first two are taken.
        model: copied, if need be, to float64.
        criterion: likewise, if it is a module.

    Raises:
        ValueError: with the share by which it is off.
    """
    two = cut(tasks, 0, 2)
    off = _difference(follow, params, loss_fn, two)
    if off is None:  # drawn at random: one task may draw the same either way
        two = cut(tasks, 0, 1)
        off = _difference(follow, params, loss_fn, two)
    if off is None or not off > LIMIT:
        return
    try:
        exact = _difference(
            follow, *_in_float64(params, two, model, criterion)
        )
    except Exception:  # no float64 here, or no copy
        exact = None
    if exact is None:
        exact = off if off > _rough_limit(model, two) else 0.0
    if exact > LIMIT:
        percent = float(f"{100 * exact:.2g}")
        raise ValueError(
            f"vmap's meta-gradient is {percent:g} % off, as PyTorch "
            "gets it wrong for fused norms with weights (F.layer_norm): "
            'over_tasks="loop", or a norm without weights and a scale after'
        )


def _rough_limit(model: nn.Module, tasks: Tasks) -> float:
    """What rounding alone may do, by the coarsest numbers that take part."""
    some = [*model.parameters(), *inputs.tensors(tasks.support.x)]
    kinds = {t.dtype for t in some if t.is_floating_point()}
    return max([ROUGH_LIMIT, *(4 * torch.finfo(kind).eps for kind in kinds)])


def _difference(
    follow: Callable[..., Tensor],
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
) -> float | None:
    """By which share of its length vmap's gradient differs from the loop's.

    None where they cannot be compared: each draws its own random numbers, or
    the objective knows no loop.
    """
    device = next(iter(params.values())).device
    devices = [device] if device.type == "cuda" else []

    def run(way: str) -> tuple[Params, Tensor, bool]:
        with torch.random.fork_rng(devices):
            before = _drawn(devices)
            gradient = gradient_of(_by(follow, way))
            grads, loss = gradient(params, loss_fn, tasks)
            return grads, loss, _drawn(devices) != before

    try:
        loop, loss, drawn = run("loop")
    except Exception:
        return None
    try:
        batched, same, _ = run("vmap")
    except RuntimeError as error:
        # The loop has just done it, so it is vmap that cannot.
        if not getattr(error, "__notes__", None):
            error.add_note(LOOP)
        raise
    length = _length(loop)
    away = _length({name: batched[name] - loop[name] for name in loop})
    if not math.isfinite(length) or away <= LIMIT * length:
        return 0.0
    # The same draws give the same loss, whatever becomes of its gradient.
    alone = len(tasks.support.y) == 1
    if drawn and not (alone and loss.isclose(same, rtol=1e-5)):
        return None
    again, _, _ = run("loop")
    if any(not torch.equal(again[name], loop[name]) for name in loop):
        return None
    return away / length if length else math.inf


def _drawn(devices: list[torch.device]) -> list[list[int]]:
    states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    return [state.tolist() for state in states]


def _by(follow: Callable[..., Tensor], way: str) -> Callable[..., Tensor]:
    return lambda *args: follow(*args, over_tasks=way)


def _length(params: Params) -> float:
    return math.sqrt(
        sum(p.cpu().double().square().sum().item() for p in params.values())
    )


def _in_float64(params, tasks, model, criterion):
    """The same problem with more digits: params, loss_fn and tasks."""

    def more(t: Tensor) -> Tensor:
        return t.double() if t.is_floating_point() else t

    batches = (Batch(inputs.each(more, b.x), more(b.y)) for b in tasks)
    if isinstance(criterion, nn.Module):
        criterion = copy.deepcopy(criterion).double()
    loss_fn = functional_loss(copy.deepcopy(model).double(), criterion)
    params = {name: more(p) for name, p in params.items()}
    return params, loss_fn, Tasks(*batches)
