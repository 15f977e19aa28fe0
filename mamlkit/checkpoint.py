"""Checkpoints: written whole or not at all, read without running code."""

import dis
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from numbers import Integral, Real
from os.path import commonprefix
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamlkit.history import Run, laid_out
from mamlkit.paths import replacing

# What a function's globals and constants may be to be compared.
PLAIN = (str, int, float, list, tuple, dict, Tensor)
MOST = 64  # numbers that are kept as they are


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` so that a crash leaves the old file or the new one.

    Args:
        path: file to write; its folder is made if need be.
        state: tensors, numbers, strings and containers of them.

    Raises:
        ValueError: the folder cannot be written, or `state` holds what
            `load_checkpoint` would not read.
    """
    whole = io.BytesIO()
    try:
        torch.save(state, whole)
        whole.seek(0)
        torch.load(whole, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises half a dozen kinds
        raise ValueError(
            f"{path} is not written, as it could not be read again: a "
            "checkpoint holds tensors, Python's numbers, strings and "
            "containers of them"
        ) from error
    _write(path, state)


def _write(path: str | Path, state: dict[str, Any]) -> None:
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
        # The short ones say most.
        differences = sorted(_differences(found, settings), key=len)
        changed = ", ".join(differences[:5])
        raise ValueError(
            f"{path} comes from other settings ({changed}): delete it, or "
            "name another file"
        )
    return state


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Say where two settings differ, down to the entries of dicts."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys(), key=str):
            # What a module itself holds has a name that begins with a dot.
            inside = f"{name}.{str(key).lstrip('.')}" if name else f"{key}"
            yield from _differences(there.get(key), here.get(key), inside)
    elif there != here:
        texts = [" ".join(str(v).split()) for v in (there, here)]
        alike = len(commonprefix(texts))
        one, other = (_cut(text, max(0, alike - 20)) for text in texts)
        yield f"{name} {one} there, {other} here"


def _cut(text: str, start: int) -> str:
    """Show 80 characters of a text, from `start` if it is longer."""
    if len(text) <= 80:
        return text
    part = text[start : start + 80]
    return "…" * (start > 0) + part + "…" * (start + 80 < len(text))


def training_settings(generator, shapes, **settings) -> dict[str, Any]:
    """List what a run must share with a checkpoint to go on from it."""
    return {name: described(value) for name, value in settings.items()} | {
        "seed": generator.initial_seed(),
        "shapes": {name: list(p.shape) for name, p in shapes.items()},
    }


def save_training(path: str | Path, settings: dict, run: Run) -> None:
    """Keep what `resume` needs to go on from where the run was marked."""
    history = run.history
    state = {
        "settings": settings,
        "iteration": run.done,
        "params": run.params,
        "start": history.start,
        "best": run.best,
        "optimizer": run.optimizer.state_dict(),
        "states": run.states,
        "loss": torch.tensor(history.loss, dtype=torch.float64),
        "validation": history.validation,
        "seconds": history.seconds,
    }
    _write(path, state)  # without reading it again, as it may be large


def load_training(
    path: str | Path | None, settings: dict, iterations: int
) -> dict[str, Any] | ValueError | None:
    """Read a training's state, if `path` holds one.

    Returns:
        the state; None where there is no file; and what is wrong with it,
        which `resume` raises, so that every process does.
    """
    if path is None or not Path(path).exists():
        return None
    if Path(path).is_dir():  # as "" is
        return ValueError(
            f"checkpoint must name a file, as 'run.pt', got {str(path)!r}"
        )
    try:
        state = load_checkpoint(path, settings)
    except ValueError as fault:
        return fault
    if state["iteration"] > iterations:
        return ValueError(
            f"{path} has done {state['iteration']} iterations and {iterations}"
            " are wanted: ask for more, or name another file"
        )
    return state


def resume(run: Run, state: dict[str, Any] | ValueError | None) -> None:
    """Put a training's state in place.

    Raises:
        ValueError: it is one.
    """
    if isinstance(state, ValueError):
        raise state
    if state is None:
        return
    history = run.history
    for name, p in run.params.items():
        p.copy_(state["params"][name])
        if state["best"]:
            run.best[name] = state["best"][name].to(p)
    for name, p in history.start.items():
        p.copy_(state["start"][name])
    run.optimizer.load_state_dict(state["optimizer"])
    for p, kept in run.optimizer.state.items():
        for name, t in kept.items():
            if isinstance(t, Tensor) and t.shape == p.shape:
                kept[name] = laid_out(t, p)
    run.done = state["iteration"]
    run.states = state["states"]
    history.loss = state["loss"].tolist()
    history.validation = [(int(i), float(v)) for i, v in state["validation"]]
    history.seconds = state["seconds"]
    run.generator.set_state(run.states["generator"])
    torch.set_rng_state(run.states["torch"])
    device = next(iter(run.params.values())).device
    if device.type == "cuda" and "cuda" in run.states:
        torch.cuda.set_rng_state(run.states["cuda"], device)


def described(setting: Any) -> Any:
    """What a checkpoint can hold and compare of a setting.

    Modules by what they print and hold; functions by their names, with what
    a partial fixes. One that has no name of its own, or was typed into a
    notebook, is told by the numbers, words and names in it.
    """
    if setting is None or isinstance(setting, str | bool):
        return setting
    if isinstance(setting, Integral):  # NumPy's become Python's
        return int(setting)
    if isinstance(setting, Real):
        return float(setting)
    if isinstance(setting, nn.Module):
        return _module(setting)
    if isinstance(setting, partial):
        fixed = [*setting.args, setting.keywords]
        return _made_of(described(setting.func), fixed)
    if callable(setting):
        return _function(setting)
    if isinstance(setting, Mapping):
        return {str(k): described(value) for k, value in setting.items()}
    if isinstance(setting, list | tuple | set | frozenset):
        found = [described(value) for value in setting]
        return found if len(found) <= MOST else _digest(repr(found).encode())
    try:
        return _numbers(torch.as_tensor(setting))
    except (TypeError, ValueError, RuntimeError):
        return type(setting).__name__


def _numbers(values: Tensor) -> Any:
    values = values.detach().cpu()
    if values.numel() <= MOST:
        return values.tolist()
    return [list(values.shape), _digest(values.double().numpy().tobytes())]


def _module(module: nn.Module) -> Any:
    # What it prints leaves out some of its settings, and its buffers.
    held = {
        f"{prefix}.{name}": value
        for prefix, part in module.named_modules()
        for name, value in vars(part).items()
        if not name.startswith("_")
        and name != "training"
        and isinstance(value, PLAIN)
    }
    # Some print a function, with an address that is another in each process.
    printed = re.sub(" at 0x[0-9a-f]+", "", repr(module))
    return _made_of(printed, held | dict(module.named_buffers()))


def _function(function: Callable) -> Any:
    name = getattr(function, "__qualname__", None)
    own = getattr(function, "__self__", None)
    if name is None or own is not None:
        # An object that can be called, or a method of one.
        owner = function if own is None else own
        kind = name or type(owner).__name__
        if isinstance(owner, nn.Module):
            return _made_of(kind, [owner])
        return _made_of(kind, getattr(owner, "__dict__", {}))
    code = getattr(function, "__code__", None)
    named = "<" not in name and function.__module__ != "__main__"
    if code is None or named:
        return name
    # What a closure or lambda was made with is as good as an argument.
    held: dict[str, Any] = {"defaults": [*(function.__defaults__ or ())]}
    for free, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            held[free] = cell.cell_contents
        except ValueError:  # not filled in yet
            held[free] = None
    words = []
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            value = function.__globals__.get(step.argval)
            held[step.argval] = value if isinstance(value, PLAIN) else None
        elif "CONST" in step.opname or "SMALL_INT" in step.opname:
            words += [step.argval] if isinstance(step.argval, PLAIN) else []
    return _made_of(name, held | {"constants": words})


def _made_of(name: Any, held: Any) -> dict[str, Any]:
    """Describe a function by what it holds, but not functions in that."""
    if isinstance(held, Mapping):
        held = {
            key: getattr(value, "__qualname__", type(value).__name__)
            if callable(value) and not isinstance(value, nn.Module | partial)
            else value
            for key, value in held.items()
        }
    return {"function": name, "with": described(held)}


def _digest(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()[:16]
