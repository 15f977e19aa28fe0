"""Every chapter through papermill, and in its form.

With seed 1, every cell executed twice in a row (an exercise as it stands, and
then solved; what takes over a fifth of a second, once), elsewhere, without
network. With seed 0, and nothing solved, some run in JupyterLab
(test_browser_lab.py).
"""

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import nbformat
import pytest
from chapters import (
    CHAPTERS,
    NO_NETWORK,
    code_cells,
    copy_me_faults,
    definitions,
    earlier_cells,
    form_faults,
    plain,
    solve,
    tagged,
    with_needs,
)
from papermill.execute import execute_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mamlkit.exercises import find_exercise
from mamlkit.paths import ROOT
from mamlkit.publish.render import output_faults
from mamlkit.publish.report import notes

each_chapter = pytest.mark.parametrize(
    "path", CHAPTERS, ids=[p.stem for p in CHAPTERS]
)


# A magic, `%%again`: run this, if the cell before took under a fifth of a
# second, as few do that draw.
AGAIN = """
def make_again():
    import os

    shell, clock = get_ipython(), {"begun": 0.0, "took": 0.0}

    def now():
        return sum(os.times()[:4])  # unlike the clock, blind to neighbours

    def begin(*_):
        clock["begun"] = now()

    def end(*_):
        clock["took"] = now() - clock["begun"]

    def again(_, source):
        if clock["took"] < 0.2:
            shell.run_cell(source).raise_error()

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)
    shell.register_magic_function(again, "cell")


make_again()
del make_again
"""
# No title of a figure may be cut off at its edge.
UNCUT = """
def refuse_cut_titles():
    from matplotlib.figure import Figure

    save = Figure.savefig

    def savefig(fig, *args, dpi, **options):
        dpi = 50  # a fifteenth of the dots, as nobody looks
        save(fig, *args, dpi=dpi, **options)
        for ax in fig.axes:
            for title in (ax.title, ax._left_title, ax._right_title):
                box = title.get_window_extent(dpi=dpi)
                inside = -1 <= box.x0 and box.x1 <= dpi * fig.get_figwidth()
                assert inside or not title.get_text(), title.get_text()

    Figure.savefig = savefig


refuse_cut_titles()
del refuse_cut_titles
"""


# What the kernel worked; unlike the clock, blind to neighbours.
WORKED = "import os\nprint(sum(os.times()[:4]))"


def execute(path, folder):
    """Run a chapter as said above; return (notebook, CPU seconds)."""
    nb = load_notebook_node(str(path))
    for cell in tagged(nb, "exercise"):
        (key,) = exercise_keys(cell.source)
        cell.metadata["solved"] = solve(cell.source, find_exercise(key).code)
    # Before doubling: a second parameters cell would undo the injected one.
    settings = {"SCALE": "ci", "SEED": 1}
    nb = parameterize_notebook(nb, settings, kernel_name="python3")
    sources = [AGAIN, UNCUT]
    for cell in code_cells(nb):
        once_more = f"%%again\n{cell.source}"
        sources += cell.source, cell.metadata.get("solved", once_more)
    nb.cells = [*map(nbformat.v4.new_code_cell, [*sources, WORKED])]
    source = folder / f"doubled_{path.name}"
    nbformat.write(nb, source)
    done = execute_notebook(
        source, folder / path.name, progress_bar=False, execution_timeout=300
    )
    return done, float(done.cells.pop().outputs[0].text)


