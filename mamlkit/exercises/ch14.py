"""Exercises of chapter 14: learn in context."""

import math

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    coupled_loss,
    normal,
    seeded,
    some_batch,
    some_params,
    uniform,
    whole,
)
from mamlkit.in_context import linear_attention
from mamlkit.tasks import Batch

ATTEND = """
def attend(queries, keys, values):
    match = queries @ keys.T / keys.shape[1] ** 0.5
    return match.softmax(dim=1) @ values
"""
ADAPT_CONTEXT = """
def adapt_context(params, loss_fn, support, lr, steps):
    start = {"context": torch.zeros_like(params["context"])}

    def of_context(context, batch):
        return loss_fn(params | context, batch)

    return params | adapt(start, of_context, support, lr=lr, steps=steps)
"""
STEP_WEIGHTS = """
def step_weights(features, k_shot, lr):
    match = torch.zeros(features + 1, features + 1)
    value = torch.zeros(features + 1, features + 1)
    match[:features, :features] = torch.eye(features)
    value[features, features] = -2 * lr / k_shot
    return match, value
"""
READ_ONE_POINT = """
def read_one_point(x, y, query_x):
    amplitude = 0.1 + 4.9 * torch.rand(3000, 1)
    phase = math.pi * torch.rand(3000, 1)
    off = amplitude * torch.sin(x - phase) - y
    weight = torch.exp(-(off**2) / 0.05)
    waves = amplitude * torch.sin(query_x.T - phase)
    return ((weight * waves).sum(0) / weight.sum())[:, None]
"""


def attend_by_hand():
    """A query that matches one key and not the other: shares e : 1."""
    queries = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    keys = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]])
    values = torch.tensor([[10.0], [0.0]])
    return queries, keys, values


def attend_problem(g, number):
    """More and more queries and keys, of different numbers."""
    k, n, width = number + 1, number + 2, (2, 3, 4, 9)[number % 4]
    return normal(g, n, width), normal(g, k, width), normal(g, k, 3)


def context_by_hand():
    """Residuals 1 and 3 of y = 2 x + c, so c goes up by 0.1 · 4."""
    params = {"w": torch.tensor(2.0), "context": torch.tensor(7.0)}
    support = Batch(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 7.0]))
    return params, shifted_line, support, 0.1, 1


def shifted_line(params, batch):
    """Mean squared error of w x + context."""
    answers = params["w"] * batch.x + params["context"]
    return ((answers - batch.y) ** 2).mean()


def context_problem(g, number):
    """A coupled loss with a context, and one to four steps."""
    params = some_params(g, number) | {"context": normal(g, 1 + number % 3)}
    loss_fn = coupled_loss(g, params)
    support = some_batch(g, whole(g, 1, 4))
    return params, loss_fn, support, uniform(g, 0.1, 0.9), 1 + number % 4


def weights_by_hand():
    """One feature, two examples, α = 0.5: V hands on -2 · 0.5 / 2."""
    return 1, 2, 0.5


def weights_problem(g, number):
    """Up to seven features, and examples of another number."""
    return number + 1, 2 * number + 3, uniform(g, 0.05, 0.9)


def as_layer(result, features, k_shot, lr):
    """What a layer with the weights does: many M and V are right."""
    match, value = result
    require(
        match.shape == value.shape == (features + 1, features + 1),
        f"Both should have shape ({features + 1}, {features + 1}): a token is "
        f"{features} numbers of x and one residual.",
    )
    g = torch.Generator().manual_seed(k_shot)
    tokens = normal(g, k_shot + 3, features + 1)
    return linear_attention(tokens, tokens[:k_shot], match, value)


def reads_one_point(read_one_point):
    """Three hundred waves, and one point of each."""
    g, costs = seeded(0), []
    for _ in range(300):
        amplitude, phase = uniform(g, 0.1, 5.0), uniform(g, 0, math.pi)
        x, query_x = (10 * torch.rand(k, 1, generator=g) - 5 for k in (1, 50))
        y, right = (amplitude * (at - phase).sin() for at in (x, query_x))
        found = to_tensor(read_one_point(x.clone(), y, query_x.clone()))
        got = None if found is None else tuple(found.shape)
        require(
            got == (50, 1),
            f"For query_x of shape (50, 1) return a tensor of that shape, not "
            f"{got or 'nothing'}.",
        )
        costs.append((found - right).square().mean())
    mean = torch.stack(costs).mean().item()
    require(
        mean < 1.55,
        f"The mean squared error is {mean:.2f}. Reach 1.55. The best blind "
        "answer costs 3.01.",
    )


