"""The report: what came of executed chapters, as text.

What a chapter claims is in the metadata of its last output, put there by
`mamlkit.course.claims`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from mamlkit.course.chapters import VERDICTS


class Outcome(NamedTuple):
    """What came of one chapter.

    Attributes:
        chapter: file name without ending.
        seconds: from starting the kernel to its end.
        peak_mb: most memory the kernel held, or None if it never said.
        claims: dicts with `text`, `verdict` and `measured`.
        error: one line, empty if the chapter ran to its end.
        notebook: the executed notebook, also after an error.
    """

    chapter: str
    seconds: float
    peak_mb: float | None
    claims: list[dict[str, str]]
    error: str
    notebook: Path


def notes(nb: NotebookNode, kind: str) -> list[dict[str, Any]]:
    """Collect what `mamlkit` noted in outputs: `claims` or `exercise`."""
    found = [
        output.get("metadata", {}).get("mamlkit", {})
        for cell in nb.cells
        for output in cell.get("outputs", [])
    ]
    return [note for note in found if kind in note]


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out outcomes as text: a line a chapter, then a line a claim."""
    width = max(len(o.chapter) for o in outcomes)
    head = "seconds  peak MB  " + "  ".join(VERDICTS)
    lines = ["", f"{'chapter':{width}}  {head}"]
    for o in outcomes:
        peak = "-" if o.peak_mb is None else f"{o.peak_mb:.0f}"
        verdicts = [c["verdict"] for c in o.claims]
        counts = "  ".join(f"{verdicts.count(v):{len(v)}}" for v in VERDICTS)
        lines.append(
            f"{o.chapter:{width}}  {o.seconds:7.1f}  {peak:>7}  {counts}"
        )
    for o in outcomes:
        lines += ["", o.chapter]
        lines += [
            f"  {c['verdict']:10}  {c['text']} Measured: {c['measured']}"
            for c in o.claims
        ]
        if o.error:
            lines.append(f"  error       {o.error} See {o.notebook}")
    return "\n".join(lines)


def failed(outcomes: Sequence[Outcome]) -> bool:
    """Say whether any chapter stopped or any claim failed."""
    return any(
        o.error or "failed" in [c["verdict"] for c in o.claims]
        for o in outcomes
    )
