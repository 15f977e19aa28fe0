"""The runner: execute chapters with papermill, report what they claim.

`mamlkit run` and `mamlkit render` share `execute`. A chapter is a notebook
in `notebooks/`; what it claims is in the metadata of its last output, put
there by `mamlkit.claims`.
"""

import ast
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import nbformat
import papermill
from ipykernel.kernelspec import write_kernel_spec

from mamlkit.paths import BUILD, NOTEBOOKS

# Seconds a single cell may take.
TIMEOUTS = {"ci": 60, "laptop": 600, "paper": 4 * 3600}
VERDICTS = ("held", "failed", "not judged")


class Outcome(NamedTuple):
    """What came of one chapter.

    Attributes:
        chapter: file name without ending.
        seconds: from starting the kernel to its end.
        peak_mb: most memory the kernel held, or None if it never said.
        claims: dicts with `text`, `verdict` and `measured`.
        error: one line, empty if the chapter ran to its end.
        notebook: the executed notebook, also after an error.
    """

    chapter: str
    seconds: float
    peak_mb: float | None
    claims: list[dict[str, str]]
    error: str
    notebook: Path


def find_chapters(
    names: Sequence[str] = (), folder: Path = NOTEBOOKS
) -> list[Path]:
    """Find chapters by number, file stem or path; all of them by default.

    Raises:
        ValueError: there is no such chapter, or no chapter at all.
    """
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise ValueError(f"no chapters in {folder}: run from a checkout")
    found = []
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [p for p in paths if stem == p.stem]
        if stem.isdecimal():
            matches = [p for p in paths if int(stem) == int(p.name[:2])]
        if not matches:
            known = ", ".join(p.name[:2] for p in paths)
            raise ValueError(f"no chapter {name!r}: there are {known}")
        found += matches
    return sorted(set(found)) or paths


def parse_parameters(settings: Sequence[str]) -> dict[str, Any]:
    """Turn `["META_LR=0.002"]` into `{"META_LR": 0.002}`.

    Raises:
        ValueError: a setting is not NAME=VALUE with a Python literal.
    """
    parameters = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"-p {setting}: give NAME=VALUE, where VALUE is a Python "
                "literal and strings are quoted, -p 'NAME=\"text\"'"
            ) from None
    return parameters


def declared_parameters(nb: nbformat.NotebookNode) -> dict[str, Any]:
    """Read the literals of a chapter's `parameters` cell.

    Raises:
        ValueError: there is not exactly one such cell, or it holds anything
            but assignments of literals.
    """
    cells = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(
            f"expected 1 cell tagged parameters, got {len(cells)}"
        )
    parameters = {}
    for node in ast.parse(cells[0].source).body:
        try:
            (target,) = node.targets
            parameters[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            raise ValueError(
                "the parameters cell must assign literals only, got "
                f"{ast.unparse(node)!r}"
            ) from None
    return parameters


def check_parameters(chapters: Sequence[Path], parameters: dict) -> None:
    """Refuse parameters that a chapter does not declare.

    Raises:
        ValueError: papermill would only warn, and run all the same.
    """
    for name in ("SCALE", "SEED"):
        if name in parameters:
            raise ValueError(f"{name} has its own flag: --{name.lower()}")
    for path in chapters:
        declared = declared_parameters(nbformat.read(path, 4))
        unknown = [name for name in parameters if name not in declared]
        if unknown:
            raise ValueError(
                f"{path.stem} has no parameter {', '.join(unknown)}: it "
                f"declares {', '.join(declared)}"
            )


@contextmanager
def own_kernel() -> Iterator[None]:
    """Make the kernel name python3 mean this very Python.

    Another installation's kernel of the same name may come first.
    """
    before = os.environ.get("JUPYTER_PATH")
    with TemporaryDirectory() as folder:
        write_kernel_spec(
            Path(folder, "kernels", "python3"),
            # Spares the reader a warning about unencrypted local sockets.
            extra_arguments=["--log-level=ERROR"],
        )
        others = [before] if before else []
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *others])
        try:
            yield
        finally:
            del os.environ["JUPYTER_PATH"]
            if before:
                os.environ["JUPYTER_PATH"] = before


