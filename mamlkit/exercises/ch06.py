"""Exercises of chapter 06: drop the second order."""

import torch
from torch.func import grad, jacrev

from mamlkit.exercises import Exercise, Question, compare, require
from mamlkit.inner import adapt
from mamlkit.tasks import Batch


def _bowls(params, batch):
    """L = mean (u - x)² + (v - y)²: two parameters, curvature 2."""
    u, v = params["u"], params["v"]
    return ((u - batch.x) ** 2 + (v - batch.y) ** 2).mean()


def _start():
    return {"u": torch.tensor(1.0), "v": torch.tensor(-2.0)}


_TASK = Batch(torch.tensor([[3.0], [5.0]]), torch.tensor([[0.0], [1.0]]))
_OTHER = Batch(torch.tensor([[-3.0], [-5.0]]), torch.tensor([[4.0], [2.0]]))


def _check_dict(adapted, params):
    require(
        isinstance(adapted, dict) and adapted.keys() == params.keys(),
        f"Return a dict of tensors with the names {sorted(params)}.",
    )


def check_first_order_step(first_order_step):
    """By hand: ∂L/∂u = 2 (1 - 4) = -6, so u′ = 1.6; its slope must be 1."""
    params = _start()
    adapted = first_order_step(params, _bowls, _TASK, 0.1)
    _check_dict(adapted, params)
    compare(
        adapted["u"],
        torch.tensor(1.6),
        "u after one step with lr 0.1",
        [(torch.tensor(1.0), "u does not move: you dropped the gradient, not "
          "only its dependence on params.")],
    )  # fmt: skip
    slope = jacrev(lambda p: first_order_step(p, _bowls, _TASK, 0.1)["u"])
    compare(
        slope(params)["u"],
        torch.tensor(1.0),
        "du′/du",
        [
            (torch.tensor(0.8), "Still second order: du′/du is 1 - 2α = 0.8, "
             "as the gradient depends on params."),
            (torch.tensor(0.0), "The path θ -> θ′ is cut as well: du′/du is "
             "0, and no meta-gradient is left. Detach the gradient only."),
            (torch.tensor(-0.2), "You detached the wrong term: the path "
             "through the gradient stays, and θ -> θ′ is gone."),
        ],
    )  # fmt: skip


def _second_order(params, loss_fn, batch, lr):
    return adapt(params, loss_fn, batch, lr=lr)


def _with_create_graph(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(loss, [*params.values()], create_graph=True)
    return {k: params[k] - lr * g for k, g in zip(params, grads)}


def _without_create_graph(params, loss_fn, batch, lr):
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    grads = torch.autograd.grad(loss_fn(leaves, batch), [*leaves.values()])
    return {k: params[k] - lr * g for k, g in zip(params, grads)}


def _stray_detach(params, loss_fn, batch, lr):
    fixed = {k: p.detach() for k, p in params.items()}
    grads = grad(loss_fn)(fixed, batch)
    return {k: params[k] - lr * grads[k] for k in params}


def _data(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] - lr * grads[k].data for k in params}


def _no_trace(params, loss_fn, batch, lr):
    adapted = _second_order(params, loss_fn, batch, lr)
    return {k: p.detach() for k, p in adapted.items()}


def check_is_second_order(is_second_order):
    """Two honest steps, three of the chapter's, and one with no trace."""
    for step, truth, how in (
        (_second_order, True, "mamlkit's own adapt"),
        (_with_create_graph, True, "a step with create_graph=True"),
        (_without_create_graph, False, "the step without create_graph"),
        (_stray_detach, False, "the step with the stray detach"),
        (_data, False, "the step with .data"),
        (_no_trace, False, "a step whose result is detached altogether"),
    ):
        try:
            said = is_second_order(step)
        except NotImplementedError:  # a RuntimeError, but no answer yet
            raise
        except RuntimeError as error:
            first = str(error).split("\n")[0]
            require(False, f"Given {how}, your function stops: {first}")
        require(
            isinstance(said, bool),
            f"Return True or False, not a {type(said).__name__}.",
        )
        if truth:
            message = (
                f"You call {how} first order. Does your loss have a "
                "curvature, and do you expect the right slope for it?"
            )
        else:
            message = (
                f"You let {how} pass. Its values are right: look at the "
                "slope dθ′/dθ, as autograd sees it."
            )
        require(said == truth, message)


