"""Checkpoints: written whole or not at all, read without running code."""

import os
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` so that a crash leaves the old file or the new one.

    Args:
        path: file to write; its folder is made if need be.
        state: tensors, numbers, strings and containers of them.

    Raises:
        ValueError: the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if partial.exists():
            partial.unlink()


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


def _plain(setting) -> Any:
    """What a checkpoint can hold and compare: sums, and functions' names."""
    if callable(setting):
        function = getattr(setting, "func", setting)  # of a partial
        return getattr(function, "__name__", "objective")
    if isinstance(setting, dict):
        return {name: _plain(value) for name, value in setting.items()}
    if isinstance(setting, list | tuple):
        return [_plain(value) for value in setting]
    if isinstance(setting, str):
        return setting
    return float(torch.as_tensor(setting, dtype=torch.float64).sum())


def _resume(state, history, optimizer, generator) -> int:
    """Put a training's state in place; return the iteration it is at."""
    for name, p in history.params.items():
        p.copy_(state["params"][name])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    history.loss = state["loss"].tolist()
    history.validation = [tuple(pair) for pair in state["validation"]]
    history.seconds = state["seconds"]
    return state["iteration"]
