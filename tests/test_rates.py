"""Inner rates that are learned with the weights."""

import math
from functools import partial

import pytest
import torch
from test_outer import train, waves
from torch import nn
from torch.func import grad, vmap
from torch.nn import functional as F

from mamlkit import (
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    adapt,
    adaptation_curve,
    adapted_model,
    functional_loss,
    meta_loss,
    multi_step_loss,
    reptile_loss,
)
from mamlkit.rules import momentum

SAMPLE = partial(Sinusoids().sample, k_shot=5, k_query=5)


def small():
    torch.manual_seed(0)
    return MLP(hidden=(8,))


def each(value=0.01, kind=nn.Parameter):
    return {
        name: kind(torch.full_like(p, value))
        for name, p in small().named_parameters()
    }


def test_rates_that_are_learned_follow_adam_on_their_own_gradient():
    model, rates = small(), each()
    params = {k: p.detach().clone() for k, p in model.named_parameters()}
    loss_fn = functional_loss(model, F.mse_loss)
    generator = torch.Generator().manual_seed(0)
    leaves = [p.requires_grad_() for p in params.values()]
    own = {k: r.detach().clone().requires_grad_() for k, r in rates.items()}
    adam = torch.optim.Adam([*leaves, *own.values()], lr=0.01)
    for _ in range(5):
        adam.zero_grad()
        tasks = SAMPLE(4, generator=generator)
        meta_loss(params, loss_fn, tasks, lr=own).backward()
        adam.step()
    _, history = train(model, inner_lr=rates, iterations=5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, params[name])
        torch.testing.assert_close(rates[name], own[name])
        torch.testing.assert_close(history.inner_lr[name], own[name])
        assert not history.inner_lr[name].requires_grad
        assert rates[name].grad is None and p.grad is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Parameter(torch.tensor(0.01)),
        lambda: torch.tensor(0.01, requires_grad=True),
        lambda: each(),
        lambda: each() | {"3.bias": torch.full((1,), 0.01)},
        lambda: [each(), nn.Parameter(torch.tensor(0.02))],
        lambda: nn.ParameterList([torch.tensor(0.01), torch.tensor(0.02)]),
    ],
    ids=["number", "tensor", "dict", "some", "one a step", "ParameterList"],
)
@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_rates_are_learned_in_every_form(make, way):
    lr = make()
    options = {"inner_lr": lr, "over_tasks": way, "iterations": 3}
    if isinstance(lr, list | nn.ParameterList):
        options |= {
            "objective": partial(multi_step_loss, weights=[0.5, 0.5]),
            "steps": 2,
        }
    _, history = train(**options)

    def leaves(lr):
        if isinstance(lr, torch.Tensor):
            return [lr]
        values = lr.values() if isinstance(lr, dict) else lr
        return [leaf for value in values for leaf in leaves(value)]

    for before, after, found in zip(
        leaves(make()), leaves(lr), leaves(history.inner_lr)
    ):
        assert torch.equal(before, after) != after.requires_grad
        assert torch.equal(after, found) and found is not after
    again = make()
    train(**(options | {"inner_lr": again, "tasks_at_once": 3}))
    for one, other in zip(leaves(lr), leaves(again)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def by_hand(loss_fn, support, rates):
    """θ, and θ′ after a step with each of the rates."""
    params = {k: p.detach() for k, p in small().named_parameters()}
    way = [params]
    for rate in rates:
        slopes = grad(loss_fn)(params, support)
        params = {k: p - rate * slopes[k] for k, p in params.items()}
        way.append(params)
    return way


@pytest.mark.parametrize("kind", [list, tuple, nn.ParameterList])
@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_rates_of_each_step_serve_wherever_a_rate_does(kind, over_tasks):
    rates = kind([torch.tensor(r) for r in (0.02, 0.01, 0.04)])
    loss_fn = functional_loss(small(), F.mse_loss)
    tasks = SAMPLE(3, generator=torch.Generator().manual_seed(0))
    support, query = (
        Batch(batch.x[1], batch.y[1]) for batch in (tasks.support, tasks.query)
    )
    given = {"lr": rates, "steps": 3}
    way = by_hand(loss_fn, support, rates)
    params = way[0]
    for found in (
        adapt(params, loss_fn, support, **given),
        dict(
            adapted_model(
                small(), support, criterion=F.mse_loss, **given
            ).named_parameters()
        ),
    ):
        for name, p in found.items():
            torch.testing.assert_close(p, way[-1][name])
    given["over_tasks"] = over_tasks
    curve = adaptation_curve(params, loss_fn, loss_fn, tasks, **given)
    expected = torch.stack([loss_fn(theta, query) for theta in way])
    torch.testing.assert_close(curve[1], expected)
    loss = meta_loss(params, loss_fn, tasks, **given)
    torch.testing.assert_close(loss, curve[:, -1].mean())


def test_rates_of_each_step_go_with_a_rule():
    rates = [0.02, 0.01]
    loss_fn = functional_loss(small(), F.mse_loss)
    support, _ = SAMPLE(1, generator=torch.Generator().manual_seed(0))
    task = Batch(support.x[0], support.y[0])
    found = adapt(
        by_hand(loss_fn, task, [])[0], loss_fn, task, lr=rates, steps=2,
        rule=momentum(0.0),
    )  # fmt: skip
    for name, p in found.items():
        expected = by_hand(loss_fn, task, rates)[-1][name]
        torch.testing.assert_close(p, expected)


@pytest.mark.parametrize(
    ("lr", "match"),
    [
        ([0.1, 0.1], "lr has 2 rates, one a step, and steps is 3"),
        ([0.1, -1.0, 0.1], r"lr\[1\] must be finite and >= 0, got -1.0"),
        ([0.1, "0.1", 0.1], r"lr\[1\] must be a number, a tensor or a "),
        ([0.1, [0.1], 0.1], "a tensor or a dict of these, got .0.1.$"),
        (torch.tensor(math.nan), "lr must be finite, got nan"),
        (each(math.inf, torch.clone), r"lr\['1.weight'\] must be finite$"),
        (dict.fromkeys(each(), -0.1), r"lr\['1.weight'\] must be .* got -0.1"),
        (dict.fromkeys(each(), math.nan), r"lr\['1.weight'\] .* got nan"),
        (
            dict.fromkeys(each(), None),
            r"'1.weight'\] .* a tensor, got None",
        ),
        ([0.1, dict.fromkeys(each(), "1"), 0.1], r"lr\[1\]\['1.w.*, got '1'"),
    ],
)
def test_rates_that_are_none_are_refused_by_name(lr, match):
    loss_fn = functional_loss(small(), F.mse_loss)
    params = by_hand(loss_fn, None, [])[0]
    tasks = SAMPLE(2, generator=torch.Generator())
    with pytest.raises(ValueError, match=match):
        adaptation_curve(params, loss_fn, loss_fn, tasks, lr=lr, steps=3)
    with pytest.raises(ValueError, match=match):
        adapt(params, loss_fn, tasks.support, lr=lr, steps=3)


@pytest.mark.parametrize(
    ("lr", "match"),
    [
        (torch.tensor(-0.1), "inner_lr must be >= 0, got -0.1"),
        (
            each(0.1, torch.clone) | {"1.bias": torch.tensor(-1)},
            r"inner_lr\['1.bias'\] must be >= 0, got -1: .*requires_grad",
        ),
        (
            [dict.fromkeys(each(), None)],
            r"inner_lr\[0\]\['1.weight'\] must be a",
        ),
        (torch.tensor(math.inf), "inner_lr must be finite, got inf"),
    ],
)
def test_rates_to_train_with_are_judged_before_it_begins(lr, match):
    sampled = []
    with pytest.raises(ValueError, match=match):
        train(inner_lr=lr, sample=lambda n, generator: sampled.append(n))
    assert not sampled


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_rates_that_were_learned_may_be_negative(over_tasks):
    rates = each(-0.01) | {"1.bias": nn.Parameter(torch.tensor(-0.1))}
    _, history = train(inner_lr=rates, iterations=2, over_tasks=over_tasks)
    loss_fn = functional_loss(small(), F.mse_loss)
    params, tasks = by_hand(loss_fn, None, [])[0], waves()
    tasks = Tasks(*(Batch(b.x.float(), b.y.float()) for b in tasks))
    for lr in (rates, history.inner_lr):
        options = {"lr": lr, "over_tasks": over_tasks}
        assert meta_loss(params, loss_fn, tasks, **options) > 0
        assert vmap(
            lambda scale, lr=lr: meta_loss(
                params, loss_fn, tasks,
                lr={k: scale * r for k, r in lr.items()},
            )
        )(torch.ones(2)).isfinite().all()  # fmt: skip


def test_a_multi_step_loss_takes_rates_as_they_are_learned():
    loss_fn = functional_loss(small(), F.mse_loss)
    params = by_hand(loss_fn, None, [])[0]
    tasks = SAMPLE(2, generator=torch.Generator().manual_seed(0))
    rates = [torch.tensor(0.01), torch.tensor(0.02)]
    one, other = (
        multi_step_loss(
            params, loss_fn, tasks, lr=lr, steps=2, weights=[0.5, 0.5]
        )
        for lr in (rates, nn.ParameterList(rates))
    )
    assert torch.equal(one, other)


def test_the_callback_has_the_rates_of_its_iteration():
    rate, seen = nn.Parameter(torch.tensor(0.01)), []
    _, history = train(
        inner_lr=rate, iterations=3,
        callback=lambda done, history: seen.append(history.inner_lr),
    )  # fmt: skip
    assert len({*map(float, seen)}) == 3 and 0.01 not in map(float, seen)
    assert seen[-1] == rate == history.inner_lr


def test_rates_that_are_held_fixed_stay():
    rates = each(kind=torch.clone)
    _, history = train(inner_lr=rates, iterations=3)
    assert all((rate == 0.01).all() for rate in rates.values())
    assert all((r == 0.01).all() for r in history.inner_lr.values())
    assert train(iterations=1)[1].inner_lr == 0.01


def test_validation_sees_the_rates_of_its_iteration():
    rates, seen = each(), []

    def validate(params):
        curve = adaptation_curve(
            params, functional_loss(small(), F.mse_loss),
            functional_loss(small(), F.mse_loss), SAMPLE(
                2, generator=torch.Generator()), lr=rates, steps=1,
        )  # fmt: skip
        seen.append({k: r.detach().clone() for k, r in rates.items()})
        return curve.mean()

    train(inner_lr=rates, iterations=20, validate=validate)
    assert len(seen) == 20
    assert not torch.equal(seen[0]["1.weight"], seen[1]["1.weight"])
    assert torch.equal(seen[-1]["1.weight"], rates["1.weight"])


def test_the_best_weights_come_with_the_rates_of_their_time():
    rates, seen = each(), []

    def validate(params):
        seen.append({k: r.detach().clone() for k, r in rates.items()})
        return abs(len(seen) - 7)

    _, history = train(
        inner_lr=rates, iterations=20, validate=validate, keep="best"
    )
    assert history.best.iteration == 7
    for name, rate in rates.items():
        assert torch.equal(rate, seen[6][name])
        assert torch.equal(rate, history.inner_lr[name])


def test_learned_rates_are_resumed_from_a_checkpoint(tmp_path):
    whole, parts = each(), each()
    path = tmp_path / "run.pt"
    _, one = train(inner_lr=whole, iterations=6)
    train(inner_lr=parts, iterations=3, checkpoint=path)
    for rate in parts.values():
        assert not (rate == 0.01).all()
    again = each()
    _, other = train(inner_lr=again, iterations=6, checkpoint=path)
    assert one.loss == other.loss
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    # In the same session the rates that were handed over have moved.
    train(inner_lr=parts, iterations=7, checkpoint=path)
    with pytest.raises(ValueError, match="inner_lr"):
        train(inner_lr=0.01, iterations=8, checkpoint=path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"inner_lr": nn.Parameter(torch.tensor(0.01)) * 2},
            "inner_lr was computed from other tensors",
        ),
        (
            {"inner_lr": {"0.weight": nn.Parameter(torch.ones(1)).exp()}},
            r"inner_lr\['0.weight'\] was computed",
        ),
        (
            {
                "objective": partial(
                    multi_step_loss, weights=nn.Parameter(torch.ones(1))
                )
            },
            "the objective's weights requires grad",
        ),
        (
            {"objective": partial(meta_loss, lr=each())},
            "the objective's lr requires grad",
        ),
        (
            {"criterion": nn.Sequential(nn.Linear(1, 1))},
            "the criterion's '0.weight' requires grad",
        ),
        (
            {"objective": reptile_loss, "inner_lr": each()},
            "Reptile cannot learn rates",
        ),
        (
            {"objective": reptile_loss, "inner_lr": [each()]},
            "Reptile cannot learn rates",
        ),
    ],
)
def test_what_would_gather_gradients_and_never_move_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        train(iterations=1, **options)


def test_outside_of_training_rates_are_differentiated_as_ever():
    rates = each(kind=torch.clone)
    loss_fn = functional_loss(small().double(), F.mse_loss)
    params = {k: p.detach().double() for k, p in small().named_parameters()}
    slopes = grad(lambda r: meta_loss(params, loss_fn, waves(), lr=r))(rates)
    assert all(slope.any() for slope in slopes.values())
