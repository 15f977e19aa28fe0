"""The environment against a slow twin; the policy against torch's own."""

import math
import warnings

import pytest
import torch
from torch import distributions

from mamlkit.rl import (
    GaussianPolicy,
    kl_divergence,
    log_prob,
    navigate,
    repeat,
    roll_out,
    sample_goals,
    the_40_goals,
    total_return,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def policy_and_params(n_tasks, seed=0):
    torch.manual_seed(seed)
    policy = GaussianPolicy(hidden=(8,)).double()
    params = {k: p.detach() for k, p in policy.named_parameters()}
    return policy, repeat(params, n_tasks)


def twin(actions, goal):
    """One episode in plain Python: states, rewards, number of steps."""
    x = y = 0.0
    states, rewards = [], []
    for a, b in actions:
        states.append((x, y))
        x += 0.1 * max(-1.0, min(1.0, a))
        y += 0.1 * max(-1.0, min(1.0, b))
        rewards.append(-math.hypot(x - goal[0], y - goal[1]))
        if abs(x - goal[0]) < 0.01 and abs(y - goal[1]) < 0.01:
            break
    return states, rewards


def test_episodes_are_those_of_a_slow_python_twin():
    goals = torch.tensor([[0.1, 0.0], [0.3, -0.2], [-0.05, 0.05]]).double()
    policy, params = policy_and_params(3)
    seen = roll_out(
        params, policy, goals, rollouts=40, horizon=60, generator=seeded()
    )
    early = 0
    for task in range(3):
        for i in range(40):
            actions = seen.actions[task, i].tolist()
            states, rewards = twin(actions, goals[task].tolist())
            n = len(rewards)
            early += n < 60
            assert seen.alive[task, i].tolist() == [1.0] * n + [0.0] * (60 - n)
            found = seen.rewards[task, i]
            expected = torch.tensor(rewards).double()
            torch.testing.assert_close(found[:n], expected)
            assert (found[n:] == 0).all()
            expected = torch.tensor(states).double()
            torch.testing.assert_close(seen.states[task, i, :n], expected)
    assert early > 5  # else the ends were not tested


def test_actions_beyond_one_are_clipped_and_reward_follows_the_move():
    position, reward, done = navigate(
        torch.tensor([0.0, 0.0]),
        torch.tensor([5.0, -0.5]),
        torch.tensor([0.4, -0.05]),
    )
    torch.testing.assert_close(position, torch.tensor([0.1, -0.05]))
    torch.testing.assert_close(reward, torch.tensor(-0.3))
    assert not done


def test_an_episode_ends_in_a_box_not_a_disc():
    goal = torch.zeros(2)
    corner = torch.tensor([0.0099, 0.0099])  # 0.014 away
    assert navigate(corner, torch.zeros(2), goal)[2]
    assert not navigate(torch.tensor([0.0101, 0.0]), torch.zeros(2), goal)[2]


def test_standing_still_scores_what_the_reference_says():
    goals = the_40_goals()
    policy = GaussianPolicy()
    still = {k: 0 * p.detach() for k, p in policy.named_parameters()}
    still["log_std"] -= 20
    seen = roll_out(
        repeat(still, 40), policy, goals, rollouts=1, generator=seeded()
    )
    assert abs(total_return(seen).mean() + 40.08) < 0.01
    expected = -100 * goals.norm(dim=1)
    torch.testing.assert_close(total_return(seen), expected)


def test_goals_fill_the_square_and_follow_their_generator():
    goals = sample_goals(4000, generator=seeded())
    assert goals.shape == (4000, 2)
    assert -0.5 <= goals.min() < -0.49 and 0.49 < goals.max() < 0.5
    assert torch.equal(goals, sample_goals(4000, generator=seeded()))


def test_each_task_acts_by_its_own_parameters():
    policy, params = policy_and_params(2)
    params = {k: p.clone() for k, p in params.items()}
    params["mean.2.bias"][1] = torch.tensor([0.9, -0.9])
    params["log_std"] -= 20
    goals = torch.full((2, 2), 0.35).double()
    seen = roll_out(
        params, policy, goals, rollouts=2, horizon=3, generator=seeded()
    )
    assert (seen.actions[0, :, 0].abs() < 1e-6).all()
    expected = torch.tensor([0.9, -0.9]).double().expand(2, 2)
    torch.testing.assert_close(seen.actions[1, :, 0], expected, atol=1e-6,
                               rtol=0)  # fmt: skip


def test_same_generator_same_bits():
    policy, params = policy_and_params(2)
    goals = torch.full((2, 2), 0.3).double()
    runs = [
        roll_out(params, policy, goals, rollouts=3, generator=seeded(7))
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs))


