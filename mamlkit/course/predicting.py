"""Predictions: commit to an answer before the outputs below are seen.

`predict` asks, `reveal` says later what turned out, `predictions` counts. The
code cells that a question guards follow it and are tagged `hide-output`.
"""

from collections.abc import Sequence
from html import escape

import anywidget
import traitlets
from IPython.display import display

from mamlkit.course.plays import emit, script
from mamlkit.exercises.progress import somebody_is_there

NONE_YET = -1


class Prediction(anywidget.AnyWidget):
    """A question with its options, and the answer that a reader gave.

    Attributes:
        key: as for `predict`.
        question: as for `predict`.
        options: as for `predict`.
        cells: how many code cells below it guards.
        chosen: the reader's option, or -1.
        right: the option that turned out right, or -1.
        why: as for `reveal`.
    """

    _esm = script("predict")
    key = traitlets.Unicode().tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    options = traitlets.List().tag(sync=True)
    cells = traitlets.Int().tag(sync=True)
    chosen = traitlets.Int(NONE_YET).tag(sync=True)
    right = traitlets.Int(NONE_YET).tag(sync=True)
    why = traitlets.Unicode().tag(sync=True)


class _Count(anywidget.AnyWidget):
    _esm = script("predict")
    asked = traitlets.List().tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)


_states: dict[str, dict] = {}  # what was asked in this kernel, by key
_live: dict[str, Prediction] = {}
_counts: list[_Count] = []


def predict(
    key: str, question: str, options: Sequence[str], *, cells: int = 1
) -> None:
    """Ask what will come out, and keep it shut until the answer is given.

    Where nobody can answer, as under papermill, nothing waits. An answer
    stays when the cell runs again.

    Args:
        key: names the prediction in the whole course: the chapter's number
            and a letter, as "3a".
        question: one or two sentences.
        options: at least two answers, short and different.
        cells: how many code cells it guards, next after this one.

    Raises:
        ValueError: there are fewer than two options, or two are the same.
    """
    options = [*options]
    if len({*options}) < max(2, len(options)):
        raise ValueError(
            f"options must be two or more different answers, got {options}"
        )
    old = _states.get(key, {})
    same = old.get("options") == options
    state = {
        "key": key,
        "question": question,
        "options": options,
        "cells": cells,
        "chosen": old["chosen"] if same else NONE_YET,
        "right": old["right"] if same else NONE_YET,
        "why": old["why"] if same else "",
    }
    _states[key] = state
    if somebody_is_there():
        _live[key] = Prediction(**state)
        _live[key].observe(_keep, ["chosen", "right"])
        display(_live[key])
    else:
        _emit(key, state)


def reveal(key: str, right: int, why: str = "") -> None:
    """Say which option turned out right in this run.

    Nothing of it is seen before the answer is given.

    Args:
        key: of a prediction that was asked.
        right: the option's place, from 0, best computed from what was
            measured.
        why: one to three sentences; what a paragraph below the question
            would give away.

    Raises:
        ValueError: nothing was asked under this key, or there is no such
            option.
    """
    if key not in _states:
        known = ", ".join(_states) or "none"
        raise ValueError(f"no prediction {key!r} was asked: there are {known}")
    state, right = _states[key], int(right)
    if not 0 <= right < len(state["options"]):
        raise ValueError(
            f"right must be from 0 to {len(state['options']) - 1}, got {right}"
        )
    state |= {"right": right, "why": why}
    if key in _live:
        _live[key].why, _live[key].right = why, right
    else:
        _emit(key, state, update=True)


def predictions() -> None:
    """Show how many predictions were made, and how many were right."""
    asked = [*_states]
    answers = {k: [s["chosen"], s["right"]] for k, s in _states.items()}
    if somebody_is_there():
        _counts[:] = [_Count(asked=asked, answers=answers)]
        display(_counts[0])
        return
    plain = f"Predictions that this chapter asked for: {len(asked)}."
    state = {"asked": asked, "answers": answers}
    emit("predict", state, html=f"<p>{plain}</p>", plain=plain)


def _keep(change) -> None:
    key = change["owner"].key
    _states[key][change["name"]] = change["new"]
    for count in _counts:
        state = _states[key]
        answer = [state["chosen"], state["right"]]
        count.answers = count.answers | {key: answer}


def _emit(key: str, state: dict, update: bool = False) -> None:
    """Display the question for pages that nobody runs."""
    question, options = state["question"], state["options"]
    items = "".join(f"<li>{escape(text)}</li>" for text in options)
    html = f"<p><strong>Predict:</strong> {escape(question)}</p>"
    html += f"<ul>{items}</ul><p>Decide, then open what is folded below.</p>"
    if state["right"] != NONE_YET:
        said = escape(f"{options[state['right']]}. {state['why']}".strip())
        html += f"<details><summary>In this run</summary>{said}</details>"
    plain = "\n".join([f"Predict: {question}"] + [f"- {o}" for o in options])
    options = {"display_id": f"predict-{key}", "update": update}
    emit("predict", state, html=html, plain=plain, **options)
