"""What an exercise is: a solution, cases to compare on, and known mistakes."""

import copy
import math
from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import functional as F

from mamlkit.exercises.judge import check_answer
from mamlkit.inner import adapt, functional_loss
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Batch, Tasks, split

# What a chapter's reader has at hand, and so what solutions may use.
AT_HAND = {
    "Batch": Batch,
    "F": F,
    "Tasks": Tasks,
    "adapt": adapt,
    "copy": copy,
    "functional_call": functional_call,
    "functional_loss": functional_loss,
    "grad": grad,
    "jacrev": jacrev,
    "math": math,
    "meta_loss": meta_loss,
    "nn": nn,
    "partial": partial,
    "split": split,
    "torch": torch,
    "vmap": vmap,
}


class Exercise(NamedTuple):
    """A function for the learner to write.

    Attributes:
        key: its number, as "3.1".
        name: what the function is called.
        level: 1, a few lines, to 3, think for a while.
        minutes: that it takes a reader of the chapter.
        hints: from vague to plain.
        solution: code that defines `name`; empty for an open task.
        example: of an open task, code that does it, for tests.
        mistakes: (old, new, message): what to replace in the solution to
            plant a mistake, and what to say to whoever makes it. Where `old`
            is empty, `new` is all of the code.
        first: the arguments of the case that is worked out by hand.
        told: how a message begins about that case, "From u = 1".
        by_hand: what comes out there; a test holds the solution to it.
        draw: (generator, number) -> arguments of random case `number`.
        draws: how many of them.
        orders: how often the result is differentiated; 0 if it is not.
        by: names of the arguments that it is differentiated by; all, if empty.
        leaves: the arguments require grad from the start.
        forbidden: names of functions that may not be called.
        look: (result, *arguments) -> what is compared, if not the result.
        prove: called with the answer, raises `Wrong`: what no comparison
            with a solution shows.
        remedies: (part of an error's text, what to say instead).
        space: names that the solution needs besides `AT_HAND`.
        the_one: the exercise to do, if you do only one of the chapter.
    """

    key: str
    name: str
    level: int
    minutes: int
    hints: tuple[str, ...]
    solution: str = ""
    example: str = ""
    mistakes: tuple[tuple[str, str, str], ...] = ()
    first: Callable[[], tuple] | None = None
    told: str = ""
    by_hand: Callable[[], object] | None = None
    draw: Callable[[torch.Generator, int], tuple] | None = None
    draws: int = 6
    orders: int = 0
    by: tuple[str, ...] = ()
    leaves: bool = False
    forbidden: tuple[str, ...] = ()
    look: Callable | None = None
    prove: Callable[[Callable], None] | None = None
    remedies: tuple[tuple[str, str], ...] = ()
    space: dict | None = None
    the_one: bool = False

    @property
    def cases(self) -> int:
        """How many cases an answer is compared on."""
        drawn = self.draws if self.draw else 0
        return drawn + bool(self.first)

    @property
    def code(self) -> str:
        """Code that passes: the solution, or what does the open task."""
        return self.solution or self.example

    @property
    def right(self) -> Callable:
        """That code as a function."""
        return _compiled(self, self.code)

    def mistaken(self, number: int) -> str:
        """The code with a mistake planted in it.

        Raises:
            ValueError: the edit changes nothing.
        """
        old, new, _ = self.mistakes[number]
        if old and old not in self.code:
            raise ValueError(f"{self.key}: {old!r} is not in the solution")
        return self.code.replace(old, new) if old else new

    def planted(self, number: int) -> Callable:
        """That code as a function."""
        return _compiled(self, self.mistaken(number))

    def check(self, answer: Callable) -> None:
        """Raise `Wrong` at the first fault of an answer."""
        check_answer(self, answer)


def by_key(*exercises: Exercise) -> dict[str, Exercise]:
    """A chapter's exercises, as it keeps them."""
    return {exercise.key: exercise for exercise in exercises}


class Question(NamedTuple):
    """A quiz question; `options` are (answer, explanation) pairs."""

    text: str
    options: tuple[tuple[str, str], ...]
    right: int


def ask(
    text: str, right: tuple[str, str], *wrong: tuple[str, str]
) -> Question:
    """Make a question whose right answer stands at a place that is drawn.

    The draw depends on the text alone, so a question always looks the same.

    Args:
        text: the question.
        right: the right answer, and why it is.
        wrong: other answers, and why they are not.
    """
    options = [right, *wrong]
    Random(text).shuffle(options)
    return Question(text, tuple(options), options.index(right))


_functions: dict[tuple[str, str], Callable] = {}


def _compiled(exercise: Exercise, code: str) -> Callable:
    place = exercise.name, code
    if place not in _functions:
        names = AT_HAND | (exercise.space or {})
        exec(compile(code, f"<{exercise.name}>", "exec"), names)
        _functions[place] = names[exercise.name]
    return _functions[place]
