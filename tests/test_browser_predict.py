"""A prediction on a page that nobody runs, as myst-nb lays it out."""

import json

import pytest
from browser import complaints
from playwright.sync_api import expect

from mamlkit.course import predicting
from mamlkit.course.plays import script, stage

# A cell of myst-nb whose code and output are both folded.
CELL = """
<div class="cell tag_hide-input tag_hide-output">
<details class="hide above-input"><summary>code</summary>
<div class="cell_input">print(1)</div></details>
<details class="hide below-input"><summary>output</summary>
<div class="cell_output">answer {0}</div></details></div>
"""
OPEN = '<div class="cell"><div class="cell_input">x = 1</div></div>'
# What the site's script does, in short.
MOUNT = """
const modelOf = (state) => {
  const heard = {};
  return {
    get: (key) => state[key],
    set: (key, value) => {
      state[key] = value;
      for (const call of heard[`change:${key}`] ?? []) call();
    },
    save_changes: () => {},
    on: (name, call) => (heard[name] ??= []).push(call),
  };
};
window.mount = async (text) => {
  const blob = new Blob([text], { type: "text/javascript" });
  const { default: play } = await import(URL.createObjectURL(blob));
  for (const el of document.querySelectorAll("[data-play=predict]"))
    await play.render({ model: modelOf(JSON.parse(el.dataset.state)), el });
};
"""


@pytest.fixture
def page(browser, monkeypatch):
    """A page with two predictions and their count, as a chapter stores it."""
    stored = {}

    def keep(data, metadata, display_id=None, update=False):
        stored[display_id] = data["text/html"]

    monkeypatch.setattr(stage, "show_bundle", keep)
    monkeypatch.setattr(predicting, "somebody_is_there", lambda: False)
    monkeypatch.setattr(predicting, "_states", {})
    monkeypatch.setattr(predicting, "_live", {})
    predicting.predict("3a", "Which < one?", ["x", "y"], cells=2)
    predicting.predict("3b", "And then?", ["x", "y"])
    predicting.reveal("3a", 1, "Since y > x.")
    predicting.reveal("3b", 0)
    predicting.predictions()
    outputs = {
        key: f'<div class="cell"><div class="cell_output">{html}</div></div>'
        for key, html in stored.items()
    }
    ask, ask_more = outputs["predict-3a"], outputs["predict-3b"]
    body = f"""
    <section>{ask}<p>Text.</p>{OPEN}{CELL.format("a")}<p>Text.</p>{CELL.format("-")}
    <section>{ask_more}{CELL.format("b")}</section>
    {outputs[None]}</section>
    """
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.complaints = complaints(page, "about:")
    page.set_content(f"<!doctype html><html lang=en><body>{body}</body>")
    yield page
    assert not page.complaints
    page.close()


def mount(page):
    page.add_script_tag(content=MOUNT)
    page.evaluate("text => mount(text)", script("predict"))


def test_without_a_script_question_options_and_answer_can_be_read(page):
    first = page.locator("[data-play]").first
    expect(first.get_by_role("listitem")).to_have_text(["x", "y"])
    answer = first.locator("details")
    expect(answer).not_to_have_attribute("open", "")
    answer.locator("summary").click()
    expect(answer).to_contain_text("y. Since y > x.")


def test_an_answer_opens_what_it_guards_and_is_counted(page):
    mount(page)
    answers = {name: page.get_by_text(f"answer {name}") for name in "a-b"}
    for shut in answers.values():
        expect(shut).to_be_hidden()
    count = page.get_by_role("status").last
    expect(count).to_have_text("Predictions: you made none of 2 yet.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    first, second = page.locator(".mamlkit-ask").all()
    expect(first.get_by_role("status")).to_have_text(
        "✓ You were right. Since y > x. What was folded below is open."
    )
    expect(answers["a"]).to_be_visible()
    for shut in (answers["-"], answers["b"]):
        expect(shut).to_be_hidden()
    expect(count).to_have_text(
        "Predictions: you made 1 of 2, and were right in 1."
    )
    second.get_by_role("button", name="y").click()
    expect(answers["b"]).to_be_visible()
    expect(second.get_by_role("status")).to_contain_text(
        "✗ In this run it is: x."
    )
    expect(second.get_by_role("button").first).to_be_disabled()
    expect(count).to_have_text(
        "Predictions: you made 2 of 2, and were right in 1."
    )


def test_its_keys_are_no_commands_of_jupyterlab(page):
    mount(page)
    for place in page.locator(".mamlkit-ask").all():
        own = place.locator("xpath=ancestor::*[@data-lm-suppress-shortcuts]")
        expect(own).to_have_count(1)


def test_one_row_stands_for_all_that_is_shut(page):
    first = page.locator("[data-play]").first
    state = json.loads(first.get_attribute("data-state"))
    held = json.dumps(state | {"cells": 3})
    first.evaluate("(place, held) => { place.dataset.state = held }", held)
    mount(page)
    one, other, last = page.locator(".tag_hide-input").all()
    expect(page.get_by_text("x = 1")).to_be_visible()  # open code stays
    expect(one.get_by_text("code")).to_be_hidden()
    expect(other).to_be_hidden()
    expect(last.get_by_text("code")).to_be_hidden()  # of another question
    one.get_by_text("Show the results without answering").click()
    for cell, name in ((one, "a"), (other, "-")):
        expect(cell.get_by_text(f"answer {name}")).to_be_visible()
        expect(cell.get_by_text("output")).to_be_visible()
        expect(cell.get_by_text("code")).to_be_visible()
    expect(last.get_by_text("code")).to_be_hidden()
    expect(page.get_by_role("button").first).to_be_enabled()
    said = page.get_by_role("status").first
    expect(said).to_have_text("In this run it is: y. Since y > x.")
    page.get_by_role("button", name="y").first.click()
    expect(one.get_by_text("answer a")).to_be_visible()


def test_claims_that_follow_at_once_are_shut_and_opened_with_it(page):
    page.evaluate(
        "document.querySelectorAll('section > p').forEach(p => p.remove())"
    )
    mount(page)
    one, other, _ = page.locator(".tag_hide-input").all()
    expect(other).to_be_hidden()
    page.get_by_role("button", name="y").first.click()
    expect(other.get_by_text("answer -")).to_be_visible()
    expect(one.get_by_text("output")).to_be_visible()


def test_on_another_kind_of_page_it_says_what_to_do(page):
    # Where outputs cannot be reached, as in a frame of their own.
    page.evaluate(
        "for (const e of document.querySelectorAll('.cell')) e.className = ''"
    )
    mount(page)
    page.get_by_role("button").first.click()
    expect(page.get_by_role("status").first).to_contain_text(
        "Now open what is folded below."
    )


def test_a_phone_is_wide_enough_for_any_answer(page):
    first = page.locator("[data-play]").first
    state = json.loads(first.get_attribute("data-state"))
    held = json.dumps(state | {"options": ["long " * 30, "y" * 30]})
    first.evaluate("(place, held) => { place.dataset.state = held }", held)
    mount(page)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    button = page.get_by_role("button").first
    expect(button).to_contain_text("long long")
    assert button.bounding_box()["height"] > 60  # several lines of it
