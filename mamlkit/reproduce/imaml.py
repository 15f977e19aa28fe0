"""iMAML as its authors' code trains it, which is not what their paper says.

In the paper the inner loss is tied to θ by λ, and conjugate gradients solve
(I + H/λ) x = g. In the code (aravindr93/imaml_dev) the inner steps are free,
one step pulls back at the end, (2 I + H/(λ + 10)) x = g is solved, and at test
nothing pulls. It matters: where the inner steps end, the CNN's H can have
eigenvalues below -λ. Then I + H/λ is not positive definite, as it would be at
a minimum of the tied loss, and conjugate gradients lead astray.
"""

from torch import Tensor, no_grad

from mamlkit import checks
from mamlkit.implicit import implicit_gradient, with_gradient
from mamlkit.inner import LossFn, Params, adapt
from mamlkit.tasks import OverTasks, Tasks, map_tasks

DAMPING = 10.0  # of `lam_damping`; `cg_damping`, 1, doubles the identity


def damped_imaml_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    strength: float,
    lr: float,
    steps: int,
    cg_steps: int,
    first_order: bool = False,
    over_tasks: OverTasks = "vmap",
) -> Tensor:
    """Average the query losses; the gradient is the authors' damped one.

    Args:
        params: θ.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked tasks.
        strength: λ, of the one step that pulls back.
        lr: α.
        steps: inner steps before it.
        cg_steps: as in `implicit_gradient`.
        first_order: of no use here; for `meta_train`.
        over_tasks: "vmap" or "loop".

    Returns:
        scalar, the mean query loss. The authors' gradient is half of this
        one's, which Adam does not see.
    """
    checks.tasks(tasks, over_tasks)
    start = {name: value.detach() for name, value in params.items()}

    def task_loss(support, query):
        free = adapt(start, loss_fn, support, lr=lr, steps=steps)
        adapted = {
            name: value - lr * strength * (value - start[name])
            for name, value in free.items()
        }
        with no_grad():  # batch norm has no third derivative
            meta_grad = implicit_gradient(
                adapted,
                loss_fn,
                support,
                query,
                strength=2 * (strength + DAMPING),
                cg_steps=cg_steps,
            )
        return with_gradient(loss_fn(adapted, query), params, meta_grad)

    return map_tasks(task_loss, tasks, over_tasks).mean()
