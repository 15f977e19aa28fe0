"""Outer loop: move the starting point so that the query losses fall."""

import math
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mamlkit import calling, checks, ranks
from mamlkit.checkpoint import (
    load_training,
    resume,
    save_training,
    training_settings,
)
from mamlkit.gradient import gradient_of, in_parts
from mamlkit.history import (
    Best,
    History,
    Run,
    best_of,
    copied,
    laid_out,
    mark,
)
from mamlkit.inner import LossFn, Params, Rates, functional_loss
from mamlkit.objectives import meta_loss
from mamlkit.rates import filled, learned
from mamlkit.tasks import OverTasks, Tasks, map_tasks, to_device
from mamlkit.trial import vmap_is_right

CHECKPOINT_SECONDS = 10.0
# After so many iterations without a gradient for a parameter, warn.
IDLE_ITERATIONS = 20


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
    criterion: Callable[[Any, Tensor], Tensor],
    inner_lr: Rates,
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
    keep: Literal["last", "best"] = "last",
    maximize: bool = False,
    patience: int | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    clip: float | None = None,
    callback: Callable[[int, History], object] | None = None,
    trial: bool = True,
) -> History:
    """Meta-train `model`; leave the trained weights in it.

    Finn et al. 2017, Algorithm 1. Same seed and same thread count give the
    same bits; an interrupted run continues from `checkpoint` to the bits it
    would have reached (with dropout, on the CPU and CUDA). Interrupted, by
    Ctrl-C or an error, `model` is left with the weights so far, or the best,
    and `checkpoint` is written.

    Under `torchrun` every process takes its share of the tasks; gradients are
    averaged, and the first process validates, calls back and writes
    `checkpoint`.

    Args:
        model: any module, in the mode (train or eval) that it is in; its
            parameters that require grad are trained.
        sample_tasks: `sample_tasks(n_tasks, generator=g)` -> new Tasks.
        criterion: `(outputs, y)` -> scalar.
        inner_lr: α, as in `adapt`. Tensors in it that require grad are
            learned with the weights.
        meta_lr: β, the optimizer's learning rate.
        n_tasks: tasks per iteration.
        iterations: meta-updates; more of them go on from a checkpoint.
        generator: passed to `sample_tasks`; dropout draws from torch's own.
        steps: inner steps.
        objective: called as `meta_loss` is; its gradient is followed.
        first_order: as in `adapt`.
        over_tasks: "vmap" or "loop".
        tasks_at_once: add up the meta-gradient over parts of this many
            tasks; memory is needed for one part. None: all at once.
        schedule: iteration -> factor on `meta_lr`, as `cosine(iterations)`.
        validate: params -> number, called 20 times, evenly spread, with a
            copy of the weights, as `model` changes at the end only; rates
            that are learned are then in the tensors of `inner_lr`.
        checkpoint: file to resume from, written every few seconds. Another
            seed, objective, criterion, layer or number among these settings
            is refused; other data, or weights to begin from, or a forward()
            that was rewritten, are not noticed.
        compile: compile the meta-gradient, which takes a while and a C++
            compiler; without one, warn and go on.
        keep: leave the last weights in `model`, or those that `validate`
            liked best.
        maximize: `validate` returns what should be high, as an accuracy.
        patience: stop when so many calls of `validate` brought nothing
            better.
        optimizer: called with a list of tensors and `lr=meta_lr`, as a class
            in torch.optim; None: Adam.
        clip: greatest length of the meta-gradient; longer ones are shortened.
        callback: called with the number of iterations done and the History so
            far after each of them, to log `history.loss[-1]`, or to judge
            copies of the weights and rates, `history.params` and
            `history.inner_lr`, when you like.
        trial: at the first iteration, compare the meta-gradient by vmap with
            that of the loop on two tasks, and refuse vmap if it is wrong.

    Returns:
        History with the loss of every iteration.

    Raises:
        ValueError: a setting makes no sense, `checkpoint` is damaged, from
            other settings, or cannot be written, the model keeps state from
            call to call, or vmap gets its gradient wrong.
        FloatingPointError: the meta-loss is not finite any more, or the
            weights. If only the loss, `model` and `checkpoint` get the
            weights so far, and going on from there meets the same tasks. If
            the weights, `checkpoint` stays as last written, and `model` as it
            came, or gets the best with `keep="best"`.
    """
    checks.numbers(n_tasks, iterations, steps, tasks_at_once, patience)
    checks.choices(
        objective, keep, validate, patience, clip, optimizer, callback,
        schedule,
    )  # fmt: skip
    if schedule and iterations:
        checks.factor(schedule(0), 0)
    checks.training(model, criterion, generator, meta_lr)
    checks.rates("inner_lr", inner_lr, learned=False)
    checks.sampler(sample_tasks, n_tasks, generator)
    loss_fn = functional_loss(model, criterion)
    rank, world = ranks.join()
    own: Params = {
        k: p for k, p in model.named_parameters() if p.requires_grad
    }
    rates = learned(inner_lr)
    run = _begin(own, rates, optimizer, float(meta_lr), generator, world)
    settings = training_settings(
        generator, run.params, n_tasks=n_tasks, steps=steps, layers=model,
        inner_lr=filled(inner_lr, dict.fromkeys(rates, "learned")),
        meta_lr=meta_lr, first_order=first_order, objective=objective,
        criterion=criterion, optimizer=optimizer, clip=clip, maximize=maximize,
    )  # fmt: skip
    load = partial(load_training, checkpoint, settings, iterations)
    resume(run, ranks.of_first(None if rank else load(), world))
    checks.begins(run.params)
    history, first, idle = run.history, run.done, {*run.params}

    follow = _following(
        objective, own, rates, inner_lr, steps=steps, first_order=first_order,
        over_tasks=over_tasks,
    )  # fmt: skip
    gradient = gradient_of(follow, compile=compile)
    if tasks_at_once:
        gradient = in_parts(gradient, tasks_at_once)
    gradient = ranks.averaged(gradient, rank, world)
    save = _saving(run, None if rank else checkpoint, settings)
    judge = _judging(
        run, rates, validate, rank, world, iterations=iterations,
        maximize=maximize, patience=patience,
    )  # fmt: skip
    begun = time.perf_counter() - history.seconds
    with _leaving(run, own, rates, inner_lr, keep, save):
        for i in (progress := _progress(first, iterations, hidden=rank > 0)):
            if judge(i):
                break
            tasks = sample_tasks(n_tasks, generator=generator)
            tasks = checks.sample(tasks, model)
            tasks = to_device(tasks, next(iter(own.values())).device)
            with calling.unchanged(model) if i == first else nullcontext():
                if i == first and trial and over_tasks == "vmap":
                    vmap_is_right(
                        follow, run.params, loss_fn, tasks, model, criterion
                    )
                grads, loss_tensor = gradient(run.params, loss_fn, tasks)
            loss = loss_tensor.item()
            if not math.isfinite(loss):
                theta = {name: run.params[name] for name in own}
                early = i == 0 and not _fine_before_steps(
                    theta, loss_fn, tasks, over_tasks
                )
                what = f"meta-loss {loss}"
                raise FloatingPointError(
                    checks.diverged(what, i, tasks, early=early)
                )
            history.seconds = time.perf_counter() - begun
            # Only now is it certain that the last update left good weights.
            save(after=CHECKPOINT_SECONDS)
            with _undisturbed():
                factor = checks.factor(schedule(i), i) if schedule else 1.0
                _move(run, grads, loss, factor, clip)
            idle = {name for name in idle if not grads[name].any()}
            if idle and i + 1 in (first + IDLE_ITERATIONS, iterations):
                checks.idle(idle)
                idle = set()
            if i % 100 == 0:
                progress.set_postfix(loss=f"{loss:.4g}", refresh=False)
            if callback and not rank:
                history.params = copied({k: run.params[k] for k in own})
                found = copied({k: run.params[k] for k in rates})
                history.inner_lr = filled(inner_lr, found)
                callback(i + 1, history)
        else:
            judge(iterations)
    return history


