"""Intervals cover what they say."""

import pytest
import torch

from mamlkit.reproduce.intervals import (
    bootstrap_interval,
    row_of_trainings_and_tasks,
    student_interval,
)


@pytest.mark.parametrize("n", [3, 5])
def test_students_interval_covers_the_mean_in_95_of_100(n):
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(2_000, n, generator=g) + 7
    hits = [abs(m - 7) <= h for m, h in map(student_interval, drawn)]
    assert 0.935 < sum(hits) / 2_000 < 0.965


@pytest.mark.parametrize("n", [1, 22])
def test_students_interval_refuses_what_it_is_not_for(n):
    with pytest.raises(ValueError, match=f"2 to 21 trainings, got {n}"):
        student_interval(torch.zeros(n))


def draw(g, seeds=8, spread=1.0):
    """Accuracies = 50 + of the task + of the seed + noise."""
    task = 10 * torch.randn(1, 200, generator=g)
    seed = spread * torch.randn(seeds, 1, generator=g)
    return 50 + task + seed + torch.randn(seeds, 200, generator=g)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_three_trainings_and_their_tasks_are_both_covered(spread):
    g = torch.Generator().manual_seed(0)
    rows = [
        row_of_trainings_and_tasks("x", draw(g, 3, spread)) for _ in range(500)
    ]
    hits = [abs(row["value"] - 50) <= row["interval"] for row in rows]
    assert 0.935 < sum(hits) / 500 < 0.995
    assert rows[0]["n"] == 3 and rows[0]["tasks"] == 200
    assert sum(rows[0]["seeds"]) / 3 == pytest.approx(rows[0]["value"], 1e-4)


def test_the_bootstrap_covers_seeds_and_tasks():
    g = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(150):
        _, low, high = bootstrap_interval(draw(g), draws=400)
        hits += low <= 50 <= high
    assert 0.86 < hits / 150 < 0.99


def test_a_difference_is_taken_on_the_same_tasks():
    g = torch.Generator().manual_seed(0)
    first = draw(g, spread=0.0)
    second = first[:5] - 1
    mean, low, high = bootstrap_interval(first, second)
    assert mean == pytest.approx(
        (first.mean() - second.mean()).item(), abs=1e-3
    )
    # The tasks' spread of 10 would make it ± 1.4 wide each.
    assert high - low < 0.4 and low < 1 < high


def test_more_spread_between_seeds_makes_it_wider():
    g = torch.Generator().manual_seed(0)
    narrow, wide = (
        bootstrap_interval(draw(g, spread=spread)) for spread in (0.0, 8.0)
    )
    assert wide[2] - wide[1] > 2 * (narrow[2] - narrow[1])
