"""A tiny chapter, a browser, and which tests share a worker."""

import os
import re

import nbformat
import pytest
import torch
from browser import MISSING, chromium, find_browser
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from xdist.scheduler import LoadFileScheduling

# What runs side by side on two cores must not fight over them: kernels, by
# the variable, and this process, which has read it already.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))

# What `make quick` leaves out: what takes longest, and what runs chapters.
SLOW = {
    "test_calling",
    "test_episodes",
    "test_exercises",
    "test_faces",
    "test_game",
    "test_gradient",
    "test_implicit",
    "test_jobs",
    "test_kills",
    "test_mutants",
    "test_notebooks",
    "test_outer",
    "test_package",
    "test_packaging",
    "test_readers_answers",
    "test_render",
    "test_runner",
    "test_site",
}

TINY = {
    "title": "# Try a thing\n\nRead on: [top](#Try-a-thing).",
    "setup": """
from mamlkit.course.claims import claim, report_claims
from mamlkit.exercises import check
""",
    "parameters": 'SCALE = "laptop"\nSEED = 0\nRATE = 0.5',
    "copy-me": "# copy-me\ndef double(x):\n    return 2 * x",
    "work": "print('rate', RATE, 'seed', SEED, 'scale', SCALE)",
    "exercise": """
def one_step(params, loss_fn, batch, lr):
    raise NotImplementedError


check("3.1", one_step)
""",
    "claim": 'claim("Two is two.", double(1) == 2, "2", exact=True)',
    "loose": 'claim("The seed is small.", SEED < 2, SEED)',
    "last": "report_claims(SCALE)",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores: the browser's tests mostly wait."""
    return (os.cpu_count() or 1) + 1


class ByFile(LoadFileScheduling):
    """A file's tests share a worker; a half of the chapters in JupyterLab."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        chapter = re.search(r"test_browser_lab.*\[(\d\d)", nodeid)
        return f"{file}@{int(chapter[1]) % 2}" if chapter else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items):
    """Chapters first, whose kernels work while browsers wait; mark slow."""
    items.sort(key=lambda item: item.path.stem != "test_notebooks")
    for item in items:
        name = item.path.stem
        if name in SLOW or name.startswith(("test_browser", "test_reproduce")):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def make_chapter(tmp_path):
    """Write a small chapter; keyword arguments replace or drop its cells."""

    def make(name="03_try_a_thing", folder=tmp_path / "notebooks", **changes):
        cells = []
        for key, source in (TINY | changes).items():
            if source is None:
                continue
            new = new_markdown_cell if key == "title" else new_code_cell
            tags = {"setup", "parameters", "copy-me", "exercise"} & {key}
            meta = {"tags": [*tags]} if tags else {}
            cells.append(new(source.strip(), id=key, metadata=meta))
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return make


@pytest.fixture(scope="session")
def built_site(tmp_path_factory):
    """The folder of the whole site, built once, whoever asks for it first."""
    from chapters import CHAPTERS
    from filelock import FileLock

    from mamlkit.publish import site

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers
    with FileLock(shared / "site.lock"):
        if not (shared / "site" / "index.html").exists():
            site.build(CHAPTERS, shared / "site")
    return shared / "site"


@pytest.fixture(scope="module")
def browser():
    """A headless browser; a module's, as its event loop is in the way."""
    path = find_browser()
    if not path:
        # Where changes are judged, nothing is left out.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with chromium(path) as browser:
        yield browser