def exercise_keys(source):
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "check"
    ]


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """Start the chapters that the selected tests need, two at a time."""
    wanted = dict.fromkeys(
        item.callspec.params["path"]
        for item in request.session.items
        if "executed" in getattr(item, "fixturenames", ())
    )
    folder, pool = tmp_path_factory.mktemp("elsewhere"), ThreadPoolExecutor(2)
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # of the kernels, as is
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        yield {path: pool.submit(execute, path, folder) for path in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def executed(runs, path):
    return runs[path].result()


def assert_complete(nb):
    """Every cell ran, nothing warned, and no claim failed."""
    for cell in code_cells(nb):
        assert cell.execution_count, cell.source
        for output in cell.outputs:
            text = output.get("text", "")
            assert output.output_type != "error"
            assert output.get("name") != "stderr" or "Warning" not in text
    claims = notes(nb, "claims")
    assert claims and claims[-1]["claims"]
    assert (claims[-1]["peak_mb"] or 0) < 1500  # Windows does not tell
    verdicts = {claim["verdict"] for claim in claims[-1]["claims"]}
    assert verdicts <= {"held", "not judged"}


@each_chapter
def test_chapter_runs_unsolved_and_solved_elsewhere_and_offline(
    path, executed
):
    nb, cpu_seconds = executed
    assert_complete(nb)
    exercises = notes(nb, "exercise")
    keys = [
        key
        for cell in code_cells(nb)
        if not cell.source.startswith("%%again")
        for key in exercise_keys(cell.source)
    ]
    assert keys and [e["exercise"] for e in exercises] == keys
    verdicts = [e["verdict"] for e in exercises]
    assert verdicts == ["not started", "passed"] * (len(keys) // 2)
    print(f"{path.stem}: {cpu_seconds:.1f} CPU seconds")
    assert cpu_seconds < 60


def refuse(faults):
    """Fail and show every fault."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@each_chapter
def test_chapter_keeps_the_form(path):
    refuse(form_faults(path))


@each_chapter
def test_committed_outputs_are_fresh_and_clean(path):
    nb = nbformat.read(path, 4)
    refuse(output_faults(nb, path.stat().st_size))


@pytest.fixture(scope="session")
def shipped():
    """All definitions of mamlkit's modules, by name."""
    found = {}
    for module in (ROOT / "mamlkit").rglob("*.py"):
        for name, node in definitions(module.read_text()).items():
            found.setdefault(name, []).append(node)
    return found


@each_chapter
def test_cells_to_copy_are_what_mamlkit_ships(path, shipped):
    nb = nbformat.read(path, 4)
    refuse(copy_me_faults(nb, shipped, earlier_cells(path)))


@pytest.fixture(scope="module")
def stumbled(tmp_path_factory):
    """What went wrong in a chapter's cells to copy, by its name."""
    programs = {}
    for path in CHAPTERS:
        nb, earlier = nbformat.read(path, 4), earlier_cells(path)
        cells = tagged(nb, "copy-me")
        for n, source in enumerate(with_needs(nb, c, earlier) for c in cells):
            programs[f"{path.stem}_{n}"] = source
    return run_alone(programs, tmp_path_factory.mktemp("alone"))


@each_chapter
def test_cells_to_copy_run_alone(path, stumbled):
    refuse([e for name, e in stumbled.items() if path.stem in name])


ALONE = """
import json, pathlib, runpy, sys, traceback

sys.modules["mamlkit"] = None
stumbled = {}
for path in sorted(pathlib.Path().glob("*.py")):
    try:
        runpy.run_path(str(path))
    except Exception:
        stumbled[path.stem] = traceback.format_exc()
print()
print(json.dumps(stumbled))
"""


def run_alone(programs, folder):
    """Run each, by name, where mamlkit cannot be imported.

    Return what was raised, by name.
    """
    for name, source in programs.items():
        (folder / f"{name}.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_of_maml_on_one_screen_runs_alone(tmp_path):
    (path,) = [p for p in CHAPTERS if p.name.startswith("00_")]
    cells = nbformat.read(path, 4).cells
    program = [c.source for c in cells if c.id in ("maml-1", "maml-2")]
    lines = [line for line in "\n".join(program).splitlines() if line.strip()]
    assert len(program) == 2 and len(lines) <= 25
    program = "\n".join(["SEED = 0", *program])
    refuse(run_alone({"maml": program}, tmp_path).values())


def test_there_are_chapters_and_each_number_is_used_once():
    numbers = [path.name[:2] for path in CHAPTERS]
    assert numbers and all(a < b for a, b in pairwise(numbers))


# The rules themselves, on a tiny chapter that breaks one at a time.


LONG = "\n".join(f"a{i} = {i}" for i in range(16))


@pytest.mark.parametrize(
    ("cell", "source", "fault"),
    [
        ("title", "Try.", "there must be one title"),
        ("title", "# A\n\n# B", "there must be one title"),
        ("title", "# A\n\n[x](gone.ipynb)", "link to gone.ipynb"),
        ("title", "# A\n\n[x](#gone)", "link to #gone"),
        ("title", "# A\n" + "word " * 3500, "3502 words"),
        ("setup", None, "1 cell tagged setup"),
        ("parameters", None, "got 0"),
        ("parameters", "SCALE = 'laptop'\nSEED = 1", "SEED = 0"),
        ("parameters", "SCALE = 'laptop'\nSEED = int('0')", "literals only"),
        ("claim", "x = 1", "no claim()"),
        ("exercise", "x = 1", "no check()"),
        ("last", "x = 1", "report_claims"),
        ("work", LONG, "more than 15 lines"),
        ("work", "x = '" + "a" * 74 + "'", "wider than 79"),
        ("copy-me", "# copy-me\n" + LONG + "\n" + LONG, "than 25 lines"),
    ],
)
def test_form_names_the_fault(make_chapter, cell, source, fault):
    changes = {"loose": None} if cell == "claim" else {}
    path = make_chapter(**changes | {cell: source})
    assert [f for f in form_faults(path) if fault in f]


def test_form_allows_copied_cells_more_lines(make_chapter):
    path = make_chapter(**{"copy-me": "# copy-me\n" + LONG})
    assert not [fault for fault in form_faults(path) if "lines" in fault]


def test_form_wants_a_number_and_a_verb(make_chapter):
    assert "file name" in form_faults(make_chapter("3-Things"))[0]


FOLDED = {"tags": ["hide-input"]}
SHUT = {"tags": ["hide-input", "hide-output"]}


@pytest.fixture
def new_form(make_chapter):
    """A chapter in the new form, to be broken; returns what is at fault."""
    path = make_chapter()
    nb = nbformat.read(path, 4)
    by_id = {cell.id: cell for cell in nb.cells}
    by_id["setup"].source = "# Imports\n" + by_id["setup"].source
    by_id["setup"].metadata.tags.append("hide-input")
    for key in ("claim", "loose"):
        by_id[key].source = "# A claim\n" + by_id[key].source
        by_id[key].metadata = nbformat.from_dict(SHUT)
    asked = [
        ("ask", '# Question\npredict("3a", "?", ["x", "y"])', FOLDED),
        ("shown", "# Answer\nprint(1)", SHUT),
        ("told", 'reveal("3a", 0)', {}),
    ]
    at = nb.cells.index(by_id["exercise"])
    nb.cells[at:at] = [
        nbformat.v4.new_code_cell(source, id=key, metadata=metadata)
        for key, source, metadata in asked
    ]
    by_id["last"].source = "predictions()\n" + by_id["last"].source

    def faults(edit=lambda cells: None):
        copy = nbformat.from_dict(nb)
        edit({cell.id: cell for cell in copy.cells})
        nbformat.write(copy, path)
        return form_faults(path)

    return faults


def read_by_a_function(*sources):
    """Replace what a chapter shows by cells that come one after another."""

    def edit(cells):
        for key, source in zip(("work", "copy-me", "loose"), sources):
            cells[key].source = source

    return edit


OWN = "def f():\n    return [a for _ in b]"


@pytest.mark.parametrize(
    ("sources", "faults"),
    [
        (("a = b = 1", OWN, "a = 2"), 1),
        (("a = b = 1", OWN, "for b in range(2): a = 2"), 2),
        (("a = b = 1", "g = lambda: a", "def a(): pass"), 1),
        (("a = b = 1", OWN, "a += 2"), 0),
        (("a = b = 1", OWN, "from math import e as a"), 0),
        (("a = b = 1", OWN, "print([a for a in (1, 2)])"), 0),
        (("a = b = 1", "c = max((1,), key=lambda i: a)", "a = 2"), 0),
        (("b = 1", OWN, "a = 2"), 0),
        (("a = b = 1", "c = [a for _ in (1, 2)]", "a = 2"), 0),
    ],
)
def test_no_name_that_a_function_reads_changes(new_form, sources, faults):
    found = new_form(read_by_a_function(*sources))
    assert len([f for f in found if "another value" in f]) == faults, found


def test_new_form_has_no_fault(new_form):
    assert new_form() == []


def set_source(key, source):
    return lambda cells: cells[key].update(source=source)


def set_tags(key, *tags):
    return lambda cells: cells[key].metadata.update(tags=[*tags])


def too_wide(cells):
    meta = {"image/png": {"width": 701}}
    picture = nbformat.v4.new_output("display_data", metadata=meta)
    cells["work"].outputs.append(picture)


def too_many_lines(cells):
    cells["copy-me"].source += "\n" + "x = 1\n" * 196


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (set_tags("claim"), "(claim) must be tagged hide-input"),
        (set_source("work", "show(1)"), "(show) must be tagged hide-input"),
        (set_source("work", "SIZES = {}[SCALE]"), "(SIZES) must be tagged"),
        (set_source("ask", 'predict("3a", "?", [])'), "must be a comment"),
        (set_source("work", 'f(size=9); g("x")'), "type of 9 points"),
        (set_source("work", 'style = {"fontsize": 8}'), "type of 8 points"),
        (too_wide, "a picture of 701 points"),
        (too_many_lines, "open code lines, more than 195"),
        (set_source("title", "# A\n" + "word " * 3000), "3002 words"),
        (set_source("title", "# A\n\nAbout 46 minutes"), "46 minutes"),
        (set_source("title", "# A\n\nPredict, then run."), "guards nothing"),
        (set_source("told", "x = 1"), "predict('3a') is never revealed"),
        (
            set_source("ask", '# Q\npredict("4a", "?", [])'),
            "predict('4a'): the key is not like '3a'",
        ),
        (
            set_source("ask", '# Q\npredict("3a", "?", [], cells=2)'),
            "code cell 2 below it",
        ),
        (set_tags("shown", "hide-input"), "code cell 1 below it"),
        (set_tags("shown", "hide-output"), "tagged hide-output alone"),
        (set_tags("told", *SHUT["tags"]), "no predict() guards it"),
        (
            set_source("told", 'reveal("3a", 0, "")\nclaim("It is.", True)'),
            "a claim tells the answer",
        ),
        (set_source("last", "report_claims(SCALE)"), "count predictions()"),
        (
            set_source("work", 'predict("3a", "?", [])'),
            "two predictions have one key",
        ),
    ],
)
def test_new_form_names_the_fault(new_form, edit, fault):
    faults = new_form(edit)
    assert [f for f in faults if fault in f], faults


def test_a_heading_ends_what_a_prediction_guards(new_form):
    def edit(cells):
        cells["shown"].update(cell_type="markdown", source="## Next")
        cells["told"].metadata.tags = SHUT["tags"]

    assert "in the same section" in "\n".join(new_form(edit))


def test_what_a_prediction_passes_over_must_show_nothing(new_form):
    def edit(cells):
        cells["ask"].source = cells["ask"].source[:-1] + ", cells=2)"
        cells["told"].metadata.tags = SHUT["tags"]
        cells["told"].source = "# Answer\n" + cells["told"].source
        cells["shown"].metadata.tags = []

    assert new_form(edit) == []

    def show(cells):
        edit(cells)
        cells["shown"].outputs = [nbformat.v4.new_output("stream", text="1")]

    assert "is guarded: tag it hide-output" in new_form(show)[0]


SHIPPED = """
def double(x: int) -> int:
    \"\"\"Twice x.\"\"\"
    _check(x)
    return 2 * x
"""


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("# copy-me\ndef double(x):\n    return 2 * x", ""),
        ("# copy-me\ndef double(x):\n    return x * 2", "not what mamlkit"),
        ("# copy-me\ndef double(x=1):\n    return 2 * x", "not what mamlkit"),
        ("# copy-me\ndef other(x):\n    return 2 * x", "not what mamlkit"),
        ("def double(x):\n    return 2 * x", "first line"),
        ("# copy-me\nx = 1", "nothing to copy"),
        (
            "# copy-me; needs: other\ndef double(x):\n    return 2 * x",
            "needs other, which comes later",
        ),
    ],
)
def test_copied_cell_must_be_the_shipped_function(make_chapter, source, fault):
    nb = nbformat.read(make_chapter(**{"copy-me": source}), 4)
    shipped = {k: [v] for k, v in definitions(SHIPPED).items()}
    faults = copy_me_faults(nb, shipped)
    assert any(fault in f for f in faults) if fault else faults == []


