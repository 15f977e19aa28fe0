"""Exercises of chapter 05: fit new waves."""

import math

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    coupled_loss,
    normal,
    one_of,
    outer_problem,
    pick,
    seeded,
    shuffled,
    some_batch,
    some_params,
    uniform,
    whole,
)
from mamlkit.tasks import Batch, Tasks

META_UPDATE = """
def meta_update(params, loss_fn, tasks, inner_lr, meta_lr):
    grads = grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)
    return {name: params[name] - meta_lr * grads[name] for name in params}
"""
BLIND_FLOOR = """
def blind_floor(y):
    return ((y - y.mean(dim=0)) ** 2).mean()
"""
MENDED_JUDGE = """
def mended_judge(params, loss_fn, pairs, lr, steps):
    losses = []
    for support, query in pairs:
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        losses.append(loss_fn(adapted, query))
    return torch.stack(losses)
"""
CHOOSE_RATE = """
def choose_rate(errors):
    def mean(rate):
        return errors[rate].nan_to_num(torch.inf).mean().item()

    return min(errors, key=mean)
"""
FIT_A_WAVE = """
def fit_a_wave(x, y, query_x):
    def waves(x):
        return torch.cat([x.sin(), x.cos()], dim=1)

    weights = torch.linalg.lstsq(waves(x), y).solution
    return waves(query_x) @ weights
"""


def bowl(params, batch):
    """L = mean (w - y)²: one parameter, curvature 2."""
    return ((params["w"] - batch.y) ** 2).mean()


def bowl_start():
    """W = 1."""
    return {"w": torch.tensor(1.0)}


def bowl_tasks():
    """Supports 3 and 0, queries 5 and 1, one example each."""
    return Tasks(
        *(
            Batch(torch.zeros(2, 1, 1), torch.tensor(y).reshape(2, 1, 1))
            for y in ([3.0, 0.0], [5.0, 1.0])
        )
    )


def first_update():
    """From w = 1 with α = 0.1: w′ = 1.4 and 0.8.

    Query gradients 2 (1.4 - 5) = -7.2 and 2 (0.8 - 1) = -0.4, each times
    dw′/dw = 0.8, average -3.04; with β = 0.5, w becomes 2.52.
    """
    return bowl_start(), bowl, bowl_tasks(), 0.1, 0.5


def update_problem(g, number):
    """Inner and outer rate differ."""
    return *outer_problem(g, number), uniform(g, 0.1, 1.0)


