"""Exercises of chapter 06: drop the second order."""

import torch
from torch.func import grad

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    bowls,
    bowls_start,
    bowls_task,
    coupled_loss,
    normal,
    some_batch,
    some_params,
    step_problem,
    uniform,
    whole,
)
from mamlkit.exercises.words import about
from mamlkit.inner import adapt
from mamlkit.tasks import Batch

FIRST_ORDER_STEP = """
def first_order_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] - lr * grads[k].detach() for k in params}
"""
DETECTOR = """
def is_second_order(step):
    w = torch.tensor(1.0, requires_grad=True)
    after = step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]
    if not after.requires_grad:
        return False
    (slope,) = torch.autograd.grad(after, w)
    return abs(slope.item() - 0.8) < 1e-4
"""
WALK_BACK = """
def walk_back(path, hessian_times, query_grad, lr):
    v = query_grad
    for theta in reversed(path[:-1]):
        v = v - lr * hessian_times(theta, v)
    return v
"""
REPTILE = """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) for s in supports]
    return {
        k: p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
"""
HONEST = """
def nothing_is_lost(step):
    def loss_fn(params, batch):
        a, b = params["a"], params["b"]
        return (a[0] * a[1] * b + (a**3).sum() + b**2 * a[0]).sin()

    def total(params):
        end = step(params, loss_fn, None, 0.1)
        return end["a"][0] + 2 * end["a"][1] - 3 * end["b"]

    start = {
        "a": torch.tensor([0.5, -0.4], dtype=torch.float64),
        "b": torch.tensor(0.8, dtype=torch.float64),
    }
    leaves = {k: p.clone().requires_grad_() for k, p in start.items()}
    found = total(leaves)
    if not found.requires_grad:
        return False
    slopes = torch.autograd.grad(
        found, [*leaves.values()], allow_unused=True
    )
    for (name, p), slope in zip(start.items(), slopes):
        if slope is None:
            return False
        for i in range(p.numel()):
            nudge = torch.zeros_like(p)
            nudge.view(-1)[i] = 1e-5
            up = total(start | {name: p + nudge})
            down = total(start | {name: p - nudge})
            if abs((up - down).item() / 2e-5 - slope.view(-1)[i]) > 1e-5:
                return False
    return True
"""


def first_step():
    """∂L/∂u = 2 (1 - 4) = -6 and ∂L/∂v = -5, so 1.6 and -1.5 at α 0.1."""
    return bowls_start(), bowls, bowls_task(), 0.1


# Steps for the detectors: what they say of themselves is read by learners.


def _by_adapt(params, loss_fn, batch, lr):
    """Adapt of mamlkit itself."""
    return adapt(params, loss_fn, batch, lr=lr)


def _with_create_graph(params, loss_fn, batch, lr):
    """torch.autograd.grad with create_graph=True."""
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, [*params.values()], create_graph=True, allow_unused=True
    )
    return {
        k: p if g is None else p - lr * g
        for (k, p), g in zip(params.items(), grads)
    }


def _with_copies(params, loss_fn, batch, lr):
    """A step on copies, with create_graph=True."""
    copies = {k: p.clone().requires_grad_() for k, p in params.items()}
    return _with_create_graph(copies, loss_fn, batch, lr)


def _one_by_one(params, loss_fn, batch, lr):
    """A step that takes the gradients one by one."""
    return {
        k: p - lr * grad(lambda v, k=k: loss_fn(params | {k: v}, batch))(p)
        for k, p in params.items()
    }


def _without_create_graph(params, loss_fn, batch, lr):
    """The chapter's step without create_graph."""
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    grads = torch.autograd.grad(loss_fn(leaves, batch), [*leaves.values()])
    return {k: params[k] - lr * g for k, g in zip(params, grads)}


def _stray_detach(params, loss_fn, batch, lr):
    """The chapter's step with the stray detach."""
    fixed = {k: p.detach() for k, p in params.items()}
    grads = grad(loss_fn)(fixed, batch)
    return {k: params[k] - lr * grads[k] for k in params}


def _data(params, loss_fn, batch, lr):
    """The chapter's step with .data."""
    grads = grad(loss_fn)(params, batch)
    return {k: params[k] - lr * grads[k].data for k in params}


def _on_purpose(params, loss_fn, batch, lr):
    """Adapt with first_order=True."""
    return adapt(params, loss_fn, batch, lr=lr, first_order=True)


