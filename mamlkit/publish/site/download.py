"""Copies of chapters that open anywhere: in a hosted notebook, too."""

import copy
import re

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

# Where nothing says where the course lies, it cannot be installed from there.
_NOWHERE = """\
# Elsewhere than in a checkout of the course, install it first.
try:
    import mamlkit.course
except ImportError as missing:
    raise ImportError(
        f"this chapter needs {missing.name}: install mamlkit[course] from "
        "your copy of the course, with pip, and restart the kernel"
    ) from None"""
# pip leaves alone what satisfies a requirement, and the constraint lets it
# rather fail than replace the torch that fits the host's hardware.
_INSTALL = """\
# In a hosted notebook: install what is missing, and keep the host's torch.
try:
    import mamlkit.course
except ImportError:
    import subprocess
    import sys
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path
    from tempfile import mkdtemp

    keep = Path(mkdtemp()) / "keep.txt"
    try:
        keep.write_text(f"torch=={version('torch')}")
    except PackageNotFoundError:
        keep.touch()
    course = "mamlkit[course] @ git+REPOSITORY"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", str(keep)]
    subprocess.run([*pip, course], check=True)"""


def hosted(nb: NotebookNode, repository: str | None) -> str:
    """Make the copy of a chapter that readers download.

    Args:
        nb: the chapter; left as it is.
        repository: the address of the course's repository, if it has one.

    Returns:
        a notebook as JSON: the chapter after a cell that installs what is
        missing, with links to other chapters that lead somewhere from
        anywhere.
    """
    nb = copy.deepcopy(nb)
    source = _NOWHERE
    if repository:
        source = _INSTALL.replace("REPOSITORY", repository)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(
                    r"\]\(([^/:()]+\.ipynb)",
                    rf"]({repository}/blob/main/notebooks/\1",
                    cell.source,
                )
    first = new_code_cell(source, id="install", metadata={"tags": ["install"]})
    nb.cells.insert(0, first)
    return nbformat.writes(nb).rstrip("\n") + "\n"


def launchers(repository: str | None, name: str) -> dict[str, str]:
    """List the services that open a chapter, and their addresses.

    Args:
        repository: as for `hosted`; the services know those on GitHub.
        name: of the notebook, without its ending.
    """
    on_github = re.fullmatch(
        r"https://github\.com/([\w.-]+/[\w.-]+)", repository or ""
    )
    if not on_github:
        return {}
    where = on_github[1]
    return {
        # The published copy, whose first cell installs what Colab lacks.
        "Colab": "https://colab.research.google.com/github/"
        f"{where}/blob/gh-pages/downloads/{name}.ipynb",
        # Binder makes the environment of environment.yml first.
        "Binder": f"https://mybinder.org/v2/gh/{where}/main"
        f"?urlpath=lab/tree/notebooks/{name}.ipynb",
    }
