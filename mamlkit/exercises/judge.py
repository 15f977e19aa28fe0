"""Judge an answer: the first thing that is wrong with it, in words that help.

An answer is compared with the solution on a case worked out by hand, on cases
drawn at random and, where it is to be differentiated, by its derivatives.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mamlkit.exercises import compare, words
from mamlkit.exercises.compare import Wrong, require, short
from mamlkit.exercises.trial import (
    arguments,
    call,
    derivatives,
    names,
    right_result,
    taken,
    unchanged,
    watched,
)

if TYPE_CHECKING:
    from mamlkit.exercises.exercise import Exercise

# An error where the derivative is taken has passed all cases without one.
LEAD = (
    "The values are right. As the outer loop needs it, params then require "
    "grad, and it"
)
LOOKED_AHEAD = 6  # cases on which a known mistake must do the same


class Seen(NamedTuple):
    """What an answer did on a case.

    Attributes:
        fault: what is wrong with it, in words; None if nothing is.
        result: to be compared with that of a known mistake.
    """

    fault: str | None
    result: object = None


class Fault(NamedTuple):
    """What is wrong with an answer.

    Attributes:
        text: in words.
        number: of the case on which it shows; None if no case is to blame.
        stage: "value" or "slope".
    """

    text: str
    number: int | None = None
    stage: str = "value"


def check_answer(exercise: "Exercise", answer: Callable) -> None:
    """Raise `Wrong` at the first fault of an answer, with what explains it.

    Raises:
        Wrong: with the message for the learner.
        NotImplementedError: the answer is still the stub.
    """
    fault = first_fault(exercise, answer)
    if fault is not None:
        try:
            why = explanation(exercise, answer, fault)
        except NotImplementedError:  # half of it is written
            why = None
        known = not why or why in fault.text
        raise Wrong(fault.text if known else f"{fault.text} {why}")


def first_fault(exercise: "Exercise", answer: Callable) -> Fault | None:
    """Find the first fault of an answer; None if there is none."""
    if not callable(answer):
        check = f'check("{exercise.key}", {exercise.name})'
        kind = type(answer).__name__
        return Fault(f"Hand over the function itself, {check}, not a {kind}.")
    numbers = range(exercise.cases)
    for stage in ("value", "slope") if exercise.orders else ("value",):
        for number in numbers:
            seen = look_at(exercise, answer, number, stage)
            if seen.fault:
                return Fault(seen.fault, number, stage)
            if number == 0 and stage == "value":
                fault = _proof_fault(exercise, answer)
                if fault:
                    return fault
    return None if numbers else _proof_fault(exercise, answer)


def explanation(
    exercise: "Exercise", answer: Callable, fault: Fault
) -> str | None:
    """Find a known mistake that does just what the answer does."""
    number, stage = fault.number, fault.stage
    if number is None:
        return None
    # The case at fault first: most mistakes differ there.
    cases = [number, *range(min(number + LOOKED_AHEAD, exercise.cases))]
    done = {case: look_at(exercise, answer, case, stage) for case in cases}
    for at, (*_, phrase) in enumerate(exercise.mistakes):
        mistaken = exercise.planted(at)
        if stage == "slope":
            if look_at(exercise, mistaken, number, "value").fault:
                continue
        if all(
            _alike(done[case], look_at(exercise, mistaken, case, stage))
            for case in cases
        ):
            return phrase
    return None


def _alike(one: Seen, other: Seen) -> bool:
    """Tell whether two functions did the same, right or wrong."""
    # The line of an error is everybody's own.
    texts = [str(seen.fault).split(" (your line")[0] for seen in (one, other)]
    if texts[0] != texts[1]:
        return False
    try:
        # A message shows a result only in part.
        compare.compare(one.result, other.result)
    except Wrong:
        return False
    except AttributeError:  # no numbers, as None
        return type(one.result) is type(other.result)
    return True


def look_at(
    exercise: "Exercise", answer: Callable, number: int, stage: str
) -> Seen:
    """Compare an answer with the solution on one case.

    Args:
        exercise: with a solution and cases.
        answer: the learner's function.
        number: of the case; 0 is the one worked out by hand.
        stage: "value" compares results, "slope" derivatives.
    """
    judged = _values if stage == "value" else _slopes
    result: list = []
    try:
        judged(exercise, answer, number, result)
    except Wrong as wrong:
        return Seen(_sentence(wrong), *result)
    return Seen(None, *result)


def _values(exercise, answer, number: int, result: list) -> None:
    args, _ = arguments(exercise, number, exercise.leaves)
    case = _case(exercise, args, number)
    with (
        words.their_errors(answer, case, exercise.remedies),
        watched(exercise) as called,
    ):
        found = call(answer, args)
    _refuse(called)
    before, _ = arguments(exercise, number, exercise.leaves)
    for name, one, other in zip(names(exercise), args, before):
        require(
            unchanged(one, other),
            f"You changed {name} itself, and the next call would start from "
            "it. Work on a copy. (`-=` changes a tensor in place, in a "
            "copied dict or list, too.)",
        )
    with words.their_errors(answer, case, exercise.remedies):
        result.append(taken(exercise, found, args))
    compare.compare(result[0], right_result(exercise, number), case)


def _slopes(exercise, answer, number: int, result: list) -> None:
    case = _case(exercise, arguments(exercise, number)[0], number)
    _, right = derivatives(exercise, exercise.right, number)
    with words.their_errors(answer, case, exercise.remedies, lead=LEAD):
        places, found = derivatives(exercise, answer, number)
    result.append(found)
    size = max(compare.largest(slope) for slope in right)
    _require_graph(places, found, right, size)
    for at, (got, want) in enumerate(zip(found, right)):
        if compare.same(got, want, size):
            continue
        n = at // len(places)
        order = ("", "second ", "third ")[n] if n < 3 else "higher "
        raise Wrong(
            f"The values are right, but not the {order}derivative by "
            f"{places[at % len(places)]}: for a sum of the result's numbers "
            f"with random weights it should be {short(want)}, but is "
            f"{short(got)}."
        )


def _require_graph(places, found, right, size: float) -> None:
    """Refuse a result from which nothing leads back to an argument."""
    moved: dict[str, list[bool]] = {}
    for place, got, want in zip(places, found, right):
        name = place.split("[")[0].split(".")[0]
        kept = bool(got.any()) or compare.same(got, want, size)
        moved.setdefault(name, []).append(kept)
    lost = [name for name, kept in moved.items() if not any(kept)]
    cut = "the result keeps no graph"
    if len(lost) < len(moved):
        cut = "part of the graph is cut"
    require(
        not lost,
        f"The values are right, but {cut}: autograd finds no way from the "
        f"result back to {', '.join(lost)}.",
    )


def _proof_fault(exercise, answer) -> Fault | None:
    if exercise.prove is None:
        return None
    try:
        with (
            words.their_errors(answer, remedies=exercise.remedies),
            watched(exercise) as called,
        ):
            exercise.prove(answer)
        _refuse(called)
    except Wrong as wrong:
        return Fault(_sentence(wrong))
    return None


def _refuse(called: set[str]) -> None:
    named = ", ".join(sorted(called))
    require(not called, f"You call {named}, which this exercise does without.")


def _case(exercise, args: tuple, number: int) -> str:
    if number == 0 and exercise.told:
        return exercise.told
    return words.told(names(exercise), args)


def _sentence(wrong: Wrong) -> str:
    text = str(wrong)
    return text[:1].upper() + text[1:]
