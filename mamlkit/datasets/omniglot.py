"""Omniglot: 1,623 handwritten characters, each drawn by 20 people.

Lake, Salakhutdinov and Tenenbaum 2015 (Science 350, 1332-1338), MIT licence.
`fetch` reads the authors' two archives in memory, checks every pixel against
a digest, and caches one small array; nothing is ever extracted, so no path
inside an archive can write anywhere.
"""

import hashlib
import io
import random
import re
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mamlkit.paths import CACHE, replacing

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
# Name -> md5 of the published archive, its characters, and the sha256 of its
# drawings' bits in order of character and drawer. The last one is what
# counts: an archive that was packed again still passes.
ARCHIVES = {
    "images_background.zip": (
        "68d2efa1b9178cc56df9314c21c6e718",
        964,
        "a4cdfca3d0861188c5180d20bbc68a0ee600423b4a756a2667518f7b510c8756",
    ),
    "images_evaluation.zip": (
        "6b91aef0f799c5bb55b94e3f2daec811",
        659,
        "50251c4711ef2ec634c728940e2c2593eb84ab5a4bd10f6c243bb80c6793b1bf",
    ),
}
MEMBER = re.compile(r"images_\w+/[^/]+/character\d\d/(\d{4})_(\d\d)\.png")
DRAWERS, RAW, SIZE = 20, 105, 28
MAX_BYTES = 10_000  # a drawing's PNG has about 250
# As in the authors' code: 1,100 / 100 / 423 of the shuffled characters.
SPLITS = {
    "train": slice(0, 1100),
    "val": slice(1100, 1200),
    "test": slice(1200, 1623),
}
CACHED = "omniglot.npz"


def fetch(source: Path | None = None, *, cache: Path = CACHE) -> Path:
    """Download or read Omniglot, verify it, and cache it at 28 x 28.

    Args:
        source: folder that holds the two archives; None downloads them.
        cache: folder for the array, and for the archives if downloaded.

    Returns:
        the cached file, about 6 MB.

    Raises:
        ValueError: an archive is missing, cannot be downloaded, is damaged,
            or does not hold the right drawings.
    """
    if source and Path(source).is_file():
        raise ValueError(
            f"{source} is a file: --from wants the folder that holds "
            + " and ".join(ARCHIVES)
        )
    parts = []
    for name, (md5, characters, digest) in ARCHIVES.items():
        path = Path(source) / name if source else _download(name, md5, cache)
        print(f"reading {path} ...", file=sys.stderr, flush=True)
        drawings = read_archive(path, characters)
        if hashlib.sha256(np.packbits(drawings)).hexdigest() != digest:
            raise ValueError(
                f"the drawings in {path} are not Omniglot's: download it anew"
            )
        parts.append(shrink(drawings))
    path = Path(cache) / CACHED
    try:
        with replacing(path) as file:
            np.savez_compressed(file, ink=np.concatenate(parts))
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    return path


def _download(name: str, md5: str, cache: Path) -> Path:
    try:
        import pooch
    except ImportError:
        raise ValueError(
            "downloading needs pooch: pip install 'mamlkit[course]', or give "
            "a folder with the archives (--from PATH)"
        ) from None
    try:
        found = pooch.retrieve(
            URL + name,
            known_hash=f"md5:{md5}",
            fname=name,
            path=cache,
            progressbar=True,
        )
    # requests' errors are OSErrors; pooch raises ValueError on a wrong md5.
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot download {name} ({type(error).__name__}): check the "
            "network, or give a folder with the archives (--from PATH)"
        ) from error
    return Path(found)


