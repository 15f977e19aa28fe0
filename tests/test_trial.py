"""The comparison of vmap with the loop, before training."""

from functools import partial

import pytest
import torch
from test_outer import train
from torch import nn
from torch.func import grad
from torch.nn import functional as F

import mamlkit.trial
from mamlkit import (
    CNN,
    MLP,
    Batch,
    Episodes,
    Sinusoids,
    Tasks,
    anil_loss,
    functional_loss,
    imaml_loss,
    load_glyphs,
    meta_loss,
    reptile_loss,
    slope_error,
)


class Normed(nn.Module):
    """A layer, a norm called as a function, and a head."""

    def __init__(self, norm, features=1):
        super().__init__()
        self.body, self.head = nn.Linear(features, 8), nn.Linear(8, 1)
        self.scale, self.norm = nn.Parameter(torch.full((8,), 1.3)), norm

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.body(x), self.scale)))


def layer_norm(x, scale):
    return F.layer_norm(x, (8,), scale)


def batch_norm(x, scale):
    return F.batch_norm(x, None, None, scale, training=True)


def instance_norm(x, scale):
    return F.instance_norm(x.T[None], weight=None)[0].T * scale


def by_hand(x, scale):
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * scale


def without_weight(x, scale):
    return F.layer_norm(x, (8,)) * scale


def group_norm(x, scale):
    return F.group_norm(x, 2, scale)


def then_dropout(x, scale):
    return F.dropout(F.layer_norm(x, (8,), scale), 0.3)


def dropout(x, scale):
    return F.dropout(x * scale, 0.3)


WRONG = [layer_norm, batch_norm, then_dropout]
RIGHT = [by_hand, without_weight, group_norm, instance_norm, dropout]


@pytest.mark.parametrize("norm", WRONG)
def test_a_norm_that_vmap_gets_wrong_is_refused_with_the_figure(norm):
    for steps in (1, 3):
        with pytest.raises(ValueError, match=r"vmap's meta-gr.* [\d.]+ % off"):
            train(Normed(norm), inner_lr=0.1, iterations=1, steps=steps)
    train(Normed(norm), inner_lr=0.1, iterations=1, over_tasks="loop")
    train(Normed(norm), inner_lr=0.1, iterations=1, trial=False)


@pytest.mark.parametrize("objective", [
    imaml_loss, anil_loss, reptile_loss, meta_loss,
])  # fmt: skip
def test_every_objective_is_measured_by_what_it_does(objective):
    options = {
        imaml_loss: {"strength": 2.0},
        anil_loss: {"adapted": ["body.weight", "scale"]},
    }.get(objective, {})
    objective = partial(objective, **options)
    options = {"inner_lr": 0.1, "iterations": 1, "objective": objective}
    # Reptile differentiates nothing twice; products with a Hessian are right.
    if objective.func in (reptile_loss, imaml_loss):
        train(Normed(layer_norm), **options)
    else:
        with pytest.raises(ValueError, match="% off"):
            train(Normed(layer_norm), **options)


def test_without_second_order_it_is_right():
    train(Normed(layer_norm), inner_lr=0.1, iterations=1, first_order=True)


@pytest.mark.parametrize("norm", RIGHT)
def test_what_vmap_gets_right_is_accepted(norm):
    for steps in (1, 3):
        train(Normed(norm), inner_lr=0.1, iterations=1, steps=steps)


def frozen(norm):
    norm.requires_grad_(False)
    for p in norm.parameters():
        nn.init.normal_(p, 1.0, 0.3)
    return norm


FROZEN = [
    lambda: nn.LayerNorm(8),
    lambda: nn.BatchNorm1d(8).eval(),
    lambda: nn.BatchNorm1d(8, track_running_stats=False),
]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("make", FROZEN)
def test_a_frozen_norm_is_exact_above_and_below_trained_layers(make, steps):
    # Against finite differences, which know neither vmap nor the loop.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 8), frozen(make()), nn.Tanh(), nn.Linear(8, 8),
        frozen(make()), nn.Tanh(), nn.Linear(8, 1),
    )  # fmt: skip
    train(model, inner_lr=0.1, iterations=1, steps=steps)
    model.double()
    tasks = Sinusoids().sample(
        3, k_shot=5, k_query=5, generator=torch.Generator().manual_seed(0)
    )
    tasks = Tasks(*(Batch(b.x.double(), b.y.double()) for b in tasks))
    loss_fn = functional_loss(model, F.mse_loss)
    params = {
        k: p.detach() for k, p in model.named_parameters() if p.requires_grad
    }

    def goal(params):
        return meta_loss(params, loss_fn, tasks, lr=0.01, steps=steps)

    assert slope_error(goal, params, grad(goal)(params)) < 1e-5


