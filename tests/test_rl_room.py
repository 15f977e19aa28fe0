"""The room with four corners, and the experiment in it."""

import math
from argparse import ArgumentParser
from functools import partial

import pytest
import torch

from mamlkit import rl
from mamlkit.reproduce import read_result, write_result
from mamlkit.reproduce import room as experiment
from mamlkit.reproduce import room_training as training
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
    generator = torch.Generator().manual_seed(0)
    shape = 2 * training.TASKS, 2, 3  # two runs
    rewards = torch.randn(shape, generator=generator)
    states = torch.randn(*shape, 2, generator=generator)
    seen = rl.Rollouts(states, states, rewards, torch.ones(shape))
    credit = training.exploration_credit(seen)
    assert credit.shape == (32,)
    # Rows 1, 5, 9 and 13 are the first run's tasks with corner 1; 17 is not.
    reached = rl.total_return(seen)
    to_go = rl.returns_to_go(rewards)
    surprise = to_go - rl.linear_baseline(states, to_go, seen.alive)
    for row, others in ((5, [1, 9, 13]), (21, [17, 25, 29])):
        unit = 3 * surprise[row].std()
        expected = (reached[row] - reached[others].mean()) / unit
        torch.testing.assert_close(credit[row], expected)


def gradient(method, theta, policy):
    generator = torch.Generator().manual_seed(1)
    return training.outer_gradient(theta, policy, method, 2.0, generator, 6)


@pytest.mark.parametrize("method", training.SURROGATES)
def test_gradients_of_the_methods_differ(method, monkeypatch):
    monkeypatch.setattr(training, "ROLLOUTS", 4)
    policy, theta = training.starts((0,))
    mine = rl.flatten(gradient(method, theta, policy))
    assert mine.isfinite().all()
    assert torch.equal(mine, rl.flatten(gradient(method, theta, policy)))
    for other in set(training.SURROGATES) - {method}:
        found = rl.flatten(gradient(other, theta, policy))
        assert not torch.allclose(mine, found, rtol=1e-3)


@pytest.mark.parametrize("method", training.SURROGATES)
def test_no_run_knows_of_another(method, monkeypatch):
    monkeypatch.setattr(training, "ROLLOUTS", 4)
    policy, theta = training.starts((0, 1))
    first = gradient(method, theta, policy)
    changed = {k: torch.stack([p[0], 2 * p[1]]) for k, p in theta.items()}
    second = gradient(method, changed, policy)
    for name, value in first.items():
        torch.testing.assert_close(value[0], second[name][0])
        assert not torch.equal(value[1], second[name][1])


def test_emaml_adds_the_score_of_the_first_walks_times_their_credit(
    monkeypatch,
):
    monkeypatch.setattr(training, "ROLLOUTS", 4)
    policy, theta = training.starts((0, 1))
    walks, credits = [], []
    walk, credit = training.walk, training.exploration_credit

    def spying_walk(*args):
        walks.append(walk(*args))
        return walks[-1]

    def spying_credit(after):
        assert after is walks[-1]
        credits.append(credit(after))
        return credits[-1]

    monkeypatch.setattr(training, "walk", spying_walk)
    monkeypatch.setattr(training, "exploration_credit", spying_credit)
    found = gradient("emaml", theta, policy)
    without = gradient("naive", theta, policy)
    # By the definition: minus the mean over a run's tasks of R ∇ log P(walks).
    for run in (0, 1):
        own = slice(16 * run, 16 * (run + 1))
        params = {k: p[run].requires_grad_() for k, p in theta.items()}
        mean, log_std = torch.func.functional_call(
            policy, params, (walks[0].states[own],)
        )
        normal = torch.distributions.Normal(mean, log_std.exp())
        drawn = normal.log_prob(walks[0].actions[own]).sum((1, 2, 3))
        loss = -(credits[0][own] * drawn).mean()
        expected = torch.autograd.grad(loss, [*params.values()])
        for (name, value), other in zip(found.items(), expected, strict=True):
            torch.testing.assert_close(
                (value - without[name])[run], other, rtol=1e-3, atol=1e-5
            )


def test_the_climb_ends_where_all_neighbours_are_worse(monkeypatch):
    def score(snapshots, horizon):
        meta_lr, lr = snapshots
        gap = math.log(meta_lr / 0.003) ** 2 + math.log(lr / 20) ** 2
        return [{"score": -gap}]

    monkeypatch.setattr(experiment, "chosen", score)
    monkeypatch.setattr(experiment, "train", lambda m, s, b, a, h: (b, a))
    *rates, tried = experiment.climb("dice", 20)
    assert rates == [0.003, 20.0] and len(tried) < 20
    # Joint training has no inner step: only its outer rate is climbed.
    *rates, _ = experiment.climb("joint", 20)
    assert rates == [0.003, 5.0]


def test_a_climb_to_the_edge_is_refused(monkeypatch):
    monkeypatch.setattr(experiment, "chosen", lambda s, h: [{"score": s[0]}])
    monkeypatch.setattr(experiment, "train", lambda m, s, b, a, h: (b, a))
    with pytest.raises(ValueError, match="edge"):
        experiment.climb("dice", 20)


def test_the_experiment_runs_through_and_resumes(tmp_path, monkeypatch):
    small = {
        "BUILD": tmp_path, "ROLLOUTS": 3, "JUDGED": 4, "SNAPSHOTS": (1, 2),
        "SEARCHING": (100,), "ALPHAS": (0.5, 1.0), "HORIZONS": (5,),
        "DRAWS": 2, "WALKS": (2, 5),
        "climb": lambda method, horizon: (0.01, 2.0, []),
        "write_result": partial(write_result, folder=tmp_path),
    }  # fmt: skip
    for name, value in small.items():
        for module in (experiment, training):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    parser = ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    experiment.arguments(parser)
    given = ["--seeds", "2", "--horizon", "6", "--methods", "dice", "joint"]
    args = parser.parse_args(given)
    experiment.run(args)
    first = read_result("room", tmp_path)
    for name in ("dice", "untrained", "joint"):
        assert len(first["rows"][f"{name}_return_after_1"]["seeds"]) == 2
    assert len(first["rows"]["untrained_after_5_walks"]["seeds"]) == 2
    assert first["rows"]["dice_scatter_horizon_5"]["value"] > 0
    assert first["settings"]["chosen"]["dice"]["meta_lr"] == 0.01
    # By method and updates, a score for each training.
    assert [line[:2] for line in first["curve"]] == [
        ["untrained", 0],
        *(["dice", n] for n in (0, 1, 2)),
        *(["joint", n] for n in (0, 1, 2)),
    ]
    monkeypatch.setattr(experiment, "train", None)  # nothing is trained anew
    experiment.run(args)
    assert read_result("room", tmp_path)["rows"] == first["rows"]


def test_a_step_is_taken_where_the_walker_is():
    here = {"device": "meta"}
    at, goal = torch.zeros(4, 2, **here), torch.zeros(4, 2, **here)
    found = room_step(at, at, goal)
    assert {t.device.type for t in found} == {"meta"}
