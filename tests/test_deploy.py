"""A module for one task: adapted, without a graph, and nobody else's."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit.deploy
from mamlkit import (
    Batch,
    Tasks,
    adapt,
    adaptation_curve,
    adapted_model,
    functional_loss,
)
from mamlkit.rules import adam


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.fixture
def support():
    return Batch(torch.randn(6, 3), torch.randn(6, 1))


def params_of(model):
    return {k: p.detach().clone() for k, p in model.named_parameters()}


GIVEN = {"criterion": F.mse_loss, "lr": 0.1, "steps": 4}


def test_it_is_the_adapted_model_and_predicts_arrays(model, support):
    before = params_of(model)
    module = adapted_model(model, support, **GIVEN)
    loss_fn = functional_loss(model, F.mse_loss)
    expected = adapt(before, loss_fn, support, lr=0.1, steps=4)
    for name, p in module.named_parameters():
        assert torch.equal(p, expected[name]) and not p.requires_grad
        assert torch.equal(model.get_parameter(name), before[name])
        assert model.get_parameter(name).requires_grad
    assert module(torch.randn(5, 3)).numpy().shape == (5, 1)
    assert type(module) is type(model) and module.training
    assert not adapted_model(model.eval(), support, **GIVEN).training


def test_no_step_leaves_a_graph(model, support, monkeypatch):
    steps = []

    def watched(*args, **options):
        steps.append(adapt(*args, **options))
        return steps[-1]

    monkeypatch.setattr(mamlkit.deploy, "adapt", watched)
    adapted_model(model, support, **GIVEN)
    assert all(p.grad_fn is None for p in steps[0].values())


def test_frozen_parts_stay_and_only_those_named_are_adapted(model, support):
    model[0].requires_grad_(False)
    module = adapted_model(model, support, adapted=["2.bias"], **GIVEN)
    moved = {
        name
        for name, p in module.named_parameters()
        if not torch.equal(p, model.get_parameter(name))
    }
    assert moved == {"2.bias"}
    with pytest.raises(ValueError, match="adapted must name parameters of"):
        adapted_model(model, support, adapted=["0.bias"], **GIVEN)
    with pytest.raises(ValueError, match="no parameter of the model requires"):
        adapted_model(model.requires_grad_(False), support, **GIVEN)


def test_evaluation_adapts_those_named_as_training_does(model, support):
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    x, y = (t[None] for t in support)
    curve = adaptation_curve(
        params, loss_fn, loss_fn, Tasks(Batch(x, y), Batch(x, y)),
        lr={"2.bias": 0.1}, steps=4, adapted=["2.bias"],
    )  # fmt: skip
    module = adapted_model(
        model, support, adapted=["2.bias"], **GIVEN | {"lr": {"2.bias": 0.1}}
    )
    expected = F.mse_loss(module(support.x), support.y)
    torch.testing.assert_close(curve[0, -1], expected)
    assert curve[0, -1] < curve[0, 0]


def test_arrays_and_rules_will_do(model, support):
    arrays = Batch(*(np.asarray(t) for t in support))
    plain = adapted_model(model, arrays, **GIVEN)
    same = adapted_model(model, support, **GIVEN)
    other = adapted_model(model, arrays, rule=adam(), **GIVEN)
    assert torch.equal(plain[2].weight, same[2].weight)
    assert not torch.equal(plain[2].weight, other[2].weight)


def test_what_is_not_one_tasks_examples_is_refused(model, support):
    x, y = support
    stack = Batch(x.expand(2, 6, 3), y.expand(2, 6, 1))
    for wrong, said in (
        ((x, y), r"a Batch\(x, y\) of one task, got a tuple"),
        (Tasks(support, support), "one task, got a Tasks"),
        (Batch(x, y[:5]), "it has 6 x and 5 y"),
        (stack, r"x has shape \(2, 6, 3\), and that of one task"),
        (Batch(x.double(), y), "x is torch.float64 and the model torch.float"),
        (Batch(x.numpy() > 0, y.numpy()), "x is torch.bool"),
    ):
        with pytest.raises(ValueError, match=said):
            adapted_model(model, wrong, **GIVEN)


def test_a_model_of_nans_is_not_handed_back(model, support):
    x, y = (t.clone() for t in support)
    x[2, 1], y[3] = math.nan, math.inf
    for wrong, said in (
        (
            Batch(x, support.y),
            r"support's 'x' .* \(in row 2, column 1\)",
        ),
        (Batch(support.x.numpy(), y.numpy()), "support's 'y' holds .* row 3"),
    ):
        with pytest.raises(ValueError, match=said):
            adapted_model(model, wrong, **GIVEN)
    with pytest.raises(FloatingPointError, match="after 4 steps: lower lr"):
        adapted_model(model, support, **GIVEN | {"lr": 1e30})
    model[2].bias.data[0] = math.nan
    with pytest.raises(ValueError, match="'2.bias' holds numbers"):
        adapted_model(model, support, **GIVEN)


def test_a_table_of_lists_is_not_several_inputs(model, support):
    x, y = (t.tolist() for t in support)
    with pytest.raises(ValueError, match=r"make x an array, np.asarray\(x\)"):
        adapted_model(model, Batch(x, y), **GIVEN)
    found = adapted_model(model, Batch(np.float32(x), np.float32(y)), **GIVEN)
    right = adapted_model(model, support, **GIVEN)
    assert torch.equal(found[2].weight, right[2].weight)


def test_examples_that_are_sequences_are_no_stack():
    class Means(nn.Linear):
        def forward(self, x):
            return super().forward(x - x.mean(1, keepdim=True))

    one = Batch(torch.randn(6, 5, 3), torch.randn(6, 5, 1))
    assert adapted_model(Means(3, 1), one, **GIVEN)(one.x).shape == (6, 5, 1)


def test_rows_that_may_not_be_written_are_taken_without_a_word(model, support):
    arrays = [part.numpy() for part in support]
    for array in arrays:
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = adapted_model(model, Batch(*arrays), **GIVEN)
    right = adapted_model(model, support, **GIVEN)
    for name, value in found.state_dict().items():
        assert torch.equal(value, right.state_dict()[name])


def test_arrays_of_doubles_are_taken_as_the_models_type(model, support):
    arrays = Batch(*(t.double().numpy() for t in support))
    found = adapted_model(model, arrays, **GIVEN)
    same = adapted_model(model, support, **GIVEN)
    assert torch.equal(found[2].weight, same[2].weight)


def test_doubles_never_reach_the_device(model, support, monkeypatch):
    moved, to = [], torch.Tensor.to

    def watched(t, *args, **options):
        if isinstance(args[0], torch.device):
            moved.append(t.dtype)
        return to(t, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    arrays = Batch(*(t.double().numpy() for t in support))
    adapted_model(model, arrays, **GIVEN)
    assert moved and torch.float64 not in moved


def test_a_list_of_pictures_is_not_several_inputs():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    pictures = [np.zeros((3, 2, 2), "float32")] * 4
    with pytest.raises(ValueError, match=r"np.asarray\(x\)"):
        adapted_model(model, Batch(pictures, torch.arange(4) % 2), **GIVEN)
