"""The batched half-cheetah moves as gymnasium's does; an optional extra."""

import numpy as np
import pytest
import torch

from mamlkit import rl

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")
from mamlkit.rl import cheetah  # noqa: E402


@pytest.fixture(scope="module")
def seen():
    """Two tasks, forward and backward, of three short rollouts."""
    torch.manual_seed(0)
    policy = rl.GaussianPolicy(17, (8,), 6)
    params = {k: p.detach() for k, p in policy.named_parameters()}
    poses = []
    rollouts = cheetah.run_cheetahs(
        rl.repeat(params, 2),
        policy,
        torch.tensor([1.0, -1.0]),
        rollouts=3,
        generator=torch.Generator().manual_seed(1),
        horizon=30,
        poses=poses,
    )
    return rollouts, np.stack(poses, axis=2)


def test_rollouts_have_the_shapes_that_weigh_expects(seen):
    rollouts, poses = seen
    assert rollouts.states.shape == (2, 3, 30, 17)
    assert rollouts.actions.shape == (2, 3, 30, 6)
    assert rollouts.rewards.shape == rollouts.alive.shape == (2, 3, 30)
    assert rollouts.alive.all() and poses.shape == (2, 3, 31, 9)
    assert rl.weigh(rollouts).advantages.isfinite().all()


def test_it_moves_as_the_environment_of_gymnasium(seen):
    rollouts, poses = seen
    env = gymnasium.make("HalfCheetah-v5").unwrapped
    for task, walk in ((0, 1), (1, 2)):
        env.reset(seed=0)
        states = rollouts.states[task, walk].double().numpy()
        start = poses[task, walk, 0]
        env.set_state(start, states[0, 8:] / cheetah.VELOCITY)
        np.testing.assert_allclose(states[0, :8], start[1:], atol=1e-6)
        for t in range(29):
            action = rollouts.actions[task, walk, t].clamp(-1, 1).numpy()
            observation, *_ = env.step(action)
            observation[8:] *= cheetah.VELOCITY
            # The solver starts from what it knows of the last step there,
            # and anew here; it stops at 1e-8.
            np.testing.assert_allclose(
                states[t + 1], observation, rtol=1e-3, atol=1e-3
            )
    env.close()


def test_the_reward_is_speed_in_the_direction_less_the_cost(seen):
    rollouts, poses = seen
    speed = np.diff(poses[..., 0], axis=2) / 0.05
    sign = np.array([1.0, -1.0])[:, None, None]
    effort = rollouts.actions.clamp(-1, 1).square().sum(-1).numpy()
    np.testing.assert_allclose(
        rollouts.rewards.numpy(), sign * speed - 0.05 * effort, atol=1e-4
    )


def test_starts_are_spread_as_in_gymnasium():
    state = cheetah.start(4_000, torch.Generator().manual_seed(0))
    assert (state[:, 0] == 0).all() and state.shape[1] >= 19
    off = state[:, 1:10] - cheetah.body().qpos0
    assert abs(off).max() <= 0.1 and abs(off.std() - 0.1 / 3**0.5) < 0.003
    assert abs(state[:, 10:19].std() - 0.1) < 0.003


def test_the_stick_figure_keeps_its_bones():
    poses = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 2, 9))
    points = cheetah.skeleton(poses)
    assert points.shape == (5, 2, 10, 2)
    bones = np.linalg.norm(np.diff(points[..., :8, :], axis=-2), axis=-1)
    np.testing.assert_allclose(bones.std((0, 1)), 0, atol=1e-9)
    # The trunk is a metre long; it lies where the joints say.
    np.testing.assert_allclose(bones[..., 3], 1.0)
    middle = points[..., 3:5, :].mean(-2)
    np.testing.assert_allclose(middle[..., 0], poses[..., 0])
    np.testing.assert_allclose(middle[..., 1], 0.7 + poses[..., 1])
