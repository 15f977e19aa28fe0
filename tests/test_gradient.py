"""The meta-gradient at once, in parts, and compiled: the same numbers."""

import warnings
from functools import partial

import pytest
import torch
from test_outer import small, train, waves
from test_rates import each
from torch._dynamo.utils import counters
from torch.nn import functional as F

import mamlkit.checks
from mamlkit import (
    Batch,
    Tasks,
    functional_loss,
    gradient_of,
    in_parts,
    meta_loss,
)


# Parts of 2, 2 and 1: each counts by its size. Every size is compiled anew.
@pytest.mark.parametrize("n_tasks, compile", [(5, False), (4, True)])
def test_tasks_taken_in_parts_train_to_the_same_numbers(n_tasks, compile):
    _, whole = train(n_tasks=n_tasks)
    _, parts = train(n_tasks=n_tasks, tasks_at_once=2, compile=compile)
    for a, b in zip(whole.loss, parts.loss):
        assert a == pytest.approx(b, rel=1e-3)
    for name, p in whole.params.items():
        torch.testing.assert_close(parts.params[name], p, rtol=1e-3, atol=1e-4)


def test_tasks_taken_in_parts_are_seen_in_parts():
    sizes = []

    def objective(params, loss_fn, tasks, **settings):
        sizes.append(len(tasks.query.x))
        return meta_loss(params, loss_fn, tasks, **settings)

    train(
        n_tasks=5,
        iterations=1,
        objective=objective,
        tasks_at_once=2,
        trial=False,
    )
    assert sizes == [2, 2, 1]


def test_no_part_lives_on_in_the_mean():
    loss_fn = functional_loss(small(), F.mse_loss)
    gradient = in_parts(gradient_of(partial(meta_loss, lr=0.1)), 1)
    tasks = waves()
    tasks = Tasks(*(Batch(b.x.float(), b.y.float()) for b in tasks))
    grads, loss = gradient(dict(small().named_parameters()), loss_fn, tasks)
    assert not loss.requires_grad
    assert not any(g.requires_grad for g in grads.values())


def test_compiled_training_gives_the_same_numbers():
    _, eager = train(iterations=5)
    _, compiled = train(iterations=5, compile=True)
    for a, b in zip(eager.loss, compiled.loss):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(
    "make", [lambda: 0.01, partial(each, kind=torch.clone), each]
)
def test_what_is_compiled_is_one_graph(make):
    torch.compiler.reset()
    counters.clear()
    train(iterations=2, compile=True, inner_lr=make())
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setattr(mamlkit.checks.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match=r"needs a C\+\+ compiler"):
        _, history = train(iterations=3, compile=True)
    with warnings.catch_warnings():
        _, eager = train(iterations=3)
    assert history.loss == eager.loss
