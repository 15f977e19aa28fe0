"""Numbers in chapters' sentences are those of the result files."""

import nbformat
import pytest
from chapters import CHAPTERS

from mamlkit.reproduce import read_result

CONTEXT = read_result("in_context")["rows"]
LONGER = read_result("in_context_longer")["rows"]
FITS = "{}_shifted_{}_mse_50shot_best"


def value(rows, name):
    """A number as the chapters write it: two digits that count."""
    found = rows[name]["value"]
    return f"{found:.2f}" if found >= 0.1 else f"{found:.2g}"


def values(rows, *names):
    return [value(rows, name) for name in names]


def trainings(rows, name):
    return [f"{x:.2f}" for x in rows[name]["by_training"]]


def pretrained():
    short = LONGER["pretrained_mse_20shot_after_100"]
    yield f"{short['value']:.2f} ± {short['interval']:.2f} with twenty points"
    long = LONGER["pretrained_mse_20shot_after_1000"]["value"]
    yield f"after a thousand {long:.2f}"
    stored, *_ = trainings(LONGER, "maml_mse_5shot_after_1000")
    yield f"The stored MAML start has {stored} with five points"
    mean = value(LONGER, "maml_mse_5shot_after_1000")
    yield f"the mean of five trainings is {mean}"


def five_trainings():
    by_step = [
        trainings(CONTEXT, f"maml_mse_5shot_after_{n}") for n in (1, 5, 10)
    ]
    first, fifth, tenth = map(max, by_step)
    yield f"One ends above them ({first}, {fifth} and {tenth})"
    paper = ["0.67", "0.38", "0.35"]  # Finn et al. 2017, Table 2
    above = [sum(x > p for x in xs) for xs, p in zip(by_step, paper)]
    assert max(above) == 1
    yield "Four of the five trainings"


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
    lines = [
        FITS.format(m, "lines") for m in ("maml", "untrained", "pretrained")
    ]
    maml, fresh, other = values(LONGER, *lines)
    other = float(f"{float(other):.1g}")
    yield f"{maml} against {fresh} (the pretrained network: {other})"


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
    half, whole = (
        [rows[f"{start}_after_{n}_walks"]["value"] for n in counts]
        for start, counts in (
            ("dice", (5, 10, 20, 40)),
            ("untrained", (10, 20, 40, 80)),
        )
    )
    for found in (half, whole):
        *first, last = [f"{round(x + 1e-9, 1)}" for x in found]
        yield f"{', '.join(first)} and {last}"
    best = rows["joint_return_after_1"]["value"]
    yield f"its best is no training at all: {best:.1f}"
    scatter = [
        rows[f"dice_scatter_horizon_{n}"]["value"]
        / rows[f"lvc_scatter_horizon_{n}"]["value"]
        for n in (10, 160)
    ]
    few, many = (["", "one", "two", "three"][round(scatter[0])], scatter[1])
    assert round(many) == 7
    yield f"{few} times LVC's at 10 time steps, and seven times at 160"


def returns(rows, name, digits):
    row = rows[name]
    mean = f"{row['value']:.{digits}f}".replace("-", "−")
    return mean, f"{mean} ± {row['interval']:.{digits}f}"


def goals():
    rows = read_result("navigation")["rows"]
    _, maml = returns(rows, "return_after_3", 1)
    _, joint = returns(rows, "pretrained_return_after_3", 1)
    yield f"MAML has {maml}, and joint training {joint}"
    ours, _ = returns(rows, "pretrained_return_after_1", 1)
    yield f"Ours reaches {ours}"
    paper = rows["pretrained_return_after_1"]["paper"]
    yield f"reaches −{-paper:.1f} after one step"


def gaits():
    rows = read_result("cheetah")["rows"]
    _, joint = returns(rows, "pretrained_return_after_1", 0)
    _, fresh = returns(rows, "random_return_after_1", 0)
    yield f"the untrained policy ({joint} and {fresh} after one step"
    _, third = returns(rows, "pretrained_return_after_3", 0)
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
    (path,) = [p for p in CHAPTERS if p.name.startswith(number)]
    cells = nbformat.read(path, 4).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    for sentence in told():
        assert sentence in text, sentence