EXERCISES = by_key(
    Exercise(
        "14.1",
        "attend",
        level=1,
        minutes=8,
        hints=(
            "Three lines: how well each query matches each key, (n, k); the "
            "shares; the weighted mean of the values.",
            "queries @ keys.T has one row a query. Which axis must sum to 1?",
            "Divide by the root of the width before the softmax over keys.",
        ),
        solution=ATTEND,
        first=attend_by_hand,
        told="For a query that matches the first of two keys by 2 / √4 = 1 "
        "and the second by 0",
        by_hand=lambda: torch.tensor([[7.3106]]),
        draw=attend_problem,
        orders=1,
        forbidden=("scaled_dot_product_attention",),
        mistakes=(
            (
                " / keys.shape[1] ** 0.5",
                "",
                "The matches are not divided by the root of the width.",
            ),
            (
                "keys.shape[1] ** 0.5",
                "keys.shape[1]",
                "You divide by the width, not by its root.",
            ),
            (
                "keys.shape[1] ** 0.5",
                "len(keys) ** 0.5",
                "You divide by the root of the number of keys. Take that of "
                "the width.",
            ),
            (
                "softmax(dim=1)",
                "softmax(dim=0)",
                "The shares sum to 1 over the queries. A query deals out its "
                "own attention: sum to 1 over the keys.",
            ),
            (
                "match.softmax(dim=1) @ values",
                "match @ values",
                "Without the softmax the shares do not sum to 1.",
            ),
            (
                "match.softmax(dim=1) @ values",
                "values[match.argmax(dim=1)]",
                "You take the best match alone. All keys have a share.",
            ),
        ),
    ),
    Exercise(
        "14.2",
        "adapt_context",
        level=2,
        minutes=10,
        hints=(
            "adapt moves all that is in its first argument. Which dict should "
            "that be?",
            "Make a loss of the context alone: lambda context, batch: "
            "loss_fn(params | context, batch).",
            "The context starts at zero for every task, whatever params "
            "holds.",
        ),
        solution=ADAPT_CONTEXT,
        first=context_by_hand,
        told="For y = 2 x + context and the points (1, 3), (2, 7), after one "
        "step with lr = 0.1",
        by_hand=lambda: {"w": 2.0, "context": 0.4},
        draw=context_problem,
        orders=1,
        mistakes=(
            (
                'torch.zeros_like(params["context"])',
                'params["context"]',
                "The context starts where params left it. Start it at 0 for "
                "every task.",
            ),
            (
                "params | adapt(start, of_context, support, lr=lr, "
                "steps=steps)",
                "adapt(params | start, loss_fn, support, lr=lr, steps=steps)",
                "The weights moved, too. Adapt the context alone.",
            ),
            (", steps=steps", "", "You take one step, whatever steps says."),
            (
                "return params | adapt",
                "return adapt",
                "The weights are missing: return all of params, with the "
                "adapted context.",
            ),
        ),
    ),
    Exercise(
        "14.3",
        "step_weights",
        level=3,
        minutes=15,
        the_one=True,
        hints=(
            "The layer adds (token M contextᵀ) context V. Take a token (x, r) "
            "and write down what you want to be added: nothing to x, and "
            "-2 α / K Σ rᵢ (xᵢ · x) to r.",
            "x · xᵢ must come out of token M contextᵀ, without the residuals: "
            "M is the identity where x meets x, and 0 elsewhere.",
            "V takes the residual of the context's tokens, times -2 α / K, "
            "and puts it where the residual is: one entry, the last.",
        ),
        solution=STEP_WEIGHTS,
        first=weights_by_hand,
        told="For one feature, two examples and lr = 0.5, tried on random "
        "tokens",
        by_hand=lambda: as_layer(
            (
                torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
                torch.tensor([[0.0, 0.0], [0.0, -0.5]]),
            ),
            *weights_by_hand(),
        ),
        draw=weights_problem,
        look=as_layer,
        mistakes=(
            (
                "-2 * lr",
                "2 * lr",
                "The residuals grow: the step goes uphill. Mind the sign.",
            ),
            (
                "-2 * lr / k_shot",
                "-lr / k_shot",
                "The derivative of a square has a factor 2.",
            ),
            (
                "/ k_shot",
                "",
                "The loss is a mean over the examples: divide by their "
                "number.",
            ),
            (
                "match[:features, :features] = torch.eye(features)",
                "match = torch.eye(features + 1)",
                "Residuals are matched with residuals, too. Only inputs "
                "should be.",
            ),
            (
                "value[features, features] = -2 * lr / k_shot",
                "value = -2 * lr / k_shot * torch.eye(features + 1)",
                "The inputs change as well. A layer should leave x as it is.",
            ),
            (
                "match[:features, :features] = torch.eye(features)",
                "match[:features, :features] = torch.ones(features, features)",
                "M mixes all inputs with each other. xᵢ · x sums the products "
                "of like with like.",
            ),
        ),
    ),
    Exercise(
        "14.4",
        "read_one_point",
        level=3,
        minutes=15,
        hints=(
            "Many waves pass through the point. A squared error is smallest "
            "for the mean of all that could be meant.",
            "Draw some thousand waves of the family, with A from [0.1, 5] and "
            "φ from [0, π]. Which of them matter?",
            "Average their values at query_x, each with a weight that is "
            "large where the wave passes near the point: a softmax over "
            "-(distance)² / 0.05, say. That is attention, too.",
        ),
        example=READ_ONE_POINT,
        prove=reads_one_point,
        mistakes=(
            ("/ 0.05", "/ 1e4", "Reach 1.55"),
            ("math.pi * torch", "2 * math.pi * torch", "Reach 1.55"),
            ("[:, None]", "", "return a tensor of that shape"),
        ),
    ),
)

