"""iMAML and its solver, against oracles that share no code with them."""

from functools import partial

import pytest
import torch
from test_objectives import A, W, bowl, bowls, close, network, only, waves
from torch.func import functional_call, grad, grad_and_value, hessian
from torch.nn import functional as F

from mamlkit import (
    CNN,
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    adapt,
    conjugate_gradients,
    functional_loss,
    imaml_loss,
    implicit_gradient,
    proximal_loss,
)


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


def test_conjugate_gradients_stay_where_they_have_arrived():
    # Eleven different curvatures: soon the residual's square is 0 in float32
    # while its curvature is not yet, and 0 / 0 would follow.
    generator = torch.Generator().manual_seed(1)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(draw(200, 200))
    bends = 1 + torch.rand(200, generator=generator, dtype=torch.float64)
    bends[10:] = 1
    matrix = ((turn * bends) @ turn.T).float()
    b = torch.randn(200, generator=generator)

    def product(v):
        return {"x": matrix @ v["x"]}

    expected = torch.linalg.solve(matrix, b)
    for steps in (20, 40, 100, 200):
        x = conjugate_gradients(product, {"x": b}, steps=steps)["x"]
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)


def test_imaml_survives_more_steps_than_an_easy_problem_needs():
    torch.manual_seed(0)
    model = MLP()
    params = {k: p.detach() for k, p in model.named_parameters()}
    tasks = Sinusoids().sample(
        4, k_shot=10, k_query=10, generator=torch.Generator().manual_seed(0)
    )
    options = {"strength": 20.0, "lr": 0.01, "steps": 16}
    few, many = (
        grad(imaml_loss)(
            params,
            functional_loss(model, F.mse_loss),
            tasks,
            cg_steps=cg_steps,
            **options,
        )
        for cg_steps in (15, 60)
    )
    for name in params:
        torch.testing.assert_close(many[name], few[name], rtol=0.02, atol=1e-3)


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
        ({"strength": 1.0, "cg_steps": -1}, "cg_steps must be a whole number"),
    ],
)
def test_imaml_refuses_settings_that_make_no_sense(options, message):
    loss_fn, params = network()
    with pytest.raises(ValueError, match=message):
        imaml_loss(params, loss_fn, waves(), lr=0.01, steps=2, **options)
