"""The plays in a real JupyterLab, with a kernel behind them."""

import json

import lab
import nbformat
import pytest
from browser import complaints, keep
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import expect

from mamlkit.course.score import NAME

CELLS = {
    "setup": """
import torch

from mamlkit import Sinusoids, load_glyphs
from mamlkit.course import plays

rng = torch.Generator().manual_seed(9)
waves = Sinusoids(amplitude=(1.0, 4.0))
waves = waves.sample(6, k_shot=10, k_query=20, generator=rng)
""",
    "valley": "plays.valley(waves)",
    "game": 'plays.game(load_glyphs("val")[:40])',
    "fit": "plays.fit()",
}
DARK, LIGHT = "JupyterLab Dark", "JupyterLab Light"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def page(browser, folder):
    """A notebook with the three plays, after Run All."""
    with lab.serve(folder) as address:
        cells = [new_markdown_cell("# Plays")]
        cells += [new_code_cell(source.strip()) for source in CELLS.values()]
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
        nb = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(nb, folder / "notebooks" / "plays.ipynb")
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        found = complaints(page, address)
        lab.start(page, address)
        page.evaluate("course.open('plays.ipynb')")
        page.evaluate("course.runAll()")
        page.evaluate("course.ran()")
        yield page
        page.close()
        assert not found, found


def play(page, name):
    """A play on the screen; its cell is active."""
    lab.cell(page, 1 + [*CELLS].index(name))
    return lab.front(page).locator(f".mamlkit-{name}")


@pytest.mark.parametrize("name", ["valley", "game", "fit"])
def test_the_live_play_is_shown_once_and_not_its_stored_form(page, name):
    expect(play(page, name)).to_have_count(1)
    expect(lab.front(page).locator(".mamlkit-play")).to_have_count(0)
    expect(lab.front(page).get_by_text("Error displaying")).to_have_count(0)


def test_theta_is_dragged(page):
    valley = play(page, "valley")
    valley.locator(".theta").scroll_into_view_if_needed()
    before = valley.locator(".scores b").first.inner_text()
    box = valley.locator(".theta circle.body").bounding_box()
    x, y = box["x"] + 13, box["y"] + 13
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y - 60, steps=8)
    page.mouse.up()
    expect(valley.locator(".scores b").first).not_to_have_text(before)


def test_keys_of_a_play_are_no_commands_of_jupyterlab(page, folder):
    """A 2 would make the cell a heading, an arrow would leave it."""
    game = play(page, "game")
    kinds = """jupyterapp.shell.currentWidget.content.widgets.map(
      (cell) => cell.model.type)"""
    before = page.evaluate(kinds)
    active = "jupyterapp.shell.currentWidget.content.activeCellIndex"
    start = game.get_by_role("button", name="Start")
    start.focus()
    page.keyboard.press("Enter")
    for number in range(10):
        expect(game.locator(".lead")).to_contain_text(f"Round {number + 1} ")
        page.keyboard.press("2")
        if number < 9:
            page.keyboard.press("Enter")
    assert page.evaluate(kinds) == before
    status = game.get_by_role("status")
    expect(status).to_contain_text("Kept in ")
    found = [*(folder / "home").rglob(NAME)]
    assert len(found) == 1
    (kept,) = json.loads(found[0].read_text())["games"]
    assert len(kept["right"]) == 10
    fit = play(page, "fit")
    point = fit.locator(".point").first
    point.focus()
    at = page.evaluate(active)
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert page.evaluate(active) == at
    expect(point).to_be_focused()


def test_plays_follow_the_theme(page):
    def colour(name, of):
        return play(page, name).evaluate(
            f"e => e.style.getPropertyValue('--{of}')"
        )

    seen = {}
    for theme in (LIGHT, DARK):
        page.evaluate(
            "theme => jupyterapp.commands.execute("
            "'apputils:change-theme', { theme })",
            theme,
        )
        page.wait_for_timeout(2500)
        for name in ("valley", "game", "fit"):
            seen[theme, name] = [
                sum(map(int, colour(name, of)[4:-1].split(",")))
                for of in ("paper", "ink")
            ]
            keep(page, f"play_{name}_lab_{theme.split()[1].lower()}")
    for (theme, name), (paper, ink) in seen.items():
        assert (paper > ink) == (theme == LIGHT), (theme, name, paper, ink)
