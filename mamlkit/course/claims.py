"""Claims: what a chapter says it shows, recorded and judged at its end."""

import sys
from html import escape
from textwrap import fill
from typing import NamedTuple

from IPython.display import display

from mamlkit.course.chapters import VERDICTS
from mamlkit.exercises import show_progress

HELD, FAILED, NOT_JUDGED = VERDICTS
WIDTH = 75  # characters; JupyterLab breaks longer lines within words


class Claim(NamedTuple):
    """One statement of a chapter; see `claim`."""

    holds: bool
    measured: str
    exact: bool


_claims: dict[str, Claim] = {}


def claim(
    text: str, holds: bool, measured: object, *, exact: bool = False
) -> None:
    """Record a statement together with what was measured.

    Args:
        text: the statement; recording it again replaces it.
        holds: whether it is true in this run. Leave a margin of three
            standard errors unless it is exact.
        measured: the number or numbers behind it.
        exact: true of any run, however short; the others are judged only at
            `laptop` and `paper` scale.
    """
    _claims[text] = Claim(bool(holds), str(measured), exact)
    print(fill(f"Claim recorded: {text} Measured: {measured}", WIDTH))


def report_claims(scale: str) -> None:
    """Show all claims as a table.

    Args:
        scale: the chapter's SCALE.

    Raises:
        AssertionError: a claim that is judged at this scale does not hold.
    """
    rows = []
    for text, (holds, measured, exact) in _claims.items():
        judged = exact or scale != "ci"
        verdict = (HELD if holds else FAILED) if judged else NOT_JUDGED
        rows.append({"text": text, "verdict": verdict, "measured": measured})
    marks = {HELD: "✓ held", FAILED: "✗ FAILED", NOT_JUDGED: NOT_JUDGED}
    body = "".join(
        f"<tr><td style='text-align:left'>{escape(r['text'])}</td>"
        f"<td style='text-align:left'>{escape(r['measured'])}</td>"
        f"<td style='text-align:left'>{marks[r['verdict']]}</td></tr>"
        for r in rows
    )
    head = "<tr><th>claim</th><th>measured</th><th>verdict</th></tr>"
    plain = [f"{marks[r['verdict']]}: {r['text']}" for r in rows]
    display(
        {
            "text/html": f"<table>{head}{body}</table>",
            "text/plain": "\n".join(plain),
        },
        metadata={"mamlkit": {"claims": rows, "peak_mb": _peak_mb()}},
        raw=True,
    )
    show_progress()
    failed = [r["text"] for r in rows if r["verdict"] == FAILED]
    if failed:
        raise AssertionError(f"claims that do not hold: {failed}")


def _peak_mb() -> float | None:
    """Most memory this process has held so far; None where unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
