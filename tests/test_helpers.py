import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mamlkit.__main__ import main
from mamlkit.course import chapters
from mamlkit.publish import helpers

FILES = {
    "__init__.py": "from mamlkit.inner import adapt\n",
    "inner.py": (
        "from mamlkit import checks\n"
        "from mamlkit.exercises.engine import check\n"
        "RATE = 0.1\n"
        'def adapt(x):\n    "Old words."\n    return RATE * checks.safe(x)\n'
        "def unrelated(x):\n    return x\n"
    ),
    "checks.py": "def safe(x):\n    return x\ndef other(x):\n    return x\n",
    "exercises/__init__.py": "",
    "exercises/engine.py": "def check(x):\n    return x\n",
}
CELL = (
    "from mamlkit import adapt\nfrom mamlkit.exercises.engine import check\n"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "PACKAGE", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def nb(package):
    nb = new_notebook(cells=[new_code_cell(CELL + "check(adapt(1))")])
    nb.metadata["mamlkit"] = {"helpers": helpers.stamp(nb)}
    assert helpers.changed(nb) == []
    return nb


def test_a_chapter_reaches_what_it_names_and_no_more(nb):
    wanted = [
        "mamlkit.checks:safe",
        "mamlkit.inner:RATE",
        "mamlkit.inner:adapt",
    ]
    assert list(helpers.helpers(nb)) == wanted


@pytest.mark.parametrize(
    ("file", "old", "new", "seen"),
    [
        ("inner.py", "RATE * ", "2 * RATE * ", ["inner:adapt"]),
        ("inner.py", "RATE = 0.1", "RATE = 0.2", ["inner:RATE"]),
        ("checks.py", "return x\ndef", "return -x\ndef", ["checks:safe"]),
        ("inner.py", "def adapt(x)", "def adapt(x, y=1)", ["inner:adapt"]),
        ("inner.py", "Old words.", "New words.", []),
        ("inner.py", "RATE = 0.1", "RATE = (0.1)  # why", []),
        ("inner.py", "(x):\n    return x", "(x):\n    return -x", []),
        ("checks.py", "other(x):\n    return x", "other(x):\n    return", []),
        ("exercises/engine.py", "return x", "return 1", []),
    ],
)  # fmt: skip
def test_a_change_that_matters_is_seen_and_no_other(
    package, nb, file, old, new, seen
):
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    assert helpers.changed(nb) == [f"mamlkit.{each}" for each in seen]


def test_a_module_counts_by_the_attributes_that_are_read(package, nb):
    nb.cells[0].source = "from mamlkit import checks\nchecks.other(1)"
    assert list(helpers.helpers(nb)) == ["mamlkit.checks:other"]
    nb.cells[0].source = "from mamlkit import checks as c\nprint(c)"
    wanted = ["mamlkit.checks:other", "mamlkit.checks:safe"]
    assert list(helpers.helpers(nb)) == wanted


def test_a_whole_package_counts_by_the_attributes_that_are_read(package, nb):
    reached = list(helpers.helpers(nb))
    nb.cells[0].source = "import mamlkit as mk\nprint(mk)\nmk.adapt(1)"
    assert list(helpers.helpers(nb)) == reached


def test_render_stale_lists_chapters_and_functions(
    package, nb, monkeypatch, capsys
):
    folder = package / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(chapters, "NOTEBOOKS", folder)
    nbformat.write(nb, folder / "03_try.ipynb")
    assert main(["render", "--stale"]) == 0
    assert "No helper code changed." in capsys.readouterr().out
    text = FILES["checks.py"].replace("return x", "return 3")
    (package / "checks.py").write_text(text)
    assert main(["render", "--stale", "3"]) == 1
    assert capsys.readouterr().out == "03_try: mamlkit.checks:safe\n"
