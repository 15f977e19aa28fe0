"""Claims: what a chapter says it shows, recorded and judged at its end."""

import sys
from html import escape
from typing import NamedTuple

from torch import Tensor

from mamlkit.course.chapters import VERDICTS
from mamlkit.exercises import show_progress
from mamlkit.exercises.progress import show_bundle

HELD, FAILED, NOT_JUDGED = VERDICTS


class Claim(NamedTuple):
    """One statement of a chapter; see `claim`."""

    holds: bool
    measured: str
    exact: bool


_claims: dict[str, Claim] = {}


def claim(
    text: str, holds: bool, measured: object, *, exact: bool = False
) -> None:
    """Record a statement together with what was measured, and leave a mark.

    The mark is small: a number, by which the table at the chapter's end
    lists the claim, and what was measured. It opens on the statement.

    Args:
        text: the statement; recording it again replaces it.
        holds: whether it is true in this run. Leave a margin of three
            standard errors unless it is exact; see `exceeds`.
        measured: the number or numbers behind it.
        exact: true of any run, however short; the others are judged only at
            `laptop` and `paper` scale.
    """
    _claims[text] = Claim(bool(holds), str(measured), exact)
    number = [*_claims].index(text) + 1
    said = f"✓ claim {number} holds: {measured}"
    if not holds:
        said = f"✗ claim {number} does not hold in this run: {measured}"
    show_bundle(
        {
            "text/html": "<details class='mamlkit-claim' style='font-size:85%;"
            f"opacity:.8'><summary>{escape(said)}</summary>{escape(text)}"
            "</details>",
            "text/plain": said,
        },
    )


def exceeds(values: Tensor, floor: float = 0.0) -> bool:
    """Say whether a mean over tasks is above a floor by three standard errors.

    Args:
        values: one for each task, such as the gaps between two methods on the
            same tasks, shape (tasks,).
        floor: what the mean must exceed.

    Raises:
        ValueError: `values` is no row of at least two numbers.

    Examples:
        >>> import torch
        >>> exceeds(torch.tensor([1.0, 1.1, 0.9, 1.0]))
        True
    """
    if values.dim() != 1 or len(values) < 2:
        raise ValueError(
            "values must have one number a task and two tasks at least, got "
            f"shape {tuple(values.shape)}"
        )
    error = values.std() / len(values) ** 0.5
    return bool(values.mean() - 3 * error > floor)


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
        f"<tr><td>{number}</td>"
        f"<td style='text-align:left'>{escape(r['text'])}</td>"
        f"<td style='text-align:left'>{escape(r['measured'])}</td>"
        f"<td style='text-align:left'>{marks[r['verdict']]}</td></tr>"
        for number, r in enumerate(rows, 1)
    )
    head = "<th></th><th>claim</th><th>measured</th><th>verdict</th>"
    head = f"<tr>{head}</tr>"
    plain = [f"{marks[r['verdict']]}: {r['text']}" for r in rows]
    show_bundle(
        {
            "text/html": f"<table>{head}{body}</table>",
            "text/plain": "\n".join(plain),
        },
        metadata={"mamlkit": {"claims": rows, "peak_mb": _peak_mb()}},
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
