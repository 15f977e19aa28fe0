"""Surrogates against an MDP small enough to enumerate every trajectory."""

import itertools

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, hessian, vmap
from torch.nn import functional as F

from mamlkit import adapt
from mamlkit.rl import (
    Experience,
    GaussianPolicy,
    Rollouts,
    dice,
    linear_baseline,
    lvc,
    naive,
    policy_loss,
    returns_to_go,
    weigh,
)

DISCOUNT = 0.9
START = torch.tensor([0.7, 0.3], dtype=torch.float64)
# MOVE[s, a, s′]: where action a leads from state s.
MOVE = torch.tensor(
    [[[0.8, 0.2], [0.3, 0.7]], [[0.5, 0.5], [0.1, 0.9]]], dtype=torch.float64
)
REWARD = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)
THETA = torch.tensor([[0.4, -0.3], [-0.8, 0.6]], dtype=torch.float64)


def trajectories(horizon):
    """All of them: states, actions (n, horizon), chance of the moves (n,)."""
    pairs = list(itertools.product(range(2), repeat=2))
    paths = torch.tensor(list(itertools.product(pairs, repeat=horizon)))
    states, actions = paths.unbind(-1)
    moves = MOVE[states[:, :-1], actions[:, :-1], states[:, 1:]]
    return states, actions, START[states[:, 0]] * moves.prod(-1)


def log_probs(theta, states, actions):
    return F.log_softmax(theta, dim=-1)[states, actions]


def chance(theta, horizon):
    """Probability of every trajectory, differentiable in theta."""
    states, actions, moves = trajectories(horizon)
    return moves * log_probs(theta, states, actions).sum(-1).exp()


def rewards(horizon):
    states, actions, _ = trajectories(horizon)
    return REWARD[states, actions]


def expected_return(theta, horizon):
    discount = DISCOUNT ** torch.arange(horizon).double()
    return chance(theta, horizon) @ (rewards(horizon) * discount).sum(-1)


def discounted_returns_to_go(horizon):
    """γ^t G_t, which makes every surrogate's gradient that of the return."""
    discount = DISCOUNT ** torch.arange(horizon).double()
    return discount * returns_to_go(rewards(horizon), DISCOUNT)


def surrogate_value(surrogate, horizon, advantages=None):
    """θ -> expected surrogate of trajectories sampled at THETA."""
    states, actions, _ = trajectories(horizon)
    weight = chance(THETA, horizon)
    if advantages is None:
        advantages = discounted_returns_to_go(horizon)

    def value(theta):
        terms = surrogate(log_probs(theta, states, actions), advantages)
        return weight @ terms.sum(-1)

    return value


def hessian_parts(horizon):
    """H1, H2 and H12 as Rothfuss et al. 2019, Eq. 6, define them."""
    states, actions, _ = trajectories(horizon)
    weight, to_go = chance(THETA, horizon), discounted_returns_to_go(horizon)
    total = 0
    parts = torch.zeros(3, 4, 4, dtype=torch.float64)
    for n in range(len(weight)):
        for t in range(horizon):
            where = states[n, t], actions[n, t]

            def one(theta, where=where):
                return F.log_softmax(theta.view(2, 2), dim=-1)[where]

            flat = THETA.flatten()
            slope, bend = grad(one)(flat), hessian(one)(flat)
            parts[0] += weight[n] * to_go[n, t] * torch.outer(slope, slope)
            parts[1] += weight[n] * to_go[n, t] * bend
            # ∇Q_t by the score of what follows action t.
            for later in range(t + 1, horizon):
                follows = states[n, later], actions[n, later]
                after = grad(one)(flat, follows)
                reward = to_go[n, later]
                parts[2] += weight[n] * reward * torch.outer(slope, after)
            total += weight[n]
    assert torch.isclose(total, torch.tensor(float(horizon)).double())
    return parts


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


HORIZONS = pytest.mark.parametrize("horizon", [1, 2, 3])
SURROGATES = pytest.mark.parametrize("surrogate", [naive, lvc, dice])


@HORIZONS
def test_chances_sum_to_one(horizon):
    close(chance(THETA, horizon).sum(), torch.tensor(1.0).double())


