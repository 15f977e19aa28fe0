"""The variants: each against an oracle that shares no code with it."""

from functools import partial

import pytest
import torch
from torch.func import functional_call, grad, grad_and_value, hessian
from torch.nn import functional as F

from mamlkit import (
    CNN,
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    adapt,
    adaptation_curve,
    functional_loss,
    meta_loss,
    meta_train,
)
from mamlkit.variants import (
    anil_loss,
    conjugate_gradients,
    imaml_loss,
    implicit_gradient,
    proximal_loss,
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
    with pytest.raises(ValueError, match="steps must be >= 0, got -1"):
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


# --- conjugate gradients and iMAML


def system(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator).double()
    matrix = root @ root.T + torch.eye(size)
    b = torch.randn(size, generator=generator).double()
    return matrix, b, lambda v: {"x": matrix @ v["x"]}


def test_conjugate_gradients_solve_exactly_in_as_many_steps_as_entries():
    matrix, b, product = system(6)
    x = conjugate_gradients(product, {"x": b}, steps=6)["x"]
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b))


def test_every_conjugate_gradient_step_comes_closer():
    matrix, b, product = system(6)
    exact = torch.linalg.solve(matrix, b)
    errors = []
    for steps in range(6):
        away = conjugate_gradients(product, {"x": b}, steps=steps)["x"] - exact
        errors.append((away @ matrix @ away).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.5 * errors[1]


def test_conjugate_gradients_survive_an_exact_start_and_a_downward_bend():
    b = torch.tensor([1.0, 2.0])
    same = conjugate_gradients(lambda v: v, {"x": b}, steps=4)["x"]
    assert torch.equal(same, b)
    bends = torch.tensor([-1.0, 1.0])
    x = conjugate_gradients(lambda v: {"x": bends * v["x"]}, {"x": b}, steps=4)
    assert x["x"].isfinite().all()


def test_implicit_gradient_is_the_dense_solution_on_a_network():
    loss_fn, params = network(hidden=(4,))
    support, query = only(waves())
    vector = torch.cat([p.flatten() for p in params.values()])

    def unflat(v):
        parts = v.split([p.numel() for p in params.values()])
        return {k: part.view_as(params[k]) for k, part in zip(params, parts)}

    bend = hessian(lambda v: loss_fn(unflat(v), support))(vector)
    strength = 2 * bend.abs().sum(1).max()  # positive definite for certain
    slope = grad(lambda v: loss_fn(unflat(v), query))(vector)
    eye = torch.eye(len(vector)).double()
    expected = unflat(torch.linalg.solve(eye + bend / strength, slope))
    actual = implicit_gradient(
        params, loss_fn, support, query, strength=strength, cg_steps=30
    )
    for name in params:
        close(actual[name], expected[name])


def test_imaml_on_quadratics_is_closed_form():
    # min L(φ) + λ/2 |φ - w|² is at (A + λ)⁻¹ (A c + λ w).
    tasks, strength = bowls(), 0.7
    solve = torch.linalg.inv(A + strength * torch.eye(2).double())
    ends = (tasks.support.y.mean(1) @ A + strength * W) @ solve
    away = ends - tasks.query.y.mean(1)
    actual, value = grad_and_value(imaml_loss)(
        {"w": W}, bowl, tasks, lr=0.5, steps=80, cg_steps=2, strength=strength
    )
    close(actual["w"], (strength * away @ A @ solve).mean(0))
    close(value, (away @ A * away).sum(1).mean() / 2)


def test_imaml_agrees_with_differentiating_through_a_long_path():
    loss_fn, params = network(hidden=(4,))
    tasks, strength = waves(1), 30.0
    options = {"lr": 0.02, "steps": 60}

    def unrolled(params):
        support, query = only(tasks)
        tied = proximal_loss(loss_fn, params, strength=strength)
        return loss_fn(adapt(params, tied, support, **options), query)

    expected = grad(unrolled)(params)
    actual = grad(imaml_loss)(
        params, loss_fn, tasks, strength=strength, cg_steps=20, **options
    )
    for name in params:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=1e-6, atol=1e-9
        )


def test_imaml_without_conjugate_gradients_is_the_gradient_at_the_end():
    loss_fn, params = network()
    tasks, options = waves(1), {"lr": 0.01, "steps": 5}
    support, query = only(tasks)
    tied = proximal_loss(loss_fn, params, strength=20.0)
    expected = grad(loss_fn)(adapt(params, tied, support, **options), query)
    plain, flagged, corrected = (
        grad(imaml_loss)(
            params, loss_fn, tasks, strength=20.0, **options, **more
        )
        for more in ({"cg_steps": 0}, {"first_order": True}, {})
    )
    for name in params:
        close(plain[name], expected[name])
        close(flagged[name], expected[name])
        assert not torch.allclose(corrected[name], expected[name])


def test_imaml_takes_convolutions_and_batch_norm():
    torch.manual_seed(0)
    model = CNN(3, width=4).double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    y = torch.arange(3).repeat(2, 1)
    x = torch.rand(2, 3, 1, 28, 28).double()
    tasks = Tasks(Batch(x, y), Batch(x.flip(-1), y))
    loss_fn = functional_loss(model, F.cross_entropy)
    options = {"lr": 0.1, "steps": 2, "strength": 2.0}
    loop, batched = (
        grad(imaml_loss)(params, loss_fn, tasks, over_tasks=way, **options)
        for way in ("loop", "vmap")
    )
    for name in params:
        torch.testing.assert_close(
            loop[name], batched[name], rtol=1e-8, atol=1e-11
        )
    assert functional_call(model, loop, (x[0],)).isfinite().all()


def test_the_tie_pulls_towards_its_center():
    loss_fn, params = network()
    support, _ = only(waves())
    center = {name: value + 1 for name, value in params.items()}
    tied = proximal_loss(loss_fn, center, strength=0.5)
    count = sum(p.numel() for p in params.values())
    close(tied(params, support), loss_fn(params, support) + 0.25 * count)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"strength": 0}, "strength must be finite and > 0, got 0"),
        ({"strength": 1.0, "cg_steps": -1}, "cg_steps must be >= 0, got -1"),
    ],
)
def test_imaml_refuses_settings_that_make_no_sense(options, message):
    loss_fn, params = network()
    with pytest.raises(ValueError, match=message):
        imaml_loss(params, loss_fn, waves(), lr=0.01, steps=2, **options)