def _no_graph(params, loss_fn, batch, lr):
    """A step whose result is detached altogether."""
    adapted = adapt(params, loss_fn, batch, lr=lr)
    return {k: p.detach() for k, p in adapted.items()}


def _theta_detached(params, loss_fn, batch, lr):
    """A step that detaches θ and keeps the gradient's graph."""
    grads = grad(loss_fn)(params, batch)
    return {k: params[k].detach() - lr * grads[k] for k in params}


STEPS = (
    _by_adapt,
    _without_create_graph,
    _with_copies,
    _stray_detach,
    _with_create_graph,
    _data,
    _one_by_one,
    _no_graph,
    _on_purpose,
    _theta_detached,
)


def _normalised(params, loss_fn, batch, lr, fixed=False):
    """A step of normalised length."""
    grads = grad(loss_fn)(params, batch)
    length = sum((g**2).sum() for g in grads.values()) ** 0.5
    length = length.detach() if fixed else length
    return {k: p - lr * grads[k] / length for k, p in params.items()}


def _length_detached(params, loss_fn, batch, lr):
    """A step of normalised length, whose length is detached."""
    return _normalised(params, loss_fn, batch, lr, fixed=True)


def _two_halves(params, loss_fn, batch, lr):
    """Two steps of half the length."""
    return adapt(params, loss_fn, batch, lr=lr / 2, steps=2)


def _first_half_detached(params, loss_fn, batch, lr):
    """Two steps of half the length, the first of them first order."""
    half = adapt(params, loss_fn, batch, lr=lr / 2, first_order=True)
    return adapt(half, loss_fn, batch, lr=lr / 2)


def _between_lost(params, loss_fn, batch, lr):
    """A step that loses second derivatives between parameters."""
    out = {}
    for k in params:
        others = {n: p if n == k else p.detach() for n, p in params.items()}
        out[k] = params[k] - lr * grad(loss_fn)(others, batch)[k]
    return out


def _last_lost(params, loss_fn, batch, lr):
    """A step that is first order in its last parameter only."""
    grads = grad(loss_fn)(params, batch)
    last = [*params][-1]
    grads[last] = grads[last].detach()
    return {k: p - lr * grads[k] for k, p in params.items()}


def _half_lost(params, loss_fn, batch, lr):
    """A step that keeps half of every second derivative."""
    grads = grad(loss_fn)(params, batch)
    return {
        k: p - lr * (grads[k] + grads[k].detach()) / 2
        for k, p in params.items()
    }


def _decayed(params, loss_fn, batch, lr):
    """A step that also shrinks the parameters by a tenth of α."""
    grads = grad(loss_fn)(params, batch)
    return {k: p - lr * (grads[k] + p / 10) for k, p in params.items()}


TEN = (
    (_by_adapt, True),
    (_between_lost, False),
    (_with_copies, True),
    (_last_lost, False),
    (_normalised, True),
    (_length_detached, False),
    (_two_halves, True),
    (_first_half_detached, False),
    (_decayed, True),
    (_half_lost, False),
)


def separates_ten(nothing_is_lost):
    """Five honest steps, and five that lose a part of dθ′/dθ."""
    for step, honest in TEN:
        said = to_tensor(nothing_is_lost(step))
        require(
            said is not None and said.numel() == 1,
            "Return True or False.",
        )
        blame = (
            "You accuse"
            if honest
            else "Its values are right, and part of its derivative is lost: "
            "you let pass"
        )
        require(bool(said) == honest, f"{blame} {about(step)}.")


def first_walk():
    """By hand, α = 0.5: H₁ g = (3, 0) makes v = (½, -1), H₀ v = (-½, -3/2).

    H(θ) = [[θ₀, θ₁], [θ₁, 2]] differs from point to point.
    """

    def hessian_times(theta, v):
        a, b = theta
        return torch.stack([a * v[0] + b * v[1], b * v[0] + 2 * v[1]])

    path = [torch.tensor(p) for p in ([1.0, 1.0], [2.0, 1.0], [0.0, 3.0])]
    return path, hessian_times, torch.tensor([2.0, -1.0]), 0.5


def walk_problem(g, number):
    """Hessians that change along the path and do not commute."""
    d, k = (1, 2, 3, 2, 4, 3)[number - 1], (1, 2, 3, 0, 4, 2)[number - 1]
    path = [normal(g, d) for _ in range(k + 1)]
    mixing = normal(g, d, d)

    def hessian_times(theta, v):
        bent = mixing @ torch.diag(theta) @ mixing.T
        return bent @ v + theta * (theta @ v)

    return path, hessian_times, normal(g, d), uniform(g, 0.1, 0.6)


