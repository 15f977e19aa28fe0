import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch

from mamlkit.course.diagrams import KINDS, arrow, box, legend_of_arrows


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 10))
    yield ax
    plt.close(fig)


@pytest.mark.parametrize("kind", KINDS)
def test_an_arrow_has_a_head_and_its_kind_s_look(ax, kind):
    start, end = box(ax, 1, 1, "a"), box(ax, 9, 1, "b")
    drawn = arrow(ax, start, end, kind).arrow_patch
    assert ">" in KINDS[kind].head
    assert type(drawn.get_arrowstyle()).__name__ in ("CurveFilledB", "CurveB")
    assert drawn.get_linewidth() == KINDS[kind].width


def test_kinds_differ_in_colour_and_in_line_or_width():
    for looks in (
        {k.colour for k in KINDS.values()},
        {(k.line, k.width) for k in KINDS.values()},
        {k.meaning for k in KINDS.values()},
    ):
        assert len(looks) == len(KINDS)


def test_an_arrow_ends_at_the_edges_of_its_boxes(ax):
    start, end = box(ax, 2, 5, "start"), box(ax, 8, 5, "end")
    drawn = arrow(ax, start, end)
    ax.figure.canvas.draw()
    reach = drawn.arrow_patch.get_window_extent()
    assert reach.x0 >= start.get_bbox_patch().get_window_extent().x1
    assert reach.x1 <= end.get_bbox_patch().get_window_extent().x0


def test_a_loop_stands_on_its_box(ax):
    again = box(ax, 5, 5, "adapt")
    drawn = arrow(ax, again, again, "loop", text="steps times")
    ax.figure.canvas.draw()
    frame = again.get_bbox_patch().get_window_extent()
    reach = drawn.arrow_patch.get_window_extent()
    assert frame.x0 < reach.x0 < reach.x1 < frame.x1
    assert reach.y1 > frame.y1 + 10
    assert reach.y0 >= frame.y1 - 2
    said = ax.texts[-1].get_window_extent()
    assert said.y0 > reach.y1 - 12


def test_words_beside_an_arrow_have_its_colour(ax):
    arrow(ax, (1, 1), (9, 1), "gradient", text="∇L")
    assert ax.texts[-1].get_text() == "∇L"
    assert ax.texts[-1].get_color() == KINDS["gradient"].colour


def test_a_kind_that_is_not_there_is_named(ax):
    with pytest.raises(ValueError, match="'flow': an arrow is data, grad"):
        arrow(ax, (0, 0), (1, 1), "flow")


def test_the_legend_draws_arrows_and_says_what_they_mean(ax):
    legend_of_arrows(ax, "data", "loop")
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [KINDS["data"].meaning, KINDS["loop"].meaning]
    heads = legend.findobj(FancyArrowPatch)
    assert len(heads) == 2
    assert heads[1].get_linewidth() == KINDS["loop"].width
    assert type(heads[0].get_arrowstyle()).__name__ == "CurveFilledB"
