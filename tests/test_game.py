"""The game of chapter 00, played by clicks without a browser; its score."""

import json
import re

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from mamlkit import load_glyphs, mean_interval
from mamlkit.course import game, score
from mamlkit.course.game import Game, deal, play
from mamlkit.paths import NOTEBOOKS
from mamlkit.publish.readme import chapter_map


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No test may touch the score of whoever runs it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "of a reader"))
    return tmp_path / "of a reader"


@pytest.fixture
def reader(monkeypatch):
    for module in (game, score):
        monkeypatch.setattr(module, "somebody_is_there", lambda: True)


@pytest.fixture(scope="module")
def images():
    return load_glyphs("val")[:12]


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(game.time, "monotonic", lambda: now[0])
    return now


def finish(widget, clock, wrong=()):
    """Play a game to its end; rounds in `wrong` get a wrong answer."""
    for at in range(len(widget._rounds.query.y)):
        widget.advance.click()
        clock[0] += 1 + at
        right = widget._rounds.query.y[at, 0].item()
        widget.answers[(right + (at in wrong)) % 5].click()


def stored(folder):
    return json.loads((folder / score.NAME).read_text())["games"]


def test_rounds_ask_about_one_of_the_five_by_another_hand(images):
    support, query = deal(images, 200, torch.Generator().manual_seed(0))
    assert support.x.shape == (200, 5, 1, 28, 28)
    assert query.x.shape == (200, 1, 1, 28, 28)
    assert sorted(query.y.unique().tolist()) == [0, 1, 2, 3, 4]

    def owner(x):  # the class and hand of a drawing, in any quarter turn
        for turn in range(4):
            same = (images == x.rot90(turn, (-2, -1))).flatten(2).all(2)
            if same.any():
                return same.nonzero()[0].tolist()

    for n in range(20):
        owners = [owner(x) for x in support.x[n]]
        asked = owner(query.x[n, 0])
        assert len({character for character, _ in owners}) == 5
        own = owners[query.y[n, 0]]
        assert asked[0] == own[0] and asked[1] != own[1]


