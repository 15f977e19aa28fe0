"""CONTRIBUTING is true: its worked exercise works, its commands exist."""

import ast
import re
import subprocess
import sys
from textwrap import indent
from types import ModuleType

import pytest

from mamlkit.exercises import ch05
from mamlkit.exercises.compare import Wrong, compare
from mamlkit.exercises.engine import find_exercise
from mamlkit.exercises.trial import right_result
from mamlkit.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def as_the_text_says() -> str:
    """The file of chapter 05 with both pieces of the new exercise in it."""
    above, exercise, stub = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert stub.startswith("def mean_gain(before, after):")
    source = (ROOT / "mamlkit/exercises/ch05.py").read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    (place,) = (
        node
        for node in ast.parse(source).body
        if ast.unparse(node).startswith("EXERCISES = by_key(")
    )
    first, last = place.lineno - 1, place.end_lineno - 1
    assert lines[last] == ")\n", "the end of by_key's arguments"
    exercise = indent(exercise, "    ").rstrip() + ",\n"
    parts = *lines[:first], above, "\n\n", *lines[first:last], exercise
    return "".join([*parts, *lines[last:]])


@pytest.fixture(scope="module")
def changed():
    module = ModuleType("ch05")
    exec(as_the_text_says(), vars(module))
    return module


@pytest.fixture
def exercise(changed, monkeypatch):
    """The new exercise, as `check` finds it."""
    monkeypatch.setattr(ch05, "EXERCISES", changed.EXERCISES)
    return find_exercise("5.9")


def test_the_worked_exercise_is_a_new_one():
    with pytest.raises(ValueError, match="no exercise '5.9'"):
        find_exercise("5.9")


def test_the_worked_exercise_comes_last_and_its_solution_passes(
    exercise, changed
):
    assert [*changed.EXERCISES][-1] == "5.9"
    exercise.check(exercise.right)
    compare(right_result(exercise, 0), exercise.by_hand())


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_the_worked_exercise_is_in_the_project_s_style(command):
    ruff = [sys.executable, "-m", "ruff", *command.split()]
    where = ["--stdin-filename", "mamlkit/exercises/ch05.py", "-"]
    done = subprocess.run(
        [*ruff, *where],
        input=as_the_text_says(),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_mistakes_are_told_what_they_are(exercise):
    for number, (_, _, message) in enumerate(exercise.mistakes):
        with pytest.raises(Wrong, match=re.escape(message)):
            exercise.check(exercise.planted(number))


def test_the_commands_and_paths_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"`make (\w+)`", TEXT)}
    assert len(targets) > 5
    for target in targets:
        assert f"\n{target}: " in makefile, target
    for path in re.findall(r"`((?:mamlkit|tests|data)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists() or re.search("NAME|NN", path)
