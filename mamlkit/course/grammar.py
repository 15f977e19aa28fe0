"""The visual grammar: one name, colour, marker and line for each thing drawn.

Figures take their looks from here, so that MAML is the same blue circle in
every chapter and a floor has one name. A new method is a line in `METHODS`;
a test then asks for a marker or a colour that colour-blind readers can tell
from all others.
"""

from difflib import get_close_matches
from typing import NamedTuple

#: A colour after Okabe and Ito 2008, darkened until text in it can be read on
#: white (contrast of at least 4.5).
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#C24E00", "#00795A", "#A8477F"
#: Four more, of like contrast; grey is for what is not the point.
AMBER, VIOLET, BLACK, GREY = "#8A6D00", "#6A4FB3", "#222222", "#6B6B6B"
#: Colours, in order, for what is no method, as layers, shots or runs.
COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, BLACK)
#: A marker for each of these colours, so that colour is never alone.
MARKERS = ("o", "s", "^", "D", "v", "P")


class Look(NamedTuple):
    """How one thing is called and drawn, wherever it appears.

    Attributes:
        name: what figures and tables call it.
        colour: as "#RRGGBB".
        marker: as matplotlib names it; "" for none.
        line: as matplotlib names it, or its (offset, dashes).
    """

    name: str
    colour: str
    marker: str
    line: str | tuple


#: How each method is called and drawn, by key.
METHODS = {
    "maml": Look("MAML", BLUE, "o", "-"),
    "fomaml": Look("FOMAML", ORANGE, "s", "--"),
    "reptile": Look("Reptile", GREEN, "^", "-."),
    "anil": Look("ANIL", AMBER, "D", "--"),
    "imaml": Look("iMAML", BLACK, "v", "-."),
    "meta_sgd": Look("Meta-SGD", VIOLET, "P", "--"),
    "maml_pp": Look("MAML++", GREEN, "X", "-."),
    "joint": Look("joint training", AMBER, "h", "--"),
    "pretrained": Look("pretrained, fine-tuned", ORANGE, "^", "--"),
    "pretrained_centroid": Look("pretrained, prototypes", ORANGE, "P", ":"),
    "scratch": Look("from scratch", GREEN, "v", "-."),
    "protonet": Look("prototypes", PINK, "D", "--"),
    "siamese": Look("Siamese network", AMBER, "*", "-."),
    "memory_gru": Look("memory, GRU", BLACK, "P", "--"),
    "memory_attention": Look("memory, attention", VIOLET, "*", "-."),
    "learned_rule": Look("learned rule", AMBER, "<", "--"),
    "learned_start": Look("learned rule, start", ORANGE, ">", "-."),
    "transformer": Look("transformer", BLACK, "X", "-"),
    "context": Look("context parameters", GREEN, "<", "--"),
    "probe": Look("linear probe", VIOLET, "p", "-."),
}

#: The same for what costs nothing to reach, and for what nobody can beat.
FLOORS = {
    "chance": Look("chance", GREY, "", ":"),
    "zero": Look("predicting 0", GREY, "", "--"),
    "blind": Look("best blind answer", GREY, "", "-."),
    "untrained": Look("untrained, adapted", GREY, "", (0, (5, 1))),
    "pixels": Look("nearest pixels", GREY, "", (0, (1, 3))),
    "blurred": Look("blurred pixels", GREY, "", (0, (1, 1))),
    "centroid": Look("nearest centroid", GREY, "", (0, (3, 1, 1, 1, 1, 1))),
    "least_squares": Look("least squares", BLACK, "", "--"),
    "oracle": Look("oracle", BLACK, "", "-"),
}

#: The same for the parts of a task.
PARTS = {
    "support": Look("support", BLACK, "o", "-"),
    "query": Look("query", VIOLET, "s", "--"),
    "truth": Look("true", BLACK, "", "-"),
}

_ALL = METHODS | FLOORS | PARTS
_BY_NAME = {look.name.lower(): look for look in _ALL.values()}


def find_look(what: str) -> Look | None:
    """Find a look by its key or its name, however capitalised.

    Returns:
        None if the registry does not know `what`.
    """
    return _ALL.get(what.lower()) or _BY_NAME.get(what.lower())


def look_of(what: str) -> dict:
    """Make the arguments with which matplotlib draws a thing of the registry.

    Args:
        what: key or name, as "maml" or "MAML".

    Returns:
        label, color, marker and linestyle, for `Axes.plot` and
        `Axes.errorbar`.

    Raises:
        ValueError: the registry does not know it; the message lists what
            comes near.

    Examples:
        >>> look_of("MAML")["marker"]
        'o'
    """
    look = find_look(what)
    if look is None:
        near = get_close_matches(what.lower(), [*_ALL, *_BY_NAME]) or _ALL
        raise ValueError(
            f"nothing is called {what!r} in mamlkit/course/grammar.py: "
            f"{', '.join(near)}"
        )
    return {
        "label": look.name,
        "color": look.colour,
        "marker": look.marker,
        "linestyle": look.line,
    }


def name_of(what: str) -> str:
    """What figures and tables call a thing of the registry."""
    return look_of(what)["label"]
