import re

import pytest
import torch

from mamlkit.course import claims


@pytest.fixture
def shown(monkeypatch):
    """What claims display, as (data, metadata), and none recorded yet."""
    seen = []
    monkeypatch.setattr(claims, "_claims", {})
    monkeypatch.setattr(
        claims,
        "show_bundle",
        lambda data, metadata=None: seen.append((data, metadata)),
    )
    return seen


def test_a_claim_is_a_small_mark_that_opens_on_its_statement(shown, capsys):
    claims.claim("Two < three.", True, "2 & 3")
    ((data, _),) = shown
    assert data["text/plain"] == "✓ claim 1 holds: 2 & 3"
    summary, statement = re.fullmatch(
        r"<details [^>]*><summary>(.*)</summary>(.*)</details>",
        data["text/html"],
    ).groups()
    assert summary == "✓ claim 1 holds: 2 &amp; 3"
    assert statement == "Two &lt; three."
    assert capsys.readouterr().out == ""


def test_a_claim_that_does_not_hold_says_so(shown):
    claims.claim("Two is three.", False, 2)
    said = shown[0][0]["text/plain"]
    assert said == "✗ claim 1 does not hold in this run: 2"


def test_numbers_are_those_of_the_table(shown):
    claims.claim("A.", True, 1)
    claims.claim("B.", True, 2)
    claims.claim("A.", True, 3)  # the same cell again
    assert [d["text/plain"].split(":")[0] for d, _ in shown] == [
        "✓ claim 1 holds",
        "✓ claim 2 holds",
        "✓ claim 1 holds",
    ]
    claims.report_claims("laptop")
    data, note = shown[-1]
    rows = re.findall(r"<tr><td>(\d)</td><td[^>]*>(.)\.<", data["text/html"])
    assert rows == [("1", "A"), ("2", "B")]
    assert [c["measured"] for c in note["mamlkit"]["claims"]] == ["3", "2"]


def test_three_standard_errors_are_asked_for():
    # A mean of 1 with a standard error of 1/3, once more and once less.
    spread = torch.tensor([-1.0, 1.0]).repeat(8) * (15 / 16) ** 0.5 * 4 / 3
    error = spread.std() / 4
    assert error.item() == pytest.approx(1 / 3)
    assert claims.exceeds(1.01 + spread)
    assert not claims.exceeds(0.99 + spread)
    assert claims.exceeds(3.01 + spread, 2.0)
    assert not claims.exceeds(2.99 + spread, 2.0)


@pytest.mark.parametrize("shape", [(), (1,), (4, 2)])
def test_what_is_no_row_of_tasks_is_refused(shape):
    with pytest.raises(ValueError, match="one number a task"):
        claims.exceeds(torch.zeros(shape))
