"""README is true: its tables and links; test_package.py runs its code."""

import re

import nbformat
import pytest

from mamlkit.paths import ROOT
from mamlkit.publish.readme import (
    FILES,
    PICTURE,
    SHORT,
    chapter_map,
    fill,
    picture,
    results_table,
)
from mamlkit.reproduce import read_result
from mamlkit.rl import the_40_goals

README = (ROOT / "README.md").read_text()
DATA_README = (ROOT / "data" / "README.md").read_text()


def test_generated_parts_are_current():
    for text in (README, DATA_README):
        assert fill(text) == text, "run `make readme`"
    alt, png = picture()
    assert PICTURE.read_bytes() == png and "θ at the lowest place" in alt
    assert "Each star is a task" in README, "the caption is this picture's"


def test_readme_shows_some_rows_and_the_data_s_readme_all():
    assert "<!-- results -->" in README
    assert "<!-- all results -->" in DATA_README
    rows = results_table(short=True).splitlines()
    assert len(rows) == 2 + len(SHORT)
    numbers = [row.split("|")[2:] for row in results_table().splitlines()]
    assert all(row.split("|")[2:] in numbers for row in rows)


def test_the_sentence_on_navigation_is_that_of_the_file():
    settings = read_result("navigation")["settings"]
    number = {1: "one", 3: "three"}[settings["seeds"]]
    for text in (README, DATA_README):
        assert f"mean of {number} training seeds" in text.replace("\n", " ")


def test_the_floors_in_the_text_are_measured_ones():
    blind = read_result("sinusoid")["rows"]["blind_mse"]["value"]
    assert f"without a look at the points has {blind:.2f}." in README
    # Standing still pays the distance at each of 100 steps.
    still = 100 * the_40_goals().norm(dim=1).mean()
    assert f"Standing still has −{still:.2f}." in README


def test_the_table_shows_the_files_own_numbers(tmp_path):
    (tmp_path / "sinusoid.json").write_text(
        '{"rows": [{"name": "mse_5shot_after_1", "value": 0.123, '
        '"interval": 0.045, "n": 7, "paper": 0.67}]}'
    )
    table = results_table(tmp_path).splitlines()
    assert len(table) == 3
    assert table[2].endswith("| 0.67 | 0.12 ± 0.04 |  |  | 7 |")
    (tmp_path / "omniglot_5way_1shot.json").write_text(
        '{"rows": [{"name": "accuracy", "value": 98, "interval": 0.5, '
        '"n": 9, "paper": 98.7}, {"name": "accuracy_non_transductive", '
        '"value": 95.5, "interval": 0.5, "n": 9, "paper": null}]}'
    )
    last = results_table(tmp_path).splitlines()[-1]
    assert last.endswith("| 98.7 ± 0.4 | 98.00 ± 0.50 |  | 95.50 | 9 |")
    (tmp_path / "omniglot_untrained_5way_1shot.json").write_text(
        '{"rows": [{"name": "untrained_accuracy", "value": 60.5, "n": 200}]}'
    )
    last = results_table(tmp_path).splitlines()[-1]
    assert last.endswith("| 98.00 ± 0.50 | 60.50 | 95.50 | 9 |")
    # Of two floors of one setting, the one on more tasks.
    (tmp_path / "omniglot_fomaml_5way_1shot.json").write_text(
        '{"rows": [{"name": "untrained_accuracy", "value": 61, "n": 900}]}'
    )
    last = results_table(tmp_path).splitlines()[-1]
    assert last.endswith("| 98.00 ± 0.50 | 61.00 | 95.50 | 9 |")
    (tmp_path / "in_context.json").write_text(
        '{"rows": [{"name": "maml_mse_5shot_after_1", "value": 0.6, '
        '"interval": 0.1, "n": 500, "trainings": 5, "paper": null}, '
        '{"name": "untrained_mse_5shot_after_1", "value": 4, "n": 500}]}'
    )
    five = results_table(tmp_path).splitlines()[3]
    assert five.endswith("|  | 0.60 ± 0.10 | 4.00 |  | 5 trainings × 500 |")
    (tmp_path / "navigation.json").write_text(
        '{"rows": [{"name": "return_after_1", "value": -2, "interval": 0.5, '
        '"n": 3, "tasks": 40, "seeds": [-1, -2, -3], "paper": -3.2}]}'
    )
    last = results_table(tmp_path).splitlines()[-1]
    assert last.endswith("| −3.2 | −2.00 ± 0.50 |  |  | 3 trainings × 40 |")


@pytest.fixture
def chapter(tmp_path):
    def make(number, first):
        nb = nbformat.v4.new_notebook()
        nb.cells = [nbformat.v4.new_markdown_cell(first)]
        nbformat.write(nb, tmp_path / f"{number}_do.ipynb")
        return tmp_path

    return make


def test_the_map_says_what_first_cells_say(chapter):
    text = "# {}\n\nyou will have {}.\n\nAbout {} minutes"
    promise = "`it`, too, and a check will show it"
    chapter("04", text.format("Do", promise, 5))
    after = " · level: you have followed [chapter 04](04_do.ipynb)"
    folder = chapter("07", text.format("Do more", "more", 45) + after)
    assert chapter_map(folder, "in/").splitlines()[2:] == [
        "| [04 Do](in/04_do.ipynb) | `it`, too |  | 5 |",
        "| [07 Do more](in/07_do.ipynb) | More | 04 | 45 |",
    ]


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ("# Do\n\nNothing.", "does not say what you will have"),
        ("# Do\n\nyou will have it.", "does not say how long"),
    ],
)
def test_a_chapter_without_promise_or_minutes_is_refused(
    chapter, first, fault
):
    with pytest.raises(ValueError, match=fault):
        chapter_map(chapter("01", first))


WRITTEN = [*FILES, ROOT / "USING.md"]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_links_lead_to_files(path):
    text = path.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
