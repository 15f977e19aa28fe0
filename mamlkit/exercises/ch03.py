"""Exercises of chapter 03: adapt in the inner loop."""

import torch

from mamlkit.exercises.compare import compare, require
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    bowls,
    bowls_start,
    bowls_task,
    coupled_loss,
    normal,
    seeded,
    some_batch,
    some_params,
    step_problem,
    uniform,
    whole,
)
from mamlkit.tasks import Batch

ONE_STEP = """
def one_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    return {name: params[name] - lr * grads[name] for name in params}
"""
MENDED_STEP = """
def mended_step(params, loss_fn, batch, lr):
    loss = loss_fn(params, batch)
    grads = torch.autograd.grad(
        loss, list(params.values()), create_graph=True
    )
    return {name: params[name] - lr * g for name, g in zip(params, grads)}
"""
ADAPT_EACH = """
def adapt_each(params, loss_fn, supports, lr, steps):
    return [
        adapt(params, loss_fn, support, lr=lr, steps=steps)
        for support in supports
    ]
"""
MY_ADAPT = """
def my_adapt(params, loss_fn, support, lr, steps):
    for _ in range(steps):
        grads = grad(loss_fn)(params, support)
        params = {name: params[name] - lr * grads[name] for name in params}
    return params
"""
ROBUST = """
def robust_step(params, loss_fn, batch, lr):
    grads = grad(loss_fn)(params, batch)
    rates = [lr / 2**halvings for halvings in range(12)]
    ends = [
        {name: p - rate * grads[name] for name, p in params.items()}
        for rate in rates
    ]
    return min(ends, key=lambda end: loss_fn(end, batch).item())
"""

UPHILL = "You went uphill: subtract the gradient."
NO_LR = "The step ignores lr: take lr times the gradient."
FIRST_ORDER = (
    "Something detaches the gradient: dθ′/dθ lacks the second derivatives, "
    "as in first-order MAML."
)


def one_bowls_step():
    """∂L/∂u = 2 (1 - 4) = -6 and ∂L/∂v = -5, so 1.6 and -1.5 at α 0.1."""
    return bowls_start(), bowls, bowls_task(), 0.1


def each_bowls():
    """Two steps shrink the way to a task's centre by 0.8² = 0.64."""
    other = Batch(torch.tensor([[-3.0], [-1.0]]), torch.tensor([[4.0], [2.0]]))
    supports = [bowls_task(), other, bowls_task()]
    return bowls_start(), bowls, supports, 0.1, 2


