"""The learner's copies: what they wrote is theirs."""

import json
from contextlib import nullcontext

import nbformat
import pytest

from mamlkit.__main__ import main
from mamlkit.course import chapters as mamlkit_chapters
from mamlkit.publish import lab


@pytest.fixture
def course(make_chapter, tmp_path):
    """Two chapters, and the learner's folder."""
    chapters = [make_chapter(f"0{n}_try") for n in (1, 2)]
    return chapters, tmp_path / "mine"


def rewrite(path, text, cell="work"):
    nb = nbformat.read(path, 4)
    next(c for c in nb.cells if c.id == cell).source = text
    nbformat.write(nb, path)


def test_chapters_are_copied_once(course):
    chapters, mine = course
    assert lab.copy_chapters(chapters, mine) == [
        "01_try: copied",
        "02_try: copied",
    ]
    assert (mine / "01_try.ipynb").read_bytes() == chapters[0].read_bytes()
    assert lab.copy_chapters(chapters, mine) == []


def test_an_answer_survives_an_update_and_the_update_lies_beside(course):
    chapters, mine = course
    lab.copy_chapters(chapters, mine)
    rewrite(mine / "01_try.ipynb", "answer = 42", "exercise")
    answered = (mine / "01_try.ipynb").read_bytes()
    for chapter in chapters:
        rewrite(chapter, "print('a new version')")
    assert lab.copy_chapters(chapters, mine) == [
        "01_try: yours is kept, new is 01_try.new.ipynb",
        "02_try: a new version has come",
    ]
    assert (mine / "01_try.ipynb").read_bytes() == answered
    beside = mine / "01_try.new.ipynb"
    assert beside.read_bytes() == chapters[0].read_bytes()
    assert lab.copy_chapters(chapters, mine) == []


def test_what_was_written_into_an_update_is_kept_too(course):
    chapters, mine = course
    lab.copy_chapters(chapters[:1], mine)
    rewrite(mine / "01_try.ipynb", "answer = 42", "exercise")
    names = []
    for version in range(4):
        rewrite(chapters[0], f"print({version})")
        (said,) = lab.copy_chapters(chapters[:1], mine)
        names.append(said.split()[-1])
        if version != 1:  # the second is not touched, and replaced
            rewrite(mine / names[-1], f"mine = {version}", "exercise")
    new, second = "01_try.new.ipynb", "01_try.new2.ipynb"
    assert names == [new, second, second, "01_try.new3.ipynb"]
    for name, version in ((new, 0), (second, 2)):
        assert f"mine = {version}" in (mine / name).read_text()


def test_a_chapter_that_was_only_run_is_brought_up_to_date(course):
    chapters, mine = course
    lab.copy_chapters(chapters, mine)
    nb = nbformat.read(mine / "01_try.ipynb", 4)
    nb.cells[1].execution_count = 7
    nbformat.write(nb, mine / "01_try.ipynb")
    rewrite(chapters[0], "print('a new version')")
    assert lab.copy_chapters(chapters, mine) == [
        "01_try: a new version has come"
    ]


@pytest.mark.parametrize("damage", [None, "", "[", "[1]"])
def test_without_a_readable_record_nothing_edited_is_lost(course, damage):
    chapters, mine = course
    lab.copy_chapters(chapters, mine)
    rewrite(mine / "01_try.ipynb", "answer = 42", "exercise")
    answered = (mine / "01_try.ipynb").read_bytes()
    record = mine / lab.RECORD
    record.unlink() if damage is None else record.write_text(damage)
    said = lab.copy_chapters(chapters, mine)
    assert said[0] == "01_try: yours is kept, new is 01_try.new.ipynb"
    assert (mine / "01_try.ipynb").read_bytes() == answered
    assert json.loads(record.read_text()).keys() >= {"01_try", "02_try"}


def test_a_file_that_is_no_notebook_is_kept(course):
    chapters, mine = course
    mine.mkdir()
    (mine / "01_try.ipynb").write_text("not a notebook")
    said = lab.copy_chapters(chapters, mine)
    assert said[0] == "01_try: yours is kept, new is 01_try.new.ipynb"
    assert (mine / "01_try.ipynb").read_text() == "not a notebook"


def test_jupyterlab_opens_on_the_copy_of_the_chapter_named(
    course, monkeypatch, capsys
):
    chapters, mine = course
    monkeypatch.setattr(mamlkit_chapters, "NOTEBOOKS", chapters[0].parent)
    opened = []

    class Opened(nullcontext):
        def __init__(self, command, cwd):
            super().__init__(self)
            opened.append(command[1:])
            assert cwd == mine
            self.keys = [KeyboardInterrupt]

        def wait(self):  # on Ctrl-C JupyterLab asks, and may stay
            if self.keys:
                raise self.keys.pop()
            return 0

    monkeypatch.setattr(lab.subprocess, "Popen", Opened)
    for names in ([], ["2"]):
        assert main(["lab", *names, "--folder", str(mine)]) == 0
    copies = [mine / chapter.name for chapter in chapters]
    assert opened == [["-m", "jupyterlab", copy] for copy in copies]
    assert all(copy.exists() for copy in copies)
    opened.clear()
    for user in (0, 1000):
        monkeypatch.setattr(
            "os.geteuid", lambda user=user: user, raising=False
        )
        main(["lab", "--folder", str(mine)])
        hint = "mamlkit lab -- --allow-root" in capsys.readouterr().out
        assert hint == (user == 0)
    opened.clear()
    own = ["2", "--folder", str(mine), "--", "--no-browser", "--port", "9"]
    assert main(["lab", *own]) == 0
    assert main(["lab", "--folder", str(mine), "--", "--", "x"]) == 0
    flags = ["--no-browser", "--port", "9"]
    assert opened == [
        ["-m", "jupyterlab", copies[1], *flags],
        ["-m", "jupyterlab", copies[0], "--", "x"],
    ]
