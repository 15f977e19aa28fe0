"""Task families: what they promise, against slow twins."""

import math

import numpy as np
import pytest
import torch

from mamlkit import (
    Harmonics,
    Sinusoids,
    SinusoidsAndLines,
    TaskArrays,
    map_tasks,
)

FAMILIES = [Sinusoids(), Harmonics(), SinusoidsAndLines()]


def sample(family, n_tasks=6, k_shot=3, k_query=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return family.sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=generator
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_shapes_ranges_and_seed(family):
    support, query = sample(family)
    assert support.x.shape == support.y.shape == (6, 3, 1)
    assert query.x.shape == query.y.shape == (6, 4, 1)
    assert (
        support.x.abs().max() <= 5 and not support.x.eq(query.x[:, :3]).any()
    )
    again, other = sample(family), sample(family, seed=1)
    assert torch.equal(support.y, again.support.y)
    assert not torch.equal(support.y, other.support.y)


def test_a_sinusoid_is_amplitude_times_sine_of_x_minus_phase():
    support, query = sample(Sinusoids(oracle=True), n_tasks=50)
    for batch in (support, query):
        x, amplitude, phase = batch.x.unbind(-1)
        expected = amplitude * torch.sin(x - phase)
        torch.testing.assert_close(batch.y[..., 0], expected)
    amplitude, phase = support.x[:, 0, 1], support.x[:, 0, 2]
    assert 0.1 <= amplitude.min() < 0.6 and 4.4 < amplitude.max() <= 5
    assert 0 <= phase.min() < 0.3 and 2.8 < phase.max() <= math.pi
    # One wave a task: support and query share it.
    assert torch.equal(support.x[:, 0, 1:], query.x[:, 0, 1:])


def test_the_oracle_sees_the_same_waves():
    plain, told = sample(Sinusoids()), sample(Sinusoids(oracle=True))
    assert torch.equal(plain.query.y, told.query.y)
    assert torch.equal(plain.query.x, told.query.x[..., :1])


def test_floors_of_the_sinusoids():
    # Predicting 0 costs E[A²]/2; the best guess without knowing the task is
    # E[A] E[sin(x - φ)] = -(2 · 2.55 / π) cos x.
    _, query = sample(Sinusoids(), n_tasks=200_000, k_query=1)
    zero = query.y.square().mean().item()
    blind = (query.y + 2 * 2.55 / math.pi * query.x.cos()).square().mean()
    assert zero == pytest.approx(4.25, abs=0.05)
    assert blind.item() == pytest.approx(3.01, abs=0.05)


def test_harmonics_have_two_frequencies():
    # Any such task is a combination of four functions of x.
    support, _ = sample(Harmonics(), n_tasks=5, k_shot=30)
    x = support.x.double()
    basis = torch.cat([x.sin(), x.cos(), (2 * x).sin(), (2 * x).cos()], -1)
    fit = torch.linalg.lstsq(basis, support.y.double()).solution
    torch.testing.assert_close(
        basis @ fit, support.y.double(), atol=1e-4, rtol=0
    )
    assert (fit.abs() > 0.01).sum() >= 15


def test_half_of_sinusoids_and_lines_are_lines():
    support, _ = sample(SinusoidsAndLines(), n_tasks=400, k_shot=5)
    x, y = support.x.double(), support.y.double()
    basis = torch.cat([x, torch.ones_like(x)], -1)
    fit = basis @ torch.linalg.lstsq(basis, y).solution
    is_line = (fit - y).abs().amax((1, 2)) < 1e-3
    assert 150 < is_line.sum() < 250


@pytest.mark.parametrize("name", ["n_tasks", "k_shot", "k_query"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_empty_sets_are_refused(family, name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        sample(family, **{name: 0})


def test_arrays_give_disjoint_examples_of_one_task():
    # Every example carries its task and its number in that task.
    task, example = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    family = TaskArrays(x=np.stack([task, example], -1), y=task)
    support, query = sample(family, n_tasks=50, k_shot=3, k_query=6)
    assert support.x.shape == (50, 3, 2) and query.x.shape == (50, 6, 2)
    both = torch.cat([support.x, query.x], 1)
    assert (both[..., 0] == both[:, :1, 0]).all()
    assert (both[..., 1].sort(1).values == torch.arange(9)).all()
    assert torch.equal(both[..., 0], torch.cat([support.y, query.y], 1))
    assert len(both[:, 0, 0].unique()) == 7


def test_arrays_that_do_not_fit_are_refused():
    x = torch.zeros(4, 5, 2)
    with pytest.raises(ValueError, match=r"got \(4, 5, 2\) and \(4, 6\)"):
        TaskArrays(x, torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"3 \+ 4 .* a task has 5"):
        sample(TaskArrays(x, torch.zeros(4, 5)))


def test_the_loop_takes_one_task_at_a_time():
    shapes = []

    def fn(support, query):
        shapes.append((support.x.shape, query.x.shape))
        return query.y.sum()

    tasks = Sinusoids().sample(
        2, k_shot=5, k_query=4, generator=torch.Generator()
    )
    actual = map_tasks(fn, tasks, "loop")
    assert shapes == [((5, 1), (4, 1))] * 2
    torch.testing.assert_close(actual, tasks.query.y.sum((1, 2)))
