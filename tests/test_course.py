"""The map: what chapters say, what builds on what, and chapter 00's copy."""

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from mamlkit.course import Chapter, chapter_map, chapters, draw_map
from mamlkit.paths import NOTEBOOKS

FIRST = """# Do a {0} thing

By the end you will have `{0}`, one thing, and a check will show it.

About {1} minutes · level: {2} · runs at once
"""


@pytest.fixture
def course(tmp_path):
    def make(*texts):
        for number, text in enumerate(texts):
            nb = new_notebook(cells=[new_markdown_cell(text)])
            nbformat.write(nb, tmp_path / f"{2 * number:02d}_do.ipynb")
        return tmp_path

    return make


def test_chapters_are_read_from_their_first_cells(course):
    followed = "you have followed [chapter 00](00_do.ipynb)"
    folder = course(
        FIRST.format("small", 5, "none"),
        FIRST.format("big", 20, "none"),
        FIRST.format("late", 45, followed),
    )
    assert chapters(folder) == [
        Chapter("00", "Do a small thing", "`small`, one thing", 5, "",
                "00_do.ipynb"),
        Chapter("02", "Do a big thing", "`big`, one thing", 20, "00",
                "02_do.ipynb"),
        Chapter("04", "Do a late thing", "`late`, one thing", 45, "00",
                "04_do.ipynb"),
    ]  # fmt: skip
    assert chapter_map(folder, prefix="in/").splitlines()[2:] == [
        "| [00 Do a small thing](in/00_do.ipynb) | `small`, one thing | 5 |",
        "| [02 Do a big thing](in/02_do.ipynb) | `big`, one thing | 20 |",
        "| [04 Do a late thing](in/04_do.ipynb) | `late`, one thing | 45 |",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# Do\n\nNothing.", "does not say what you will have"),
        ("# Do\n\nyou will have it.", "does not say how long"),
    ],
)
def test_a_chapter_without_promise_or_minutes_is_refused(course, text, fault):
    with pytest.raises(ValueError, match=fault):
        chapters(course(text))


def make_chapters(*pairs):
    return [Chapter(n, f"Do {n}", "", 1, after, "") for n, after in pairs]


def test_map_draws_every_station_apart_and_right_of_what_it_needs():
    course = make_chapters(
        ("00", ""), ("03", "00"), ("04", "03"), ("05", "04"), ("07", "04"),
        ("08", "07"), ("09", "07"), ("10", "04"),
    )  # fmt: skip
    _, ax = plt.subplots()
    said = draw_map(ax, course)
    assert "07 after 04" in said and said.count(" after ") == 7
    places = {
        text.get_text(): text.xy
        for text in ax.texts
        if text.get_text().isdecimal()
    }
    assert [*places] == [c.number for c in course]
    assert len({*places.values()}) == len(course)
    assert len({y for x, y in places.values() if x == 3}) == 3
    for chapter in course[1:]:
        assert places[chapter.number][0] == places[chapter.after][0] + 1
    plt.close("all")


def test_chapter_00_shows_the_map_as_it_is():
    (path,) = NOTEBOOKS.glob("00_*.ipynb")
    texts, pictures = [], []
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts.append(data.get("text/markdown"))
            meta = output.get("metadata", {}).get("image/png", {})
            pictures.append(meta.get("alt"))
    _, ax = plt.subplots()
    stale = "run `mamlkit render 00`: a chapter came or changed its promise"
    assert chapter_map() in texts, stale
    assert draw_map(ax, chapters()) in pictures, stale
    plt.close("all")
