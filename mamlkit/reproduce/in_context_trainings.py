"""Trainings on waves: what reads its task, context parameters, and MAML."""

import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.in_context import InContextLearner
from mamlkit.inner import LossFn, Params, adapt
from mamlkit.models import MLP
from mamlkit.outer import History, cosine, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.tasks import OverTasks, Sinusoids, Tasks, map_tasks

MOST_SHOTS = 20  # that any training sees
WARM_UP = 200  # iterations
# Arguments of `InContextLearner`; the small one fits into a page.
SIZES = {"transformer": {}, "small": {"width": 32, "layers": 3}}
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


def train(seed: int, size: str = "transformer") -> History:
    """Train a transformer, resumably.

    Args:
        seed: of weights and tasks.
        size: a key of `SIZES`.
    """
    torch.manual_seed(seed)
    model = InContextLearner(**SIZES[size])
    options = SETTINGS | {
        "objective": partial(prompt_loss, model=model),
        "schedule": partial(warm_cosine, SETTINGS["iterations"]),
    }
    return _timed(f"{size}_{seed}", model, any_shots, seed, options)


# --- context parameters ------------------------------------------------------

CONTEXT = 5  # numbers that are adapted
# Arguments of `meta_train`: those of MAML in `sinusoid`; its authors clamp
# each task's gradient to 10 (github.com/lmzintgraf/cavia, regression).
CONTEXT_SETTINGS = {
    "meta_lr": 1e-3,
    "n_tasks": 25,
    "iterations": 70_000,
    "steps": 1,
    "clip": 10.0,
}
# α in training, the authors' 1 among them, tried by trainings of this length.
CONTEXT_LRS, TRIAL_ITERATIONS = (0.3, 1.0, 3.0), 10_000


class ContextMLP(nn.Module):
    """The network of chapter 05 with a context beside each x.

    Zintgraf et al. 2019 (arXiv:1810.03642), Sec. 3. The context is 0 before
    a task; no outer step moves it.
    """

    def __init__(self):
        super().__init__()
        zeros = torch.zeros(CONTEXT)
        self.context = nn.Parameter(zeros, requires_grad=False)
        self.net = MLP(1 + CONTEXT)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of one task, (examples, 1), to y."""
        beside = self.context.expand(len(x), CONTEXT)
        return self.net(torch.cat([x, beside], dim=1))


def context_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    lr: float,
    steps: int,
    over_tasks: OverTasks = "vmap",
    **options,
) -> Tensor:
    """Adapt the context to each task, from 0; average the query losses."""
    start = {"context": torch.zeros(CONTEXT)}

    def task_loss(support, query):
        def of_context(context, batch):
            return loss_fn(params | context, batch)

        adapted = adapt(start, of_context, support, lr=lr, steps=steps)
        return of_context(adapted, query)

    return map_tasks(task_loss, tasks, over_tasks).mean()


def train_context(
    seed: int, lr: float, iterations: int = CONTEXT_SETTINGS["iterations"]
) -> History:
    """Train the weights around a context, resumably.

    Args:
        seed: of weights and tasks.
        lr: α of the one inner step.
        iterations: of the outer loop.
    """
    torch.manual_seed(seed)
    options = CONTEXT_SETTINGS | {
        "iterations": iterations,
        "inner_lr": lr,
        "objective": context_loss,
        "compile": True,
    }
    sample = partial(Sinusoids().sample, k_shot=10, k_query=10)
    label = _context_label(seed, lr, iterations)
    return _timed(label, ContextMLP(), sample, seed, options)


def context_seconds(seed: int, lr: float) -> float:
    """What the processor worked on a whole training."""
    iterations = CONTEXT_SETTINGS["iterations"]
    return cpu_seconds(_context_label(seed, lr, iterations))


def _context_label(seed: int, lr: float, iterations: int) -> str:
    return f"context_{lr:g}_{iterations}_{seed}"


# --- MAML --------------------------------------------------------------------


# Arguments of `meta_train`: the paper's.
MAML_SETTINGS = {"meta_lr": 1e-3, "n_tasks": 25, "iterations": 70_000}


def train_maml(seed: int) -> History:
    """Train MAML as `sinusoid` does, whose network is that of seed 0."""
    torch.manual_seed(seed)
    options = MAML_SETTINGS | {
        "inner_lr": load_checkpoint(CHECKPOINTS / "sinusoid.pt")["inner_lr"],
        "compile": True,
    }
    sample = partial(Sinusoids().sample, k_shot=10, k_query=10)
    return _timed(f"maml_{seed}", MLP(), sample, seed, options)


# --- all ---------------------------------------------------------------------


def _timed(label: str, model: nn.Module, sample, seed, options) -> History:
    """Train, and remember what the processor worked on it."""
    path, beside = _path(label), _path(f"{label}_cpu")
    before, begun = cpu_seconds(label), time.process_time()
    history = meta_train(
        model,
        sample,
        criterion=F.mse_loss,
        generator=torch.Generator().manual_seed(seed),
        checkpoint=path,
        **options,
    )
    spent = time.process_time() - begun
    if spent > 10:  # no mere reading of what was done
        save_checkpoint(beside, {"cpu_seconds": before + spent})
    print(f"{label}: {history.seconds:.0f} s", flush=True)
    return history


def cpu_seconds(label: str) -> float:
    """What the processor worked on a training, unlike the clock's time.

    0 before anything was trained.
    """
    path = _path(f"{label}_cpu")
    return load_checkpoint(path)["cpu_seconds"] if path.exists() else 0.0


def _path(label: str) -> Path:
    return BUILD / "reproduce" / f"in_context_{label}.pt"
