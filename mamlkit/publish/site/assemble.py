"""How the site is put together: sources, Sphinx, and a look at every link."""

import json
import re
import shutil
from datetime import date
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jinja2 import Environment, FileSystemLoader, Template
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.console import strip_colors
from sphinx.util.docutils import docutils_namespace, patch_docutils

from mamlkit.course.chapters import CORE, opening
from mamlkit.publish.site import api, download, hero, katex, links, page

HERE = Path(__file__).parent
PLAYS = HERE.parents[1] / "course" / "plays"
_ICONS = re.compile(r"<script[^>]*fontawesome\.js[^>]*></script>")
_CELL = re.compile(r"<td>.*?</td>", re.S)
_NAME = re.compile(r"(?<=<span class=\"pre\">)[^<]+")
REFERENCES = {f"reference-{room}": room for room in api.ROOMS}


def assemble(
    notebooks: dict[str, NotebookNode], out: Path, repository: str | None
) -> None:
    """Make the site; see `mamlkit.publish.site.build`.

    Args:
        notebooks: chapters by file stem, in their order.
        out: folder of the site.
        repository: address, or None.
    """
    with TemporaryDirectory() as folder, katex.drawing() as draw:
        source, extra, made = (
            Path(folder) / name for name in ("source", "extra", "html")
        )
        markdown = MarkdownIt("commonmark").use(
            dollarmath_plugin,
            renderer=lambda latex, options: draw(
                latex, options["display_mode"]
            ),
        )
        files, pages = {}, []
        for name, nb in notebooks.items():
            try:
                card = page.cover(nb)
                pages.append(_about(name, nb, markdown, card, repository))
                files[f"downloads/{name}.ipynb"] = download.hosted(
                    nb, repository
                ).encode()
                number = name[:2]
                files |= page.make_page(nb, number, markdown.renderInline)
            except ValueError as fault:
                raise ValueError(f"{name}: {fault}") from None
            if card:
                files[pages[-1]["card"]] = card
        files |= _plays()
        files["404.html"] = (
            _template("404.html.j2").render(pages=pages).encode()
        )
        # Else GitHub's pages leave out folders that begin with _.
        files[".nojekyll"] = b""
        sources = {
            f"{name}.ipynb": nbformat.writes(nb)
            for name, nb in notebooks.items()
        }
        sources["index.md"] = _front(pages, notebooks, repository)
        built_in = api.built_by_chapters(notebooks)
        for name, room in REFERENCES.items():
            sources[f"{name}.rst"] = api.reference(room, built_in)
        _write(source, {k: text.encode() for k, text in sources.items()})
        _write(extra, files)
        _run_sphinx(
            source,
            made,
            {
                "html_extra_path": [str(extra)],
                "html_context": {
                    "default_mode": "auto",
                    "references": REFERENCES,
                    "repository": repository,
                },
                "mamlkit_draw": draw,
                "mamlkit_pages": pages,
            },
        )
        _lighten(made)
        dead = links.dead(made)
        if dead:
            raise ValueError(f"{len(dead)} dead links: {'; '.join(dead[:5])}")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


def _about(
    name: str,
    nb: NotebookNode,
    markdown: MarkdownIt,
    card: bytes | None,
    repository: str | None,
) -> dict:
    """Gather what other pages say about a chapter."""
    first = opening(nb)
    if not first.gain or not first.minutes:
        what = "how long it takes" if first.gain else "what you will have"
        raise ValueError(f"its first cell does not say {what}")
    return {
        "name": name,
        "number": name[:2],
        "title": first.title,
        "gain_html": markdown.renderInline(first.gain),
        "minutes": first.minutes,
        "core": name[:2] in CORE,
        "card": f"pictures/{name[:2]}-card.png" if card else None,
        "verified": _verified(nb),
        "launchers": download.launchers(repository, name),
    }


