"""Exercises of chapter 03: adapt in the inner loop."""

import torch
from torch.func import jacrev

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.inner import adapt
from mamlkit.tasks import Batch


def _bowls(params, batch):
    """L = mean (u - x)² + (v - y)²: two parameters, curvature 2."""
    u, v = params["u"], params["v"]
    return ((u - batch.x) ** 2 + (v - batch.y) ** 2).mean()


def _saddle(params, batch):
    """L = u v, where each entry's gradient is the other entry."""
    return params["u"] * params["v"] + 0 * batch.x.sum()


def _start(requires_grad=False):
    return {
        name: torch.tensor(value, requires_grad=requires_grad)
        for name, value in (("u", 1.0), ("v", -2.0))
    }


_TASK = Batch(torch.tensor([[3.0], [5.0]]), torch.tensor([[0.0], [1.0]]))
_OTHER = Batch(torch.tensor([[-3.0], [-1.0]]), torch.tensor([[4.0], [2.0]]))


def _check_dict(adapted, params, what):
    require(
        isinstance(adapted, dict),
        f"{what} should be a dict of tensors, but is a "
        f"{type(adapted).__name__}.",
    )
    require(
        adapted.keys() == params.keys(),
        f"{what} should have the names {sorted(params)}, but has "
        f"{sorted(adapted)}.",
    )


def check_one_step(one_step):
    """By hand: ∂L/∂u = 2 (1 - 4) = -6, so u′ = 1 + 0.6 = 1.6 at α 0.1."""
    params = _start()
    adapted = one_step(params, _bowls, _TASK, 0.1)
    _check_dict(adapted, params, "The result")
    require(
        all(params[k] == v for k, v in _start().items()),
        "You changed params itself: the next task would start elsewhere. "
        "Return a new dict of new tensors: `-=` changes a tensor in place, "
        "also in a copied dict.",
    )
    compare(
        adapted["u"],
        torch.tensor(1.6),
        "u after one step with lr 0.1",
        [
            (torch.tensor(0.4), "You went uphill: subtract the gradient."),
            (torch.tensor(7.0), "The step ignores lr: lr times the gradient."),
            (torch.tensor(2.2), "The gradient is twice too long: use loss_fn "
             "as it is; it takes the mean itself."),
        ],
    )  # fmt: skip
    compare(adapted["v"], torch.tensor(-1.5), "v after one step with lr 0.1")
    coupled = one_step(_start(), _saddle, _TASK, 0.1)
    compare(
        coupled["v"],
        torch.tensor(-2.1),
        "v after one step on the loss u v, from u 1 and v -2,",
        [
            (torch.tensor(-2.12), "The gradient of v was taken after u had "
             "moved. Take all gradients at params, then step."),
        ],
    )  # fmt: skip
    slope = jacrev(lambda p: one_step(p, _bowls, _TASK, 0.1)["u"])(params)
    compare(
        slope["u"],
        torch.tensor(0.8),
        "du′/du",
        [
            (torch.tensor(1.0), "Right value, but the gradient has lost its "
             "trace: du′/du is 1 instead of 0.8. Something detaches it."),
            (torch.tensor(0.0), "Right value, but the result has no trace to "
             "params at all."),
        ],
    )  # fmt: skip


def check_mended_step(mended_step):
    """The values are those of `adapt`, and so is dθ′/dθ."""
    params = _start(requires_grad=True)
    u = params["u"]
    adapted = mended_step(params, _bowls, _TASK, 0.1)
    _check_dict(adapted, params, "The result")
    require(params["u"] is u, "You changed params itself. Return a new dict.")
    compare(adapted["u"], torch.tensor(1.6), "u after one step with lr 0.1")
    require(
        adapted["u"].requires_grad,
        "The result does not require grad: the trace to params is cut "
        "altogether, not only the gradient's.",
    )
    (slope,) = torch.autograd.grad(adapted["u"], u, allow_unused=True)
    require(slope is not None, "The result is new: nothing leads to params.")
    compare(
        slope,
        torch.tensor(0.8),
        "du′/du",
        [
            (torch.tensor(-0.2), "θ itself is detached: only the path through "
             "the gradient is left."),
            (torch.tensor(1.0), "Still first order: the gradient forgets how "
             "it depends on params, so du′/du is 1 instead of 0.8."),
        ],
    )  # fmt: skip


def check_adapt_each(adapt_each):
    """Both tasks start at the same params."""
    params, supports = _start(), [_TASK, _OTHER, _TASK]
    adapted = adapt_each(params, _bowls, supports, 0.1, 2)
    require(
        isinstance(adapted, list | tuple),
        f"Return a list of dicts, not a {type(adapted).__name__}.",
    )
    require(
        len(adapted) == 3,
        f"Three tasks need three results, but there are {len(adapted)}.",
    )
    require(
        all(params[k] == v for k, v in _start().items()),
        "You changed params itself: the next task starts elsewhere. Work on "
        "a new dict.",
    )
    require(
        len({id(result) for result in adapted}) == 3,
        "All results are the same dict. Each task needs its own.",
    )
    chained, at = [], params
    for number, support in enumerate(supports):
        _check_dict(adapted[number], params, f"Result {number}")
        at = adapt(at, _bowls, support, lr=0.1, steps=2)
        chained.append(at)
    for number, support in enumerate(supports):
        right = adapt(params, _bowls, support, lr=0.1, steps=2)
        one = adapt(params, _bowls, support, lr=0.1, steps=1)
        compare(
            adapted[number]["u"],
            right["u"],
            f"u of task {number}",
            [
                (chained[number]["u"], f"Task {number} starts where task "
                 f"{number - 1} ended. Start every task at params."),
                (one["u"], "You take one step where steps = 2."),
            ],
        )  # fmt: skip


