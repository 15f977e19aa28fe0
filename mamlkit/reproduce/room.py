"""A room where exploring pays only after adapting: five trainings a method.

Which surrogate MAML's inner step should have, in the room with four corners:
the expected inner step's derivatives (DiCE, LVC), the sampled one's (E-MAML),
the naive ones, or none; beside joint training and an untrained policy. And on
one goal of 2D navigation, TRPO against REINFORCE. Every method has rates of
its own, chosen on walks that no test uses.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.inner import Params, adapt
from mamlkit.paths import BUILD
from mamlkit.reproduce import row_of_seeds, write_result
from mamlkit.rl import (
    Experience,
    GaussianPolicy,
    Rollouts,
    dice,
    fisher_product,
    kl_divergence,
    linear_baseline,
    log_prob,
    lvc,
    naive,
    policy_loss,
    repeat,
    returns_to_go,
    roll_out,
    total_return,
    trpo_step,
    weigh,
)
from mamlkit.rl.room import HORIZON, best_return, room_step, the_corners

SURROGATES = {
    "dice": dice,
    "lvc": lvc,
    "naive": naive,
    "first_order": naive,
    "emaml": naive,
    "joint": naive,
}
TASKS = 16  # an update, four for each corner
ROLLOUTS = 20  # a task, before adapting and again after
JUDGED = 320  # walks' tasks of a test
SNAPSHOTS = (20, 40, 80, 160, 320)  # updates after which θ is judged
# β, and α in training. The small β were added when 0.001 had won, and the
# outer α with it.
RATES = (
    *product((0.001, 0.003, 0.01), (2.0, 5.0, 10.0)),
    *product((0.0003,), (1.0, 2.0, 5.0, 10.0, 20.0)),
    *product((0.001,), (1.0, 20.0)),
)
ALPHAS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # and at the test
JOINT_LR = 2.0  # stands for α where training has none
CHOICE_SEED = 100  # of the training that chooses the rates

# One goal, without meta-learning.
GOAL = torch.tensor([[0.3, 0.4]])
ONE_GOAL_UPDATES = 100
REINFORCE_LRS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
TRPO_KLS = (0.003, 0.01, 0.03, 0.1, 0.3)


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="trainings of each method")
    add("--horizons", type=int, nargs="+", default=[HORIZON])


def policy_of(seed: int) -> tuple[GaussianPolicy, Params]:
    """Make the 32-32 policy and a start of this seed."""
    torch.manual_seed(seed)
    policy = GaussianPolicy(hidden=(32, 32))
    return policy, {k: p.detach() for k, p in policy.named_parameters()}


def walk(
    stacked: Params,
    policy: GaussianPolicy,
    generator: torch.Generator,
    horizon: int,
) -> Rollouts:
    """Walk in the room, `ROLLOUTS` times for each task."""
    n_tasks = len(stacked["log_std"])
    return roll_out(
        stacked,
        policy,
        the_corners().repeat(n_tasks // 4, 1),
        rollouts=ROLLOUTS,
        generator=generator,
        horizon=horizon,
        step=room_step,
    )


def exploration_credit(before: Rollouts, after: Rollouts) -> Tensor:
    """What the walks before adapting were worth to each task, (tasks,).

    The return after adapting, less that of the other tasks with the same
    corner; in the unit of the outer loss, which is a mean over time steps of
    advantages of deviation 1.
    """
    reached = total_return(after)
    by_corner = reached.view(-1, 4)
    others = by_corner.sum(0) - by_corner
    others = (others / (len(by_corner) - 1)).flatten()
    to_go = returns_to_go(after.rewards)
    surprise = to_go - linear_baseline(after.states, to_go, after.alive)
    spread = surprise.flatten(1).std(dim=1)
    return (reached - others) / (spread * before.rewards.shape[-1])


def outer_gradient(
    theta: Params,
    policy: GaussianPolicy,
    method: str,
    lr: float,
    generator: torch.Generator,
    horizon: int = HORIZON,
) -> Params:
    """Sample, adapt, sample again, differentiate."""
    loss_fn = policy_loss(policy, SURROGATES[method])
    options = {
        "lr": lr,
        "steps": int(method != "joint"),
        "first_order": method == "first_order",
    }
    seen = walk(repeat(theta, TASKS), policy, generator, horizon)
    before = weigh(seen)
    adapted = vmap(lambda b: adapt(theta, loss_fn, b, **options))(before)
    reached = walk(adapted, policy, generator, horizon)
    after = weigh(reached)
    credit = exploration_credit(seen, reached)

    def task_loss(theta, before, after, credit):
        found = loss_fn(adapt(theta, loss_fn, before, **options), after)
        if method == "emaml":
            # The sampled inner step depends on which walks were drawn.
            mean, log_std = functional_call(policy, theta, (before.states,))
            drawn = log_prob(mean, log_std, before.actions).sum()
            found = found - credit * drawn
        return found

    def mean_loss(theta):
        losses = vmap(task_loss, (None, 0, 0, 0))
        return losses(theta, before, after, credit).mean()

    return grad(mean_loss)(theta)


def train(
    method: str, seed: int, meta_lr: float, lr: float, horizon: int = HORIZON
) -> dict[int, Params]:
    """Train θ with Adam; return it after 0 and each of `SNAPSHOTS`."""
    settings = {"meta_lr": meta_lr, "lr": lr, "updates": SNAPSHOTS[-1]}
    name = f"room_{horizon}_{method}_{seed}_{meta_lr}_{lr}.pt"
    path = BUILD / "reproduce" / name
    if path.exists():
        return load_checkpoint(path, settings)["snapshots"]
    policy, theta = policy_of(seed)
    generator = torch.Generator().manual_seed(seed)
    theta = {k: p.clone() for k, p in theta.items()}
    adam = torch.optim.Adam(theta.values(), lr=meta_lr)
    snapshots = {0: {k: p.clone() for k, p in theta.items()}}
    for i in range(SNAPSHOTS[-1]):
        grads = outer_gradient(theta, policy, method, lr, generator, horizon)
        for name, p in theta.items():
            p.grad = grads[name]
        adam.step()
        if i + 1 in SNAPSHOTS:
            snapshots[i + 1] = {k: p.clone() for k, p in theta.items()}
    save_checkpoint(path, {"settings": settings, "snapshots": snapshots})
    return snapshots


def judge(
    theta: Params, seed: int, alphas: tuple[float, ...], horizon: int
) -> tuple[float, dict[float, float]]:
    """Return before adapting, and after one step of each α, on new walks."""
    policy, _ = policy_of(0)
    generator = torch.Generator().manual_seed(seed)
    loss_fn = policy_loss(policy, naive)  # all have the same gradient
    seen = walk(repeat(theta, JUDGED), policy, generator, horizon)
    experience, found = weigh(seen), {}
    for alpha in alphas:
        step = partial(adapt, theta, loss_fn, lr=alpha)
        adapted = vmap(lambda e, step=step: step(e))(experience)
        after = total_return(walk(adapted, policy, generator, horizon))
        found[alpha] = after.mean().item()
    return total_return(seen).mean().item(), found


def judged(
    method: str, seed: int, meta_lr: float, lr: float, horizon: int
) -> dict[int, dict]:
    """Judge a training after 0, 80, ... updates, resumably.

    Returns:
        by updates: α chosen on other walks, and what it leads to on those of
        the test; the whole sweep there; and the return before adapting.
    """
    name = f"room_{horizon}_{method}_{seed}_{meta_lr}_{lr}_judged.pt"
    path = BUILD / "reproduce" / name
    if path.exists():
        return load_checkpoint(path)
    result = {}
    for updates, theta in train(method, seed, meta_lr, lr, horizon).items():
        _, chosen_on = judge(theta, 3_000_001 + seed, ALPHAS, horizon)
        alpha = max(chosen_on, key=chosen_on.get)
        before, sweep = judge(theta, 2_000_001 + seed, ALPHAS, horizon)
        result[updates] = {
            "alpha": alpha,
            "chosen_on": chosen_on[alpha],
            "before": before,
            "after": sweep[alpha],
            "sweep": sweep,
        }
    save_checkpoint(path, result)
    return result


def best_of(found: dict[int, dict]) -> dict:
    """Take θ after as many updates as are best on the walks for choosing."""
    trained = [updates for updates in found if updates]
    updates = max(trained, key=lambda u: found[u]["chosen_on"])
    return found[updates] | {"updates": updates}


def choose(method: str, horizon: int) -> tuple[float, float, list]:
    """Choose β and α in training by one training of each pair of rates."""
    tried = {}
    for meta_lr, lr in RATES:
        if method != "joint" or lr == JOINT_LR:
            found = judged(method, CHOICE_SEED, meta_lr, lr, horizon)
            tried[meta_lr, lr] = best_of(found)["chosen_on"]
    best = max(tried, key=tried.get)
    return *best, [[*k, round(v, 2)] for k, v in tried.items()]


def surroundings(policy: GaussianPolicy, params: Params, seen: Experience):
    """What TRPO asks about the walks of one task: judge and product."""
    weights = seen.alive / seen.alive.sum()

    def act(params):
        mean, log_std = functional_call(policy, params, (seen.states,))
        return mean, log_std

    old = act(params)
    old_log_probs = log_prob(*old, seen.actions)

    def judge(params):
        new = act(params)
        ratio = (log_prob(*new, seen.actions) - old_log_probs).exp()
        kl = (weights * kl_divergence(*old, *new)).sum()
        return -(weights * ratio * seen.advantages).sum(), kl

    return judge, fisher_product(params, act, weights)


def learn_one_goal(rule: str, size: float, seed: int) -> Tensor:
    """Mean return of 20 walks before each update, (updates,).

    Args:
        rule: "reinforce", whose size is α, or "trpo", whose size is the KL.
        size: of the step.
        seed: of the start and of the walks.
    """
    policy, params = policy_of(seed)
    generator = torch.Generator().manual_seed(seed)
    loss_fn = policy_loss(policy, naive)
    found = []
    for _ in range(ONE_GOAL_UPDATES):
        seen = roll_out(
            repeat(params, 1), policy, GOAL,
            rollouts=ROLLOUTS, generator=generator,
        )  # fmt: skip
        found.append(total_return(seen)[0])
        if not seen.states.isfinite().all():
            break
        experience = Experience(*(part[0] for part in weigh(seen)))
        if rule == "reinforce":
            params = adapt(params, loss_fn, experience, lr=size)
        else:
            judge, product = surroundings(policy, params, experience)
            params = trpo_step(params, judge, product, max_kl=size)
    missing = ONE_GOAL_UPDATES - len(found)
    return torch.cat([torch.stack(found), torch.full((missing,), -1e3)])


def one_goal_rows(seeds: range) -> tuple[list[dict], list]:
    """Sweep α of REINFORCE and the KL of TRPO; rows, and curves."""
    rows, curve = [], []
    rules = {"reinforce": REINFORCE_LRS, "trpo": TRPO_KLS}
    for rule, sizes in rules.items():
        for size in sizes:
            path = BUILD / "reproduce" / f"one_goal_{rule}_{size}.pt"
            settings = {"seeds": len(seeds), "updates": ONE_GOAL_UPDATES}
            if path.exists():
                found = load_checkpoint(path, settings)["found"]
            else:
                found = torch.stack(
                    [learn_one_goal(rule, size, seed) for seed in seeds]
                )
                save_checkpoint(path, {"settings": settings, "found": found})
            name = f"one_goal_{rule}_{size}"
            rows.append(
                row_of_seeds(f"{name}_last_10", found[:, -10:].mean(1))
            )
            rows.append(row_of_seeds(f"{name}_mean", found.mean(1)))
            curve.append(
                [name, *(round(v, 1) for v in found.mean(0).tolist())]
            )
            print(rows[-2]["name"], rows[-2]["value"], flush=True)
    return rows, curve


def run(args: Namespace) -> None:
    """Choose, train, judge; write room.json."""
    torch.set_num_threads(1)
    seeds = range(args.seed, args.seed + args.seeds)
    rows, curve, chosen = [], [], {}
    for horizon in args.horizons:
        where = "" if horizon == HORIZON else f"horizon_{horizon}_"
        for method in SURROGATES:
            meta_lr, lr, tried = choose(method, horizon)
            name = f"{where}{method}"
            chosen[name] = {"meta_lr": meta_lr, "lr": lr, "tried": tried}
            found = [judged(method, s, meta_lr, lr, horizon) for s in seeds]
            best = [best_of(f) for f in found]
            for what in ("alpha", "updates"):
                chosen[name][what] = [b[what] for b in best]
            rows += rows_of(name, best)
            end = [f[SNAPSHOTS[-1]] for f in found]
            rows += rows_of(f"{name}_end", end)
            if method == "dice":
                start = [f[0] for f in found]
                rows += rows_of(f"{where}untrained", start)
            for updates in found[0]:
                after = [f[updates]["after"] for f in found]
                mean = round(sum(after) / len(after), 3)
                curve.append([name, updates, mean])
            print(rows[-1], flush=True)
    more, one_goal = one_goal_rows(seeds)
    settings = {k: v for k, v in vars(args).items() if not callable(v)}
    path = write_result(
        "room",
        settings=settings
        | {
            "chosen": chosen,
            "best_return": {h: best_return(h) for h in args.horizons},
            "one_goal_curves": one_goal,
        },
        seed=args.seed,
        seconds=0.0,
        curve=curve,
        rows=rows + more,
    )
    print(path)


def rows_of(name: str, each: list[dict]) -> list[dict]:
    """Rows of one method: before adapting, after, and the sweep of α."""
    rows = [
        row_of_seeds(f"{name}_return_after_0", [e["before"] for e in each]),
        row_of_seeds(f"{name}_return_after_1", [e["after"] for e in each]),
    ]
    for alpha in ALPHAS:
        values = [e["sweep"][alpha] for e in each]
        rows.append(row_of_seeds(f"{name}_alpha_{alpha}", values))
    return rows
