import random
import zipfile

import numpy as np
import pytest
import torch

from mamlkit import load_glyphs
from mamlkit.datasets import glyphs
from mamlkit.paths import DATA


@pytest.fixture(scope="module")
def ink():
    with np.load(DATA / "glyphs.npz") as file:
        return file["ink"].reshape(40, 25, 20, 28, 28)


def test_the_bundled_file_is_what_the_generator_draws(ink):
    rng = random.Random(0)
    for _ in range(100):
        a, n, h = rng.randrange(40), rng.randrange(25), rng.randrange(20)
        assert np.array_equal(ink[a, n, h], glyphs.draw(a, n, h)), (a, n, h)


def test_building_writes_the_same_file_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "ALPHABETS", 1)
    monkeypatch.setattr(glyphs, "CHARACTERS", 2)
    for name in "ab":
        glyphs.build(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a") as file:
        assert file["ink"].shape == (2, 20, 28, 28)


def test_the_file_is_small():
    assert (DATA / "glyphs.npz").stat().st_size < 1.4e6


def test_splits_have_their_own_alphabets(ink):
    start = 0
    for split, count in (("train", 28), ("val", 3), ("test", 9)):
        images = load_glyphs(split)
        assert images.shape == (25 * count, 20, 1, 28, 28)
        assert images.dtype == torch.float32
        assert images.min() == 0 and images.max() == 1
        expected = ink[start : start + count].reshape(images.shape)
        assert np.array_equal((15 * images).round().numpy(), expected)
        start += count
    assert start == 40


def test_every_drawing_has_ink_and_keeps_off_the_edge(ink):
    drawn = ink.reshape(-1, 28, 28) > 7
    assert drawn.sum((1, 2)).min() >= 5
    edge = drawn[:, [0, -1]].any((1, 2)) | drawn[:, :, [0, -1]].any((1, 2))
    assert edge.mean() < 0.01


def test_no_two_drawings_are_the_same(ink):
    drawings = {drawing.tobytes() for drawing in ink.reshape(-1, 28 * 28)}
    assert len(drawings) == 1000 * 20


def test_a_hand_resembles_the_other_hands_of_its_character(ink):
    # Nearest neighbour by pixels, one drawing of each of 225 test characters:
    # far better than chance (0.4 %), and far from perfect.
    test = torch.tensor(ink[31:]).flatten(0, 1).flatten(2).float()
    near = torch.cdist(test[:, 0], test[:, 1]).argmin(1)
    share = (near == torch.arange(len(test))).float().mean()
    assert 0.15 < share < 0.8


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="one of .*train.*got 'all'"):
        load_glyphs("all")


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    message = "missing or damaged: make it anew"
    with pytest.raises(ValueError, match=message):
        load_glyphs("val", path=tmp_path / "none.npz")
    data = bytearray((DATA / "glyphs.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_glyphs("val", path=tmp_path / "flipped.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(ValueError, match=message):
        load_glyphs("val", path=tmp_path / "other.npz")
