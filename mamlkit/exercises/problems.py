"""Random problems to try an answer on, drawn from a generator.

Losses are coupled (each entry's gradient depends on all others) and not
quadratic (the curvature changes along the way), as only such problems tell a
right derivative from one that merely looks right. Small sizes come first, as
the first case that an answer fails is told to the learner.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from mamlkit.tasks import Batch, Tasks

NAMES = ("u", "b", "slope", "head.weight", "w", "scale", "body.0.bias")
SHAPES = ((), (2,), (2, 2), (3,), (1, 3))


def seeded(seed: int = 0) -> Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def normal(g: Generator, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal numbers, float32."""
    return scale * torch.randn(shape, generator=g)


def uniform(g: Generator, low: float, high: float) -> float:
    """A number between two, with two digits after the point."""
    unit = torch.rand((), generator=g, dtype=torch.float64).item()
    return round(low + (high - low) * unit, 2)


def whole(g: Generator, low: int, high: int) -> int:
    """A whole number from low to high."""
    return int(torch.randint(low, high + 1, (), generator=g))


def pick(g: Generator, options: Sequence) -> object:
    """One of several."""
    return options[whole(g, 0, len(options) - 1)]


def shuffled(g: Generator, n: int) -> list[int]:
    """0 to n - 1 in random order."""
    return torch.randperm(n, generator=g).tolist()


def some_params(g: Generator, number: int, floor: int = 1) -> dict:
    """Parameters: more of them, and larger, in later cases.

    Args:
        g: the source of all numbers.
        number: of the case, from 1.
        floor: how many parameters at least.
    """
    names = shuffled(g, len(NAMES))[: max(floor, min(number, 3))]
    largest = min(number, len(SHAPES) - 1)
    return {NAMES[i]: normal(g, *SHAPES[whole(g, 0, largest)]) for i in names}


def coupled_loss(g: Generator, params: dict, features: int = 2) -> Callable:
    """A loss in which every entry of every parameter acts on all others.

    x of its batches has shape (examples, features), y shape (examples,). It
    is a mean over examples.
    """
    names = [*params]
    size = sum(p.numel() for p in params.values())
    mixing = normal(g, features, size) / size**0.5

    def loss_fn(params, batch):
        flat = torch.cat([params[name].reshape(-1) for name in names])
        hidden = torch.tanh(mixing.to(flat.dtype) @ flat)
        answers = batch.x @ hidden + 0.5 * flat.sin().mean()
        return ((answers - batch.y) ** 2).mean()

    return loss_fn


def some_batch(g: Generator, examples: int, features: int = 2) -> Batch:
    """Examples for a coupled loss."""
    return Batch(normal(g, examples, features), normal(g, examples))


def some_tasks(
    g: Generator, n: int, k_shot: int, k_query: int, features: int = 2
) -> Tasks:
    """Tasks for a coupled loss."""
    return Tasks(
        *(
            Batch(normal(g, n, k, features), normal(g, n, k))
            for k in (k_shot, k_query)
        )
    )


def one_of(tasks: Tasks, i: int) -> tuple[Batch, Batch]:
    """Support and query set of task i."""
    support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
    return support, query


def step_problem(g: Generator, number: int) -> tuple:
    """(params, loss_fn, batch, lr) for one inner step."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    batch = some_batch(g, whole(g, 1, 4))
    return params, loss_fn, batch, uniform(g, 0.1, 0.9)


def outer_problem(g: Generator, number: int) -> tuple:
    """(params, loss_fn, tasks, lr) for one meta-gradient."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    k_shot = whole(g, 1, 3)
    # Sets of equal size hide one that is used for the other.
    k_query = k_shot + whole(g, 0, 2)
    tasks = some_tasks(g, 1 + number % 4, k_shot, k_query)
    return params, loss_fn, tasks, uniform(g, 0.1, 0.9)


# Two bowls, on which steps can be taken by hand.


def bowls(params, batch):
    """L = mean (u - x)² + (v - y)²: two parameters, curvature 2."""
    u, v = params["u"], params["v"]
    return ((u - batch.x) ** 2 + (v - batch.y) ** 2).mean()


def bowls_start() -> dict[str, Tensor]:
    """U = 1 and v = -2."""
    return {"u": torch.tensor(1.0), "v": torch.tensor(-2.0)}


def bowls_task() -> Batch:
    """Centres 4 and ½: gradients -6 and -5 at the start."""
    return Batch(torch.tensor([[3.0], [5.0]]), torch.tensor([[0.0], [1.0]]))
