"""Where files lie, and how one is written whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PACKAGE = Path(__file__).resolve().parent
#: The folder of the checkout.
ROOT = _PACKAGE.parent
NOTEBOOKS = ROOT / "notebooks"
# In a checkout, what chapters read lies beside the package; an installed
# package brings it along inside.
CHECKOUT = NOTEBOOKS.is_dir()
DATA = ROOT / "data" if CHECKOUT else _PACKAGE / "data"
#: What `mamlkit reproduce` measured, one JSON file an experiment.
RESULTS = DATA / "results"
#: The parameters that those experiments ended with.
CHECKPOINTS = DATA / "checkpoints"
# Downloads; where torch keeps its own, too.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = CACHE / "mamlkit"
BUILD = (ROOT if CHECKOUT else Path.cwd()) / "build"


@contextmanager
def replacing(path: str | Path) -> Generator[IO[bytes], None, None]:
    """Open a file that takes the place of `path` once it is written.

    A crash leaves the old file or the new one, and no parts; two processes
    do not write into each other's.

    Args:
        path: file to write; its folder is made if need be.

    Yields:
        a file, open for writing bytes.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