def _verified(nb: NotebookNode) -> str:
    """Say with what and when the outputs were made; empty if unknown."""
    made = nb.metadata.get("mamlkit", {})
    if "date" not in made:
        return ""
    day = date.fromisoformat(made["date"])
    return f"torch {made['torch']} on {day.day} {day:%B %Y}"


def _front(pages: list[dict], notebooks: dict, repository: str | None) -> str:
    picture = hero.picture()
    return _template("front.md.j2").render(
        pages=pages,
        core=[p for p in pages if p["core"]],
        hero=picture,
        data=json.dumps(picture | {"hills": None}, separators=(",", ":")),
        place=lambda point: "{:.1f},{:.1f}".format(*hero.map_places(*point)),
        game=_first_play(notebooks, "game"),
        hours=lambda some: round(sum(int(p["minutes"]) for p in some) / 60),
        references=REFERENCES,
        repository=repository,
        zip=zip,
    )


def _template(name: str) -> Template:
    loader = FileSystemLoader(HERE / "templates")
    return Environment(loader=loader).get_template(name)


def _first_play(notebooks: dict[str, NotebookNode], name: str) -> str:
    """Find the first place where a chapter shows a play, as it is stored."""
    mark = f'class="mamlkit-play" data-play="{name}"'
    for nb in notebooks.values():
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                if mark in html:
                    return html
    return ""


def _plays() -> page.Files:
    """Gather the plays: their scripts in one file, their data as they are.

    From a folder, a browser loads no module and fetches no file, so the
    scripts travel as text, and `site.js` makes modules of them.
    """
    scripts = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(PLAYS.glob("*.js"))
    }
    text = f"window.mamlkitPlays = {json.dumps(scripts)};\n"
    files = {"plays/plays.js": text.encode()}
    for path in PLAYS.glob("*"):
        if path.is_file() and path.suffix not in (".js", ".py"):
            files[f"plays/{path.name}"] = path.read_bytes()
    return files


def _write(folder: Path, files: page.Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run_sphinx(source: Path, made: Path, settings: dict) -> None:
    """Make pages of the sources; a warning is an error."""
    warnings = StringIO()
    with patch_docutils(), docutils_namespace():
        try:
            sphinx = Sphinx(
                source,
                HERE,
                made,
                source.with_name("doctrees"),
                "html",
                settings,
                status=None,
                warning=warnings,
                freshenv=True,
            )
            sphinx.build()
        except SphinxError as fault:
            raise ValueError(str(fault)) from None
    found = [
        strip_colors(line).replace(f"{source}/", "")
        for line in warnings.getvalue().splitlines()
        if "WARNING" in line or "ERROR" in line
    ]
    if found:
        raise ValueError("\n".join(found))
    missing = _undocumented(sphinx)
    if missing:
        raise ValueError(f"not in the reference: {', '.join(missing)}")


def _lighten(made: Path) -> None:
    """Leave out what the theme brings and no page needs.

    A script of 1.5 MB draws its icons again, which a font has drawn.
    """
    for pattern in ("*macros.html", "**/*.map", "**/fontawesome.js*"):
        for path in made.glob(f"_static/{pattern}"):
            path.unlink()
    shutil.rmtree(made / "_static" / "locales")
    for path in made.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        text = _CELL.sub(_with_breaks, _ICONS.sub("", text))
        path.write_text(text, encoding="utf-8")


def _with_breaks(cell: re.Match) -> str:
    """Let names in a table's cell break after a dot, a bar or a bracket."""
    return _NAME.sub(
        lambda name: re.sub(r"([._(])(?=\w)", r"\1<wbr>", name[0]), cell[0]
    )


def _undocumented(sphinx: Sphinx) -> list[str]:
    """List the public names that a page of the reference does not show."""
    objects = sphinx.env.domains.python_domain.get_objects()
    shown = {(at, path.split(".")[-1]) for path, _, _, at, *_ in objects}
    return [
        f"{room}.{name}"
        for at, room in REFERENCES.items()
        for name in import_module(room).__all__
        if (at, name) not in shown
    ]
