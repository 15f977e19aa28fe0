"""What the site adds to Sphinx: drawn formulas, routes and downloads."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from mamlkit.publish.site.api import in_rst

_SIGN = re.compile(r"[.,;:!?)\]’”%]+")
_ENDS = "</span>" * 3  # of a formula's last part, and of what holds all parts
# A line may end behind the sign of an operation, as in 1 + 2, and need not.
_OPERATION = re.compile(
    r'(<span class="mbin">[^<]*</span><span class="mspace" [^>]*></span>)'
    r'</span><span class="katex-base">'
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Set Sphinx up; called by it."""
    app.add_config_value("mamlkit_draw", None, "", types=frozenset())
    app.add_config_value("mamlkit_pages", [], "", types=frozenset({list}))
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _as_written, priority=900)
    app.connect("doctree-resolved", _keep_signs)
    app.connect("doctree-resolved", _keep_units)
    app.connect("doctree-resolved", _name_outputs)
    app.connect("html-page-context", _place)
    return {"parallel_read_safe": False, "parallel_write_safe": False}


def anchor(title: str) -> str:
    """Make the anchor by which JupyterLab knows a heading."""
    return title.replace(" ", "-")


def _inline(translator: Any, node: nodes.math) -> None:
    _draw(translator, node, block=False)


def _keep_signs(_app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Tie a sign to the formula before it, or it may begin a line alone."""
    for formula in [*doctree.findall(nodes.math)]:
        text = formula.next_node(descend=False, siblings=True)
        sign = isinstance(text, nodes.Text) and _SIGN.match(text)
        if sign:
            formula["sign"] = sign[0]
            text.parent.replace(text, nodes.Text(text[sign.end() :]))


def _keep_units(_app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Tie a per cent sign to its number, as `page.py` does in outputs."""
    code = nodes.literal | nodes.FixedTextElement | nodes.raw
    for text in [*doctree.findall(nodes.Text)]:
        if not isinstance(text.parent, code):
            tied = re.sub(r"(?<=\d) %", "\u00a0%", text)
            text.parent.replace(text, nodes.Text(tied))


def _name_outputs(_app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Give folded outputs a name of their own; myst-nb gives the code's."""
    for fold in doctree.findall(nodes.Element):
        if "prompt_show" in fold and "below-input" in fold["classes"]:
            shown = "".join(raw.astext() for raw in fold.findall(nodes.raw))
            name = "figure" if 'class="figure"' in shown else "output"
            fold["prompt_show"] = f"Show the {name}"
            fold["prompt_hide"] = f"Hide the {name}"


def _block(translator: Any, node: nodes.math_block) -> None:
    # What is wider than a phone scrolls by itself.
    keys = 'tabindex="0" role="group" aria-label="formula"'
    translator.body.append(f'<div class="formula" {keys}>')
    _draw(translator, node, block=True)


def _draw(translator: Any, node: nodes.Node, block: bool) -> None:
    draw, latex = translator.config.mamlkit_draw, node.astext().strip()
    # On a narrow page, formulas that share a line stand below one another.
    # (No \qquad of ours is within braces; KaTeX would refuse the halves.)
    parts = re.split(r"\s*\\qquad\s*", latex) if block else [latex]
    try:
        html = "".join(draw(part, block) for part in parts)
    except ValueError as fault:
        page = translator.builder.current_docname
        raise SphinxError(f"{page}: {fault}") from None
    html = _OPERATION.sub(r"\1", html)
    if "sign" in node:
        # Within the formula's last part, which no line break divides.
        inside = html.removesuffix(_ENDS)
        html = f'{inside}<span class="after">{node["sign"]}</span>{_ENDS}'
    translator.body.append(f"{html}</div>\n" if block else html)
    raise nodes.SkipNode


def _as_written(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list
) -> None:
    lines[:] = map(in_rst, lines)


def _place(
    app: Sphinx, page: str, _template: str, context: dict, _doctree: Any
) -> None:
    """Tell templates which chapter a page is, and what lies around it."""
    pages = app.config.mamlkit_pages
    core = [p for p in pages if p["core"]]
    here = next((p for p in pages if p["name"] == page), None)
    context |= {"chapters": pages, "core": core, "chapter": here, "turns": []}
    if here:
        context["turns"] = [
            ("whole", *_around(pages, here["number"])),
            ("core", *_around(core, here["number"])),
        ]


def _around(route: list[dict], number: str) -> tuple[dict | None, dict | None]:
    """Find the chapters before and after a number on a route."""
    before = [p for p in route if p["number"] < number]
    after = [p for p in route if p["number"] > number]
    return (before or [None])[-1], (after or [None])[0]
