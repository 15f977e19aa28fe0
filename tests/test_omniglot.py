import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit import load_omniglot
from mamlkit.datasets import omniglot

NAMES = tuple(omniglot.ARCHIVES)


def png(ink, mode="1"):
    file = io.BytesIO()
    Image.fromarray(~ink).convert(mode).save(file, "PNG")
    return file.getvalue()


def member(character, drawer):
    number = f"{character:04}_{drawer:02}"
    return f"images_x/Runes/character{character:02}/{number}.png"


def pack(path, drawings, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        for character, drawn in enumerate(drawings, 1):
            # Backwards: the order of members must not matter.
            for drawer in reversed(range(20)):
                name = member(character, drawer + 1)
                archive.writestr(name, png(drawn[drawer]))
        for name, data in extra:
            archive.writestr(name, data)


@pytest.fixture
def drawings():
    random = np.random.default_rng(0)
    return random.random((2, 2, 20, 105, 105)) < 0.1


@pytest.fixture
def folder(tmp_path, drawings, monkeypatch):
    """Two archives of two characters each, which `fetch` takes for whole."""
    for name, drawn in zip(NAMES, drawings):
        pack(tmp_path / name, drawn)
        digest = hashlib.sha256(np.packbits(drawn)).hexdigest()
        monkeypatch.setitem(omniglot.ARCHIVES, name, ("no md5", 2, digest))
    return tmp_path


def fetch(folder):
    return omniglot.fetch(folder, cache=folder / "cache")


def test_whole_archives_are_cached_in_order_at_28_by_28(folder, drawings):
    with np.load(fetch(folder)) as file:
        ink = file["ink"]
    assert ink.shape == (4, 20, 28, 28) and ink.dtype == np.uint8
    expected = omniglot.shrink(drawings[1, 0, 19])
    assert np.array_equal(ink[2, 19], expected)


def test_ink_is_full_and_paper_is_empty():
    drawings = np.zeros((2, 105, 105), bool)
    drawings[1] = True
    small = omniglot.shrink(drawings)
    assert (small[0] == 0).all() and (small[1] == 255).all()


def test_packing_again_and_other_files_do_not_matter(folder, drawings):
    first = np.load(fetch(folder))["ink"]
    extra = [("images_x/.DS_Store", b"x"), ("__MACOSX/1.png", b"y")]
    pack(folder / NAMES[0], drawings[0], extra)
    assert np.array_equal(np.load(fetch(folder))["ink"], first)


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        fetch(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "cache").exists()


def test_a_missing_archive_is_refused(folder):
    (folder / NAMES[1]).unlink()
    refused(folder, f"no archive at .*{NAMES[1]}")


def test_a_file_in_place_of_the_folder_is_refused(folder):
    said = (
        f"{NAMES[0]} is a file: --from wants the folder that holds {NAMES[0]}"
    )
    with pytest.raises(ValueError, match=said):
        omniglot.fetch(folder / NAMES[0], cache=folder / "cache")


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_truncated_archive_is_refused(folder, kept):
    data = (folder / NAMES[0]).read_bytes()
    (folder / NAMES[0]).write_bytes(data[: int(kept * len(data))])
    refused(folder, "damaged or no archive")


def test_a_flipped_byte_is_refused(folder):
    data = bytearray((folder / NAMES[0]).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / NAMES[0]).write_bytes(data)
    refused(folder, "damaged")


def test_one_altered_pixel_is_refused(folder, drawings):
    drawings[0, 1, 7, 50, 50] ^= True
    pack(folder / NAMES[0], drawings[0])
    refused(folder, "not Omniglot's")


def test_exchanged_drawings_are_refused(folder, drawings):
    pack(folder / NAMES[0], drawings[0][:, ::-1])
    refused(folder, "not Omniglot's")


def test_too_few_characters_are_refused(folder, drawings):
    pack(folder / NAMES[0], drawings[0][:1])
    refused(folder, "2 characters by 20 drawers, got 20 drawings of 1 char")


def test_a_drawing_that_is_there_twice_is_refused(folder, drawings):
    twice = member(1, 1).replace("Runes", "Ogham")
    pack(folder / NAMES[0], drawings[0], [(twice, png(drawings[0, 0, 0]))])
    refused(folder, "is twice")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(np.zeros((28, 28), bool)), "105 x 105 of 1 bit, got 28 x 28"),
        (png(np.zeros((105, 105), bool), "L"), "got 105 x 105 of mode L"),
        (b"GIF89a", "damaged .*no PNG"),
        (bytes(10_001), "10001 bytes, more than a drawing can have"),
    ],
)
def test_what_is_no_drawing_is_refused(folder, drawings, data, message):
    pack(folder / NAMES[0], drawings[0], [(member(3, 1), data)])
    refused(folder, message)


