"""CONTRIBUTING is true: its worked exercise works, its commands exist."""

import re

import pytest
import torch

from mamlkit.exercises import ch05
from mamlkit.exercises.compare import Wrong, compare
from mamlkit.exercises.trial import right_result
from mamlkit.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def exercise():
    code, stub = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {"torch": torch}
    exec(code, names)
    assert stub.startswith("def mean_gain(before, after):")
    return names["NEW"]


def test_the_worked_exercise_is_a_new_one_and_its_solution_passes(exercise):
    assert exercise.key not in ch05.EXERCISES
    assert hasattr(ch05, "torch"), "its code takes this name for granted"
    exercise.check(exercise.right)
    compare(right_result(exercise, 0), exercise.by_hand())


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
