"""The runner: execute chapters with papermill, headless.

`mamlkit run` and `mamlkit render` share `execute`. A chapter is a notebook
in `notebooks/`.
"""

import ast
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import papermill
from ipykernel.kernelspec import write_kernel_spec

from mamlkit.course.chapters import SCALES, declared_parameters, read
from mamlkit.paths import BUILD
from mamlkit.publish.report import Outcome, notes, table

# Seconds a single cell may take.
TIMEOUTS = dict(zip(SCALES, (600, 600, 4 * 3600)))


def parse_parameters(settings: Sequence[str]) -> dict[str, Any]:
    """Turn `["META_LR=0.002"]` into `{"META_LR": 0.002}`.

    Raises:
        ValueError: a setting is not NAME=VALUE with a Python literal.
    """
    parameters = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            if not name.isidentifier():
                raise ValueError
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"-p {setting}: give NAME=VALUE, where VALUE is a Python "
                "literal and strings are quoted, -p 'NAME=\"text\"'"
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
        declared = declared_parameters(read(path))
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
                language="python",
                cwd=out,
                progress_bar=sys.stderr.isatty(),
                execution_timeout=TIMEOUTS[parameters["SCALE"]],
            )
    except KeyboardInterrupt:
        # It takes the kernel too, and a task of papermill's would say so.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except Exception as fault:
        trace.write_text(traceback.format_exc(), encoding="utf-8")
        error = _one_line(fault)
    seconds = time.perf_counter() - start
    nb = read(executed if executed.exists() else path)
    said = notes(nb, "claims")[-1:] or [{}]
    return Outcome(
        path.stem,
        round(seconds, 1),
        said[0].get("peak_mb"),
        said[0].get("claims", []),
        error,
        executed,
    )


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
        ValueError: no such scale, or an undeclared parameter; nothing has
            run.
    """
    if scale not in SCALES:
        raise ValueError(f"no scale {scale!r}: there are {', '.join(SCALES)}")
    parameters = parameters or {}
    check_parameters(chapters, parameters)
    folder = Path(out or BUILD / "run").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = parameters | {"SCALE": scale, "SEED": seed}
    outcomes = []
    for number, path in enumerate(chapters, 1):
        head = f"[{number}/{len(chapters)}] {path.stem}"
        print(f"{head} ...", flush=True)
        outcomes.append(execute(path, folder, settings))
        done = outcomes[-1].error or "done"
        print(f"{head}: {outcomes[-1].seconds} s, {done}", flush=True)
    report = {
        "scale": scale,
        "seed": seed,
        "parameters": parameters,
        "chapters": [
            o._asdict() | {"notebook": str(o.notebook)} for o in outcomes
        ],
    }
    target = (folder if out else BUILD) / "report.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    # Last, as a console may refuse characters, or be gone.
    print(table(outcomes))
    return outcomes


def _one_line(fault: Exception) -> str:
    # papermill repeats the cell's traceback; its last line is the error.
    name = getattr(fault, "ename", type(fault).__name__)
    text = str(getattr(fault, "evalue", fault)).strip()
    return f"{name}: {text.splitlines()[0] if text else 'no message'}"
