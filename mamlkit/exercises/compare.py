"""Compare what an answer returns with what is right, in any sound form.

A number may come as a tensor, a NumPy scalar or a fraction, a list as a
tuple, a dict as any mapping. What is compared is every key and every value.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Number
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Results of 32-bit arithmetic in another order agree to this.
CLOSE = 1e-4


class Wrong(Exception):  # noqa: N818
    """An answer's first fault, told to the learner."""


class Pair(NamedTuple):
    """A number or tensor of the answer, beside the right one.

    Attributes:
        place: where in the result it is, as `result["u"]`.
        actual: of the answer, in the shape of the right one.
        expected: the right one.
    """

    place: str
    actual: Tensor
    expected: Tensor


def require(holds: bool, message: str) -> None:
    """Raise `Wrong(message)` unless `holds`."""
    if not holds:
        raise Wrong(message)


def compare(actual: object, expected: object, told: str = "") -> None:
    """Compare a result with the right one: form, shape, finite, value.

    Args:
        actual: what an answer returned.
        expected: number, tensor, or dict, list or tuple of these, nested.
        told: what the message begins with, "With lr = 0.1".

    Raises:
        Wrong: at the first difference.
    """
    start = f"{told}, " if told else ""
    try:
        found = pairs(actual, expected)
        for place, got, want in found:
            finite = got.isfinite() | ~want.isfinite()
            require(finite.all(), f"{place} is not finite: {short(got)}.")
        for pair in found:
            require(same(*pair[1:]), _difference(pair))
    except Wrong as fault:
        raise Wrong(f"{start}{fault}") from None


def pairs(
    actual: object, expected: object, path: str = "", strict: bool = False
) -> list[Pair]:
    """Lay a result beside the right one, number by number.

    Args:
        actual: what an answer returned.
        expected: as in `compare`.
        path: where we are, as '["u"]'.
        strict: whether a shape of (1,) is refused where () is right.

    Raises:
        Wrong: the forms do not fit.
    """
    place = f"result{path}" if path else "the result"
    if isinstance(expected, Mapping):
        names = list(expected)
        require(
            isinstance(actual, Mapping),
            f"{place} should be a dict with the names {names}, "
            f"{_but_is(actual)}.",
        )
        require(
            actual.keys() == expected.keys(),
            f"{place} should have the names {names}, but has {list(actual)}.",
        )
        items = [(f"[{name!r}]", name) for name in names]
        return [
            pair
            for step, name in items
            for pair in pairs(
                actual[name], expected[name], path + step, strict=True
            )
        ]
    if isinstance(expected, list | tuple):
        return _sequences(actual, expected, path, place)
    want = to_tensor(expected)
    got = to_tensor(actual)
    if want.dtype == torch.bool and want.dim() == 0:
        form = "True or False"
    elif want.dim() == 0:
        form = "a number"
    else:
        form = f"a tensor of shape {tuple(want.shape)}"
    require(got is not None, f"{place} should be {form}, {_but_is(actual)}.")
    if want.dim() == 0 and got.numel() == 1 and not strict:
        got = got.reshape(())
    require(
        got.shape == want.shape,
        f"{place} should "
        + (f"be {form}" if want.dim() == 0 else f"have {form[12:]}")
        + f", but has shape {tuple(got.shape)}.",
    )
    truth = want.dtype == torch.bool and want.dim() == 0
    require(
        not truth or got.dtype == torch.bool,
        f"{place} should be True or False, {_but_is(actual)}.",
    )
    return [Pair(place, got, want)]


