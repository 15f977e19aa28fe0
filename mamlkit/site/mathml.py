"""Mathematics on the site: LaTeX to MathML, which browsers draw themselves.

latex2mathml does the work; what follows mends its spacing and its primes,
and refuses the commands that it would pass through as text.
"""

import re

_FUNCTIONS = r"\\(arg|cos|det|exp|log|max|min|sin|tanh)\b"
_BEFORE = [
    # An operator name keeps a thin space to its neighbours.
    (rf"(?<=[\w)}}])\s*{_FUNCTIONS}", r"\\,\\\1"),
    (rf"{_FUNCTIONS}\s*(?=\\(?!left|big)|[A-Za-z])", r"\\\1\\,"),
    (r"\\arg\b", r"\\operatorname{arg}"),
    # A single upright letter, as in dx.
    (r"\\mathrm\{(\w)\}", r"\\text{\1}"),
    (r"\{aligned\}", r"{align*}"),
]
_LEAF = r"(<m[in]>[^<]*</m[in]>)"
_PRIME = r"<mi>(&#x0203[234];)</mi>"
_AFTER = [
    # As superscripts, primes are specks in fonts without mathematics.
    (rf"<msup>{_LEAF}{_PRIME}</msup>", r"<mrow>\1<mtext>\2</mtext></mrow>"),
    (
        rf"<msubsup>{_LEAF}(<m(i|n|row)>.*?</m\3>){_PRIME}</msubsup>",
        r"<mrow><msub>\1\2</msub><mtext>\4</mtext></mrow>",
    ),
    # After one of = ( , · a minus is a sign, without space.
    (
        r"(<mo[^>]*>&#x(?:0003D|00028|0002C|022C5);</mo>)<mo>(?=&#x02212;)",
        r'\1<mo form="prefix">',
    ),
]


def mathml(latex: str, display: str) -> str:
    """Turn LaTeX into MathML.

    Args:
        latex: without the dollars.
        display: "inline" or "block".

    Raises:
        ValueError: it has a command that has no translation, or
            latex2mathml is not installed.
    """
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise ValueError(
            "the site needs latex2mathml: pip install 'mamlkit[site]'"
        ) from None
    source = latex.strip()
    for pattern, new in _BEFORE:
        source = re.sub(pattern, new, source)
    out = convert(source, display=display)
    for pattern, new in _AFTER:
        out = re.sub(pattern, new, out)
    unknown = re.search(r"\\\w*|&(?!#?\w+;)", out)
    if unknown:
        raise ValueError(f"no MathML for {unknown[0]} in ${latex}$")
    return out
