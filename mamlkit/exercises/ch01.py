"""Exercises of chapter 01: train the classical way."""

import torch
from torch import nn

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, uniform, whole
from mamlkit.exercises.trial import AUTOGRAD

SLOPE = """
def slope(w, x, y):
    return (2 * (w * x - y) * x).mean()
"""
MENDED_TRAIN = """
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()
"""
FORGETTING = """
def forgetting(error):
    return (error[-1] - error.diagonal())[:-1].mean()
"""
FINE_TUNED = """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
    return tuned
"""
STOPS = """
def keep_going(errors):
    best = min(range(len(errors)), key=lambda i: errors[i])
    return len(errors) - best <= 15
"""


def train(network, x, y, steps, lr=0.01, method=torch.optim.Adam):
    """The chapter's loop; its loss for one network."""
    optimizer = method(network.parameters(), lr=lr)
    for _ in range(steps):
        loss = (network(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def new_network():
    """The chapter's network."""
    return nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(),
        nn.Linear(40, 1),
    )  # fmt: skip


def two_points():
    """Errors 1 and 2, so the slope is 2 · (1·1 + 2·4) / 2 = 9."""
    x, y = torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0])
    return torch.tensor(1.0), x, y


def some_points(g, number):
    """A weight and one point, or several."""
    k = 1 + 2 * (number - 1)
    return normal(g), normal(g, k), normal(g, k)


def train_problem(g, number):
    """Rates at which w swings as well as ones at which it creeps."""
    w, x, y = some_points(g, whole(g, 1, 3))
    lr = uniform(g, 0.1, 0.8) / x.square().mean().item()
    return w, x, y, lr, (2, 1, 5, 0, 3, 8)[number - 1]


def three_waves():
    """Wave 0 goes from 0.1 to 4.1, wave 1 from 0.2 to 2.2: mean 3."""
    return (torch.tensor([[0.1, 5.0, 4.0], [3.0, 0.2, 6.0], [4.1, 2.2, 0.3]]),)


def some_errors(g, number):
    """A table whose waves may also be better at the end."""
    n = 2 + number % 5
    return (normal(g, n, n).square(),)


def small_network():
    """Loss w² from w = 2: three steps at lr 0.1 end at 2 · 0.8³ = 1.024."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    return network, torch.tensor([[1.0]]), torch.tensor([[0.0]]), 0.1, 3


def tune_problem(g, number):
    """Networks of two layers, any points, any number of steps."""
    width = whole(g, 2, 5)
    network = nn.Sequential(
        nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)
    )
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(normal(g, *p.shape))
    k = whole(g, 1, 6)
    steps = (1, 2, 5, 0, 3, 4)[number - 1]
    rate = uniform(g, 0.05, 0.3)
    return network, normal(g, k, 1), normal(g, k, 1), rate, steps


def weights_of(tuned, network, x, y, lr, steps):
    """The tuned network's weights; the network handed over is untouched."""
    require(
        isinstance(tuned, nn.Module),
        f"return the tuned network, not a {type(tuned).__name__}.",
    )
    require(
        tuned is not network,
        "you return the untouched network, not a copy.",
    )
    shared = {id(p) for p in network.parameters()}
    require(
        not shared & {id(p) for p in tuned.parameters()},
        "your copy shares its weights with the network: copy.copy does, and "
        "copy.deepcopy does not.",
    )
    same = [*tuned.state_dict()] == [*network.state_dict()]
    require(
        same,
        "your result is another network. Fine-tuning starts at the weights "
        "that you were handed.",
    )
    return dict(tuned.state_dict())


def stops_in_time(keep_going):
    """Forty curves of validation errors that fall, then rise, with noise."""
    g = seeded(1)
    costs, late = [], 0
    for _ in range(40):
        lowest = whole(g, 10, 60)
        time = torch.arange(300.0)
        fall = torch.exp(-3 * time / lowest)
        rise = (time - lowest).clamp(min=0) / (2 * lowest)
        true = 0.2 + fall + rise
        # The noise is small beside what is at stake, and there all the same.
        seen = (true * (1 + 0.04 * normal(g, 300))).tolist()
        stop = 300
        for n in range(1, 300):
            said = to_tensor(keep_going(seen[:n]))
            require(
                said is not None and said.numel() == 1,
                "Return True to go on, or False to stop.",
            )
            if not said:
                stop = n
                break
        best = min(range(stop), key=lambda i: seen[i])
        costs.append((true[best] / true.min()).item())
        late += stop > lowest + 40
    mean = sum(costs) / len(costs)
    require(
        late <= 4,
        f"On {late} of 40 curves you go on for more than 40 steps after the "
        "lowest point. Stop earlier.",
    )
    require(
        mean < 1.15,
        f"The best weights before your stop cost {mean:.2f} times the least "
        "possible error, on average over 40 curves. Get below 1.15: do not "
        "let one noisy step stop you.",
    )


