"""Glyphs: invented handwritten characters, bundled with the course.

A character is a few strokes, each a line or a smooth curve through points of
a small grid; an alphabet fixes the habits of its characters. A *hand*, one
for each of the 20 drawings of a character, has a slant, a size and a pen,
and never meets a point exactly.

Every drawing follows from its three numbers (alphabet, character, hand) and
from `SEED`, with additions, multiplications, divisions and square roots
only: these are exact to the bit on every processor, sines are not.
"""

import random
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mamlkit.paths import DATA

PATH = DATA / "glyphs.npz"
SEED = "glyphs 1"
SIZE, HANDS, LEVELS = 28, 20, 16
ALPHABETS, CHARACTERS = 40, 25
# Whole alphabets, so that test characters have unseen habits too.
SPLITS = {"train": slice(0, 28), "val": slice(28, 31), "test": slice(31, 40)}
Stroke = tuple[list[tuple[float, float]], bool]


def _rng(*what: object) -> random.Random:
    return random.Random(" ".join(map(str, (SEED, *what))))


def _bell(rng: random.Random) -> float:
    """Draw from a bell on (-1, 1) without the logarithm of a Gaussian."""
    return (rng.random() + rng.random() + rng.random()) * 2 / 3 - 1


def character(alphabet: int, number: int) -> list[Stroke]:
    """Invent a character.

    Args:
        alphabet: 0..39; its habits are those of its other characters.
        number: 0..24.

    Returns:
        strokes, each a list of (x, y) around (0, 0), y downwards, and whether
        the pen goes round its corners smoothly.
    """
    habits = _rng("alphabet", alphabet)
    columns, rows = habits.choice(((3, 3), (3, 4), (3, 4), (4, 4), (3, 5)))
    smoothness = habits.choice((0.3, 0.6, 0.8, 0.95))
    ringed = habits.choice((0.0, 0.1, 0.3))
    dotted = habits.choice((0.0, 0.0, 0.15))
    counts = habits.choice(((1, 1, 2), (1, 2, 2, 3), (2, 2, 3), (2, 3, 3)))
    rng = _rng("character", alphabet, number)
    grid = [(x, y) for x in range(columns) for y in range(rows)]
    strokes, ways = [], []
    for _ in range(rng.choice(counts)):
        if len(ways) > 5:  # more would be a scribble
            break
        smooth = rng.random() < smoothness
        points = _walk(rng, grid, ways, smooth)
        ways += zip(points, points[1:])
        strokes.append((points, smooth))
    if rng.random() < ringed:
        x, y = rng.choice(rng.choice(ways))
        ring = ((0, -1), (1, 0), (0, 1), (-1, 0), (0, -1))
        strokes.append(([(x + 0.4 * i, y + 0.4 * j) for i, j in ring], True))
    elif rng.random() < dotted:
        reached = {point for way in ways for point in way}
        x, y = rng.choice([p for p in grid if p not in reached] or grid)
        strokes.append(([(x, y), (x + 0.2, y + 0.2)], False))
    return _centre(strokes, columns, rows)


def _centre(strokes, columns: int, rows: int) -> list[Stroke]:
    """Move a character to the middle, and let small ones grow a little."""
    xs, ys = (
        [
            point[axis] / (count - 1)
            for points, _ in strokes
            for point in points
        ]
        for axis, count in enumerate((columns, rows))
    )
    left, top = min(xs), min(ys)
    across, down = max(xs) - left, max(ys) - top
    scale = 1.5 / (0.5 + max(across, down))
    places = iter(zip(xs, ys))
    return [
        (
            [
                (
                    (x - left - across / 2) * scale,
                    (y - top - down / 2) * scale,
                )
                for _, (x, y) in zip(points, places)
            ],
            smooth,
        )
        for points, smooth in strokes
    ]


def _walk(rng, grid, ways, smooth) -> list[tuple[int, int]]:
    """Lead the pen over the grid, mostly in short steps, seldom crossing."""
    used = [point for way in ways for point in way]
    points = [rng.choice(used if used and rng.random() < 0.75 else grid)]
    length = rng.choice((4, 5, 6) if smooth else (3, 3, 4, 5))
    if used:  # later strokes are shorter
        length = rng.choice((3, 4) if smooth else (2, 2, 3))
    while len(points) < length:
        own = list(zip(points, points[1:]))
        weights = [_liking(points, p, ways + own) for p in grid]
        if not any(weights):
            break
        points.append(rng.choices(grid, weights)[0])
    return points if len(points) > 1 else _walk(rng, grid, ways, smooth)


def _liking(points, there, ways) -> float:
    """Weigh a step of the pen from the last of its points."""
    here = points[-1]
    x, y = there[0] - here[0], there[1] - here[1]
    if x == y == 0 or there in points[1:]:
        return 0.0
    weight = 1 / (x * x + y * y)
    if x == 0 or y == 0:
        weight *= 4
    elif abs(x) != abs(y):
        weight *= 0.5
    if there == points[0]:
        weight *= 2 if len(points) > 2 else 0
    elif any(there in way for way in ways):
        weight *= 0.3
    if len(points) > 1:
        ahead = (here[0] - points[-2][0], here[1] - points[-2][1])
        if ahead[0] * x + ahead[1] * y < 0:  # a turn back
            weight *= 0.05
    for start, end in ways:
        sides = [_side(here, there, p) for p in (start, end)]
        others = [_side(start, end, p) for p in (here, there)]
        if sides == others == [0, 0]:  # along a line that is there already
            return 0.0
        if sides[0] * sides[1] < 0 and others[0] * others[1] < 0:
            weight *= 0.15
    return weight


