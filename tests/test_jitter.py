"""Distorted training images: small, each its own, and repeatable."""

import torch

from mamlkit import Episodes
from mamlkit.reproduce.jitter import jitter, jittered


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=200):
    """Images with a square of ink in the middle."""
    images = torch.zeros(n, 1, 28, 28)
    images[..., 10:18, 10:18] = 1.0
    return images


def centres(images):
    """Centre of ink, in pixels: (n, 2)."""
    place = torch.arange(28.0)
    ink = images[:, 0]
    total = ink.sum((1, 2))
    across = (ink.sum(1) * place).sum(1) / total
    down = (ink.sum(2) * place).sum(1) / total
    return torch.stack([across, down], dim=1)


def test_every_image_is_distorted_its_own_way_and_stays_in_range():
    found = jitter(blobs(), seeded())
    assert found.shape == (200, 1, 28, 28)
    assert 0 <= found.min() and found.max() <= 1
    assert len(found.unique(dim=0)) == 200


def test_distortions_are_as_small_as_they_say():
    found = jitter(blobs(), seeded())
    moved = (centres(found) - centres(blobs())).abs()
    # One pixel, seen through a scale of at least 0.9.
    assert 0.8 < moved.max() < 1.2
    area = found.sum((1, 2, 3)) / 64
    assert 1 / 1.1**2 - 0.02 < area.min() < 0.9
    assert 1.1 < area.max() < 1 / 0.9**2 + 0.02


def test_same_generator_same_images():
    first, second = (jitter(blobs(), seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, jitter(blobs(), seeded(4)))


def test_jittered_tasks_keep_labels_and_shapes():
    images = blobs(160).view(8, 20, 1, 28, 28)
    plain = Episodes(images, 5, rotations=True).sample
    counts = {"k_shot": 1, "k_query": 2}
    before = plain(3, generator=seeded(), **counts)
    after = jittered(plain)(3, generator=seeded(), **counts)
    for drawn, distorted in zip(before, after):
        assert distorted.x.shape == drawn.x.shape
        assert torch.equal(distorted.y, drawn.y)
        assert not torch.equal(distorted.x, drawn.x)
