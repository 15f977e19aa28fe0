"""2D navigation: Finn et al. 2017, Sec. 5.3.1 and Table 4.

TRPO outside, one REINFORCE step with α = 0.5 inside, as in the authors' code;
beside it joint pretraining, an untrained policy and the oracle that observes
its goal. Judged on the 40 goals of Table 4, 40 rollouts a step, with several
training and evaluation seeds. The number of updates, the smaller α after the
first step, and every α of the baselines, are chosen on other goals.
"""

from argparse import ArgumentParser, Namespace
from functools import partial

import torch
from torch import Tensor, nn

from mamlkit.checkpoint import save_checkpoint
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import Known, row, write_result
from mamlkit.reproduce.intervals import row_of_trainings_and_tasks
from mamlkit.reproduce.judge_navigation import (
    OTHER_GOALS,
    RATES,
    TABLE_4,
    choices,
    judge,
)
from mamlkit.reproduce.policy_training import train_policy
from mamlkit.rl import (
    GaussianPolicy,
    meta_trpo_step,
    repeat,
    roll_out,
    sample_goals,
    the_40_goals,
    total_return,
)

# Table 4 and, for the baselines, the authors' result files: mean return after
# 0, 1, 2 and 3 steps.
PAPER = {
    "": TABLE_4,
    "pretrained_": (-40.81, -19.73, -11.72, -8.47),
    "random_": (-82.66, -57.96, -53.84, -46.81),
}
ORACLE = -2.29
# After how many updates θ may be taken: the last are not always the best.
SNAPSHOTS = {
    "maml": (75, 100, 125, 150, 200, 250),
    "pretrained": (15, 30, 60, 100, 150, 200),
    "oracle": (),
}


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
    add("--iterations", type=int, default=300, help="meta-updates")
    add("--tasks", type=int, default=20, help="goals a meta-update")
    add("--inner-lr", type=float, default=0.5, help="α of the first step")
    add("--test-seeds", type=int, default=5, help="evaluations of each policy")
    add("--threads", type=int, default=2)


def train(args: Namespace, name: str, seed: int) -> dict:
    """Train "maml", "pretrained" or "oracle", resumably.

    Returns:
        the checkpoint, see `train_policy`.
    """
    settings = {"tasks": args.tasks, "inner_lr": args.inner_lr}
    torch.manual_seed(seed)
    policy = Oracle() if name == "oracle" else GaussianPolicy()
    generator = torch.Generator().manual_seed(seed)
    params = {k: p.detach() for k, p in policy.named_parameters()}
    params.pop("goal", None)

    def update(params):
        goals = sample_goals(args.tasks, generator=generator)
        return meta_trpo_step(
            params,
            policy,
            goals,
            lr=args.inner_lr,
            generator=generator,
            steps=int(name == "maml"),
            told={"goal": goals} if name == "oracle" else None,
        )

    return train_policy(
        BUILD / "reproduce" / f"navigation_{name}_{seed}.pt",
        params,
        update,
        iterations=args.iterations,
        generator=generator,
        settings=settings,
        keep=SNAPSHOTS[name],
        digits=3,
    )


def train_and_judge(args: Namespace, name: str, seed: int) -> dict:
    """Train "maml" or "pretrained", or take a "random" start, and judge it.

    Returns:
        what `judge` does, and of a training its curve and its seconds.
    """
    if name == "random":
        torch.manual_seed(seed)
        policy = GaussianPolicy().named_parameters()
        trained, thetas = {}, {0: {k: p.detach() for k, p in policy}}
    else:
        trained = train(args, name, seed)
        last = {len(trained["curve"]): trained["params"]}
        thetas = trained["snapshots"] | last
    state = trained | judge(thetas, args.test_seeds)
    print(name, seed, state["chosen"], state["test"].mean(0), flush=True)
    return state


def judged(args: Namespace, name: str, seed: int) -> dict:
    """Give what `train_and_judge` found, now or in an earlier run."""
    names = ("iterations", "tasks", "inner_lr", "test_seeds")
    known = Known(
        BUILD / "reproduce" / f"navigation_{name}_{seed}_judged.pt",
        rates=RATES,
        **{name: getattr(args, name) for name in names},
    )
    return known("judged", partial(train_and_judge, args, name, seed))


def run(args: Namespace) -> None:
    """Train, choose, test; write navigation.json, its choices, and θ."""
    torch.set_num_threads(args.threads)
    seeds = range(args.seed, args.seed + args.seeds)
    found = {
        name: [judged(args, name, seed) for seed in seeds]
        for name in ("maml", "pretrained", "random")
    }
    rows, chosen = [], {}
    for name, states in found.items():
        kind = "" if name == "maml" else f"{name}_"
        tests = torch.stack([s["test"] for s in states])
        for step, values in enumerate(tests.unbind(-1)):
            label = f"{kind}return_after_{step}"
            both = row_of_trainings_and_tasks(label, values)
            rows.append(both | {"paper": PAPER[kind][step]})
        for seed, state in zip(seeds, states):
            chosen[f"{kind}seed{seed}"] = state["chosen"]
            for step, value in enumerate(state["test"].T):
                label = f"{kind}seed{seed}_return_after_{step}"
                rows.append(row(label, value))
    oracle, goals = train(args, "oracle", args.seed)["params"], the_40_goals()
    generator = torch.Generator().manual_seed(2_000_001)
    told = repeat(oracle, 40) | {"goal": goals}
    seen = roll_out(told, Oracle(), goals, rollouts=40, generator=generator)
    rows.append(row("oracle", total_return(seen), ORACLE))
    mamls = found["maml"]
    settings = {k: v for k, v in vars(args).items() if not callable(v)}
    about = {
        "seed": args.seed,
        "seconds": sum(m["seconds"] for m in mamls) / len(mamls),
    }
    path = write_result(
        "navigation",
        settings=settings
        | {
            "chosen": chosen,
            "seconds_each": [round(m["seconds"], 1) for m in mamls],
            "cpu_seconds": [round(m["cpu_seconds"], 1) for m in mamls],
        },
        curve=[
            [i + 1, round(sum(values) / len(values), 3)]
            for i, values in enumerate(zip(*(m["curve"] for m in mamls)))
        ],
        rows=rows,
        **about,
    )
    write_result(
        "navigation_choices",
        settings=settings | {"judged_on": f"{OTHER_GOALS} other goals"},
        curve=[],
        rows=choices(found),
        **about,
    )
    kept = {name: found[name][0] for name in ("maml", "pretrained")}
    save_checkpoint(
        CHECKPOINTS / "navigation.pt",
        {
            name: {"params": state["params"], "lr": state["chosen"]["lr"]}
            for name, state in kept.items()
        }
        | {"oracle": oracle},
    )
    print(path.read_text())