@HORIZONS
@SURROGATES
def test_every_surrogate_has_the_right_gradient(surrogate, horizon):
    found = grad(surrogate_value(surrogate, horizon))(THETA)
    close(found, grad(expected_return)(THETA, horizon))


@HORIZONS
def test_the_exact_hessian_has_four_parts(horizon):
    exact = hessian(expected_return)(THETA, horizon).view(4, 4)
    h1, h2, h12 = hessian_parts(horizon)
    close(h1 + h2 + h12 + h12.T, exact)


@HORIZONS
def test_dice_alone_has_the_exact_hessian(horizon):
    exact = hessian(expected_return)(THETA, horizon)
    close(hessian(surrogate_value(dice, horizon))(THETA), exact)
    # By a third of its size or more the others are wrong, but that LVC is
    # right when nothing comes after the first action.
    for surrogate, right in ((naive, False), (lvc, horizon == 1)):
        found = hessian(surrogate_value(surrogate, horizon))(THETA)
        error = (found - exact).norm() / exact.norm()
        assert error < 1e-12 if right else error > 0.3


@HORIZONS
def test_naive_keeps_h2_and_lvc_keeps_h1_and_h2(horizon):
    h1, h2, h12 = hessian_parts(horizon)
    assert h1.norm() > 0.05
    assert (h12.norm() > 0.05) == (horizon > 1)
    found = hessian(surrogate_value(naive, horizon))(THETA).view(4, 4)
    close(found, h2)
    found = hessian(surrogate_value(lvc, horizon))(THETA).view(4, 4)
    close(found, h1 + h2)


@HORIZONS
def test_a_baseline_changes_no_derivative_of_dice(horizon):
    states, _, _ = trajectories(horizon)
    baseline = torch.tensor([0.7, -1.3]).double()[states]
    advantages = discounted_returns_to_go(horizon) - baseline
    value = surrogate_value(dice, horizon, advantages)
    close(grad(value)(THETA), grad(expected_return)(THETA, horizon))
    close(hessian(value)(THETA), hessian(expected_return)(THETA, horizon))


@pytest.mark.parametrize("horizon", [2, 3])
def test_meta_gradient_through_dice_is_exact_and_through_others_not(horizon):
    # J(θ + α ∇J(θ)), by enumeration: the inner step of formulation I.
    def meta(theta, value):
        return expected_return(theta + 0.5 * grad(value)(theta), horizon)

    def true_value(theta):
        return expected_return(theta, horizon)

    exact = grad(meta)(THETA, true_value)
    found = grad(meta)(THETA, surrogate_value(dice, horizon))
    close(found, exact)
    error = {
        s.__name__: (grad(meta)(THETA, surrogate_value(s, horizon)) - exact)
        for s in (naive, lvc)
    }
    size = {k: (e.norm() / exact.norm()).item() for k, e in error.items()}
    assert size["naive"] > size["lvc"] > 1e-3


def experience(n_tasks=3, horizon=6):
    """Random episodes of which some end early."""
    g = torch.Generator().manual_seed(1)
    shape = (n_tasks, 5, horizon)
    ends = torch.randint(2, horizon + 1, shape[:2], generator=g)
    alive = (torch.arange(horizon) < ends[..., None]).double()
    states, actions = torch.randn(2, *shape, 2, generator=g).double()
    rewards_ = torch.randn(shape, generator=g).double() * alive
    return Rollouts(states, actions, rewards_, alive)


def test_returns_to_go_by_a_slow_loop():
    seen = experience().rewards
    for gamma in (1.0, 0.99, 0.0):
        found = returns_to_go(seen, gamma)
        for t in range(seen.shape[-1]):
            later = range(t, seen.shape[-1])
            expected = sum(gamma ** (k - t) * seen[..., k] for k in later)
            close(found[..., t], expected)


