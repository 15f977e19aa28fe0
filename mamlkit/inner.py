"""Inner loop: from shared parameters θ to one task's parameters θ′.

Everything is written for one task. `outer.py` differentiates through
`adapt`, so nothing here writes in place, calls `.item()` or (unless
`first_order`) detaches.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from mamlkit import calling, checks
from mamlkit.calling import functional_call, grad
from mamlkit.rates import PER_STEP
from mamlkit.rules import Rule
from mamlkit.tasks import Batch

Params = dict[str, Tensor]
Rates = float | Params | list | tuple | nn.ParameterList
LossFn = Callable[[Params, Batch], Tensor]


def functional_loss(
    model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]
) -> LossFn:
    """Turn a model into a loss that takes its parameters as an argument.

    Args:
        model: any module; called as `model(batch.x)`, never modified.
        criterion: `(outputs, batch.y)` -> scalar; use a mean over examples,
            so that a learning rate means the same for every batch size. Of a
            model that returns several things it chooses.

    Returns:
        loss_fn(params, batch) -> scalar, differentiable in `params`.

    Raises:
        ValueError: from loss_fn, when the model has no parameter of a name,
            `criterion` returns no scalar or broadcasts outputs and y to pairs
            that are not the examples, or x or labels do not suit the model.
    """
    needs = checks.needs(model)
    places = calling.places(model)
    criterion = checks.criterion(criterion)

    def loss_fn(params, batch):
        checks.call(needs, params, batch.x)
        outputs = functional_call(model, params, (batch.x,), places=places)
        return criterion(outputs, batch.y)

    return loss_fn


def adapt(
    params: Params,
    loss_fn: LossFn,
    support: Batch,
    *,
    lr: Rates,
    steps: int = 1,
    first_order: bool = False,
    rule: Rule | None = None,
) -> Params:
    """Fit parameters to one task by gradient descent on its support set.

    θ′ ← θ′ - α ∇L(θ′; support), from θ′ = θ, `steps` times
    (Finn et al. 2017, Sec. 2.2; Algorithm 1, line 6).

    Args:
        params: θ, name -> tensor; not modified. A model's frozen parameters
            are left out: the loss takes them from the model.
        loss_fn: `(params, batch)` -> scalar.
        support: one task's examples, x of shape (examples, *features).
        lr: α, parameter change per unit gradient of `loss_fn`: one number,
            or one tensor for each name, of any shape that broadcasts; or a
            list of these, one a step.
        steps: number of updates; 0 returns θ.
        first_order: hold the gradients constant when θ′ is differentiated
            (Sec. 5.2); θ′ itself is the same.
        rule: steps that are not plain gradient descent, as those in
            `mamlkit.rules`; their memory is the task's own.

    Returns:
        θ′, with the names and shapes of `params`, differentiable in `params`
        and in `lr`.

    Raises:
        ValueError: `steps` or `lr` is negative, `lr` is not finite, its
            names are not those of `params`, it is a list of another length
            than `steps`, or a parameter is frozen.
    """
    checks.steps_and_lr(params, lr, steps)
    if rule is not None or isinstance(lr, PER_STEP):
        way = path(params, loss_fn, support, lr, steps, first_order, rule)
        return deque(way, maxlen=1)[0]
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


def path(
    params: Params,
    loss_fn: LossFn,
    support: Batch,
    lr: Rates,
    steps: int,
    first_order: bool,
    rule: Rule | None,
) -> Iterator[Params]:
    """Go where `adapt` goes, by any rule: θ, and θ′ after each step."""
    checks.steps_and_lr(params, lr, steps)
    checks.rule(rule)
    state = None
    yield params
    for i in range(steps):
        rate: Any = lr[i] if isinstance(lr, PER_STEP) else lr
        rates = rate if isinstance(rate, dict) else dict.fromkeys(params, rate)
        grads = grad(loss_fn)(params, support)
        if first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        direction, state = rule(grads, state) if rule else (grads, None)
        params = {
            name: value - rates[name] * direction[name]
            for name, value in params.items()
        }
        yield params


def of_part(
    params: Params, adapted: Sequence[str], *functions: Callable
) -> tuple[Params, list[Callable]]:
    """Make functions of all parameters into functions of those named.

    Args:
        params: θ, from which the others are taken.
        adapted: names of the parameters that the inner steps change.
        functions: `(params, batch)` -> anything.

    Returns:
        the named parameters, and the functions of these.

    Raises:
        ValueError: a name is not in `params`.
    """
    checks.adapted(params, adapted)

    def of(function: Callable) -> Callable:
        return lambda part, batch: function(params | part, batch)

    return {name: params[name] for name in adapted}, [*map(of, functions)]
