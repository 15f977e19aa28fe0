"""Faces: invented portraits, drawn on the spot, of people who do not exist.

A *person* is twenty-odd traits: the shape of the head, hair, eyes, glasses
and so on. A *picture* of a person has a pose, a light and an expression of
its own, and noise. Nothing is downloaded and nobody is shown.
"""

import torch
from torch import Tensor

SIZE, PICTURES = 28, 20
# The people of a split are nobody else's.
SPLITS = {"train": (400, 1), "val": (100, 2), "test": (200, 3)}

# Traits of a person and whims of a picture: lowest and highest value, in
# pixels where they are lengths; tones are 0 for white and 1 for black.
TRAITS = {
    "width": (6.2, 8.6), "height": (8.4, 10.4), "jaw": (0.0, 0.45),
    "skin": (0.1, 0.5), "hair": (0.55, 1.0), "volume": (0.0, 2.2),
    "length": (-7.0, 9.0), "fringe": (0.4, 0.95), "part": (-0.35, 0.35),
    "apart": (2.4, 3.9), "eye_y": (-2.2, 0.6), "eye": (0.8, 1.5),
    "slant": (-0.3, 0.3), "brow": (0.35, 0.9), "brow_gap": (1.7, 2.8),
    "brow_tilt": (-0.35, 0.35), "nose": (1.8, 3.8), "nose_width": (0.6, 1.7),
    "mouth": (1.5, 3.8), "mouth_y": (4.4, 5.8), "lips": (0.45, 1.0),
    "ears": (0.6, 1.7), "glasses": (0.0, 1.0), "beard": (0.0, 1.0),
}  # fmt: skip
WHIMS = {
    "x": (-2.2, 2.2), "y": (-1.8, 1.8), "tilt": (-0.28, 0.28),
    "zoom": (0.86, 1.1), "turn": (-1.7, 1.7), "nod": (-0.9, 0.9),
    "smile": (-0.12, 0.22), "open": (0.45, 1.15), "raise": (-0.5, 0.7),
    "wall": (0.0, 0.5), "light_x": (-0.25, 0.25), "light_y": (-0.2, 0.2),
    "gain": (0.8, 1.1),
}  # fmt: skip


def _values(ranges, shape, generator) -> dict[str, Tensor]:
    drawn = torch.rand(
        len(ranges), *shape, 1, 1, generator=generator, device=generator.device
    )
    return {
        name: low + (high - low) * value
        for (name, (low, high)), value in zip(ranges.items(), drawn)
    }


def draw_faces(
    n_people: int, n_pictures: int = PICTURES, *, generator: torch.Generator
) -> Tensor:
    """Invent people and take pictures of each.

    Args:
        n_people: how many.
        n_pictures: of each of them.
        generator: the source of randomness; the faces are on its device.

    Returns:
        float32, shape (n_people, n_pictures, 1, 28, 28); in each picture the
        lightest point is 0 and the darkest 1.

    Raises:
        ValueError: a number is below 1.
    """
    if min(n_people, n_pictures) < 1:
        raise ValueError(
            f"people and pictures must be >= 1, got {n_people}, {n_pictures}"
        )
    p = _values(TRAITS, (n_people, 1), generator)
    w = _values(WHIMS, (n_people, n_pictures), generator)
    parts = [range(i, min(i + 50, n_people)) for i in range(0, n_people, 50)]
    ink = torch.cat(  # a few people at a time, which saves memory
        [_draw(*({k: v[part] for k, v in d.items()} for d in (p, w)))
         for part in map(list, parts)]
    )  # fmt: skip
    ink = ink + 0.02 * torch.randn(
        ink.shape, generator=generator, device=generator.device
    )
    low, high = ink.amin((-2, -1), True), ink.amax((-2, -1), True)
    return ((ink - low) / (high - low)).unsqueeze(2)


