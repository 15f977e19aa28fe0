"""Exercises of chapter 04: differentiate through learning."""

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    coupled_loss,
    normal,
    outer_problem,
    seeded,
    some_params,
    some_tasks,
    uniform,
    whole,
)
from mamlkit.exercises.trial import AUTOGRAD
from mamlkit.tasks import Batch, Tasks

BY_HAND = """
def meta_gradient_by_hand(w, a, c, q, lr):
    adapted = w - lr * a * (w - c)
    return (1 - lr * a) * a * (adapted - q)
"""
DIFFERENCE = """
def finite_difference(fn, w, eps=1e-5):
    result = torch.zeros_like(w)
    for i in range(w.numel()):
        nudge = torch.zeros_like(w)
        nudge.view(-1)[i] = eps
        result.view(-1)[i] = (fn(w + nudge) - fn(w - nudge)) / (2 * eps)
    return result
"""
MENDED = """
def mended_meta_gradient(params, loss_fn, tasks, lr):
    def total(params):
        losses = []
        for i in range(len(tasks.support.x)):
            support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
            grads = grad(loss_fn)(params, support)
            adapted = {n: params[n] - lr * grads[n] for n in params}
            losses.append(loss_fn(adapted, query))
        return torch.stack(losses).mean()
    return grad(total)(params)
"""
MY_META_LOSS = """
def my_meta_loss(params, loss_fn, tasks, lr, steps):
    losses = []
    for i in range(len(tasks.support.x)):
        support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(adapted, query))
    return torch.stack(losses).mean()
"""
MY_WALK = """
def my_walk(params, loss_fn, draw_tasks, lr, meta_lr, iterations):
    walk = [params]
    for _ in range(iterations):
        grads = grad(meta_loss)(params, loss_fn, draw_tasks(), lr=lr)
        params = {n: params[n] - meta_lr * grads[n] for n in params}
        walk.append(params)
    return walk
"""
RATES = """
def rate_schedule(iteration, iterations):
    return 2 / (iteration + 4)
"""

FIRST_ORDER = (
    "The gradient ignores the path through θ′: this is first-order MAML. Is "
    "something detached, or do you differentiate with respect to adapted?"
)
TAKE_MEAN = "This is the sum over tasks. Take the mean."
SUPPORT = "You judge on the support set. Use the query set."
LAST_TASK = "Only the last task counts. Collect the losses of all."


def bowl_numbers(g, number):
    """Any bowl, any targets, any step."""
    w, a, c, q = (uniform(g, -3, 3) for _ in range(4))
    return w, abs(a) + 0.5, c, q, uniform(g, 0.05, 0.6)


def _differenced(g, w, bend):
    """Uneven cubes, a product and a wave of all entries, values only.

    Beyond `bend` from w it is something else, so that the length of a step
    shows, however small.
    """
    weights, shape, start = normal(g, *w.shape).double(), w.shape, w.clone()

    def fn(w):
        require(
            w.shape == shape,
            "fn takes a tensor of w's whole shape: nudge one entry of a copy "
            "and pass all of it.",
        )
        w = w.detach()
        beyond = ((w - start).abs() - bend).clamp(min=0) * (w - start)
        wave = (weights * w).sum().sin() + 1e9 * beyond.sum()
        return (weights * w**3).sum() + 2 * w.prod() + wave

    return fn


def by_cubes():
    """Central differences of w³ are 3 w² + eps²; a product's are exact."""

    def fn(w):
        require(w.shape == (2, 2), "fn takes a tensor of w's whole shape: "
                                   "nudge one entry of a copy and pass all "
                                   "of it.")  # fmt: skip
        return (w.detach() ** 3).sum() + 2 * w.detach().prod()

    w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    return fn, w, 0.1


def difference_problem(g, number):
    """Vectors, a single number, tables; coarse steps and the usual one."""
    shape = ((2,), (), (3, 1), (2, 2, 2), (1,), (4,))[number - 1]
    w = normal(g, *shape).double()
    if number == 4:
        return _differenced(g, w, 1.5e-5), w
    return _differenced(g, w, 10.0), w, uniform(g, 0.02, 0.5)


def square(params, batch):
    """L = mean (w - y)²."""
    return ((params["w"] - batch.y) ** 2).mean()


def square_tasks():
    """Supports 3 and 0, queries 5 and 1, each a single number."""
    supports, queries = (
        torch.tensor(y).reshape(2, 1) for y in ([3.0, 0.0], [5.0, 1.0])
    )
    return Tasks(*(Batch(torch.zeros(2, 1), y) for y in (supports, queries)))


def square_start():
    """W = 1: at α 0.1, w′ is 1.4 and 0.8, with dw′/dw = 0.8."""
    return {"w": torch.tensor(1.0)}