QUIZ = (
    ask(
        "You want to predict, on a battery-driven sensor, how one machine "
        "vibrates. A thousand similar machines have been recorded, each for "
        "hours. The new machine gives a few points now and thousands over the "
        "year. What do you try first?",
        (
            "A start learned from the thousand, and gradient steps on the "
            "device as points come in.",
            "Points keep coming, and machines age out of the family that was "
            "trained on: with fifty points gradient steps went on there, at "
            "rates chosen there. Beside it, fine-tuning of a pretrained "
            "network: with many points it may catch up with the learned "
            "start.",
        ),
        (
            "A large transformer that reads the whole year as its prompt.",
            "It must hold all points and read them for every answer, and it "
            "was never shown such long prompts.",
        ),
        (
            "Train a network for this machine from nothing.",
            "With few points of the family this had the largest error of all "
            "in this chapter.",
        ),
    ),
    ask(
        "A web form asks users for five examples and must answer within "
        "milliseconds. Millions of tasks of the same kind have been logged. "
        "What do you try first?",
        (
            "A network that reads the five examples as its prompt.",
            "Many tasks to train on, short prompts like those of training, "
            "and no step at the time of asking: all that in-context learning "
            "needs.",
        ),
        (
            "MAML with a hundred steps for each user.",
            "A hundred steps take longer than one forward pass, and here, "
            "inside the family, end at a larger error.",
        ),
        (
            "Least squares.",
            "It is the first thing to try only if you know the family's "
            "formula.",
        ),
    ),
    ask(
        "You know from physics that a sensor's curve is a sin(x - b), with "
        "unknown a and b. What do you try first?",
        (
            "Least squares on sin x and cos x.",
            "It needs no training tasks, is exact with two points, and "
            "extrapolates as the formula does.",
        ),
        (
            "A transformer trained on simulated curves.",
            "It learns, at some length, to do nearly what one line does.",
        ),
        (
            "MAML, since the curves are a family of tasks.",
            "A family with a formula needs no learned start.",
        ),
    ),
    ask(
        "The transformer saw x from -5 to 5 in training. Asked about waves "
        "with x from 5 to 10, it does worse than predicting 0. What does this "
        "show?",
        (
            "That it learned to read waves where it was trained, and not what "
            "a wave is everywhere.",
            "Nothing in its training asked for more. Least squares knows the "
            "formula, which holds for every x.",
        ),
        (
            "That attention cannot work with numbers as large as 10.",
            "Training on such x is another way, and was not tried here.",
        ),
        (
            "That ten points are too few to continue a wave.",
            "Two are enough for least squares.",
        ),
    ),
)
