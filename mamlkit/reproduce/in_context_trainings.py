"""The training of a transformer that reads its task, on waves."""

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.in_context import InContextLearner
from mamlkit.inner import Params
from mamlkit.outer import History, cosine, meta_train
from mamlkit.paths import BUILD
from mamlkit.tasks import Sinusoids, Tasks

MOST_SHOTS = 20  # that any training sees
WARM_UP = 200  # iterations
# Arguments of `meta_train`; there is no inner step.
SETTINGS = {
    "inner_lr": 0.0,
    "meta_lr": 2e-3,
    "n_tasks": 16,
    "iterations": 24_000,
    "steps": 0,
}


def prompt_loss(
    params: Params, _, tasks: Tasks, *, model: nn.Module, **options
) -> Tensor:
    """Mean squared error of answers read off the prompts; no inner step."""
    inputs = tasks.support, tasks.query.x
    return F.mse_loss(functional_call(model, params, inputs), tasks.query.y)


def any_shots(n_tasks: int, *, generator: torch.Generator) -> Tasks:
    """Draw waves with 1 to 20 points, as many for all, and 8 queries."""
    k_shot = torch.randint(1, MOST_SHOTS + 1, (), generator=generator)
    return Sinusoids().sample(
        n_tasks, k_shot=int(k_shot), k_query=8, generator=generator
    )


def warm_cosine(iterations: int, i: int) -> float:
    """Schedule: up from 0 within 200 iterations, then a cosine to 0."""
    return min(1.0, (i + 1) / WARM_UP) * cosine(iterations)(i)


def train(seed: int, *, quiet: bool = False) -> History:
    """Train the transformer, resumably.

    Args:
        seed: of weights and tasks.
        quiet: do not say how long it took.
    """
    torch.manual_seed(seed)
    model = InContextLearner()
    before, begun = cpu_seconds(seed), time.process_time()
    history = meta_train(
        model,
        any_shots,
        criterion=F.mse_loss,
        generator=torch.Generator().manual_seed(seed),
        checkpoint=_path(seed),
        objective=partial(prompt_loss, model=model),
        schedule=partial(warm_cosine, SETTINGS["iterations"]),
        **SETTINGS,
    )
    spent = before + time.process_time() - begun
    if not quiet:
        save_checkpoint(_beside(seed), {"cpu_seconds": spent})
        print(f"{seed}: {history.seconds:.0f} s, processor {spent:.0f}")
    return history


def cpu_seconds(seed: int) -> float:
    """What the processor worked on a training, unlike the clock's time.

    0 before anything was trained.
    """
    path = _beside(seed)
    return load_checkpoint(path)["cpu_seconds"] if path.exists() else 0.0


def _path(seed: int) -> Path:
    return BUILD / "reproduce" / f"in_context_transformer_{seed}.pt"


def _beside(seed: int) -> Path:
    return BUILD / "reproduce" / f"in_context_transformer_{seed}_cpu.pt"
