"""Momentum and Adam in the inner loop, against torch.optim."""

from functools import partial

import pytest
import torch
from test_outer import params_of, train, waves
from torch.func import grad
from torch.nn import functional as F

from mamlkit import (
    MLP,
    Batch,
    adapt,
    adaptation_curve,
    anil_loss,
    functional_loss,
    meta_loss,
    reptile_loss,
    slope_error,
)
from mamlkit.rules import adam, momentum

RULES = {
    "momentum": (momentum(0.8), partial(torch.optim.SGD, momentum=0.8)),
    "adam": (adam(0.7, 0.95), partial(torch.optim.Adam, betas=(0.7, 0.95))),
}
each_rule = pytest.mark.parametrize("name", RULES)


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model, tasks = MLP(hidden=(8,)).double(), waves(3)
    return functional_loss(model, F.mse_loss), params_of(model), tasks


def first(batch):
    return Batch(batch.x[0], batch.y[0])


@each_rule
def test_three_steps_are_those_of_torch(problem, name):
    loss_fn, params, tasks = problem
    rule, optimizer = RULES[name]
    support = first(tasks.support)
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    moves = optimizer(leaves.values(), lr=0.05)
    for _ in range(3):
        moves.zero_grad()
        loss_fn(leaves, support).backward()
        moves.step()
    adapted = adapt(params, loss_fn, support, lr=0.05, steps=3, rule=rule)
    for k, leaf in leaves.items():
        torch.testing.assert_close(adapted[k], leaf.detach(), rtol=1e-4,
                                   atol=1e-6)  # fmt: skip
    plain = adapt(params, loss_fn, support, lr=0.05, steps=3)
    assert not torch.allclose(plain["1.weight"], adapted["1.weight"])
    assert (
        adapt(params, loss_fn, support, lr=0.1, steps=0, rule=rule) is params
    )


@each_rule
def test_the_outer_loop_differentiates_through_the_rule(problem, name):
    loss_fn, params, tasks = problem
    # Adam's first step is the sign of a gradient, which has no derivative
    # worth the name: a larger eps makes it smooth.
    rule = adam(eps=0.1) if name == "adam" else RULES[name][0]

    def goal(params, over_tasks="vmap", first_order=False):
        return meta_loss(
            params, loss_fn, tasks, lr=0.05, steps=3, rule=rule,
            over_tasks=over_tasks, first_order=first_order,
        )  # fmt: skip

    found = grad(goal)(params)
    assert slope_error(goal, params, found) < 1e-6
    for k, g in grad(partial(goal, over_tasks="loop"))(params).items():
        torch.testing.assert_close(g, found[k])
    short = grad(partial(goal, first_order=True))(params)
    assert not torch.allclose(short["1.weight"], found["1.weight"])


def test_a_gradient_of_zero_leaves_no_nan():
    def flat(params, batch):
        return 0 * params["w"].sum() + batch.x.sum()

    def goal(params):
        support = Batch(torch.ones(1), torch.ones(1))
        return adapt(params, flat, support, lr=0.1, steps=2, rule=adam())[
            "w"
        ].sum()

    assert grad(goal)({"w": torch.ones(2)})["w"].isfinite().all()


@each_rule
@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_the_curve_keeps_what_the_rule_remembers(problem, name, over_tasks):
    loss_fn, params, tasks = problem
    rule = RULES[name][0]
    curve = adaptation_curve(
        params, loss_fn, loss_fn, tasks, lr=0.05, steps=3, rule=rule,
        over_tasks=over_tasks,
    )  # fmt: skip
    for i in range(3):
        support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
        for steps in range(4):
            adapted = adapt(
                params, loss_fn, support, lr=0.05, steps=steps, rule=rule
            )
            expected = loss_fn(adapted, query)
            torch.testing.assert_close(curve[i, steps], expected)


def test_other_objectives_take_rules(problem):
    loss_fn, params, tasks = problem
    for objective in (reptile_loss, partial(anil_loss, adapted=["1.weight"])):
        given = {"lr": 0.1, "steps": 3}
        plain = objective(params, loss_fn, tasks, **given)
        other = objective(params, loss_fn, tasks, rule=momentum(), **given)
        assert plain.item() != other.item()


def test_meta_train_takes_a_rule_and_its_checkpoint_knows_it(tmp_path):
    def run(rule):
        goal = partial(meta_loss, rule=rule)
        path = tmp_path / "run.pt"
        return train(
            objective=goal, checkpoint=path, steps=2, iterations=2
        )  # fmt: skip

    _, history = run(momentum(0.9))
    _, plain = train(steps=2, iterations=2)
    assert history.loss != plain.loss
    with pytest.raises(ValueError, match="comes from other settings"):
        run(momentum(0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: momentum(1.0), r"decay must lie in \[0, 1\), got 1.0"),
        (lambda: adam(0.9, -1), r"decay_square must lie in \[0, 1\), got -1"),
        (lambda: adam(eps=0), "eps must be > 0, got 0"),
    ],
)
def test_rules_that_would_diverge_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [adam, momentum])
def test_what_makes_a_rule_is_told_from_a_rule(rule):
    net = MLP()
    support = Batch(*(part[0] for part in waves(1).support))
    loss_fn = functional_loss(net, F.mse_loss)
    with pytest.raises(ValueError, match=rf"pass {rule.__name__}\(\)"):
        adapt(params_of(net), loss_fn, support, lr=0.1, rule=rule)
