"""The objectives: each against an oracle that shares no code with it."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import grad, grad_and_value
from torch.nn import functional as F

from mamlkit import (
    CNN,
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    adapt,
    adaptation_curve,
    anil_loss,
    functional_loss,
    imaml_loss,
    meta_loss,
    meta_train,
    reptile_loss,
)

HEAD = ("3.weight", "3.bias")
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


def network(hidden=(8,), seed=0):
    torch.manual_seed(seed)
    model = MLP(hidden=hidden).double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    return functional_loss(model, F.mse_loss), params


def waves(n_tasks=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tasks = Sinusoids().sample(
        n_tasks, k_shot=5, k_query=4, generator=generator
    )
    return Tasks(*(Batch(b.x.double(), b.y.double()) for b in tasks))


def only(tasks):
    return (Batch(b.x[0], b.y[0]) for b in tasks)


# L(w; y) = 1/2 (w - ȳ)ᵀ A (w - ȳ), ȳ the mean of the batch's targets.
A = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
W = torch.tensor([1.5, -2.0], dtype=torch.float64)


def bowl(params, batch):
    away = params["w"] - batch.y.mean(0)
    return away @ A @ away / 2


def bowls(n_tasks=3, k_shot=2, k_query=3):
    generator = torch.Generator().manual_seed(1)

    def batch(k):
        y = torch.randn(n_tasks, k, 2, generator=generator).double()
        return Batch(torch.zeros(n_tasks, k, 1).double(), y)

    return Tasks(batch(k_shot), batch(k_query))


# Objective, and what its inner steps change if not everything.
VARIANTS = {
    "reptile": (reptile_loss, None),
    "anil": (partial(anil_loss, adapted=HEAD), HEAD),
    "imaml": (partial(imaml_loss, strength=20.0), None),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_loop_and_vmap_agree(kind):
    objective, _ = VARIANTS[kind]
    loss_fn, params = network()
    (loop, value), (batched, same) = (
        grad_and_value(objective)(
            params, loss_fn, waves(), lr=0.01, steps=3, over_tasks=way
        )
        for way in ("loop", "vmap")
    )
    close(value, same)
    for name in params:
        close(loop[name], batched[name])


@pytest.mark.parametrize("kind", VARIANTS)
def test_inputs_are_checked_as_in_meta_loss(kind):
    objective, _ = VARIANTS[kind]
    loss_fn, params = network()
    one = Tasks(*only(waves()))
    with pytest.raises(ValueError, match="one leading axis, the tasks"):
        objective(params, loss_fn, one, lr=0.1, steps=1)
    with pytest.raises(ValueError, match="steps must be a whole number >= 0"):
        objective(params, loss_fn, waves(), lr=0.1, steps=-1)


@pytest.mark.parametrize("kind", VARIANTS)
def test_no_variant_changes_the_parameters(kind):
    objective, _ = VARIANTS[kind]
    loss_fn, params = network()
    before = {name: value.clone() for name, value in params.items()}
    grad(objective)(params, loss_fn, waves(), lr=0.1, steps=2)
    assert all(torch.equal(params[name], before[name]) for name in params)


@pytest.mark.parametrize("kind", VARIANTS)
def test_every_variant_meta_trains(kind):
    objective, adapted = VARIANTS[kind]
    settings = {"k_shot": 10, "k_query": 10}

    def after_five_steps(params):
        # What a variant does not adapt in training stays at test as well.
        rates = {
            name: torch.tensor(0.01 if name in (adapted or params) else 0)
            for name in params
        }
        loss_fn = functional_loss(MLP(hidden=(40,)), F.mse_loss)
        generator = torch.Generator().manual_seed(9)
        tasks = Sinusoids().sample(200, generator=generator, **settings)
        curve = adaptation_curve(
            params, loss_fn, loss_fn, tasks, lr=rates, steps=5
        )
        return curve[:, -1].mean().item()

    torch.manual_seed(0)
    model = MLP(hidden=(40,))
    before = after_five_steps(dict(model.named_parameters()))
    meta_train(
        model,
        partial(Sinusoids().sample, **settings),
        criterion=F.mse_loss,
        inner_lr=0.01,
        meta_lr=0.005,
        n_tasks=5,
        iterations=60,
        steps=3,
        objective=objective,
        generator=torch.Generator().manual_seed(0),
    )
    assert after_five_steps(dict(model.named_parameters())) < 0.9 * before


# --- Reptile


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_reptile_on_quadratics_is_closed_form(steps):
    # A step multiplies w - c by I - lr A, c the mean of all examples.
    tasks, lr = bowls(), 0.3
    centers = torch.cat([b.y for b in tasks], dim=1).mean(1)
    shrink = torch.linalg.matrix_power(torch.eye(2).double() - lr * A, steps)
    ends = centers + (W - centers) @ shrink
    actual, value = grad_and_value(reptile_loss)(
        {"w": W}, bowl, tasks, lr=lr, steps=steps
    )
    close(actual["w"], W - ends.mean(0))
    close(value, ((W - ends) ** 2).sum(1).mean() / 2)


def test_reptile_with_one_step_is_joint_training_scaled_by_the_rate():
    loss_fn, params = network()
    tasks = waves()
    everything = Batch(*(torch.cat(t, 1).flatten(0, 1) for t in zip(*tasks)))
    joint = grad(loss_fn)(params, everything)
    reptile = grad(reptile_loss)(params, loss_fn, tasks, lr=0.1, steps=1)
    for name in params:
        close(reptile[name], 0.1 * joint[name])


# --- ANIL


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_anil_is_maml_with_the_bodys_rate_at_zero(steps, first_order):
    loss_fn, params = network()
    rates = {
        name: torch.tensor(0.05 if name in HEAD else 0, dtype=torch.float64)
        for name in params
    }
    options = {"steps": steps, "first_order": first_order}
    expected, value = grad_and_value(meta_loss)(
        params, loss_fn, waves(), lr=rates, **options
    )
    actual, same = grad_and_value(anil_loss)(
        params, loss_fn, waves(), adapted=HEAD, lr=0.05, **options
    )
    close(same, value)
    for name in params:
        close(actual[name], expected[name])


def test_anil_without_second_order_differs_in_the_body_too():
    loss_fn, params = network()
    full, first = (
        grad(anil_loss)(
            params, loss_fn, waves(), adapted=HEAD, lr=0.05, first_order=flag
        )
        for flag in (False, True)
    )
    assert not any(torch.allclose(full[k], first[k]) for k in params)


def test_anil_takes_a_rate_for_each_adapted_name():
    loss_fn, params = network()
    rates = {name: torch.tensor(0.05, dtype=torch.float64) for name in HEAD}
    close(
        anil_loss(params, loss_fn, waves(), adapted=HEAD, lr=rates),
        anil_loss(params, loss_fn, waves(), adapted=HEAD, lr=0.05),
    )


@pytest.mark.parametrize("adapted", [("head.weight",), (), "3.weight"])
def test_anil_refuses_names_that_are_no_parameters(adapted):
    loss_fn, params = network()
    with pytest.raises(ValueError, match="adapted must name parameters"):
        anil_loss(params, loss_fn, waves(), adapted=adapted, lr=0.05)


# --- MAML


def params_of(model, dtype=torch.float64):
    return {k: p.detach().to(dtype) for k, p in model.named_parameters()}


def images(n_tasks=2, classes=3):
    def batch(each):
        y = torch.arange(classes).repeat(each).expand(n_tasks, -1)
        return Batch(
            torch.rand(n_tasks, classes * each, 1, 28, 28).double(), y
        )

    torch.manual_seed(0)
    return Tasks(batch(1), batch(2))


SHIPPED = {
    "mlp": (lambda: MLP(), F.mse_loss, waves, 0.01),
    "mlp with norm": (
        lambda: MLP(784, (16, 8), 3, norm=True),
        F.cross_entropy,
        images,
        0.1,
    ),
    "cnn": (lambda: CNN(3, width=6), F.cross_entropy, images, 0.1),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", SHIPPED)
def test_loop_and_vmap_agree_on_every_model(kind, steps):
    make, criterion, tasks, lr = SHIPPED[kind]
    torch.manual_seed(0)
    model = make().double()
    loss_fn, tasks = functional_loss(model, criterion), tasks()
    options = {"lr": lr, "steps": steps}
    loop, batched = (
        grad(meta_loss)(
            params_of(model), loss_fn, tasks, over_tasks=way, **options
        )
        for way in ("loop", "vmap")
    )
    for name in loop:
        torch.testing.assert_close(
            loop[name], batched[name], rtol=1e-8, atol=1e-11
        )


def test_meta_loss_is_the_mean_over_tasks():
    model, tasks = MLP().double(), waves()
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    one_by_one = []
    for i in range(3):
        support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
        adapted = adapt(params, loss_fn, support, lr=0.01, steps=2)
        one_by_one.append(loss_fn(adapted, query))
    actual = meta_loss(params, loss_fn, tasks, lr=0.01, steps=2)
    torch.testing.assert_close(actual, torch.stack(one_by_one).mean())


def test_order_of_tasks_does_not_matter():
    model, tasks = MLP().double(), waves(4)
    turned = Tasks(*(Batch(b.x.flip(0), b.y.flip(0)) for b in tasks))
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    torch.testing.assert_close(
        meta_loss(params, loss_fn, tasks, lr=0.01),
        meta_loss(params, loss_fn, turned, lr=0.01),
    )


@pytest.mark.parametrize("rate", [{"lr": 0}, {"lr": 0.1, "steps": 0}])
def test_without_inner_steps_it_is_joint_training(rate):
    model, tasks = MLP().double(), waves()
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    together = Batch(*(t.flatten(0, 1) for t in tasks.query))
    meta = grad(meta_loss)(params, loss_fn, tasks, **rate)
    joint = grad(loss_fn)(params, together)
    for name in params:
        torch.testing.assert_close(meta[name], joint[name])


def test_first_order_is_the_gradient_at_the_adapted_parameters():
    model, tasks = MLP().double(), waves(1)
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    support, query = (Batch(b.x[0], b.y[0]) for b in tasks)
    adapted = adapt(params, loss_fn, support, lr=0.05, steps=3)
    options = {"lr": 0.05, "steps": 3}
    first = grad(meta_loss)(
        params, loss_fn, tasks, first_order=True, **options
    )
    for name, expected in grad(loss_fn)(adapted, query).items():
        torch.testing.assert_close(first[name], expected)


@pytest.mark.parametrize("curvature", [0.0, 1.5])
def test_first_order_differs_exactly_where_there_is_curvature(curvature):
    # L(w; c) = c w + curvature/2 w²
    def loss_fn(params, batch):
        w = params["w"]
        return (batch.y.mean() * w + curvature / 2 * w**2).sum()

    tasks = Tasks(
        Batch(torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])),
        Batch(torch.zeros(2, 1), torch.tensor([[3.0], [-1.0]])),
    )
    params = {"w": torch.tensor(2.0)}
    full, first = (
        grad(meta_loss)(params, loss_fn, tasks, lr=0.1, first_order=flag)["w"]
        for flag in (False, True)
    )
    assert torch.equal(full, first) == (curvature == 0)


def test_map_tasks_refuses_no_way_silently():
    with pytest.raises(ValueError, match='"vmap" or "loop"'):
        model = MLP()
        loss_fn = functional_loss(model, F.mse_loss)
        params = params_of(model)
        meta_loss(params, loss_fn, waves(), lr=0.1, over_tasks="maps")


def refused(model, tasks, match, criterion=F.mse_loss, **options):
    loss_fn = functional_loss(model, criterion)
    with pytest.raises(ValueError, match=match) as caught:
        meta_loss(params_of(model), loss_fn, tasks, lr=0.1, **options)
    assert "\n" not in str(caught.value)


def test_support_without_a_task_axis_is_refused():
    support, query = waves()
    alone = Tasks(Batch(support.x[0], support.y[0]), query)
    refused(MLP().double(), alone, r"one leading axis, the tasks")
    single = Tasks(*(Batch(b.x[0, :4], b.y[0, :4]) for b in waves()))
    refused(MLP().double(), single, r"a single task needs an axis of its own")


def test_different_numbers_of_tasks_are_refused():
    support, query = waves(3)
    fewer = Tasks(support, Batch(query.x[:2], query.y[:2]))
    refused(MLP().double(), fewer, r"'support.x': 3.*'query.x': 2")


def test_running_statistics_are_refused():
    model = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4)).double()
    for way in ("vmap", "loop"):
        refused(model, waves(), "track_running_stats=False", over_tasks=way)


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4)],
    ids=lambda norm: type(norm).__name__,
)
def test_fused_norms_with_weights_are_refused_under_vmap_only(norm):
    model = nn.Sequential(nn.Linear(1, 4), norm, nn.Linear(4, 1)).double()
    refused(model, waves(), 'over_tasks="loop"')
    loss_fn = functional_loss(model, F.mse_loss)
    options = {"lr": 0.1, "over_tasks": "loop"}
    assert meta_loss(params_of(model), loss_fn, waves(), **options) > 0


def test_examples_that_are_missing_are_refused():
    support, query = waves()
    fewer = Tasks(Batch(support.x, support.y[:, :3]), query)
    refused(
        MLP().double(), fewer, r"support needs as many x as y.*5 x and 3 y"
    )
    none = Tasks(support, Batch(query.x[:, :0], query.y[:, :0]))
    refused(MLP().double(), none, r"query needs as many x as y, and one at l")


def test_running_statistics_that_are_only_read_are_accepted():
    """A pretrained body in eval mode, under a head that is trained."""
    body = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4)).double()
    model = nn.Sequential(body.requires_grad_(False).eval(), nn.Linear(4, 1))
    model.double()
    params = {k: p for k, p in params_of(model).items() if k[0] == "1"}
    loss_fn = functional_loss(model, F.mse_loss)
    loss = meta_loss(params, loss_fn, waves(), lr=0.1, over_tasks="loop")
    assert len(params) == 2 and loss > 0 and body[1].num_batches_tracked == 0
    body.train()
    refused(model, waves(), "track_running_stats=False", over_tasks="loop")
