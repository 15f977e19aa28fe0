"""Invented faces, and folders of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mamlkit.evaluate import one_by_one
from mamlkit.faces import draw_faces, load_faces
from mamlkit.models import CNN
from mamlkit.pictures import load_people, read_picture


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def write_people(folder, counts):
    """Grey pictures: the number of each is its darkness in a corner."""
    for name, count in counts.items():
        (folder / name).mkdir()
        for number in range(count):
            dots = np.full((28, 28), 255, np.uint8)
            dots[:14] = 0
            dots[20:, 20:] = 10 * number
            Image.fromarray(dots).save(folder / name / f"{number}.png")


def test_faces_fill_the_range_of_grey():
    faces = draw_faces(3, 4, generator=generator())
    assert faces.shape == (3, 4, 1, 28, 28)
    assert faces.dtype == torch.float32
    assert faces.amin((-2, -1)).eq(0).all()
    assert faces.amax((-2, -1)).eq(1).all()


def test_same_seed_same_faces():
    first, again = (draw_faces(3, 4, generator=generator()) for _ in "ab")
    assert torch.equal(first, again)
    assert not torch.equal(first, draw_faces(3, 4, generator=generator(1)))


def test_pictures_of_one_person_are_more_alike_than_those_of_two():
    pixels = draw_faces(60, 2, generator=generator()).flatten(2)
    apart = torch.cdist(pixels[:, 0], pixels[:, 1])
    others = apart[~torch.eye(60, dtype=torch.bool)].mean()
    assert apart.diag().mean() < 0.95 * others


def test_no_picture_is_in_two_splits():
    train, test = (load_faces(s).flatten(0, 1).flatten(1) for s in
                   ("train", "test"))  # fmt: skip
    assert torch.cdist(test, train[::20]).min() > 1


@pytest.mark.parametrize("counts", [(0, 3), (3, 0)])
def test_no_people_or_pictures_are_refused(counts):
    with pytest.raises(ValueError, match="must be >= 1"):
        draw_faces(*counts, generator=generator())


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        load_faces("training")


def test_black_is_one_and_white_is_zero(tmp_path):
    write_people(tmp_path, {"Ada": 1})
    picture = read_picture(tmp_path / "Ada" / "0.png")
    assert picture.shape == (1, 28, 28)
    assert picture[0, :14].eq(1).all()
    assert picture[0, 14:20].eq(0).all()


def test_a_wide_picture_keeps_its_middle(tmp_path):
    dots = np.zeros((56, 168), np.uint8)
    dots[:28, 56:112] = 255  # the middle square: white over black
    Image.fromarray(dots).convert("RGB").save(tmp_path / "wide.png")
    picture = read_picture(tmp_path / "wide.png")
    assert picture[0, :12].max() < 0.1
    assert picture[0, 16:].min() > 0.9


def test_a_folder_of_people_is_read_by_name(tmp_path):
    write_people(tmp_path, {"Bo": 4, "Ada": 3, "strangers": 1})
    (tmp_path / ".hidden").mkdir()
    people = load_people(tmp_path)
    assert {k: len(v) for k, v in people.items()} == {
        "Ada": 3,
        "Bo": 4,
        "strangers": 1,
    }
    # Sorted by name: number 3 is the palest in the corner.
    assert people["Bo"][3, 0, -1, -1] < people["Bo"][0, 0, -1, -1]


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ({}, "0 sub-folders"),
        ({"Ada": 3, "strangers": 3}, "1 sub-folders"),
        ({"Ada": 3, "Bo": 2}, "Bo has 2 pictures: put at least 3"),
    ],
)
def test_too_few_people_or_pictures_are_refused(tmp_path, counts, match):
    write_people(tmp_path, counts)
    with pytest.raises(ValueError, match=match):
        load_people(tmp_path)


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    write_people(tmp_path, {"Ada": 3, "Bo": 3})
    (tmp_path / "Bo" / "1.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"1\.png is no readable picture"):
        load_people(tmp_path)


def test_one_by_one_is_the_last_of_each_batch():
    torch.manual_seed(0)
    net = CNN(2, width=4)
    params = dict(net.named_parameters())
    support, x = torch.rand(4, 1, 28, 28), torch.rand(3, 1, 28, 28)
    found = one_by_one(net, params, support, x)
    for logits, one in zip(found, x):
        expected = net(torch.cat([support, one[None]]))[-1]
        torch.testing.assert_close(logits, expected)
    # Together the others would change the answer.
    assert not F.cosine_similarity(found, net(x)).gt(0.9999).all()