EXERCISES = {
    "3.1": Exercise(
        name="one_step",
        check=check_one_step,
        hints=(
            "torch.func.grad(loss_fn) is a function with loss_fn's arguments.",
            "grads = grad(loss_fn)(params, batch) is a dict like params.",
        ),
        solution="""
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {name: params[name] - lr * grads[name] for name in params}
""",
        mistakes=(
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {name: params[name] + lr * grads[name] for name in params}
""",
                "uphill",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {name: params[name] - grads[name] for name in params}
""",
                "ignores lr",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(loss, list(params.values()))
    return {name: params[name] - lr * g for name, g in zip(params, grads)}
""",
                "use torch.func.grad",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    for name in params:
        params[name] -= lr * grads[name]
    return params
""",
                "changed params itself",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {n: params[n] - lr * grads[n].detach() for n in params}
""",
                "lost its trace",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(lambda p, b: loss_fn(p, b) * len(b.x))(params, batch)
    return {name: params[name] - lr * grads[name] for name in params}
""",
                "takes the mean itself",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    moved = dict(params)
    for name in params:
        moved[name] = moved[name] - lr * grad(loss_fn)(moved, batch)[name]
    return moved
""",
                "after u had moved",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    loss = loss_fn(leaves, batch)
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {name: leaves[name] - lr * g for name, g in zip(leaves, grads)}
""",
                "needs no requires_grad.",
            ),
            (
                """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return [params[name] - lr * grads[name] for name in params]
""",
                "should be a dict",
            ),
        ),
    ),
    "3.2": Exercise(
        name="mended_step",
        check=check_mended_step,
        hints=(
            "By default torch.autograd.grad returns plain numbers.",
            "create_graph=True keeps the path from the gradient to params.",
        ),
        solution="""
def mended_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, list(params.values()), create_graph=True
    )
    return {name: params[name] - lr * g for name, g in zip(params, grads)}
""",
        mistakes=(
            (
                """
def mended_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, list(params.values()), retain_graph=True
    )
    return {name: params[name] - lr * g for name, g in zip(params, grads)}
""",
                "Still first order",
            ),
            (
                """
def mended_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, list(params.values()), create_graph=True
    )
    return {n: params[n].detach() - lr * g.detach()
            for n, g in zip(params, grads)}
""",
                "cut altogether",
            ),
            (
                """
def mended_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, list(params.values()), create_graph=True
    )
    return {n: params[n].detach() - lr * g for n, g in zip(params, grads)}
""",
                "θ itself is detached",
            ),
            (
                """
def mended_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    for name in params:
        params[name] = params[name] - lr * grads[name]
    return params
""",
                "changed params itself",
            ),
            (
                """
def mended_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {
        n: (params[n] - lr * grads[n]).detach().requires_grad_()
        for n in params
    }
""",
                "nothing leads to params",
            ),
        ),
    ),
    "3.3": Exercise(
        name="adapt_each",
        check=check_adapt_each,
        hints=(
            "adapt(params, loss_fn, support, lr=lr, steps=steps) returns a "
            "new dict, so params is still there afterwards.",
            "Do not assign the result of adapt to params.",
        ),
        solution="""
def adapt_each(params, loss_fn, supports, lr, steps):
    return [
        adapt(params, loss_fn, support, lr=lr, steps=steps)
        for support in supports
    ]
""",
        mistakes=(
            (
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    adapted = []
    for support in supports:
        params = adapt(params, loss_fn, support, lr=lr, steps=steps)
        adapted.append(params)
    return adapted
""",
                "starts where task",
            ),
            (
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    return [adapt(params, loss_fn, s, lr=lr) for s in supports]
""",
                "one step where",
            ),
            (
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    adapted = []
    for support in supports:
        for _ in range(steps):
            grads = grad(loss_fn)(params, support)
            for name in params:
                params[name] = params[name] - lr * grads[name]
        adapted.append(dict(params))
    return adapted
""",
                "changed params itself",
            ),
            (
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    for support in supports:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
    return adapted
""",
                "list of dicts",
            ),
            (
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    results, own = [], {}
    for support in supports:
        own.update(adapt(params, loss_fn, support, lr=lr, steps=steps))
        results.append(own)
    return results
""",
                "the same dict",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "Your inner step gives the right θ′ on every task. Is it right?",
        (
            (
                "Yes, the values are what counts.",
                "The outer loop also needs dθ′/dθ, and a cut trace leaves the "
                "values as they are.",
            ),
            (
                "Only if dθ′/dθ is right as well.",
                "The value says where you end; the derivative says how the "
                "end moves with the start.",
            ),
            (
                "Yes, if the support loss falls.",
                "It falls in the buggy step of exercise 3.2 too.",
            ),
        ),
        right=1,
    ),
    Question(
        "Another project takes the sum over 10 examples and α = 0.04. "
        "Which α is the same step with a mean?",
        (
            (
                "0.004",
                "The mean's gradient is ten times shorter, so its α must be "
                "ten times larger.",
            ),
            ("0.04", "The two gradients differ by a factor of ten."),
            (
                "0.4",
                "The sum's gradient is ten times as long, which a ten times "
                "larger α makes up for.",
            ),
        ),
        right=2,
    ),
    Question(
        "Why does every task start from the same θ?",
        (
            (
                "So that the order of tasks does not matter, and all of them "
                "judge one point.",
                "The outer loop can improve a starting point only if it is "
                "the one that each task really started from.",
            ),
            (
                "Because gradient descent needs a fixed seed.",
                "Nothing in the inner loop is random.",
            ),
            (
                "To save memory.",
                "It costs a copy of the parameters per task rather than "
                "saving one.",
            ),
        ),
        right=0,
    ),
)
