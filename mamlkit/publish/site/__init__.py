"""The site: the course as pages that need no network, made by Sphinx.

`conf.py`, `templates/` and `static/` are Sphinx's; the modules beside this
one do what Sphinx, myst-nb and the Book theme cannot know.
"""

import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mamlkit.course.chapters import code_hash, read
from mamlkit.paths import BUILD, ROOT

_NEEDED = {
    "sphinx": "sphinx",
    "myst_nb": "myst-nb",
    "sphinx_book_theme": "sphinx-book-theme",
    "sphinx_copybutton": "sphinx-copybutton",
    "py_mini_racer": "mini-racer",
}


def repository_address() -> str | None:
    """Look up where the course is published.

    Returns:
        `Repository` of `[project.urls]` in pyproject.toml, if it is set.
    """
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"].get("urls", {}).get("Repository")


def build(
    chapters: Sequence[Path],
    out: Path = BUILD / "html",
    repository: str | None = None,
) -> Path:
    """Write a page for each chapter, the first page and the reference.

    Args:
        chapters: as `find_chapters` returns them.
        out: folder; what it held is replaced once the new site is whole.
        repository: address of the course's repository. With it, downloads
            install the course, and pages offer to open them elsewhere.

    Returns:
        the first page's path.

    Raises:
        ValueError: the address is none, a package is missing, outputs are
            older than their code, a link leads nowhere, a formula cannot be
            drawn, or a public name is not documented; the old site stays.
    """
    if repository and not repository.startswith("https://"):
        raise ValueError(
            f"the repository's address must begin with https://: {repository}"
        )
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            raise ValueError(
                f"the site needs {package}: pip install 'mamlkit[site]'"
            )
    notebooks = {path.stem: read(path) for path in chapters}
    for name, nb in notebooks.items():
        if nb.metadata.get("mamlkit", {}).get("code") != code_hash(nb):
            raise ValueError(
                f"{name}: outputs are older than the code: run `make render`"
            )
    # Takes torch and Sphinx along, which no other command needs.
    from mamlkit.publish.site.assemble import assemble

    assemble(notebooks, out, repository)
    return out / "index.html"
