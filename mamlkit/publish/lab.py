"""The learner's own copies: opened in JupyterLab, never overwritten.

`mamlkit lab` copies the chapters into a folder of the learner's and opens
them there. A later version of the course brings new chapters, and new
versions of those that the learner has not edited; what was edited is kept.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path

from mamlkit.course.chapters import find_chapters, read
from mamlkit.paths import replacing
from mamlkit.publish.runner import own_kernel

FOLDER = Path.home() / "mamlkit-course"
ROOT_FLAG = "--allow-root"
RECORD = ".copies.json"  # copy -> what its cells were when it was copied


def open_lab(
    names: Sequence[str] = (),
    folder: Path | None = None,
    flags: Sequence[str] = (),
) -> int:
    """Bring the copies up to date and open JupyterLab on one of them.

    Args:
        names: a chapter, as `find_chapters` takes it; the first by default.
        folder: of the copies; `FOLDER` by default.
        flags: for JupyterLab, as "--no-browser".

    Returns:
        JupyterLab's exit code.

    Raises:
        ValueError: there is no such chapter.
        OSError: the folder cannot be written.
    """
    # One's own copy, as completed by Tab, stands for its chapter.
    own = [Path(n).stem if Path(n).is_file() else n for n in names]
    wanted = find_chapters(own)[0]
    folder = (folder or FOLDER).expanduser().resolve()
    for line in copy_chapters(find_chapters(), folder):
        print(line)
    print(f"Your copies are in {folder}.", flush=True)
    if getattr(os, "geteuid", lambda: 1)() == 0 and ROOT_FLAG not in flags:
        print(f"As root JupyterLab asks for more: mamlkit lab -- {ROOT_FLAG}")
    with own_kernel():
        command = [sys.executable, "-m", "jupyterlab", folder / wanted.name]
        command += flags
        with subprocess.Popen(command, cwd=folder) as lab:
            while True:
                try:
                    return lab.wait()
                except KeyboardInterrupt:  # JupyterLab asks what was meant
                    continue


def copy_chapters(chapters: Sequence[Path], folder: Path) -> list[str]:
    """Copy chapters that are missing, or that nobody has edited.

    A chapter counts as edited when the source of a cell is no longer what was
    copied; outputs do not count. The new version of an edited one is put
    beside it, as `NAME.new.ipynb`, or `NAME.new2.ipynb` if that was edited.

    Args:
        chapters: of the course.
        folder: of the learner; made if need be.

    Returns:
        a line for each chapter that came or was kept; none when all is as
        it was.
    """
    record, said = _record(folder), []
    for chapter in chapters:
        own, shipped = folder / chapter.name, sources(chapter)
        if record.get(chapter.stem) == shipped and own.exists():
            continue
        if not own.exists():
            said.append(f"{chapter.stem}: copied")
        elif sources(own) in (record.get(chapter.stem), shipped):
            said.append(f"{chapter.stem}: a new version has come")
        else:
            own = _beside(own, record)
            record[own.name] = shipped
            said.append(f"{chapter.stem}: yours is kept, new is {own.name}")
        with replacing(own) as file:
            file.write(chapter.read_bytes())
        record[chapter.stem] = shipped
    if said:
        with replacing(folder / RECORD) as file:
            file.write(json.dumps(record, indent=1).encode())
    return said


def sources(notebook: Path) -> str:
    """Hash the source of all cells; a file that is no notebook is itself."""
    try:
        cells = [cell.source for cell in read(notebook).cells]
    except Exception:  # nbformat raises half a dozen kinds
        return sha256(notebook.read_bytes()).hexdigest()
    return sha256("\0".join(cells).encode()).hexdigest()


def _beside(own: Path, record: dict[str, str]) -> Path:
    """Name the file for a new version: one that nobody has edited."""
    names = (
        own.with_suffix(f".new{n if n > 1 else ''}.ipynb") for n in count(1)
    )
    return next(
        new
        for new in names
        if not new.exists() or sources(new) == record.get(new.name)
    )


def _record(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        # Without it every copy that differs counts as edited, and is kept.
        return {}
