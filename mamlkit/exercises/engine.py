"""Exercises: `check` an answer, ask for a `hint`, read the `solution`.

Each chapter's content is in a file of its own, `ch03.py` and so on, with
`EXERCISES` by key and the questions of its `QUIZ`.
"""

from collections.abc import Callable, Sequence
from html import escape
from importlib import import_module
from numbers import Real
from typing import NamedTuple

import torch
from IPython.display import display
from torch import Tensor


class Exercise(NamedTuple):
    """A function for the learner to write.

    Attributes:
        name: what the function is called.
        check: called with the answer; raises `Wrong` at the first fault.
        hints: from vague to plain.
        solution: code that defines `name`.
        mistakes: (code that defines `name` wrongly, a phrase that only the
            message about this mistake contains); tests use them.
    """

    name: str
    check: Callable[[Callable], None]
    hints: tuple[str, ...]
    solution: str
    mistakes: tuple[tuple[str, str], ...]


class Question(NamedTuple):
    """A quiz question; `options` are (answer, explanation) pairs."""

    text: str
    options: tuple[tuple[str, str], ...]
    right: int


class Wrong(Exception):  # noqa: N818
    """An answer's first fault, told to the learner."""


def require(holds: bool, message: str) -> None:
    """Raise `Wrong(message)` unless `holds`."""
    if not holds:
        raise Wrong(message)


def compare(
    actual: object,
    expected: Tensor,
    what: str,
    misconceptions: Sequence[tuple[Tensor, str]] = (),
) -> None:
    """Compare a result with the right one: shape, finite, then value.

    Args:
        actual: what the learner's function returned.
        expected: the right tensor.
        what: how the message calls it, "the adapted w".
        misconceptions: (wrong tensor, the message to whoever gets it).

    Raises:
        Wrong: at the first difference.
    """
    require(
        actual is not None,
        f"{what} should be a tensor, but your function returns nothing.",
    )
    require(
        isinstance(actual, Tensor),
        f"{what} should be a tensor, but is a {type(actual).__name__}.",
    )
    got, want = tuple(actual.shape), tuple(expected.shape)
    require(got == want, f"{what} should have shape {want}, but has {got}.")
    actual = actual.detach().to(expected.dtype)
    require(actual.isfinite().all(), f"{what} is not finite: {actual}.")
    if torch.allclose(actual, expected, rtol=1e-4, atol=1e-6):
        return
    for wrong, message in misconceptions:
        same_shape = wrong.shape == actual.shape
        if same_shape and torch.allclose(actual, wrong, rtol=1e-4, atol=1e-6):
            raise Wrong(message)
    raise Wrong(f"{what} should be {_short(expected)}, got {_short(actual)}.")


def as_scalar(value: object) -> object:
    """Make a plain number a tensor; leave anything else as it is."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    return torch.tensor(float(value)) if number else value


def check(key: str, answer: Callable) -> None:
    """Try an answer and show a card: not started, wrong and why, or passed.

    Args:
        key: the exercise, as "3.1".
        answer: the learner's function.
    """
    exercise = find_exercise(key)
    try:
        exercise.check(answer)
    except NotImplementedError:
        help_ = f'Stuck? hint("{key}"), then solution("{key}").'
        _card(key, "not started", f"Write {exercise.name} above. {help_}")
    except Wrong as fault:
        _card(key, "wrong", str(fault))
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        if "does not require grad" in text:
            text += (
                ". What you differentiate keeps no trace: use "
                "torch.func.grad, which needs none."
            )
        if "functorch transform" in text:
            text = (
                "requires_grad_ within torch.func. Use torch.func.grad: "
                "it needs no requires_grad."
            )
        _card(key, "wrong", f"It raised {type(error).__name__}: {text}")
    else:
        _card(key, "passed", "All checks hold.")


def hint(key: str, number: int = 1) -> None:
    """Print a hint, from vague (1) to plain."""
    hints = find_exercise(key).hints
    if not 1 <= number <= len(hints):
        raise ValueError(f"exercise {key} has hints 1 to {len(hints)}")
    print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")


def solution(key: str) -> None:
    """Print the solution."""
    print(find_exercise(key).solution.strip())


def find_exercise(key: str) -> Exercise:
    """Look up an exercise.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return _chapter(key.split(".")[0]).EXERCISES[key]
    except KeyError:
        raise ValueError(f"there is no exercise {key!r}") from None


def find_quiz(chapter: str) -> tuple[Question, ...]:
    """Look up a chapter's questions."""
    return _chapter(chapter).QUIZ


def _chapter(number: str):
    try:
        return import_module(f"mamlkit.exercises.ch{int(number):02d}")
    except (ModuleNotFoundError, ValueError):
        raise ValueError(f"chapter {number!r} has no exercises") from None


def _short(tensor: Tensor) -> str:
    rounded = [round(value, 4) for value in tensor.flatten().tolist()]
    if tensor.dim() == 0:
        return str(rounded[0])
    more = ", ..." if len(rounded) > 6 else ""
    return f"[{', '.join(map(str, rounded[:6]))}{more}]"


def _card(key: str, verdict: str, message: str) -> None:
    colour = {"passed": "#00795A", "wrong": "#B3261E"}.get(verdict, "#5F5F5F")
    mark = {"passed": "✓", "wrong": "✗"}.get(verdict, "○")
    title = f"{mark} Exercise {key}: {verdict}."
    html = (
        f"<div role='status' style='border-left:4px solid {colour};"
        f"padding:.4em .8em'><b style='color:{colour}'>{title}</b> "
        f"{escape(message)}</div>"
    )
    meta = {"exercise": key, "verdict": verdict, "message": message}
    display(
        {"text/html": html, "text/plain": f"{title} {message}"},
        metadata={"mamlkit": meta},
        raw=True,
    )
