"""Exercises of chapter 05: fit new waves."""

import math

import torch

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)
from mamlkit.tasks import Batch, Tasks


def _bowl(params, batch):
    """L = mean (w - y)²: one parameter, curvature 2."""
    return ((params["w"] - batch.y) ** 2).mean()


def _start():
    return {"w": torch.tensor(1.0)}


def _stack(*targets):
    """One example a task, with the given targets."""
    y = torch.tensor(targets).reshape(-1, 1, 1)
    return Batch(torch.zeros_like(y), y)


_TASKS = Tasks(_stack(3.0, 0.0), _stack(5.0, 1.0))
_PAIRS = [
    (Batch(*support), Batch(*query))
    for support, query in zip(zip(*_TASKS.support), zip(*_TASKS.query))
]


def check_meta_update(meta_update):
    """By hand, from w = 1 with α = 0.1: w′ = 1.4 and 0.8.

    Query gradients 2 (1.4 - 5) = -7.2 and 2 (0.8 - 1) = -0.4, each times
    dw′/dw = 0.8, average -3.04; with β = 0.5, w becomes 2.52.
    """
    params = _start()
    updated = meta_update(params, _bowl, _TASKS, 0.1, 0.5)
    require(
        isinstance(updated, dict),
        "Return the new params as a dict, not a "
        f"{type(updated).__name__}.",
    )  # fmt: skip
    require(
        params["w"] == 1.0,
        "You changed params itself. Return a new dict.",
    )
    require("w" in updated, "The new dict lacks the name 'w'.")
    compare(
        updated["w"],
        torch.tensor(2.52),
        "w after one meta-update with α = 0.1, β = 0.5",
        [
            (torch.tensor(-0.52), "You went uphill: subtract the gradient."),
            (torch.tensor(-3.04), "That is the gradient. Return params after "
             "a step against it."),
            (torch.tensor(1.0), "w has not moved. Is inner_lr the rate of "
             "the inner step, and meta_lr that of yours?"),
            (torch.tensor(2.9), "This is first order: your gradient ignores "
             "how θ′ depends on θ, a factor of 0.8 here."),
            (torch.tensor(3.0), "Nothing was adapted: this is a step of "
             "pretraining on the query sets."),
            (torch.tensor(1.32), "You judge on the support set, where the "
             "query set belongs."),
            (torch.tensor(1.304), "The outer step has the inner loop's rate: "
             "use meta_lr."),
            (torch.tensor(4.04), "You sum over tasks. Take the mean, as "
             "meta_loss does."),
        ],
    )  # fmt: skip


def check_blind_floor(blind_floor):
    """By hand: the columns have variances 8/3 and 2, on average 7/3."""
    y = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, -1.0]])
    compare(
        as_scalar(blind_floor(y)),
        torch.tensor(7 / 3),
        "The floor of three tasks at two points",
        [
            (torch.tensor(22 / 3), "That is the loss of predicting 0. The "
             "best blind answer at a point is the average over tasks there."),
            (torch.tensor(10 / 3), "You predict one number for all points. A "
             "blind answer may depend on x."),
            (torch.tensor(19 / 6), "You average over the wrong axis: tasks "
             "are the rows."),
            (torch.tensor(3.5), "You divide by n - 1. The loss is a mean "
             "over the three tasks: divide by n."),
            (torch.tensor([8 / 3, 2.0]).sum(), "You sum over points. Take "
             "the mean."),
        ],
    )  # fmt: skip


def check_mended_judge(mended_judge):
    """By hand: w′ = 1.4 and 0.8, query losses 3.6² and 0.2²."""
    params = _start()
    compare(
        mended_judge(params, _bowl, _PAIRS, 0.1, 1),
        torch.tensor([12.96, 0.04]),
        "The query losses of two tasks after one step",
        [
            (torch.tensor([2.56, 1.2544]), "Both bugs are still there: what "
             "is judged on, and where the second task starts."),
            (torch.tensor([2.56, 0.64]), "You judge on the support set, the "
             "points that were learned from."),
            (torch.tensor([12.96, 0.0144]), "The second task starts where "
             "the first ended. Keep params as they are."),
            (torch.tensor([10.24, 0.0]), "You adapt on the query set: the "
             "answers have leaked."),
            (torch.tensor([16.0, 0.0]), "You judge params, not what was "
             "adapted from them."),
        ],
    )  # fmt: skip
    # Two steps shrink the distance to the support target by 0.8² = 0.64.
    compare(
        mended_judge(params, _bowl, _PAIRS, 0.1, 2),
        torch.tensor([(3 - 0.64 * 2 - 5) ** 2, (0.64 - 1) ** 2]),
        "The query losses after two steps",
        [(torch.tensor([12.96, 0.04]), "You take one step where steps = 2.")],
    )


