"""The half-cheetah that is to run forward or backward, and is not told which.

Finn et al. 2017, Sec. 5.3.2, on gymnasium's HalfCheetah: its model of the
body, five time steps of 0.01 s an action, its noisy start. The reward is the
authors': the speed in the task's direction less 0.05 |a|² (gymnasium takes
0.1). An optional extra: `pip install mamlkit[mujoco]`.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mamlkit.inner import Params
from mamlkit.rl.policy import Rollouts

try:
    import mujoco
    from gymnasium.envs.mujoco import half_cheetah_v5
    from mujoco.rollout import Rollout
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the half-cheetah needs {missing.name}: pip install "
        "'mamlkit[mujoco]'",
        name=missing.name,
    ) from None

FRAMES = 5  # simulated time steps an action
JOINTS = 9  # positions of the body, and as many velocities
COST = 0.05  # of an action, per unit of its squared length
VELOCITY = 0.1  # what the velocities are multiplied by before they are seen
STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS


@cache
def body() -> mujoco.MjModel:
    """Read gymnasium's model of the half-cheetah."""
    env = half_cheetah_v5.HalfCheetahEnv()
    try:
        return env.model
    finally:
        env.close()


def start(count: int, generator: torch.Generator) -> np.ndarray:
    """Draw starting states as gymnasium does: (count, 1 + 18).

    Time 0; positions within ±0.1 of rest, velocities from N(0, 0.1²).
    """
    state = np.zeros((count, mujoco.mj_stateSize(body(), STATE)))
    drawn = torch.rand(count, JOINTS, generator=generator).numpy()
    state[:, 1 : 1 + JOINTS] = body().qpos0 + 0.2 * drawn - 0.1
    drawn = torch.randn(count, JOINTS, generator=generator).numpy()
    state[:, 1 + JOINTS : 1 + 2 * JOINTS] = 0.1 * drawn
    return state


def observe(state: np.ndarray) -> Tensor:
    """What the policy sees, (..., 17): 8 positions, then 9 velocities.

    The time and how far it has come are left out, as in gymnasium. There,
    velocities are up to thirty times as large as positions; `VELOCITY`
    brings them to one size. Without it no method learned anything here in
    the updates that we could afford.
    """
    seen = state[..., 2 : 1 + 2 * JOINTS].copy()
    seen[..., JOINTS - 1 :] *= VELOCITY
    return torch.as_tensor(seen, dtype=torch.float32)


@torch.no_grad()
def run_cheetahs(
    params: Params,
    policy: nn.Module,
    directions: Tensor,
    *,
    rollouts: int,
    generator: torch.Generator,
    horizon: int = 200,
    threads: int = 1,
    poses: list | None = None,
) -> Rollouts:
    """Let each task's policy run, several times.

    Args:
        params: one set of parameters a task, leaves (tasks, *shape).
        policy: observations -> (mean, log_std).
        directions: 1.0 forward or -1.0 backward, shape (tasks,).
        rollouts: episodes a task.
        generator: draws the starts and the actions' noise.
        horizon: actions an episode.
        threads: that simulate side by side.
        poses: if given, joint positions (tasks, rollouts, 9) are appended to
            it before each action and at the end.

    Returns:
        rollouts in which nobody ends early; rewards in metres a second.
    """
    shape = len(directions), rollouts
    act = vmap(lambda p, states: functional_call(policy, p, (states,)))
    state = start(shape[0] * shape[1], generator)
    workers = [mujoco.MjData(body()) for _ in range(threads)]
    size = (horizon, *shape, body().nu)
    seen = []

    def note():
        if poses is not None:
            poses.append(state[:, 1 : 1 + JOINTS].reshape(*shape, JOINTS))

    with Rollout(nthread=threads if threads > 1 else 0) as simulator:
        for noise in torch.randn(size, generator=generator):
            note()
            states = observe(state).view(*shape, -1)
            mean, log_std = act(params, states)
            action = mean + log_std.exp()[:, None] * noise
            torque = action.clamp(-1, 1).double()
            control = torque.view(len(state), 1, -1).expand(-1, FRAMES, -1)
            after, _ = simulator.rollout(
                body(), workers, state, control.contiguous().numpy()
            )
            gone = after[:, -1, 1] - state[:, 1]
            speed = gone / (FRAMES * body().opt.timestep)
            speed = torch.as_tensor(speed).view(shape) * directions[:, None]
            reward = (speed - COST * torque.square().sum(-1)).float()
            seen.append((states, action, reward, torch.ones(shape)))
            state = after[:, -1]
        note()
    return Rollouts(*(torch.stack(parts, dim=2) for parts in zip(*seen)))


# Where the body's limbs begin and end: a chain from the back foot over the
# trunk to the front foot, and the head.
CHAIN = (
    "back toe", "back heel", "back knee", "hip", "shoulder", "front knee",
    "front heel", "front toe",
)  # fmt: skip


def skeleton(poses: np.ndarray) -> np.ndarray:
    """Find the points of a stick figure.

    Args:
        poses: joint positions, shape (..., 9).

    Returns:
        x and height of the eight points of `CHAIN` and of the head's two
        ends, in metres: shape (..., 10, 2).
    """
    model, data = body(), mujoco.MjData(body())
    flat = poses.reshape(-1, JOINTS)
    found = np.zeros((len(flat), len(CHAIN) + 2, 2))
    for row, pose in zip(found, flat):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)

        def place(name):
            return data.body(name).xpos[[0, 2]]

        def end(name, sign):
            geom = data.geom(name)
            half = model.geom(name).size[1]
            axis = geom.xmat.reshape(3, 3)[:, 2]
            return (geom.xpos + sign * half * axis)[[0, 2]]

        def far_end(name):
            ends = end(name, 1), end(name, -1)
            return max(ends, key=lambda e: np.linalg.norm(e - place(name)))

        row[:] = [
            far_end("bfoot"), place("bfoot"), place("bshin"),
            place("bthigh"), place("fthigh"), place("fshin"),
            place("ffoot"), far_end("ffoot"), end("head", -1),
            end("head", 1),
        ]  # fmt: skip
    return found.reshape(*poses.shape[:-1], len(CHAIN) + 2, 2)
