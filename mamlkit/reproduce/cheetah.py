"""The half-cheetah, forward or backward: Finn et al. 2017, Sec. 5.3.2, Fig. 5.

MAML with TRPO outside and one REINFORCE step inside, joint training, and an
untrained policy, on gymnasium's HalfCheetah (`pip install mamlkit[mujoco]`).
α of each step is chosen on rollouts that no test uses, for every method.

The authors sample from 40 tasks an update, 20 of each direction; here each
direction is sampled once, from 40 rollouts: a tenth of the data. For that, the
inner step's surrogate is LVC (`--surrogate naive` is the authors'), α and the
KL of an update are larger, and velocities are scaled (see `observe`).
"""

from argparse import ArgumentParser, Namespace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from mamlkit.checkpoint import save_checkpoint
from mamlkit.inner import Params, adapt
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import Known, write_result
from mamlkit.reproduce.intervals import row_of_trainings
from mamlkit.reproduce.policy_training import train_policy
from mamlkit.rl import (
    GaussianPolicy,
    lvc,
    meta_trpo_step,
    naive,
    policy_loss,
    repeat,
    total_return,
    weigh,
)

# Table 5 and the authors' result files: mean return after 0, 1, 2, 3 steps.
PAPER = {
    "": (-50.69, 293.19, 313.48, 315.65),
    "pretrained_": (-43.0, -24.8, -12.9, 19.6),
    "random_": (-35.7, 21.8, 62.3, 86.2),
}
SURROGATES = {"lvc": lvc, "naive": naive}
DIRECTIONS = torch.tensor([1.0, -1.0])
# What each step's α is chosen from; the authors': 0.1 (MAML), 0.2 (joint),
# 0.5 and 1 (untrained), and half of it after the first step.
RATES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 2.0, 5.0, 10.0, 20.0)
JUDGED = 40  # rollouts a direction and step
CHOICE_SEED, TEST_SEED = 3_000_001, 2_000_001


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="training seeds, from --seed on")
    add("--iterations", type=int, default=200, help="meta-updates")
    add("--rollouts", type=int, default=40, help="a direction and sampling")
    add("--inner-lr", type=float, default=0.5, help="α in training")
    add("--max-kl", type=float, default=0.05, help="of TRPO's step, in nats")
    add("--surrogate", choices=SURROGATES, default="lvc", help="inside")
    add("--threads", type=int, default=1)


def policy_of(seed: int) -> tuple[GaussianPolicy, Params]:
    """Make the paper's 100-100 policy, and a start of this seed."""
    torch.manual_seed(seed)
    policy = GaussianPolicy(states=17, actions=6)
    return policy, {k: p.detach() for k, p in policy.named_parameters()}


def runners(args: Namespace, policy, rollouts: int, generator, **options):
    """Make what lets the policies of both directions run."""
    # MuJoCo is an extra: the other experiments do without.
    from mamlkit.rl.cheetah import run_cheetahs

    return partial(
        run_cheetahs,
        policy=policy,
        directions=DIRECTIONS,
        rollouts=rollouts,
        generator=generator,
        threads=args.threads,
        **options,
    )


def train(args: Namespace, name: str, seed: int) -> dict:
    """Train "maml" or "pretrained" (jointly), resumably.

    Returns:
        the checkpoint, see `train_policy`.
    """
    settings = {
        "rollouts": args.rollouts,
        "inner_lr": args.inner_lr,
        "max_kl": args.max_kl,
        "surrogate": args.surrogate,
    }
    policy, params = policy_of(seed)
    generator = torch.Generator().manual_seed(seed)
    update = partial(
        meta_trpo_step,
        policy=policy,
        goals=DIRECTIONS,
        lr=args.inner_lr,
        generator=generator,
        steps=int(name == "maml"),
        gather=runners(args, policy, args.rollouts, generator),
        max_kl=args.max_kl,
        surrogate=SURROGATES[args.surrogate],
    )
    return train_policy(
        BUILD / "reproduce" / f"cheetah_{name}_{seed}.pt",
        params,
        update,
        iterations=args.iterations,
        generator=generator,
        settings=settings,
    )


def returns(
    args: Namespace,
    params: Params,
    options: tuple[tuple[float, ...], ...],
    seed: int,
) -> tuple[Tensor, list[float], list[dict[float, float]]]:
    """Return after 0, 1, ... steps, each on 40 new rollouts a direction.

    Args:
        args: of the command.
        params: θ.
        options: α of each step; of several the best is taken.
        seed: of starts and actions.

    Returns:
        shape (steps + 1, directions); the α of each step; and for each step
        what every α led to, the mean of both directions.
    """
    policy, _ = policy_of(0)
    generator = torch.Generator().manual_seed(seed)
    gather = runners(args, policy, JUDGED, generator)
    loss_fn = policy_loss(policy, naive)

    def step(stacked, experience, lr):
        one = partial(adapt, loss_fn=loss_fn, lr=lr)
        return vmap(lambda p, e: one(p, support=e))(stacked, experience)

    stacked = repeat(params, len(DIRECTIONS))
    seen, chosen, tried = gather(stacked), [], []
    found = [total_return(seen)]
    for rates in options:
        experience, outcomes = weigh(seen), {}
        for lr in rates:
            moved = step(stacked, experience, lr)
            outcomes[lr] = moved, gather(moved)
        scores = {
            lr: total_return(o[1]).mean().nan_to_num(-1e9).item()
            for lr, o in outcomes.items()
        }
        tried.append(scores)
        chosen.append(max(scores, key=scores.get))
        stacked, seen = outcomes[chosen[-1]]
        found.append(total_return(seen))
    return torch.stack(found), chosen, tried