# H(θ) = [[θ₀, θ₁], [θ₁, 2]]: it differs from point to point.
_PATH = [torch.tensor(p) for p in ([1.0, 0.0], [2.0, 1.0], [0.0, 3.0])]
_QUERY_GRAD = torch.tensor([2.0, -2.0])


def check_walk_back(walk_back):
    """By hand, α = 0.5: g - α H₁ g = (1, -1), and then - α H₀ (1, -1)."""
    calls = []

    def hessian_times(theta, v):
        calls.append(theta)
        a, b = theta
        return torch.stack([a * v[0] + b * v[1], b * v[0] + 2 * v[1]])

    actual = walk_back(list(_PATH), hessian_times, _QUERY_GRAD.clone(), 0.5)
    compare(
        actual,
        torch.tensor([0.5, 0.0]),
        "The meta-gradient after two steps",
        [
            (_QUERY_GRAD, "This is first-order MAML: the query gradient "
             "itself."),
            (torch.tensor([0.0, -0.5]), "Right factors, wrong order: the "
             "chain rule starts at the last step."),
            (torch.tensor([1.5, -2.5]), "Each Hessian belongs to the point "
             "that its step left from, not to the one it reached."),
            (torch.tensor([4.5, -6.0]), "The sign: a step subtracts the "
             "gradient, so each factor is I - αH."),
            (torch.tensor([0.0, 1.0]), "You multiply the query gradient by "
             "each H, instead of what the later steps have made of it."),
        ],
    )  # fmt: skip
    require(
        len(calls) == 2,
        f"Right, but with {len(calls)} products for 2 steps: one a step is "
        "enough.",
    )
    none = walk_back(_PATH[:1], hessian_times, _QUERY_GRAD.clone(), 0.5)
    compare(none, _QUERY_GRAD, "The meta-gradient after no step")


def check_reptile_update(reptile_update):
    """By hand, 2 steps at α 0.1 keep 0.64 of the way: u′ is 2.08 and -0.8."""
    params = _start()
    options = {"lr": 0.1, "steps": 2, "meta_lr": 0.25}
    supports = [_TASK, _OTHER]
    moved = reptile_update(params, _bowls, supports, **options)
    _check_dict(moved, params)
    require(
        all(params[k] == value for k, value in _start().items()),
        "You changed params itself: return a new dict.",
    )
    one_by_one = _start()
    for support in supports:
        to = adapt(one_by_one, _bowls, support, lr=0.1, steps=2)
        one_by_one = {
            k: p + 0.25 / 2 * (to[k] - p) for k, p in one_by_one.items()
        }
    compare(
        moved["u"],
        torch.tensor(0.91),
        "u after the update",
        [
            (torch.tensor(1.09), "You move away from the adapted parameters: "
             "the sign."),
            (torch.tensor(0.82), "You sum over the tasks: take the mean."),
            (torch.tensor(0.64), "You go all the way: meta_lr is the share "
             "of the way to go."),
            (torch.tensor(0.95), "You take one step a task where steps = "
             "2."),
            (one_by_one["u"], "The second task starts from where the first "
             "has moved params: adapt to all before you move."),
        ],
    )  # fmt: skip


