import ast
import base64
import io
import re
from datetime import date

import nbformat
import pytest
import torch
from bs4 import BeautifulSoup
from chapters import CHAPTERS, calls, code_cells
from conftest import TINY
from nbconvert import HTMLExporter
from nbformat.v4 import new_output
from PIL import Image

from mamlkit.__main__ import main
from mamlkit.course import chapters
from mamlkit.publish import helpers, render, report

NOISY = """
import sys
from IPython.display import HTML, display
from tqdm.auto import tqdm
import ipywidgets

for _ in tqdm(range(2), desc="bar"):
    pass
print("100%|####| 2/2 [00:00<00:00, 99.0it/s]", file=sys.stderr)
print("one", flush=True)
print("two", flush=True)
display(HTML("<b>kept</b>"))
display(ipywidgets.IntSlider())
SCALE, SEED
"""


@pytest.fixture
def course(make_chapter, monkeypatch, tmp_path):
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(render, "BUILD", tmp_path / "build")
    return make_chapter


def test_render_keeps_what_a_reader_sees_and_nothing_else(course):
    path = course(work=NOISY)
    before = nbformat.read(path, 4)
    assert main(["render", "3"]) == 0
    first = path.read_bytes()
    nb = nbformat.read(path, 4)
    assert render.output_faults(nb, len(first)) == []
    made = nb.metadata["mamlkit"]
    assert made["torch"] == torch.__version__.split("+")[0]
    assert made["helpers"] == helpers.stamp(nb) != {}
    assert abs(date.fromisoformat(made["date"]) - date.today()).days < 2
    assert [c.source for c in nb.cells] == [c.source for c in before.cells]
    assert [c.id for c in nb.cells] == [c.id for c in before.cells]
    work = next(c for c in nb.cells if c.id == "work")
    stream, html, result = work.outputs
    assert stream.text == "one\ntwo\n" and stream.name == "stdout"
    assert html.data["text/html"] == "<b>kept</b>"
    assert result.data["text/plain"] == "('laptop', 0)"
    assert result.execution_count == work.execution_count == 4
    claims = report.notes(nb, "claims")[0]
    assert len(claims["claims"]) == 2 and "peak_mb" not in claims
    assert "not started" in str(report.notes(nb, "exercise"))
    assert main(["render", "3"]) == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('look out')", "stderr"),
        ("print(object())", "memory address"),
    ],
)
def test_fault_in_one_chapter_leaves_all_untouched(
    course, capsys, work, message
):
    light = dict.fromkeys(TINY, None) | {"parameters": TINY["parameters"]}
    names = {"03_try_a_thing": "print(1)", "04_try_more": work}
    paths = [course(n, **light | {"work": w}) for n, w in names.items()]
    before = [path.read_bytes() for path in paths]
    assert main(["render"]) == 2
    said = capsys.readouterr().err
    assert "04_try_more: " in said and message in said
    assert [path.read_bytes() for path in paths] == before


def test_failed_claim_is_not_rendered(course):
    path = course(loose='claim("Never.", False, "x")')
    before = path.read_bytes()
    assert main(["render", "3"]) == 2
    assert path.read_bytes() == before


PIXEL = io.BytesIO()
Image.new("1", (1, 1)).save(PIXEL, "PNG")
PNG = {"image/png": base64.b64encode(PIXEL.getvalue()).decode()}


@pytest.fixture
def clean(make_chapter):
    """A chapter whose outputs have no fault."""
    nb = nbformat.read(make_chapter(), 4)
    executed = nbformat.from_dict(nb)
    for cell in executed.cells:
        cell.outputs = [new_output("stream", text="fine\n")]
    render.take_outputs(nb, executed)
    assert render.output_faults(nb, 1) == []
    return nb


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (new_output("stream", name="stderr", text="x"), "stderr output"),
        (new_output("error"), "error output"),
        (new_output("display_data", PNG), "picture without alt"),
        (new_output("display_data", {"image/svg+xml": "<svg/>"}), "of type"),
        (
            new_output("display_data", {render._WIDGET: {}}),
            "vnd.jupyter.widget-view",
        ),
        (new_output("stream", text=" 50%|##  | 1/2"), "progress bar"),
        (new_output("stream", text="see /root/x"), "absolute path"),
        (new_output("stream", text="C:\\Users\\x"), "absolute path"),
        (new_output("stream", text=str(render.ROOT)), "absolute path"),
        (new_output("stream", text="<f at 0x7f01>"), "memory address"),
    ],
)
def test_output_that_must_not_be_committed_is_named(clean, output, fault):
    clean.cells[1].outputs = [output]
    assert fault in "\n".join(render.output_faults(clean, 1))


