"""Reptile on Omniglot, as its authors trained and tested it.

Nichol, Achiam and Schulman 2018 (arXiv:1803.02999), Algorithm 2, with the
settings of Appendix A and of their code (openai/supervised-reptile). There
the inner steps are Adam's without momentum, and Adam's second moments are
kept from task to task: they begin anew with a training, not with a task.
"""

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F
from tqdm.auto import tqdm

from mamlkit.checkpoint import (
    load_training,
    resume,
    save_training,
    training_settings,
)
from mamlkit.history import History, Run, mark
from mamlkit.inner import LossFn, Params
from mamlkit.outer import CHECKPOINT_SECONDS
from mamlkit.reproduce.judge import Walk
from mamlkit.tasks import Batch, Tasks

DECAY = 0.999  # β₂ of the inner Adam
EPS = 1e-8


def cut(
    tasks: Tasks, generator: torch.Generator, *, size: int
) -> Iterator[list[Batch]]:
    """Shuffle each task's examples, all of them, and cut them in batches.

    Args:
        tasks: support and query set are one training set here, as Reptile
            does not tell them apart.
        generator: shuffles.
        size: examples in an inner batch; a rest is left out.

    Yields:
        one task's batches after another's.
    """
    for sx, sy, qx, qy in zip(*tasks.support, *tasks.query):
        x, y = torch.cat([sx, qx]), torch.cat([sy, qy])
        order = torch.randperm(len(y), generator=generator).split(size)
        yield [Batch(x[some], y[some]) for some in order if len(some) == size]


def train(
    net: nn.Module,
    sample_tasks: Callable[..., Tasks],
    args: Namespace,
    *,
    validate: Callable[[Params, Params], float] | None = None,
    checkpoint: Path | None = None,
    batches_of: Callable[..., Iterable[list[Batch]]] | None = None,
) -> tuple[History, Params]:
    """Train `net`, resumably.

    Args:
        net: where training begins; it is moved to where training ends.
        sample_tasks: `sample_tasks(n_tasks, generator=g)` -> Tasks, whose
            examples make up the inner batches.
        args: with `iterations`, `tasks` an iteration, `batch` the size of an
            inner batch, `inner_lr` Adam's rate within tasks, `meta_lr` ε of
            the first iteration, `anneal` whether it falls linearly to 0, and
            `seed`.
        validate: (θ, second moments) -> number, called 20 times.
        checkpoint: file to resume from.
        batches_of: `batches_of(tasks, generator)` -> each task's inner
            batches; by default its examples, shuffled and cut.

    Returns:
        history, and Adam's second moments by parameter name.
    """
    params = {k: p.detach().clone() for k, p in net.named_parameters()}
    history = History(params=params)
    # The moments belong to the parameters of `net`, which play φ.
    inner = torch.optim.Adam(
        net.parameters(), args.inner_lr, (0.0, DECAY), EPS, fused=True
    )
    generator = torch.Generator().manual_seed(args.seed)
    numbers = ("iterations", "tasks", "batch", "inner_lr", "meta_lr", "anneal")
    settings = training_settings(
        generator, params, objective=train,
        **{name: getattr(args, name) for name in numbers},
    )  # fmt: skip
    run = Run(params, inner, [args.inner_lr], generator, history)
    resume(run, load_training(checkpoint, settings, args.iterations))
    start = run.done
    if batches_of is None:
        batches_of = partial(cut, size=args.batch)
    validate_after = {(i + 1) * args.iterations // 20 for i in range(20)}
    begun = time.perf_counter() - history.seconds
    saved_at = history.seconds
    for i in tqdm(
        range(start, args.iterations), initial=start, total=args.iterations,
        leave=False, mininterval=0.5,
    ):  # fmt: skip
        tasks = sample_tasks(args.tasks, generator=generator)
        moved = {name: torch.zeros_like(p) for name, p in params.items()}
        loss = 0.0
        for task in batches_of(tasks, generator):
            loss += learn(net, params, inner, task) / args.tasks
            for name, p in net.named_parameters():
                moved[name] += (p.detach() - params[name]) / args.tasks
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss {loss} in iteration {i}")
        history.seconds = time.perf_counter() - begun
        left = 1 - i / args.iterations if args.anneal else 1.0
        for name, p in params.items():
            p.add_(moved[name], alpha=left * args.meta_lr)
        history.loss.append(loss)
        if validate and i + 1 in validate_after:
            found = float(validate(params, squares_of(net, inner)))
            history.validation.append((i + 1, found))
        mark(run, i + 1)
        if checkpoint and history.seconds - saved_at > CHECKPOINT_SECONDS:
            save_training(checkpoint, settings, run)
            saved_at = history.seconds
    if checkpoint and start < args.iterations:
        save_training(checkpoint, settings, run)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(params[name])
    return history, squares_of(net, inner)


def squares_of(net: nn.Module, inner: torch.optim.Optimizer) -> Params:
    """Read Adam's second moments, corrected for their beginning at 0."""
    return {
        name: state["exp_avg_sq"] / (1 - DECAY ** state["step"])
        for name, p in net.named_parameters()
        if (state := inner.state[p])
    }


def learn(
    net: nn.Module,
    params: Params,
    inner: torch.optim.Optimizer,
    task: list[Batch],
) -> float:
    """Take `net` from θ to one task's θ′; return the mean loss on the way."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(params[name])
    total = 0.0
    for batch in task:
        inner.zero_grad()
        loss = F.cross_entropy(net(batch.x), batch.y)
        loss.backward()
        inner.step()
        total += loss.item() / len(task)
    return total


def adam_walk(
    loss_fn: LossFn,
    params: Params,
    squares: Params,
    *,
    lr: float,
    batch: int | None = None,
) -> Walk:
    """Make the walk of Adam without momentum, for new tasks.

    Args:
        loss_fn: `(params, batch)` -> scalar.
        params: θ.
        squares: the second moments that training ended with; every task
            begins from them.
        lr: Adam's rate.
        batch: examples in a step; None takes the whole support set.
    """

    def walk(support, steps):
        adapted, moments = params, squares
        yield adapted
        for some in portions(len(support.y), batch or len(support.y), steps):
            grads = grad(loss_fn)(adapted, Batch(*(t[some] for t in support)))
            moments = {
                name: DECAY * moments[name] + (1 - DECAY) * g.square()
                for name, g in grads.items()
            }
            adapted = {
                name: value - lr * grads[name] / (moments[name].sqrt() + EPS)
                for name, value in adapted.items()
            }
            yield adapted

    return walk


def portions(n: int, size: int, steps: int) -> list[Tensor]:
    """Cut shuffled examples in batches, over and over, always the same way.

    Args:
        n: examples; a last, smaller batch of a pass goes on in the next.
        size: of a batch.
        steps: batches wanted.

    Returns:
        places of the examples, shape (size,), one tensor a step.
    """
    generator = torch.Generator().manual_seed(0)
    passes = math.ceil(steps * size / n)
    order = [torch.randperm(n, generator=generator) for _ in range(passes)]
    return list(torch.cat(order).split(size))[:steps] if steps else []