def _begin(
    own: Params,
    rates: Params,
    optimizer: Callable[..., torch.optim.Optimizer] | None,
    meta_lr: float,
    generator: torch.Generator,
    world: int,
) -> Run:
    """Make what is trained, from the same weights and draws in all ranks."""
    device = next(iter(own.values())).device
    params = copied(own) | {k: r.to(device) for k, r in copied(rates).items()}
    ranks.shared(params, world)
    generator.set_state(ranks.of_first(generator.get_state(), world))
    if optimizer is None:
        # PyTorch 2.4 has no fused Adam on MPS.
        fused = device.type != "mps"
        optimizer = partial(torch.optim.Adam, fused=fused)
    moves = optimizer(list(params.values()), lr=meta_lr)
    lrs = [group["lr"] for group in moves.param_groups]
    start = copied({name: params[name] for name in own})
    return Run(params, moves, lrs, generator, History(start=start))


def _following(
    objective: Callable[..., Tensor],
    own: Params,
    rates: Params,
    inner_lr: Any,
    **options,
) -> Callable[..., Tensor]:
    """Make the objective a function of weights and learned rates in one."""
    if not rates:
        return partial(objective, lr=inner_lr, **options)

    def follow(params, loss_fn, tasks, **options):
        weights = {name: params[name] for name in own}
        lr = filled(inner_lr, params)
        return objective(weights, loss_fn, tasks, lr=lr, **options)

    return partial(follow, **options)


