"""The meta-gradient of an objective: at once, in parts, or compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from mamlkit import checks, inputs
from mamlkit.calling import advise_loop
from mamlkit.inner import LossFn, Params
from mamlkit.tasks import Batch, Tasks

MetaGradient = Callable[[Params, LossFn, Tasks], tuple[Params, Tensor]]
# Inductor's conversions between layouts cost a CNN a quarter of the time.
COMPILE: dict[str, Any] = {"layout_optimization": False}
FIRST_ORDER = (
    "mamlkit: this layer has no second derivative, and first_order=True needs "
    "none. Attention has one with its math kernel: train within `with torch."
    "nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):`."
)


def gradient_of(
    objective: Callable[[Params, LossFn, Tasks], Tensor],
    *,
    compile: bool = False,
) -> MetaGradient:
    """Make a function that returns an objective's gradient and value.

    Args:
        objective: `(params, loss_fn, tasks)` -> scalar, as `meta_loss`.
        compile: compile the whole at the first call; without a C++
            compiler, warn and go on.

    Returns:
        (params, loss_fn, tasks) -> (gradients by name, loss).
    """
    if compile and checks.compiler_found():
        # One graph for the inner steps, the meta-loss and its gradient.
        return torch.compile(grad_and_value(objective), options=COMPILE)
    return partial(_by_backward, objective)


def in_parts(gradient: MetaGradient, size: int) -> MetaGradient:
    """Let `gradient` see at most `size` tasks at a time.

    Returns:
        (params, loss_fn, tasks) -> (gradients by name, loss), the means over
        all tasks, as `gradient` itself returns for all at once.
    """

    def mean_over_parts(params, loss_fn, tasks):
        n_tasks = len(inputs.first(tasks.support.x))
        total, sums = 0.0, {k: torch.zeros_like(p) for k, p in params.items()}
        for first in range(0, n_tasks, size):
            part = Tasks(
                *(
                    Batch(
                        *(t[first : first + size] for t in inputs.cuttable(b))
                    )
                    for b in tasks
                )
            )
            share = len(inputs.first(part.support.x)) / n_tasks
            grads, loss = gradient(params, loss_fn, part)
            for name, g in grads.items():
                sums[name].add_(g, alpha=share)
            total = total + share * loss
        return sums, total

    return mean_over_parts


def _by_backward(objective, params, loss_fn, tasks):
    """What `grad_and_value(objective)` returns, in three quarters its time."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    try:
        loss = objective(leaves, loss_fn, tasks)
        if not loss.requires_grad:
            raise ValueError(
                "no gradient reaches any parameter: look for no_grad, detach "
                "or numbers instead of tensors on the way to the loss"
            )
        loss.backward()
    except RuntimeError as error:
        _advise(error)
        raise
    grads = {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }
    # With its graph, every part's gradients would live as long as the mean.
    return grads, loss.detach()


def _advise(error: RuntimeError) -> None:
    """Say what helps against those of PyTorch's errors that a flag avoids."""
    said = str(error)
    if "derivative" in said and "not implemented" in said:
        error.add_note(FIRST_ORDER)
    else:
        advise_loop(error)
