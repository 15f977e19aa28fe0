"""A learner's hands: the chapters in a real JupyterLab, at ci scale.

Every chapter is opened, as it is handed out. Where pictures are wanted each
is run to its end there, too, and elsewhere those in `HANDS`: the others run
in test_notebooks, and their pages are looked at in test_browser_site.
"""

import re

import lab
import nbformat
import pytest
from browser import PICTURES, complaints, keep
from chapters import (
    CHAPTERS,
    code_cells,
    keyed,
    solve,
    tagged,
)
from playwright.sync_api import expect

from mamlkit.exercises import find_exercise, find_quiz
from mamlkit.publish.render import _BAR, _WIDGET

WIDTHS = (1440, 800)
HEIGHT = 2400 if PICTURES else 900
# The game, and a round by keyboard; sliders and predictions; a pad.
HANDS = ("00", "03", "07")
RUN = [p for p in CHAPTERS if PICTURES or p.name[:2] in HANDS]


def started(which):
    (path,) = [p for p in CHAPTERS if p.name.startswith(which)] or [None]
    marks = () if path else pytest.mark.skip(f"no chapter {which} yet")
    return pytest.param(path, id=which, marks=marks)


def chapters(paths):
    return pytest.mark.parametrize(
        "chapter", paths, ids=[p.stem[:2] for p in paths], indirect=True
    )


each_chapter, each_run = chapters(CHAPTERS), chapters(RUN)


def only(which):
    """Run a test on one chapter."""
    return pytest.mark.parametrize("chapter", [started(which)], indirect=True)


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page with JupyterLab in it, that all chapters are opened in."""
    with lab.serve(tmp_path_factory.mktemp("lab")) as address:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.complaints = complaints(page, address)
        lab.start(page, address)
        yield page
        page.close()


@pytest.fixture(scope="module")
def chapter(page, request):
    """A chapter, if it is in RUN after Run All, as its file; in front."""
    page.complaints.clear()
    page.evaluate("name => course.open(name)", request.param.name)
    if request.param in RUN:
        page.evaluate("course.runAll()")
        page.evaluate("course.ran()")
    yield request.param
    page.evaluate("course.close()")


@each_run
def test_runs_to_the_end_and_nothing_complains(page, chapter):
    outputs = page.evaluate("course.outputs()")
    bad = [o for o in outputs if "error" in (o["output_type"], o.get("name"))]
    assert not bad, bad
    claims = [o["metadata"] for o in outputs if "claims" in str(o)]
    assert claims, "the last cell has not reported the claims"
    assert page.evaluate("course.status()") == "idle"
    assert not page.complaints, page.complaints


@each_run
def test_every_widget_is_shown(page, chapter):
    page.evaluate("course.openWidgets()")
    views = [
        o["data"]["text/plain"]
        for o in page.evaluate("course.outputs()")
        if _WIDGET in o.get("data", {})
    ]
    # A progress bar closes when it is done.
    lasting = [text for text in views if not _BAR.search("".join(text))]
    assert lasting
    # Widgets of ipywidgets and of anywidget have but this in common.
    widgets = ".jp-OutputArea-output.lm-Panel > .lm-Widget"
    shown = lab.front(page).locator(widgets)
    expect(shown).to_have_count(len(lasting))
    for number in range(len(lasting)):
        box = shown.nth(number).bounding_box()
        assert box["width"] > 100 and box["height"] > 20, box
    expect(lab.front(page).get_by_text("Error displaying")).to_have_count(0)


@each_run
def test_sliders_by_keyboard_change_the_picture(page, chapter):
    page.evaluate("course.openWidgets()")
    code = code_cells(nbformat.read(chapter, 4))
    wanted = "explore(" in "".join(c.source for c in code)
    views = lab.front(page).locator(
        ".jp-OutputArea-output",
        has=page.get_by_role("slider"),
        has_not=page.locator(".play"),  # a play draws without pictures
    )
    assert wanted == bool(views.count())
    for view in views.all():
        picture = view.locator("img").last
        expect(view.locator("[title=null]:visible")).to_have_count(0)
        for slider in view.get_by_role("slider").all():
            before = picture.get_attribute("src")
            slider.focus()
            slider.press("ArrowRight")
            expect(picture).not_to_have_attribute("src", before)
            assert picture.get_attribute("alt").strip()


@each_run
def test_last_question_of_the_quiz_explains_every_answer(page, chapter):
    *before, question = find_quiz(chapter.name[:2])
    for letter, (_, why) in zip("abcd", question.options):
        button = lab.front(page).get_by_role(
            "button", name=f"{len(before) + 1} ({letter})"
        )
        button.focus()
        button.press("Enter")
        said = lab.front(page).locator(
            ".jupyter-widgets [role=status]", has_text=why
        )
        right = "abcd"[question.right] == letter
        expect(said).to_contain_text("Right" if right else "Not quite")


@each_run
def test_first_exercise_answers_a_mistake_and_the_solution(page, chapter):
    """The others' checks and solutions: test_exercises, test_notebooks."""
    nb = nbformat.read(chapter, 4)
    cell = tagged(nb, "exercise")[0]
    place = lab.cell(page, nb.cells.index(cell))
    key = re.search(r'check\("(.+?)"', cell.source)[1]
    exercise = find_exercise(key)
    mistake, phrase = exercise.mistaken(0), exercise.mistakes[0][-1]
    for code, message in (
        (mistake, f"✗ Exercise {key}: wrong. "),
        (exercise.code, f"✓ Exercise {key}: passed. All checks hold."),
    ):
        place.locator(".cm-content").click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.insert_text(solve(cell.source, code))
        page.keyboard.press("Control+Enter")
        said = place.locator(".jp-OutputArea [role=status]")
        expect(said).to_contain_text(message)
        if code is mistake:
            expect(said).to_contain_text(phrase)