def _draw(p: dict[str, Tensor], w: dict[str, Tensor]) -> Tensor:
    """Paint from back to front; shapes (people, pictures, 28, 28)."""
    line = torch.arange(SIZE, device=w["x"].device) - (SIZE - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    # (u, v): where a pixel lies on a head that is upright and centred.
    across, down = (x - w["x"]) / w["zoom"], (y - 0.5 - w["y"]) / w["zoom"]
    cos, sin = w["tilt"].cos(), w["tilt"].sin()
    u, v = cos * across + sin * down, cos * down - sin * across
    a, b = u - w["turn"], v - w["nod"]  # the same for what is on the face
    side = torch.sign(a)
    eye_x, eye_y = a.abs() - p["apart"], b - p["eye_y"]

    def spot(du, dv, width, height, tilt=0.0):
        """1 within a tilted ellipse, 0 outside, soft at the edge."""
        du, dv = du + tilt * dv, dv - tilt * du
        r = ((du / width) ** 2 + (dv / height) ** 2 + 1e-6).sqrt()
        return _inside((1 - r) * torch.minimum(width, height))

    one = torch.ones((), device=line.device)
    narrow = 1 - p["jaw"] * (v / p["height"]).clamp(0, 1) ** 2
    skull = spot(u / narrow, v, p["width"], p["height"])
    hair = p["volume"] > 0.35
    locks = spot(
        u, v + 0.8, p["width"] + p["volume"], p["height"] + p["volume"] * 0.7
    ) * _inside(p["length"] - v)
    fringe = torch.maximum(skull, locks) * _inside(
        -p["fringe"] * p["height"] + p["part"] * 3 * u - v
        - 0.06 * (u - 6 * p["part"]) ** 2 + 2
    )  # fmt: skip
    ears = spot(u.abs() - p["width"], v - p["eye_y"] - 1, p["ears"], 2 * one)
    lid = p["eye"] * w["open"]
    white = spot(eye_x, eye_y, p["eye"] * 1.5, lid, p["slant"])
    pupil = spot(eye_x - side * w["turn"] * 0.3, eye_y, lid * 0.75, lid)
    brow_y = eye_y + p["brow_gap"] + w["raise"]
    brows = spot(eye_x, brow_y, 1.9 * one, p["brow"], p["brow_tilt"])
    nose_y = b - p["eye_y"] - p["nose"]
    nose = spot(a, nose_y, p["nose_width"], 0.6 * one)
    nose = nose + 0.5 * spot(
        a - 0.5 * torch.sign(w["turn"]) * p["nose_width"],
        nose_y + p["nose"] / 2, 0.4 * one, p["nose"] / 2,
    )  # fmt: skip
    mouth_y = b - p["mouth_y"] + w["smile"] * a**2
    mouth = spot(a, mouth_y, p["mouth"], p["lips"])
    ring = ((eye_x / 2.3) ** 2 + (eye_y / 1.9) ** 2 + 1e-6).sqrt()
    glasses = _inside(0.35 - 2 * (ring - 1).abs())
    glasses = glasses * (p["glasses"] > 0.7)
    beard = skull * _inside(mouth_y + 1.6 + 0.1 * a**2)
    beard = beard * (p["beard"] > 0.75)

    ink = w["wall"] + 0 * u
    for layer, tone in (
        (locks * hair, p["hair"]),
        (ears, p["skin"] + 0.08),
        (skull, p["skin"]),
        (beard, 0.75 * p["hair"]),
        (fringe * hair, p["hair"]),
        (nose * 0.6, p["skin"] + 0.4),
        (mouth, 0.75),
        (white, 0.05),
        (pupil, 0.95),
        (brows, p["hair"] * 0.9 + 0.1),
        (glasses, 0.9),
    ):
        ink = ink + layer * (tone - ink)
    return w["gain"] * ink + (w["light_x"] * x + w["light_y"] * y) / 14


def _inside(depth: Tensor) -> Tensor:
    """1 where `depth`, in pixels, is positive, with an edge a pixel wide."""
    return (depth + 0.5).clamp(0, 1)


def load_faces(split: str) -> Tensor:
    """Draw the people of one split, always the same.

    Args:
        split: "train", "val" or "test": 400, 100 and 200 people.

    Returns:
        as `draw_faces`, 20 pictures of each.

    Raises:
        ValueError: the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
    n_people, seed = SPLITS[split]
    return draw_faces(n_people, generator=torch.Generator().manual_seed(seed))
