"""More than one process: each takes its share of the tasks.

Under `torchrun`, or wherever torch.distributed runs, all draw the same tasks,
each computes the gradient of its own, and the gradients are averaged. What
one process alone would compute differs by rounding.
"""

import atexit
import os
from typing import Any

import torch
from torch import Tensor, distributed

from mamlkit import inputs
from mamlkit.gradient import MetaGradient
from mamlkit.tasks import cut

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def join() -> tuple[int, int]:
    """Join the other processes, if there are any.

    Returns:
        rank of this process, and how many there are: (0, 1) if it is alone.
    """
    if not distributed.is_available():
        return 0, 1
    if not distributed.is_initialized():
        told = all(name in os.environ for name in TOLD)
        if not told or int(os.environ["WORLD_SIZE"]) < 2:
            return 0, 1
        distributed.init_process_group()
        atexit.register(_leave)
    return distributed.get_rank(), distributed.get_world_size()


def of_first(value: Any, world: int) -> Any:
    """Give every process what the first one has."""
    if world < 2:
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def averaged(gradient: MetaGradient, rank: int, world: int) -> MetaGradient:
    """Let each process see its share of the tasks only.

    Returns:
        (params, loss_fn, tasks) -> (gradients by name, loss), the means over
        all tasks, as `gradient` itself returns for all at once.
    """
    if world < 2:
        return gradient

    def mean_over_ranks(params, loss_fn, tasks):
        n_tasks = len(inputs.first(tasks.support.x))
        first, last = (n_tasks * r // world for r in (rank, rank + 1))
        total = torch.zeros(
            1 + sum(p.numel() for p in params.values()),
            device=next(iter(params.values())).device,
            dtype=max((p.dtype for p in params.values()), key=_digits),
        )
        if last > first:
            grads, loss = gradient(params, loss_fn, cut(tasks, first, last))
            flat = [loss.detach().reshape(1)]
            flat += [grads[name].flatten() for name in params]
            total.add_(torch.cat(flat), alpha=(last - first) / n_tasks)
        distributed.all_reduce(total)
        loss, *parts = total.split([1, *(p.numel() for p in params.values())])
        grads = {
            name: part.view_as(p).to(p.dtype)
            for part, (name, p) in zip(parts, params.items())
        }
        return grads, loss[0]

    return mean_over_ranks


def _digits(dtype: torch.dtype) -> float:
    return -torch.finfo(dtype).eps


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def shared(params: dict[str, Tensor], world: int) -> None:
    """Write the first process's tensors into everyone's."""
    if world > 1:
        for p in params.values():
            distributed.broadcast(p, src=0)