def judge_problem(g, number):
    """Pairs of sets of different sizes; no to four steps."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    pairs = [
        (some_batch(g, whole(g, 1, 4)), some_batch(g, whole(g, 1, 4)))
        for _ in range((2, 3, 1, 4, 2, 3)[number - 1])
    ]
    steps = (2, 1, 3, 0, 4, 2)[number - 1]
    return params, loss_fn, pairs, uniform(g, 0.1, 0.7), steps


def three_rates():
    """Means 3, 1 and infinite."""
    return (
        {
            0.01: torch.tensor([2.0, 4.0, 3.0]),
            0.02: torch.tensor([1.0, 1.0, 1.0]),
            0.05: torch.tensor([0.1, 0.1, math.inf]),
        },
    )


def rate_problem(g, number):
    """Rates in any order, some of which diverged on some task."""
    n, tasks = 1 + number % 5, whole(g, 2, 5)
    if number % 4 == 3:
        # The lowest mean has the highest error and not the lowest one.
        even, uneven = torch.full((tasks,), 2.0), torch.full((tasks,), 0.5)
        uneven[whole(g, 0, tasks - 1)] = 2.5
        low = torch.full((tasks,), 3.0)
        low[whole(g, 0, tasks - 1)] = 0.1
        found = [even, uneven, low]
        return ({0.01 * (i + 1): found[i] for i in shuffled(g, 3)},)
    errors = {}
    for i in shuffled(g, n):
        found = normal(g, tasks).exp() ** 2
        if i and number != 1:
            ruin = pick(g, (None, math.nan, math.inf, 1e20, math.nan))
            if ruin is not None:
                found = found / 100  # good, but for the one
                found[whole(g, 0, tasks - 1)] = ruin
        errors[round(0.003 * 2**i, 4)] = found
    return (errors,)


def beats_the_network(fit_a_wave):
    """A hundred waves of five noisy points each."""
    g, small, costs = seeded(0), 0, []
    for _ in range(100):
        amplitude, phase = uniform(g, 0.1, 5.0), uniform(g, 0, math.pi)

        def wave(x, amplitude=amplitude, phase=phase):
            return amplitude * (x - phase).sin()

        x, query_x = (10 * torch.rand(k, 1, generator=g) - 5 for k in (5, 50))
        y = wave(x) + 0.02 * normal(g, 5, 1)
        found = to_tensor(fit_a_wave(x.clone(), y.clone(), query_x.clone()))
        got = None if found is None else tuple(found.shape)
        require(
            got == (50, 1),
            f"For query_x of shape (50, 1) return a tensor of that shape, not "
            f"{got or 'nothing'}.",
        )
        cost = (found - wave(query_x)).square().mean().item()
        costs.append(cost)
        small += cost < 0.1
    require(
        small >= 90,
        f"The squared error is below 0.1 on {small} of 100 waves (its median "
        f"is {sorted(costs)[50]:.2g}). Reach 90. Predicting 0 costs 4.25 on "
        "average.",
    )


EXERCISES = by_key(
    Exercise(
        "5.1",
        "meta_update",
        level=1,
        minutes=5,
        hints=(
            "meta_loss is a function of params: torch.func.grad takes its "
            "gradient as that of any other loss.",
            "grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr) is a dict "
            "like params.",
        ),
        solution=META_UPDATE,
        first=first_update,
        told="On two bowls (w - c)² with supports 3, 0 and queries 5, 1, "
        "from w = 1 with inner_lr = 0.1, meta_lr = 0.5",
        by_hand=lambda: {"w": 2.52},
        draw=update_problem,
        mistakes=(
            (
                "- meta_lr",
                "+ meta_lr",
                "You went uphill: subtract the gradient.",
            ),
            (
                "lr=inner_lr)",
                "lr=inner_lr, first_order=True)",
                "This is first order: your gradient ignores how θ′ depends "
                "on θ.",
            ),
            (
                "lr=inner_lr)",
                "lr=inner_lr, steps=0)",
                "Nothing was adapted: this is a step of pretraining on the "
                "query sets.",
            ),
            (
                "    grads",
                "    tasks = tasks._replace(query=tasks.support)\n    grads",
                "You judge on the support set, where the query set belongs.",
            ),
            (
                "- meta_lr",
                "- inner_lr",
                "The outer step has the inner loop's rate: use meta_lr.",
            ),
            (
                "- meta_lr *",
                "- meta_lr * len(tasks.query.x) *",
                "You sum over tasks. Take the mean, as meta_loss does.",
            ),
            (
                "    return {name: params[name] - meta_lr * grads[name] for "
                "name in params}",
                "    for name in params:\n"
                "        params[name] -= meta_lr * grads[name]\n"
                "    return params",
                "You changed params itself",
            ),
            (
                "grad(meta_loss)(params, loss_fn, tasks, lr=inner_lr)",
                "dict(zip(params, torch.autograd.grad(meta_loss(params, "
                "loss_fn, tasks, lr=inner_lr), list(params.values()))))",
                "Use torch.func.grad, which needs none",
            ),
            (
                "{name: params[name] - meta_lr * grads[name] for name in "
                "params}",
                "grads",
                "That is the gradient. Return params after a step against it.",
            ),
            (
                "lr=inner_lr)\n    return {name: params[name] - meta_lr",
                "lr=meta_lr)\n    return {name: params[name] - inner_lr",
                "The rates are swapped: inner_lr is the rate of the inner "
                "step, meta_lr that of yours.",
            ),
        ),
    ),
    Exercise(
        "5.2",
        "blind_floor",
        level=2,
        minutes=5,
        hints=(
            "Which one number has the smallest mean squared distance to a "
            "column of y?",
            "The column's mean; what is left is the column's variance.",
        ),
        solution=BLIND_FLOOR,
        # The columns have variances 8/3 and 2, on average 7/3.
        first=lambda: (torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, -1.0]]),),
        told="For three tasks at two points, [[1, 2], [3, 2], [5, -1]]",
        by_hand=lambda: 7 / 3,
        draw=lambda g, n: (
            1 + 2 * normal(g, whole(g, 2, 5), whole(g, 2, n + 1)),
        ),
        mistakes=(
            (
                "(y - y.mean(dim=0))",
                "y",
                "That is the loss of predicting 0. The best blind answer at "
                "a point is the average over tasks there.",
            ),
            (
                "y.mean(dim=0)",
                "y.mean()",
                "You predict one number for all points. A blind answer may "
                "depend on x.",
            ),
            (
                "y.mean(dim=0)",
                "y.mean(dim=1, keepdim=True)",
                "You average over the wrong axis: tasks are the rows.",
            ),
            (
                "((y - y.mean(dim=0)) ** 2)",
                "y.var(dim=0)",
                "You divide by n - 1. The loss is a mean over the tasks: "
                "divide by n.",
            ),
            (
                "** 2).mean()",
                "** 2).mean(0).sum()",
                "You sum over points. Take the mean.",
            ),
        ),
    ),
    Exercise(
        "5.3",
        "mended_judge",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "Ask of each line: which points does it see, and which "
            "parameters does it start from?",
            "Give the result of adapt a name of its own, and judge it on "
            "query.",
        ),
        solution=MENDED_JUDGE,
        # w′ = 1.4 and 0.8, query losses 3.6² and 0.2².
        first=lambda: (
            bowl_start(),
            bowl,
            [one_of(bowl_tasks(), i) for i in (0, 1)],
            0.1,
            1,
        ),  # fmt: skip
        told="On two bowls (w - c)² with supports 3, 0 and queries 5, 1, "
        "from w = 1 after one step with lr = 0.1",
        by_hand=lambda: torch.tensor([12.96, 0.04]),
        draw=judge_problem,
        mistakes=(
            (
                "adapted = adapt(params, loss_fn, support, lr=lr, "
                "steps=steps)\n"
                "        losses.append(loss_fn(adapted, query))",
                "params = adapt(params, loss_fn, support, lr=lr, "
                "steps=steps)\n"
                "        losses.append(loss_fn(params, support))",
                "Both bugs are still there: what is judged on, and where the "
                "next task starts.",
            ),
            (
                "loss_fn(adapted, query)",
                "loss_fn(adapted, support)",
                "You judge on the support set, the points that were learned "
                "from.",
            ),
            (
                "adapted = adapt(params",
                "adapted = params = adapt(params",
                "A task starts where the one before ended. Keep params as "
                "they are.",
            ),
            (
                "loss_fn, support, lr",
                "loss_fn, query, lr",
                "You adapt on the query set: the answers have leaked.",
            ),
            (
                "loss_fn(adapted, query)",
                "loss_fn(params, query)",
                "You judge params, not what was adapted from them.",
            ),
            (", steps=steps", "", "You take one step, whatever steps says."),
            (
                "torch.stack(losses)",
                "torch.stack(losses).mean()",
                "Return the loss of each task, not their mean.",
            ),
        ),
    ),
    Exercise(
        "5.4",
        "choose_rate",
        level=2,
        minutes=10,
        hints=(
            "What is the mean of a tensor that holds one NaN, and what does "
            "min do with it?",
            "nan_to_num(torch.inf) turns NaN into infinity, which loses "
            "every comparison.",
        ),
        solution=CHOOSE_RATE,
        first=three_rates,
        told="For errors {0.01: [2, 4, 3], 0.02: [1, 1, 1], 0.05: [0.1, 0.1, "
        "inf]}",
        by_hand=lambda: 0.02,
        draw=rate_problem,
        draws=12,
        mistakes=(
            (
                "mean().item()",
                "median().item()",
                "A median does not see the one task that diverged, nor does "
                "a mean of the finite ones.",
            ),
            (
                ".nan_to_num(torch.inf)",
                "",
                "A NaN slips through min and argmin: make it infinite.",
            ),
            (
                ".nan_to_num(torch.inf)",
                ".nan_to_num(0.0)",
                "You take a task that diverged for one without an error.",
            ),
            (
                ", key=mean",
                "",
                "You return the smallest rate, whatever the errors.",
            ),
            (
                "min(errors, key=mean)",
                "min(mean(rate) for rate in errors)",
                "That is the lowest mean error. Return the rate that has it.",
            ),
        ),
    ),
    Exercise(
        "5.5",
        "fit_a_wave",
        level=2,
        minutes=10,
        hints=(
            "You know something that the network had to learn: every task is "
            "A sin(x - φ). How many numbers are that?",
            "A sin(x - φ) = a sin x + b cos x is linear in a and b: "
            "torch.linalg.lstsq finds them.",
        ),
        example=FIT_A_WAVE,
        prove=beats_the_network,
        mistakes=(
            ("[x.sin(), x.cos()]", "[x.sin(), x]", "Reach 90"),
            (
                "waves(query_x) @ weights",
                "weights",
                "return a tensor of that shape",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "A pretrained network scores 3.0 on new waves before it has seen a "
        "point of them. What has it learned, so far as this shows?",
        (
            "The average of all waves, and nothing else.",
            "3.01 is the floor of every answer that does not depend on the "
            "task, and the average reaches it.",
        ),
        (
            "To recognise the wave.",
            "It has seen nothing of this wave, so it cannot.",
        ),
        (
            "Nothing; predicting 0 scores 3.0 as well.",
            "Predicting 0 scores 4.25, because the average wave is not 0.",
        ),
    ),
    ask(
        "MAML before adapting is no better than pretraining. Why does one "
        "step help it so much more?",
        (
            "It was trained on what a step does.",
            "The meta-loss is the query loss after the step, so training "
            "chose weights whose gradients are useful.",
        ),
        (
            "Its inner step is larger.",
            "The sweep gives every start its own best rate, and the gap "
            "stays.",
        ),
        (
            "It has seen more waves.",
            "Both saw as many waves and as many points.",
        ),
    ),
    ask(
        "Over 2,000 tasks a method's mean error is 10²², its median 0.1. "
        "What do you report?",
        (
            "Both, and the share of tasks that diverged.",
            "The reader needs to know how good it usually is and how often "
            "it fails.",
        ),
        (
            "The median, since the mean is meaningless.",
            "The median hides that the method fails on some tasks.",
        ),
        (
            "The mean without the outliers.",
            "Removing tasks after seeing their results makes any method look "
            "good.",
        ),
    ),
)
