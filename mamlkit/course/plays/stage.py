"""How a play gets onto a page: its script, and the form that is stored."""

import json
from html import escape
from pathlib import Path

from IPython.display import display


def script(play: str) -> str:
    """Read a play's ESM.

    Args:
        play: the name of its file, without ending.
    """
    path = Path(__file__).with_name(f"{play}.js")
    return path.read_text(encoding="utf-8")


def emit(play: str, state: dict, *, html: str, plain: str, **options) -> None:
    """Display a play as pages store it.

    Args:
        play: the name of its file, without ending.
        state: what the play's model knows on a page, as JSON.
        html: shown where no script runs.
        plain: the same as text.
        **options: for IPython's `display`, as display_id.
    """
    held = escape(json.dumps(state, ensure_ascii=False))
    html = (
        f'<div class="mamlkit-play" data-play="{play}" data-state="{held}">'
        f"{html}</div>"
    )
    data = {"text/html": html, "text/plain": plain}
    display(data, metadata={}, raw=True, **options)
