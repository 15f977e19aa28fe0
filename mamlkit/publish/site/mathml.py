"""Mathematics on the site: LaTeX to MathML, which browsers draw themselves.

latex2mathml does the work; what follows mends its spacing, limits and
primes, and refuses the commands that it would pass through as text.
"""

import re
from xml.etree import ElementTree

_FUNCTIONS = r"\\(arg|cos|det|exp|log|max|min|sin|tanh)\b"
_MENDED = [
    # An operator name keeps a thin space to its neighbours.
    (rf"(?<=[\w)}}])\s*{_FUNCTIONS}", r"\\,\\\1"),
    (rf"{_FUNCTIONS}\s*(?=\\(?!left|big)|[A-Za-z])", r"\\\1\\,"),
    (r"\\arg\b", r"\\operatorname{arg}"),
    # A single upright letter, as in dx.
    (r"\\mathrm\{(\w)\}", r"\\text{\1}"),
    (r"\{aligned\}", r"{align*}"),
]
_PRIMES = {"′", "″", "‴"}
_LARGE = {"∑", "∏", "min", "max"}
_BEFORE_SIGN = {"=", "(", ",", "⋅"}
_UNDER = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}


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
    for pattern, new in _MENDED:
        source = re.sub(pattern, new, source)
    # Inside HTML the namespace goes without saying.
    out = re.sub(r' xmlns="[^"]+"', "", convert(source, display=display))
    try:
        tree = ElementTree.fromstring(out)
    except ElementTree.ParseError:
        raise ValueError(f"no MathML for ${latex}$") from None
    for node in list(tree.iter()):
        _mend(node)
    unknown = re.search(r"\\\w*", " ".join(tree.itertext()))
    if unknown:
        raise ValueError(f"no MathML for {unknown[0]} in ${latex}$")
    return ElementTree.tostring(tree, encoding="unicode")


def _mend(node: ElementTree.Element) -> None:
    first, last = (*node[:1], None)[0], (*node[-1:], None)[0]
    if node.tag in _UNDER and first.text in _LARGE:
        node.tag = _UNDER[node.tag]
    elif node.tag in ("msup", "msubsup") and last.text in _PRIMES:
        # As superscripts, primes are specks in fonts without mathematics.
        last.tag = "mtext"
        if node.tag == "msubsup":
            base = ElementTree.Element("msub")
            base.extend(node[:2])
            node[:2] = [base]
        node.tag = "mrow"
    for before, sign in zip(node, node[1:]):
        if sign.text == "−" and before.text in _BEFORE_SIGN:
            sign.set("form", "prefix")
