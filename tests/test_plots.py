import base64
import io

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from mamlkit.course import figures, waves
from mamlkit.course.grammar import FLOORS, METHODS, ORANGE
from mamlkit.course.plots import (
    accuracy_axis,
    draw_floor,
    draw_ink,
    in_percent,
    legend_above,
    name_panels,
    plot_mean,
    plot_runs,
    plot_scores,
)
from mamlkit.tasks import Batch


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


VALUES = torch.tensor([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]])


@pytest.mark.parametrize("what", ["fomaml", "FOMAML"])
def test_a_method_looks_as_the_grammar_says(ax, what):
    plot_mean(ax, VALUES, what)
    (line,), (said,) = ax.lines, ax.texts
    look = METHODS["fomaml"]
    assert line.get_color() == said.get_color() == look.colour
    assert line.get_marker() == look.marker
    assert line.get_linestyle() == look.line
    assert line.get_label() == said.get_text() == "FOMAML"
    assert line.get_ydata().tolist() == [1, 3, 5]


def test_what_is_no_method_is_numbered_and_styles_win(ax):
    plot_mean(ax, VALUES, "K = 5", number=1, x=[1, 2, 4], ls=":", marker="")
    (line,), (said,) = ax.lines, ax.texts
    assert line.get_color() == ORANGE and said.get_text() == "K = 5"
    assert line.get_linestyle() == ":" and line.get_marker() == ""
    assert line.get_xdata().tolist() == [1, 2, 4]
    plot_mean(ax, VALUES, "maml", text="", linestyle="--")
    assert ax.texts[-1].get_text() == ""
    assert ax.lines[-1].get_linestyle() == "--"


def test_runs_show_their_range_and_tasks_their_interval(ax):
    plot_runs(ax, VALUES, "maml")
    low, high = band(ax.collections[0])
    assert (low, high) == (0, 2)
    plot_mean(ax, VALUES, "maml")
    low, high = band(ax.collections[1])
    half = 1.96 * VALUES[:, 0].std().item() / 2**0.5
    assert (low, high) == pytest.approx((1 - half, 1 + half))


def band(collection):
    """Lower and upper end of what is filled at the left."""
    points = collection.get_paths()[0].vertices
    left = points[points[:, 0] == points[:, 0].min(), 1]
    return left.min(), left.max()


def test_a_floor_is_named_and_drawn_across(ax):
    draw_floor(ax, "zero", 4.25)
    draw_floor(ax, "chance", 20, axis="x", text="")
    level, upright = ax.lines
    assert level.get_ydata() == [4.25, 4.25]
    assert upright.get_xdata() == [20, 20]
    assert upright.get_linestyle() == FLOORS["chance"].line
    assert [t.get_text() for t in ax.texts] == ["predicting 0", ""]


def test_a_floor_must_be_one(ax):
    with pytest.raises(ValueError, match="'maml' is no floor"):
        draw_floor(ax, "maml", 1)
    with pytest.raises(ValueError, match='"x" or "y", got \'z\''):
        draw_floor(ax, "zero", 1, axis="z")


def test_scores_are_rows_from_the_first_down(ax):
    scores = {"maml": 90 + VALUES[:, 0], "my own": 70 + VALUES[:, 0]}
    plot_scores(ax, scores, chance=20)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["MAML", "my own"]
    assert ax.get_yticks().tolist() == [0, -1]
    assert {"91.0", "71.0", "chance"} == {t.get_text() for t in ax.texts}
    assert ax.get_xlabel() == "accuracy (%)"
    low, high = ax.get_ylim()
    assert low < -1 and high > 0


def test_accuracy_is_in_percent(ax):
    accuracy_axis(ax, what="accuracy, 5 ways")
    assert ax.get_ylabel() == "accuracy, 5 ways (%)"
    assert ax.get_ylim() == (0, 104) and ax.get_yticks()[-1] == 100
    assert ax.get_xlabel() == ""
    accuracies = torch.tensor([0.9, 0.8])
    half = 1.96 * 10 * 2**-0.5 / 2**0.5
    assert in_percent(accuracies) == f"85.0 ± {half:.1f} %"


