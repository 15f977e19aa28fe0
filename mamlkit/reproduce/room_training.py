"""Training in the room with four corners, by any surrogate, resumably."""

import torch
from torch import Tensor
from torch.func import grad, stack_module_state, vmap

from mamlkit import calling
from mamlkit.calling import functional_call
from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.inner import Params, adapt
from mamlkit.paths import BUILD
from mamlkit.rl import (
    GaussianPolicy,
    Rollouts,
    dice,
    linear_baseline,
    log_prob,
    lvc,
    naive,
    policy_loss,
    returns_to_go,
    roll_out,
    total_return,
    weigh,
)
from mamlkit.rl.room import room_step, the_corners

SURROGATES = {
    "dice": dice,
    "lvc": lvc,
    "emaml": naive,
    "naive": naive,
    "first_order": naive,
    "joint": naive,
}
TASKS = 16  # an update, four for each corner
ROLLOUTS = 20  # a task, before adapting and again after
SNAPSHOTS = (20, 40, 80, 160, 320)  # updates after which θ is kept


def starts(seeds: tuple[int, ...]) -> tuple[GaussianPolicy, Params]:
    """Make the 32-32 policy, and a start of each seed: leaves (runs, ...)."""
    policies = []
    for seed in seeds:
        torch.manual_seed(seed)
        policies.append(GaussianPolicy(hidden=(32, 32)))
    params, _ = stack_module_state(policies)
    return policies[0], {k: p.detach() for k, p in params.items()}


def spread_out(theta: Params, n: int) -> Params:
    """Repeat the parameters of each run for its n tasks."""
    return {k: p.repeat_interleave(n, dim=0) for k, p in theta.items()}


def walk(
    stacked: Params,
    policy: GaussianPolicy,
    generator: torch.Generator,
    horizon: int,
    rollouts: int | None = None,
) -> Rollouts:
    """Walk with each row, `ROLLOUTS` times or as said; corners take turns."""
    return roll_out(
        stacked,
        policy,
        the_corners().repeat(len(stacked["log_std"]) // 4, 1),
        rollouts=rollouts or ROLLOUTS,
        generator=generator,
        horizon=horizon,
        step=room_step,
    )


def exploration_credit(after: Rollouts) -> Tensor:
    """Say what the walks before adapting were worth to each task, (rows,).

    The return after adapting, less that of the run's other tasks with the
    same corner; in the unit of the outer loss, which is a mean over time
    steps of advantages of deviation 1.
    """
    reached = total_return(after).view(-1, TASKS // 4, 4)
    others = reached.sum(1, keepdim=True) - reached
    ahead = reached - others / (TASKS // 4 - 1)
    to_go = returns_to_go(after.rewards)
    surprise = to_go - linear_baseline(after.states, to_go, after.alive)
    spread = surprise.flatten(1).std(dim=1)
    return ahead.flatten() / (spread * after.rewards.shape[-1])


def outer_gradient(
    theta: Params,
    policy: GaussianPolicy,
    method: str,
    lr: float,
    generator: torch.Generator,
    horizon: int,
) -> Params:
    """Sample, adapt, sample again, differentiate; for all runs at once.

    Args:
        theta: leaves (runs, ...).
        policy: the architecture.
        method: one of `SURROGATES`.
        lr: α; joint training takes no step.
        generator: draws the actions.
        horizon: time steps of a walk.

    Returns:
        as `theta`: the gradient of each run's mean loss.
    """
    loss_fn = policy_loss(policy, SURROGATES[method])
    places = calling.places(policy)
    options = {
        "lr": lr,
        "steps": int(method != "joint"),
        "first_order": method == "first_order",
    }

    def inner(params, experience):
        return adapt(params, loss_fn, experience, **options)

    stacked = spread_out(theta, TASKS)
    before = weigh(walk(stacked, policy, generator, horizon))
    adapted = vmap(inner)(stacked, before)
    reached = walk(adapted, policy, generator, horizon)
    after, credit = weigh(reached), exploration_credit(reached)

    def task_loss(params, before, after, credit):
        found = loss_fn(inner(params, before), after)
        if method == "emaml":
            # The sampled inner step depends on which walks were drawn.
            mean, log_std = functional_call(
                policy, params, (before.states,), places=places
            )
            drawn = log_prob(mean, log_std, before.actions).sum()
            found = found - credit * drawn
        return found

    def loss(theta):
        rows = spread_out(theta, TASKS)
        losses = vmap(task_loss)(rows, before, after, credit)
        return losses.sum() / TASKS  # of all runs: none knows of another

    return grad(loss)(theta)


def train(
    method: str,
    seeds: tuple[int, ...],
    meta_lr: float,
    lr: float,
    horizon: int,
) -> dict[int, Params]:
    """Train with Adam, or read what an earlier call left.

    Returns:
        by updates, 0 and each of `SNAPSHOTS`: θ, leaves (runs, ...).
    """
    settings = {"seeds": seeds, "updates": SNAPSHOTS}
    rates = f"{meta_lr:g}_{lr:g}"
    name = f"room_{horizon}_{method}_{rates}_{seeds[0]}.pt"
    path = BUILD / "reproduce" / name
    if path.exists():
        return load_checkpoint(path, settings)["snapshots"]
    policy, theta = starts(seeds)
    generator = torch.Generator().manual_seed(seeds[0])
    theta = {k: p.clone() for k, p in theta.items()}
    adam = torch.optim.Adam(theta.values(), lr=meta_lr)
    snapshots = {0: {k: p.clone() for k, p in theta.items()}}
    for i in range(SNAPSHOTS[-1]):
        grads = outer_gradient(theta, policy, method, lr, generator, horizon)
        for key, p in theta.items():
            p.grad = grads[key]
        adam.step()
        if i + 1 in SNAPSHOTS:
            snapshots[i + 1] = {k: p.clone() for k, p in theta.items()}
    save_checkpoint(path, {"settings": settings, "snapshots": snapshots})
    return snapshots
