"""How navigation is judged: what is open is chosen on other goals first.

After how many updates to take θ, and α of each step, are chosen by the return
on goals that are not those of Table 4, in the same way for MAML and for its
rivals. Only then come the 40.
"""

from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from mamlkit.inner import Params
from mamlkit.reproduce import row
from mamlkit.rl import (
    Experience,
    GaussianPolicy,
    naive,
    policy_loss,
    repeat,
    roll_out,
    sample_goals,
    the_40_goals,
    total_return,
    weigh,
)

# The paper's returns after 0, 1, 2 and 3 steps.
TABLE_4 = (-40.41, -11.68, -3.33, -3.23)
# What each step's α is chosen from.
LATER = (1.0, 0.5, 0.25, 0.2, 0.175, 0.15, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
RATES = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0), LATER, LATER
# Of the best α of the first step, what may serve the later ones better.
SHARES = (0.84, 0.92)
OTHER_GOALS = 100

Options = tuple[tuple[float, ...], ...]


def slopes(stacked: Params, policy: nn.Module, seen: Experience) -> Params:
    """Differentiate each task's loss once: one gradient serves every α."""
    # Ten tasks at a time stay in the cache, which is three times as fast.
    each = vmap(grad(policy_loss(policy, naive)), chunk_size=10)
    return each(stacked, seen)


def returns(
    params: Params, goals: Tensor, options: Options, seed: int
) -> tuple[Tensor, list[float], list[dict[float, Tensor]]]:
    """Return after 0, 1, ... steps, each on 40 new rollouts.

    Args:
        params: θ of a `GaussianPolicy`.
        goals: shape (tasks, 2).
        options: α of each step; of several the best is taken.
        seed: of the actions.

    Returns:
        shape (tasks, steps + 1); the α of each step; and for each step what
        every α led to, (tasks,).
    """
    policy, generator = GaussianPolicy(), torch.Generator().manual_seed(seed)

    def gather(stacked):
        return roll_out(
            stacked, policy, goals, rollouts=40, generator=generator
        )

    stacked = repeat(params, len(goals))
    seen, chosen, tried = gather(stacked), [], []
    found = [total_return(seen)]
    for rates in options:
        outcomes, grads = {}, slopes(stacked, policy, weigh(seen))
        for lr in rates:
            moved = {k: p - lr * grads[k] for k, p in stacked.items()}
            outcomes[lr] = moved, gather(moved)
        tried.append({lr: total_return(o[1]) for lr, o in outcomes.items()})
        # A policy that has diverged has no return: as good as none.
        scores = {k: v.mean().nan_to_num(-1e9) for k, v in tried[-1].items()}
        chosen.append(max(scores, key=scores.get))
        stacked, seen = outcomes[chosen[-1]]
        found.append(total_return(seen))
    return torch.stack(found, dim=1), chosen, tried


def score(found: Tensor) -> float:
    """Judge returns after 0, 1, ... steps by the worst step; more is better.

    Args:
        found: negative returns, shape (tasks, steps + 1).

    Returns:
        the least over the steps of paper's / found; 0 after divergence.
    """
    reached = found[:, 1:].mean(0)
    paper = reached.new_tensor(TABLE_4[1 : 1 + len(reached)])
    return (paper / reached).nan_to_num(0.0).min().item()


def judge(candidates: dict[int, Params], n_seeds: int) -> dict:
    """Choose updates and rates on other goals; judge on Table 4's 40.

    Args:
        candidates: θ after so many updates.
        n_seeds: evaluations to average.

    Returns:
        "test", returns (40, 4); "chosen", the updates and the α of each
        step; "params", the θ; "tried" and "shares", what all choices led to
        elsewhere.
    """
    goals = sample_goals(
        OTHER_GOALS, generator=torch.Generator().manual_seed(1_000_001)
    )
    elsewhere = partial(returns, goals=goals, seed=1_000_001)
    tried, shares, rates = {}, {}, {}
    for updates, params in candidates.items():
        shares[updates], rates[updates] = {}, {}
        found, lrs, tried[updates] = elsewhere(params, options=RATES)
        shares[updates][1.0], rates[updates][1.0] = found, lrs
        # A first step that is a little short leaves policies that stray less
        # far, and from whose rollouts the second step learns more.
        for share in SHARES:
            options = ((share * lrs[0],), *RATES[1:])
            found, chosen, _ = elsewhere(params, options=options)
            shares[updates][share], rates[updates][share] = found, chosen
    updates, share = max(
        ((u, share) for u, each in shares.items() for share in each),
        key=lambda pair: score(shares[pair[0]][pair[1]]),
    )
    lrs = rates[updates][share]
    runs = [
        returns(
            candidates[updates],
            the_40_goals(),
            tuple((lr,) for lr in lrs),
            2_000_001 + seed,
        )[0]
        for seed in range(n_seeds)
    ]
    return {
        "test": torch.stack(runs).mean(0),
        "chosen": {"updates": updates, "lr": lrs},
        "params": candidates[updates],
        "tried": tried,
        "shares": shares,
    }


def choices(found: dict[str, list[dict]]) -> list[dict]:
    """List what was tried, as rows of a result file.

    Args:
        found: by kind of start, what `judge` returned for each seed.

    Returns:
        the return on the other goals after each step with each α, from the
        best of the step before, and with a shorter first step; means over
        the training seeds.
    """
    rows = []
    for kind, states in found.items():
        for updates, steps in states[0]["tried"].items():
            for step, outcomes in enumerate(steps, start=1):
                for lr in outcomes:
                    values = torch.stack(
                        [s["tried"][updates][step - 1][lr] for s in states]
                    ).mean(0)
                    name = f"{kind}_{updates}_updates_step_{step}_alpha_{lr}"
                    if values.isfinite().all():
                        rows.append(row(name, values))
        for updates, share in product(states[0]["shares"], (1.0, *SHARES)):
            each = torch.stack([s["shares"][updates][share] for s in states])
            for step, values in enumerate(each.mean(0).T[1:], start=1):
                name = f"{kind}_{updates}_updates_step_{step}"
                name += f"_first_alpha_x_{share}"
                if values.isfinite().all():
                    rows.append(row(name, values))
    return rows
