"""The site: every chapter as a page, and a map, readable from a folder.

Pages need no network and no script: pictures are inside the page, and
mathematics is MathML.
"""

import re
import shutil
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
)

from mamlkit.course.chapters import code_hash, opening, read
from mamlkit.paths import BUILD
from mamlkit.publish.site.mathml import mathml

_HERE = Path(__file__).parent


def build(chapters: Sequence[Path], out: Path = BUILD / "html") -> Path:
    """Write one page a chapter, the map and the style sheet.

    Args:
        chapters: as `find_chapters` returns them.
        out: folder; what it held is removed.

    Returns:
        the map's path.

    Raises:
        ValueError: latex2mathml is missing, outputs are older than their
            code, or a link leads nowhere.
    """
    exporter = _Exporter(template_name="site", template_file="page.html.j2")
    notebooks = [read(path) for path in chapters]
    pages = [
        opening(nb)._asdict() | {"name": path.stem, "number": path.name[:2]}
        for path, nb in zip(chapters, notebooks)
    ]
    texts = {"index.html": exporter.render_map(pages)}
    around = zip([None, *pages], pages, [*pages[1:], None], notebooks)
    for before, page, after, nb in around:
        stored = nb.metadata.get("mamlkit", {}).get("code")
        if stored != code_hash(nb):
            raise ValueError(
                f"{page['name']}: outputs are older than the code: run "
                "`make render`"
            )
        resources = {"page": page, "before": before, "after": after}
        try:
            text, _ = exporter.from_notebook_node(nb, resources)
        except ValueError as fault:
            raise ValueError(f"{page['name']}: {fault}") from None
        texts[f"{page['name']}.html"] = text
    for name, text in texts.items():
        gone = [t for t in linked_files(text) if t not in texts]
        if gone and gone != ["style.css"]:
            raise ValueError(f"{name} links to {gone[-1]}, not on the site")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    shutil.copy(_HERE / "style.css", out)
    return out / "index.html"


def linked_files(html: str) -> list[str]:
    """List the files that a page links to, in its own folder or below."""
    # Within a tag: a cell may hold HTML as a string.
    tags = re.findall(r"<[^<>]+>", html)
    targets = re.findall(r'\s(?:href|src)="([^"#]+)', "".join(tags))
    elsewhere = ("https:", "http:", "mailto:", "data:")
    return [t for t in targets if not t.startswith(elsewhere)]


class _Renderer(IPythonRenderer):
    """Markdown with MathML, and headings that can be linked to."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return f"{_scrolls('span', 'formula')}{mathml(body, 'block')}</span>"

    def latex_environment(self, name: str, body: str) -> str:
        latex = rf"\begin{{{name}}}{body}\end{{{name}}}"
        return self.block_math(latex)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        plain = unescape(re.sub(r"<[^>]+>", "", text)).strip()
        anchor = plain.replace(" ", "-").replace('"', "&quot;")
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        url = re.sub(r"^([^/:]+)\.ipynb(#|$)", r"\1.html\2", url)
        return super().link(text, url, title)


class _Exporter(HTMLExporter):
    extra_template_basedirs = [str(_HERE.parent)]

    def markdown2html(self, context: Any, source: str) -> str:
        # Jinja passes the context only to the method that it decorates.
        return markdown(source)

    markdown2html.jinja_pass_arg = HTMLExporter.markdown2html.jinja_pass_arg

    def render_map(self, pages: list[dict]) -> str:
        """Render the page that lists all chapters."""
        template = self.environment.get_template("map.html.j2")
        return template.render(pages=pages)


def markdown(source: str) -> str:
    """Turn markdown into HTML, mathematics into MathML."""
    html = MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)
    # A table wider than a phone scrolls inside its own frame.
    html = html.replace("<table>", f"{_scrolls('div', 'table')}<table>")
    return html.replace("</table>", "</table></div>")


def _scrolls(tag: str, label: str) -> str:
    """Open a frame that may be too wide, and that keys can reach."""
    keys = f'tabindex="0" role="group" aria-label="{label}"'
    return f'<{tag} class="scroll" {keys}>'