def execute(path: Path, out: Path, parameters: dict[str, Any]) -> Outcome:
    """Execute one chapter; the kernel starts in the folder `out`.

    Args:
        path: the chapter; not modified.
        out: folder that receives the executed notebook and, after an error,
            its traceback as a text file.
        parameters: must have `SCALE`, which sets the timeout of a cell.

    Returns:
        the outcome; an error inside the chapter is reported, not raised.
    """
    out.mkdir(parents=True, exist_ok=True)
    executed, trace = out / path.name, out / f"{path.stem}.traceback.txt"
    trace.unlink(missing_ok=True)
    start, error = time.perf_counter(), ""
    try:
        with own_kernel():
            papermill.execute_notebook(
                path,
                executed,
                parameters,
                kernel_name="python3",
                cwd=out,
                progress_bar=sys.stderr.isatty(),
                execution_timeout=TIMEOUTS[parameters["SCALE"]],
            )
    except Exception as fault:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback.format_exc())
        trace.write_text(plain)
        error = _one_line(fault)
    seconds = time.perf_counter() - start
    nb = nbformat.read(executed if executed.exists() else path, 4)
    said = notes(nb, "claims")[-1:] or [{}]
    return Outcome(
        path.stem,
        round(seconds, 1),
        said[0].get("peak_mb"),
        said[0].get("claims", []),
        error,
        executed,
    )


def notes(nb: nbformat.NotebookNode, kind: str) -> list[dict[str, Any]]:
    """Collect what `mamlkit` noted in outputs: `claims` or `exercise`."""
    found = [
        output.get("metadata", {}).get("mamlkit", {})
        for cell in nb.cells
        for output in cell.get("outputs", [])
    ]
    return [note for note in found if kind in note]


def run(
    chapters: Sequence[Path],
    *,
    scale: str = "laptop",
    seed: int = 0,
    parameters: dict[str, Any] | None = None,
    out: Path | None = None,
) -> list[Outcome]:
    """Execute chapters one after the other, print a table, write report.json.

    Args:
        chapters: as `find_chapters` returns them.
        scale: "ci", "laptop" or "paper".
        seed: the chapters' SEED.
        parameters: further parameters, declared by every chapter.
        out: folder for executed notebooks and the report; by default
            `build/run/`, with the report in `build/`.

    Raises:
        ValueError: an undeclared parameter; nothing has run.
    """
    parameters = parameters or {}
    check_parameters(chapters, parameters)
    folder = Path(out or BUILD / "run").resolve()
    settings = parameters | {"SCALE": scale, "SEED": seed}
    outcomes = []
    for number, path in enumerate(chapters, 1):
        head = f"[{number}/{len(chapters)}] {path.stem}"
        print(f"{head} ...", flush=True)
        outcomes.append(execute(path, folder, settings))
        done = outcomes[-1].error or "done"
        print(f"{head}: {outcomes[-1].seconds} s, {done}", flush=True)
    print(table(outcomes))
    report = {
        "scale": scale,
        "seed": seed,
        "parameters": parameters,
        "chapters": [
            o._asdict() | {"notebook": str(o.notebook)} for o in outcomes
        ],
    }
    target = (folder if out else BUILD) / "report.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out outcomes as text: a line a chapter, then a line a claim."""
    width = max(len(o.chapter) for o in outcomes)
    head = "seconds  peak MB  " + "  ".join(VERDICTS)
    lines = ["", f"{'chapter':{width}}  {head}"]
    for o in outcomes:
        peak = "-" if o.peak_mb is None else f"{o.peak_mb:.0f}"
        verdicts = [c["verdict"] for c in o.claims]
        counts = "  ".join(f"{verdicts.count(v):{len(v)}}" for v in VERDICTS)
        lines.append(
            f"{o.chapter:{width}}  {o.seconds:7.1f}  {peak:>7}  {counts}"
        )
    for o in outcomes:
        lines += ["", o.chapter]
        lines += [
            f"  {c['verdict']:10}  {c['text']} Measured: {c['measured']}"
            for c in o.claims
        ]
        if o.error:
            lines.append(f"  error       {o.error} See {o.notebook}")
    return "\n".join(lines)


def claims_table(by_seed: dict[int, Sequence[Outcome]]) -> str:
    """Lay out every claim with its verdict and measurement for each seed."""
    lines = []
    for number, first in enumerate(by_seed[0]):
        lines += ["", first.chapter]
        columns = {seed: o[number].claims for seed, o in by_seed.items()}
        texts = [c["text"] for claims in columns.values() for c in claims]
        for text in dict.fromkeys(texts):
            lines.append(f"  {text}")
            for seed, claims in columns.items():
                found = [c for c in claims if c["text"] == text]
                said = found[0] if found else {"verdict": "not reached"}
                measured = said.get("measured", "")
                lines.append(
                    f"    seed {seed}  {said['verdict']:11}  {measured}"
                )
    return "\n".join(lines)


def failed(outcomes: Sequence[Outcome]) -> bool:
    """Say whether any chapter stopped or any claim failed."""
    return any(
        o.error or "failed" in [c["verdict"] for c in o.claims]
        for o in outcomes
    )


def _one_line(fault: Exception) -> str:
    # papermill repeats the cell's traceback; its last line is the error.
    name = getattr(fault, "ename", type(fault).__name__)
    text = str(getattr(fault, "evalue", fault)).strip()
    return f"{name}: {text.splitlines()[0] if text else 'no message'}"
