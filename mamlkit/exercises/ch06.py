"""Exercises of chapter 06: drop the second order."""

import torch
from torch.func import grad

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.inner import adapt
from mamlkit.tasks import Batch


def _bowls(params, batch):
    """L = mean (u - x)² + (v - y)²: two parameters, curvature 2."""
    u, v = params["u"], params["v"]
    return ((u - batch.x) ** 2 + (v - batch.y) ** 2).mean()


def _start():
    return {"u": torch.tensor(1.0), "v": torch.tensor(-2.0)}


_TASK = Batch(torch.tensor([[3.0], [5.0]]), torch.tensor([[0.0], [1.0]]))


def _check_dict(adapted, params):
    require(
        isinstance(adapted, dict) and adapted.keys() == params.keys(),
        f"Return a dict of tensors with the names {sorted(params)}.",
    )


def check_first_order_step(first_order_step):
    """By hand: ∂L/∂u = 2 (1 - 4) = -6, so u′ = 1.6; its slope must be 1."""
    # Leaves, so that a step by torch.autograd.grad is as welcome as by grad.
    params = {name: p.requires_grad_() for name, p in _start().items()}
    start = params["u"]
    adapted = first_order_step(params, _bowls, _TASK, 0.1)
    _check_dict(adapted, params)
    compare(
        adapted["u"],
        torch.tensor(1.6),
        "u after one step with lr 0.1",
        [
            (torch.tensor(1.0), "u does not move: you dropped the gradient, "
             "not only its dependence on params."),
            (torch.tensor(0.4), "u moves uphill: a step subtracts the "
             "gradient."),
            (torch.tensor(7.0), "The step is as long as the gradient: "
             "multiply it by lr."),
        ],
    )  # fmt: skip
    slope = torch.tensor(0.0)
    if adapted["u"].requires_grad:
        (found,) = torch.autograd.grad(adapted["u"], start, allow_unused=True)
        slope = slope if found is None else found
    compare(
        slope,
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


def _with_copies(params, loss_fn, batch, lr):
    copies = {k: p.clone().requires_grad_() for k, p in params.items()}
    return _with_create_graph(copies, loss_fn, batch, lr)


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


def _stopped(error, how, truth):
    """What to do about the error that a detector stops with."""
    if "functorch" in error:
        remedy = (
            "torch.func cannot look into a step that calls requires_grad_. "
            "Hand the step a w with requires_grad=True, and differentiate "
            "w′ by torch.autograd.grad."
        )
    elif "does not require grad" in error and truth:
        remedy = "the w that you hand it must have requires_grad=True."
    elif "does not require grad" in error:
        remedy = "w′ keeps no trace. That is a finding: look before you ask."
    else:
        remedy = error.split("\n")[0]
    return f"Given {how}, your function stops: {remedy}"


def check_is_second_order(is_second_order):
    """Three honest steps, three of the chapter's, and one with no trace."""
    for step, truth, how in (
        (_second_order, True, "mamlkit's own adapt"),
        (_with_create_graph, True, "a step with create_graph=True"),
        (_with_copies, True, "a step on copies, with create_graph=True"),
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
            require(False, _stopped(str(error), how, truth))
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
_PATH = [torch.tensor(p) for p in ([1.0, 1.0], [2.0, 1.0], [0.0, 3.0])]
_QUERY_GRAD = torch.tensor([2.0, -1.0])


def check_walk_back(walk_back):
    """By hand, α = 0.5: H₁ g = (3, 0) makes v = (½, -1), H₀ v = (-½, -3/2)."""
    calls = []

    def hessian_times(theta, v):
        calls.append(theta)
        a, b = theta
        return torch.stack([a * v[0] + b * v[1], b * v[0] + 2 * v[1]])

    actual = walk_back(list(_PATH), hessian_times, _QUERY_GRAD.clone(), 0.5)
    compare(
        actual,
        torch.tensor([0.75, -0.25]),
        "The meta-gradient after two steps",
        [
            (_QUERY_GRAD, "This is first-order MAML: the query gradient "
             "itself."),
            (torch.tensor([0.5, -0.75]), "Right factors, wrong order: the "
             "chain rule starts at the last step."),
            (torch.tensor([1.5, -1.75]), "Each Hessian belongs to the point "
             "that its step left from, not to the one it reached."),
            (torch.tensor([1.625, -0.75]), "No step leaves from the end of "
             "the path: k steps have k factors, for θ₀ to the last but one."),
            (torch.tensor([4.75, -0.25]), "The sign: a step subtracts the "
             "gradient, so each factor is I - αH."),
            (torch.tensor([0.0, -1.0]), "You multiply the query gradient by "
             "each H, instead of what the later steps have made of it."),
            (torch.tensor([2.25, -0.25]), "You subtract from the query "
             "gradient at each step: subtract from what the later steps have "
             "left."),
            (torch.tensor([1.25, -0.75]), "You ask for the Hessian at θ₀ "
             "each time: every step has its own."),
            (torch.tensor([1.0, 2.0]), "Where is lr? Each factor is I - αH."),
            (torch.tensor([0.75, 0.75]), "The identity is missing: each "
             "factor is I - αH, so v itself stays in the sum."),
        ],
    )  # fmt: skip
    require(
        len(calls) == 2,
        f"Right, but with {len(calls)} products for 2 steps: one a step is "
        "enough.",
    )
    none = walk_back(_PATH[:1], hessian_times, _QUERY_GRAD.clone(), 0.5)
    compare(none, _QUERY_GRAD, "The meta-gradient after no step")


def _valleys(params, batch):
    """L = mean ½ y ((u - x)² + (v - x)²): each task has a curvature, y."""
    u, v = params["u"], params["v"]
    return (batch.y * ((u - batch.x) ** 2 + (v - batch.x) ** 2) / 2).mean()


_FLAT = Batch(torch.tensor([[3.0], [5.0]]), torch.full((2, 1), 2.0))
_STEEP = Batch(torch.tensor([[-3.0], [-5.0]]), torch.full((2, 1), 4.0))


def _in_turn(share):
    """u, if each task in turn moves params before the next one adapts."""
    params = _start()
    for support in (_FLAT, _STEEP):
        to = adapt(params, _valleys, support, lr=0.1, steps=2)
        params = {k: p + share * (to[k] - p) for k, p in params.items()}
    return params["u"]


def check_reptile_update(reptile_update):
    """By hand, two steps at α 0.1 leave 0.8² and 0.6² of the way to 4 and -4.

    So u′ is 2.08 and -2.2, v′ is 0.16 and -3.28. As the curvatures differ,
    adapting to all examples at once ends elsewhere than the mean does.
    """
    params = _start()
    options = {"lr": 0.1, "steps": 2, "meta_lr": 0.25}
    moved = reptile_update(params, _valleys, [_FLAT, _STEEP], **options)
    _check_dict(moved, params)
    require(
        all(params[k] == value for k, value in _start().items()),
        "You changed params itself: return a new dict.",
    )
    before_moving = "adapt to all before you move."
    compare(
        moved["u"],
        torch.tensor(0.735),
        "u after the update",
        [
            (torch.tensor(1.265), "You move away from the adapted "
             "parameters: the sign."),
            (torch.tensor(0.47), "You sum over the tasks: take the mean."),
            (torch.tensor(-0.06), "You go all the way: meta_lr is the share "
             "of the way to go."),
            (torch.tensor(0.205), "You keep meta_lr of the old params and "
             "go the rest: meta_lr is the share of the way to go, so 0 "
             "stays."),
            (torch.tensor(-0.265), "This is the way to go, without its "
             "start: add it to params."),
            (torch.tensor(0.825), "You take one step a task where steps = "
             "2."),
            (torch.tensor(0.65), "Each inner step takes the gradient at "
             "params again: take it where the last step ended."),
            (torch.tensor(1.27), "Only the first task counts: take the mean "
             "over all."),
            (torch.tensor(0.2), "Only the last task counts: take the mean "
             "over all."),
            (torch.tensor(0.7025), "You adapt once, to all examples "
             "together: adapt to each task alone, then take the mean."),
            (torch.tensor(0.2972), "The second task adapts from where the "
             "first has ended: adapt to each from params."),
            (_in_turn(0.25 / 2), "The second task starts from where the "
             f"first has moved params: {before_moving}"),
            (_in_turn(0.25), "One task an update, Reptile's serial form: "
             f"the mean over tasks is wanted here, so {before_moving}"),
        ],
    )  # fmt: skip
    compare(moved["v"], torch.tensor(-1.89), "v after the update")


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
            (
                """
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] + lr * grads[k].detach() for k in params}
""",
                "u moves uphill",
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
            (
                """
def is_second_order(step):
    def after(w):
        return step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]

    return abs(grad(after)(torch.tensor(1.0)).item() - 0.8) < 1e-4
""",
                "differentiate w′ by torch.autograd.grad",
            ),
            (
                """
def is_second_order(step):
    w = torch.tensor(1.0)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    (slope,) = torch.autograd.grad(after, w)
    return abs(slope.item() - 0.8) < 1e-4
""",
                "the w that you hand it",
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
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path):
        v = v - lr * hessian_times(theta, v)
    return v
""",
                "No step leaves from the end",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = v - hessian_times(theta, v)
    return v
""",
                "Where is lr",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for _ in path[1:]:
        v = v - lr * hessian_times(path[0], v)
    return v
""",
                "every step has its own",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = query_grad - lr * hessian_times(theta, v)
    return v
""",
                "what the later steps have left",
            ),
            (
                """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = -lr * hessian_times(theta, v)
    return v
""",
                "The identity is missing",
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
                "first has moved params",
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
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    together = Batch(*map(torch.cat, zip(*supports)))
    end = adapt(params, loss_fn, together, lr=lr, steps=steps)
    return {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
""",
                "adapt to each task alone",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {k: p + meta_lr * (ends[-1][k] - p) for k, p in params.items()}
""",
                "Only the last task",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    for s in supports:
        end = adapt(params, loss_fn, s, lr=lr, steps=steps)
        return {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
""",
                "Only the first task",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    end = params
    for s in supports:
        end = adapt(end, loss_fn, s, lr=lr, steps=steps)
    return {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
""",
                "adapt to each from params",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    for s in supports:
        end = adapt(params, loss_fn, s, lr=lr, steps=steps)
        params = {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
    return params
""",
                "serial form",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
                "without its start",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: meta_lr * p + (1 - meta_lr) * sum(end[k] for end in ends) / 2
        for k, p in params.items()
    }
""",
                "so 0 stays",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = []
    for s in supports:
        end = params
        for _ in range(steps):
            slope = grad(loss_fn)(params, s)
            end = {k: end[k] - lr * slope[k] for k in end}
        ends.append(end)
    return {
        k: p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
                "where the last step ended",
            ),
            (
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    to = sum(end["u"] for end in ends) / len(ends)
    return {k: p + meta_lr * (to - params["u"]) for k, p in params.items()}
""",
                "v after the update",
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
