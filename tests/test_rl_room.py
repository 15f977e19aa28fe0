"""The room with four corners, and the experiment in it."""

import math
from functools import partial

import pytest
import torch

from mamlkit import rl
from mamlkit.reproduce import room as experiment
from mamlkit.reproduce import write_result
from mamlkit.rl.room import best_return, near, room_step, the_corners


def test_rewards_are_those_of_the_corners():
    goal = the_corners()[0]
    at = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [0.0, 0.0], [0.5, 0.25]])
    position, reward, done = room_step(at, torch.zeros(4, 2), goal)
    assert torch.equal(position, at) and not done.any()
    # In the goal, in another corner, in the middle (0.71 from all), and half
    # way to nothing from the goal.
    assert reward.tolist() == [1.0, -1.0, 0.0, 0.5]


def test_walls_stop_and_speed_is_limited():
    at = torch.tensor([[0.45, 0.0]])
    position, *_ = room_step(at, torch.tensor([[9.0, -9.0]]), torch.zeros(2))
    torch.testing.assert_close(position, torch.tensor([[0.5, -0.1]]))


def test_no_walk_is_better_than_the_straight_one():
    # Positions 0.1 to 0.5 on the diagonal, then 15 steps in the corner.
    away = [(0.5 - 0.1 * i) * math.sqrt(2) for i in range(1, 6)]
    by_hand = sum(max(0, 1 - 2 * d) for d in away) + 15
    assert best_return() == pytest.approx(by_hand, abs=1e-5)
    assert near(torch.zeros(2), the_corners()).tolist() == [0, 0, 0, 0]


def test_credit_is_the_return_beyond_that_of_the_same_corner():
    shape = 8, 2, 3
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(shape, generator=generator)
    states = torch.randn(*shape, 2, generator=generator)
    seen = rl.Rollouts(states, states, rewards, torch.ones(shape))
    credit = experiment.exploration_credit(seen, seen)
    # Tasks 1 and 5 have the same corner, and what one is ahead the other is
    # behind; each in units of its own advantages' deviation.
    reached = rl.total_return(seen)
    for number in (1, 5):
        other = 6 - number
        to_go = rl.returns_to_go(rewards)
        surprise = to_go - rl.linear_baseline(states, to_go, seen.alive)
        unit = 3 * surprise[number].std()
        expected = (reached[number] - reached[other]) / unit
        torch.testing.assert_close(credit[number], expected)
    assert credit.shape == (8,)


@pytest.mark.parametrize("method", experiment.SURROGATES)
def test_gradients_of_the_methods_differ(method, monkeypatch):
    monkeypatch.setattr(experiment, "ROLLOUTS", 4)
    policy, theta = experiment.policy_of(0)

    def gradient(name):
        generator = torch.Generator().manual_seed(1)
        found = experiment.outer_gradient(
            theta, policy, name, 2.0, generator, 6
        )
        return rl.flatten(found)

    mine = gradient(method)
    assert mine.isfinite().all() and torch.equal(mine, gradient(method))
    for other in set(experiment.SURROGATES) - {method}:
        assert not torch.allclose(mine, gradient(other), rtol=1e-3)


def test_the_experiment_runs_through_and_resumes(tmp_path, monkeypatch):
    small = {
        "BUILD": tmp_path, "SURROGATES": {"dice": rl.dice, "joint": rl.naive},
        "TASKS": 8, "ROLLOUTS": 3, "JUDGED": 4, "SNAPSHOTS": (1, 2),
        "RATES": ((0.01, 2.0),), "ALPHAS": (0.5, 1.0),
        "REINFORCE_LRS": (0.5,), "TRPO_KLS": (0.01,), "ONE_GOAL_UPDATES": 11,
        "write_result": partial(write_result, folder=tmp_path),
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(experiment, name, value)
    from mamlkit.__main__ import _Parser
    from mamlkit.reproduce import read_result

    parser = _Parser()
    parser.add_argument("--seed", type=int, default=0)
    experiment.arguments(parser)
    args = parser.parse_args(["--seeds", "2"])
    experiment.run(args)
    first = read_result("room", tmp_path)
    for name in ("dice", "untrained", "joint"):
        assert len(first["rows"][f"{name}_return_after_1"]["seeds"]) == 2
    assert "one_goal_trpo_0.01_last_10" in first["rows"]
    assert first["settings"]["chosen"]["dice"]["meta_lr"] == 0.01
    monkeypatch.setattr(experiment, "train", None)  # nothing is trained anew
    monkeypatch.setattr(experiment, "learn_one_goal", None)
    experiment.run(args)
    assert read_result("room", tmp_path)["rows"] == first["rows"]
