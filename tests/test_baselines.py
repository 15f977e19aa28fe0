"""Baselines against numbers that can be found by hand, or by NumPy."""

import numpy as np
import pytest
import torch

from mamlkit import Batch, Tasks
from mamlkit.baselines import (
    nearest_centroid,
    nearest_example,
    ridge,
    support_mean,
)


def tasks(support, query):
    """One task, from (x, y) lists."""
    return Tasks(
        *(
            Batch(*(torch.tensor([t]) for t in pair))
            for pair in (support, query)
        )
    )


def test_nearest_example_and_centroid_differ_where_they_should():
    # 2.0 is nearest to the example at 1.5, and to the mean of 3.0 and 1.2.
    given = tasks(([-5.0, 1.5, 3.0, 1.2], [0, 0, 1, 1]), ([2.0, -4.0], [1, 0]))
    assert nearest_example(given).tolist() == [0.5]
    assert nearest_centroid(given).tolist() == [1.0]


def test_several_inputs_lie_side_by_side():
    given = tasks(
        ([[0.0, 5.0], [3.0, 0.0]], [[1.0], [2.0]]), ([[3.0, 1.0]], [[2.0]])
    )
    apart = Tasks(
        *(
            Batch({"a": x[..., :1], "b": x[..., 1]}, y)
            for x, y in (given.support, given.query)
        )
    )
    assert torch.equal(ridge(apart), ridge(given))
    for score in (nearest_example, nearest_centroid):
        one, other = (
            Tasks(*(Batch(x, y.long()[..., 0] - 1) for x, y in of))
            for of in (apart, given)
        )
        assert score(one).tolist() == score(other).tolist() == [1.0]


def test_whole_numbers_are_targets_and_labels():
    whole = tasks(([[0], [1], [2]], [1, 3, 8]), ([[1], [2]], [4, 4]))
    assert support_mean(whole).tolist() == [0.0]
    exact = Tasks(*(Batch(b.x, b.y.float()[..., None]) for b in whole))
    assert torch.equal(ridge(whole), ridge(exact))
    # The classes 0 and 2 lie at 0.5 and 2, and class 1 is nowhere.
    support, query = whole
    labels = torch.tensor([[0, 2]], dtype=torch.int32)
    short = Batch(support.x, support.y.int() // 4), Batch(query.x, labels)
    assert nearest_centroid(Tasks(*short)).tolist() == [1.0]


def test_images_and_words_are_flattened_and_tasks_kept_apart():
    x = torch.eye(4).view(1, 4, 2, 2).repeat(2, 1, 1, 1)
    y = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    for score in (nearest_example, nearest_centroid):
        both = Tasks(Batch(x, y), Batch(x, y[:1].repeat(2, 1)))
        assert score(both).tolist() == [1.0, 0.0]
        whole = Tasks(Batch(x.long(), y), Batch(x.long(), y))
        assert score(whole).tolist() == [1.0, 1.0]


def test_the_mean_is_that_of_the_support_set():
    given = tasks(([0.0, 0.0], [[1.0], [3.0]]), ([9.0, 9.0], [[2.0], [5.0]]))
    assert support_mean(given).tolist() == [4.5]


@pytest.mark.parametrize("features", [2, 9])
def test_ridge_is_the_least_of_what_it_says(features):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, features)), rng.normal(size=(3, 5, 2))
    new, to = rng.normal(size=(3, 4, features)), rng.normal(size=(3, 4, 2))
    given = Tasks(
        Batch(torch.tensor(x), torch.tensor(y)),
        Batch(torch.tensor(new), torch.tensor(to)),
    )
    found = ridge(given, strength=0.7)
    for i in range(3):
        # With a column of ones, whose weight is not shrunk.
        a = np.c_[x[i], np.ones(5)]
        shrink = 0.7 * np.diag([1.0] * features + [0.0])
        w = np.linalg.solve(a.T @ a + shrink, a.T @ y[i])
        error = ((np.c_[new[i], np.ones(4)] @ w - to[i]) ** 2).mean()
        assert found[i].item() == pytest.approx(error)


def test_ridge_without_shrinking_is_refused():
    with pytest.raises(ValueError, match="strength must be > 0, got 0"):
        ridge(tasks(([0.0], [[1.0]]), ([0.0], [[1.0]])), strength=0)


def test_a_class_without_examples_is_never_the_answer():
    given = tasks(([0.0, 1.0], [0, 2]), ([0.4, 0.6], [0, 2]))
    assert nearest_centroid(given).tolist() == [1.0]