EXERCISES = by_key(
    Exercise(
        "1.1",
        "slope",
        level=1,
        minutes=5,
        hints=(
            "For one point the slope is 2 (w x - y) x.",
            "All points at once: 2 * (w * x - y) * x, then the mean.",
        ),
        solution=SLOPE,
        first=two_points,
        told="At w = 1 for the points (1, 0) and (4, 2)",
        by_hand=lambda: 9.0,
        draw=some_points,
        forbidden=AUTOGRAD,
        mistakes=(
            (
                ".mean()",
                ".sum()",
                "You add up over the points; the loss is their mean.",
            ),
            (
                "2 * (w",
                "(w",
                "The factor 2 is missing: the derivative of e² is 2e.",
            ),
            (
                "(w * x - y)",
                "(y - w * x)",
                "The sign is turned round: the error is w x - y.",
            ),
            (
                ") * x)",
                "))",
                "The error e = w x - y also moves with w: its derivative by "
                "w is x, the inner derivative.",
            ),
            (
                "(2 * (w * x - y) * x)",
                "((w * x - y) ** 2)",
                "That is the loss itself, not how it changes with w.",
            ),
            (".mean()", "", "should be a number, but has shape (2,)"),
            (
                "    return",
                "    w = w.clone().requires_grad_()\n"
                "    ((w * x - y) ** 2).mean().backward()\n"
                "    return w.grad\n"
                "    return",
                "You call autograd",
            ),
        ),
    ),
    Exercise(
        "1.2",
        "mended_train",
        level=1,
        minutes=5,
        hints=(
            "Print w.grad in every step, next to the slope by hand.",
            "Set w.grad = None before loss.backward().",
        ),
        solution=MENDED_TRAIN,
        first=lambda: (
            torch.tensor(1.0),
            torch.tensor([1.0]),
            torch.tensor([0.0]),
            0.1,
            3,
        ),  # fmt: skip
        told="After 3 steps from 1 on the point (1, 0)",
        by_hand=lambda: 0.512,
        draw=train_problem,
        mistakes=(
            (
                "        w.grad = None\n",
                "",
                "The gradients still add up: each step goes along the sum of "
                "all gradients so far.",
            ),
            (
                "        w.grad = None\n        loss.backward()\n",
                "        loss.backward()\n        w.grad.zero_()\n",
                "w has not moved. Is the gradient cleared between backward() "
                "and the step?",
            ),
            (
                "    return",
                "        return",
                "You return after the first step.",
            ),
            ("w -= lr", "w += lr", "You went uphill: subtract."),
            (
                "w = w.clone().requires_grad_()",
                "w.requires_grad_()",
                "You changed w itself",
            ),
            (
                ".mean()",
                ".sum()",
                "Your loss adds up over the points. Take their mean.",
            ),
        ),
    ),
    Exercise(
        "1.3",
        "forgetting",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "For wave i: the last row's error minus that of row i.",
            "error.diagonal() is when each wave had just been learned; [:-1] "
            "leaves out the last wave.",
        ),
        solution=FORGETTING,
        first=three_waves,
        told="For the errors [[0.1, 5, 4], [3, 0.2, 6], [4.1, 2.2, 0.3]]",
        by_hand=lambda: 3.0,
        draw=some_errors,
        mistakes=(
            (
                "[:-1]",
                "",
                "You counted the last wave, too. Nothing came after it, so "
                "it cannot be forgotten yet.",
            ),
            (
                "(error[-1] - error.diagonal())",
                "error[-1]",
                "That is how bad the old waves are at the end. Forgetting is "
                "how much worse than when just learned.",
            ),
            (
                "error[-1]",
                "error[:, -1]",
                "Rows and columns are swapped: a row is a time, a column is "
                "a wave.",
            ),
            (
                "error[-1] - error.diagonal()",
                "error.diagonal() - error[-1]",
                "The sign is turned round: an error that grew counts as "
                "positive.",
            ),
            (
                "error.diagonal()",
                "error[0]",
                "You compare with the first row. A later wave was not yet "
                "learned then: compare with row i for wave i.",
            ),
            (".mean()", ".sum()", "You add over the waves; take their mean."),
            (
                "[:-1].mean()",
                "[:-1].clamp(min=0).mean()",
                "You cut off what is negative. A wave that got better "
                "counts, too.",
            ),
        ),
    ),
    Exercise(
        "1.4",
        "fine_tuned",
        level=2,
        minutes=10,
        hints=(
            "tuned = network gives the same network a second name.",
            "copy.deepcopy(network) copies the weights as well. Train the "
            "copy and return it.",
        ),
        solution=FINE_TUNED,
        first=small_network,
        told="After 3 steps on the point (1, 0) from the weight 2",
        by_hand=lambda: {"weight": torch.tensor([[1.024]])},
        draw=tune_problem,
        look=weights_of,
        space={"train": train, "new_network": new_network},
        mistakes=(
            (
                "copy.deepcopy(network)",
                "network",
                "You changed network itself",
            ),
            (
                "copy.deepcopy(network)",
                "new_network()",
                "result is another network",
            ),
            (
                "    train(tuned, x, y, steps, lr=lr, "
                "method=torch.optim.SGD)\n",
                "    train(copy.deepcopy(network), x, y, steps, lr=lr, "
                "method=torch.optim.SGD)\n",
                "The copy has not moved. Does the optimizer hold the "
                "parameters of the copy?",
            ),
            (
                ", method=torch.optim.SGD",
                "",
                "That is Adam. Use plain gradient descent, torch.optim.SGD.",
            ),
            ("y, steps,", "y, 1,", "You take one step, whatever steps says."),
            (
                "return tuned",
                "return network",
                "you return the untouched network",
            ),
            ("    train(", "    return train(", "the tuned network, not a"),
        ),
    ),
    Exercise(
        "1.5",
        "keep_going",
        level=2,
        minutes=15,
        hints=(
            "How long ago was the lowest error so far? Patience is a number "
            "of steps.",
            "best = min(range(len(errors)), key=lambda i: errors[i]) is when "
            "it was lowest.",
        ),
        example=STOPS,
        prove=stops_in_time,
        mistakes=(
            ("<= 15", "<= 1", "do not let one noisy step stop you"),
            ("<= 15", "<= 1000", "Stop earlier"),
            ("    return", "    pass  # return", "Return True to go on"),
        ),
    ),
)

