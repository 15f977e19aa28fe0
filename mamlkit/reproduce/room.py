"""A room where exploring pays only after adapting: five trainings a method.

Which surrogate should MAML's inner step have, in the room with four corners?
Compared are the derivatives of the expected inner step (DiCE, LVC), those of
the sampled one (E-MAML), the naive ones and none at all, beside joint
training and an untrained policy. Every method has rates of its own, found by
climbing a grid on trainings and walks that no test uses, and takes the θ of
its best update. The noise of the meta-gradients, by which Rothfuss et al. 2019
explain their ranking, is measured by horizon.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.func import vmap

from mamlkit.inner import Params, adapt
from mamlkit.paths import BUILD
from mamlkit.reproduce import Known, write_result
from mamlkit.reproduce.intervals import row_of_trainings
from mamlkit.reproduce.room_training import (
    SURROGATES,
    outer_gradient,
    starts,
    train,
    walk,
)
from mamlkit.rl import flatten, naive, policy_loss, repeat, total_return, weigh
from mamlkit.rl.room import best_return

JUDGED = 320  # tasks of a test
META_LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # Adam's
INNER_LRS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
BEGIN = 1e-3, 5.0  # where the climb on these two begins
ALPHAS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # at the test
SEARCHING = (100, 101, 102)  # seeds of the trainings that choose the rates
CHOICE_SEED, TEST_SEED = 3_000_001, 2_000_001
HORIZONS = (10, 20, 40, 80, 160)  # of the meta-gradients' noise
DRAWS = 40  # meta-gradients of one θ
WALKS = (5, 10, 20, 40, 80)  # before the step, at the test


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="trainings, from --seed on")
    add("--horizon", type=int, default=20, help="time steps of a walk")
    add("--methods", nargs="+", choices=SURROGATES, default=[*SURROGATES])
    add("--name", default="room", help="of the result file")


def judge(
    theta: Params, seed: int, horizon: int, rollouts: int | None = None
) -> tuple[Tensor, Tensor]:
    """Judge on new walks, the same chances for every run and method.

    Args:
        theta: leaves (runs, ...).
        seed: of the walks.
        horizon: time steps of a walk.
        rollouts: walks before the step, `ROLLOUTS` if left out.

    Returns:
        return before adapting, (runs,); after one step with each of
        `ALPHAS`, (runs, alphas).
    """
    policy, _ = starts((0,))
    loss_fn = policy_loss(policy, naive)  # all have the same gradient
    before, after = [], []
    for run in range(len(theta["log_std"])):
        generator = torch.Generator().manual_seed(seed)
        stacked = repeat({k: p[run] for k, p in theta.items()}, JUDGED)
        seen = walk(stacked, policy, generator, horizon, rollouts)
        experience, found = weigh(seen), []
        for alpha in ALPHAS:
            one = partial(adapt, loss_fn=loss_fn, lr=alpha)
            adapted = vmap(lambda p, e, one=one: one(p, support=e))(
                stacked, experience
            )
            reached = walk(adapted, policy, generator, horizon)
            found.append(total_return(reached).mean())
        before.append(total_return(seen).mean())
        after.append(torch.stack(found))
    return torch.stack(before), torch.stack(after)


def chosen(snapshots: dict[int, Params], horizon: int) -> list[dict]:
    """Choose α and the update of each run, on walks that no test uses.

    Returns:
        a dict for each run: "updates", "alpha", the "score" there, and by
        updates the scores' best ("curve").
    """
    sweeps = {
        updates: judge(theta, CHOICE_SEED, horizon)[1]
        for updates, theta in snapshots.items()
    }
    found = []
    for run in range(len(sweeps[0])):
        curve = {u: sweep[run].max().item() for u, sweep in sweeps.items()}
        updates = max(curve, key=curve.get)
        alpha = ALPHAS[sweeps[updates][run].argmax()]
        found.append({"updates": updates, "alpha": alpha,
                      "score": curve[updates], "curve": curve})  # fmt: skip
    return found


def climb(method: str, horizon: int) -> tuple[float, float, list[list[float]]]:
    """Find β and α in training that no neighbour on the grid betters.

    Joint training takes no inner step: its α stays.

    Returns:
        β, α, and of all that was tried β, α and the mean score.

    Raises:
        ValueError: the best is at the edge of what may be tried.
    """
    scores: dict[tuple[float, float], float] = {}

    def score(rates):
        if rates not in scores:
            found = chosen(train(method, SEARCHING, *rates, horizon), horizon)
            scores[rates] = sum(f["score"] for f in found) / len(found)
            print(method, rates, round(scores[rates], 2), flush=True)
        return scores[rates]

    at = BEGIN
    while True:
        here = META_LRS.index(at[0]), INNER_LRS.index(at[1])
        sideways = (0,) if method == "joint" else (-1, 0, 1)
        moves = [*product((-1, 0, 1), sideways)]
        moves.remove((0, 0))
        near = [(here[0] + i, here[1] + j) for i, j in moves]
        if any(
            not (0 <= i < len(META_LRS) and 0 <= j < len(INNER_LRS))
            for i, j in near
        ):
            raise ValueError(
                f"{method} is best at the edge of its rates: {at}"
            )
        around = [at, *((META_LRS[i], INNER_LRS[j]) for i, j in near)]
        best = max(around, key=score)  # of equal ones the first: it stays
        if best == at:
            tried = [[*rates, round(v, 2)] for rates, v in scores.items()]
            return *at, tried
        at = best


def judged(
    method: str,
    seeds: tuple[int, ...],
    rates: tuple[float, float] | None,
    horizon: int,
) -> dict:
    """Train with the chosen rates; choose elsewhere; test.

    Args:
        method: one of `SURROGATES`, or "untrained".
        seeds: of the trainings.
        rates: β and α; of no use to what is not trained.
        horizon: time steps of a walk.

    Returns:
        "chosen" for each run, and its "theta"; "before" (runs,), "after"
        (runs,) and "sweep" (runs, alphas) of the test.
    """
    if method == "untrained":
        snapshots = {0: starts(seeds)[1]}
    else:
        snapshots = train(method, seeds, *rates, horizon)
    best = chosen(snapshots, horizon)
    theta = {
        k: torch.stack(
            [snapshots[b["updates"]][k][run] for run, b in enumerate(best)]
        )
        for k in snapshots[0]
    }
    before, sweep = judge(theta, TEST_SEED, horizon)
    at = torch.tensor([ALPHAS.index(b["alpha"]) for b in best])
    return {
        "chosen": best,
        "theta": theta,
        "before": before,
        "after": sweep.gather(1, at[:, None])[:, 0],
        "sweep": sweep,
    }


def rows_by_walks(name: str, theta: Params, horizon: int) -> list[dict]:
    """Rows of one start, by the number of walks before the step.

    Each number of walks has its own α, chosen on other walks.
    """
    rows = []
    for rollouts in WALKS:
        _, choice = judge(theta, CHOICE_SEED, horizon, rollouts)
        _, test = judge(theta, TEST_SEED, horizon, rollouts)
        after = test.gather(1, choice.argmax(1, keepdim=True))[:, 0]
        rows.append(row_of_trainings(f"{name}_after_{rollouts}_walks", after))
    return rows


def scatter(method: str, horizon: int, seeds: tuple[int, ...]) -> Tensor:
    """How far meta-gradients of one θ scatter from draw to draw, (runs,).

    Root of the mean squared distance from their mean, at untrained networks
    and an α of 5. All methods see the same walks.
    """
    policy, theta = starts(seeds)
    generator = torch.Generator().manual_seed(CHOICE_SEED)
    drawn = []
    for _ in range(DRAWS):
        slopes = outer_gradient(
            theta, policy, method, BEGIN[1], generator, horizon
        )
        drawn.append(vmap(flatten)(slopes))
    gaps = torch.stack(drawn) - torch.stack(drawn).mean(0)
    return gaps.square().sum(-1).mean(0).sqrt()


def rows_of(name: str, found: dict) -> list[dict]:
    """Rows of one method: before adapting, after, and the sweep of α."""
    rows = [
        row_of_trainings(f"{name}_return_after_0", found["before"]),
        row_of_trainings(f"{name}_return_after_1", found["after"]),
    ]
    for alpha, values in zip(ALPHAS, found["sweep"].T):
        rows.append(row_of_trainings(f"{name}_alpha_{alpha:g}", values))
    return rows


def run(args: Namespace) -> None:
    """Choose, train, test; measure the noise; write the result."""
    torch.set_num_threads(1)
    horizon = args.horizon
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    rows, curve, rates = [], [], {}
    for method in ("untrained", *args.methods):
        chosen_rates = None
        if method != "untrained":
            meta_lr, lr, tried = climb(method, horizon)
            chosen_rates = meta_lr, lr
            rates[method] = {"meta_lr": meta_lr, "lr": lr, "tried": tried}
        path = BUILD / "reproduce" / f"room_{horizon}_{method}_judged.pt"
        known = Known(path, rates=chosen_rates, seeds=seeds)
        find = partial(judged, method, seeds, chosen_rates, horizon)
        found = known("judged", find)
        rows += rows_of(method, found)
        if method in ("untrained", "dice"):
            rows += rows_by_walks(method, found["theta"], horizon)
        print(method, found["before"], found["after"], flush=True)
        rates.setdefault(method, {}).update(
            (what, [b[what] for b in found["chosen"]])
            for what in ("updates", "alpha")
        )
        for updates in found["chosen"][0]["curve"]:
            each = [round(b["curve"][updates], 2) for b in found["chosen"]]
            curve.append([method, updates, *each])
    for far in HORIZONS:
        for method in args.methods:
            if method != "joint":
                name = f"{method}_scatter_horizon_{far}"
                rows.append(
                    row_of_trainings(name, scatter(method, far, seeds), 4)
                )
    settings = {k: v for k, v in vars(args).items() if not callable(v)}
    path = write_result(
        args.name,
        settings=settings
        | {"chosen": rates, "best_return": round(best_return(horizon), 2)},
        seed=args.seed,
        seconds=0.0,
        curve=curve,
        rows=rows,
    )
    print(path)
