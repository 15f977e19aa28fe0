import html
import json
import re

import pytest

from mamlkit.course import predicting
from mamlkit.course.plays import script, stage
from mamlkit.course.predicting import NONE_YET, predict, reveal


@pytest.fixture
def shown(monkeypatch):
    """What is displayed; nobody is there, and nothing was asked yet."""
    seen = []
    for name in ("_states", "_live"):
        monkeypatch.setattr(predicting, name, {})
    monkeypatch.setattr(predicting, "_counts", [])
    monkeypatch.setattr(predicting, "somebody_is_there", lambda: False)
    monkeypatch.setattr(predicting, "display", seen.append)
    monkeypatch.setattr(
        stage,
        "show_bundle",
        lambda data, metadata, **options: seen.append((data, options)),
    )
    return seen


@pytest.fixture
def reader(shown, monkeypatch):
    monkeypatch.setattr(predicting, "somebody_is_there", lambda: True)
    return shown


def state_in(data):
    """The state that a stored page holds, as the site's script reads it."""
    (held,) = re.findall(
        r'<div class="mamlkit-play" data-play="predict" data-state="(.*?)">',
        data["text/html"],
    )
    return json.loads(html.unescape(held))


def test_a_stored_page_holds_question_and_options(shown):
    predict("3a", 'Is 1 < "2"?', ["yes", "no & never"], cells=2)
    ((data, options),) = shown
    assert state_in(data) == {
        "key": "3a",
        "question": 'Is 1 < "2"?',
        "options": ["yes", "no & never"],
        "cells": 2,
        "chosen": NONE_YET,
        "right": NONE_YET,
        "why": "",
    }
    assert "<details>" not in data["text/html"]
    assert "<li>no &amp; never</li>" in data["text/html"]
    assert data["text/plain"] == 'Predict: Is 1 < "2"?\n- yes\n- no & never'
    assert options == {"display_id": "predict-3a", "update": False}


def test_what_turned_out_right_gets_into_the_stored_page_later(shown):
    predict("3a", "Which?", ["x", "y"])
    reveal("3a", 1, "Since 2 > 1.")
    data, options = shown[-1]
    assert state_in(data)["right"] == 1
    assert state_in(data)["why"] == "Since 2 > 1."
    (told,) = re.findall("</summary>(.*)</details>", data["text/html"])
    assert told == "y. Since 2 &gt; 1."
    assert "Since" not in data["text/plain"]
    assert options == {"display_id": "predict-3a", "update": True}


def test_an_answer_is_kept_counted_and_not_lost_by_running_again(reader):
    predict("3a", "Which?", ["x", "y"])
    predict("3b", "Which?", ["x", "y"])
    predicting.predictions()
    *_, count = reader
    first = predicting._live["3a"]
    reveal("3a", 1, "So.")
    first.chosen = 1  # as the page does
    assert count.asked == ["3a", "3b"]
    assert count.answers == {"3a": [1, 1], "3b": [NONE_YET, NONE_YET]}
    predict("3a", "Which?", ["x", "y"])
    assert predicting._live["3a"].chosen == 1
    assert predicting._live["3a"].right == 1
    assert predicting._live["3a"].why == "So."
    predict("3a", "Which?", ["x", "z"])  # another question
    assert predicting._live["3a"].chosen == NONE_YET


def test_a_stored_page_counts_what_it_asked(shown):
    predict("3a", "Which?", ["x", "y"])
    reveal("3a", 0)
    predicting.predictions()
    data, _ = shown[-1]
    assert state_in(data) == {"asked": ["3a"], "answers": {"3a": [-1, 0]}}
    assert "1" in data["text/plain"]


@pytest.mark.parametrize("options", [[], ["x"], ["x", "x"]])
def test_options_must_differ(shown, options):
    with pytest.raises(ValueError, match="two or more different"):
        predict("3a", "Which?", options)


def test_only_what_was_asked_can_be_revealed(shown):
    with pytest.raises(ValueError, match="'3a' was asked: there are none"):
        reveal("3a", 0)
    predict("3a", "Which?", ["x", "y"])
    for place in (-1, 2):
        with pytest.raises(ValueError, match=f"from 0 to 1, got {place}"):
            reveal("3a", place)


def test_the_script_is_there_and_asks_its_model_for_little():
    text = script("predict")
    used = set(re.findall(r"\bmodel\.(\w+)", text))
    assert used <= {"get", "set", "save_changes", "on", "off"}
    assert "export default { render }" in text
    assert not re.findall(r"\bimport\b|https?://", text)
