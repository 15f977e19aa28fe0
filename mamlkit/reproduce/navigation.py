"""2D navigation: Finn et al. 2017, Sec. 5.3.1 and Table 4.

TRPO outside, one REINFORCE step with α = 0.5 inside, as in the authors' code;
beside it joint pretraining, an untrained policy and the oracle that observes
its goal. Judged on the 40 goals of Table 4, 40 rollouts a step, with several
training and evaluation seeds. The smaller α after the first step, and every α
of the baselines, are chosen on other goals.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap
from tqdm.auto import tqdm

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.inner import Params, adapt
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import row, write_result
from mamlkit.rl import (
    Experience,
    GaussianPolicy,
    meta_trpo_step,
    naive,
    policy_loss,
    repeat,
    roll_out,
    sample_goals,
    the_40_goals,
    total_return,
    weigh,
)

# Table 4 and, for the baselines, the authors' result files: mean return after
# 0, 1, 2 and 3 steps.
PAPER = {
    "": (-40.41, -11.68, -3.33, -3.23),
    "pretrained_": (-40.81, -19.73, -11.72, -8.47),
    "random_": (-82.66, -57.96, -53.84, -46.81),
}
ORACLE = -2.29
FIRST = (0.1, 0.2, 0.5, 1.0)  # α of the baselines' first step
LATER = (1.0, 0.5, 0.25, 0.1, 0.05)  # α of each later step
SNAPSHOTS = (15, 30, 60, 100)  # joint pretraining is best when it is not over


class Oracle(GaussianPolicy):
    """A policy that observes its goal, which comes as a parameter."""

    def __init__(self):
        super().__init__(states=4)
        self.goal = nn.Parameter(torch.zeros(2))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Map positions (..., 2) to means (..., 2) and log std (2,)."""
        goal = self.goal.expand_as(states)
        return super().forward(torch.cat([states, goal], dim=-1))


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="training seeds, from --seed on")
    add("--iterations", type=int, default=100, help="meta-updates")
    add("--tasks", type=int, default=20, help="goals a meta-update")
    add("--inner-lr", type=float, default=0.5, help="α of the first step")
    add("--test-seeds", type=int, default=5, help="evaluations of each policy")
    add("--threads", type=int, default=2)


def train(args: Namespace, name: str, seed: int) -> dict:
    """Train "maml", "pretrained" or "oracle", resumably.

    Returns:
        the checkpoint: params, snapshots of them, curve, seconds.
    """
    settings = {"tasks": args.tasks, "inner_lr": args.inner_lr}
    path = BUILD / "reproduce" / f"navigation_{name}_{seed}.pt"
    torch.manual_seed(seed)
    policy = Oracle() if name == "oracle" else GaussianPolicy()
    generator = torch.Generator().manual_seed(seed)
    params = {k: p.detach() for k, p in policy.named_parameters()}
    params.pop("goal", None)
    state = {
        "settings": settings,
        "params": params,
        "snapshots": {},
        "curve": [],
        "seconds": 0.0,
        "generator": generator.get_state(),
    }
    if path.exists():
        state = load_checkpoint(path, settings)
        generator.set_state(state["generator"])
    begun, saved_at = time.perf_counter() - state["seconds"], state["seconds"]
    progress = tqdm(
        range(len(state["curve"]), args.iterations),
        initial=len(state["curve"]),
        total=args.iterations,
        desc=f"{name} {seed}",
        mininterval=5,
    )
    for i in progress:
        goals = sample_goals(args.tasks, generator=generator)
        state["params"], reached = meta_trpo_step(
            state["params"],
            policy,
            goals,
            lr=args.inner_lr,
            generator=generator,
            steps=int(name == "maml"),
            told={"goal": goals} if name == "oracle" else None,
        )
        state["curve"].append(round(reached.item(), 3))
        state["seconds"] = time.perf_counter() - begun
        state["generator"] = generator.get_state()
        progress.set_postfix(reached=f"{reached:.2f}", refresh=False)
        if i + 1 in SNAPSHOTS:
            state["snapshots"][i + 1] = state["params"]
        if i + 1 == args.iterations or state["seconds"] - saved_at > 20:
            save_checkpoint(path, state)
            saved_at = state["seconds"]
    return state


def adapted(
    stacked: Params, policy: nn.Module, seen: Experience, lr: float
) -> Params:
    """Take one inner step for each task from its own parameters."""
    loss_fn = policy_loss(policy, naive)
    return vmap(lambda p, b: adapt(p, loss_fn, b, lr=lr))(stacked, seen)


