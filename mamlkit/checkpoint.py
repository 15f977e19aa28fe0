"""Checkpoints: written whole or not at all, read without running code."""

from pathlib import Path
from typing import Any

import torch

from mamlkit.paths import replacing


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` so that a crash leaves the old file or the new one.

    Args:
        path: file to write; its folder is made if need be.
        state: tensors, numbers, strings and containers of them.

    Raises:
        ValueError: the folder cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None


def load_checkpoint(
    path: str | Path, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Args:
        path: the file.
        settings: if given, what its "settings" must equal.

    Raises:
        ValueError: the file is missing, damaged, or from other settings.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint at {path}") from None
    except Exception:  # damaged files raise half a dozen kinds
        raise ValueError(
            f"{path} is not a readable checkpoint of tensors, numbers and "
            "strings: name another file, or delete it to start anew"
        ) from None
    found = state.get("settings") if isinstance(state, dict) else None
    if settings is not None and found != settings:
        found = found if isinstance(found, dict) else {}
        changed = ", ".join(
            f"{key} {found.get(key)} there, {settings.get(key)} here"
            for key in sorted(found.keys() | settings.keys())
            if found.get(key) != settings.get(key)
        )
        raise ValueError(
            f"{path} comes from other settings ({changed}): delete it, or "
            "name another file"
        )
    return state


def training_settings(generator, objective, **settings) -> dict[str, Any]:
    """List what a run must share with a checkpoint to go on from it."""
    shapes = settings.pop("shapes")
    return {name: _plain(value) for name, value in settings.items()} | {
        "seed": generator.initial_seed(),
        "objective": _plain(objective),
        "shapes": {name: list(p.shape) for name, p in shapes.items()},
    }


def save_training(
    path, settings, history, optimizer, iteration, generator_state
) -> None:
    """Keep what `resume` needs after `iteration` updates."""
    state = {
        "settings": settings,
        "iteration": iteration,
        "params": history.params,
        "optimizer": optimizer.state_dict(),
        "generator": generator_state,
        "loss": torch.tensor(history.loss, dtype=torch.float64),
        "validation": history.validation,
        "seconds": history.seconds,
    }
    save_checkpoint(path, state)


def resume(path, settings, history, optimizer, generator) -> int:
    """Put a training's state in place, if `path` holds one.

    Returns:
        the iteration it is at; 0 where there is no file.
    """
    if path is None or not Path(path).exists():
        return 0
    state = load_checkpoint(path, settings)
    for name, p in history.params.items():
        p.copy_(state["params"][name])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    history.loss = state["loss"].tolist()
    history.validation = [tuple(pair) for pair in state["validation"]]
    history.seconds = state["seconds"]
    return state["iteration"]


def _plain(setting) -> Any:
    """What a checkpoint can hold and compare: sums, and functions' names."""
    if callable(setting):
        function = getattr(setting, "func", setting)  # of a partial
        return getattr(function, "__name__", "objective")
    if isinstance(setting, dict):
        return {name: _plain(value) for name, value in setting.items()}
    if isinstance(setting, list | tuple):
        return [_plain(value) for value in setting]
    if isinstance(setting, str | bool | int):
        return setting
    if isinstance(setting, torch.Tensor):
        setting = setting.detach().cpu()  # not every device has float64
    return float(torch.as_tensor(setting, dtype=torch.float64).sum())
