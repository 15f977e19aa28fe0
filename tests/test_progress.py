"""What a reader has done is remembered beside their notebooks."""

import json
import sys

import pytest
from filelock import Timeout

from mamlkit import paths
from mamlkit.__main__ import main
from mamlkit.exercises import (
    check,
    engine,
    find_exercises,
    progress,
    show_progress,
    solution,
)
from mamlkit.exercises.progress import (
    NAME,
    keep,
    passed,
    progress_path,
    read_verdicts,
)
from mamlkit.paths import NOTEBOOKS, ROOT
from mamlkit.publish import lab


class Shell:
    """What `get_ipython()` returns in a kernel."""

    def __init__(self, content):
        self.content = content

    def get_parent(self):
        return self.content and {"content": self.content}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No test may touch the progress of whoever runs it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr(progress, "somebody_is_there", lambda: True)


@pytest.mark.parametrize(
    ("shell", "there"),
    [
        (Shell({"allow_stdin": True}), True),  # a page
        (Shell({"allow_stdin": False}), False),  # papermill
        (Shell({}), False),
        (Shell(None), False),
        (None, False),  # plain Python
    ],
)
def test_a_page_is_told_from_papermill(monkeypatch, shell, there):
    monkeypatch.setattr(progress, "get_ipython", lambda: shell)
    assert progress.somebody_is_there() is there


def test_nothing_is_written_where_nobody_is(folder):
    keep("3.1", "passed")
    assert not [*folder.iterdir()] and not passed("3.1")


def test_a_pass_is_remembered_and_never_taken_back(folder, reader):
    assert read_verdicts() == {}
    keep("3.1", "wrong")
    keep("3.2", "passed")
    keep("3.2", "wrong")
    keep("3.1", "passed")
    assert read_verdicts() == {"3.1": "passed", "3.2": "passed"}
    assert [p.name for p in folder.iterdir()] == [NAME]