def returns(
    params: Params,
    policy: nn.Module,
    goals: Tensor,
    lrs: Sequence[float | Sequence[float]],
    seed: int,
) -> tuple[Tensor, list[float]]:
    """Return after 0, 1, ... steps, each on 40 new rollouts.

    Args:
        params: θ.
        policy: of which θ are the parameters.
        goals: shape (tasks, 2).
        lrs: α of each step; of several the best is taken.
        seed: of the actions.

    Returns:
        shape (tasks, steps + 1), and the α of each step.
    """
    generator = torch.Generator().manual_seed(seed)

    def gather(stacked):
        return roll_out(
            stacked, policy, goals, rollouts=40, generator=generator
        )

    stacked = repeat(params, len(goals))
    seen, chosen = gather(stacked), []
    found = [total_return(seen)]
    for options in lrs:
        options = options if isinstance(options, tuple) else (options,)
        tried = {}
        for lr in options:
            moved = adapted(stacked, policy, weigh(seen), lr)
            later = gather(moved)
            score = total_return(later).mean().nan_to_num(-torch.inf).item()
            tried[score] = lr, moved, later
        lr, stacked, seen = tried[max(tried)]
        chosen.append(lr)
        found.append(total_return(seen))
    return torch.stack(found, dim=1), chosen


def judge(
    candidates: dict[int, Params], first: tuple[float, ...], n_seeds: int
) -> tuple[Tensor, dict, Params]:
    """Choose updates and rates on 30 other goals; judge on Table 4's 40.

    Args:
        candidates: θ after so many updates.
        first: what the first step's α is chosen from.
        n_seeds: evaluations to average.

    Returns:
        returns (40, 4), what was chosen, and the chosen θ.
    """
    policy, best = GaussianPolicy(), (-torch.inf,)
    goals = sample_goals(
        60, generator=torch.Generator().manual_seed(1_000_001)
    )
    for updates, params in candidates.items():
        options = (first, LATER, LATER)
        found, lrs = returns(params, policy, goals, options, seed=1_000_001)
        score = found[:, 1:].mean().item()
        best = max(best, (score, updates, lrs), key=lambda b: b[0])
    _, updates, lrs = best
    params = candidates[updates]
    runs = [
        returns(params, policy, the_40_goals(), lrs, 2_000_001 + seed)[0]
        for seed in range(n_seeds)
    ]
    return torch.stack(runs).mean(0), {"updates": updates, "lr": lrs}, params


def run(args: Namespace) -> None:
    """Train, choose rates, test; write navigation.json and navigation.pt."""
    torch.set_num_threads(args.threads)
    seeds = range(args.seed, args.seed + args.seeds)
    mamls = [train(args, "maml", seed) for seed in seeds]
    found, chosen, kept = {}, {}, {}
    for seed, maml in zip(seeds, mamls):
        joint = train(args, "pretrained", seed)
        last = {args.iterations: joint["params"]}
        torch.manual_seed(seed)
        random = GaussianPolicy().named_parameters()
        candidates = {
            "": ({args.iterations: maml["params"]}, (args.inner_lr,)),
            "pretrained_": (joint["snapshots"] | last, FIRST),
            "random_": ({0: {k: p.detach() for k, p in random}}, FIRST),
        }
        for name, (thetas, first) in candidates.items():
            values, choice, theta = judge(thetas, first, args.test_seeds)
            found.setdefault(name, []).append(values)
            chosen[f"{name}seed{seed}"] = choice
            kept.setdefault(name, {"params": theta, "lr": choice["lr"]})
            print(name, seed, choice, values.mean(0), flush=True)
    rows = []
    for name, values in found.items():
        groups = {name: torch.stack(values).mean(0)}
        groups |= {f"{name}seed{s}_": v for s, v in zip(seeds, values)}
        for prefix, group in groups.items():
            for step, value in enumerate(group.T):
                paper = PAPER[name][step] if prefix == name else None
                rows.append(row(f"{prefix}return_after_{step}", value, paper))
    oracle, goals = train(args, "oracle", args.seed)["params"], the_40_goals()
    generator = torch.Generator().manual_seed(2_000_001)
    told = repeat(oracle, 40) | {"goal": goals}
    seen = roll_out(told, Oracle(), goals, rollouts=40, generator=generator)
    rows.append(row("oracle", total_return(seen), ORACLE))
    path = write_result(
        "navigation",
        settings=vars(args) | {"chosen": chosen},
        seed=args.seed,
        seconds=sum(state["seconds"] for state in mamls) / len(mamls),
        curve=[[i + 1, value] for i, value in enumerate(mamls[0]["curve"])],
        rows=rows,
    )
    save_checkpoint(
        CHECKPOINTS / "navigation.pt",
        {"maml": kept[""], "pretrained": kept["pretrained_"]}
        | {"oracle": oracle},
    )
    print(path.read_text())
