"""Small random distortions of training images, against overfitting."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.tasks import Batch, Tasks, uniform


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, shear, stretch and shift every image a little, each its own way.

    By up to 6°, 0.1, 10 % and 1 pixel of 28.

    Args:
        images: shape (n, channels, height, width).
        generator: the source of randomness.

    Returns:
        the same shape; what comes in from outside is 0.
    """

    def draw(reach: float) -> Tensor:
        return uniform(-reach, reach, (len(images),), generator)

    angle, shear = draw(0.1), draw(0.1)
    wide, high = 1 + draw(0.1), 1 + draw(0.1)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([wide * cos, high * (shear * cos - sin), draw(1 / 14)], 1),
        torch.stack([wide * sin, high * (shear * sin + cos), draw(1 / 14)], 1),
    ]
    places = F.affine_grid(
        torch.stack(rows, 1), list(images.shape), align_corners=False
    )
    places = places.to(images.device)
    return F.grid_sample(images, places, align_corners=False)


def jittered(sample: Callable[..., Tasks]) -> Callable[..., Tasks]:
    """Wrap a `sample` of image tasks so that it distorts what it draws."""

    def distort(batch: Batch, generator: torch.Generator) -> Batch:
        x = jitter(batch.x.flatten(0, 1), generator)
        return Batch(x.view_as(batch.x), batch.y)

    def sample_jittered(n_tasks, *, generator, **counts):
        tasks = sample(n_tasks, generator=generator, **counts)
        return Tasks(*map(partial(distort, generator=generator), tasks))

    return sample_jittered
