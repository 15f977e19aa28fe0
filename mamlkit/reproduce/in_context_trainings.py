"""What is trained on waves, to be laid beside MAML, and how.

A transformer that reads its task, MAML in two sizes, context parameters
(CAVIA), and joint training.
"""

import math
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
from mamlkit.models import MLP
from mamlkit.objectives import anil_loss
from mamlkit.outer import History, meta_train
from mamlkit.paths import BUILD
from mamlkit.tasks import Sinusoids, Tasks

MOST_SHOTS = 20  # that any training sees
WARM_UP = 200  # iterations


class WithContext(nn.Module):
    """The sinusoid network with a context vector beside x.

    Zintgraf et al. 2019 (CAVIA, arXiv:1810.03642): a task is learned by steps
    on the context, from 0, and the weights are shared.

    Args:
        n_context: numbers in the context.
        hidden: as in `MLP`.
    """

    def __init__(self, n_context: int = 5, hidden: tuple[int, ...] = (40, 40)):
        super().__init__()
        self.context = nn.Parameter(
            torch.zeros(n_context), requires_grad=False
        )
        self.net = MLP(1 + n_context, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (examples, 1) to y (examples, 1)."""
        context = self.context.expand(len(x), -1)
        return self.net(torch.cat([x, context], dim=-1))


def context_loss(params: Params, loss_fn, tasks: Tasks, **options) -> Tensor:
    """Compute `meta_loss` with inner steps on the context only, from 0."""
    start = params | {"context": torch.zeros(options.pop("n_context"))}
    return anil_loss(start, loss_fn, tasks, adapted=["context"], **options)


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
    fall = 0.5 + 0.5 * math.cos(math.pi * i / iterations)
    return min(1.0, (i + 1) / WARM_UP) * fall


# What is trained, and how: the arguments of `meta_train` that differ.
WAVES = {
    "meta_lr": 1e-3,
    "n_tasks": 25,
    "iterations": 70_000,
    "sample_tasks": partial(Sinusoids().sample, k_shot=10, k_query=10),
    "compile": True,
}
TRAININGS = {
    "transformer": {
        "model": InContextLearner,
        "sample_tasks": any_shots,
        "inner_lr": 0.0,
        "meta_lr": 2e-3,
        "n_tasks": 16,
        "iterations": 24_000,
        "steps": 0,
    },
    # Its authors' setting: five numbers, one step, α = 1.
    "cavia": WAVES
    | {
        "model": WithContext,
        "inner_lr": 1.0,
        "steps": 1,
        "iterations": 50_000,
    },
}


def train(
    name: str, seed: int, settings: dict, *, quiet: bool = False
) -> History:
    """Train one method, resumably.

    Args:
        name: of the checkpoint.
        seed: of weights and tasks.
        settings: a value of `TRAININGS`.
        quiet: do not say how long it took.
    """
    settings = dict(settings)
    torch.manual_seed(seed)
    model = settings.pop("model")()
    if isinstance(model, InContextLearner):
        settings["objective"] = partial(prompt_loss, model=model)
        iterations = settings["iterations"]
        settings["schedule"] = partial(warm_cosine, iterations)
    if isinstance(model, WithContext):
        n_context = len(model.context)
        settings["objective"] = partial(context_loss, n_context=n_context)
    path = BUILD / "reproduce" / f"in_context_{name}_{seed}.pt"
    before = cpu_seconds(name, seed)
    begun = time.process_time()
    history = meta_train(
        model,
        settings.pop("sample_tasks"),
        criterion=F.mse_loss,
        generator=torch.Generator().manual_seed(seed),
        checkpoint=path,
        **settings,
    )
    spent = before + time.process_time() - begun
    if not quiet:
        save_checkpoint(_beside(path), {"cpu_seconds": spent})
        print(f"{name} {seed}: {history.seconds:.0f} s, processor {spent:.0f}")
    return history


def cpu_seconds(name: str, seed: int) -> float:
    """What the processor worked on a training, unlike the clock's time.

    Compiling is part of it. 0 before anything was trained.
    """
    path = _beside(BUILD / "reproduce" / f"in_context_{name}_{seed}.pt")
    return load_checkpoint(path)["cpu_seconds"] if path.exists() else 0.0


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_cpu.pt")
