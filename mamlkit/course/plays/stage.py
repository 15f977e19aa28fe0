"""How a play gets onto a page: its script, its colours, its two forms."""

import json
import re
from html import escape
from pathlib import Path

import anywidget
import traitlets

from mamlkit.course.grammar import FLOORS, GREEN, GREY, METHODS, PINK
from mamlkit.exercises.progress import show_bundle

# Methods look as in the figures, and a true wave is as grey. The place of its
# task is green, as what a play draws in the page's ink is what was learned.
# Pages are light or dark, so the browser shifts each colour until it can be
# seen there.
COLOURS = {
    "maml": METHODS["maml"].colour,
    "fomaml": METHODS["fomaml"].colour,
    "joint": METHODS["joint"].colour,
    "pretrained": METHODS["pretrained"].colour,
    "scratch": FLOORS["untrained"].colour,
    "transformer": METHODS["transformer"].colour,
    "truth": GREEN,
    "wave": GREY,
    "gap": PINK,
}


def script(play: str) -> str:
    """Read a play's ESM, whole: what it imports from beside it is in it.

    Args:
        play: the name of its file, without ending.
    """
    here = Path(__file__).parent
    text = (here / f"{play}.js").read_text(encoding="utf-8")

    def whole(found):
        shared = (here / found[1]).read_text(encoding="utf-8")
        return re.sub(r"^export ", "", shared, flags=re.M)

    asked = r'^import [^;]+ from "\./([\w.]+)";$'
    return re.sub(asked, whole, text, flags=re.M)


class Play(anywidget.AnyWidget):
    """A play that lives in JupyterLab.

    Args:
        play: the name of its file, without ending.
        state: what its model knows, as JSON; each key becomes a trait.
    """

    def __init__(self, play: str, state: dict):
        traits = {k: traitlets.Any(v).tag(sync=True) for k, v in state.items()}
        esm = traitlets.Unicode(script(play)).tag(sync=True)
        self.add_traits(_esm=esm, **traits)
        super().__init__()


def emit(
    play: str,
    state: dict,
    *,
    html: str,
    plain: str,
    widget: Play | None = None,
    **options,
) -> None:
    """Display a play: live where a widget can be, and as pages store it.

    Args:
        play: the name of its file, without ending.
        state: what the play's model knows on a page, as JSON.
        html: shown where no script runs.
        plain: the same as text.
        widget: the play as JupyterLab shows it, which prefers it to HTML.
        **options: for IPython's `display`, as display_id.
    """
    held = escape(json.dumps(state, ensure_ascii=False))
    html = (
        f'<div class="mamlkit-play" data-play="{play}" data-state="{held}">'
        f"{html}</div>"
    )
    view, meta = widget._repr_mimebundle_() if widget else ({}, {})
    data = view | {"text/html": html, "text/plain": plain}
    show_bundle(data, metadata=meta, **options)
