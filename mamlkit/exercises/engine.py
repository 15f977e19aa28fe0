"""What a chapter calls: `check` an answer, ask for a `hint`, a `solution`.

Each chapter's content is in a file of its own, `ch03.py` and so on, with
`EXERCISES` by key and the questions of its `QUIZ`.
"""

from collections import Counter
from collections.abc import Callable
from html import escape
from importlib import import_module

from IPython.display import display

from mamlkit.exercises import progress
from mamlkit.exercises.compare import Wrong
from mamlkit.exercises.exercise import Exercise, Question

# What was done in this kernel, so that a solution comes after a hint.
_hinted: set[str] = set()
_tries: Counter[str] = Counter()


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
        help_ = f'Stuck? hint("{key}")'
        help_ += f', then solution("{key}").' if exercise.solution else "."
        _card(key, "not started", f"Write {exercise.name} above. {help_}")
        return
    except Wrong as fault:
        verdict, message = "wrong", str(fault)
    else:
        verdict, message = "passed", "All checks hold."
    _tries[key] += 1
    _card(key, verdict, message)
    progress.keep(key, verdict)


def hint(key: str, number: int = 1) -> None:
    """Print a hint, from vague (1) to plain."""
    hints = find_exercise(key).hints
    if not 1 <= number <= len(hints):
        raise ValueError(f"exercise {key} has hints 1 to {len(hints)}")
    _hinted.add(key)
    print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")


def solution(key: str) -> None:
    """Print the solution, after a hint or two tries."""
    exercise = find_exercise(key)
    if not exercise.solution:
        print(
            f"Exercise {key} is open: many answers are right, and none is "
            f'given. There are {len(exercise.hints)} hints: hint("{key}"), '
            f'hint("{key}", {len(exercise.hints)}).'
        )
    elif key in _hinted or _tries[key] >= 2 or progress.passed(key):
        print(exercise.solution.strip())
    else:
        print(
            f'A hint first? hint("{key}"). After it, or after two tries, '
            f'solution("{key}") shows the solution.'
        )


def find_exercise(key: str) -> Exercise:
    """Look up an exercise.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return _chapter(key.split(".")[0]).EXERCISES[key]
    except KeyError:
        raise ValueError(f"there is no exercise {key!r}") from None


def find_exercises(chapter: str) -> tuple[Exercise, ...]:
    """Look up a chapter's exercises, in order."""
    return tuple(_chapter(chapter).EXERCISES.values())


def find_quiz(chapter: str) -> tuple[Question, ...]:
    """Look up a chapter's questions."""
    return _chapter(chapter).QUIZ


def _chapter(number: str):
    try:
        return import_module(f"mamlkit.exercises.ch{int(number):02d}")
    except (ModuleNotFoundError, ValueError):
        raise ValueError(f"chapter {number!r} has no exercises") from None


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