def check_choose_rate(choose_rate):
    """Means 3, 1, infinite; then a rate under which a loss became NaN."""
    errors = {
        0.01: torch.tensor([2.0, 4.0, 3.0]),
        0.02: torch.tensor([1.0, 1.0, 1.0]),
        0.05: torch.tensor([0.1, 0.1, math.inf]),
    }
    chosen = choose_rate(errors)
    require(
        isinstance(chosen, float),
        f"Return one of the rates, not a {type(chosen).__name__}.",
    )
    require(
        chosen in errors,
        f"{chosen} is not one of the rates: return a key of errors.",
    )
    require(
        chosen != 0.05,
        "You chose 0.05, under which one task in three diverged: a median "
        "does not see it, nor a mean of the finite ones.",
    )
    require(
        chosen == 0.02,
        f"You chose {chosen}, whose mean error is not the lowest.",
    )
    chosen = choose_rate({0.1: torch.tensor([0.2, 0.2, math.nan])} | errors)
    require(
        chosen != 0.1,
        "You chose 0.1, under which one task ended at NaN. A NaN slips "
        "through min and argmin, and nanmean drops it: make it infinite.",
    )
    require(chosen == 0.02, f"With a NaN present you chose {chosen}.")


EXERCISES = {
    "5.1": Exercise(
        name="meta_update",
        check=check_meta_update,
        hints=(
            "meta_loss is a function of params: torch.func.grad takes its "
            "gradient as that of any other loss.",
            "grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr) is a dict "
            "like params.",
        ),
        solution="""
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    return {name: params[name] - meta_lr * grads[name] for name in params}
""",
        mistakes=(
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    return {name: params[name] + meta_lr * grads[name] for name in params}
""",
                "uphill",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(
        params, loss_fn, tasks, lr=inner_lr, first_order=True
    )
    return {name: params[name] - meta_lr * grads[name] for name in params}
""",
                "first order",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr, steps=0)
    return {name: params[name] - meta_lr * grads[name] for name in params}
""",
                "Nothing was adapted",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    tasks = tasks._replace(query=tasks.support)
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    return {name: params[name] - meta_lr * grads[name] for name in params}
""",
                "judge on the support set",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    return {name: params[name] - inner_lr * grads[name] for name in params}
""",
                "inner loop's rate",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    n = len(tasks.query.x)
    return {k: params[k] - meta_lr * n * grads[k] for k in params}
""",
                "sum over tasks",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    for name in params:
        params[name] -= meta_lr * grads[name]
    return params
""",
                "changed params itself",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    loss = meta_loss(params, loss_fn, tasks, lr=inner_lr)
    grads = torch.autograd.grad(loss, list(params.values()))
    return {k: p - meta_lr * g for (k, p), g in zip(params.items(), grads)}
""",
                "use torch.func.grad",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    return grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
""",
                "That is the gradient",
            ),
            (
                """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=meta_lr)
    return {name: params[name] - inner_lr * grads[name] for name in params}
""",
                "has not moved",
            ),
        ),
    ),
    "5.2": Exercise(
        name="blind_floor",
        check=check_blind_floor,
        hints=(
            "Which one number has the smallest mean squared distance to a "
            "column of y?",
            "The column's mean; what is left is the column's variance.",
        ),
        solution="""
def blind_floor(y):
    return ((y - y.mean(dim=0)) ** 2).mean()
""",
        mistakes=(
            (
                "def blind_floor(y):\n    return (y**2).mean()\n",
                "loss of predicting 0",
            ),
            (
                """
def blind_floor(y):
    return ((y - y.mean()) ** 2).mean()
""",
                "one number for all points",
            ),
            (
                "def blind_floor(y):\n"
                "    return y.var(dim=1, correction=0).mean()\n",
                "wrong axis",
            ),
            (
                "def blind_floor(y):\n    return y.var(dim=0).mean()\n",
                "divide by n - 1",
            ),
            (
                "def blind_floor(y):\n"
                "    return y.var(dim=0, correction=0).sum()\n",
                "sum over points",
            ),
        ),
    ),
    "5.3": Exercise(
        name="mended_judge",
        check=check_mended_judge,
        hints=(
            "Ask of each line: which points does it see, and which "
            "parameters does it start from?",
            "Give the result of adapt a name of its own, and judge it on "
            "query.",
        ),
        solution="""
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(adapted, query))
    return torch.stack(losses)
