"""Training a policy by many updates, resumably."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.inner import Params


def train_policy(
    path: Path,
    params: Params,
    update: Callable[[Params], tuple[Params, Tensor]],
    *,
    iterations: int,
    generator: torch.Generator,
    settings: dict[str, Any],
    keep: Collection[int] = (),
    digits: int = 2,
) -> dict[str, Any]:
    """Update a policy again and again, from where an earlier call stopped.

    Args:
        path: of the checkpoint, written every 20 seconds and at the end.
        params: θ before the first update.
        update: θ -> the next θ, and the mean return that was reached.
        iterations: updates in all, those of earlier calls included.
        generator: what `update` draws from; its state is kept.
        settings: two calls with other settings do not share a checkpoint.
        keep: after how many updates θ is kept as a snapshot.
        digits: to which returns are rounded.

    Returns:
        the checkpoint: params, snapshots by updates, curve (the return that
        each update reached), seconds, and those of all threads' work.

    Raises:
        ValueError: the checkpoint is of other settings, or of more updates.
    """
    state = {
        "settings": settings,
        "params": params,
        "snapshots": {},
        "curve": [],
        "seconds": 0.0,
        "cpu_seconds": 0.0,  # unlike the clock, blind to busy neighbours
        "generator": generator.get_state(),
    }
    if path.exists():
        state |= load_checkpoint(path, settings)
        if len(state["curve"]) > iterations:
            raise ValueError(
                f"{path} has {len(state['curve'])} updates and {iterations} "
                "are wanted: ask for more, or delete it"
            )
        generator.set_state(state["generator"])
    begun, saved_at = time.perf_counter() - state["seconds"], state["seconds"]
    cpu_begun = time.process_time() - state["cpu_seconds"]
    progress = tqdm(
        range(len(state["curve"]), iterations),
        initial=len(state["curve"]),
        total=iterations,
        desc=path.stem,
        mininterval=5,
    )
    for i in progress:
        state["params"], reached = update(state["params"])
        state["curve"].append(round(reached.item(), digits))
        state["seconds"] = time.perf_counter() - begun
        state["cpu_seconds"] = time.process_time() - cpu_begun
        state["generator"] = generator.get_state()
        progress.set_postfix(reached=f"{reached:.2f}", refresh=False)
        if i + 1 in keep:
            state["snapshots"][i + 1] = state["params"]
        if i + 1 == iterations or state["seconds"] - saved_at > 20:
            save_checkpoint(path, state)
            saved_at = state["seconds"]
    return state
