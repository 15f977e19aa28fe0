"""What a reader has done, kept in one small file beside their notebooks.

A notebook's kernel runs in the notebook's folder, so the file lies there. In
a checkout, whose notebooks are everybody's, it lies in Jupyter's data folder
instead, which `jupyter --data-dir` prints. So it is for who types answers at
a prompt. Where nobody can, as under papermill, nothing is read or written.
"""

import json
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from IPython import get_ipython
from IPython.display import display
from jupyter_core.paths import jupyter_data_dir

from mamlkit.paths import CHECKOUT, ROOT, alone, replacing

NAME = ".mamlkit_progress.json"
VERDICTS = ("passed", "wrong")


def somebody_is_there() -> bool:
    """Tell whether the running cell was sent by a page with a reader.

    A page can be asked for input; papermill and nbconvert cannot.
    """
    shell = get_ipython()
    if not hasattr(shell, "get_parent"):  # no notebook at all
        return False
    content = (shell.get_parent() or {}).get("content", {})
    return bool(content.get("allow_stdin"))


def remembers() -> bool:
    """Tell whether verdicts are kept: for a page's reader, or at a prompt."""
    at_a_prompt = hasattr(sys, "ps1") and on_a_terminal()
    return somebody_is_there() or at_a_prompt


def on_a_terminal() -> bool:
    """Tell whether there is no kernel: Python's or IPython's own window."""
    return not hasattr(get_ipython(), "get_parent")


def show_bundle(bundle: dict[str, str], **options) -> None:
    """Display one thing in several forms, and its text where no IPython is.

    Args:
        bundle: "text/plain" and others.
        **options: for IPython's `display`, as metadata.
    """
    if get_ipython() is None:
        print(bundle["text/plain"])
    else:
        display(bundle, raw=True, **options)


def progress_path(folder: Path | None = None) -> Path:
    """Where verdicts are kept for notebooks in a folder.

    Args:
        folder: of the notebooks; by default the current one.
    """
    folder = (folder or Path.cwd()).resolve()
    if CHECKOUT and folder.is_relative_to(ROOT):
        folder = Path(jupyter_data_dir())
    return folder / NAME


def read_verdicts(path: Path | None = None) -> dict[str, str]:
    """Read what was done.

    Args:
        path: the file; `progress_path()` by default.

    Returns:
        "passed" or "wrong" by exercise, as {"3.1": "passed"}; empty if there
        is no file.

    Raises:
        ValueError: the file is damaged.
        OSError: it is there, but cannot be read.
    """
    path = path or progress_path()
    try:
        verdicts = json.loads(path.read_text(encoding="utf-8"))["exercises"]
        sound = isinstance(verdicts, dict)
        if not sound or not {*verdicts.values()} <= {*VERDICTS}:
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged") from None
    return verdicts


def find_progress(folders: Sequence[Path]) -> list[Path]:
    """List the files of several folders that are there, each once."""
    paths = dict.fromkeys(progress_path(folder) for folder in folders)
    return [path for path in paths if path.exists()]


def together(paths: Sequence[Path]) -> dict[str, str]:
    """Join the verdicts of several files; a pass in one is a pass."""
    verdicts: dict[str, str] = {}
    for found in map(read_verdicts, paths):
        verdicts |= {
            key: verdict
            for key, verdict in found.items()
            if verdicts.get(key) != "passed"
        }
    return verdicts


def put_aside(path: Path) -> Path:
    """Give a damaged file a name that no other has; return it."""
    names = (f"{path.stem}.damaged{n or ''}.json" for n in count())
    aside = next(p for p in map(path.with_name, names) if not p.exists())
    path.replace(aside)
    return aside


def keep(key: str, verdict: str) -> None:
    """Remember a verdict, if there is a reader; a pass is never taken back.

    Whatever is wrong with the file is printed, not raised: a verdict must
    not be lost with it.
    """
    if not remembers():
        return
    path = progress_path()
    try:
        with alone(path):
            _keep(path, key, verdict)
    except OSError as fault:
        print(f"Not remembered: {fault.strerror}: {path}.")


def _keep(path: Path, key: str, verdict: str) -> None:
    try:
        verdicts = read_verdicts(path)
    except ValueError:
        aside = put_aside(path)
        print(f"The file of your progress was damaged; it is {aside} now.")
        verdicts = {}
    if verdicts.get(key) in ("passed", verdict):
        return
    text = json.dumps({"exercises": verdicts | {key: verdict}}, indent=1)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


def passed(key: str) -> bool:
    """Tell whether the reader has solved an exercise, now or earlier."""
    if not remembers():
        return False
    try:
        return read_verdicts().get(key) == "passed"
    except (OSError, ValueError):
        return False