@each_chapter
def test_opens_with_what_it_shows_and_nothing_complains(page, chapter):
    assert page.evaluate("course.outputs()")
    expect(lab.front(page).get_by_text("Error displaying")).to_have_count(0)
    assert not page.complaints, page.complaints


def guarded(nb):
    """Of each prediction, in order: its cell and those that it shuts."""
    found = []
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            if keyed(cell, "predict"):
                found.append((number, []))
            if "hide-output" in cell.metadata.get("tags", []):
                found[-1][1].append(number)
    return found


@only("03")
def test_a_prediction_keeps_outputs_shut_until_it_is_made(page, chapter):
    nb = nbformat.read(chapter, 4)
    shut = "index => course.shut(index)"
    for _, cells in guarded(nb):
        assert cells and all(page.evaluate(shut, i) for i in cells)
    # Running again brings new outputs, and JupyterLab opens them.
    page.evaluate("index => course.runCell(index)", cells[0])
    page.wait_for_function("index => course.shut(index)", arg=cells[0])
    total, count = len(guarded(nb)), len(nb.cells) - 1
    said = lab.cell(page, count).get_by_role("status")
    expect(said).to_contain_text(f"you made none of {total}")
    for number, (at, cells) in enumerate(guarded(nb)):
        place = lab.cell(page, at)
        first = place.get_by_role("button").first
        if number:  # by mouse, and the first one by keyboard
            first.click()
        else:
            first.focus()
            first.press("Enter")
        answer = place.get_by_role("status")
        expect(answer).to_contain_text("What was folded below is open.")
        expect(answer).to_contain_text(re.compile("You were right|it is: "))
        expect(first).to_be_disabled()
        assert not any(page.evaluate(shut, i) for i in cells)
        said = lab.cell(page, count).get_by_role("status")
        expect(said).to_contain_text(f"you made {number + 1} of {total}")
    # What was opened by an answer stays open when it is run again.
    page.evaluate("index => course.runCell(index)", cells[0])
    assert not page.evaluate(shut, cells[0])


@each_chapter
def test_first_picture_comes_soon(page, chapter):
    assert page.evaluate("course.firstPicture()") <= 1.6


@only("07")
def test_drawing_on_a_pad_changes_the_answer(page, chapter):
    paper = page.locator("canvas[role=img]")
    answer = lab.front(page).locator(".jp-OutputArea-output", has=paper)
    picture = answer.locator("img")
    assert answer.locator(paper).count() == 2
    for pad in answer.locator(paper).all():
        before = picture.get_attribute("src")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        # A zigzag, which no ready-made drawing is.
        for number, (x, y) in enumerate(
            [(0.2, 0.2), (0.8, 0.3), (0.2, 0.6), (0.8, 0.8)]
        ):
            x, y = box["x"] + x * box["width"], box["y"] + y * box["height"]
            page.mouse.move(x, y, steps=5)
            if not number:
                page.mouse.down()
        page.mouse.up()
        expect(picture).not_to_have_attribute("src", before)
    said = answer.get_by_role("status").inner_text()
    assert said == picture.get_attribute("alt")


@only("00")
def test_a_round_of_the_game_by_keyboard(page, chapter):
    game = lab.front(page).locator(".mamlkit-game")
    expect(game).to_have_count(1)
    said = game.get_by_role("status")
    start = game.get_by_role("button", name="Start")
    start.focus()
    start.press("Enter")
    for number in (1, 2):
        expect(game).to_contain_text(f"Round {number} of 10")
        # The game itself puts the focus where the next press belongs.
        expect(game.get_by_role("button", name="1")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        expect(said).to_contain_text(re.compile("Right|not 2"))
        expect(game.get_by_role("button", name="Next round")).to_be_focused()
        page.keyboard.press("Enter")


@each_chapter
def test_fits_the_window_and_is_pictured(page, chapter):
    """Widths are judged; pictures, where wanted, are for people."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.evaluate("narrow => course.sidebar(!narrow)", width < 1000)
        page.evaluate("course.scroll(0)")
        more, number = PICTURES, 0
        while more:
            keep(page, f"{chapter.stem[:2]}_{width}_{number:02}")
            more = page.evaluate("step => course.scroll(step)", HEIGHT - 200)
            number += 1
        wide = page.evaluate("course.tooWide()")
        assert not wide, f"at {width} px: {wide}"
    page.set_viewport_size({"width": 1440, "height": 900})
