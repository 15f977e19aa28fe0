"""Outer loop: move the starting point so that the query losses fall."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mamlkit import calling, checks
from mamlkit.checkpoint import resume, save_training, training_settings
from mamlkit.gradient import gradient_of, in_parts
from mamlkit.inner import Params, functional_loss
from mamlkit.objectives import meta_loss
from mamlkit.tasks import OverTasks, Tasks, to_device

CHECKPOINT_SECONDS = 10.0


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
    over_tasks: OverTasks = "vmap",
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
    checks.numbers(n_tasks, iterations, steps, tasks_at_once)
    first_factor = schedule(0) if schedule and iterations else 1.0
    checks.training(model, criterion, generator, meta_lr, first_factor)
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    if over_tasks == "vmap":
        checks.vmapped(checks.needs(model), trained)
    params = {name: p.detach().clone() for name, p in trained.items()}
    device = next(iter(params.values())).device
    optimizer = torch.optim.Adam(params.values(), float(meta_lr), fused=True)
    history = History(params=params)
    shared = {"steps": steps, "first_order": first_order}
    settings = training_settings(
        generator, objective, inner_lr=inner_lr, meta_lr=meta_lr,
        n_tasks=n_tasks, iterations=iterations, shapes=params, **shared,
    )  # fmt: skip
    start = resume(checkpoint, settings, history, optimizer, generator)
    save = partial(save_training, checkpoint, settings, history, optimizer)

    loss_fn = functional_loss(model, criterion)
    follow = partial(objective, lr=inner_lr, over_tasks=over_tasks, **shared)
    meta_gradient = gradient_of(follow, compile=compile)
    if tasks_at_once:
        meta_gradient = in_parts(meta_gradient, tasks_at_once)
    validate_after = {(i + 1) * iterations // 20 for i in range(20)}
    begun = time.perf_counter() - history.seconds
    saved_at = history.seconds
    progress = _progress(start, iterations)
    for i in progress:
        generator_state = generator.get_state()
        tasks = sample_tasks(n_tasks, generator=generator)
        checks.sample(tasks, params)
        tasks = to_device(tasks, device)
        with calling.unchanged(model) if i == start else nullcontext():
            grads, loss_tensor = meta_gradient(params, loss_fn, tasks)
        loss = loss_tensor.item()
        if not math.isfinite(loss):
            what = f"meta-loss {loss}"
            raise FloatingPointError(checks.diverged(what, i, tasks))
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
        what = checks.diverged("weights", iterations - 1)
        raise FloatingPointError(what)
    if checkpoint and start < iterations:
        save(iterations, generator.get_state())
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(params[name])
    return history


def _progress(start: int, iterations: int) -> tqdm:
    return tqdm(
        range(start, iterations),
        initial=start,
        total=iterations,
        leave=False,
        mininterval=0.5,
    )