EXERCISES = {
    "6.1": Exercise(
        name="first_order_step",
        check=check_first_order_step,
        hints=(
            "Hold constant what depends on params through the loss.",
            "The gradient may stay a number: grads[name].detach().",
        ),
        solution="""
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] - lr * grads[k].detach() for k in params}
""",
        mistakes=(
            (
                """
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] - lr * grads[k] for k in params}
""",
                "Still second order",
            ),
            (
                """
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: (params[k] - lr * grads[k]).detach() for k in params}
""",
                "cut as well",
            ),
            (
                """
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k].detach() - lr * grads[k] for k in params}
""",
                "detached the wrong term",
            ),
            (
                """
def first_order_step(params, loss_fn, batch, lr):
    return dict(params)
""",
                "u does not move",
            ),
        ),
    ),
    "6.2": Exercise(
        name="is_second_order",
        check=check_is_second_order,
        hints=(
            "Take one parameter w with requires_grad=True, the loss w², and "
            "ask torch.autograd.grad for dw′/dw. What should it be?",
            "With α = 0.1 the slope is 1 - 2α = 0.8. If the result does not "
            "require grad, there is no slope at all.",
        ),
        solution="""
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    if not after.requires_grad:
        return False
    (slope,) = torch.autograd.grad(after, w)
    return abs(slope.item() - 0.8) < 1e-4
""",
        mistakes=(
            (
                """
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    return after.requires_grad
""",
                "You let the step without create_graph pass",
            ),
            (
                """
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: 3 * p["w"], None, 0.1)["w"]
    if not after.requires_grad:
        return False
    (slope,) = torch.autograd.grad(after, w)
    return slope.item() != 1.0
""",
                "have a curvature",
            ),
            (
                """
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    (slope,) = torch.autograd.grad(after, w)
    return abs(slope.item() - 0.8) < 1e-4
""",
                "detached altogether, your function stops",
            ),
            (
                """
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    return torch.isclose(after, torch.tensor(0.8))
""",
                "Return True or False",
            ),
        ),
    ),
    "6.3": Exercise(
        name="walk_back",
        check=check_walk_back,
        hints=(
            "Start with v = query_grad. Each step that was taken turns v "
            "into (I - αH) v.",
            "Go through path[:-1] from its end: v = v - lr * "
            "hessian_times(theta, v).",
        ),
        solution="""
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = v - lr * hessian_times(theta, v)
    return v
""",
        mistakes=(
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    return query_grad
""",
                "first-order MAML",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in path[:-1]:
        v = v - lr * hessian_times(theta, v)
    return v
""",
                "wrong order",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[1:]):
        v = v - lr * hessian_times(theta, v)
    return v
""",
                "left from",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = v + lr * hessian_times(theta, v)
    return v
""",
                "The sign",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = v - lr * hessian_times(theta, query_grad)
    return v
""",
                "what the later steps have made of it",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        columns = [hessian_times(theta, e) for e in torch.eye(len(v))]
        v = v - lr * torch.stack(columns, dim=1) @ v
    return v
""",
                "with 4 products",
            ),
        ),
    ),
    "6.4": Exercise(
        name="reptile_update",
        check=check_reptile_update,
        hints=(
            "adapt to every support set first, always from params.",
            "The new value is params[k] + meta_lr * (mean of adapted[k] - "
            "params[k]).",
        ),
        solution="""
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
        mistakes=(
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: p - meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
                "move away",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: p + meta_lr * sum(end[k] - p for end in ends)
        for k, p in params.items()
    }
""",
                "sum over the tasks",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {k: sum(end[k] for end in ends) / len(ends) for k in params}
""",
                "all the way",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr) for s in supports]
    return {
        k: p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
                "one step a task",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    for s in supports:
        end = adapt(params, loss_fn, s, lr=lr, steps=steps)
        params = {k: p + meta_lr / len(supports) * (end[k] - p)
                  for k, p in params.items()}
    return params
""",
                "adapt to all before you move",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    for k in params:
        mean = sum(end[k] for end in ends) / len(ends)
        params[k] = params[k] + meta_lr * (mean - params[k])
    return params
""",
                "changed params itself",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "On which tasks is first-order MAML exactly MAML?",
        (
            (
                "Where the support loss has no curvature.",
                "Each factor is I - αH; without H it is the identity.",
            ),
            (
                "Where the inner loop takes one step only.",
                "One step leaves one factor I - αH, which is dropped too.",
            ),
            (
                "Where α is the same for all parameters.",
                "Then it still drops the Hessians.",
            ),
        ),
        right=0,
    ),
    Question(
        "You double the number of inner steps. Whose peak memory grows?",
        (
            (
                "Everyone's: more steps, more tensors.",
                "A step that nothing differentiates can be forgotten at once.",
            ),
            (
                "MAML's and ANIL's.",
                "They walk back through every inner step, so every step is "
                "kept. ANIL keeps less of each.",
            ),
            (
                "MAML's and iMAML's, which use the Hessian.",
                "iMAML uses the Hessian at one point, the end.",
            ),
        ),
        right=1,
    ),
    Question(
        "A colleague's Reptile takes one inner step and learns slowly. Why?",
        (
            (
                "Reptile needs a query set.",
                "It never looks at one.",
            ),
            (
                "Its α is too small to see the curvature.",
                "With one step, α only scales the update.",
            ),
            (
                "With one step it is joint training.",
                "θ - θ′ is α times the gradient at θ; what tells tasks apart "
                "enters from the second step on.",
            ),
        ),
        right=2,
    ),
)
