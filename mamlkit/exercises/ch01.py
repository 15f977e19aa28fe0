"""Exercises of chapter 01: train the classical way."""

import copy

import torch
from torch import nn

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)


def check_slope(slope):
    """By hand: errors 1 and 2, so the slope is 2 · (1·1 + 2·4) / 2 = 9."""
    x, y = torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0])
    answer = as_scalar(slope(torch.tensor(1.0), x, y))
    wrongs = (
        (18.0, "You add up over the points; the loss is their mean."),
        (4.5, "The factor 2 is missing: the derivative of e² is 2e."),
        (-9.0, "The sign is turned round: the error is w x - y."),
        (3.0, "The error e = w x - y also moves with w: its derivative by w "
         "is x, the inner derivative."),
        (2.5, "That is the loss itself, not how it changes with w."),
    )  # fmt: skip
    compare(
        answer,
        torch.tensor(9.0),
        "The slope at w = 1 for the points (1, 0) and (4, 2)",
        [(torch.tensor(wrong), message) for wrong, message in wrongs],
    )
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 7, generator=random)
    w = torch.tensor(0.3, requires_grad=True)
    ((w * x - y) ** 2).mean().backward()
    compare(
        as_scalar(slope(w.detach(), x, y)),
        w.grad,
        "The slope for seven random points",
    )


def check_mended_train(mended_train):
    """With the point (1, 0) the loss is w²: at lr 0.1, w shrinks to 0.8 w."""
    x, y = torch.tensor([1.0]), torch.tensor([0.0])
    w = torch.tensor(1.0)
    answer = mended_train(w, x, y, 0.1, 3)
    require(
        w == 1,
        "You changed the w that you were handed. Work on w.clone().",
    )
    compare(
        as_scalar(answer),
        torch.tensor(0.512),
        "w after 3 steps from 1 on the point (1, 0)",
        [
            (torch.tensor(-0.008), "The gradients still add up: each step "
             "goes along the sum of all gradients so far."),
            (torch.tensor(1.0), "w has not moved. Is the gradient cleared "
             "between backward() and the step?"),
            (torch.tensor(0.8), "You return after the first step."),
            (torch.tensor(1.728), "You went uphill: subtract."),
        ],
    )  # fmt: skip
    two = mended_train(w, torch.tensor([1.0, 2.0]), torch.zeros(2), 0.1, 2)
    compare(as_scalar(two), torch.tensor(0.25), "w after 2 steps, two points")


def check_forgetting(forgetting):
    """By hand: wave 0 from 0.1 to 4.1, wave 1 from 0.2 to 2.2: mean 3."""
    error = torch.tensor([[0.1, 5.0, 4.0], [3.0, 0.2, 6.0], [4.1, 2.2, 0.3]])
    before = error.clone()
    answer = as_scalar(forgetting(error))
    require(
        torch.equal(error, before), "You changed the matrix. Work on a copy."
    )
    compare(
        answer,
        torch.tensor(3.0),
        "The forgetting of three waves",
        [
            (torch.tensor(2.0), "You counted the last wave, too. Nothing came "
             "after it, so it cannot be forgotten yet."),
            (torch.tensor(3.15), "That is how bad the old waves are at the "
             "end. Forgetting is how much worse than when just learned."),
            (torch.tensor(4.85), "Rows and columns are swapped: a row is a "
             "time, a column is a wave."),
            (torch.tensor(-3.0), "The sign is turned round: an error that "
             "grew counts as positive."),
            (torch.tensor(0.6), "You compare with the first row. Wave 1 was "
             "not yet learned then: compare with row i for wave i."),
            (torch.tensor(6.0), "You add over the waves; take their mean."),
        ],
    )  # fmt: skip
    compare(
        as_scalar(forgetting(torch.tensor([[1.0, 9.0], [1.5, 2.0]]))),
        torch.tensor(0.5),
        "The forgetting of two waves",
    )


def check_fine_tuned(fine_tuned):
    """Loss w² from w = 2: three steps at lr 0.1 end at 2 · 0.8³ = 1.024."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    x, y = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    start = copy.deepcopy(network)
    tuned = fine_tuned(network, x, y, 0.1, 3)
    require(
        isinstance(tuned, nn.Module),
        f"Return the tuned network, not a {type(tuned).__name__}.",
    )
    require(
        torch.equal(network.weight, start.weight),
        "The network that you were handed has changed: the next wave would "
        "start elsewhere. copy.copy shares the weights; copy.deepcopy does "
        "not.",
    )
    require(
        tuned is not network, "You return the untouched network, not a copy."
    )
    same = [p.shape for p in tuned.parameters()] == [network.weight.shape]
    require(
        same,
        "Your result is another network. Fine-tuning starts at the weights "
        "that you were handed.",
    )
    compare(
        tuned.weight.flatten(),
        torch.tensor([1.024]),
        "The weight after 3 steps from 2",
        [
            (torch.tensor([2.0]), "The copy has not moved. Does the optimizer "
             "hold the parameters of the copy?"),
            (torch.tensor([1.7006]), "That is Adam. Use plain gradient "
             "descent, torch.optim.SGD."),
            (torch.tensor([1.6]), "One step where steps = 3."),
        ],
    )  # fmt: skip


EXERCISES = {
    "1.1": Exercise(
        name="slope",
        check=check_slope,
        hints=(
            "For one point the slope is 2 (w x - y) x.",
            "All points at once: 2 * (w * x - y) * x, then the mean.",
        ),
        solution="""
