"""Mutants of every solution are refused, or stand here with a reason.

A mutant differs from a solution in one place, by rule. One that the check
lets pass is compared with the solution on many other cases, and is a survivor
if it differs there, or if nobody has looked at it: `equal_mutants.py` lists
those that are the same function written in another way.
`pytest -rA tests/test_mutants.py` shows the report of each chapter.
"""

import warnings
from collections import Counter

import pytest
from equal_mutants import EQUAL
from mutants import mutants

from mamlkit.exercises import find_exercises
from mamlkit.exercises.judge import first_fault
from mamlkit.exercises.problems import seeded
from mamlkit.paths import ROOT

NUMBERS = sorted(
    path.stem[2:] for path in (ROOT / "mamlkit/exercises").glob("ch*.py")
)
REASONS = {
    place: reason for reason, places in EQUAL.items() for place in places
}


def with_other_cases(exercise):
    """The same exercise, judged on many other cases."""
    skipped = 1 if exercise.first else 0

    def draw(g, number):
        own = (number - skipped) % exercise.draws + skipped
        return exercise.draw(seeded(10**6 + 7 * number), own)

    return exercise._replace(draw=draw, draws=3 * exercise.draws, prove=None)


def verdict(exercise, mutant):
    """Say "refused", "unseen" or "survived"; None if nothing was changed."""
    try:
        if first_fault(exercise, mutant.function):
            return "refused"
    except NotImplementedError:
        return "refused"
    if not mutant.is_one:
        return None
    if not exercise.draw:
        return "unseen"
    other = with_other_cases(exercise)
    return "survived" if first_fault(other, mutant.function) else "unseen"


@pytest.mark.parametrize("number", NUMBERS)
def test_mutants_are_refused(number):
    counts, passed = Counter(), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for exercise in find_exercises(number):
            # Of an open task many mutants are as good as the example.
            for mutant in mutants(exercise) if exercise.solution else ():
                judged = verdict(exercise, mutant)
                place = exercise.key, mutant.said
                if judged not in ("refused", None):
                    if judged == "unseen":
                        judged = "equal" if place in REASONS else "survived"
                    passed[place] = judged
                counts[judged] += 1
    wrong = counts["refused"] + counts["survived"]
    share = counts["refused"] / wrong
    print(f"chapter {number}: {share:.1%} of {wrong} wrong mutants refused;")
    print(f"{counts['equal']} more are right:")
    for (key, said), judged in passed.items():
        why = REASONS.get((key, said), "nobody has looked at it")
        print(f"  {judged}: {key} {said} ({why})")
    assert wrong > 50
    assert share >= 0.97 and not counts["survived"]
    assert {*passed} == {
        p for p in REASONS if p[0].startswith(f"{int(number)}.")
    }