def test_panels_are_named_before_their_titles():
    fig, axes = plt.subplots(2, 2)
    axes[0, 0].set_title("first", loc="left")
    axes[0, 1].set_title("second", loc="center")
    name_panels(axes)
    titles = [ax.get_title(loc="left") for ax in axes.flat]
    assert [t.replace(r"$\mathbf", "") for t in titles] == [
        "{a}$  first",
        "{b}$  second",
        "{c}$",
        "{d}$",
    ]
    assert not any(ax.get_title(loc="center") for ax in axes.flat)
    with pytest.raises(ValueError, match="one panel"):
        name_panels(axes[0, :1])
    fig.canvas.draw()  # the letters are valid mathematics
    plt.close(fig)


def test_one_legend_names_each_thing_once():
    fig, axes = plt.subplots(1, 2, layout="constrained")
    for ax in axes:
        plot_mean(ax, VALUES, "maml")
        plot_mean(ax, VALUES, "fomaml")
    legend_above(fig, axes)
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == ["MAML", "FOMAML"]
    plt.close(fig)


def test_ink_is_dark_and_keeps_its_scale(ax):
    draw_ink(ax, torch.full((1, 3, 3), 0.5), "half")
    (image,) = ax.images
    assert image.get_clim() == (0, 1) and image.get_cmap().name == "Greys"
    assert ax.get_title() == "half" and not ax.get_xticks().size


def test_paths_and_stars_of_the_plane_share_the_grammar(ax):
    path = [{"amplitude": 1.0, "phase": 0.5}, {"amplitude": 2.0, "phase": 1}]
    waves.draw_path(ax, path, "reptile")
    waves.draw_path(ax, path, 1)
    waves.mark_best(ax, 3.0, 1.0, "reptile")
    waves.mark_best(ax, 3.0, 1.0, 1)
    walked, _, numbered, _, star, other = ax.lines
    look = METHODS["reptile"]
    assert walked.get_color() == star.get_color() == look.colour
    assert numbered.get_color() == other.get_color() == ORANGE
    assert walked.get_xydata().tolist() == [[1, 0.5], [2, 1]]


def test_a_task_is_drawn_from_columns_too(ax):
    x = torch.linspace(0, 1, 5)[:, None]
    waves.draw_truth(ax, x, x**2)
    waves.draw_support(ax, Batch(x, x**2))
    truth, support = ax.lines
    assert truth.get_ydata().shape == support.get_ydata().shape == (5,)
    assert support.get_linestyle() == "None"


def test_a_picture_is_sharp_and_fits_the_column(monkeypatch):
    shown = []
    monkeypatch.setattr(
        figures,
        "show_bundle",
        lambda data, metadata: shown.append((data, metadata)),
    )
    with plt.rc_context():
        figures.use_theme()
        fig, ax = plt.subplots()
        names = ("font.size", "xtick.labelsize", "legend.fontsize")
        sizes = [plt.rcParams[name] for name in names]
        figures.show(fig, alt="Nothing.")
    assert min(sizes) >= 12
    ((data, metadata),) = shown
    size = metadata["image/png"]
    assert size["width"] == 691 and size["alt"] == "Nothing."
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width == pytest.approx(2 * size["width"], abs=2)
    assert image.height == pytest.approx(2 * size["height"], abs=2)
    with pytest.raises(ValueError, match="alt must state"):
        figures.show(plt.figure(), alt=" ")
    plt.close("all")


def test_few_colours_are_enough_for_all_methods_and_for_white():
    fig, ax = plt.subplots()
    ramp = torch.linspace(0, 1, 100).expand(100, 100)
    ax.imshow(ramp, cmap="Greys", extent=(0, 30, 0, 30))
    for place, look in enumerate(METHODS.values()):
        ax.plot([0, 30], [place, place], lw=5, color=look.colour)
    image = Image.open(io.BytesIO(figures.png(fig))).convert("RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)
    found = {colour for _, colour in image.getcolors()}
    for look in METHODS.values():
        want = [int(look.colour[i : i + 2], 16) for i in (1, 3, 5)]
        away = [max(abs(a - b) for a, b in zip(want, c)) for c in found]
        assert min(away) <= 3, look
