"""Mathematics on the site: KaTeX draws it while the site is built.

A page then needs no script for its formulas, and a formula that cannot be
drawn fails the build instead of a reader. KaTeX itself lies in `static/`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STATIC = Path(__file__).parent / "static"

Draw = Callable[[str, bool], str]


@contextmanager
def drawing() -> Iterator[Draw]:
    """Start KaTeX.

    Yields:
        `draw(latex, block)`, which returns HTML with MathML inside for
        who listens, and raises ValueError for what KaTeX does not know.
    """
    from py_mini_racer import JSEvalException, MiniRacer

    source = (STATIC / "katex" / "katex.min.js").read_text(encoding="utf-8")
    drawn: dict[tuple[str, bool], str] = {}

    # Left open, the engine keeps the process from ending.
    with MiniRacer() as engine:
        engine.eval(f"{source};0")

        def draw(latex: str, block: bool) -> str:
            if (latex, block) not in drawn:
                options = {"displayMode": block, "strict": "ignore"}
                try:
                    drawn[latex, block] = engine.call(
                        "katex.renderToString", latex, options
                    )
                except JSEvalException as fault:
                    said = str(fault).split("\n")[0].split("ParseError: ")[-1]
                    raise ValueError(f"in ${latex}$: {said}") from None
            return drawn[latex, block]

        yield draw