def test_log_prob_is_that_of_torch_distributions():
    mean, actions = torch.randn(2, 5, 3, generator=seeded()).double()
    log_std = torch.randn(3, generator=seeded(1)).double()
    normal = distributions.Normal(mean, log_std.exp())
    expected = normal.log_prob(actions).sum(-1)
    torch.testing.assert_close(log_prob(mean, log_std, actions), expected)


def test_kl_is_that_of_torch_distributions():
    mean, new_mean = torch.randn(2, 5, 3, generator=seeded()).double()
    log_std, new = torch.randn(2, 3, generator=seeded(1)).double()
    expected = distributions.kl_divergence(
        distributions.Normal(mean, log_std.exp()),
        distributions.Normal(new_mean, new.exp()),
    ).sum(-1)
    found = kl_divergence(mean, log_std, new_mean, new)
    torch.testing.assert_close(found, expected)


def test_policy_starts_as_the_authors_did():
    policy = GaussianPolicy()
    params = dict(policy.named_parameters())
    shapes = [tuple(p.shape) for p in params.values()]
    assert shapes == [(2,), (100, 2), (100,), (100, 100), (100,), (2, 100),
                      (2,)]  # fmt: skip
    assert (policy.log_std == 0).all()
    bound = (6 / 200) ** 0.5  # Xavier, uniform
    middle = params["mean.2.weight"].abs().max().item()
    assert 0.95 * bound < middle <= bound
    assert (params["mean.2.bias"] == 0).all()


@pytest.mark.parametrize("name", ["rollouts", "horizon"])
def test_counts_below_one_are_refused(name):
    policy, params = policy_and_params(1)
    counts = {"rollouts": 1, "horizon": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        roll_out(params, policy, torch.zeros(1, 2), generator=seeded(),
                 **counts)  # fmt: skip


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 1, 2)])
def test_goals_of_another_shape_are_refused(shape):
    policy, params = policy_and_params(1)
    with pytest.raises(
        ValueError, match=r"goals must have shape \(tasks, 2\)"
    ):
        roll_out(params, policy, torch.zeros(shape), rollouts=1,
                 generator=seeded())  # fmt: skip


def test_parameters_without_a_task_axis_are_refused():
    policy, params = policy_and_params(3)
    with pytest.raises(ValueError, match="must have 2 rows, one a task"):
        roll_out(params, policy, torch.zeros(2, 2), rollouts=1,
                 generator=seeded())  # fmt: skip


def test_no_goal_at_all_is_refused():
    with pytest.raises(ValueError, match="n_tasks must be >= 1, got 0"):
        sample_goals(0, generator=seeded())


def test_gymnasium_accepts_the_environment():
    checker = pytest.importorskip("gymnasium.utils.env_checker")
    from mamlkit.rl.gymnasium_env import NavigationEnv

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*spec.*")
        checker.check_env(NavigationEnv(), skip_render_check=True)


def test_gymnasium_environment_walks_like_the_twin():
    pytest.importorskip("gymnasium")
    from mamlkit.rl.gymnasium_env import NavigationEnv

    env = NavigationEnv(goal=(0.2, -0.1), horizon=7)
    env.reset(seed=0)
    moves = torch.randn(7, 2, generator=seeded()).tolist()
    states, rewards = twin(moves, (0.2, -0.1))
    for number, move in enumerate(moves):
        position, reward, done, truncated, _ = env.step(move)
        assert reward == pytest.approx(rewards[number])
        assert not done and truncated == (number == 6)
        if number < 6:
            assert position.tolist() == pytest.approx(states[number + 1])
    env.reset(seed=0)
    env.step([1.0, 0.0])
    assert env.step([1.0, -1.0])[2]  # at the goal


@pytest.mark.parametrize(
    "bad, message",
    [({"horizon": 0}, "horizon must be >= 1"), ({"goal": (1, 2, 3)}, "goal")],
)
def test_gymnasium_environment_refuses_nonsense(bad, message):
    pytest.importorskip("gymnasium")
    from mamlkit.rl.gymnasium_env import NavigationEnv

    with pytest.raises(ValueError, match=message):
        NavigationEnv(**bad)
