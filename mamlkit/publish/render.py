"""The renderer: commit each chapter's outputs in a form that stays stable.

`mamlkit render` executes chapters at laptop scale, keeps what a reader sees
(text, tables, PNG with alt text) and writes it back into `notebooks/`, with
a hash of the code by which a test knows outputs that have gone stale, and
the torch and the date that a page names.
"""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode

from mamlkit.course.chapters import code_cells, code_hash, folds, read
from mamlkit.paths import BUILD, ROOT, replacing
from mamlkit.publish import helpers
from mamlkit.publish.report import failed
from mamlkit.publish.runner import execute

MAX_BYTES = 500_000
# Progress bars, in a notebook's stderr or printed by a widget's text.
_BAR = re.compile(r"\d+%\|.*\||\d+(\.\d+)?(it/s|s/it)")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_KEPT = {"image/png", "text/html", "text/markdown", "text/plain"}
_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|Users|tmp|private)/|[A-Z]:\\")
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")


def render(chapters: Sequence[Path]) -> None:
    """Execute chapters at laptop scale, seed 0, and store their outputs.

    Args:
        chapters: as `find_chapters` returns them; written in place.

    Raises:
        ValueError: a chapter failed, or its outputs cannot be committed;
            then not one of the chapters is written.
    """
    done = []
    for path in chapters:
        print(f"{path.stem} ...", flush=True)
        settings = {"SCALE": "laptop", "SEED": 0}
        outcome = execute(path, BUILD / "render", settings)
        if failed([outcome]):
            why = outcome.error or "a claim failed"
            raise ValueError(f"{path.stem}: {why}; none written")
        nb = read(path)
        try:
            take_outputs(nb, read(outcome.notebook))
        except ValueError as fault:
            raise ValueError(f"{path.stem}: {fault}; none written") from None
        text = nbformat.writes(nb).rstrip("\n") + "\n"
        faults = output_faults(nb, len(text.encode()))
        if faults:
            raise ValueError(f"{path.stem}: {faults[0]}; none written")
        print(f"{path.stem}: {outcome.seconds} s, {len(text) // 1000} kB")
        done.append((path, text))
    for path, text in done:
        with replacing(path) as file:
            file.write(text.encode())


def take_outputs(nb: NotebookNode, executed: NotebookNode) -> None:
    """Put the cleaned outputs of an executed copy into `nb`, by cell id.

    Only outputs are taken, so nothing that papermill injects or notes gets
    into the chapter.

    Args:
        nb: the chapter; its outputs, counts and metadata are replaced.
        executed: the notebook that papermill wrote.

    Raises:
        ValueError: the chapter writes to stderr.
    """
    outputs = {cell.id: cell.get("outputs", []) for cell in executed.cells}
    count = 0
    for cell in nb.cells:
        tags = cell.metadata.get("tags", [])
        kept = {"tags": tags} if tags else {}
        cell.metadata = nbformat.from_dict(kept | folds(tags))
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = _clean(outputs[cell.id], count)
    nb.metadata = NotebookNode(
        kernelspec={
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        language_info={"name": "python"},
        mamlkit={
            "code": code_hash(nb),
            "helpers": helpers.stamp(nb),
            "torch": torch.__version__.partition("+")[0],
            "date": f"{date.today():%Y-%m-%d}",
        },
    )


def stale(chapters: Sequence[Path]) -> list[str]:
    """List chapters whose helper code changed since they were rendered.

    Returns:
        a line a chapter: its name, and the definitions that differ.
    """
    found = {path.stem: helpers.changed(read(path)) for path in chapters}
    return [f"{k}: {', '.join(names)}" for k, names in found.items() if names]


def output_faults(nb: NotebookNode, size: int) -> list[str]:
    """List what keeps a chapter's outputs from being committed.

    Args:
        nb: a chapter with outputs.
        size: of its file, in bytes.

    Returns:
        one line a fault: stale outputs, counts other than 1..n, an error,
        stderr, a widget, a progress bar, an injected cell, a cell that is
        folded otherwise than its tags say, a path or an address of this
        machine, a picture without alt text, a file too big.
    """
    faults = []
    code = code_cells(nb)
    if nb.metadata.get("mamlkit", {}).get("code") != code_hash(nb):
        faults.append("outputs are older than the code: run `make render`")
    if [c.execution_count for c in code] != [*range(1, len(code) + 1)]:
        faults.append("execution counts are not 1, 2, 3, ...")
    if size > MAX_BYTES:
        faults.append(f"{size} bytes, more than {MAX_BYTES}")
    extra = nb.metadata.keys() - {"kernelspec", "language_info", "mamlkit"}
    if extra:
        faults.append(f"notebook metadata {sorted(extra)}")
    for number, cell in enumerate(nb.cells):
        extra = sorted(cell.metadata.keys() - {"tags", "jupyter"})
        if extra:
            faults.append(f"cell {number}: metadata {extra}")
        wanted = folds(cell.metadata.get("tags", [])).get("jupyter", {})
        if cell.metadata.get("jupyter", {}) != wanted:
            faults.append(f"cell {number}: folded otherwise than its tags say")
        if "injected-parameters" in cell.metadata.get("tags", []):
            faults.append(f"cell {number} was injected by papermill")
        for output in cell.get("outputs", []):
            faults += [
                f"cell {number}: {fault}" for fault in _faults_of(output)
            ]
    return faults


def _faults_of(output: NotebookNode) -> list[str]:
    faults = []
    if output.output_type == "error" or output.get("name") == "stderr":
        faults.append(f"{output.get('name', 'error')} output")
    data = output.get("data", {})
    if data.keys() - _KEPT:
        faults.append(f"output of type {sorted(data.keys() - _KEPT)}")
    meta = output.get("metadata", {})
    if "image/png" in data and not meta.get("image/png", {}).get("alt"):
        faults.append("picture without alt text: use show(fig, alt=...)")
    words = [output.get("text", ""), *output.get("traceback", [])]
    words += [text for kind, text in data.items() if kind != "image/png"]
    text = "\n".join(map(str, words))
    if _BAR.search(text):
        faults.append("progress bar")
    if _PATH.search(text) or str(ROOT) in text:
        faults.append("absolute path")
    if _ADDRESS.search(text):
        faults.append("memory address")
    return faults


def _clean(outputs: list[NotebookNode], count: int) -> list[NotebookNode]:
    cleaned = []
    for output in outputs:
        data = output.get("data", {})
        if _WIDGET in data:
            # A play brings its state as HTML; others are nothing unless live.
            if "text/html" not in data:
                continue
            del data[_WIDGET]
        if output.get("name") == "stderr":
            lines = re.split(r"[\r\n]+", output.text)
            rest = [s for s in lines if s.strip() and not _BAR.search(s)]
            if rest:
                raise ValueError(f"writes to stderr: {rest[0]!r}")
            continue
        if "execution_count" in output:
            output.execution_count = count
        # Differs from run to run, and the report has it.
        output.get("metadata", {}).get("mamlkit", {}).pop("peak_mb", None)
        last = cleaned[-1] if cleaned else {}
        if output.output_type == last.get("output_type") == "stream":
            # How prints are cut into messages depends on timing.
            last["text"] += output.text
        else:
            cleaned.append(output)
    return cleaned