def test_baseline_is_the_ridge_regression_of_numpy():
    states, _, seen, alive = experience()
    returns = returns_to_go(seen)
    found = linear_baseline(states, returns, alive)
    for task in range(3):
        rows, target, everything = [], [], []
        for i, t in np.ndindex(5, 6):
            s, h = states[task, i, t].numpy(), t / 100
            features = [*s, *s**2, 1, h, h**2, h**3]
            everything.append(features)
            if alive[task, i, t]:
                rows.append(features)
                target.append(returns[task, i, t].item())
        # The ridge as extra rows, sqrt(1e-5) on the diagonal.
        rows += (np.eye(8) * 1e-5**0.5).tolist()
        target += [0.0] * 8
        weights = np.linalg.lstsq(np.array(rows), target, rcond=None)[0]
        expected = torch.tensor(np.array(everything) @ weights).view(5, 6)
        torch.testing.assert_close(found[task], expected, rtol=1e-6, atol=1e-8)


def test_advantages_are_standardised_over_the_living_steps():
    _, _, advantages, alive = weigh(experience())
    for task in range(3):
        living = advantages[task][alive[task] == 1]
        assert abs(living.mean()) < 1e-12
        assert abs(living.std(correction=0) - 1) < 1e-6
        assert (advantages[task][alive[task] == 0] == 0).all()


def test_what_follows_an_episodes_end_does_not_count():
    seen = experience()
    dead = seen.alive == 0
    assert dead.any()
    other = seen._replace(
        states=torch.where(dead[..., None], 7.0, seen.states),
        actions=torch.where(dead[..., None], -7.0, seen.actions),
    )
    policy = GaussianPolicy(hidden=(4,)).double()
    params = {k: p.detach() for k, p in policy.named_parameters()}
    for surrogate in (naive, lvc, dice):
        loss_fn = policy_loss(policy, surrogate)

        def slope(rollouts, loss_fn=loss_fn):
            return vmap(grad(loss_fn), (None, 0))(params, weigh(rollouts))

        for name, value in slope(seen).items():
            close(slope(other)[name], value)


def test_policy_loss_is_minus_the_mean_by_hand():
    # One state, standard deviation 1, mean 0: ∇_mean log π(a) = a.
    policy = GaussianPolicy(states=1, hidden=(), actions=1).double()
    params = {k: torch.zeros_like(p) for k, p in policy.named_parameters()}
    shape = (1, 3, 1)
    batch = Experience(
        torch.zeros(shape).double(),
        torch.tensor([2.0, -1.0, 9.0]).double().view(shape),
        torch.tensor([[3.0, 1.0, 9.0]]).double(),
        torch.tensor([[1.0, 1.0, 0.0]]).double(),
    )
    expected = torch.tensor([-(2 * 3 - 1 * 1) / 2]).double()
    for surrogate in (naive, lvc, dice):
        found = grad(policy_loss(policy, surrogate))(params, batch)
        close(found["mean.0.bias"], expected)
    # ∂/∂log σ log π(a) = a² - 1
    close(found["log_std"], torch.tensor([-(3 * 3 + 0 * 1) / 2]).double())


@SURROGATES
def test_meta_gradient_of_adapt_is_that_of_the_surrogate(surrogate):
    # Through torch.func's nested grad the detached factor must stay constant.
    policy = GaussianPolicy(hidden=(3,)).double()
    params = {k: p.detach() for k, p in policy.named_parameters()}
    batch = Experience(*(t[0] for t in weigh(experience())))
    loss_fn = policy_loss(policy, surrogate)

    def judged(params):
        return loss_fn(adapt(params, loss_fn, batch, lr=0.3), batch)

    found = grad(judged)(params)
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    slope = torch.autograd.grad(
        loss_fn(leaves, batch), [*leaves.values()], create_graph=True
    )
    adapted = {k: p - 0.3 * s for (k, p), s in zip(leaves.items(), slope)}
    expected = torch.autograd.grad(loss_fn(adapted, batch), [*leaves.values()])
    for value, other in zip(found.values(), expected):
        close(value, other)


def test_rewards_that_are_not_finite_are_refused():
    seen = experience()
    seen.rewards[0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="rewards must be finite"):
        weigh(seen)


def test_policy_runs_through_functional_call():
    policy = GaussianPolicy()
    params = dict(policy.named_parameters())
    mean, log_std = functional_call(policy, params, (torch.zeros(4, 3, 2),))
    assert mean.shape == (4, 3, 2) and log_std.shape == (2,)
