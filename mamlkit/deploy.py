"""A model for one new task, to predict with."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit import checks, inputs
from mamlkit.arrays import numbers
from mamlkit.inner import Rates, adapt, functional_loss, of_part
from mamlkit.rules import Rule
from mamlkit.tasks import Batch


@torch.no_grad()
def adapted_model(
    model: nn.Module,
    support: Batch,
    *,
    criterion: Callable[[Any, Tensor], Tensor],
    lr: Rates,
    steps: int = 1,
    adapted: Sequence[str] | None = None,
    rule: Rule | None = None,
) -> nn.Module:
    """Adapt a copy of `model` to one task: a module to predict with.

    Args:
        model: meta-trained; not modified. Its frozen parameters stay, and
            the copy is in its mode: `eval()` lets dropout rest.
        support: the new task's examples, x of shape (examples, *features).
        criterion: as in `meta_train`.
        lr: as in `adapt`, as `history.inner_lr`.
        steps: as in `adapt`.
        adapted: names of the parameters to adapt, as in `anil_loss`; None:
            all.
        rule: as in `adapt`.

    Returns:
        a module of the same kind, none of whose parameters require grad, so
        that it keeps no graph. With `BatchNorm` (and so `CNN`) its answers
        depend on the batch, and one example alone is answered by chance:
        `one_by_one` asks beside the support set.

    Raises:
        ValueError: as in `adapt`, no parameter requires grad, or `support`
            is not the examples of one task, or holds gaps.
        FloatingPointError: the steps lead to weights that are not finite.
    """
    module = copy.deepcopy(model)
    own = {k: p for k, p in module.named_parameters() if p.requires_grad}
    if not own:
        raise ValueError(
            "no parameter of the model requires grad, so none is adapted: "
            "model.requires_grad_(True)"
        )
    device = next(module.parameters()).device
    dtype = next(iter(own.values())).dtype

    def ours(values: Any) -> Tensor:
        found = numbers("support", values)
        # Tables and arrays are doubles unless somebody takes care.
        free = not isinstance(values, Tensor) and found.is_floating_point()
        # Before they move, as not every device has doubles.
        return (found.to(dtype) if free else found).to(device)

    checks.one_task(support)
    support = Batch(inputs.each(ours, support.x), ours(support.y))
    checks.not_stacked(module, support)
    params = {name: p.detach().clone() for name, p in own.items()}
    loss_fn: Callable = functional_loss(module, criterion)
    if adapted is not None:
        params, (loss_fn,) = of_part(params, adapted, loss_fn)
    params = adapt(params, loss_fn, support, lr=lr, steps=steps, rule=rule)
    checks.arrived(params, own, support, steps)
    for name, value in params.items():
        own[name].copy_(value)
    return module.requires_grad_(False)
