"""The floor of every accuracy: an untrained network, adapted at its best."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.inner import functional_loss
from mamlkit.reproduce import Known
from mamlkit.reproduce.judge import Walk, accuracies, descent
from mamlkit.reproduce.methods import head_only
from mamlkit.tasks import Tasks, cut

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the mean loss
STEPS = 40


def rule_walk(net: nn.Module, lr: float, *, only_head: bool) -> Walk:
    """Make the walk of gradient descent from the weights that `net` has.

    Args:
        net: the network.
        lr: α.
        only_head: leave the body where it is, as ANIL does.
    """
    params = {name: p.detach() for name, p in net.named_parameters()}
    rates = head_only(params, lr) if only_head else lr
    return descent(functional_loss(net, F.cross_entropy), params, rates)


def judge_in_parts(
    net: nn.Module, walk: Walk, tasks: Tasks, known: Known, *, steps: int
) -> Tensor:
    """Judge after the last step; what is found of 100 tasks is kept.

    Returns:
        in [0, 1], shape (tasks,).
    """
    parts = []
    for i in range(0, len(tasks.support.y), 100):
        part = cut(tasks, i, i + 100)
        judge = partial(accuracies, net, walk, part, steps=steps)
        parts.append(known(f"{steps} steps, tasks from {i}", judge)[:, -1])
    return torch.cat(parts)


def choose_rule(
    net: nn.Module,
    tasks: Tasks,
    *,
    only_head: bool,
    known: Known | None = None,
) -> dict[str, Any]:
    """Choose rate and steps for an untrained network.

    Args:
        net: as it was made.
        tasks: of validation characters.
        only_head: as in `rule_walk`.
        known: what was found of each rate.

    Returns:
        "lr" and "steps", the smallest of those that are best to a tenth of a
        percent, and in "tried", by rate, the best percentage and its steps.
    """
    tried, best, rates = {}, (-1.0, 0.0, 0), [*RATES]
    known = known or Known()
    for lr in rates:  # which grows at its end, while the largest is best
        walk = rule_walk(net, lr, only_head=only_head)
        judge = partial(accuracies, net, walk, tasks, steps=STEPS)
        means = known(f"rate {lr}", judge).mean(0)
        percents = [round(p, 1) for p in (100 * means).tolist()]
        most = max(percents)
        tried[str(lr)] = [most, percents.index(most)]
        best = max(best, (most, lr, percents.index(most)), key=lambda b: b[0])
        if best[1] == lr == rates[-1]:
            rates.append(float(f"{3.2 * lr:.1g}"))
    return {"lr": best[1], "steps": best[2], "tried": tried}