""",
        mistakes=(
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        params = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(params, support))
    return torch.stack(losses)
""",
                "Both bugs",
            ),
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(adapted, support))
    return torch.stack(losses)
""",
                "points that were learned from",
            ),
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        params = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(params, query))
    return torch.stack(losses)
""",
                "starts where the first ended",
            ),
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, query, lr=lr, steps=steps)
        losses.append(loss_fn(adapted, query))
    return torch.stack(losses)
""",
                "answers have leaked",
            ),
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(params, query))
    return torch.stack(losses)
""",
                "not what was adapted",
            ),
            (
                """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, support, lr=lr)
        losses.append(loss_fn(adapted, query))
    return torch.stack(losses)
""",
                "one step where",
            ),
        ),
    ),
    "5.4": Exercise(
        name="choose_rate",
        check=check_choose_rate,
        hints=(
            "What is the mean of a tensor that holds one NaN, and what does "
            "min do with it?",
            "nan_to_num(torch.inf) turns NaN into infinity, which loses "
            "every comparison.",
        ),
        solution="""
def choose_rate(errors):
    def mean(rate):
        return errors[rate].nan_to_num(torch.inf).mean().item()

    return min(errors, key=mean)
""",
        mistakes=(
            (
                """
def choose_rate(errors):
    return min(errors, key=lambda rate: errors[rate].median().item())
""",
                "a median does not see it",
            ),
            (
                """
def choose_rate(errors):
    return min(errors, key=lambda rate: errors[rate].mean().item())
""",
                "A NaN slips",
            ),
            (
                """
def choose_rate(errors):
    return min(errors)
""",
                "not the lowest",
            ),
            (
                """
def choose_rate(errors):
    return min(errors[rate].mean().item() for rate in errors)
""",
                "not one of the rates",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A pretrained network scores 3.0 on new waves before it has seen a "
        "point of them. What has it learned?",
        (
            (
                "To recognise the wave.",
                "It has seen nothing of this wave, so it cannot.",
            ),
            (
                "The average of all waves, and nothing else.",
                "3.01 is the floor of every answer that does not depend on "
                "the task, and the average reaches it.",
            ),
            (
                "Nothing; predicting 0 scores 3.0 as well.",
                "Predicting 0 scores 4.25, because the average wave is not 0.",
            ),
        ),
        right=1,
    ),
    Question(
        "MAML before adapting is no better than pretraining. Why does one "
        "step help it so much more?",
        (
            (
                "Its inner step is larger.",
                "The sweep gives every start its own best rate, and the gap "
                "stays.",
            ),
            (
                "It has seen more waves.",
                "Both saw as many waves and as many points.",
            ),
            (
                "It was trained on what a step does.",
                "The meta-loss is the query loss after the step, so training "
                "chose weights whose gradients are useful.",
            ),
        ),
        right=2,
    ),
    Question(
        "Over 2,000 tasks a method's mean error is 10²², its median 0.1. "
        "What do you report?",
        (
            (
                "The median, since the mean is meaningless.",
                "The median hides that the method fails on some tasks.",
            ),
            (
                "Both, and the share of tasks that diverged.",
                "The reader needs to know how good it usually is and how "
                "often it fails.",
            ),
            (
                "The mean without the outliers.",
                "Removing tasks after seeing their results makes any method "
                "look good.",
            ),
        ),
        right=1,
    ),
)
