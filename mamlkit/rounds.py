"""Rounds of chapter 00's game, and a picture of them.

A round shows one example of each of five characters, and asks which of them
another drawing is.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from mamlkit.episodes import Episodes
from mamlkit.figures import GREY, show
from mamlkit.tasks import Batch, Tasks

WAYS = 5


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
    tasks = Episodes(images, WAYS).sample(
        n_rounds, k_shot=1, k_query=1, generator=generator
    )
    asked = torch.randint(WAYS, (n_rounds,), generator=generator)
    rows = torch.arange(n_rounds)
    query = Batch(*(part[rows, asked][:, None] for part in tasks.query))
    return Tasks(tasks.support, query)


def show_rounds(rounds: Tasks) -> None:
    """Show rounds as one picture, and print the answers below it."""
    n = len(rounds.query.y)
    height = -(-n // 2)
    fig, axes = plt.subplots(
        height, 2, figsize=(8.4, 0.82 * height), squeeze=False
    )
    for number, ax in enumerate(axes.flat):
        ax.axis("off")
        if number < n:
            _draw_round(ax, rounds, number)
    show(
        fig,
        alt=f"{n} rounds. In each, one drawing under a question mark, and "
        "five numbered drawings beside it; one of the five is the same "
        "character, drawn by another hand.",
    )
    answers = (rounds.query.y[:, 0] + 1).tolist()
    said = [f"{number}: {answer}" for number, answer in enumerate(answers, 1)]
    print("Answers, round by round.  " + ",  ".join(said))


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
