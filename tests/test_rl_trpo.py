"""Conjugate gradients, Fisher products and trust-region steps."""

import pytest
import torch
from torch.func import functional_call, grad, jvp, vmap

from mamlkit import adapt
from mamlkit.rl import (
    GaussianPolicy,
    fisher_product,
    flat_conjugate_gradients,
    flatten,
    kl_divergence,
    log_prob,
    lvc,
    meta_trpo_step,
    naive,
    policy_loss,
    repeat,
    roll_out,
    trpo_step,
    unflatten,
    weigh,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def positive_definite(n):
    factor = torch.randn(n, n, generator=seeded()).double()
    return factor @ factor.T + torch.eye(n).double()


def test_conjugate_gradient_is_the_dense_solve():
    matrix = positive_definite(40) / 40 + torch.eye(40) / 2
    target = torch.randn(40, generator=seeded(1)).double()
    found = flat_conjugate_gradients(matrix.mv, target, iterations=40)
    expected = torch.linalg.solve(matrix, target)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    # Going on changes nothing, in single precision too.
    rounded = flat_conjugate_gradients(matrix.float().mv, target.float(), 500)
    torch.testing.assert_close(rounded.double(), expected, rtol=0, atol=1e-4)


def test_conjugate_gradient_improves_with_its_iterations():
    matrix = positive_definite(8)
    target = torch.randn(8, generator=seeded(1)).double()
    exact = torch.linalg.solve(matrix, target)

    def error(iterations):
        x = flat_conjugate_gradients(matrix.mv, target, iterations) - exact
        return x @ matrix @ x

    assert error(1) > 2 * error(3) > 10 * error(6) > 0


def test_conjugate_gradient_of_nothing_is_nothing():
    zero = torch.zeros(3)
    assert torch.equal(flat_conjugate_gradients(lambda v: v, zero), zero)


@pytest.fixture(scope="module")
def problem():
    """MAML on three goals: θ, act, loss, kl, weights."""
    torch.manual_seed(0)
    policy = GaussianPolicy(hidden=(5,)).double()
    # With zero biases the origin, where all start, is a kink of every ReLU.
    params = {
        k: p.detach() + 0.1 * torch.randn(p.shape, generator=seeded(5))
        for k, p in policy.named_parameters()
    }
    goals = torch.tensor([[0.3, 0.1], [-0.2, 0.4], [0.1, -0.3]]).double()
    generator = seeded()

    def gather(stacked):
        seen = roll_out(
            stacked,
            policy,
            goals,
            rollouts=6,
            horizon=8,
            generator=generator,
        )
        return weigh(seen)

    loss_fn = policy_loss(policy, naive)

    def inner(params, before):
        return adapt(params, loss_fn, before, lr=0.5)

    before = gather(repeat(params, 3))
    after = gather(vmap(inner, (None, 0))(params, before))

    def act(params):
        def one(before, states):
            adapted = inner(params, before)
            mean, log_std = functional_call(policy, adapted, (states,))
            return mean, log_std.expand(1, 1, 2)

        return vmap(one)(before, after.states)

    weights = after.alive / after.alive.sum((1, 2), keepdim=True) / 3
    old = [t.detach() for t in act(params)]
    old_log_probs = log_prob(*old, after.actions)

    def loss(params):
        ratio = (log_prob(*act(params), after.actions) - old_log_probs).exp()
        return -(weights * ratio * after.advantages).sum()

    def kl(params):
        return (weights * kl_divergence(*old, *act(params))).sum()

    return params, act, loss, kl, weights


def both(loss, kl):
    return lambda params: (loss(params), kl(params))


def random_direction(params, seed=3):
    return torch.randn(flatten(params).shape, generator=seeded(seed)).double()


def test_flatten_and_unflatten_are_inverse(problem):
    params = problem[0]
    back = unflatten(flatten(params), params)
    assert list(back) == list(params)
    assert all(torch.equal(back[k], params[k]) for k in params)


def test_fisher_product_is_the_exact_hessian_product_of_the_kl(problem):
    params, act, _, kl, weights = problem
    vector = random_direction(params)
    direction = unflatten(vector, params)
    _, expected = jvp(grad(kl), (params,), (direction,))
    found = fisher_product(params, act, weights)(vector)
    torch.testing.assert_close(found, flatten(expected), rtol=1e-9, atol=1e-12)


def test_fisher_product_is_the_finite_difference(problem):
    params, act, _, kl, weights = problem
    vector = random_direction(params)
    move = unflatten(1e-5 * vector, params)
    up, down = (
        flatten(grad(kl)({k: p + sign * move[k] for k, p in params.items()}))
        for sign in (1, -1)
    )
    found = fisher_product(params, act, weights)(vector)
    torch.testing.assert_close(found, (up - down) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("max_kl", [1e-4, 1e-2, 1.0])
def test_a_step_improves_and_stays_within_its_kl(problem, max_kl):
    params, act, loss, kl, weights = problem
    product = fisher_product(params, act, weights)
    new = trpo_step(params, both(loss, kl), product, max_kl=max_kl)
    assert 0 < kl(new) <= max_kl
    assert loss(new) < loss(params)
    # A quadratic model is good nearby: the limit is nearly reached.
    if max_kl == 1e-4:
        assert kl(new) > 0.5 * max_kl


def test_a_model_that_is_too_bold_is_backed_away_from(problem):
    params, act, loss, kl, weights = problem
    product = fisher_product(params, act, weights)
    new = trpo_step(
        params, both(loss, kl), lambda v: product(v) / 30, max_kl=1e-3
    )
    assert 0 < kl(new) <= 1e-3


def test_the_direction_is_the_natural_gradient(problem):
    params, act, loss, kl, weights = problem
    product = fisher_product(params, act, weights)
    n = len(flatten(params))
    matrix = torch.stack([product(row) for row in torch.eye(n).double()])
    matrix += 1e-5 * torch.eye(n)
    natural = torch.linalg.solve(matrix, flatten(grad(loss)(params)))
    new = trpo_step(
        params, both(loss, kl), product, max_kl=1e-4, iterations=200
    )
    moved = flatten(params) - flatten(new)
    cosine = torch.cosine_similarity(moved, natural, dim=0)
    assert cosine > 0.999
    few = trpo_step(params, both(loss, kl), product, max_kl=1e-4, iterations=1)
    moved = flatten(params) - flatten(few)
    assert torch.cosine_similarity(moved, natural, dim=0) < 0.99


def test_no_step_is_taken_where_none_is_better(problem):
    params, act, _, kl, weights = problem
    product = fisher_product(params, act, weights)
    start = flatten(params)

    def narrow(params):
        # Falls along -1 at first, but rises over any step that is tried.
        move = flatten(params) - start
        return move.sum() + 1e6 * move @ move

    new = trpo_step(params, both(narrow, kl), product)
    assert all(torch.equal(new[k], params[k]) for k in params)


def test_a_limit_of_zero_is_refused(problem):
    params, act, loss, kl, weights = problem
    product = fisher_product(params, act, weights)
    with pytest.raises(ValueError, match="max_kl must be > 0, got 0"):
        trpo_step(params, both(loss, kl), product, max_kl=0)


def meta_trained(steps, updates, surrogate=naive):
    """A tiny policy after some meta-updates for one goal; its returns."""
    torch.manual_seed(0)
    policy = GaussianPolicy(hidden=(8,))
    params = {k: p.detach() for k, p in policy.named_parameters()}
    goals, generator, found = torch.tensor([[0.3, 0.2]] * 4), seeded(), []
    for _ in range(updates):
        params, reached = meta_trpo_step(
            params,
            policy,
            goals,
            lr=0.5,
            generator=generator,
            steps=steps,
            surrogate=surrogate,
            rollouts=10,
        )
        found.append(reached.item())
    return params, found


@pytest.mark.parametrize("steps", [0, 1])
def test_meta_steps_raise_the_return(steps):
    _, found = meta_trained(steps, 12)
    # Standing still scores -36, the untrained policy about -70; on one goal
    # the later updates reached -39 (joint) and -45 (adapted).
    assert found[0] < -55
    assert sum(found[-3:]) / 3 > -50


def test_adapting_and_its_surrogate_change_the_meta_step():
    starts = [
        flatten(meta_trained(steps, 1, surrogate)[0])
        for steps, surrogate in ((0, naive), (1, naive), (1, lvc), (1, lvc))
    ]
    joint, adapted, repaired, again = starts
    assert not torch.allclose(joint, adapted, atol=1e-4)
    assert not torch.allclose(adapted, repaired, atol=1e-4)
    assert torch.equal(repaired, again)


def test_an_oracle_is_told_its_goal():
    class Told(GaussianPolicy):
        def forward(self, states):
            return self.goal + 0 * super().forward(states)[0], self.log_std

    policy = Told(hidden=(4,))
    policy.goal = torch.nn.Parameter(torch.zeros(2))
    params = {k: p.detach() for k, p in policy.named_parameters()}
    params.pop("goal")
    params["log_std"] = params["log_std"] - 3
    goals = torch.tensor([[0.4, 0.0], [0.0, -0.4]])
    reached = [
        meta_trpo_step(
            params,
            policy,
            goals,
            lr=0.0,
            generator=seeded(),
            steps=0,
            told={"goal": told},
        )[1]
        for told in (goals, -goals)
    ]
    assert reached[0] > reached[1] + 50
