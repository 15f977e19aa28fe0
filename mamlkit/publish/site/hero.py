"""The picture of the first page: a starting point walks to where all is near.

It is the two-parameter wave of chapter 04, trained as that chapter does:
every number of the picture comes out of `meta_loss` and `adapt`, when the
site is built.
"""

from functools import partial

import torch
from contourpy import contour_generator
from torch.func import grad, vmap
from torch.nn.functional import mse_loss

from mamlkit.inner import Params, adapt, functional_loss
from mamlkit.models import Wave
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Batch, Sinusoids, Tasks

INNER_LR, META_LR, ITERATIONS = 0.1, 0.05, 400
AMPLITUDE, PHASE = (-0.5, 5.0), (-1.2, 4.4)
# Every other iteration while θ walks fast, then one in ten.
SHOWN = (*range(0, 120, 2), *range(120, ITERATIONS + 1, 10))
N_SHOWN = 10  # tasks on the map; the first of them are drawn as waves, too
N_WAVES = 3
SCALE = 80  # units of the picture for each of the plane
HILLS = 9  # lines of equal loss

_loss_fn = functional_loss(Wave(), mse_loss)


def picture() -> dict:
    """Train, and gather what is drawn.

    Returns:
        `frames`, each with the iteration, θ, each task's θ′ after one step
        and the mean loss then over 200 waves; `waves`, with the ten
        examples and the true curve of each; `hills`, outlines of where the
        mean loss after one step is above a level, as SVG paths.
    """
    family = Sinusoids(amplitude=(1.0, 4.0), oracle=True)
    draw = partial(family.sample, k_shot=10, k_query=20)
    shown, truth = _without_truth(
        draw(N_SHOWN, generator=torch.Generator().manual_seed(9))
    )
    judged, _ = _without_truth(
        draw(200, generator=torch.Generator().manual_seed(1))
    )
    after_one_step = partial(
        meta_loss, loss_fn=_loss_fn, tasks=judged, lr=INNER_LR
    )
    frames = [
        {
            "iteration": iteration,
            "theta": _place(theta),
            "ends": [_place(end) for end in _one_step(theta, shown)],
            "loss": round(after_one_step(theta).item(), 2),
        }
        for iteration, theta in enumerate(_walk(draw))
        if iteration in SHOWN
    ]
    return {
        "frames": frames,
        "waves": [
            {
                "x": [round(x, 2) for x in xs.flatten().tolist()],
                "y": [round(y, 2) for y in ys.flatten().tolist()],
                "truth": [round(n, 3) for n in true],
            }
            for xs, ys, true in zip(*shown.support, truth.tolist())
        ][:N_WAVES],
        "hills": _hills(after_one_step),
        "scale": SCALE,
        "amplitude": AMPLITUDE,
        "phase": PHASE,
    }


def _without_truth(tasks: Tasks) -> tuple[Tasks, torch.Tensor]:
    """Take amplitude and phase, shape (tasks, 2), out of the inputs."""
    truth = tasks.support.x[:, 0, 1:]
    return Tasks(*(Batch(x[..., :1], y) for x, y in tasks)), truth


def _walk(draw) -> list[Params]:
    """Run chapter 04's outer loop from its own start."""
    params = {"amplitude": torch.tensor(0.6), "phase": torch.tensor(0.1)}
    optimizer = torch.optim.Adam(params.values(), lr=META_LR)
    generator = torch.Generator().manual_seed(0)
    path = []
    for _ in range(ITERATIONS + 1):
        path.append({name: p.clone() for name, p in params.items()})
        tasks, _ = _without_truth(draw(10, generator=generator))
        grads = grad(meta_loss)(params, _loss_fn, tasks, lr=INNER_LR)
        for name, p in params.items():
            p.grad = grads[name]
        optimizer.step()
    return path


def _one_step(theta: Params, tasks: Tasks) -> list[Params]:
    ends = [
        adapt(theta, _loss_fn, Batch(x, y), lr=INNER_LR)
        for x, y in zip(*tasks.support)
    ]
    return [{name: p.detach() for name, p in end.items()} for end in ends]


def _place(params: Params) -> list[float]:
    return [round(params[name].item(), 3) for name in ("amplitude", "phase")]


def _hills(loss_of) -> list[str]:
    """Outline where the loss is above each of some levels."""
    a, b = torch.linspace(*AMPLITUDE, 61), torch.linspace(*PHASE, 61)
    grid = torch.cartesian_prod(a, b)
    with torch.no_grad():
        losses = vmap(loss_of)({"amplitude": grid[:, 0], "phase": grid[:, 1]})
    losses = losses.reshape(len(a), len(b)).T
    contours = contour_generator(*map_places(a, b), losses.numpy())
    low, high = losses.min().sqrt().item(), 3.0
    # Even steps of the root show both the basin and the slopes.
    levels = torch.linspace(low, high, HILLS + 1)[1:].square().tolist()
    return [
        "".join(
            f"M{'L'.join(f'{x:.0f} {y:.0f}' for x, y in outline[start:end])}Z"
            for outline, offsets in zip(*contours.filled(level, 1e9))
            for start, end in zip(offsets, offsets[1:])
        )
        for level in levels
    ]


def map_places(a, b):
    """Put amplitude and phase where the picture has them, phase upwards."""
    return (a - AMPLITUDE[0]) * SCALE, (PHASE[1] - b) * SCALE
