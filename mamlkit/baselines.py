"""What every meta-learner has to beat, in one line each.

None of these learns from other tasks. They score each task's query set, as
the last column of `adaptation_curve` does, and `mean_interval` averages them.
Two further baselines need no function: the model as it was before it was
trained is `history.start`, to be adapted as the trained one is; and
`meta_train(..., steps=0)` trains it on all tasks at once, without an inner
loop.
"""

import torch
from torch import Tensor

from mamlkit import inputs
from mamlkit.tasks import Batch, Tasks

__all__ = ["nearest_centroid", "nearest_example", "ridge", "support_mean"]


def nearest_example(tasks: Tasks) -> Tensor:
    """Answer with the label of the nearest support example.

    Args:
        tasks: of classification; x, flattened, is compared by its Euclidean
            distance, so features should be of like size. Several inputs are
            laid side by side.

    Returns:
        share of right answers on each query set, in [0, 1], shape (tasks,).
    """
    nearest = torch.cdist(_flat(tasks.query), _flat(tasks.support)).argmin(-1)
    return _share(tasks.support.y.gather(1, nearest), tasks)


def nearest_centroid(tasks: Tasks) -> Tensor:
    """Answer with the class whose support examples are nearest on average.

    Args:
        tasks: as in `nearest_example`; labels 0 to N - 1.

    Returns:
        share of right answers on each query set, in [0, 1], shape (tasks,).
    """
    x, y = _flat(tasks.support), tasks.support.y
    of_class = torch.nn.functional.one_hot(y.long()).to(x.dtype).mT
    counts = of_class.sum(-1, keepdim=True)
    distances = torch.cdist(_flat(tasks.query), of_class @ x / counts)
    # A class without an example is nearest to nothing.
    distances = distances.nan_to_num(torch.inf)
    return _share(distances.argmin(-1), tasks)


def support_mean(tasks: Tasks) -> Tensor:
    """Predict the mean of the support targets, whatever x is.

    Args:
        tasks: of regression, y of shape (tasks, examples, *targets).

    Returns:
        mean squared error on each query set, shape (tasks,).
    """
    return _error(_targets(tasks.support).mean(1, keepdim=True), tasks)


def ridge(tasks: Tasks, strength: float = 1.0) -> Tensor:
    """Fit a line (or plane) to the support set, and predict with it.

    Least |y - x w - b|² + strength |w|²; the constant b is not shrunk.

    Args:
        tasks: of regression; x is flattened.
        strength: > 0, in units of x² times examples.

    Returns:
        mean squared error on each query set, shape (tasks,).

    Raises:
        ValueError: `strength` is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be > 0, got {strength}")
    x, y = _flat(tasks.support), _targets(tasks.support).flatten(2)
    x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x = x - x_mean
    # In the space of examples, which are few.
    kernel = x @ x.mT + strength * torch.eye(x.shape[1]).to(x)
    weights = x.mT @ torch.linalg.solve(kernel, y - y_mean)
    predicted = (_flat(tasks.query) - x_mean) @ weights + y_mean
    return _error(predicted.view_as(_targets(tasks.query)), tasks)


def _flat(batch: Batch) -> Tensor:
    """Write all features of an example in one row, whatever their shape."""
    parts = [
        x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)
        for x in inputs.tensors(batch.x)
    ]
    x = torch.cat(parts, -1)
    return x if x.is_floating_point() else x.float()


def _share(answers: Tensor, tasks: Tasks) -> Tensor:
    return (answers == tasks.query.y).float().mean(-1)


def _error(predicted: Tensor, tasks: Tasks) -> Tensor:
    return (predicted - _targets(tasks.query)).square().flatten(1).mean(-1)


def _targets(batch: Batch) -> Tensor:
    y = batch.y if batch.y.dim() > 2 else batch.y.unsqueeze(-1)
    return y if y.is_floating_point() else y.float()