def read_archive(path: Path, characters: int) -> np.ndarray:
    """Decode one of the archives, in memory.

    Args:
        path: a zip file with members `.../characterNN/XXXX_DD.png`; what
            else it holds is ignored.
        characters: how many different XXXX there must be.

    Returns:
        ink, bool, shape (characters, 20, 105, 105), in order of XXXX and DD.

    Raises:
        ValueError: the file is missing, damaged, or holds other drawings.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _check_member(info, path)
                if match := MEMBER.fullmatch(info.filename):
                    if match.groups() in found:
                        raise ValueError(f"{path}: {info.filename} is twice")
                    found[match.groups()] = _decode(archive.read(info))
    except FileNotFoundError:
        raise ValueError(f"no archive at {path}") from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError,
            NotImplementedError, RuntimeError,
            Image.DecompressionBombError) as error:  # fmt: skip
        raise ValueError(
            f"{path} is damaged or no archive ({error}): download it anew"
        ) from None
    numbers = sorted({character for character, _ in found})
    if (len(numbers), len(found)) != (characters, characters * DRAWERS):
        raise ValueError(
            f"{path} must hold {characters} characters by {DRAWERS} drawers, "
            f"got {len(found)} drawings of {len(numbers)} characters"
        )
    drawings = np.stack([found[key] for key in sorted(found)])
    return drawings.reshape(characters, DRAWERS, RAW, RAW)


def _check_member(info: zipfile.ZipInfo, path: Path) -> None:
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{path}: unsafe path {info.filename!r}, not used")
    if info.file_size > MAX_BYTES and MEMBER.fullmatch(info.filename):
        raise ValueError(
            f"{path}: {info.filename} has {info.file_size} bytes, more than "
            "a drawing can have"
        )


def _decode(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (RAW, RAW) or image.mode != "1":
                raise ValueError(
                    f"a drawing must be {RAW} x {RAW} of 1 bit, got "
                    f"{image.size[0]} x {image.size[1]} of mode {image.mode}"
                )
            return ~np.asarray(image)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise OSError(f"a drawing is no PNG: {error}") from None


def shrink(drawings: np.ndarray) -> np.ndarray:
    """Resize drawings to 28 x 28 greys, with Lanczos' filter, as learn2learn.

    The script of MAML's authors asks for the same filter, but Pillow gives
    1-bit drawings, as Omniglot's are, the nearest pixel instead: run
    literally, it makes 1-bit images (cbfinn/maml#23).

    Args:
        drawings: ink, bool, shape (..., 105, 105).

    Returns:
        ink, uint8 in 0..255, shape (..., 28, 28).
    """
    paper = 255 * ~drawings.reshape(-1, RAW, RAW).astype(bool)
    small = [
        # These are grey, so that there is a filter.
        255 - np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        for grey in map(Image.fromarray, paper.astype(np.uint8))
    ]
    return np.stack(small).reshape(*drawings.shape[:-2], SIZE, SIZE)


def is_here(*, cache: Path = CACHE) -> bool:
    """Tell whether `fetch` has been here."""
    return (Path(cache) / CACHED).exists()


def load_omniglot(split: str, *, cache: Path = CACHE) -> Tensor:
    """Load the characters of one split, which shares none with the others.

    The 1,623 characters are shuffled once, irrespective of alphabet, and cut
    into 1,100 / 100 / 423 (Finn et al. 2017, Sec. 5.2, and their code).

    Args:
        split: "train", "val" or "test".
        cache: folder that `fetch` wrote to.

    Returns:
        ink in [0, 1], float32, shape (classes, 20, 1, 28, 28).

    Raises:
        ValueError: the split is unknown, or Omniglot is not cached.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
    path = Path(cache) / CACHED
    try:
        # Opened here because numpy leaves a damaged file open.
        with path.open("rb") as file:
            ink = np.load(file, allow_pickle=False)["ink"]
    except FileNotFoundError:
        raise ValueError(
            "Omniglot is not here yet: run `mamlkit fetch omniglot`"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, IndexError,
            zipfile.BadZipFile, zlib.error):  # fmt: skip
        ink = np.empty(0)
    if ink.shape != (1623, DRAWERS, SIZE, SIZE) or ink.dtype != np.uint8:
        raise ValueError(f"{path} is damaged: run `mamlkit fetch omniglot`")
    order = list(range(len(ink)))
    random.Random(1).shuffle(order)
    chosen = torch.from_numpy(ink[order[SPLITS[split]]])
    return (chosen.float() / 255).unsqueeze(2)