def counts_products(walk_back):
    """One product a step is enough."""
    path, hessian_times, query_grad, lr = first_walk()
    calls = []

    def counted(theta, v):
        calls.append(theta)
        return hessian_times(theta, v)

    walk_back(path, counted, query_grad, lr)
    require(
        len(calls) == 2,
        f"Right, but with {len(calls)} products for 2 steps: one a step is "
        "enough.",
    )


def valleys(params, batch):
    """L = mean ½ y ((u - x)² + (v - x)²): each task has a curvature, y."""
    u, v = params["u"], params["v"]
    return (batch.y * ((u - batch.x) ** 2 + (v - batch.x) ** 2) / 2).mean()


def first_update():
    """By hand, two steps at α 0.1 leave 0.8² and 0.6² of the way to 4 and -4.

    So u′ is 2.08 and -2.2, v′ is 0.16 and -3.28. As the curvatures differ,
    adapting to all examples at once ends elsewhere than the mean does.
    """
    flat = Batch(torch.tensor([[3.0], [5.0]]), torch.full((2, 1), 2.0))
    steep = Batch(torch.tensor([[-3.0], [-5.0]]), torch.full((2, 1), 4.0))
    return bowls_start(), valleys, [flat, steep], 0.1, 2, 0.25


def update_problem(g, number):
    """One task to four, with sets of one size, as they may be joined."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    k = whole(g, 1, 4)
    supports = [
        some_batch(g, k) for _ in range((3, 2, 1, 4, 3, 2)[number - 1])
    ]
    lr, share = uniform(g, 0.2, 0.8), uniform(g, 0.1, 1.0)
    return params, loss_fn, supports, lr, 1 + number % 4, share


PASSED_FIRST = (
    "You let a first-order step pass. Its values are right: look at the "
    "slope dθ′/dθ, as autograd sees it."
)

REMEDIES = (
    (
        "functorch transform",
        "torch.func cannot look into a step that calls requires_grad_. Hand "
        "the step a w with requires_grad=True, and differentiate w′ by "
        "torch.autograd.grad",
    ),
    (
        "does not require grad",
        "either the w that you hand over does not require grad, or w′ keeps "
        "no graph. That is a finding: look before you ask",
    ),
)

EXERCISES = by_key(
    Exercise(
        "6.1",
        "first_order_step",
        level=1,
        minutes=3,
        hints=(
            "Hold constant what depends on params through the loss.",
            "The gradient may stay a number: grads[name].detach().",
        ),
        solution=FIRST_ORDER_STEP,
        first=first_step,
        told="After one step from u = 1, v = -2 with lr = 0.1",
        by_hand=lambda: {"u": 1.6, "v": -1.5},
        draw=step_problem,
        orders=1,
        by=("params",),
        leaves=True,
        mistakes=(
            (
                ".detach()",
                "",
                "Still second order: the gradient depends on params, and "
                "dθ′/dθ shows it.",
            ),
            (
                "params[k] - lr * grads[k].detach()",
                "(params[k] - lr * grads[k]).detach()",
                "The path θ -> θ′ is cut as well, and no meta-gradient is "
                "left. Detach the gradient only.",
            ),
            (
                "params[k] - lr * grads[k].detach()",
                "params[k].detach() - lr * grads[k]",
                "You detached the wrong term: the path through the gradient "
                "stays, and θ -> θ′ is gone.",
            ),
            (
                "{k: params[k] - lr * grads[k].detach() for k in params}",
                "dict(params)",
                "θ does not move: you dropped the gradient, not only its "
                "dependence on params.",
            ),
            ("- lr", "+ lr", "θ moves uphill: a step subtracts the gradient."),
            (
                "lr * grads",
                "grads",
                "The step is as long as the gradient: multiply it by lr.",
            ),
        ),
    ),
    Exercise(
        "6.2",
        "is_second_order",
        level=2,
        minutes=10,
        hints=(
            "Take one parameter w with requires_grad=True, the loss w², and "
            "ask torch.autograd.grad for dw′/dw. What should it be?",
            "With α = 0.1 the slope is 1 - 2α = 0.8. If the result does not "
            "require grad, there is no slope at all.",
        ),
        solution=DETECTOR,
        draw=lambda g, number: (STEPS[number],),
        draws=len(STEPS),
        remedies=REMEDIES,
        mistakes=(
            (
                "    if not after.requires_grad:\n",
                "    return after.requires_grad\n    if not after:\n",
                PASSED_FIRST,
            ),
            (
                'p["w"] ** 2',
                '3 * p["w"]',
                "You call a right step first order. Does your loss have a "
                "curvature, and do you expect the right slope for it?",
            ),
            (
                "    if not after.requires_grad:\n        return False\n",
                "",
                "look before you ask",
            ),
            (
                "    w = torch.tensor(1.0, requires_grad=True)\n",
                "    return grad(lambda w: step({'w': w}, lambda p, batch: "
                "p['w'] ** 2, None, 0.1)['w'])(torch.tensor(1.0)).item() < "
                "0.9\n",
                "differentiate w′ by torch.autograd.grad",
            ),
            (
                ", requires_grad=True",
                "",
                "You call every step first order: does your w require grad?",
            ),
        ),
    ),
    Exercise(
        "6.3",
        "walk_back",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "Start with v = query_grad. Each step that was taken turns v "
            "into (I - αH) v.",
            "Go through path[:-1] from its end: v = v - lr * "
            "hessian_times(theta, v).",
        ),
        solution=WALK_BACK,
        first=first_walk,
        told="For H(θ) = [[θ₀, θ₁], [θ₁, 2]], the path (1, 1), (2, 1), (0, "
        "3), a query gradient (2, -1) and lr = 0.5",
        by_hand=lambda: torch.tensor([0.75, -0.25]),
        draw=walk_problem,
        prove=counts_products,
        mistakes=(
            (
                "    v = query_grad\n",
                "    return query_grad\n",
                "This is first-order MAML: the query gradient itself.",
            ),
            (
                "reversed(path[:-1])",
                "path[:-1]",
                "Right factors, wrong order: the chain rule starts at the "
                "last step.",
            ),
            (
                "reversed(path[:-1])",
                "reversed(path[1:])",
                "Each Hessian belongs to the point that its step left from, "
                "not to the one it reached.",
            ),
            (
                "reversed(path[:-1])",
                "reversed(path)",
                "No step leaves from the end of the path: k steps have k "
                "factors, for θ₀ to the last but one.",
            ),
            (
                "- lr *",
                "+ lr *",
                "The sign: a step subtracts the gradient, so each factor is "
                "I - αH.",
            ),
            (
                "(theta, v)",
                "(theta, query_grad)",
                "You multiply the query gradient by each H, instead of what "
                "the later steps have made of it.",
            ),
            (
                "v = v - lr",
                "v = query_grad - lr",
                "You subtract from the query gradient at each step: subtract "
                "from what the later steps have left.",
            ),
            (
                "(theta, v)",
                "(path[0], v)",
                "You ask for the Hessian at θ₀ each time: every step has its "
                "own.",
            ),
            ("lr * ", "", "Where is lr? Each factor is I - αH."),
            (
                "v = v - lr",
                "v = -lr",
                "The identity is missing: each factor is I - αH, so v itself "
                "stays in the sum.",
            ),
            (
                "        v = v - lr * hessian_times(theta, v)\n",
                "        columns = [hessian_times(theta, e) for e in "
                "torch.eye(len(v))]\n"
                "        v = v - lr * torch.stack(columns, dim=1) @ v\n",
                "with 4 products",
            ),
            (
                "v = v - lr * hessian_times(theta, v)",
                "v -= lr * hessian_times(theta, v)",
                "You changed query_grad itself",
            ),
        ),
    ),
    Exercise(
        "6.4",
        "reptile_update",
        level=2,
        minutes=10,
        hints=(
            "adapt to every support set first, always from params.",
            "The new value is params[k] + meta_lr * (mean of adapted[k] - "
            "params[k]).",
        ),
        solution=REPTILE,
        first=first_update,
        told="For two tasks, from u = 1, v = -2, two steps with lr = 0.1, "
        "meta_lr = 0.25",
        by_hand=lambda: {"u": 0.735, "v": -1.89},
        draw=update_problem,
        mistakes=(
            (
                "p + meta_lr",
                "p - meta_lr",
                "You move away from the adapted parameters: the sign.",
            ),
            (
                " / len(ends) - p)",
                " - len(ends) * p)",
                "You sum over the tasks: take the mean.",
            ),
            (
                "p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)",
                "sum(end[k] for end in ends) / len(ends)",
                "You go all the way: meta_lr is the share of the way to go.",
            ),
            (
                "p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)",
                "meta_lr * p + (1 - meta_lr) * sum(end[k] for end in ends) / "
                "len(ends)",
                "You keep meta_lr of the old params and go the rest: meta_lr "
                "is the share of the way to go, so 0 stays.",
            ),
            (
                "k: p + meta_lr",
                "k: meta_lr",
                "This is the way to go, without its start: add it to params.",
            ),
            (
                ", steps=steps",
                "",
                "You take one step a task, whatever steps says.",
            ),
            (
                "    return {",
                "    ends = ends[:1]\n    return {",
                "Only the first task counts: take the mean over all.",
            ),
            (
                "    return {",
                "    ends = ends[-1:]\n    return {",
                "Only the last task counts: take the mean over all.",
            ),
            (
                "    ends = [adapt(params, loss_fn, s, lr=lr, steps=steps) "
                "for s in supports]\n",
                "    together = Batch(*map(torch.cat, zip(*supports)))\n"
                "    ends = [adapt(params, loss_fn, together, lr=lr, "
                "steps=steps)]\n",
                "You adapt once, to all examples together: adapt to each "
                "task alone, then take the mean.",
            ),
            (
                "",
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    end = params
    for s in supports:
        end = adapt(end, loss_fn, s, lr=lr, steps=steps)
    return {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
""",
                "A task adapts from where the one before has ended: adapt to "
                "each from params.",
            ),
            (
                "",
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    for s in supports:
        end = adapt(params, loss_fn, s, lr=lr, steps=steps)
        params = {k: p + meta_lr / len(supports) * (end[k] - p)
                  for k, p in params.items()}
    return params
""",
                "A task starts from where the one before has moved params: "
                "adapt to all before you move.",
            ),
            (
                "",
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    for s in supports:
        end = adapt(params, loss_fn, s, lr=lr, steps=steps)
        params = {k: p + meta_lr * (end[k] - p) for k, p in params.items()}
    return params
""",
                "One task an update is Reptile's serial form. The mean over "
                "tasks is wanted here.",
            ),
            (
                "",
                """
def reptile_update(params, loss_fn, supports, lr, steps, meta_lr):
    ends = []
    for s in supports:
        slope = grad(loss_fn)(params, s)
        ends.append({k: p - steps * lr * slope[k] for k, p in params.items()})
    return {
        k: p + meta_lr * (sum(end[k] for end in ends) / len(ends) - p)
        for k, p in params.items()
    }
""",
                "Each inner step takes the gradient at params again: take it "
                "where the last step ended.",
            ),
            (
                "    return {",
                "    for k in params:\n"
                "        params[k] = params[k] + 1\n"
                "    return {",
                "You changed params itself",
            ),
        ),
    ),
    Exercise(
        "6.5",
        "nothing_is_lost",
        level=3,
        minutes=20,
        hints=(
            "One parameter cannot show what is lost between two. Which loss "
            "couples all entries of two parameters?",
            "You need not know what dθ′/dθ should be: the values of θ′ tell, "
            "if you nudge θ. Compare with autograd's slope, in float64.",
            "A loss like (a[0] * a[1] * b + (a**3).sum()).sin() of params "
            '{"a", "b"}, and a sum of all results with different weights.',
        ),
        example=HONEST,
        prove=separates_ten,
        remedies=REMEDIES,
        mistakes=(
            (
                "(a[0] * a[1] * b + (a**3).sum() + b**2 * a[0]).sin()",
                "(a**3).sum() + b**3",
                "derivatives between parameters.",
            ),
            (
                "    if not found.requires_grad:\n",
                "    return False\n    if not found.requires_grad:\n",
                "You accuse adapt of mamlkit",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "On which tasks is first-order MAML exactly MAML?",
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
    ask(
        "You double the number of inner steps. Whose peak memory grows?",
        (
            "MAML's and ANIL's.",
            "They walk back through every inner step, so every step is kept. "
            "ANIL keeps less of each.",
        ),
        (
            "Everyone's: more steps, more tensors.",
            "A step that nothing differentiates can be forgotten at once.",
        ),
        (
            "MAML's and iMAML's, which use the Hessian.",
            "iMAML uses the Hessian at one point, the end.",
        ),
    ),
    ask(
        "A colleague's Reptile takes one inner step and learns no better "
        "than joint training. Why?",
        (
            "With one step it is joint training.",
            "θ - θ′ is α times the gradient at θ; what tells tasks apart "
            "enters from the second step on.",
        ),
        (
            "Reptile needs a query set.",
            "It never looks at one.",
        ),
        (
            "Its α is too small to see the curvature.",
            "With one step, α only scales the update.",
        ),
    ),
)
