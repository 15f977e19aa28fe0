"""Sliders redraw the picture, and a quiz answers, without a browser.

In ipywidgets 7 too, which hosted notebooks have.
"""

import matplotlib
import pytest

from mamlkit.course import explore, quiz, widgets
from mamlkit.exercises import find_quiz


@pytest.fixture
def shown(monkeypatch):
    """What is displayed; the last is the live part."""
    matplotlib.use("agg")
    found = []
    monkeypatch.setattr(widgets, "display", found.append)
    monkeypatch.setattr(widgets, "show", lambda fig, alt: found.append(alt))
    return found


def draw(ax, height, slope, name):
    ax.plot([0, 1], [height, height + slope])
    ax.set_title(name)


@pytest.mark.filterwarnings("error:Passing unrec:DeprecationWarning")
def test_every_slider_redraws_the_picture_and_says_its_value(shown):
    static = [{"height": 1, "slope": 0.5, "name": "a"}]
    controls = {"height": (0, 3, 1), "slope": (0.0, 2.0, 0.5)}
    explore(draw, static, alt="a line", name=["a", "b"], **controls)
    assert shown[0] == "a line"
    *sliders, picture = shown[-1].children
    pictures = {picture.value}
    for slider, value in zip(sliders, ("b", 3, 2.0)):
        slider.value = value
        pictures.add(picture.value)
    assert len(pictures) == 4
    assert "name = b, height = 3, slope = 2.0" in picture.value


def test_an_answer_of_the_quiz_is_explained(shown, monkeypatch):
    monkeypatch.setattr(widgets, "somebody_is_there", lambda: True)
    quiz("03")
    assert "<details>" not in shown[0].data
    buttons, reply = shown[-1].children[0].children
    for button in buttons.children:
        button.click()
        assert "role='status'" in reply.value
        letter = button.description[-2]
        assert f"<b>{letter}: " in reply.value


def test_on_a_terminal_the_quiz_is_text(shown, capsys):
    quiz("06")
    asked, answers = capsys.readouterr().out.split("\nAnswers\n")
    question = find_quiz("06")[0]
    assert question.text in asked and "- (a) " in asked
    assert question.options[question.right][1] in answers
    assert not shown


def test_stored_answers_of_the_quiz_are_folded(shown, monkeypatch):
    monkeypatch.setattr(widgets, "somebody_is_there", lambda: False)
    monkeypatch.setattr(widgets, "on_a_terminal", lambda: False)
    quiz("06")
    asked, answers = shown[-1].data.split("<details>")
    for number, question in enumerate(find_quiz("06"), 1):
        right = question.options[question.right]
        assert right[0] in asked and right[1] not in asked
        assert f"\n{number} ({'abcd'[question.right]}). {right[1]}" in answers
