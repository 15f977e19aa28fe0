"""Evaluation against doing it by hand."""

import math

import numpy as np
import pytest
import torch
from test_outer import params_of, waves
from torch.nn import functional as F

from mamlkit import (
    CNN,
    MLP,
    Batch,
    adapt,
    adaptation_curve,
    functional_accuracy,
    functional_loss,
    mean_interval,
    one_by_one,
    slope_error,
)


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_the_curve_starts_anew_for_each_task(over_tasks):
    model, tasks = MLP().double(), waves(3)
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    curve = adaptation_curve(
        params, loss_fn, loss_fn, tasks, lr=0.02, steps=2,
        over_tasks=over_tasks,
    )  # fmt: skip
    assert curve.shape == (3, 3) and not curve.requires_grad
    for i in range(3):
        support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
        for steps in range(3):
            adapted = adapt(params, loss_fn, support, lr=0.02, steps=steps)
            torch.testing.assert_close(
                curve[i, steps], loss_fn(adapted, query)
            )


def test_evaluation_keeps_no_graph():
    model, tasks = MLP().double(), waves(2)
    loss_fn = functional_loss(model, F.mse_loss)
    params = {k: p.requires_grad_() for k, p in params_of(model).items()}
    curve = adaptation_curve(params, loss_fn, loss_fn, tasks, lr=0.1, steps=1)
    assert curve.grad_fn is None


def test_accuracy_is_the_share_of_right_answers():
    model = CNN(3, width=4)
    params = {k: p.detach() for k, p in model.named_parameters()}
    x = torch.rand(8, 1, 28, 28)
    said = model(x).argmax(-1)
    y = said.clone()
    y[:2] = (y[:2] + 1) % 3
    accuracy = functional_accuracy(model)(params, Batch(x, y))
    assert accuracy.item() == 0.75


def test_an_accuracy_asks_for_logits():
    class Wrapped(torch.nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    model = Wrapped(2, 3)
    batch = Batch(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="the model returns dict: wrap it"):
        functional_accuracy(model)(dict(model.named_parameters()), batch)


def test_labels_that_would_broadcast_are_refused():
    model = CNN(3, width=4)
    params = {k: p.detach() for k, p in model.named_parameters()}
    x, y = torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    accuracy = functional_accuracy(model)
    with pytest.raises(ValueError, match=r"labels \(examples,\).*\(4, 1\)"):
        accuracy(params, Batch(x, y[:, None]))
    single = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1))
    with pytest.raises(ValueError, match=r"n_way >= 2\).*\(4, 1\)"):
        functional_accuracy(single)(
            dict(single.named_parameters()), Batch(x, y)
        )


def test_the_interval_covers_the_mean_19_times_in_20():
    torch.manual_seed(0)
    mean, half = mean_interval(torch.randn(100, 2000, dtype=torch.float64))
    covered = (mean.abs() < half).double().mean().item()
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("n_groups", [3, 6, 20])
def test_the_interval_of_many_draws_from_few_tasks_covers_too(n_groups):
    # A draw is its task's own value and a little noise.
    torch.manual_seed(0)
    own = torch.randn(n_groups, 4000)
    groups = torch.arange(n_groups).repeat(50)
    values = own[groups] + 0.1 * torch.randn(len(groups), 4000)
    mean, half = mean_interval(values, groups)
    covered = (mean.abs() < half).double().mean().item()
    assert covered == pytest.approx(0.95, abs=0.012)
    blind, narrow = mean_interval(values)
    torch.testing.assert_close(blind, mean, rtol=0, atol=1e-5)
    assert (blind.abs() < narrow).double().mean() < 0.4