def slope(w, x, y):
    return (2 * (w * x - y) * x).mean()
""",
        mistakes=(
            (
                """
def slope(w, x, y):
    return (2 * (w * x - y) * x).sum()
""",
                "add up over the points",
            ),
            (
                """
def slope(w, x, y):
    return ((w * x - y) * x).mean()
""",
                "factor 2 is missing",
            ),
            (
                """
def slope(w, x, y):
    return (2 * (y - w * x) * x).mean()
""",
                "the error is w x - y.",
            ),
            (
                """
def slope(w, x, y):
    return (2 * (w * x - y)).mean()
""",
                "inner derivative",
            ),
            (
                """
def slope(w, x, y):
    return ((w * x - y) ** 2).mean()
""",
                "the loss itself",
            ),
            (
                """
def slope(w, x, y):
    return 2 * (w * x - y) * x
""",
                "should have shape ()",
            ),
        ),
    ),
    "1.2": Exercise(
        name="mended_train",
        check=check_mended_train,
        hints=(
            "Print w.grad in every step, next to the slope by hand.",
            "Set w.grad = None before loss.backward().",
        ),
        solution="""
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()
""",
        mistakes=(
            (
                """
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()
""",
                "still add up",
            ),
            (
                """
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        w.grad.zero_()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()
""",
                "has not moved. Is",
            ),
            (
                """
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        return w.detach()
""",
                "after the first step",
            ),
            (
                """
def mended_train(w, x, y, lr, steps):
    w = w.clone().requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w += lr * w.grad
    return w.detach()
""",
                "uphill",
            ),
            (
                """
def mended_train(w, x, y, lr, steps):
    w.requires_grad_()
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()
""",
                "Work on w.clone()",
            ),
        ),
    ),
    "1.3": Exercise(
        name="forgetting",
        check=check_forgetting,
        hints=(
            "For wave i: the last row's error minus that of row i.",
            "error.diagonal() is when each wave had just been learned; "
            "[:-1] leaves out the last wave.",
        ),
        solution="""
def forgetting(error):
    return (error[-1] - error.diagonal())[:-1].mean()
""",
        mistakes=(
            (
                """
def forgetting(error):
    return (error[-1] - error.diagonal()).mean()
""",
                "counted the last wave",
            ),
            (
                """
def forgetting(error):
    return error[-1, :-1].mean()
""",
                "when just learned",
            ),
            (
                """
def forgetting(error):
    return (error[:, -1] - error.diagonal())[:-1].mean()
""",
                "columns are swapped",
            ),
            (
                """
def forgetting(error):
    return (error.diagonal() - error[-1])[:-1].mean()
""",
                "that grew counts as positive",
            ),
            (
                """
def forgetting(error):
    return (error[-1] - error[0])[:-1].mean()
""",
                "compare with the first row",
            ),
            (
                """
def forgetting(error):
    return (error[-1] - error.diagonal())[:-1].sum()
""",
                "take their mean",
            ),
        ),
    ),
    "1.4": Exercise(
        name="fine_tuned",
        check=check_fine_tuned,
        hints=(
            "tuned = network gives the same network a second name.",
            "copy.deepcopy(network) copies the weights as well. Train the "
            "copy and return it.",
        ),
        solution="""
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
    return tuned
""",
        mistakes=(
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = network
    train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
    return tuned
""",
                "handed has changed",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = new_network()
    train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
    return tuned
""",
                "is another network",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    optimizer = torch.optim.SGD(copy.deepcopy(network).parameters(), lr=lr)
    for _ in range(steps):
        loss = (tuned(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tuned
""",
                "hold the parameters of the copy",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    train(tuned, x, y, steps, lr=lr)
    return tuned
""",
                "That is Adam",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    train(tuned, x, y, 1, lr=lr, method=torch.optim.SGD)
    return tuned
""",
                "One step where",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
    return network
""",
                "untouched network",
            ),
            (
                """
def fine_tuned(network, x, y, lr, steps):
    tuned = copy.deepcopy(network)
    return train(tuned, x, y, steps, lr=lr, method=torch.optim.SGD)
""",
                "Return the tuned network",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A network reaches a training error of 0.001 on 5 points of a wave. "
        "What do you know about its error between them?",
        (
            ("It is about 0.001, too.", "Infinitely many curves pass through "
             "five points; training picks one that need not be the wave."),
            ("It is below that of answering 0.", "In section 2 it was above, "
             "on average over the waves."),
            ("Nothing, until you measure it on other points.",
             "That is what test points are for."),
        ),
        right=2,
    ),
    Question(
        "You train one network on two waves at once, for as long as you "
        "like, and its loss stops falling at 1.5. What would help?",
        (
            ("A bigger network.", "At each x it has a single answer, and two "
             "are asked for. The mean is the best it can say."),
            ("Telling it which of the waves is meant.", "With that as an "
             "input the two questions differ, and so can the answers."),
            ("Rehearsing the first wave more often.", "Then its answer moves "
             "towards the first wave and away from the second."),
        ),
        right=1,
    ),
    Question(
        "When does a network pretrained on all tasks together start close to "
        "a new task?",
        (
            ("When the tasks resemble one another, and so their mean.",
             "It learns the mean of the tasks. That is a good start if "
             "each of them is near it."),
            ("Whenever it has seen enough tasks.", "With phases from the "
             "whole circle, more waves make the mean only flatter."),
            ("Whenever its training loss has stopped falling.", "It stops at "
             "the blind floor, however far the tasks are from their mean."),
        ),
        right=0,
    ),
)  # fmt: skip
