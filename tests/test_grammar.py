"""Whoever sees colours otherwise can still tell the methods apart."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.lines import Line2D

from mamlkit.course.grammar import (
    COLOURS,
    FLOORS,
    METHODS,
    PARTS,
    find_look,
    look_of,
    name_of,
)

# Machado, Oliveira, Fernandes 2009, severity 1.0, for linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
# Linear RGB to CIE XYZ, D65, with Y of white = 1.
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
FAR = 20  # a difference seen at once; 2 is just noticeable


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    low = parts / 12.92
    return np.where(parts <= 0.04045, low, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    v = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116)
    return np.array(
        [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]
    )


def delta(one, other, vision):
    """CIE76 difference of two colours as seen by somebody."""
    one, other = (lab(VISION[vision] @ linear(c)) for c in (one, other))
    return float(np.linalg.norm(one - other))


def least_delta(one, other):
    return min(delta(one, other, vision) for vision in VISION)


def test_the_simulation_knows_what_is_confused():
    assert delta("#000000", "#FFFFFF", "usual") == pytest.approx(100, abs=0.1)
    red, green = "#B00000", "#4D7A00"
    assert delta(red, green, "usual") > 80
    assert delta(red, green, "deuteranopia") < 30


@pytest.mark.parametrize("pair", [*combinations(METHODS, 2)], ids="-".join)
def test_two_methods_differ_in_marker_or_plainly_in_colour(pair):
    one, other = (METHODS[key] for key in pair)
    apart = least_delta(one.colour, other.colour)
    assert one.marker != other.marker or apart >= FAR, apart


@pytest.mark.parametrize("pair", [*combinations(FLOORS, 2)], ids="-".join)
def test_two_floors_differ_in_line_or_plainly_in_colour(pair):
    one, other = (FLOORS[key] for key in pair)
    apart = least_delta(one.colour, other.colour)
    assert one.line != other.line or apart >= FAR, apart


def test_the_rivals_of_most_figures_differ_in_colour_too():
    rivals = [*combinations(("maml", "pretrained", "scratch"), 2)]
    rivals += [("maml", "fomaml"), ("maml", "joint"), ("support", "query")]
    for pair in rivals:
        one, other = (find_look(key).colour for key in pair)
        assert least_delta(one, other) >= FAR, pair


def test_text_in_any_colour_can_be_read_on_white():
    looks = METHODS | FLOORS | PARTS
    for colour in {look.colour for look in looks.values()} | {*COLOURS}:
        light = linear(colour) @ XYZ[1]
        assert 1.05 / (light + 0.05) >= 4.5, colour


def test_names_are_used_once_and_matplotlib_knows_the_rest():
    looks = [*(METHODS | FLOORS | PARTS).values()]
    assert len(looks) == len(METHODS) + len(FLOORS) + len(PARTS)
    names = [look.name.lower() for look in looks]
    assert len({*names}) == len(names)
    for look in looks:
        Line2D([], [], marker=look.marker, ls=look.line, color=look.colour)
        assert matplotlib.colors.is_color_like(look.colour)


def test_a_thing_is_found_by_key_and_by_name():
    assert find_look("fomaml") is find_look("FOMAML") is METHODS["fomaml"]
    assert find_look("Pretrained, fine-tuned") is METHODS["pretrained"]
    assert find_look("K = 5") is None
    assert name_of("zero") == "predicting 0"
    assert look_of("oracle")["linestyle"] == FLOORS["oracle"].line


def test_a_thing_that_is_not_there_comes_with_what_is_near():
    with pytest.raises(ValueError, match="'reptil' in .*: reptile"):
        look_of("reptil")
