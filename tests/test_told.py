"""Numbers that chapters tell are those of files, or of closed forms."""

import math

import nbformat
import pytest
from chapters import CHAPTERS

from mamlkit.reproduce import read_result

CONTEXT = read_result("in_context")["rows"]
LONGER = read_result("in_context_longer")["rows"]
SINUSOID = read_result("sinusoid")["rows"]
FITS = "{}_shifted_{}_mse_50shot_best"


def value(rows, name):
    """A number as the chapters write it: two digits that count."""
    found = rows[name]["value"]
    return f"{found:.2f}" if found >= 0.1 else f"{found:.2g}"


def values(rows, *names):
    return [value(rows, name) for name in names]


def interval(rows, name, digits):
    row = rows[name]
    told = f"{row['value']:.{digits}f} ± {row['interval']:.{digits}f}"
    return told.replace("-", "−")


def pretrained():
    short = interval(LONGER, "pretrained_mse_20shot_after_100", 2)
    yield f"{short} with twenty points"
    long = LONGER["pretrained_mse_20shot_after_1000"]["value"]
    yield f"after a thousand {long:.2f}"
    stored = LONGER["maml_mse_5shot_after_100"]["by_training"][0]
    yield f"has {stored:.2f} with five points after a hundred steps"
    mean = value(LONGER, "maml_mse_5shot_after_100")
    yield f"the mean of five trainings is {mean}"


def five_trainings():
    worst = []
    for steps in (1, 5, 10):
        paper = SINUSOID[f"mse_5shot_after_{steps}"]["paper"]
        found = CONTEXT[f"maml_mse_5shot_after_{steps}"]["by_training"]
        assert sum(error > paper for error in found) == 1
        worst.append(f"{max(found):.2f}")
    yield "Four of the five trainings"
    yield "One ends above them ({}, {} and {}, by one to two".format(*worst)


def one_point():
    names = ["least_squares", "maml", "context"]
    rows = [
        CONTEXT[f"{name}_mse_1shot{'' if name == names[0] else '_best'}"]
        for name in names
    ]
    squares, maml, context = (f"{row['value']:.1f}" for row in rows)
    yield f"least squares ({squares}) and MAML ({maml})"
    yield f"context parameters ({context})"
    yield f"transformer ({value(CONTEXT, 'mse_1shot')})"
    yield f"best possible is {value(CONTEXT, 'possible_mse_1shot')}"
    yield f"MAML's {value(CONTEXT, 'maml_mse_5shot_after_1')} after one step"


def starts():
    tall = [FITS.format(m, "amplitude") for m in ("maml", "untrained")]
    yield "{} against {} on tall waves".format(*values(LONGER, *tall))
    lines = [FITS.format(m, "lines") for m in ("maml", "untrained")]
    yield "{} against {} (the pretrained".format(*values(LONGER, *lines))
    other = LONGER[FITS.format("pretrained", "lines")]["value"]
    yield f"(the pretrained network: {round(other, 3)})"


def probes():
    ratios = {
        name: LONGER[f"probe_untrained{name[5:]}"]["value"] / row["value"]
        for name, row in CONTEXT.items()
        if name.startswith("probe_shifted") and name.endswith("50shot")
    }
    del ratios["probe_shifted_points_mse_50shot"]  # more points, no shift
    on_lines = "probe_shifted_lines_mse_50shot"
    assert ratios.pop(on_lines) < 1
    least, most = min(ratios.values()), max(ratios.values())
    yield f"is {least:.0f} to {most:.0f} times as large"
    there = value(CONTEXT, on_lines)
    fresh = LONGER["probe_untrained_shifted_lines_mse_50shot"]["value"]
    yield f"({fresh:.1g} against {there})"


def walks():
    rows = read_result("room")["rows"]
    scatter = [
        rows[f"dice_scatter_horizon_{n}"]["value"]
        / rows[f"lvc_scatter_horizon_{n}"]["value"]
        for n in (10, 160)
    ]
    assert [round(times) for times in scatter] == [3, 7]
    yield "three times LVC's at 10 time steps, and seven times at 160"


def goals():
    rows = read_result("navigation")["rows"]
    joint = interval(rows, "pretrained_return_after_3", 1)
    yield f"MAML has {interval(rows, 'return_after_3', 1)}"
    yield f"and joint training {joint}"
    first = rows["pretrained_return_after_1"]
    yield f"reaches −{-first['paper']:.1f} after one step"
    yield f"Ours reaches −{-first['value']:.1f}"


def gaits():
    rows = read_result("cheetah")["rows"]
    joint, fresh, third = (
        interval(rows, f"{name}_return_after_{step}", 0)
        for name, step in (("pretrained", 1), ("random", 1), ("pretrained", 3))
    )
    yield f"the untrained policy ({joint} and {fresh} after one step"
    yield f"Joint training is at {third}"
    yield f"after one step is ± {rows['return_after_1']['interval']:.0f}"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("05", pretrained),
        ("05", five_trainings),
        ("09", walks),
        ("14", one_point),
        ("14", starts),
        ("14", probes),
        ("15", goals),
        ("15", gaits),
    ],
)
def test_a_chapter_tells_what_the_files_say(number, told):
    text = written(number, "markdown")
    for sentence in told():
        assert sentence in text, sentence


def written(number, kind):
    (path,) = [p for p in CHAPTERS if p.name.startswith(number)]
    cells = nbformat.read(path, 4).cells
    return "\n".join(c.source for c in cells if c.cell_type == kind)


@pytest.mark.parametrize(
    ("number", "low", "high"), [("03", 1, 4), ("04", 1, 4), ("08", 0.1, 5)]
)
def test_the_line_of_the_blind_answer_is_where_it_belongs(number, low, high):
    """What is left of waves A sin(x - p) around their mean over A and p."""
    square = (high**3 - low**3) / (high - low) / 3 / 2  # sin² is ½ over [0, π]
    cosine = (1 + math.sin(10) / 10) / 2  # mean of cos² over x in [-5, 5]
    blind = square - ((low + high) / 2 * 2 / math.pi) ** 2 * cosine
    assert f'"blind", {blind:.2f}' in written(number, "code")
