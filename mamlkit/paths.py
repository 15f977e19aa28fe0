"""Where files lie, and how one is written whole or not at all."""

import errno
import glob
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

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

    A crash leaves the old file or the new one; two processes do not write
    into each other's. The part that a killed process had written goes when
    the file is written next.

    Args:
        path: file to write; its folder is made if need be.

    Yields:
        a file, open for writing bytes.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        if _writer_is_gone(part, path):
            part.unlink(missing_ok=True)
    writer = f"{platform.node()}-{os.getpid()}"
    partial = path.with_name(f"{path.name}.{writer}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _writer_is_gone(part: Path, path: Path) -> bool:
    """Tell whether nobody goes on writing a part of `path`."""
    with suppress(FileNotFoundError):
        if time.time() - part.stat().st_mtime > 3600:
            return True
    writer = part.name[len(path.name) + 1 : -len(".partial")]
    node, _, pid = writer.rpartition("-")
    # On Windows a signal to ask by would end the process.
    if os.name != "posix" or node != platform.node() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and alive
        pass
    return False


@contextmanager
def alone(path: Path) -> Generator[None, None, None]:
    """Read and write a file while no other process does.

    Args:
        path: the file; the lock is a file of its own, among the temporary
            ones.

    Raises:
        OSError: somebody else has kept the lock for ten seconds.
    """
    whose = f"{Path.home()} {Path(path).resolve()}".encode()
    name = f"mamlkit-{hashlib.sha256(whose).hexdigest()[:16]}.lock"
    lock = FileLock(Path(tempfile.gettempdir()) / name, timeout=10)
    try:
        lock.acquire()
    except Timeout:
        busy = "another process has kept it for ten seconds"
        raise OSError(errno.EAGAIN, busy, str(path)) from None
    try:
        yield
    finally:
        lock.release()