def test_picture_with_alt_and_a_web_address_are_fine(clean):
    meta = {"image/png": {"alt": "A point."}}
    clean.cells[1].outputs = [
        new_output("display_data", PNG, metadata=meta),
        new_output("stream", text="https://example.org/home/x 1/tmp/2"),
    ]
    assert render.output_faults(clean, 1) == []


def test_changed_code_makes_outputs_stale_and_prose_does_not(clean):
    clean.cells[0].source += "\nMore."
    assert render.output_faults(clean, 1) == []
    clean.cells[-1].source += "\n# more"
    assert "older than the code" in render.output_faults(clean, 1)[0]


def test_traces_of_papermill_and_size_are_named(clean):
    assert "more than" in render.output_faults(clean, 500_001)[0]
    clean.metadata["papermill"] = {}
    clean.cells[1].metadata["papermill"] = {}
    clean.cells[2].metadata["tags"] = ["injected-parameters"]
    clean.cells[3].execution_count = 1
    faults = "\n".join(render.output_faults(clean, 1))
    assert "notebook metadata ['papermill']" in faults
    assert "cell 1: metadata ['papermill']" in faults
    assert "cell 2 was injected by papermill" in faults
    assert "execution counts" in faults


def test_folds_follow_the_tags_and_nothing_else(clean):
    cell = clean.cells[1]
    cell.metadata = nbformat.from_dict(
        {"tags": ["hide-input", "hide-output"], "jupyter": {"x": 1}, "y": 2}
    )
    executed = nbformat.from_dict(clean)
    render.take_outputs(clean, executed)
    hidden = {"source_hidden": True, "outputs_hidden": True}
    assert cell.metadata.jupyter == hidden
    assert render.output_faults(clean, 1) == []
    cell.metadata.tags.remove("hide-output")
    fault = "cell 1: folded otherwise than its tags say"
    assert render.output_faults(clean, 1) == [fault]
    cell.metadata.jupyter.outputs_hidden = False
    assert render.output_faults(clean, 1) == [fault]
    del cell.metadata.jupyter["outputs_hidden"]
    assert render.output_faults(clean, 1) == []


def missing_pictures(nb):
    """Cells that draw but store no picture, or a widget's name instead."""
    faults = []
    for number, cell in enumerate(code_cells(nb)):
        data = [o.get("data", {}) for o in cell.outputs]
        drawn = sum("image/png" in kinds for kinds in data)
        top = "\n".join(
            ast.unparse(node)
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.Expr | ast.For)
        )
        if {"show", "explore"} & calls(top) and not drawn:
            faults.append(f"code cell {number} stores no picture")
        plain = " ".join(kinds.get("text/plain", "") for kinds in data)
        names = re.findall(r"\b(?:[HV]Box|HTML|Pad|Output|<Figure)\b", plain)
        if names:
            faults.append(f"code cell {number} shows {names}")
    return faults


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_pictures_are_seen_where_no_widget_lives(path):
    nb = nbformat.read(path, 4)
    assert not missing_pictures(nb)
    # And the test can fail.
    pictured = [
        cell for cell in code_cells(nb) if "explore" in calls(cell.source)
    ]
    for cell in pictured:
        cell.outputs = [
            new_output("display_data", {"text/plain": "VBox(children=())"})
        ]
    assert len(missing_pictures(nb)) == 2 * len(pictured)


def test_alt_text_gets_through_where_nbconvert_can_carry_it(clean):
    """Its `lab` template and JupyterLab itself, 4.6, write none at all."""
    meta = {"image/png": {"alt": 'A "finding" & more.'}}
    picture = new_output("display_data", PNG, metadata=meta)
    clean.cells[1].outputs = [picture]
    classic = HTMLExporter(template_name="classic")
    page, _ = classic.from_notebook_node(clean)
    (picture,) = BeautifulSoup(page, "html.parser").select("img")
    assert picture["alt"] == 'A "finding" & more.'