def _move(
    run: Run, grads: Params, loss: float, factor: float, clip: float | None
) -> None:
    """Take one step of the optimizer."""
    for name, p in run.params.items():
        p.grad = laid_out(grads[name], p)
    if clip is not None:
        nn.utils.clip_grad_norm_(run.params.values(), clip)
    for group, lr in zip(run.optimizer.param_groups, run.lrs):
        group["lr"] = lr * factor
    run.optimizer.step()
    run.history.loss.append(loss)
    mark(run, run.done + 1)


def _judging(
    run: Run,
    rates: Params,
    validate: Callable[[Params], float] | None,
    rank: int,
    world: int,
    *,
    iterations: int,
    maximize: bool,
    patience: int | None,
) -> Callable[[int], bool]:
    """Make what validates when it is time, and says whether to stop."""
    due = {(i + 1) * iterations // 20 for i in range(20)} - {0}
    history = run.history

    def judge(done):
        judged = history.validation[-1][0] if history.validation else 0
        if validate and done in due and done > judged:
            value = None
            if not rank:
                _copy_into(rates, run.params)
                weights = {name: run.params[name] for name in history.start}
                value = checks.judged(validate(copied(weights)))
            value = ranks.of_first(value, world)
            with _undisturbed():
                history.validation.append((done, value))
                mark(run, done)
        at = best_of([value for _, value in history.validation], maximize)
        if at is not None and history.validation[at][0] == done:
            run.best = copied(run.params)
        if at is not None and run.best:
            weights = {name: run.best[name] for name in history.start}
            history.best = Best(*history.validation[at], weights)
        waited = len(history.validation) - (0 if at is None else at + 1)
        return patience is not None and waited >= patience

    return judge


def _saving(
    run: Run, path: str | Path | None, settings: dict
) -> Callable[..., None]:
    """Make what writes the checkpoint, if so much training went by."""
    saved_at = run.history.seconds

    def save(after: float = -math.inf):
        nonlocal saved_at
        if path and run.history.seconds - saved_at > after:
            save_training(path, settings, run)
            saved_at = run.history.seconds

    return save


@contextmanager
def _leaving(
    run: Run,
    own: Params,
    rates: Params,
    inner_lr: Any,
    keep: str,
    save: Callable[..., None],
) -> Generator[None, None, None]:
    """Leave weights in the model and on disk, however training ends."""
    first = run.done

    def leave() -> bool:
        """Leave what is finite; say whether that is the last weights."""
        chosen = run.best if keep == "best" and run.best else run.params
        if _finite(chosen):
            _copy_into(own | rates, chosen)
            learnt = {name: chosen[name].clone() for name in rates}
            run.history.params = {name: chosen[name] for name in own}
            run.history.inner_lr = filled(inner_lr, learnt)
        fine = _finite(run.params)
        if fine and run.done > first:  # last, as the disk may be full
            save()
        return fine

    try:
        yield
    except BaseException:
        leave()
        raise
    if not leave():
        what = "weights that are not finite"
        what = checks.diverged(what, run.done - 1)
        raise FloatingPointError(what)


@torch.no_grad()
def _fine_before_steps(
    params: Params, loss_fn: LossFn, tasks: Tasks, over_tasks: OverTasks
) -> bool:
    """Tell whether the losses of θ itself are finite."""

    def both(support, query):
        return loss_fn(params, support) + loss_fn(params, query)

    try:
        losses = map_tasks(both, tasks, over_tasks)
    except Exception:  # an objective may call its loss in a way of its own
        return True
    return bool(losses.isfinite().all())


def _finite(params: Params) -> bool:
    return all(bool(p.isfinite().all()) for p in params.values())


@torch.no_grad()
def _copy_into(targets: Params, params: Params) -> None:
    for name, target in targets.items():
        target.copy_(params[name])


@contextmanager
def _undisturbed() -> Generator[None, None, None]:
    """Delay Ctrl-C until the update is complete."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[tuple] = []
    usual = signal.signal(signal.SIGINT, lambda *call: pressed.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual or signal.SIG_DFL)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _progress(start: int, iterations: int, *, hidden: bool) -> tqdm:
    # Where it is not given, TQDM_DISABLE of the environment decides.
    unless: dict[str, Any] = {"disable": True} if hidden else {}
    return tqdm(
        range(start, iterations),
        initial=start,
        total=iterations,
        leave=False,
        mininterval=0.5,
        **unless,
    )
