"""The digits that people wrote are those of the README."""

import hashlib

import numpy as np

from mamlkit.paths import DATA


def test_the_file_is_the_one_that_the_readme_names():
    found = hashlib.sha256((DATA / "digits.npz").read_bytes()).hexdigest()
    assert f"sha256 of the file: `{found}`" in (DATA / "README.md").read_text()


def test_every_digit_is_there_some_hundred_and_eighty_times():
    with np.load(DATA / "digits.npz") as file:
        ink, digit = file["ink"], file["digit"]
    assert ink.shape == (1797, 8, 8) and ink.dtype == np.uint8
    assert ink.min() == 0 and ink.max() == 16
    assert np.bincount(digit).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