@pytest.mark.parametrize("as_", [list, torch.tensor, np.array, tuple])
def test_groups_count_once_each_and_come_in_any_form(as_):
    values = torch.tensor([[1.0, 0], [1, 0], [1, 0], [4, 6]])
    mean, half = mean_interval(values, groups=as_([7, 7, 7, 2]))
    torch.testing.assert_close(mean, torch.tensor([2.5, 3.0]))
    torch.testing.assert_close(half, 12.706 * torch.tensor([1.5, 3.0]))
    each = mean_interval(values, groups=list("abcd"))
    torch.testing.assert_close(each[0], values.mean(0))
    assert (each[1] > mean_interval(values)[1]).all()  # Student's t
    with pytest.raises(ValueError, match="for each of 4 values, got 3"):
        mean_interval(values, groups=as_([7, 7, 2]))
    with pytest.raises(ValueError, match="an interval needs 2 groups, got 1"):
        mean_interval(values, groups=as_([7, 7, 7, 7]))


def test_an_interval_needs_two_tasks():
    with pytest.raises(ValueError, match="needs 2 tasks, got 1"):
        mean_interval(torch.zeros(1, 3))


def test_slope_error_is_the_share_by_which_a_gradient_is_off():
    params = {"w": torch.tensor([1.0, -2.0], dtype=torch.float64)}

    def cubes(params):
        return (params["w"] ** 3).sum()

    right = {"w": 3 * params["w"] ** 2}
    assert slope_error(cubes, params, right) < 1e-8
    # Among twenty directions in the plane one lies near the gradient's own.
    doubled = {"w": 2 * right["w"]}
    assert 0.45 < slope_error(cubes, params, doubled) <= 0.5 + 1e-6
    assert slope_error(cubes, params, doubled, directions=1) < 0.45
    unknown = {"w": torch.full_like(right["w"], torch.nan)}
    assert math.isnan(slope_error(cubes, params, unknown))
    # Central differences of a cube are off by eps² along each direction.
    coarse = slope_error(cubes, params, right, eps=0.1)
    assert 0 < coarse <= 0.01 / sum(right["w"] ** 2) ** 0.5


def test_one_by_one_is_a_batch_of_support_and_one():
    torch.manual_seed(0)
    model = CNN(3, width=4)
    params = {name: p.detach() for name, p in model.named_parameters()}
    support_x = torch.rand(6, 1, 28, 28)
    x = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        logits = one_by_one(model, params, support_x, x)
        assert logits.shape == (4, 3)
        for i in range(4):
            by_hand = model(torch.cat([support_x, x[i : i + 1]]))[-1]
            torch.testing.assert_close(logits[i], by_hand)
        alone = one_by_one(model, params, support_x, x[:1])
    torch.testing.assert_close(alone[0], logits[0])


@pytest.mark.parametrize("values", [[1.0, 2.0], np.array([1.0, 2.0])])
@pytest.mark.parametrize("groups", [None, [0, 1]])
def test_an_interval_is_one_of_a_tensor(values, groups):
    with pytest.raises(ValueError, match="values must be a tensor.*as_tensor"):
        mean_interval(values, groups)


def test_what_cannot_lie_beside_a_support_set_is_refused():
    model, x = CNN(5, width=4), torch.rand(5, 1, 28, 28)
    params = params_of(model)
    with pytest.raises(ValueError, match=r"one alone is x\[None\]"):
        one_by_one(model, params, x, x[0])
    with pytest.raises(ValueError, match="x must be a tensor"):
        one_by_one(model, params, x, x.numpy())


@pytest.mark.parametrize("values", [torch.tensor([True]), torch.tensor(0.5)])
def test_an_interval_wants_fractions_before_any_mean(values):
    with pytest.raises(ValueError, match=r"before any mean.*right.float\(\)"):
        mean_interval(values)


def test_params_are_a_dict_and_no_model():
    model, tasks = MLP(), waves()
    loss_fn = functional_loss(model, F.mse_loss)
    with pytest.raises(ValueError, match="params must be a dict.*got MLP"):
        adaptation_curve(model, loss_fn, loss_fn, tasks, lr=0.1, steps=1)