def test_only_checks_may_be_left_out_of_a_copy():
    bare, checked, doubled = (
        definitions(f"def f(x):\n    {line}return x")["f"]
        for line in ("", "_check_it(x)\n    ", "_double_it(x)\n    ")
    )
    assert plain(bare) == plain(checked) != plain(doubled)


def test_field_names_count_and_their_types_do_not():
    one, other = (
        definitions(f"class Batch(NamedTuple):\n    {field}")["Batch"]
        for field in ("x: Tensor", "x: object")
    )
    third = definitions("class Batch(NamedTuple):\n    y: Tensor")["Batch"]
    assert plain(one) == plain(other) != plain(third)


def test_copied_cells_come_with_what_they_need(make_chapter, tmp_path):
    nb = nbformat.read(make_chapter(), 4)
    needy = "# copy-me; needs: double\ndouble(double(1))"
    cell = nbformat.v4.new_code_cell(needy, metadata={"tags": ["copy-me"]})
    nb.cells.append(cell)
    programs = {
        "whole": with_needs(nb, cell),
        "bare": cell.source,
        "tied": "import mamlkit",
    }
    stumbled = run_alone(programs, tmp_path)
    assert {*stumbled} == {"bare", "tied"}
    assert "NameError" in stumbled["bare"] and "mamlkit" in stumbled["tied"]


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org"])
def test_offline_means_offline(tmp_path, host):
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    code = f"import socket; socket.create_connection(({host!r}, 80), 2)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert f"no network in this test: {host}" in done.stderr
