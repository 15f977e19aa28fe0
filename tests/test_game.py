"""The game of chapter 00: its rounds, and where its score is kept."""

import json
import re

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from plays import shown, state_of

from mamlkit import load_glyphs, mean_interval
from mamlkit.course import WIDE, play, plays, plot_scores, score
from mamlkit.course.game import deal, deal_game, pack
from mamlkit.paths import NOTEBOOKS
from mamlkit.publish.readme import chapter_map


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No test may touch the score of whoever runs it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "of a reader"))
    return tmp_path / "of a reader"


@pytest.fixture
def reader(monkeypatch):
    for module in (plays, score):
        monkeypatch.setattr(module, "somebody_is_there", lambda: True)


@pytest.fixture(scope="module")
def images():
    return load_glyphs("val")[:12]


@pytest.fixture
def open_game(images, monkeypatch):
    """Show the game; return the widget that JupyterLab would mount."""
    made = []

    class Watched(plays.Play):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(plays, "Play", Watched)

    def open_(**options):
        shown(lambda: play(images, **options))
        return made[-1]

    return open_


def finish(widget, right=(True, True), seconds=None):
    """What the page sends at the end of a game."""
    seconds = seconds or [1.0] * len(right)
    widget.finished = {"right": [*right], "seconds": seconds}


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


def test_a_finished_game_is_kept_and_the_next_one_comes(
    open_game, images, folder
):
    widget = open_game(seed=3, n_rounds=3)
    assert widget.home == "kernel"
    assert widget.games == [pack(deal_game(images, 3, seed=3, number=1))]
    assert not folder.exists()  # a game counts when it is finished
    finish(widget, [True, False, True], [2.5, 4, 1])
    assert str(folder / score.NAME) in widget.kept
    (kept,) = stored(folder)
    assert kept["right"] == [True, False, True]
    assert kept["seconds"] == [2.5, 4, 1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"])
    assert widget.games[1:] == [pack(deal_game(images, 3, seed=3, number=2))]


def test_playing_again_deals_other_rounds_and_adds_up(open_game, folder):
    widget = open_game(n_rounds=2)
    finish(widget)
    again = open_game(n_rounds=2)  # the next day
    assert again.games[0] == widget.games[1] != widget.games[0]
    other = open_game(n_rounds=2, seed=1)
    assert other.games[0] != again.games[0]
    finish(again, [False, True])
    finish(again, [True, True], [1.0, 2.0])
    assert len({game["sheet"] for game in again.games}) == 3
    assert [g["right"] for g in stored(folder)] == [
        [True] * 2,
        [False, True],
        [True] * 2,
    ]


def test_with_nobody_there_rounds_are_shown_with_answers(images):
    (game, _), (picture, meta) = shown(lambda: play(images, n_rounds=4))
    assert "image/png" in picture and "4 rounds" in meta["image/png"]["alt"]
    answers = deal_game(images, 4, seed=0, number=0).query.y[:, 0] + 1
    said = re.findall(r"\d: (\d)", game["text/plain"])
    assert said == [str(a) for a in answers.tolist()]


def test_with_a_reader_there_the_game_is_shown_alone(images, reader):
    ((game, _),) = shown(lambda: play(images))
    assert "Answers" not in game["text/html"]
    assert state_of(game["text/html"])["home"] == "page"


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
def test_a_damaged_file_is_put_aside(open_game, folder, text, reader, capsys):
    folder.mkdir()
    path = folder / score.NAME
    path.write_text(text)
    assert score.your_rounds() is None
    said = capsys.readouterr().out
    assert "damaged" in said and said.count("\n") == 1
    widget = open_game(n_rounds=2)
    finish(widget)
    aside = folder / "mamlkit_score.damaged.json"
    assert aside.read_text() == text
    assert f"was damaged and is now {aside.name}" in widget.kept
    assert len(stored(folder)) == 1


def test_a_folder_that_cannot_be_written_costs_nothing(open_game, folder):
    folder.write_text("a file where the folder should be")
    widget = open_game(n_rounds=2)
    finish(widget)
    assert widget.kept.startswith("Not kept: ")
    assert widget.games[1] != widget.games[0]


def test_an_interrupted_write_leaves_the_old_file(
    open_game, folder, monkeypatch
):
    finish(open_game(n_rounds=2))
    before = (folder / score.NAME).read_text()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score.Path, "replace", fail)
    widget = open_game(n_rounds=2)
    finish(widget)
    assert widget.kept.startswith("Not kept: No space left")
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
        "WIDE": WIDE,
        "plot_scores": plot_scores,
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
