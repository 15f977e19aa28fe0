"""Pretraining beside meta-learning: each judged as it should be."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mamlkit import Batch, Episodes, adapt, functional_loss
from mamlkit.reproduce import budgets


@pytest.fixture
def net():
    return budgets.network(4, seed=0)


def params_of(net):
    return {k: p.detach() for k, p in net.named_parameters()}


def tasks(n_tasks=3, k_query=2):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(8, 20, 1, 28, 28, generator=g)
    return Episodes(images, 5, rotations=True).sample(
        n_tasks, k_shot=1, k_query=k_query, generator=g
    )


def test_all_methods_of_a_seed_begin_with_one_body():
    few, many = (budgets.network(4, 3, names) for names in (5, 40))
    assert many.head.out_features == 40
    for one, other in zip(few.body.parameters(), many.body.parameters()):
        assert torch.equal(one, other)


def test_features_are_what_the_head_sees(net):
    x = tasks().query.x[0]
    found = budgets.features(net, params_of(net), x)
    torch.testing.assert_close(net.head(found), net(x))


def test_prototype_loss_is_that_of_squared_distances(net):
    some, params = tasks(n_tasks=1), params_of(net)
    known, new = (budgets.features(net, params, b.x[0]) for b in some)
    means = known[some.support.y[0].argsort()]
    logits = -torch.cdist(new, means).square()
    expected = F.cross_entropy(logits, some.query.y[0])
    found = budgets.prototype_loss(net, params, None, some)
    torch.testing.assert_close(found, expected)


def test_company_is_one_batch_or_two(net):
    some, params = tasks(), params_of(net)
    apart = budgets.seen(net, params, some, together=False)
    both = budgets.seen(net, params, some, together=True)
    own = budgets.features(net, params, some.query.x[1])
    torch.testing.assert_close(apart[1][1], own)
    whole = torch.cat([some.support.x[1], some.query.x[1]])
    torch.testing.assert_close(
        both[1][1], budgets.features(net, params, whole)[5:]
    )
    assert not torch.allclose(apart[1], both[1])


def test_centroids_find_a_query_that_is_the_support(net):
    some = tasks()
    same = some._replace(query=some.support)
    for together in (False, True):
        for cosine_of in (False, True):
            found = budgets.centroids(
                net, params_of(net), same, together, cosine_of
            )
            assert found.tolist() == [1.0] * 3


def test_a_head_takes_the_steps_that_adapt_takes(net):
    some, params = tasks(n_tasks=2), params_of(net)
    found = budgets.heads(net, params, some, False, False, rate=0.7)
    head = nn.Linear(4, 5)
    loss_fn = functional_loss(head, F.cross_entropy)
    known, new = budgets.seen(net, params, some, together=False)
    start = {"weight": torch.zeros(5, 4), "bias": torch.zeros(5)}
    for i in range(2):
        support = Batch(known[i], some.support.y[i])
        theta = adapt(start, loss_fn, support, lr=0.7, steps=9)
        said = (new[i] @ theta["weight"].T + theta["bias"]).argmax(-1)
        right = (said == some.query.y[i]).float().mean()
        assert found[i, 9] == right
    assert found.shape == (2, budgets.HEAD_STEPS + 1)


def test_a_climb_ends_inside_its_grid_or_says_so():
    grid = (1.0, 2.0, 3.0, 4.0, 5.0)
    best, tried = budgets.climb(grid, 2.0, lambda v: -abs(v - 4))
    assert best == 4.0 and sorted(tried) == [1.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(ValueError, match="widen it"):
        budgets.climb(grid, 2.0, lambda v: v)


@pytest.mark.parametrize("method", budgets.METHODS)
def test_a_training_is_kept_and_read_again(method, tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "BUILD", tmp_path)
    setting = {"rate": 0.01} | ({"alpha": 0.4} if method == "maml" else {})
    first = budgets.train(method, 2, 0, 4, **setting)
    start = params_of(budgets.network(4, 0))
    moved = {k for k in first if not torch.equal(first[k], start[k])}
    assert "body.0.weight" in moved

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(budgets, "meta_train", refuse)
    monkeypatch.setattr(budgets, "name_all", refuse)
    again = budgets.train(method, 2, 0, 4, **setting)
    assert again.keys() == first.keys()
    assert all(torch.equal(again[k], first[k]) for k in first)


def test_blurring_takes_the_mean_of_a_square():
    some = tasks(n_tasks=1)
    found = budgets.blurred(some, 3).query.x[0, 4, 0]
    square = some.query.x[0, 4, 0, 9:12, 19:22]
    torch.testing.assert_close(found[10, 20], square.mean())


def test_the_pace_is_that_of_the_iterations_between(monkeypatch):
    now, each = [0.0], {1: 5.0, 1 + budgets.PROBE: 5.0 + budgets.PROBE}

    def fit(method, iterations, *args, **setting):
        now[0] += each[iterations]

    monkeypatch.setattr(budgets, "fit", fit)
    monkeypatch.setattr(budgets.time, "process_time", lambda: now[0])
    assert budgets.pace("maml", 4) == 1000.0
