"""Widgets: a live view over a static figure, and quizzes by keyboard."""

import base64
from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as ipw
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from mamlkit.course.figures import WIDE, png, show
from mamlkit.course.plots import name_panels
from mamlkit.exercises import find_quiz
from mamlkit.exercises.progress import on_a_terminal, somebody_is_there


def explore(
    draw: Callable[..., None],
    static: Sequence[dict],
    *,
    alt: str,
    size: tuple[float, float] = (5.0, 4.0),
    **controls: tuple | list,
) -> None:
    """Show small multiples of `draw`, and the same drawing under sliders.

    Args:
        draw: `draw(ax, **values)` draws one panel and sets its title.
        static: values of each panel of the static figure; the sliders start
            at the first one's.
        alt: what the static figure shows.
        size: width and height of the live picture, in inches.
        **controls: for each value a (low, high, step) tuple for a slider, or
            a list of the values to choose from.
    """
    columns = 3 if len(static) in (3, 5, 6) else min(2, len(static))
    rows = -(-len(static) // columns)
    fig, axes = plt.subplots(
        *(rows, columns), figsize=(WIDE, 3.2 * rows), squeeze=False
    )
    for ax, values in zip(axes.flat, static):
        draw(ax, **values)
    for ax in axes.flat[len(static) :]:
        ax.remove()
    if len(static) > 1:
        name_panels(axes.flat[: len(static)])
    show(fig, alt=alt)
    sliders = {
        name: _control(name, spec, static[0][name])
        for name, spec in controls.items()
    }
    picture = ipw.HTML(layout=ipw.Layout(height=f"{size[1] * 96 + 8}px"))

    def update(_change=None):
        values = {name: slider.value for name, slider in sliders.items()}
        fig, ax = plt.subplots(figsize=size)
        draw(ax, **static[0] | values)
        said = ", ".join(f"{name} = {value}" for name, value in values.items())
        title = escape(f"{ax.get_title(loc='left')} ({said})")
        data = base64.b64encode(png(fig)).decode()
        width, height = (round(inches * 96) for inches in size)
        picture.value = (
            f'<img width="{width}" height="{height}" alt="{title}" '
            f'src="data:image/png;base64,{data}">'
        )

    for slider in sliders.values():
        slider.observe(update, "value")
    update()
    display(ipw.VBox([*sliders.values(), picture]))


def _control(name: str, spec: tuple | list, value) -> ipw.Widget:
    # A redraw for each step of a drag would queue up behind the mouse.
    common = {"description": name, "continuous_update": False}
    if "tooltip" in ipw.DOMWidget.class_trait_names():
        common["tooltip"] = name  # left out, ipywidgets 8 shows "null"
    common["style"] = {"description_width": "9em"}
    common["layout"] = ipw.Layout(width="28em")
    if isinstance(spec, list):
        return ipw.SelectionSlider(options=spec, value=value, **common)
    low, high, step = spec
    whole = all(isinstance(number, int) for number in spec)
    kind = ipw.IntSlider if whole else ipw.FloatSlider
    return kind(value=value, min=low, max=high, step=step, **common)


def quiz(chapter: str) -> None:
    """Ask a chapter's questions; every answer explains itself.

    Args:
        chapter: its number, as "03".
    """
    questions = find_quiz(chapter)
    text = []
    for number, question in enumerate(questions, 1):
        text.append(f"**Question {number}.** {question.text}\n")
        text += [
            f"- ({letter}) {option}"
            for letter, (option, _) in zip("abcd", question.options)
        ]
        text.append("")
    if somebody_is_there():
        display(Markdown("\n".join(text)))
        rows = [_question(n, q) for n, q in enumerate(questions, 1)]
        display(ipw.VBox(rows))
        return
    # Buttons need a kernel: where nobody runs one, the answers are folded.
    answers = [
        f"{number} ({'abcd'[q.right]}). {q.options[q.right][1]}\n"
        for number, q in enumerate(questions, 1)
    ]
    if on_a_terminal():
        print("\n".join([*text, "Answers", "", *answers]))
        return
    text += ["<details><summary>Answers</summary>\n", *answers, "</details>"]
    display(Markdown("\n".join(text)))


def _question(number: int, question) -> ipw.Widget:
    letters = "abcd"[: len(question.options)]
    buttons = [
        ipw.Button(
            description=f"{number} ({letter})",
            tooltip=f"Question {number}, answer {letter}",
            layout=ipw.Layout(width="5em"),
        )
        for letter in letters
    ]
    reply = ipw.HTML()

    def answer(button):
        chosen = buttons.index(button)
        right = chosen == question.right
        mark = "✓ Right." if right else "✗ Not quite."
        explanation = escape(question.options[chosen][1])
        reply.value = (
            f"<p role='status'><b>{letters[chosen]}: {mark}</b> "
            f"{explanation}</p>"
        )

    for button in buttons:
        button.on_click(answer)
    return ipw.VBox([ipw.HBox(buttons), reply])
