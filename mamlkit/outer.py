"""Outer loop: move the starting point so that the query losses fall."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import vmap
from tqdm.auto import tqdm

from mamlkit.checkpoint import (
    _plain,
    _resume,
    load_checkpoint,
    save_checkpoint,
)
from mamlkit.checks import (
    _check_buffers,
    _check_numbers,
    _check_sample,
    _check_tasks,
    _check_training,
    _diverged,
)
from mamlkit.gradient import gradient_of, in_parts
from mamlkit.inner import LossFn, Params, adapt, functional_loss
from mamlkit.tasks import Batch, Tasks

CHECKPOINT_SECONDS = 10.0


def map_tasks(
    fn: Callable[[Batch, Batch], Tensor],
    tasks: Tasks,
    over_tasks: str = "vmap",
) -> Tensor:
    """Apply `fn(support, query)` to every task and stack what it returns.

    Args:
        fn: written for one task; support.x of shape (examples, *features).
        tasks: stacked on a leading axis.
        over_tasks: "vmap" runs all tasks as one batched computation; "loop"
            takes one after the other, for models that vmap cannot batch.

    Returns:
        shape (tasks, *shape of fn's result).
    """
    if over_tasks == "vmap":
        return vmap(fn, randomness="different")(tasks.support, tasks.query)
    pairs = zip(zip(*tasks.support), zip(*tasks.query))
    return torch.stack([fn(Batch(*s), Batch(*q)) for s, q in pairs])


def meta_loss(
    params: Params,
    loss_fn: LossFn,
    tasks: Tasks,
    *,
    lr: float | Params,
    steps: int = 1,
    first_order: bool = False,
    over_tasks: str = "vmap",
) -> Tensor:
    """Adapt to each task from `params`; average the query losses.

    The meta-objective of Finn et al. 2017, Sec. 2.2, with a mean over tasks
    where the paper sums: the gradient keeps its size when their number
    changes.

    Args:
        params: θ, the shared starting point.
        loss_fn: `(params, batch)` -> scalar.
        tasks: stacked; x of shape (tasks, examples, *features).
        lr: α, as in `adapt`.
        steps: inner steps on each support set.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".

    Returns:
        scalar, differentiable in `params` through the inner steps.

    Raises:
        ValueError: tasks have no task axis or differ in number, the model
            keeps running statistics, or vmap would get it wrong.
    """
    _check_tasks(loss_fn, tasks, over_tasks)

    def task_loss(support, query):
        adapted = adapt(
            params,
            loss_fn,
            support,
            lr=lr,
            steps=steps,
            first_order=first_order,
        )
        return loss_fn(adapted, query)

    return map_tasks(task_loss, tasks, over_tasks).mean()


@dataclass
class History:
    """What happened during `meta_train`.

    Attributes:
        loss: the meta-loss at each iteration, on that iteration's new tasks.
        params: the trained starting point, name -> tensor.
        validation: (iterations done, what `validate` returned) pairs.
        seconds: training time, summed over runs if it was resumed.
    """

    loss: list[float] = field(default_factory=list)
    params: Params = field(default_factory=dict)
    validation: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def cosine(iterations: int) -> Callable[[int], float]:
    """Schedule that takes the meta learning rate from 1 x to 0 x.

    Examples:
        >>> schedule = cosine(100)
        >>> schedule(0), schedule(50), schedule(100)
        (1.0, 0.5, 0.0)
    """
    return lambda i: round(0.5 + 0.5 * math.cos(math.pi * i / iterations), 12)


def meta_train(
    model: nn.Module,
    sample_tasks: Callable[..., Tasks],
    *,
    criterion: Callable[[Tensor, Tensor], Tensor],
    inner_lr: float | Params,
    meta_lr: float,
    n_tasks: int,
    iterations: int,
    generator: torch.Generator,
    steps: int = 1,
    objective: Callable[..., Tensor] = meta_loss,
    first_order: bool = False,
    over_tasks: str = "vmap",
    tasks_at_once: int | None = None,
    schedule: Callable[[int], float] | None = None,
    validate: Callable[[Params], float] | None = None,
    checkpoint: str | Path | None = None,
    compile: bool = False,
) -> History:
    """Meta-train `model` with Adam; leave the trained weights in it.

    Finn et al. 2017, Algorithm 1. Same seed and same thread count give the
    same bits; an interrupted run continues from `checkpoint` to the bits it
    would have reached.

    Args:
        model: any module, in the mode (train or eval) that it is in; its
            parameters that require grad are trained.
        sample_tasks: `sample_tasks(n_tasks, generator=g)` -> new Tasks.
        criterion: `(outputs, y)` -> scalar.
        inner_lr: α, as in `adapt`, held fixed; chapter 08 learns it.
        meta_lr: β, Adam's learning rate.
        n_tasks: tasks per iteration.
        iterations: meta-updates.
        generator: passed to `sample_tasks`; dropout draws from torch's own.
        steps: inner steps.
        objective: called as `meta_loss` is; Adam follows its gradient.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".
        tasks_at_once: add up the meta-gradient over parts of this many
            tasks; memory is needed for one part. None: all at once.
        schedule: iteration -> factor on `meta_lr`, as `cosine(iterations)`.
        validate: params -> number, called 20 times, evenly spread; judge
            the `params` it is given, as `model` changes at the end only.
        checkpoint: file to resume from, written every few seconds. Another
            seed or another number among these settings is refused; other
            functions, data, or weights to begin from are not noticed.
        compile: compile the meta-gradient, which takes a while and a C++
            compiler; without one, warn and go on.

    Returns:
        History with the loss of every iteration.

    Raises:
        ValueError: a setting makes no sense, or `checkpoint` is damaged,
            from other settings, or cannot be written.
        FloatingPointError: the meta-loss is not finite any more; `checkpoint`
            keeps the last good weights, `model` those it came with.
    """
    _check_numbers(n_tasks, iterations, steps, tasks_at_once)
    first_factor = schedule(0) if schedule and iterations else 1.0
    _check_training(model, criterion, generator, meta_lr, first_factor)
    params = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    device = next(iter(params.values())).device
    optimizer = torch.optim.Adam(params.values(), float(meta_lr), fused=True)
    history = History(params=params)
    settings = {
        "inner_lr": _plain(inner_lr),
        "meta_lr": float(meta_lr),
        "n_tasks": int(n_tasks),
        "iterations": int(iterations),
        "steps": int(steps),
        "seed": generator.initial_seed(),
        "objective": _plain(objective),
        "first_order": first_order,
        "shapes": {name: list(p.shape) for name, p in params.items()},
    }
    start = 0
    if checkpoint is not None and Path(checkpoint).exists():
        start = _resume(
            load_checkpoint(checkpoint, settings),
            history,
            optimizer,
            generator,
        )

    def save(iteration, generator_state):
        state = {
            "settings": settings,
            "iteration": iteration,
            "params": params,
            "optimizer": optimizer.state_dict(),
            "generator": generator_state,
            "loss": torch.tensor(history.loss, dtype=torch.float64),
            "validation": history.validation,
            "seconds": history.seconds,
        }
        save_checkpoint(checkpoint, state)

    loss_fn = functional_loss(model, criterion)
    follow = partial(
        objective,
        lr=inner_lr,
        steps=steps,
        first_order=first_order,
        over_tasks=over_tasks,
    )
    meta_gradient = gradient_of(follow, compile=compile)
    if tasks_at_once:
        meta_gradient = in_parts(meta_gradient, tasks_at_once)
    validate_after = {(i + 1) * iterations // 20 for i in range(20)}
    begun = time.perf_counter() - history.seconds
    saved_at = history.seconds
    progress = tqdm(
        range(start, iterations),
        initial=start,
        total=iterations,
        leave=False,
        mininterval=0.5,
    )
    buffers = dict(model.named_buffers())
    for i in progress:
        generator_state = generator.get_state()
        tasks = sample_tasks(n_tasks, generator=generator)
        _check_sample(tasks, params)
        tasks = _to(device, tasks)
        grads, loss = meta_gradient(params, loss_fn, tasks)
        if i == start:
            _check_buffers(model, buffers)
        loss = loss.item()
        if not math.isfinite(loss):
            raise FloatingPointError(_diverged(f"meta-loss {loss}", i, tasks))
        history.seconds = time.perf_counter() - begun
        # Only now is it certain that the last update left good weights.
        if checkpoint and history.seconds - saved_at > CHECKPOINT_SECONDS:
            save(i, generator_state)
            saved_at = history.seconds
        history.loss.append(loss)
        for name, p in params.items():
            p.grad = grads[name]
        if schedule:
            optimizer.param_groups[0]["lr"] = float(meta_lr * schedule(i))
        optimizer.step()
        if i % 100 == 0:
            progress.set_postfix(loss=f"{loss:.4g}", refresh=False)
        if validate and i + 1 in validate_after:
            history.validation.append((i + 1, float(validate(params))))
    if not all(p.isfinite().all() for p in params.values()):
        raise FloatingPointError(_diverged("weights", iterations - 1))
    if checkpoint and start < iterations:
        save(iterations, generator.get_state())
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in params:
                p.copy_(params[name])
    return history


def _to(device: torch.device, tasks: Tasks) -> Tasks:
    if tasks.support.x.device == device:
        return tasks
    return Tasks(*(Batch(*(t.to(device) for t in b)) for b in tasks))