QUIZ = (
    ask(
        "A network reaches a training error of 0.001 on 5 points of a wave. "
        "What do you know about its error between them?",
        (
            "Nothing, until you measure it on other points.",
            "That is what test points are for.",
        ),
        (
            "It is about 0.001, too.",
            "Infinitely many curves pass through five points; training picks "
            "one that need not be the wave.",
        ),
        (
            "It is below that of predicting 0.",
            "In section 2 it was above, on average over the waves.",
        ),
    ),
    ask(
        "You train one network on two waves at once, for as long as you "
        "like, and its loss stops falling at 1.5. What would help?",
        (
            "Telling it which of the waves is meant.",
            "With that as an input the two questions differ, and so can the "
            "answers.",
        ),
        (
            "A bigger network.",
            "At each x it has a single answer, and two are asked for. The "
            "mean is the best it can say.",
        ),
        (
            "Rehearsing the first wave more often.",
            "Then its answer moves towards the first wave and away from the "
            "second.",
        ),
    ),
    ask(
        "When does a network pretrained on all tasks together start close to "
        "a new task?",
        (
            "When the tasks resemble one another, and so their mean.",
            "It learns the mean of the tasks. That is a good start if each "
            "of them is near it.",
        ),
        (
            "Whenever it has seen enough tasks.",
            "With phases from the whole circle, more waves make the mean "
            "only flatter.",
        ),
        (
            "Whenever its training loss has stopped falling.",
            "It stops at the blind floor, however far the tasks are from "
            "their mean.",
        ),
    ),
)