def loss_problem(g, number):
    """With no to four inner steps."""
    problem = outer_problem(g, number)
    return *problem, (1, 2, 3, 0, 2, 4)[number - 1]


def walk_problem(g, number):
    """New tasks at every call, always the same ones in the same order."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    own = seeded(whole(g, 0, 10**6))
    n, k_shot = 1 + number % 3, whole(g, 1, 3)

    def draw_tasks():
        return some_tasks(own, n, k_shot, k_shot + 1)

    rates = uniform(g, 0.1, 0.6), uniform(g, 0.1, 0.6)
    return params, loss_fn, draw_tasks, *rates, (1, 3, 2, 0, 4, 5)[number - 1]


def first_walk():
    """The meta-gradient at w is 0.8 (1.6 w - 5.4): w moves to 2.52, 3.0672."""
    return square_start(), square, square_tasks, 0.1, 0.5, 2


def _ends(rate, a, starts, noise):
    """Where noisy gradient descent ends, for many walks at once."""
    w = starts.clone()
    for i in range(len(noise)):
        w = w - rate(i, len(noise)) * (a * w + noise[i])
    return (w**2).mean().item()


def beats_constants(rate_schedule):
    """Bowls whose gradients are noisy, as those of a few tasks are."""
    for number in range(4):
        g = seeded(number)
        a, n = uniform(g, 0.8, 1.2), (100, 200, 300, 400)[number]
        starts, noise = 5 * normal(g, 500), normal(g, n, 500)

        def own(i, n):
            rate = to_tensor(rate_schedule(i, n))
            require(
                rate is not None and rate.numel() == 1 and rate.isfinite(),
                f"Return a number for every iteration; for {i} of {n} it is "
                f"{rate_schedule(i, n)!r}.",
            )
            return rate.double().item()

        constants = [
            _ends(lambda i, n, rate=rate: rate, a, starts, noise)
            for rate in torch.logspace(-3, 0, 25).tolist()
        ]
        found, best = _ends(own, a, starts, noise), min(constants)
        require(
            found < 0.6 * best,
            f"After {n} iterations θ is off by {found:.3g} (mean square), "
            f"and with the best constant rate by {best:.3g}. Get below 0.6 "
            "of that: far strides first, then small steps that average the "
            "noise away.",
        )


EXERCISES = by_key(
    Exercise(
        "4.1",
        "my_meta_loss",
        level=2,
        minutes=10,
        hints=(
            "For every task: adapt on its support set, judge on its query "
            "set. Then the mean.",
            "Task i is Batch(tasks.support.x[i], tasks.support.y[i]) and the "
            "like; torch.stack makes a tensor of a list of losses.",
        ),
        solution=MY_META_LOSS,
        first=lambda: (square_start(), square, square_tasks(), 0.1, 1),
        told="On two bowls (w - c)² with supports 3, 0 and queries 5, 1, "
        "from w = 1 after one step with lr = 0.1",
        by_hand=lambda: 6.5,
        draw=loss_problem,
        orders=1,
        forbidden=("meta_loss", "multi_step_loss", "anil_loss"),
        mistakes=(
            ("loss_fn(adapted, query)", "loss_fn(adapted, support)", SUPPORT),
            ("torch.stack(losses).mean()", "sum(losses)", TAKE_MEAN),
            ("torch.stack(losses).mean()", "losses[-1]", LAST_TASK),
            (
                "steps=steps",
                "steps=1",
                "You take one step, whatever steps says.",
            ),
            (
                "adapt(params, loss_fn, support",
                "adapt(params, loss_fn, query",
                "You adapt on the query set: the answers have leaked.",
            ),
            (
                "adapted = adapt(params",
                "adapted = params = adapt(params",
                "A task starts where the last one ended. Start every task at "
                "params.",
            ),
            (
                "loss_fn(adapted, query)",
                "loss_fn(params, query)",
                "You judge params, not what was adapted from them.",
            ),
            ("steps=steps", "steps=steps, first_order=True", FIRST_ORDER),
            (
                "torch.stack(losses).mean()",
                "torch.tensor([loss.item() for loss in losses]).mean()",
                ".item() cuts the graph. Keep the losses as tensors.",
            ),
            (
                "    losses = []\n",
                "    return meta_loss(params, loss_fn, tasks, lr=lr, "
                "steps=steps)\n"
                "    losses = []\n",
                "You call meta_loss",
            ),
        ),
    ),
    Exercise(
        "4.2",
        "my_walk",
        level=2,
        minutes=15,
        the_one=True,
        hints=(
            "One iteration: draw tasks, take the gradient of meta_loss at "
            "params, make a step against it.",
            "grad(meta_loss)(params, loss_fn, draw_tasks(), lr=lr) is a dict "
            "like params. Append every new dict to a list that begins with "
            "the start.",
        ),
        solution=MY_WALK,
        first=first_walk,
        told="On two bowls (w - c)² with supports 3, 0 and queries 5, 1, "
        "from w = 1, two iterations with lr = 0.1, meta_lr = 0.5",
        by_hand=lambda: [{"w": 1.0}, {"w": 2.52}, {"w": 3.0672}],
        draw=walk_problem,
        mistakes=(
            (
                "- meta_lr *",
                "+ meta_lr *",
                "You walk uphill: subtract the gradient.",
            ),
            (
                "- meta_lr *",
                "- lr *",
                "The outer step has the inner loop's rate: use meta_lr.",
            ),
            ("lr=lr)", "lr=lr, first_order=True)", FIRST_ORDER),
            (
                "lr=lr)",
                "lr=lr, steps=0)",
                "Nothing is adapted: this is joint training, which looks for "
                "the best place before any step.",
            ),
            (
                "    for _ in range(iterations):\n",
                "    tasks = draw_tasks()\n"
                "    for _ in range(iterations):\n"
                "        draw_tasks = lambda: tasks\n",
                "You draw tasks once. Every iteration needs new ones: θ "
                "should become good for the family.",
            ),
            (
                "walk = [params]",
                "walk = []",
                "The walk lacks its start: put the first params into the "
                "list, too.",
            ),
            ("    return walk", "    return params", "but is a dict"),
            (
                "        params = {n: params[n] - meta_lr * grads[n] for n "
                "in params}\n",
                "        for n in params:\n"
                "            params[n] = params[n] - meta_lr * grads[n]\n",
                "You changed params itself",
            ),
        ),
    ),
    Exercise(
        "4.3",
        "meta_gradient_by_hand",
        level=1,
        minutes=5,
        hints=(
            "First w′, then the query gradient at w′, then dw′/dw.",
            "w′ = w - lr a (w - c), so dw′/dw = 1 - lr a.",
        ),
        solution=BY_HAND,
        first=lambda: (1.0, 2.0, 3.0, 4.0, 0.1),
        told="With w = 1, a = 2, c = 3, q = 4, lr = 0.1",
        by_hand=lambda: -4.16,
        draw=bowl_numbers,
        forbidden=AUTOGRAD,
        mistakes=(
            (
                "(1 - lr * a) * a",
                "a",
                "Your gradient ignores the path through w′: this is "
                "first-order MAML. Multiply by dw′/dw.",
            ),
            (
                "(adapted - q)",
                "(w - q)",
                "You take the query gradient at w. It belongs at w′, after "
                "the step.",
            ),
            (
                "(1 - lr * a) * a",
                "(1 - lr * a)",
                "The query gradient lacks its factor a, the curvature.",
            ),
            (
                "(adapted - q)",
                "(adapted - c)",
                "You judge on the support target c. The query target is q.",
            ),
            (
                "(1 - lr * a)",
                "(1 + lr * a)",
                "dw′/dw has the wrong sign in it: w′ = w - lr a (w - c).",
            ),
            (
                "return (1 - lr * a) * a * (adapted - q)",
                "w = torch.tensor(w, requires_grad=True)\n"
                "    loss = a / 2 * (w - lr * a * (w - c) - q) ** 2\n"
                "    return torch.autograd.grad(loss, w)[0].item()",
                "You call autograd",
            ),
        ),
    ),
    Exercise(
        "4.4",
        "finite_difference",
        level=2,
        minutes=10,
        hints=(
            "For each entry: fn a little above, fn a little below.",
            "nudge = torch.zeros_like(w); nudge.view(-1)[i] = eps",
        ),
        solution=DIFFERENCE,
        first=by_cubes,
        told="For sum(w³) + 2 w₁w₂w₃w₄ at [[1, -2], [0.5, 3]] with eps = 0.1",
        by_hand=lambda: torch.tensor(
            [[-2.99, 15.01], [-11.24, 25.01]], dtype=torch.float64
        ),
        draw=difference_problem,
        mistakes=(
            (
                "fn(w - nudge)) / (2 * eps)",
                "fn(w)) / eps",
                "These are one-sided differences, off by about eps. Take "
                "(fn(w + eps) - fn(w - eps)) / (2 eps).",
            ),
            (
                "(fn(w + nudge) - fn(w - nudge)) / (2 * eps)",
                "(fn(w) - fn(w - nudge)) / eps",
                "These look back only, and are off by about eps. Step both "
                "ways.",
            ),
            ("(2 * eps)", "eps", "Twice too large: divide by 2 eps."),
            (
                "fn(w + nudge) - fn(w - nudge)",
                "fn(w + eps) - fn(w - eps)",
                "You nudge all entries together. Nudge one at a time.",
            ),
            (
                "    result = torch.zeros_like(w)\n",
                "    return (fn(w + eps) - fn(w - eps)) / (2 * eps)\n"
                "    result = torch.zeros_like(w)\n",
                "This is one number for all entries. Nudge one at a time, "
                "and collect the results in a tensor like w.",
            ),
            (
                "    result = torch.zeros_like(w)\n",
                "    return grad(fn)(w.clone().requires_grad_())\n"
                "    result = torch.zeros_like(w)\n",
                "All zeros: autograd sees nothing here. Use values of fn "
                "only.",
            ),
            (
                "fn(w + nudge) - fn(w - nudge)",
                "fn(w.view(-1)[i] + eps)",
                "pass all of it",
            ),
            (
                "    for i in range(w.numel()):\n",
                "    for i in range(w.numel()):\n"
                "        w.view(-1)[i] += eps\n",
                "You changed w itself",
            ),
            (
                "nudge.view(-1)[i] = eps",
                "eps = nudge.view(-1)[i] = 0.03",
                "Your step has a length of its own: use eps.",
            ),
        ),
    ),
    Exercise(
        "4.5",
        "mended_meta_gradient",
        level=2,
        minutes=15,
        hints=(
            "Write the mean query loss as a function of params, then call "
            "grad on that function.",
            "Collect each task's query loss in a list; no detach anywhere.",
        ),
        solution=MENDED,
        first=lambda: (square_start(), square, square_tasks(), 0.1),
        told="On two bowls (w - c)² with supports 3, 0 and queries 5, 1, "
        "from w = 1 with lr = 0.1",
        by_hand=lambda: {"w": -3.04},
        draw=outer_problem,
        forbidden=("meta_loss", "multi_step_loss", "anil_loss"),
        mistakes=(
            (
                "",
                MENDED.replace(
                    "lr * grads[n]", "lr * grads[n].detach()"
                ).replace("torch.stack(losses).mean()", "losses[-1]"),
                "Both bugs are still there: first order, and only one task "
                "decides. Differentiate with respect to params, not adapted.",
            ),
            ("lr * grads[n]", "lr * grads[n].detach()", FIRST_ORDER),
            ("torch.stack(losses).mean()", "losses[-1]", LAST_TASK),
            ("torch.stack(losses).mean()", "sum(losses)", TAKE_MEAN),
            ("loss_fn(adapted, query)", "loss_fn(adapted, support)", SUPPORT),
            (
                "{n: params[n] - lr",
                "{n: params[n].detach() - lr",
                "θ′ starts from a detached θ: only the path through the "
                "gradient is left.",
            ),
            (
                "    return grad(total)(params)",
                "    return grad(meta_loss)(params, loss_fn, tasks, lr=lr)",
                "You call meta_loss",
            ),
        ),
    ),
    Exercise(
        "4.6",
        "rate_schedule",
        level=3,
        minutes=20,
        hints=(
            "With a constant rate the noise of the last few gradients never "
            "dies away. What if later steps are shorter?",
            "On a bowl of curvature 1, rates like 1 / (iteration + 1) make θ "
            "about the mean of all noisy targets seen so far.",
        ),
        example=RATES,
        prove=beats_constants,
        mistakes=(
            ("2 / (iteration + 4)", "0.02", "the best constant rate by"),
            ("    return", "    pass  # return", "Return a number"),
        ),
    ),
)

QUIZ = (
    ask(
        "What does the outer loop minimise?",
        (
            "The average query loss at each task's θ′.",
            "Judged after learning, on examples that learning did not see.",
        ),
        (
            "The average support loss at θ.",
            "That is joint training, without an inner loop.",
        ),
        (
            "The distance between θ and every θ′.",
            "Being near in parameters is not the goal; a low loss after the "
            "step is.",
        ),
    ),
    ask(
        "Five inner steps make the meta-gradient ...",
        (
            "a product of five factors I - αH times the query gradient.",
            "One factor for each step, each with the Hessian at that step's "
            "parameters.",
        ),
        (
            "a fifth-order derivative.",
            "No factor holds more than a second derivative.",
        ),
        (
            "the query gradient, five times as large.",
            "On the bowl the factor shrinks it: 0.8 to the fifth.",
        ),
    ),
    ask(
        "During training the loss at θ itself, before any step, goes up, and "
        "the query loss after the step goes down. What now?",
        (
            "Nothing: training does what it should.",
            "The outer loop was never asked for a good θ, only for a good "
            "place to start from.",
        ),
        (
            "Lower β: training has diverged.",
            "The loss that it lowers, the one after the step, goes down.",
        ),
        (
            "Raise α until the loss at θ goes down.",
            "α does not change the loss at θ.",
        ),
    ),
)
