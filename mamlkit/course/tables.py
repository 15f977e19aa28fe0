"""Tables: names on the left, numbers lined up on the right."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from mamlkit.exercises.progress import show_bundle

# Digits and signs, no word but a unit: "1.97e+03 ± 2", "5 / 50", "~0.6".
_NUMBER = re.compile(r"[^A-Za-z]*(?:e[-+]?\d+[^A-Za-z]*)*(?:m?s)?")


def show_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Display a table; columns of numbers are set to the right.

    Args:
        head: what stands over the columns; often "" over the names.
        rows: each with a cell for every column, written as `str` has it.

    Raises:
        ValueError: a row is longer or shorter than `head`.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(head):
            raise ValueError(
                f"{len(head)} columns have a name, a row has {len(row)} "
                f"cells: {', '.join(row)}"
            )
    right = [
        all(_NUMBER.fullmatch(cell) for cell in column)
        for column in zip(*cells, strict=True)
    ]
    show_bundle(
        {
            "text/html": _html(head, cells, right),
            "text/plain": _plain([list(head), *cells], right),
        },
    )


def _html(head, cells, right) -> str:
    sides = [f"text-align:{'right' if r else 'left'}" for r in right]

    def line(row, tag):
        return "".join(
            f'<{tag} style="{side}">{escape(cell)}</{tag}>'
            for cell, side in zip(row, sides)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in cells)
    return (
        f'<table class="numbers"><thead><tr>{line(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _plain(rows, right) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if r else cell.ljust(width)
            for cell, width, r in zip(row, widths, right)
        ).rstrip()
        for row in rows
    )