def test_a_bias_that_is_trained_beside_a_frozen_weight_is_measured():
    for weight, bias in ((False, True), (True, False)):
        norm = nn.LayerNorm(8)
        norm.weight.requires_grad_(weight)
        norm.bias.requires_grad_(bias)
        model = nn.Sequential(
            nn.Linear(1, 8), norm, nn.Tanh(), nn.Linear(8, 1)
        )
        if weight:
            with pytest.raises(ValueError, match='over_tasks="loop"'):
                train(model, inner_lr=0.3, iterations=1)
        else:
            train(model, inner_lr=0.3, iterations=1)


# --- noise


def shipped(kind):
    torch.manual_seed(0)
    if kind == "waves":
        sample = partial(Sinusoids().sample, k_shot=5, k_query=5)
        return MLP(), F.mse_loss, sample, 0.01
    images = Episodes(load_glyphs("train"), 5, rotations=True)
    model = CNN(5, width=8)
    if kind == "norm":
        model = MLP(784, (32, 16), 5, norm=True)
    return (
        model, F.cross_entropy, partial(images.sample, k_shot=1, k_query=2),
        0.4,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["waves", "norm", "cnn"])
@pytest.mark.parametrize("steps", [1, 5])
def test_rounding_is_no_reason_on_the_models_that_we_ship(
    kind, steps, monkeypatch
):
    # Nothing is measured twice: what differs is far below the limit.
    monkeypatch.setattr(mamlkit.trial, "_in_float64", None)
    monkeypatch.setattr(mamlkit.trial, "ROUGH_LIMIT", mamlkit.trial.LIMIT)
    model, criterion, sample, lr = shipped(kind)
    train(
        model, sample=sample, criterion=criterion, inner_lr=lr, steps=steps,
        iterations=1,
    )  # fmt: skip


class Reached(nn.Module):
    """A model that fits already, with rounding as its only error."""

    def __init__(self, norm=without_weight):
        super().__init__()
        self.normed = Normed(norm)

    def forward(self, x):
        return 1e-4 * self.normed(x)


def zeros(n_tasks, generator):
    """Tasks whose answer is nearly what the model says already."""
    support, query = Sinusoids().sample(
        n_tasks, k_shot=5, k_query=5, generator=generator
    )
    return Tasks(*(Batch(b.x, 1e-6 * b.y) for b in (support, query)))


def test_where_the_gradient_is_tiny_rounding_is_no_reason():
    train(Reached(), sample=zeros, inner_lr=0.1, iterations=3)

    # The loss is all but its own rounding: float32 is off by per cents.
    def huge(out, y):
        return F.mse_loss(out, y) + 1e4 * (1 + (out - y).mean() ** 2 * 1e-9)

    train(Reached(), sample=zeros, criterion=huge, inner_lr=0.1, iterations=3)


def test_what_float32_cannot_tell_is_measured_with_more_digits(monkeypatch):
    looked = []
    exact = mamlkit.trial._in_float64
    monkeypatch.setattr(
        mamlkit.trial, "_in_float64",
        lambda *args: looked.append(1) or exact(*args),
    )  # fmt: skip
    monkeypatch.setattr(mamlkit.trial, "LIMIT", 1e-9)
    train(MLP(), iterations=1)
    assert looked == [1]


def test_draws_of_other_generators_are_no_reason():
    own = torch.Generator().manual_seed(0)

    class Noisy(MLP):
        def forward(self, x):
            return super().forward(x) + torch.randn(1, generator=own)

    train(Noisy(hidden=(4,)), iterations=2)


def test_the_trial_draws_nothing():
    def after(**options):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1)
        )
        state = torch.get_rng_state()

        def sample(n_tasks, generator):
            if not seen:
                torch.set_rng_state(state)
            seen.append(torch.get_rng_state())
            return Sinusoids().sample(
                n_tasks, k_shot=5, k_query=5, generator=generator
            )

        seen = []
        _, history = train(model, sample=sample, iterations=3, **options)
        return history.loss

    assert after(trial=True) == after(trial=False)


def test_an_objective_that_knows_one_way_only_is_accepted():
    def only_vmap(params, loss_fn, tasks, *, over_tasks, **options):
        assert over_tasks == "vmap"
        return meta_loss(params, loss_fn, tasks, over_tasks="vmap", **options)

    train(objective=only_vmap, iterations=1)


def test_it_costs_two_tasks_each_way():
    def calls(**options):
        seen = []

        def criterion(out, y):
            seen.append(tuple(out.shape))
            return F.mse_loss(out, y)

        train(criterion=criterion, n_tasks=50, iterations=2, **options)
        return len(seen)

    # One inner step and the query, once by vmap and once for each of two.
    assert calls() - calls(trial=False) == 2 + 2 * 2
