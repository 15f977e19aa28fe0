"""The variants side by side on Omniglot, at equal time and equal iterations.

Each method has the settings of `mamlkit reproduce omniglot --method ...`,
chosen for it alone, but constant outer rates, so that every point of a curve
is a training that might have ended there. All get the same processor time,
measured on their own iterations; the methods with cheaper iterations take
more of them. One set of trainings answers three questions: who is ahead after
so many seconds, who after so many iterations, and where does each stand
still?
"""

import json
from argparse import ArgumentParser, Namespace
from typing import Any

import torch
from torch import Tensor

from mamlkit.outer import History
from mamlkit.paths import BUILD, replacing
from mamlkit.reproduce import omniglot, row, write_result
from mamlkit.reproduce.intervals import bootstrap_interval, student_interval
from mamlkit.reproduce.judge import accuracies
from mamlkit.reproduce.methods import walk_of
from mamlkit.reproduce.training import draw, pace, train

# name here: method there
NAMES = {
    "maml": "fixed",
    "fomaml": "fomaml",
    "reptile": "reptile",
    "anil": "anil",
    "imaml": "imaml",
}


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--ways", type=int, default=5, help="classes in a task")
    add("--seeds", type=int, default=5, help="trainings of each method")
    add("--variants", nargs="+", choices=NAMES, default=[*NAMES])
    add("--budget", type=float, default=240.0, help="CPU seconds of each")
    add("--width", type=int, default=32, help="channels of the CNN")
    add("--test-tasks", type=int, default=1_000)
    add("--threads", type=int, default=1)


def settings(variant: str, seed: int, args: Namespace) -> Namespace:
    """Complete the settings of one training, all but its iterations."""
    parser = ArgumentParser()
    omniglot.arguments(parser)
    flags = ["--method", NAMES[variant], "--ways", str(args.ways)]
    found = omniglot.complete(parser.parse_args(flags))
    found.seed, found.width, found.anneal = seed, args.width, False
    found.name = f"variants_{args.ways}way_{variant}_{seed}"
    return found


def all_paces(args: Namespace) -> dict[str, float]:
    """Measure all paces once: what a resumed run needs is kept."""
    path = BUILD / "reproduce" / f"variants_{args.ways}way_paces.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for variant in args.variants:
        if variant not in known:
            known[variant] = pace(settings(variant, 0, args))
    with replacing(path) as file:
        file.write(json.dumps(known).encode())
    return {variant: known[variant] for variant in args.variants}


def one(
    variant: str, seed: int, iterations: int, args: Namespace
) -> tuple[Tensor, History]:
    """Train once; return the accuracies on test tasks in percent, and more."""
    own = settings(variant, seed, args)
    own.iterations = iterations
    net, state, history = train(own)
    walk = walk_of(own.method, net, state, own)
    steps = own.test_steps or own.steps
    test = draw("test", own, args.test_tasks)
    found = 100 * accuracies(net, walk, test, steps=steps)[:, -1]
    print(f"{own.name}: {found.mean():.2f}", flush=True)
    return found, history


def at(history: History, iterations: float) -> float:
    """Read a curve at a number of iterations, between its points."""
    points = [(0, history.validation[0][1]), *history.validation]
    for (low, before), (high, after) in zip(points, points[1:]):
        if iterations <= high:
            share = (iterations - low) / (high - low)
            return before + share * (after - before)
    return points[-1][1]


def climb(history: History) -> float:
    """Give the gain of a curve's last fourth over the fourth before."""
    values = [value for _, value in history.validation]
    n = len(values) // 4
    return sum(values[-n:]) / n - sum(values[-2 * n : -n]) / n


def seed_row(name: str, values: list[float]) -> dict[str, Any]:
    """Summarise one number a training, with Student's interval."""
    mean, half = student_interval(torch.tensor(values))
    return {
        "name": name,
        "value": round(mean, 4),
        "interval": round(half, 4),
        "n": len(values),
        "paper": None,
    }


def difference_row(first: str, second: str, found: dict) -> dict[str, Any]:
    """Compare two methods: other seeds and other tasks are in the interval."""
    mean, low, high = bootstrap_interval(found[first], found[second])
    return {
        "name": f"{first}_minus_{second}",
        "value": round(mean, 4),
        "interval": round((high - low) / 2, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "n": len(found[first]),
        "paper": None,
    }


def run(args: Namespace) -> None:
    """Train all variants with all seeds; write variants_{ways}way.json."""
    torch.set_num_threads(args.threads)
    paces = all_paces(args)
    counts = {
        variant: max(20, round(args.budget / each / 100) * 100)
        for variant, each in paces.items()
    }
    print({v: (round(1000 * paces[v], 1), n) for v, n in counts.items()})
    seeds = range(args.seed, args.seed + args.seeds)
    found, histories, rows, curve = {}, {}, [], []
    for variant in args.variants:
        runs = [one(variant, s, counts[variant], args) for s in seeds]
        found[variant] = torch.stack([values for values, _ in runs])
        histories[variant] = [history for _, history in runs]
        for seed, (values, history) in zip(seeds, runs):
            rows.append(row(f"{variant}_seed{seed}", values))
            curve += [
                [variant, seed, i, round(i * paces[variant], 1), round(v, 2)]
                for i, v in history.validation
            ]
    fewest = min(counts.values())
    for variant, trained in histories.items():
        ends = found[variant].mean(1).tolist()
        early = [at(history, fewest) for history in trained]
        rows += [
            seed_row(f"{variant}_equal_seconds", ends),
            seed_row(f"{variant}_equal_iterations", early),
            seed_row(f"{variant}_last_climb", [climb(h) for h in trained]),
        ]
    rows += [
        difference_row(first, second, found)
        for i, first in enumerate(args.variants)
        for second in args.variants[i + 1 :]
    ]
    each = {v: settings(v, 0, args) for v in args.variants}
    path = write_result(
        f"variants_{args.ways}way",
        settings={k: v for k, v in vars(args).items() if not callable(v)}
        | {
            "iterations": counts,
            "tasks": {v: own.tasks for v, own in each.items()},
            "equal_iterations": fewest,
            "ms_per_iteration": {
                v: round(1000 * seconds, 1) for v, seconds in paces.items()
            },
            "by_variant": {
                v: omniglot.settings_of(own) for v, own in each.items()
            },
        },
        seed=args.seed,
        seconds=sum(h.seconds for some in histories.values() for h in some),
        curve=curve,
        rows=rows,
    )
    print(path.read_text())
