"""The game of chapter 00: its rounds, dealt, packed and pictured.

A round shows one example of each of five characters, and asks which of them
another drawing is. `mamlkit.course.plays.game` plays it.
"""

import base64
import io

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mamlkit.course.figures import WIDE
from mamlkit.course.grammar import GREY
from mamlkit.episodes import Episodes
from mamlkit.tasks import Batch, Tasks

WAYS = 5
_LEVELS = 16  # of grey, which is what the course's drawings have


def deal(images: Tensor, n_rounds: int, generator: torch.Generator) -> Tasks:
    """Deal rounds: in each, five examples and one query.

    Args:
        images: as `Episodes` takes them.
        n_rounds: number of rounds.
        generator: the source of randomness.

    Returns:
        support.x of shape (rounds, 5, 1, 28, 28), query.x (rounds, 1, 1, 28,
        28), query.y (rounds, 1): which of the five, 0 to 4, is right.
    """
    tasks = Episodes(images, WAYS, rotations=True).sample(
        n_rounds, k_shot=1, k_query=1, generator=generator
    )
    on = generator.device
    asked = torch.randint(WAYS, (n_rounds,), generator=generator, device=on)
    asked = asked.to(tasks.query.y.device)
    rows = torch.arange(n_rounds, device=asked.device)
    query = Batch(*(part[rows, asked][:, None] for part in tasks.query))
    return Tasks(tasks.support, query)


def deal_game(images: Tensor, n_rounds: int, seed: int, number: int) -> Tasks:
    """Deal the rounds of one game, the same for the same seed and number.

    Args:
        images: as for `deal`.
        n_rounds: as for `deal`.
        seed: of a whole series of games.
        number: of the game; 0 is the one that is only shown.

    Returns:
        as `deal`.
    """
    rng = torch.Generator().manual_seed(1000 * (seed + 1) + number)
    return deal(images, n_rounds, rng)


def pack(rounds: Tasks) -> dict:
    """Pack rounds for a page: one small picture, and the answers.

    Args:
        rounds: as `deal` returns them.

    Returns:
        `sheet`, a PNG of 16 greys in base64 with a row for each round, its
        query first and its five examples after it; and `answers`, 0 to 4.
    """
    drawings = torch.cat([rounds.query.x, rounds.support.x], 1)[:, :, 0]
    n, across, side, _ = drawings.shape
    paper = ((_LEVELS - 1) * (1 - drawings)).round().byte().cpu()
    rows = paper.permute(0, 2, 1, 3).reshape(n * side, across * side)
    size = (across * side, n * side)
    sheet = Image.frombytes("P", size, rows.numpy().tobytes())
    grey = 255 // (_LEVELS - 1)
    sheet.putpalette([v * grey for v in range(_LEVELS) for _ in "rgb"])
    png = io.BytesIO()
    sheet.save(png, "PNG", bits=4, optimize=True)
    return {
        "sheet": base64.b64encode(png.getvalue()).decode(),
        "answers": rounds.query.y[:, 0].tolist(),
    }


def draw_rounds(rounds: Tasks) -> Figure:
    """Draw rounds as one picture, to be read where none can be played."""
    n = len(rounds.query.y)
    height = -(-n // 2)
    fig, axes = plt.subplots(
        height, 2, figsize=(WIDE, 0.74 * height), squeeze=False
    )
    for number, ax in enumerate(axes.flat):
        ax.axis("off")
        if number < n:
            _draw_round(ax, rounds, number)
    return fig


def _draw_round(ax, rounds: Tasks, number: int) -> None:
    """Draw the query, a wider gap, and the numbered examples, in one row."""
    side = rounds.query.x.shape[-1]
    pictures = [rounds.query.x[number, 0, 0], *rounds.support.x[number, :, 0]]
    for place, picture in enumerate(pictures):
        left = place * (side + 7) + (10 if place else 0)
        edges = (left, left + side, side, 0)
        ax.imshow(picture, cmap="Greys", vmin=0, vmax=1, extent=edges)
        frame = {"lw": 0.8, "ec": GREY, "fc": "none"}
        ax.add_patch(plt.Rectangle((left, 0), side, side, **frame))
        ax.text(left + side / 2, -3, place or "?", ha="center")
    ax.text(-7, side / 2, f"round {number + 1}", ha="right", va="center")
    ax.set(xlim=(-2, left + side + 2), ylim=(side + 1, -14))