def train_and_judge(args: Namespace, name: str, seed: int) -> dict:
    """Train, or take a "random" start; choose α elsewhere; test."""
    if name == "random":
        state = {"params": policy_of(seed)[1], "curve": [], "seconds": 0.0}
    else:
        state = train(args, name, seed)
    params = state["params"]
    _, lrs, tried = returns(args, params, (RATES,) * 3, CHOICE_SEED + seed)
    test, _, _ = returns(
        args, params, tuple((lr,) for lr in lrs), TEST_SEED + seed
    )
    print(name, seed, lrs, test.mean(1), test, flush=True)
    return state | {"test": test, "lr": lrs, "tried": tried}


def judged(args: Namespace, name: str, seed: int) -> dict:
    """Give what `train_and_judge` found, now or in an earlier run."""
    names = ("iterations", "rollouts", "inner_lr", "max_kl", "surrogate")
    known = Known(
        BUILD / "reproduce" / f"cheetah_{name}_{seed}_judged.pt",
        rates=RATES,
        **{name: getattr(args, name) for name in names},
    )
    return known("judged", partial(train_and_judge, args, name, seed))


def gait(args: Namespace, params: Params, lrs: list[float]) -> dict:
    """Let θ adapt to both directions, and keep how it moves.

    Returns:
        "points" of the stick figure in millimetres, int16 of shape (steps +
        1, directions, horizon + 1, points, 2), of the first rollout after
        each number of steps; and its "returns", (steps + 1, directions).
    """
    from mamlkit.rl.cheetah import skeleton

    policy, _ = policy_of(0)
    generator = torch.Generator().manual_seed(TEST_SEED)
    loss_fn = policy_loss(policy, naive)
    stacked, found = repeat(params, len(DIRECTIONS)), []
    for lr in (*lrs, None):
        poses: list = []
        gather = runners(args, policy, JUDGED, generator, poses=poses)
        rollouts = gather(stacked)
        seen, reached = weigh(rollouts), rollouts.rewards[:, 0].sum(-1)
        shown = np.stack([p[:, 0] for p in poses], 1)
        points = torch.as_tensor(skeleton(shown))
        found.append(((1000 * points).round().to(torch.int16), reached))
        if lr is not None:
            one = partial(adapt, loss_fn=loss_fn, lr=lr)
            stacked = vmap(lambda p, e, one=one: one(p, support=e))(
                stacked, seen
            )
    points, reached = map(torch.stack, zip(*found))
    return {"points": points, "returns": reached}


def rows_of(prefix: str, states: list[dict]) -> list[dict]:
    """Rows of one kind of start: both directions, each, and per seed."""
    rows = []
    found = torch.stack([s["test"] for s in states])  # (seeds, steps, 2)
    views = {"": found.mean(-1), "forward_": found[..., 0]}
    views["backward_"] = found[..., 1]
    for view, values in views.items():
        for step, each in enumerate(values.T):
            row = row_of_trainings(f"{view}{prefix}return_after_{step}", each)
            if not view and prefix in PAPER:
                row["paper"] = PAPER[prefix][step]
            rows.append(row)
    return rows


def run(args: Namespace) -> None:
    """Train, choose, test; write cheetah.json, θ and how it moves."""
    torch.set_num_threads(args.threads)
    seeds = range(args.seed, args.seed + args.seeds)
    found = {
        name: [judged(args, name, seed) for seed in seeds]
        for name in ("maml", "pretrained", "random")
    }
    rows, chosen = [], {}
    for name, states in found.items():
        rows += rows_of("" if name == "maml" else f"{name}_", states)
        for seed, state in zip(seeds, states):
            chosen[f"{name}_seed{seed}"] = {
                "lr": state["lr"],
                "tried": [
                    {str(k): round(v, 1) for k, v in each.items()}
                    for each in state["tried"]
                ],
            }
    mamls = found["maml"]
    settings = {k: v for k, v in vars(args).items() if not callable(v)}
    path = write_result(
        "cheetah",
        settings=settings
        | {
            "chosen": chosen,
            "seconds_each": [round(m["seconds"], 1) for m in mamls],
        },
        seed=args.seed,
        seconds=sum(m["seconds"] for m in mamls) / len(mamls),
        curve=[
            [name, i + 1, *values]
            for name in ("maml", "pretrained")
            for i, values in enumerate(zip(*(m["curve"] for m in found[name])))
        ],
        rows=rows,
    )
    save_checkpoint(
        CHECKPOINTS / "cheetah.pt",
        {
            name: {
                "params": found[name][0]["params"],
                "lr": found[name][0]["lr"],
            }
            for name in ("maml", "pretrained")
        }
        | {"gait": gait(args, mamls[0]["params"], mamls[0]["lr"])},
    )
    print(path)