def test_a_game_gives_feedback_counts_and_is_kept(images, clock, folder):
    widget = Game(images, seed=3, n_rounds=3)
    assert all(button.disabled for button in widget.answers)
    assert widget.advance.description == "Start"
    clock[0] = 100  # reading before the start is free
    widget.advance.click()
    assert widget.advance.disabled and not widget.answers[0].disabled
    assert "Round 1 of 3" in widget.head.value
    right = widget._rounds.query.y[0, 0].item()
    clock[0] += 2.5
    widget.answers[right].click()
    said = widget.status.value
    assert "role='status'" in said and "✓ Right" in said and "2.5" in said
    assert "✓" in widget.examples[right].value
    assert widget.advance.description == "Next round"
    widget.advance.click()
    assert "Right so far: 1" in widget.head.value and "✓" not in said[:5]
    right = widget._rounds.query.y[1, 0].item()
    wrong = (right + 1) % 5
    clock[0] += 4
    widget.answers[wrong].click()
    assert f"✗ It is {right + 1}</b>, not {wrong + 1}" in widget.status.value
    assert "✗" in widget.examples[wrong].value
    assert not folder.exists()  # a game counts when it is finished
    widget.advance.click()
    clock[0] += 1
    widget.answers[widget._rounds.query.y[2, 0].item()].click()
    said = widget.status.value
    assert "2 of 3 right, 67%" in said and "median time 2.5" in said
    assert str(folder / score.NAME) in said
    (kept,) = stored(folder)
    assert kept["right"] == [True, False, True]
    assert kept["seconds"] == [2.5, 4, 1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"])


def test_playing_again_deals_other_rounds_and_adds_up(images, clock, folder):
    widget = Game(images, n_rounds=2)
    before = widget._rounds.query.x
    finish(widget, clock)
    assert widget.advance.description == "Play again"
    widget.advance.click()
    assert "Round 1 of 2" in widget.head.value
    assert not torch.equal(widget._rounds.query.x, before)
    again = Game(images, n_rounds=2)  # the next day
    assert torch.equal(again._rounds.query.x, widget._rounds.query.x)
    other = Game(images, n_rounds=2, seed=1)
    assert not torch.equal(other._rounds.query.x, again._rounds.query.x)
    finish(again, clock, wrong=[0])
    assert [g["right"] for g in stored(folder)] == [[True] * 2, [False, True]]


def test_a_second_click_on_its_way_does_nothing(images, clock):
    widget = Game(images, n_rounds=2)
    widget.answers[0].click()
    widget.advance.click()
    clock[0] += 3
    widget.advance.click()
    widget.answers[0].click()
    widget.answers[1].click()
    assert len(widget._right) == 1 and widget._seconds == [3]


def test_pictures_have_alt_texts_that_do_not_give_the_answer(images, clock):
    widget = Game(images, n_rounds=6)
    seen = set()
    for _ in range(6):
        widget.advance.click()
        pages = [p.value for p in (widget.query, *widget.examples)]
        alts = [re.search(r"alt='([^']+)'", page)[1] for page in pages]
        assert len({*alts}) == 6
        # Everything but the picture itself is the same in every round.
        seen.add(tuple(re.sub(r"base64,[^']+", "", page) for page in pages))
        widget.answers[0].click()
    assert len(seen) == 1


def test_handles_of_the_page_are_stable(images):
    widget = Game(images)
    assert "mamlkit-game" in widget._dom_classes
    assert "mamlkit-game-next" in widget.advance._dom_classes
    assert "mamlkit-game-status" in widget.status._dom_classes
    for number, button in enumerate(widget.answers, 1):
        assert "mamlkit-game-answer" in button._dom_classes
        assert button.description == str(number)


def test_with_nobody_there_rounds_are_shown_with_answers(
    images, monkeypatch, capsys
):
    shown = []
    monkeypatch.setattr(
        game, "show", lambda fig, alt: (shown.append(alt), plt.close(fig))
    )
    play(images, n_rounds=4)
    answers = deal(images, 4, game._rng(0, 0)).query.y[:, 0] + 1
    said = re.findall(r"\d: (\d)", capsys.readouterr().out)
    assert said == [str(a) for a in answers.tolist()]
    assert len(shown) == 1 and "4 rounds" in shown[0]
    assert not torch.equal(
        Game(images, n_rounds=4)._rounds.query.x,
        deal(images, 4, game._rng(0, 0)).query.x,
    ), "the rounds to read would give the game away"


def test_with_a_reader_there_the_game_is_shown(images, monkeypatch, reader):
    shown = []
    monkeypatch.setattr(game, "display", shown.append)
    play(images)
    assert [type(widget) for widget in shown] == [Game]


DAMAGED = [
    "",
    "{",
    "[]",
    '{"games": 3}',
    '{"games": [{"right": [true]}]}',
    '{"games": [{"right": [1], "seconds": [2]}]}',
    '{"games": [{"right": [true], "seconds": ["x"]}]}',
    '{"games": [{"right": [true, true], "seconds": [2]}]}',
    '{"games": [{"right": [], "seconds": []}]}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_put_aside(
    images, clock, folder, text, reader, capsys
):
    folder.mkdir()
    path = folder / score.NAME
    path.write_text(text)
    assert score.your_rounds() is None
    said = capsys.readouterr().out
    assert "damaged" in said and said.count("\n") == 1
    widget = Game(images, n_rounds=2)
    finish(widget, clock)
    aside = folder / "mamlkit_score.damaged.json"
    assert aside.read_text() == text
    assert f"was damaged and is now {aside.name}" in widget.status.value
    assert "2 of 2 right" in widget.status.value
    assert len(stored(folder)) == 1


def test_a_folder_that_cannot_be_written_costs_nothing(images, clock, folder):
    folder.write_text("a file where the folder should be")
    widget = Game(images, n_rounds=2)
    first = widget._rounds.query.x
    finish(widget, clock)
    assert "2 of 2 right" in widget.status.value
    assert "Not kept: " in widget.status.value
    widget.advance.click()
    assert not torch.equal(widget._rounds.query.x, first)


def test_an_interrupted_write_leaves_the_old_file(
    images, clock, folder, monkeypatch
):
    finish(Game(images, n_rounds=2), clock)
    before = (folder / score.NAME).read_text()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score.Path, "replace", fail)
    widget = Game(images, n_rounds=2)
    finish(widget, clock)
    assert "Not kept: No space left" in widget.status.value
    assert (folder / score.NAME).read_text() == before