def _sequences(
    actual: object, expected: list | tuple, path: str, place: str
) -> list[Pair]:
    fields = getattr(expected, "_fields", ())
    if fields and all(hasattr(actual, field) for field in fields):
        actual = [getattr(actual, field) for field in fields]
    items = to_list(actual)
    n = len(expected)
    form = f"list of {n}"
    if fields:
        form = f"{type(expected).__name__}({', '.join(fields)})"
    elif isinstance(expected, tuple):
        form = "pair" if n == 2 else f"tuple of {n}"
    got = "" if items is None else f" of {len(items)}"
    require(
        items is not None and len(items) == n,
        f"{place} should be a {form}, {_but_is(actual)}{got}.",
    )
    steps = [f".{field}" for field in fields] or [f"[{i}]" for i in range(n)]
    return [
        pair
        for step, one, other in zip(steps, items, expected)
        for pair in pairs(one, other, path + step, strict=bool(fields))
    ]


def to_list(value: object) -> list | None:
    """The items of anything that has an order; None for what has none."""
    if isinstance(value, Tensor | np.ndarray):
        return list(value) if value.ndim else None
    if isinstance(value, str | bytes | Mapping | set | frozenset):
        return None
    return list(value) if isinstance(value, Iterable) else None


def to_tensor(value: object) -> Tensor | None:
    """Make a tensor of numbers in any form; None of what holds none.

    What is a tensor, or a list of tensors, keeps its graph.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | np.bool_):
        return torch.tensor(bool(value))
    if isinstance(value, np.ndarray | np.generic):
        numbers = value.dtype.kind in "iuf"
        return torch.as_tensor(np.array(value)) if numbers else None
    if isinstance(value, Number | Decimal) and not isinstance(value, complex):
        small = isinstance(value, int) and abs(value) < 2**63
        return (
            torch.tensor(value)
            if small
            else torch.tensor(float(value), dtype=torch.float64)
        )
    if isinstance(value, list | tuple | range):
        items = [to_tensor(item) for item in value]
        if not items:
            return torch.zeros(0)
        shapes = {item.shape if item is not None else None for item in items}
        if len(shapes) > 1 or None in shapes:
            return None
        kind = items[0].dtype
        for item in items:
            kind = torch.promote_types(kind, item.dtype)
        return torch.stack([item.to(kind) for item in items])
    return None


def same(actual: Tensor, expected: Tensor, size: float = 0.0) -> bool:
    """Tell whether two tensors of one shape hold the same numbers.

    Args:
        actual: of the answer.
        expected: the right one.
        size: what counts as large here, if that is more than `expected`.
    """
    a, b = (t.detach().double() for t in (actual, expected))
    if not expected.is_floating_point():
        return torch.equal(a, b)
    size = max(size, largest(b))
    # Zero has no size of its own.
    return torch.allclose(
        a, b, rtol=CLOSE, atol=CLOSE / 10 * size or 1e-6, equal_nan=True
    )


def largest(tensor: Tensor) -> float:
    """The largest finite size of an entry, 0 if there is none."""
    finite = tensor.detach()[tensor.isfinite()].abs()
    return finite.max().item() if finite.numel() else 0.0


def short(tensor: Tensor, digits: int = 4) -> str:
    """Write a tensor's numbers, the first six of many."""
    values = [_number(v, digits) for v in tensor.detach().flatten().tolist()]
    if tensor.dim() == 0:
        return values[0]
    return f"[{', '.join(values[:6])}{', ...' if len(values) > 6 else ''}]"


def _number(value: float, digits: int) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"{value + 0.0:.{digits}g}"  # there is no -0 to be told


def _difference(pair: Pair) -> str:
    place, got, want = pair
    if want.numel() > 6:
        # One entry says more than the first six of many.
        apart = (got.detach().double() - want.double()).abs().nan_to_num()
        at = np.unravel_index(int(apart.argmax()), tuple(want.shape))
        index = ", ".join(map(str, at))
        place = f"{place.removeprefix('the ')}[{index}]"
        got, want = got[at], want[at]
    for digits in (4, 6, 9):
        texts = short(want, digits), short(got, digits)
        if texts[0] != texts[1]:
            break
    return f"{place} should be {texts[0]}, but is {texts[1]}."


def _but_is(value: object) -> str:
    if value is None:
        return "but your function returns nothing"
    name = type(value).__name__
    return f"but is {'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