def each_problem(g, number):
    """Several support sets of different sizes, one to three steps."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    supports = [some_batch(g, whole(g, 1, 4)) for _ in range(1 + number)]
    return params, loss_fn, supports, uniform(g, 0.1, 0.7), whole(g, 1, 3)


def adapt_problem(g, number):
    """No step, one, two, three and more."""
    params, loss_fn, support, lr = step_problem(g, number)
    return params, loss_fn, support, lr, (1, 2, 0, 3, 5, 4)[number - 1]


def survives(robust_step):
    """Twenty problems whose α is right, or up to a hundred times too large."""
    g, short_of = seeded(3), 0
    for number in range(20):
        params = {
            k: p.double() for k, p in some_params(g, 1 + number % 3, 2).items()
        }
        loss_fn = coupled_loss(g, params)
        batch = Batch(*(t.double() for t in some_batch(g, 4)))
        lr = 10 ** uniform(g, 0.0, 2.0)
        start = {k: p.clone() for k, p in params.items()}
        end = robust_step(params, loss_fn, batch, lr)
        compare(params, start, "After your step, params itself has changed:")
        _same_form(end, params)
        before, after = (loss_fn(p, batch).item() for p in (start, end))
        require(
            after < before,
            f"On problem {number} with α = {lr:.3g} the loss goes from "
            f"{before:.3g} to {after:.3g}. It should fall on each of 20.",
        )
        best = _best_on_the_line(start, loss_fn, batch)
        short_of += before - after < 0.2 * (before - best)
        _keeps_graph(robust_step, start, loss_fn, batch, lr, g)
    require(
        short_of <= 5,
        f"The loss always falls, but on {short_of} of 20 problems by less "
        "than a fifth of what the best step along the gradient gains. Be less "
        "careful.",
    )


def _same_form(end, params):
    names = [*params]
    require(
        isinstance(end, dict) and end.keys() == params.keys(),
        f"Return a dict with the names {names}.",
    )
    shapes = all(end[k].shape == params[k].shape for k in names)
    require(shapes, "Every parameter should keep its shape.")


def _best_on_the_line(params, loss_fn, batch):
    grads = torch.func.grad(loss_fn)(params, batch)
    return min(
        loss_fn({k: p - rate * grads[k] for k, p in params.items()}, batch)
        for rate in torch.logspace(-3, 2, 60)
    ).item()


def _keeps_graph(step, params, loss_fn, batch, lr, g):
    """The derivative along a direction, against a difference."""
    along, weights = (
        {k: normal(g, *p.shape).double() for k, p in params.items()}
        for _ in range(2)
    )

    def total(params):
        end = step(params, loss_fn, batch, lr)
        return sum((weights[k] * p).sum() for k, p in end.items())

    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    found = total(leaves)
    slope = torch.tensor(0.0)
    if found.requires_grad:
        slopes = torch.autograd.grad(
            found, [*leaves.values()], allow_unused=True
        )
        slope = sum(
            (along[k] * s).sum()
            for k, s in zip(leaves, slopes)
            if s is not None
        )
    up, down = (
        total({k: p + eps * along[k] for k, p in params.items()})
        for eps in (1e-6, -1e-6)
    )
    want = (up - down).item() / 2e-6
    require(
        abs(float(slope) - want) < 1e-3 * (1 + abs(want)),
        "The outer loop could not learn through your step: dθ′/dθ along a "
        f"direction is {want:.4g}, and autograd finds {float(slope):.4g}. "
        "Something is detached.",
    )


EXERCISES = by_key(
    Exercise(
        "3.1",
        "one_step",
        level=1,
        minutes=5,
        hints=(
            "torch.func.grad(loss_fn) is a function with loss_fn's arguments.",
            "grads = grad(loss_fn)(params, batch) is a dict like params.",
        ),
        solution=ONE_STEP,
        first=one_bowls_step,
        told="After one step from u = 1, v = -2 with lr = 0.1",
        by_hand=lambda: {"u": 1.6, "v": -1.5},
        draw=step_problem,
        orders=1,
        forbidden=("adapt",),
        mistakes=(
            ("- lr *", "+ lr *", UPHILL),
            ("lr * grads", "grads", NO_LR),
            (
                "grads = grad(loss_fn)(params, batch)",
                "grads = dict(zip(params, "
                "torch.autograd.grad(loss_fn(params, batch), "
                "list(params.values()))))",
                "Use torch.func.grad, which needs none",
            ),
            (
                "return {name: params[name] - lr * grads[name] for name in "
                "params}",
                "for name in params:\n"
                "        params[name] -= lr * grads[name]\n"
                "    return params",
                "You changed params itself",
            ),
            ("grads[name] for", "grads[name].detach() for", FIRST_ORDER),
            (
                "grad(loss_fn)(",
                "grad(lambda p, b: loss_fn(p, b) * len(b.x))(",
                "The gradient is too long: use loss_fn as it is. It takes "
                "the mean over examples itself.",
            ),
            (
                "return {name: params[name] - lr * grads[name] for name in "
                "params}",
                "moved = dict(params)\n"
                "    for name in params:\n"
                "        slope = grad(loss_fn)(moved, batch)[name]\n"
                "        moved[name] = moved[name] - lr * slope\n"
                "    return moved",
                "The gradient of one parameter was taken after another had "
                "moved. Take all gradients at params, then step.",
            ),
            (
                "{name: params[name] - lr * grads[name] for name in params}",
                "[params[name] - lr * grads[name] for name in params]",
                "should be a dict",
            ),
        ),
    ),
    Exercise(
        "3.2",
        "mended_step",
        level=1,
        minutes=5,
        hints=(
            "torch.autograd.grad forgets how it found the gradient, unless "
            "you ask it not to.",
            "Either create_graph=True, or torch.func.grad(loss_fn)(params, "
            "batch).",
        ),
        solution=MENDED_STEP,
        first=one_bowls_step,
        told="After one step from u = 1, v = -2 with lr = 0.1",
        by_hand=lambda: {"u": 1.6, "v": -1.5},
        draw=step_problem,
        orders=1,
        leaves=True,
        mistakes=(
            (", create_graph=True", "", FIRST_ORDER),
            (
                "params[name] - lr * g for",
                "params[name].detach() - lr * g for",
                "θ itself is detached: only the path through the gradient is "
                "left.",
            ),
            (
                "return {name: params[name] - lr * g for name, g in "
                "zip(params, grads)}",
                "return {name: (params[name] - lr * g).detach() for name, g "
                "in zip(params, grads)}",
                "The graph to params is cut altogether, not only the "
                "gradient's.",
            ),
            (
                "return {name: params[name] - lr * g for name, g in "
                "zip(params, grads)}",
                "for name, g in zip(list(params), grads):\n"
                "        params[name] = params[name] - lr * g\n"
                "    return params",
                "You changed params itself",
            ),
        ),
    ),
    Exercise(
        "3.3",
        "adapt_each",
        level=1,
        minutes=5,
        hints=(
            "adapt(params, loss_fn, support, lr=lr, steps=steps) returns a "
            "new dict, so params is still there afterwards.",
            "Do not assign the result of adapt to params.",
        ),
        solution=ADAPT_EACH,
        first=each_bowls,
        told="For three tasks, from u = 1, v = -2, two steps with lr = 0.1",
        by_hand=lambda: [
            {"u": 2.08, "v": -1.1},
            {"u": -0.08, "v": -0.2},
            {"u": 2.08, "v": -1.1},
        ],
        draw=each_problem,
        orders=1,
        mistakes=(
            (
                "",
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    adapted = []
    for support in supports:
        params = adapt(params, loss_fn, support, lr=lr, steps=steps)
        adapted.append(params)
    return adapted
""",
                "A task starts where the last one ended. Start every task at "
                "params.",
            ),
            (", steps=steps", "", "You take one step, whatever steps says."),
            (
                "",
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
                "You changed params itself",
            ),
            (
                "",
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    for support in supports:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
    return adapted
""",
                "should be a list of 3",
            ),
            (
                "",
                """
def adapt_each(params, loss_fn, supports, lr, steps):
    results, own = [], {}
    for support in supports:
        own.update(adapt(params, loss_fn, support, lr=lr, steps=steps))
        results.append(own)
    return results
""",
                "All results are the same dict. Each task needs its own.",
            ),
            (
                "lr=lr, steps=steps",
                "lr=lr, steps=steps, first_order=True",
                FIRST_ORDER,
            ),
        ),
    ),
    Exercise(
        "3.4",
        "my_adapt",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "It is the step of exercise 3.1, taken several times. From where "
            "does the second one start?",
            "In each round: grads = grad(loss_fn)(params, support), then a "
            "new dict under the name params.",
        ),
        solution=MY_ADAPT,
        first=lambda: (*one_bowls_step(), 2),
        told="After two steps from u = 1, v = -2 with lr = 0.1",
        by_hand=lambda: {"u": 2.08, "v": -1.1},
        draw=adapt_problem,
        orders=1,
        forbidden=("adapt",),
        mistakes=(
            (
                "    for _ in range(steps):\n"
                "        grads = grad(loss_fn)(params, support)\n",
                "    grads = grad(loss_fn)(params, support)\n"
                "    for _ in range(steps):\n",
                "Every step takes the gradient at the start: take it where "
                "the last step ended.",
            ),
            (
                "range(steps)",
                "range(1)",
                "You take one step, whatever steps says.",
            ),
            (
                "range(steps)",
                "range(steps + 1)",
                "You take one step too many.",
            ),
            ("range(steps)", "range(steps - 1)", "You take one step too few."),
            ("- lr *", "+ lr *", UPHILL),
            ("lr * grads", "grads", NO_LR),
            ("grads[name] for", "grads[name].detach() for", FIRST_ORDER),
            (
                "params = {name: params[name] - lr * grads[name] for name in "
                "params}",
                "params = {n: (p - lr * grads[n]).detach() for n, p in "
                "params.items()}",
                "Each step cuts the graph behind it: nothing leads back to "
                "where you started.",
            ),
            (
                "    for _ in range(steps):\n"
                "        grads = grad(loss_fn)(params, support)\n"
                "        params = {name: params[name] - lr * grads[name] for "
                "name in params}\n"
                "    return params",
                "    return adapt(params, loss_fn, support, lr=lr, "
                "steps=steps)",
                "You call adapt",
            ),
        ),
    ),
    Exercise(
        "3.5",
        "robust_step",
        level=3,
        minutes=20,
        hints=(
            "The direction of the gradient is good even where α is not: what "
            "could limit the length of the step?",
            "Two ways: shorten the gradient to a length that you choose, or "
            "try α, α/2, α/4, ... and keep the end with the lowest loss.",
            "Numbers may be compared by .item(); what you return must be "
            "made of tensors that were never detached.",
        ),
        example=ROBUST,
        prove=survives,
        mistakes=(
            ("range(12)", "range(1)", "It should fall on each of 20"),
            ("lr / 2**halvings", "1e-5", "Be less careful"),
            (
                "rate * grads[name]",
                "rate * grads[name].detach()",
                "Something is detached",
            ),
            (
                "    return min",
                "    params.clear()\n    return min",
                "should have the names",
            ),
            (
                "return min(ends, key=lambda end: loss_fn(end, batch).item())",
                "return ends",
                "Return a dict",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "Your inner step gives the right θ′ on every task. Is that enough "
        "for MAML?",
        (
            "Only if dθ′/dθ is right as well.",
            "The value says where you end; the derivative says how the end "
            "moves with the start, and the outer loop needs both.",
        ),
        (
            "Yes, the values are what counts.",
            "The outer loop also needs dθ′/dθ, and a cut graph leaves the "
            "values as they are.",
        ),
        (
            "Yes, if the support loss falls.",
            "It falls in the buggy step of exercise 3.2 too.",
        ),
    ),
    ask(
        "Another project sums over 10 examples, with α = 0.04. Which α gives "
        "the same step with a mean?",
        (
            "0.4",
            "The sum's gradient is ten times as long, which a ten times "
            "larger α makes up for.",
        ),
        (
            "0.004",
            "The mean's gradient is ten times shorter, so its α must be ten "
            "times larger.",
        ),
        ("0.04", "The two gradients differ by a factor of ten."),
    ),
    ask(
        "Why is θ the same at the start of every task?",
        (
            "So that the order of tasks does not matter, and all of them "
            "judge one point.",
            "The outer loop can improve a starting point only if it is the "
            "one that each task really started from.",
        ),
        (
            "Because gradient descent needs a fixed seed.",
            "Nothing in the inner loop is random.",
        ),
        (
            "To save memory.",
            "It costs a copy of the parameters per task rather than saving "
            "one.",
        ),
    ),
)