def test_a_checkout_is_left_alone(folder, monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    assert progress_path() == folder / "data" / NAME
    assert progress_path(folder) == folder / NAME


DAMAGED = ["", "[", "[]", '{"exercises": []}', '{"exercises": {"3.1": 1}}',
           '{"exercises": {"3.1": ["passed"]}}']  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_put_aside(folder, reader, capsys, text):
    (folder / NAME).write_text(text)
    with pytest.raises(ValueError, match="is damaged"):
        read_verdicts()
    assert not passed("3.1")
    keep("3.1", "passed")
    assert "damaged" in capsys.readouterr().out
    assert read_verdicts() == {"3.1": "passed"}
    (aside,) = [p for p in folder.iterdir() if "damaged" in p.name]
    assert aside.read_text() == text
    (folder / NAME).write_text("worse")
    keep("3.1", "passed")
    assert aside.read_text() == text
    asides = {p.read_text() for p in folder.glob("*damaged*")}
    assert asides == {text, "worse"}


def test_a_folder_that_cannot_be_written_is_one_line(reader, capsys):
    progress_path().mkdir()
    keep("3.1", "passed")
    said = capsys.readouterr().out
    assert said.startswith("Not remembered: ") and said.count("\n") == 1


def test_a_file_that_stays_busy_is_one_line(
    folder, reader, capsys, monkeypatch
):
    def busy(lock):
        raise Timeout("lock")

    monkeypatch.setattr(paths.FileLock, "acquire", busy)
    keep("3.1", "passed")
    said = capsys.readouterr().out
    assert "another process has kept it for ten seconds" in said
    assert "None" not in said


def test_check_remembers_its_verdict(reader, monkeypatch):
    monkeypatch.setattr(progress, "show_bundle", lambda *_, **__: None)
    check("0.1", lambda n_way, n_rounds: 0.5)
    check("0.2", engine.find_exercise("0.2").right)
    stub = eval("lambda *args: (_ for _ in ()).throw(NotImplementedError)")
    check("0.3", stub)
    assert read_verdicts() == {"0.1": "wrong", "0.2": "passed"}


def test_at_a_prompt_verdicts_are_words_and_are_kept(
    folder, capsys, monkeypatch
):
    right = engine.find_exercise("0.2").right
    for name in ("_hinted", "_passed"):
        monkeypatch.setattr(engine, name, set())
    check("0.2", right)  # by a program, which nobody types
    said = "✓ Exercise 0.2: passed. All checks hold.\n"
    assert capsys.readouterr().out == said
    assert not read_verdicts()
    solution("0.2")
    assert "def " in capsys.readouterr().out
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    check(0.2, right)
    assert capsys.readouterr().out == said
    assert read_verdicts() == {"0.2": "passed"}
    show_progress()
    assert "1 of 4 done" in capsys.readouterr().out


def test_what_was_solved_is_shown_at_once(reader, capsys, monkeypatch):
    monkeypatch.setattr(engine, "_hinted", set())
    monkeypatch.setattr(engine, "_passed", set())
    monkeypatch.setattr(engine, "_tries", engine.Counter())
    solution("0.1")
    assert "A hint first?" in capsys.readouterr().out
    keep("0.1", "passed")
    solution("0.1")
    assert "def lucky" in capsys.readouterr().out


def test_two_writers_leave_a_whole_file(folder, reader):
    for number in range(20):
        keep(f"3.{number}", "passed")
        json.loads((folder / NAME).read_text())
    assert len(read_verdicts()) == 20


def test_the_last_cell_shows_what_is_done(folder, reader, capsys, monkeypatch):
    monkeypatch.setattr(progress, "show_bundle", lambda *_, **__: None)
    monkeypatch.setattr(engine, "_checked", set())
    show_progress()
    assert capsys.readouterr().out == ""
    check("0.1", lambda n_way, n_rounds: 0.5)
    check("0.2", engine.find_exercise("0.2").right)
    show_progress()
    said = capsys.readouterr().out
    assert "0.1 ✗  0.2★ ✓  0.3 ○  0.4 ○: 1 of 4 done" in said
    assert str(folder / NAME) in said


def test_nothing_is_shown_where_nobody_is(capsys):
    show_progress()
    assert capsys.readouterr().out == ""


def test_damage_is_one_line_and_no_error(folder, reader, capsys):
    (folder / NAME).write_text("[")
    show_progress()
    assert "is damaged" in capsys.readouterr().out


def test_the_command_shows_all_chapters(folder, reader, capsys):
    keep("3.1", "passed")
    assert main(["progress"]) == 0
    said = capsys.readouterr().out
    assert "03  3.1 ✓  3.2 ○" in said and str(folder / NAME) in said
    files = (ROOT / "mamlkit/exercises").glob("ch*.py")
    total = sum(len(find_exercises(path.stem[2:])) for path in files)
    assert f"1 of {total} exercises done" in said
    (folder / "other").mkdir()
    assert main(["progress", "--folder", str(folder / "other")]) == 0
    assert "Nothing so far" in capsys.readouterr().out


def test_the_command_joins_what_was_done_in_several_folders(
    folder, reader, capsys, monkeypatch
):
    home = folder / "home"
    (home / "copies").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr(lab, "FOLDER", home / "copies")
    done = {"3.1": "passed", "3.2": "wrong"}
    text = json.dumps({"exercises": done})
    (home / "copies" / NAME).write_text(text)
    keep("3.1", "wrong")
    keep("3.3", "passed")
    assert main(["progress"]) == 0
    said = capsys.readouterr().out
    assert "03  3.1 ✓  3.2 ✗  3.3 ✓" in said.replace("*", "")
    assert said.count("Remembered in") == 2
    assert main(["progress", "--folder=~/copies"]) == 0
    assert capsys.readouterr().out.count("Remembered in") == 1


def test_the_command_tells_a_damaged_file(folder, capsys):
    (folder / NAME).write_text("")
    assert main(["progress"]) == 2
    assert "is damaged" in capsys.readouterr().err
