"""Accuracies of adapted classifiers, on as many tasks as you like."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.evaluate import adaptation_curve, functional_accuracy
from mamlkit.evaluate import one_by_one as alone
from mamlkit.inner import Params, adapt, functional_loss
from mamlkit.tasks import Tasks, in_chunks, map_tasks

CHUNK = 25  # tasks judged at once, for the memory's sake
IMAGES = 5_000  # in the batches that are judged at once, likewise


def accuracies(
    net: nn.Module,
    params: Params,
    tasks: Tasks,
    *,
    lr: float | Params,
    steps: int,
    one_by_one: bool = False,
) -> Tensor:
    """Judge adapted models, on all queries at once or on one at a time.

    Args:
        net: the architecture.
        params: θ.
        tasks: stacked.
        lr: as in `adapt`.
        steps: inner steps.
        one_by_one: judge after the last step only, each query in a batch of
            the support set and itself, so that no other query helps (not
            transductive).

    Returns:
        in [0, 1], shape (tasks, steps + 1), or (tasks,) if `one_by_one`.
    """
    loss_fn = functional_loss(net, F.cross_entropy)

    def judge_singly(support, query):
        adapted = adapt(params, loss_fn, support, lr=lr, steps=steps)
        logits = alone(net, adapted, support.x, query.x)
        return (logits.argmax(-1) == query.y).float().mean()

    def judge(chunk):
        if one_by_one:
            with torch.no_grad():
                return map_tasks(judge_singly, chunk)
        metric = functional_accuracy(net)
        return adaptation_curve(
            params, loss_fn, metric, chunk, lr=lr, steps=steps
        )

    # Alone, every query brings a support set of its own: 2,020 images for a
    # task of 20 ways and 5 shots.
    support, query = (part.y.shape[1] for part in tasks)
    images = query * (support + 1) if one_by_one else support + query
    return in_chunks(judge, tasks, min(CHUNK, max(1, IMAGES // images)))