def test_a_file_that_cannot_be_read_is_one_line(folder, reader, capsys):
    (folder / score.NAME).mkdir(parents=True)
    assert score.your_rounds() is None
    said = capsys.readouterr().out
    assert said.startswith("No score of yours: ") and said.count("\n") == 1
    assert score.keep_game([True], [1.0]).startswith("Not kept: ")
    score.forget_score()
    assert "Not deleted" in capsys.readouterr().out


def test_forget_deletes_the_file(folder, capsys):
    score.keep_game([True], [1.0])
    score.forget_score()
    assert not any(folder.iterdir())
    score.forget_score()
    assert "no score" in capsys.readouterr().out


def test_your_line_is_drawn_for_a_reader_only(reader, monkeypatch):
    _, ax = plt.subplots()
    assert score.draw_your_score(ax) == "" and not ax.lines
    score.keep_game([True, True, False, True], [1.0] * 4)
    score.keep_game([True] * 6, [1.0] * 6)
    said = score.draw_your_score(ax)
    assert "9 of 10 rounds: 90%" in said and "60% to 98%" in said
    assert list(ax.lines[0].get_xdata()) == [90, 90]
    monkeypatch.setattr(score, "somebody_is_there", lambda: False)
    _, ax = plt.subplots()
    assert score.draw_your_score(ax) == "" and not ax.lines
    plt.close("all")


@pytest.mark.parametrize("chapter", ["00", "07"])
def test_chapters_show_your_line(chapter, reader, monkeypatch):
    """The cells that draw it are run, with made-up results."""
    (path,) = NOTEBOOKS.glob(f"{chapter}_*.ipynb")
    cells = [c.source for c in nbformat.read(path, 4).cells]
    source = "\n".join(
        cell
        for cell in cells
        if re.search(r"def draw_scores|= draw_your_score\(", cell)
    )
    some = torch.tensor([0.8, 0.9])
    seen = []
    names = {
        "plt": plt,
        "mean_interval": mean_interval,
        "percent": str,
        "draw_your_score": score.draw_your_score,
        "scores": {"MAML": some, "other": some},
        **dict.fromkeys(["guessing", "pixels", "blur"], some),
        "show": lambda fig, alt: seen.append((fig.axes[0], alt)),
    }
    exec(source, dict(names))
    score.keep_game([True] * 9 + [False], [1.0] * 10)
    exec(source, dict(names))
    (before, without), (after, alt) = seen
    assert alt.startswith(without) and "right in 9 of 10" in alt
    dashed = [
        [line for line in ax.lines if list(line.get_xdata()) == [90, 90]]
        for ax in (before, after)
    ]
    assert not dashed[0] and len(dashed[1]) == 1
    plt.close("all")


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Published examples of the Wilson interval without correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)],
)
def test_wilson_interval_is_that_of_the_literature(right, n, low, high):
    got = score.wilson_interval(right, n)
    assert got == pytest.approx((low, high), abs=5e-5)


def test_chapter_00_shows_the_map_as_it_is():
    (path,) = NOTEBOOKS.glob("00_*.ipynb")
    outputs = [
        o for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])
    ]
    texts = [o.get("data", {}).get("text/markdown") for o in outputs]
    stale = "run `mamlkit render 00`: a chapter came or changed its promise"
    assert chapter_map(prefix="") in texts, stale
