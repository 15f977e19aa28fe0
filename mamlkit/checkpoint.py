"""Checkpoints: written whole or not at all, read without running code."""

import os
import pickle
import zipfile
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
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError,
            zipfile.BadZipFile, OSError, ValueError):  # fmt: skip
        raise ValueError(
            f"{path} is not a readable checkpoint: delete it to start anew"
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