def test_a_picture_that_would_fill_the_memory_is_refused(folder, drawings):
    small = bytearray(png(drawings[0][0, 0]))
    small[16:24] = struct.pack(">II", 60_000, 60_000)  # its width and height
    small[29:33] = struct.pack(">I", zlib.crc32(small[12:29]))
    extra = [(member(3, 1), bytes(small))]
    pack(folder / NAMES[0], drawings[0], extra)
    with pytest.raises(ValueError, match="is damaged or no archive"):
        fetch(folder)


def test_a_stream_that_cannot_be_unpacked_is_refused(folder, monkeypatch):
    def damaged(*args, **options):
        raise zlib.error("Error -3 while decompressing data")

    fetch(folder)
    monkeypatch.setattr(omniglot.np, "load", damaged)
    with pytest.raises(ValueError, match="is damaged"):
        load_omniglot("val", cache=folder / "cache")
    monkeypatch.setattr(omniglot.zipfile.ZipFile, "read", damaged)
    with pytest.raises(ValueError, match="is damaged or no archive"):
        fetch(folder)


@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "a/../../evil", "..\\evil.png"]
)
def test_a_path_that_tries_to_escape_is_refused(folder, drawings, name):
    pack(folder / NAMES[0], drawings[0], [(name, b"evil")])
    before = {p for p in folder.parent.rglob("*")}
    refused(folder, "unsafe path")
    assert {p for p in folder.parent.rglob("*")} == before


def test_without_a_network_the_way_out_is_named(tmp_path, monkeypatch):
    # Nothing listens on the discard port.
    monkeypatch.setattr(omniglot, "URL", "http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="check the network.*--from PATH"):
        omniglot.fetch(cache=tmp_path)


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch):
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / NAMES[0]).write_bytes(b"something else")

    def retrieve(url, known_hash, fname, path, progressbar):
        raise ValueError("MD5 hash of downloaded file does not match")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(ValueError, match="cannot download images_background"):
        omniglot.fetch(cache=tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """All 1,623 characters, each drawn as its own number."""
    ink = np.zeros((1623, 20, 28, 28), np.uint8)
    number = np.arange(1623)
    ink[..., 0, 0], ink[..., 0, 1] = (
        (part[:, None]) for part in (number // 256, number % 256)
    )
    folder = tmp_path_factory.mktemp("cache")
    np.savez_compressed(folder / "omniglot.npz", ink=ink)
    return folder


def numbers(images):
    pixels = (255 * images[:, :, 0, 0]).round().int()
    found = 256 * pixels[..., 0] + pixels[..., 1]
    assert (found == found[:, :1]).all()
    return found[:, 0].tolist()


def test_splits_part_the_shuffled_characters(cache):
    found = []
    for split, count in (("train", 1100), ("val", 100), ("test", 423)):
        images = load_omniglot(split, cache=cache)
        assert images.shape == (count, 20, 1, 28, 28)
        assert images.dtype == torch.float32
        found += numbers(images)
    assert sorted(found) == list(range(1623))
    # Pinned: committed results hold for this shuffle.
    assert found[:5] == PINNED


PINNED = [713, 1081, 1577, 509, 665]


def test_an_unknown_split_is_refused(cache):
    with pytest.raises(ValueError, match="one of .*train.*got 'validation'"):
        load_omniglot("validation", cache=cache)


def test_without_a_cache_the_command_is_named(tmp_path):
    with pytest.raises(ValueError, match="run `mamlkit fetch omniglot`"):
        load_omniglot("val", cache=tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more"])
def test_a_damaged_cache_is_refused(tmp_path, data):
    (tmp_path / "omniglot.npz").write_bytes(data)
    with pytest.raises(ValueError, match="damaged: run `mamlkit fetch"):
        load_omniglot("val", cache=tmp_path)


@pytest.mark.skipif(
    "OMNIGLOT_DIR" not in os.environ, reason="needs the archives"
)
def test_the_archives_pass_and_hold_ink_on_paper(tmp_path):
    omniglot.fetch(Path(os.environ["OMNIGLOT_DIR"]), cache=tmp_path)
    images = load_omniglot("val", cache=tmp_path)
    # White paper and thin dark strokes, so little ink, and full range.
    assert images.min() == 0 and images.max() == 1
    assert 0.05 < images.mean() < 0.12
    edge = torch.cat([images[..., 0, :], images[..., -1, :]]).mean()
    assert edge < 0.3 * images.mean()
