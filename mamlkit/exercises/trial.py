"""Try a function: draw a case, call it, differentiate it, watch what it does.

Nothing here judges; `judge.py` does. A case's arguments are drawn afresh for
every call, so that no call can spoil the next one's.
"""

import inspect
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mamlkit.exercises.compare import pairs

if TYPE_CHECKING:
    from mamlkit.exercises.exercise import Exercise

# What every way to differentiate calls in the end, by the interpreter's
# names.
AUTOGRAD = ("run_backward", "_jvp_increment_nesting", "make_dual")


def arguments(
    exercise: "Exercise", number: int, leaves: bool = False
) -> tuple[tuple, dict[str, Tensor]]:
    """Draw a case's arguments, equal ones each time.

    Args:
        exercise: with cases.
        number: of the case; 0 is the one worked out by hand, if there is one.
        leaves: make leaves that require grad of all floating tensors.

    Returns:
        the arguments, and the leaves by where they are, as 'params["u"]'.
    """
    if number == 0 and exercise.first:
        args = exercise.first()
    else:
        seed = zlib.crc32(exercise.name.encode()) + number
        generator = torch.Generator().manual_seed(seed)
        args = exercise.draw(generator, number)
    found: dict[str, Tensor] = {}
    if leaves:
        by = exercise.by or names(exercise)
        args = tuple(
            _with_leaves(arg, name, found) if name in by else arg
            for name, arg in zip(names(exercise), args)
        )
    return args, found


def names(exercise: "Exercise") -> list[str]:
    """Names of the arguments."""
    return [*inspect.signature(exercise.right).parameters]


def _with_leaves(value: object, path: str, found: dict) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        found[path] = value.detach().clone().requires_grad_()
        return found[path]
    if isinstance(value, dict):
        return {
            k: _with_leaves(v, f'{path}["{k}"]', found)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        fields = getattr(value, "_fields", ())
        steps = [f".{f}" for f in fields] or [
            f"[{i}]" for i in range(len(value))
        ]
        items = [
            _with_leaves(item, path + step, found)
            for step, item in zip(steps, value)
        ]
        return type(value)(*items) if fields else type(value)(items)
    return value


def call(fn: Callable, args: tuple) -> object:
    """Call a function; what comes out only once is kept as a list."""
    result = fn(*args)
    return list(result) if hasattr(result, "__next__") else result


def taken(exercise: "Exercise", result: object, args: tuple) -> object:
    """Take of a result what is to be compared.

    Raises:
        Wrong: it has not got that.
    """
    return exercise.look(result, *args) if exercise.look else result


_known: dict[tuple, object] = {}


def right_result(exercise: "Exercise", number: int) -> object:
    """The solution's result on a case; worked out once."""
    place = exercise.first, exercise.draw, exercise.code, number
    if place not in _known:
        args, _ = arguments(exercise, number, exercise.leaves)
        result = call(exercise.right, args)
        _known[place] = taken(exercise, result, args)
    return _known[place]


def derivatives(
    exercise: "Exercise", fn: Callable, number: int
) -> tuple[list[str], list[Tensor]]:
    """All derivatives of a result on a case, times random vectors.

    A result is multiplied by a random vector and differentiated by every
    tensor among the arguments; so are these derivatives, as often as the
    exercise says.

    Returns:
        where the tensors are among the arguments, and the derivatives by
        them: of the first order, then of the second, and so on.

    Raises:
        Wrong: the result has another form than the solution's.
    """
    args, leaves = arguments(exercise, number, leaves=True)
    result = taken(exercise, call(fn, args), args)
    outputs = [p.actual for p in pairs(result, right_result(exercise, number))]
    generator = torch.Generator().manual_seed(number)
    found: list[Tensor] = []
    for order in range(exercise.orders):
        total = sum(
            (out * torch.randn(out.shape, generator=generator)).sum()
            for out in outputs
            if out.is_floating_point()
        )
        if not getattr(total, "requires_grad", False):
            zeros = [torch.zeros_like(leaf) for leaf in leaves.values()]
            found += zeros * (exercise.orders - order)
            break
        slopes = torch.autograd.grad(
            total,
            [*leaves.values()],
            create_graph=order + 1 < exercise.orders,
            allow_unused=True,
        )
        outputs = [
            torch.zeros_like(leaf) if slope is None else slope
            for slope, leaf in zip(slopes, leaves.values())
        ]
        found += [slope.detach() for slope in outputs]
    return [*leaves], found


def unchanged(one: object, other: object) -> bool:
    """Tell whether an argument still is what an equal one is."""
    if isinstance(other, Tensor):
        if not isinstance(one, Tensor) or one.shape != other.shape:
            return False
        if one.dtype != other.dtype:
            return False
        exact = {"rtol": 0, "atol": 0, "equal_nan": True}
        return (
            torch.allclose(one, other, **exact)
            if other.is_floating_point()
            else torch.equal(one, other)
        )
    if isinstance(other, dict):
        return list(one) == list(other) and all(
            unchanged(one[k], other[k]) for k in other
        )
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(unchanged, one, other))
    if isinstance(other, nn.Module):
        return unchanged(dict(one.state_dict()), dict(other.state_dict()))
    return not isinstance(other, int | float | str) or one == other


@contextmanager
def watched(exercise: "Exercise") -> Iterator[set[str]]:
    """Note every call of a function of a forbidden name, from wherever.

    A function within another may have any name, and one with the name of the
    exercise, too: they are the learner's own.

    Yields:
        the names called so far.
    """
    called: set[str] = set()
    if not exercise.forbidden:
        yield called
        return

    def note(frame, event, builtin):
        name = None
        if event == "call" and frame.f_code.co_name != exercise.name:
            name = frame.f_code.co_qualname
        elif event == "c_call":
            name = getattr(builtin, "__name__", None)
        if name in exercise.forbidden:
            called.add("autograd" if name in AUTOGRAD else name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)
