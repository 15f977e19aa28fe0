"""Pictures: a folder of them becomes tensors like those of the course."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def read_picture(path: str | Path) -> Tensor:
    """Read one picture as the faces are drawn: grey, small, dark is 1.

    The largest square in its middle is kept, turned as the camera says, and
    stretched so that its lightest point is 0 and its darkest 1. What is
    transparent becomes white.

    Args:
        path: JPEG, PNG or whatever else Pillow reads.

    Returns:
        float32, shape (1, 28, 28).

    Raises:
        ValueError: the file cannot be read as a picture, has 16 bits, or one
            tone.
    """
    _check_points(path)
    try:
        with Image.open(path) as file:
            _check_depth(path, file)
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, SyntaxError, ValueError):
        raise ValueError(
            f"{path} is no readable picture: save it as JPEG or PNG, or "
            "take it away"
        ) from None
    white = Image.new("RGBA", picture.size, "white")  # where it is see-through
    grey = Image.alpha_composite(white, picture).convert("L")
    _check_tones(path, grey)
    grey = ImageOps.autocontrast(ImageOps.fit(grey, (28, 28)))
    return 1 - torch.tensor(np.array(grey)[None] / 255, dtype=torch.float32)


def load_people(folder: str | Path, k_shot: int = 3) -> dict[str, Tensor]:
    """Read a folder with a sub-folder of pictures for each person.

    A sub-folder called `strangers` may hold pictures of anybody else.

    Args:
        folder: holds the sub-folders, `~` is your home; hidden files are
            passed over.
        k_shot: pictures that each person must have at least.

    Returns:
        name -> float32 of shape (pictures, 1, 28, 28), sorted by name.

    Raises:
        ValueError: no such folder, fewer than two people, a person with too
            few pictures, or a file that is no picture.
    """
    files = {
        place.name: sorted(place.glob("[!.]*"))
        for place in sorted(Path(folder).expanduser().glob("[!.]*/"))
    }
    _check_people(folder, files, k_shot)
    return {
        name: torch.stack([read_picture(path) for path in paths])
        for name, paths in files.items()
        if paths
    }


def _check_points(path: str | Path) -> None:
    """Refuse what is so large that Pillow takes it for an attack."""
    try:
        Image.open(path).close()
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path} has too many points: save a smaller copy"
        ) from None
    except (OSError, SyntaxError, ValueError):
        return  # no picture at all, which is said where it is read


def _check_depth(path, picture: Image.Image) -> None:
    # Pillow would cut all that is brighter than 255 of 65,535 to white.
    if picture.mode.startswith("I"):
        raise OSError(f"{path} has 16 bits a point")


def _check_tones(path, grey: Image.Image) -> None:
    low, high = ImageOps.fit(grey, (28, 28)).getextrema()  # what is kept
    if low == high:
        raise ValueError(f"{path} has one tone all over: take it away")


def _check_people(folder, files: dict[str, list[Path]], k_shot: int) -> None:
    if not Path(folder).expanduser().is_dir():
        raise ValueError(f"there is no folder {folder}")
    for name in files:
        if name.lower() == "strangers" != name:
            raise ValueError(
                f"{Path(folder) / name}: write strangers in small letters, "
                "or they are a person of the house"
            )
    counts = {n: len(paths) for n, paths in files.items() if n != "strangers"}
    if len(counts) < 2:
        raise ValueError(
            f"{folder} needs a sub-folder for each person, two at least; "
            f"found {len(counts)}"
        )
    for name, count in counts.items():
        if count < k_shot:
            raise ValueError(
                f"{name} has {count} of {k_shot} pictures: put more into "
                f"{Path(folder) / name}"
            )
