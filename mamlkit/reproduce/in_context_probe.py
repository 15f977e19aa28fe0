"""A linear probe on the transformer: its features, a new last layer.

For each task the last layer is fitted by ridge regression to the examples.
What an example's features are is asked with that example left out of the
prompt, as a query's are: with itself in the prompt it would only be copied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamlkit.in_context import InContextLearner
from mamlkit.inner import Params
from mamlkit.reproduce.in_context_methods import without_each
from mamlkit.tasks import Batch, Tasks

# λ, from next to none to so much that nothing moves.
PENALTIES = tuple(10.0**power for power in range(-8, 7))
AT_ONCE = 20  # tasks whose features are computed together


class Probed(NamedTuple):
    """Features of the examples and of the queries, and what is asked.

    Attributes:
        known: shape (tasks, k_shot, width + 1); the last number is 1.
        asked: shape (tasks, queries, width + 1).
        y: of the examples, (tasks, k_shot, targets).
        truth: of the queries, (tasks, queries, targets).
        head: the last layer that training left, (width + 1, targets).
    """

    known: Tensor
    asked: Tensor
    y: Tensor
    truth: Tensor
    head: Tensor


@torch.no_grad()
def probed(model: InContextLearner, params: Params, tasks: Tasks) -> Probed:
    """Compute what the probe is fitted to, in float64.

    Args:
        model: keeps `params` from now on.
        params: its weights.
        tasks: of two examples or more.
    """
    model.load_state_dict(params)

    def with_one(features):
        ones = torch.ones_like(features[..., :1])
        return torch.cat([features, ones], dim=-1).double()

    known, asked = [], []
    for first in range(0, len(tasks.support.x), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        support = Batch(*(t[part] for t in tasks.support))
        left_out = model.represent(*without_each(support))
        known.append(with_one(left_out.squeeze(-2)))
        asked.append(with_one(model.represent(support, tasks.query.x[part])))
    head = torch.cat([model.write.weight, model.write.bias[:, None]], dim=1)
    y, truth = tasks.support.y.double(), tasks.query.y.double()
    return Probed(
        torch.cat(known), torch.cat(asked), y, truth, head.T.double()
    )


def probe_errors(task: Probed, penalty: float, centre: str) -> Tensor:
    """Fit the last layer to each task; (tasks,) squared errors.

    The w with the least Σ (w · feature - y)² + λ |w - w₀|².

    Args:
        task: of all tasks.
        penalty: λ.
        centre: w₀, "zero" or "head", the last layer that training left.
    """
    start = task.head * (centre == "head")
    # In the k_shot numbers that are known, as these are fewer than the width.
    gram = task.known @ task.known.mT
    gram.diagonal(dim1=-2, dim2=-1).add_(penalty)
    lacking = task.y - task.known @ start
    moved = task.known.mT @ torch.linalg.solve(gram, lacking)
    answers = task.asked @ (start + moved)
    return (answers - task.truth).square().mean((1, 2)).float()


def chosen_probe(
    val: Probed, penalties: Sequence[float] = PENALTIES
) -> tuple[str, float]:
    """Choose w₀ and λ with the lowest mean error on validation tasks.

    The largest λ leaves w₀ where it is, the smallest one is least squares:
    beyond either nothing changes.
    """
    choices = [(c, p) for c in ("zero", "head") for p in penalties]
    return min(
        choices, key=lambda c: probe_errors(val, c[1], c[0]).mean().item()
    )
