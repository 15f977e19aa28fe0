"""Accuracies of adapted classifiers, on as many tasks as you like."""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mamlkit.evaluate import functional_accuracy
from mamlkit.evaluate import one_by_one as alone
from mamlkit.inner import LossFn, Params, path
from mamlkit.tasks import Batch, Tasks, in_chunks, map_tasks

CHUNK = 25  # tasks judged at once, for the memory's sake
IMAGES = 5_000  # in the batches that are judged at once, likewise

# (support, steps) -> θ, and what it is after 1, 2, ... inner steps.
Walk = Callable[[Batch, int], Iterator[Params]]


def descent(loss_fn: LossFn, params: Params, lr: float | Params) -> Walk:
    """Make the walk of `adapt`, from `params` down `loss_fn`.

    Args:
        loss_fn: `(params, batch)` -> scalar.
        params: θ.
        lr: α, as in `adapt`.
    """
    return lambda support, steps: path(
        params, loss_fn, support, lr, steps, first_order=False, rule=None
    )


def accuracies(
    net: nn.Module,
    walk: Walk,
    tasks: Tasks,
    *,
    steps: int,
    one_by_one: bool = False,
) -> Tensor:
    """Judge adapted models, on all queries at once or on one at a time.

    Args:
        net: the architecture.
        walk: how it is adapted, as `descent` makes it.
        tasks: stacked.
        steps: inner steps.
        one_by_one: judge after the last step only, each query in a batch of
            the support set and itself, so that no other query helps (not
            transductive).

    Returns:
        in [0, 1], shape (tasks, steps + 1), or (tasks,) if `one_by_one`.
    """
    metric = functional_accuracy(net)

    def judge_singly(support, query):
        adapted = deque(walk(support, steps), maxlen=1).pop()
        logits = alone(net, adapted, support.x, query.x)
        return (logits.argmax(-1) == query.y).float().mean()

    def judge_together(support, query):
        found = [metric(adapted, query) for adapted in walk(support, steps)]
        return torch.stack(found)

    def judge(chunk):
        return map_tasks(judge_singly if one_by_one else judge_together, chunk)

    # Alone, every query brings a support set of its own: 2,020 images for a
    # task of 20 ways and 5 shots.
    support, query = (part.y.shape[1] for part in tasks)
    images = query * (support + 1) if one_by_one else support + query
    return in_chunks(judge, tasks, min(CHUNK, max(1, IMAGES // images)))
