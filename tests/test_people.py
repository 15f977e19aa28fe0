"""Pictures from files: what is kept, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit import load_people, read_picture


def write(path, dots, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(dots, dtype=np.uint8)).save(path, **options)
    return path


def ramp(height=28, width=28):
    """Light at the top, dark at the bottom, from 255 to 0."""
    column = np.linspace(255, 0, height).round()
    return np.repeat(column[:, None], width, 1)


@pytest.fixture
def household(tmp_path):
    """Ada and Bo with three pictures each."""
    for name in ("Ada", "Bo"):
        for number in range(3):
            write(tmp_path / name / f"{number}.png", ramp())
    return tmp_path


def test_dark_is_one_and_the_size_is_that_of_the_course(tmp_path):
    x = read_picture(write(tmp_path / "a.png", ramp()))
    assert x.shape == (1, 28, 28) and x.dtype == torch.float32
    assert x[0, 0].max() == 0 and x[0, -1].min() == 1
    expected = torch.tensor(1 - ramp() / 255).float()
    torch.testing.assert_close(x[0], expected)


def test_the_middle_square_is_kept(tmp_path):
    wide = np.zeros((40, 120))
    wide[:, 40:80] = ramp(40, 40)
    x = read_picture(write(tmp_path / "a.png", wide))
    assert x[0, 0].max() < 0.1 and x[0, -1].min() > 0.9


def test_weak_contrast_is_stretched_and_colour_made_grey(tmp_path):
    pale = np.repeat((100 + ramp() / 5)[..., None], 3, 2)
    x = read_picture(write(tmp_path / "a.png", pale))
    assert x.min() == 0 and x.max() == 1


def test_a_camera_held_sideways_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    x = read_picture(write(tmp_path / "a.png", ramp(), exif=exif))
    assert x[0, 0].min() == 1 and x[0, -1].max() == 0


def test_what_is_transparent_becomes_white(tmp_path):
    """A drawing program leaves the ground transparent, often black below."""
    drawing = np.zeros((28, 28, 4))
    drawing[10:18, 10:18, 3] = 255
    x = read_picture(write(tmp_path / "a.png", drawing))
    assert x[0, 10:18, 10:18].min() == 1 and x.sum() == 64


def test_a_picture_of_one_tone_is_refused(tmp_path):
    path = write(tmp_path / "a.png", ramp() * 0 + 127)
    with pytest.raises(ValueError, match="a.png has one tone all over"):
        read_picture(path)


def test_one_tone_in_the_part_that_is_kept_is_refused(tmp_path):
    wide = np.full((40, 160), 255.0)
    wide[:, :20] = ramp(40, 20)
    with pytest.raises(ValueError, match="a.png has one tone all over"):
        read_picture(write(tmp_path / "a.png", wide))


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray((257 * ramp()).astype(np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no readable picture: save it as JP"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(household, content):
    (household / "Bo" / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match="1.png is no readable picture: save"):
        load_people(household)


def test_a_truncated_picture_is_named(household):
    path = household / "Bo" / "1.png"
    noise = np.random.default_rng(0).integers(0, 255, (90, 90))
    data = write(path, noise).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="1.png is no readable picture"):
        load_people(household)


def test_people_come_sorted_and_hidden_files_are_passed_over(household):
    (household / "Ada" / ".DS_Store").write_text("x")
    (household / ".git").mkdir()
    write(household / "strangers" / "1.png", ramp())
    people = load_people(str(household))
    assert [*people] == ["Ada", "Bo", "strangers"]
    assert people["Ada"].shape == (3, 1, 28, 28)
    assert people["strangers"].shape == (1, 1, 28, 28)


def test_strangers_may_be_none(household):
    (household / "strangers").mkdir()
    assert [*load_people(household)] == ["Ada", "Bo"]


def test_too_few_people_or_pictures_are_refused(household):
    with pytest.raises(ValueError, match="Ada has 3 of 4 pictures: put more"):
        load_people(household, k_shot=4)
    (household / "Cy").mkdir()
    with pytest.raises(ValueError, match="Cy has 0 of 3 pictures: put more"):
        load_people(household)
    with pytest.raises(
        ValueError, match="Cy needs a sub-folder for each person.*found 0"
    ):
        load_people(household / "Cy")
    for no_folder in ("gone", "Ada/0.png"):
        with pytest.raises(ValueError, match=f"is no folder .*{no_folder}"):
            load_people(household / no_folder)


def test_a_tilde_is_the_home_of_the_user(household, monkeypatch):
    monkeypatch.setenv("HOME", str(household.parent))
    monkeypatch.setenv("USERPROFILE", str(household.parent))
    assert [*load_people(f"~/{household.name}")] == ["Ada", "Bo"]


def test_strangers_are_no_people_of_the_house(tmp_path):
    for name in ("Ada", "strangers"):
        write(tmp_path / name / "0.png", ramp())
    with pytest.raises(ValueError, match="two at least; found 1"):
        load_people(tmp_path, k_shot=1)


def test_strangers_in_capitals_are_asked_for_again(household):
    write(household / "Strangers" / "0.png", ramp())
    with pytest.raises(
        ValueError, match="Strangers: write strangers in small"
    ):
        load_people(household)


def test_a_picture_too_large_to_be_unpacked_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", ramp())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 28 * 28 // 3)
    with pytest.raises(ValueError, match="a.png has too many points"):
        read_picture(path)