def _side(start, end, point) -> int:
    """Tell on which side of a line a point lies: the sign, or 0 if on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (
        end[1] - start[1]
    ) * (point[0] - start[0])


def draw(alphabet: int, number: int, hand: int) -> np.ndarray:
    """Draw a character as one hand would.

    Args:
        alphabet: 0..39.
        number: 0..24, the character.
        hand: 0..19; within an alphabet a hand keeps its slant, size and pen.

    Returns:
        ink, uint8 in 0..15, shape (28, 28).
    """
    owner = _rng("hand", alphabet, hand)
    slant, sloppy = 0.22 * _bell(owner), 0.05 + 0.05 * owner.random()
    width, height = 10 + 5 * owner.random(), 13 + 5 * owner.random()
    pen = 1.0 + 0.6 * owner.random()
    rng = _rng("drawing", alphabet, number, hand)
    turn = 0.15 * _bell(rng)
    # A rotation by the rational parametrisation of the circle.
    cosine = (1 - turn * turn / 4) / (1 + turn * turn / 4)
    sine = turn / (1 + turn * turn / 4)
    shift = (2 * _bell(rng), 2 * _bell(rng))
    width *= 1 + 0.15 * _bell(rng)
    height *= 1 + 0.15 * _bell(rng)
    pieces = []
    for points, smooth in character(alphabet, number):
        aside = (sloppy * _bell(rng), sloppy * _bell(rng))
        moved = []
        for x, y in points:
            x += aside[0] + 1.6 * sloppy * _bell(rng)
            y += aside[1] + 1.6 * sloppy * _bell(rng)
            x, y = width * (x - slant * y), height * y
            moved.append(
                (
                    SIZE / 2 + shift[0] + cosine * x - sine * y,
                    SIZE / 2 + shift[1] + sine * x + cosine * y,
                )
            )
        pieces.append(_curve(np.array(moved), smooth))
    return _ink(pieces, pen)


def _curve(points: np.ndarray, smooth: bool) -> np.ndarray:
    """Join points by lines, or by a Catmull-Rom spline."""
    if not smooth or len(points) < 3:
        return points
    closed = np.array_equal(points[0], points[-1])
    before = points[-2] if closed else 2 * points[0] - points[1]
    after = points[1] if closed else 2 * points[-1] - points[-2]
    p = np.concatenate([before[None], points, after[None]])
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = (np.arange(8) / 8)[None, :, None]
    curve = b + t * (
        (c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * (
            1.5 * (b - c) + (d - a) / 2
        ))
    )  # fmt: skip
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def _ink(pieces: list[np.ndarray], pen: float) -> np.ndarray:
    """Darken the pixels within half a pen's width of a piece."""
    start = np.concatenate([piece[:-1] for piece in pieces])
    way = np.concatenate([piece[1:] - piece[:-1] for piece in pieces])
    x, y = start[:, 0, None, None], start[:, 1, None, None]
    dx, dy = way[:, 0, None, None], way[:, 1, None, None]
    column = (np.arange(SIZE) + 0.5)[None, None, :]
    row = (np.arange(SIZE) + 0.5)[None, :, None]
    along = ((column - x) * dx + (row - y) * dy) / (dx * dx + dy * dy + 1e-9)
    along = np.clip(along, 0, 1)
    off_x, off_y = column - x - along * dx, row - y - along * dy
    distance = np.sqrt((off_x * off_x + off_y * off_y).min(axis=0))
    ink = np.clip(pen / 2 + 0.5 - distance, 0, 1)
    return np.round(ink * (LEVELS - 1)).astype(np.uint8)


def build(path: Path = PATH) -> None:
    """Draw all glyphs, which takes half a minute, and write them.

    The file is an ordinary `.npz` with one array `ink`, uint8 in 0..15, shape
    (1000, 20, 28, 28), compressed by bzip2, which beats deflate by a quarter.
    """
    drawings = [
        draw(alphabet, number, hand)
        for alphabet in range(ALPHABETS)
        for number in range(CHARACTERS)
        for hand in range(HANDS)
    ]
    ink = np.stack(drawings).reshape(-1, HANDS, SIZE, SIZE)
    # A fixed date makes the file the same at every build.
    member = zipfile.ZipInfo("ink.npy", date_time=(2026, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_BZIP2
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(member, "w") as file:
            np.lib.format.write_array(file, ink)


def load_glyphs(split: str, *, path: Path = PATH) -> Tensor:
    """Load the glyphs of one split, which shares no alphabet with the others.

    Args:
        split: "train", "val" or "test": 700, 75 and 225 characters.
        path: what `build` wrote.

    Returns:
        ink in [0, 1], float32, shape (classes, 20, 1, 28, 28).

    Raises:
        ValueError: the split is unknown, or the file is missing or damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
    shape = (ALPHABETS * CHARACTERS, HANDS, SIZE, SIZE)
    try:
        # Opened here because numpy leaves a damaged file open.
        with Path(path).open("rb") as file:
            ink = np.load(file, allow_pickle=False)["ink"]
    except (OSError, EOFError, ValueError, KeyError, IndexError,
            zipfile.BadZipFile):  # fmt: skip
        ink = np.empty(0)
    if ink.shape != shape or ink.dtype != np.uint8 or ink.max() >= LEVELS:
        raise ValueError(
            f"{path} is missing or damaged: make it anew with `python -c "
            '"from mamlkit.datasets import glyphs; glyphs.build()"`'
        )
    alphabets = ink.reshape(ALPHABETS, CHARACTERS, HANDS, 1, SIZE, SIZE)
    chosen = torch.from_numpy(alphabets[SPLITS[split]]).flatten(0, 1)
    return chosen.float() / (LEVELS - 1)
