import pytest

from mamlkit.course import tables


@pytest.fixture
def shown(monkeypatch):
    """What tables display."""
    seen = []
    monkeypatch.setattr(tables, "show_bundle", seen.append)
    return seen


def test_numbers_stand_to_the_right_and_words_to_the_left(shown):
    tables.show_table(
        ["", "error", "steps", "says"],
        [["MAML", "0.24 ± 0.01", 1, "yes"], ["a < b", "~4e-14", 10, "no 2"]],
    )
    assert shown[0]["text/plain"] == (
        "             error  steps  says\n"
        "MAML   0.24 ± 0.01      1  yes\n"
        "a < b       ~4e-14     10  no 2"
    )
    html = shown[0]["text/html"]
    assert html.startswith('<table class="numbers"><thead><tr>')
    assert '<td style="text-align:left">a &lt; b</td>' in html
    assert '<th style="text-align:right">error</th>' in html
    assert '<td style="text-align:right">~4e-14</td>' in html
    assert html.count("<tr>") == 3


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        ("81.4 ± 2.0", True),
        ("1.97e+03 ± 3.2e+03", True),
        ("93.1 ± 0.4 %", True),
        ("16, 9, 3, 4", True),
        ("5 / 50", True),
        ("–", True),
        ("", True),
        ("12 ms", True),
        ("0.1 π", True),
        ("exact 1e-10", False),
        ("e", False),
        ("K = 5", False),
    ],
)
def test_what_counts_as_a_number(shown, cell, right):
    tables.show_table([""], [[cell]])
    side = "right" if right else "left"
    assert f'<td style="text-align:{side}">' in shown[0]["text/html"]


def test_a_row_of_another_length_is_named(shown):
    with pytest.raises(ValueError, match="2 columns .* 3 cells: a, 1, 2"):
        tables.show_table(["", "x"], [["a", 1, 2]])
    assert not shown
