"""The multi-step loss: closed form, its limits, and what it refuses."""

from functools import partial

import pytest
import torch
from torch.func import grad
from torch.nn import functional as F

from mamlkit import (
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    functional_loss,
    meta_loss,
    meta_train,
    multi_step_loss,
)


def bowl(params, batch):
    """L(w; c) = ½ a (w - c)², curvature a in y."""
    return (batch.y * (params["w"] - batch.x) ** 2 / 2).mean()


def a_bowl(curvature=2.0, centre=3.0):
    x = torch.full((1, 1), centre, dtype=torch.float64)
    batch = Batch(x[None], torch.full_like(x, curvature)[None])
    return Tasks(batch, batch)


START = {"w": torch.tensor(1.0, dtype=torch.float64)}
AS_MAML = {"weights": (0.0, 0.0, 1.0), "steps": 3}


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_loss_and_both_gradients_on_a_bowl_are_closed_form(over_tasks):
    # Each step j multiplies w - c by r_j = 1 - a α_j.
    a, gap, weights = 2.0, -2.0, (0.5, 0.25, 0.25)
    rates = [torch.tensor(r, dtype=torch.float64) for r in (0.1, 0.2, 0.3)]
    factors = [1 - a * float(rate) for rate in rates]

    def loss(params, rates):
        return multi_step_loss(
            params,
            bowl,
            a_bowl(),
            weights=weights,
            lr=[{"w": rate} for rate in rates],
            steps=3,
            over_tasks=over_tasks,
        )

    left = [factors[0], factors[0] * factors[1], 0]
    left[2] = left[1] * factors[2]
    expected = sum(
        v * a / 2 * (r * gap) ** 2 for v, r in zip(weights, left, strict=True)
    )
    slope = sum(v * a * r**2 * gap for v, r in zip(weights, left))
    last = weights[2] * a * left[2] * gap * (-a * left[1] * gap)
    by_start, by_rate = grad(loss, argnums=(0, 1))(START, rates)
    assert loss(START, rates).item() == pytest.approx(expected)
    assert by_start["w"].item() == pytest.approx(slope)
    assert by_rate[2].item() == pytest.approx(last)


def waves(n_tasks=3):
    tasks = Sinusoids().sample(
        n_tasks, k_shot=5, k_query=4, generator=torch.Generator()
    )
    return Tasks(*(Batch(b.x.double(), b.y.double()) for b in tasks))


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = MLP().double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    return params, functional_loss(model, F.mse_loss)


@pytest.mark.parametrize("first_order", [False, True])
def test_all_weight_on_the_last_step_is_meta_loss(network, first_order):
    options = {"lr": 0.01, "first_order": first_order}
    many = grad(multi_step_loss)(*network, waves(), **AS_MAML, **options)
    one = grad(meta_loss)(*network, waves(), steps=3, **options)
    for name, expected in one.items():
        torch.testing.assert_close(many[name], expected)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": (0.0, 1.0, 0.0)},
        {"lr": 0.02},
        {"lr": [0.01, 0.02, 0.01]},
        {"first_order": True},
    ],
    ids=lambda change: f"{change}",
)
def test_every_setting_has_an_effect(network, change):
    plain = AS_MAML | {"lr": 0.01}
    one, other = (
        grad(multi_step_loss)(*network, waves(), **options)
        for options in (plain, plain | change)
    )
    assert not torch.allclose(one["5.weight"], other["5.weight"])


def test_it_trains_as_an_objective():
    torch.manual_seed(0)
    history = meta_train(
        MLP(hidden=(8,)),
        partial(Sinusoids().sample, k_shot=5, k_query=5),
        criterion=F.mse_loss,
        inner_lr=0.01,
        meta_lr=0.01,
        n_tasks=4,
        iterations=3,
        generator=torch.Generator(),
        steps=2,
        objective=partial(multi_step_loss, weights=(0.5, 0.5)),
    )
    assert len(history.loss) == 3


@pytest.mark.parametrize(
    "change",
    [{"weights": (1.0,)}, {"lr": [0.1, 0.1]}, {"steps": 2}, {"steps": 0}],
    ids=lambda change: f"{change}",
)
def test_numbers_that_do_not_match_are_refused(network, change):
    with pytest.raises(ValueError, match="a weight for each step"):
        multi_step_loss(*network, waves(), **AS_MAML | {"lr": 0.1} | change)
