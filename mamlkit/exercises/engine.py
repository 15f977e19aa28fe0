"""What a chapter calls: `check` an answer, ask for a `hint`, a `solution`.

Each chapter's content is in a file of its own, `ch03.py` and so on, with
`EXERCISES` by key and the questions of its `QUIZ`.
"""

from collections import Counter
from collections.abc import Callable
from html import escape
from importlib import import_module
from pathlib import Path

from mamlkit.exercises import progress
from mamlkit.exercises.compare import Wrong
from mamlkit.exercises.exercise import Exercise, Question

# What was done in this kernel: a solution comes after a hint or two tries,
# and the chapter whose exercises were checked is the one that is open.
_hinted: set[str] = set()
_tries: Counter[str] = Counter()
_checked: set[str] = set()
_passed: set[str] = set()


def check(key: str, answer: Callable) -> None:
    """Try an answer and show a card: not started, wrong and why, or passed.

    Args:
        key: the exercise, as "3.1".
        answer: the learner's function.
    """
    exercise, key = find_exercise(key), str(key)
    _checked.add(key.split(".")[0])
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
        _passed.add(key)
    _tries[key] += 1
    _card(key, verdict, message)
    progress.keep(key, verdict)


def hint(key: str, number: int = 1) -> None:
    """Print a hint, from vague (1) to plain."""
    key = str(key)
    hints = find_exercise(key).hints
    if not 1 <= number <= len(hints):
        raise ValueError(f"exercise {key} has hints 1 to {len(hints)}")
    _hinted.add(key)
    print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")


def solution(key: str) -> None:
    """Print the solution, after a hint or two tries."""
    key = str(key)
    exercise = find_exercise(key)
    if not exercise.solution:
        print(
            f"Exercise {key} is open: many answers are right, and none is "
            f'given. There are {len(exercise.hints)} hints: hint("{key}"), '
            f'hint("{key}", {len(exercise.hints)}).'
        )
    elif key in _hinted | _passed or _tries[key] >= 2 or progress.passed(key):
        print(exercise.solution.strip())
    else:
        print(
            f'A hint first? hint("{key}"). After it, or after two tries, '
            f'solution("{key}") shows the solution.'
        )


def show_progress() -> None:
    """Print what is done of this chapter's exercises, if there is a reader."""
    if not progress.remembers():
        return
    path = progress.progress_path()
    try:
        verdicts = progress.read_verdicts(path)
    except (OSError, ValueError) as fault:
        print(f"No progress to show: {fault}")
        return
    for chapter in sorted(_checked, key=int):
        print(f"Your exercises: {progress_line(chapter, verdicts)}")
    if verdicts:
        print(f"Remembered in {path}; `mamlkit progress` shows all chapters.")


def progress_line(chapter: str, verdicts: dict[str, str]) -> str:
    """Say what is done of a chapter, "3.1 ✓  3.2 ✗  3.3 ○: 1 of 3 done".

    The exercise to do, if you do only one, has a star.

    Args:
        chapter: its number.
        verdicts: "passed" or "wrong" by exercise.
    """
    exercises = find_exercises(chapter)
    marks = {"passed": "✓", "wrong": "✗"}
    parts = [
        f"{e.key}{'★' * e.the_one} {marks.get(verdicts.get(e.key), '○')}"
        for e in exercises
    ]
    done = sum(verdicts.get(e.key) == "passed" for e in exercises)
    return f"{'  '.join(parts)}: {done} of {len(exercises)} done"


def progress_table(verdicts: dict[str, str]) -> str:
    """A line for each chapter, and the sum."""
    folder = Path(__file__).parent
    chapters = sorted(path.stem[2:] for path in folder.glob("ch*.py"))
    lines = [f"{n}  {progress_line(n, verdicts)}" for n in chapters]
    keys = {e.key for n in chapters for e in find_exercises(n)}
    done = sum(verdicts.get(key) == "passed" for key in keys)
    return "\n".join([*lines, f"{done} of {len(keys)} exercises done"])


def find_exercise(key: str) -> Exercise:
    """Look up an exercise.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return _chapter(str(key).split(".")[0]).EXERCISES[str(key)]
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
    bundle = {"text/html": html, "text/plain": f"{title} {message}"}
    progress.show_bundle(bundle, metadata={"mamlkit": meta})
