"""Invented portraits: always the same, in range, hard by pixels."""

import pytest
import torch

from mamlkit import load_faces
from mamlkit.datasets.faces import SPLITS, draw_faces


@pytest.fixture(scope="module")
def val():
    return load_faces("val")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_and_range(val):
    assert val.shape == (SPLITS["val"][0], 20, 1, 28, 28)
    assert val.dtype == torch.float32
    flat = val.flatten(2)
    assert (flat.amin(2) == 0).all() and (flat.amax(2) == 1).all()


def test_a_split_is_always_the_same_and_shares_no_picture(val):
    assert torch.equal(val[:3], load_faces("val")[:3])
    seeds = [seed for _, seed in SPLITS.values()]
    assert len({*seeds}) == len(seeds)
    test = load_faces("test")[:20]
    near = torch.cdist(
        val.flatten(0, 1).flatten(1), test.flatten(0, 1).flatten(1)
    )
    assert near.min() > 1


def test_the_seed_decides():
    one, same, other = (
        draw_faces(2, 3, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_many_people_are_drawn_as_few_would_be():
    # More than one part at a time, and each person in the right place.
    many = draw_faces(70, 6, generator=seeded())
    means = many.mean(1).flatten(1)
    own = (many - many.mean(1, keepdim=True)).flatten(2).norm(dim=2).mean()
    # A person drawn twice would be 0.3 from himself, by noise alone.
    assert torch.pdist(means).min() > 1 and own > 1


def test_pixels_tell_people_apart_better_than_chance_and_badly(val):
    # Mean of three pictures each, five people: chance is 20 %.
    right = []
    for people in val.split(5):
        means = people[:, :3].mean(1).flatten(1)
        near = torch.cdist(people[:, 3:].flatten(0, 1).flatten(1), means)
        truth = torch.arange(5).repeat_interleave(17)
        right.append((near.argmin(1) == truth).float().mean())
    assert 0.3 < torch.stack(right).mean() < 0.6


def test_an_unknown_split_and_no_people_are_refused():
    with pytest.raises(ValueError, match="one of .*train.*got 'all'"):
        load_faces("all")
    with pytest.raises(ValueError, match=">= 1, got 0, 20"):
        draw_faces(0, generator=seeded())
