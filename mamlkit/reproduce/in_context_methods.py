"""Who fits a new wave how well: gradient steps, prompts, and closed forms.

Every method is judged on the same tasks. What is open (optimiser, rate,
strength of a penalty) is chosen anew for each method, setting, number of
points and number of steps, on tasks that no test uses.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from mamlkit.in_context import InContextLearner
from mamlkit.inner import LossFn, Params
from mamlkit.tasks import (
    Batch,
    Harmonics,
    Sinusoids,
    Tasks,
    split,
    uniform,
)

QUERIES = 100
VALIDATION = 50  # tasks that decide
FACTOR = 3.0  # between two rates of a grid
TEST_SEED, VALIDATION_SEED = 1_000_001, 1_000_002


def lines(n_tasks: int, *, k_shot: int, k_query: int, generator) -> Tasks:
    """Draw lines y = a x + b, a and b from U[-3, 3), x from U[-5, 5)."""
    x = uniform(-5, 5, (n_tasks, k_shot + k_query, 1), generator)
    slope, intercept = uniform(-3, 3, (2, n_tasks, 1, 1), generator)
    return split(x, slope * x + intercept, k_shot)


def noisy(n_tasks: int, *, k_shot: int, k_query: int, generator) -> Tasks:
    """Draw the family's waves, the support's y with noise of deviation 1."""
    support, query = Sinusoids().sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=generator
    )
    noise = torch.randn(support.y.shape, generator=generator)
    return Tasks(Batch(support.x, support.y + noise), query)


SETTINGS: dict[str, Callable[..., Tasks]] = {
    "": Sinusoids().sample,
    "amplitude": Sinusoids(amplitude=(5.0, 10.0)).sample,
    "phase": Sinusoids(phase=(math.pi, 2 * math.pi)).sample,
    "x": Sinusoids(x=(5.0, 10.0)).sample,
    "noise": noisy,
    "lines": lines,
    "harmonics": Harmonics().sample,
}


def draw(setting: str, k_shot: int, n_tasks: int, seed: int) -> Tasks:
    """Draw the tasks of a setting; the same for every method."""
    generator = torch.Generator().manual_seed(100 * seed + k_shot)
    return SETTINGS[setting](
        n_tasks, k_shot=k_shot, k_query=QUERIES, generator=generator
    )


# --- gradient steps ----------------------------------------------------------


@torch.no_grad()
def descend(
    start: Params,
    loss_fn: LossFn,
    metric: LossFn,
    tasks: Tasks,
    *,
    lr: float,
    at: tuple[int, ...],
    adam: bool = False,
) -> Tensor:
    """Adapt to each task by gradient descent or Adam; judge along the way.

    Args:
        start: what is adapted, the same for all tasks.
        loss_fn: `(params, support)` -> scalar.
        metric: `(params, query)` -> scalar.
        tasks: stacked.
        lr: step size.
        at: after how many steps to judge, increasing.
        adam: follow Adam (its own moments for each task) in place of SGD.

    Returns:
        shape (tasks, len(at)); inf where a task diverged.
    """
    n_tasks = len(tasks.support.x)
    params = {k: p.expand(n_tasks, *p.shape) for k, p in start.items()}
    mean = {k: torch.zeros_like(p) for k, p in params.items()}
    square = {k: torch.zeros_like(p) for k, p in params.items()}
    slope, judge = vmap(grad(loss_fn)), vmap(metric)
    found = []
    for before, after in pairwise((0, *at)):
        for step in range(before + 1, after + 1):
            grads = slope(params, tasks.support)
            if adam:
                for k, g in grads.items():
                    mean[k] = 0.9 * mean[k] + 0.1 * g
                    square[k] = 0.999 * square[k] + 0.001 * g * g
                    size = (square[k] / (1 - 0.999**step)).sqrt() + 1e-8
                    grads[k] = mean[k] / (1 - 0.9**step) / size
            params = {k: p - lr * grads[k] for k, p in params.items()}
        found.append(judge(params, tasks.query).nan_to_num(torch.inf))
    return torch.stack(found, dim=1)


Choice = tuple[bool, float]  # Adam or not, and the rate


def tuned(
    run: Callable[..., Tensor],
    tasks: Tasks,
    at: tuple[int, ...],
    rates: dict[bool, tuple[float, ...]],
) -> tuple[dict[int, Choice], dict[int, float]]:
    """Choose optimiser and rate for each number of steps.

    A grid whose best value is at its edge grows, three times at most.

    Args:
        run: `descend` but for tasks, lr, at and adam.
        tasks: for validation.
        at: numbers of steps.
        rates: of SGD (False) and of Adam (True).

    Returns:
        by number of steps, what had the lowest mean error, and that error.
    """
    tried: dict[Choice, Tensor] = {}
    grids = {adam: list(each) for adam, each in rates.items()}
    for _ in range(4):
        for adam, each in grids.items():
            for lr in each:
                if (adam, lr) not in tried:
                    errors = run(tasks=tasks, lr=lr, at=at, adam=adam)
                    tried[adam, lr] = errors.mean(0)
        best = {
            steps: min(tried, key=lambda c: tried[c][i].item())
            for i, steps in enumerate(at)
        }
        before = sum(map(len, grids.values()))
        for adam, lr in best.values():
            if lr == max(grids[adam]):
                grids[adam].append(lr * FACTOR)
            elif lr == min(grids[adam]):
                grids[adam].append(lr / FACTOR)
        if sum(map(len, grids.values())) == before:
            break
    index = {steps: i for i, steps in enumerate(at)}
    return best, {s: tried[c][index[s]].item() for s, c in best.items()}


# --- what has no steps -------------------------------------------------------


def closed_form(basis: Callable[[Tensor], Tensor], tasks: Tasks) -> Tensor:
    """Least squares on a basis, of least length if it is open; (tasks,)."""
    support, query = tasks.support, tasks.query
    # In float64, and by the pseudo-inverse: two points may nearly coincide.
    features = basis(support.x.double())
    weights = torch.linalg.pinv(features) @ support.y.double()
    answers = basis(query.x.double()) @ weights
    return (answers - query.y).square().mean((1, 2)).float()


def wave_basis(x: Tensor) -> Tensor:
    """Compute sin x and cos x, of which a sin(x - b) is a sum."""
    return torch.cat([x.sin(), x.cos()], dim=-1)


def line_basis(x: Tensor) -> Tensor:
    """Add a 1 to x."""
    return torch.cat([x, torch.ones_like(x)], dim=-1)


def harmonic_basis(x: Tensor) -> Tensor:
    """Both waves of `Harmonics`."""
    return torch.cat([wave_basis(x), wave_basis(2 * x)], dim=-1)


def best_for_one_point(tasks: Tasks) -> Tensor:
    """Error of the best possible answer to one point of a wave; (tasks,).

    The posterior mean: a phase b of [0, π) leaves one amplitude, y / sin(x -
    b), which counts if it is of the family, with the weight 1 / |sin(x - b)|.
    """
    phase = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    phase = math.pi * phase
    sine = (tasks.support.x.double()[:, 0] - phase).sin()  # (tasks, phases)
    amplitude = tasks.support.y.double()[:, 0] / sine
    low, high = Sinusoids().amplitude
    weight = ((amplitude > low) & (amplitude < high)) / sine.abs()
    weight = weight / weight.sum(1, keepdim=True)
    share = (weight * amplitude)[:, None]
    x = tasks.query.x.double()
    # a sin(x - b) = a cos b sin x - a sin b cos x, averaged over a and b.
    answers = x.sin() * (share * phase.cos()).sum(-1, keepdim=True)
    answers = answers - x.cos() * (share * phase.sin()).sum(-1, keepdim=True)
    return (answers - tasks.query.y).square().mean((1, 2)).float()


@torch.no_grad()
def prompted(model: InContextLearner, params: Params, tasks: Tasks) -> Tensor:
    """Errors of answers read off the prompt, (tasks,)."""
    inputs = tasks.support, tasks.query.x
    answers = functional_call(model, params, inputs)
    return (answers - tasks.query.y).square().mean((1, 2))


def without_each(support: Batch) -> tuple[Batch, Tensor]:
    """Leave one example out, each in turn.

    Returns:
        prompts of k - 1 examples, leaves (..., k, k - 1, numbers); and the
        x left out, (..., k, 1, features).
    """
    k_shot = support.x.shape[-2]
    others = ~torch.eye(k_shot, dtype=torch.bool)
    index = torch.arange(k_shot).expand(k_shot, k_shot)[others]
    index = index.view(k_shot, k_shot - 1)
    prompts = Batch(support.x[..., index, :], support.y[..., index, :])
    return prompts, support.x[..., :, None, :]


def prompt_losses(model: nn.Module) -> tuple[LossFn, LossFn]:
    """Make what tunes the transformer itself on a task, and judges it.

    Returns:
        loss_fn(params, support), the error on each example given the others;
        and metric, which takes the pair (support, query) as its batch.
    """

    def loss_fn(params, support):
        prompts, left_out = without_each(support)
        answers = functional_call(model, params, (prompts, left_out))
        return F.mse_loss(answers.squeeze(-2), support.y)

    def metric(params, pair):
        support, query = pair
        answers = functional_call(model, params, (support, query.x))
        return F.mse_loss(answers, query.y)

    return loss_fn, metric


def rate_grid(low: float, count: int) -> tuple[float, ...]:
    """Rates from `low` upwards, each three times the one before."""
    return tuple(round(low * FACTOR**i, 8) for i in range(count))
