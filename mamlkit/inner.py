"""Inner loop: from shared parameters θ to one task's parameters θ′.

Everything is written for one task. `outer.py` differentiates through
`adapt`, so nothing here writes in place, calls `.item()` or (unless
`first_order`) detaches.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mamlkit.tasks import Batch

Params = dict[str, Tensor]
LossFn = Callable[[Params, Batch], Tensor]


def functional_loss(
    model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]
) -> LossFn:
    """Turn a model into a loss that takes its parameters as an argument.

    Args:
        model: any module; called as `model(batch.x)`, never modified.
        criterion: `(outputs, batch.y)` -> scalar; use a mean over examples,
            so that a learning rate means the same for every batch size.

    Returns:
        loss_fn(params, batch) -> scalar, differentiable in `params`.

    Raises:
        ValueError: from loss_fn, when `criterion` returns no scalar.
    """

    def loss_fn(params, batch):
        loss = criterion(functional_call(model, params, (batch.x,)), batch.y)
        _check_scalar(loss)
        return loss

    _note_what_vmap_cannot_batch(loss_fn, model)
    return loss_fn


def adapt(
    params: Params,
    loss_fn: LossFn,
    support: Batch,
    *,
    lr: float | Params,
    steps: int = 1,
    first_order: bool = False,
) -> Params:
    """Fit parameters to one task by gradient descent on its support set.

    θ′ ← θ′ - α ∇L(θ′; support), from θ′ = θ, `steps` times
    (Finn et al. 2017, Sec. 2.2; Algorithm 1, line 6).

    Args:
        params: θ, name -> tensor; not modified.
        loss_fn: `(params, batch)` -> scalar.
        support: one task's examples, x of shape (examples, *features).
        lr: α, parameter change per unit gradient of `loss_fn`: one number,
            or one tensor for each name, of any shape that broadcasts.
        steps: number of updates; 0 returns θ.
        first_order: hold the gradients constant when θ′ is differentiated
            (Sec. 5.2); θ′ itself is the same.

    Returns:
        θ′, with the names and shapes of `params`, differentiable in `params`
        and in `lr`.

    Raises:
        ValueError: `steps` or `lr` is negative, `lr` is not finite, or its
            names are not those of `params`.
    """
    _check_steps_and_lr(params, lr, steps)
    rates = lr if isinstance(lr, dict) else dict.fromkeys(params, lr)
    for _ in range(steps):
        grads = grad(loss_fn)(params, support)
        if first_order:
            # Cut the path through the gradient; θ -> θ′ itself stays.
            grads = {name: g.detach() for name, g in grads.items()}
        params = {
            name: value - rates[name] * grads[name]
            for name, value in params.items()
        }
    return params


def _check_scalar(loss: Tensor) -> None:
    if not isinstance(loss, Tensor) or loss.shape != ():
        got = getattr(loss, "shape", type(loss).__name__)
        got = tuple(got) if not isinstance(got, str) else got
        raise ValueError(
            f"the criterion must return a scalar tensor, got {got}: "
            "take the mean over examples"
        )


def _check_steps_and_lr(params: Params, lr, steps: int) -> None:
    if steps < 0:
        raise ValueError(f"steps must be >= 0, got {steps}")
    if isinstance(lr, dict):
        missing, unknown = params.keys() - lr.keys(), lr.keys() - params.keys()
        if missing or unknown:
            raise ValueError(
                "lr must have a tensor for every parameter: missing "
                f"{sorted(missing)}, unknown {sorted(unknown)}"
            )
    elif isinstance(lr, int | float) and not 0 <= lr < math.inf:
        raise ValueError(f"lr must be finite and >= 0, got {lr}")


def _note_what_vmap_cannot_batch(loss_fn: LossFn, model: nn.Module) -> None:
    """Leave on `loss_fn` why its model must be refused, for `meta_loss`.

    Looked up here, once, and not at every meta-iteration.
    """
    loss_fn.refuse_always = loss_fn.refuse_vmap = None
    for name, module in model.named_modules():
        kind = f"{type(module).__name__} {name!r}"
        is_norm = isinstance(module, _BatchNorm | _InstanceNorm)
        if is_norm and module.track_running_stats:
            loss_fn.refuse_always = (
                f"{kind} keeps running statistics, which leak from task to "
                "task: build it with track_running_stats=False"
            )
        fused = is_norm or isinstance(module, nn.LayerNorm)
        if fused and getattr(module, "weight", None) is not None:
            loss_fn.refuse_vmap = (
                f"{kind} has weights, whose second-order gradients vmap gets "
                'wrong: use over_tasks="loop", or a norm without weights '
                "followed by your own scale and shift (mamlkit.BatchNorm)"
            )
