"""The game of chapter 00, for mouse or keyboard, and rounds to read.

A round shows one example of each of five characters, and asks which of them
another drawing is. Everything on the page has a fixed size, so nothing jumps.
"""

import base64
import io
import statistics
import time
from html import escape

import ipywidgets as ipw
import matplotlib.pyplot as plt
import torch
from IPython.display import display
from PIL import Image
from torch import Tensor

from mamlkit.course.figures import show
from mamlkit.course.grammar import GREEN, GREY
from mamlkit.course.score import (
    keep_game,
    read_games,
    wilson_interval,
)
from mamlkit.episodes import Episodes
from mamlkit.exercises.progress import somebody_is_there
from mamlkit.tasks import Batch, Tasks

WAYS = 5
_SIDE = 84  # of a drawing on the page: three dots for each of its 28 pixels


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
    on = generator.device
    asked = torch.randint(WAYS, (n_rounds,), generator=generator, device=on)
    asked = asked.to(tasks.query.y.device)
    rows = torch.arange(n_rounds, device=asked.device)
    query = Batch(*(part[rows, asked][:, None] for part in tasks.query))
    return Tasks(tasks.support, query)


def play(images: Tensor, *, seed: int = 0, n_rounds: int = 10) -> None:
    """Show the game; where nobody can press a button, rounds to read.

    Args:
        images: characters to play with, as `Episodes` takes them.
        seed: decides the rounds, together with the number of games so far.
        n_rounds: rounds in a game.
    """
    if somebody_is_there():
        display(Game(images, seed=seed, n_rounds=n_rounds))
    else:
        show_rounds(deal(images, n_rounds, _rng(seed, 0)))


class Game(ipw.VBox):
    """The game as a widget; `advance` starts a round, `answers` end it.

    Args:
        images: as for `play`.
        seed: as for `play`.
        n_rounds: as for `play`.
    """

    def __init__(self, images: Tensor, *, seed: int = 0, n_rounds: int = 10):
        self._deal = lambda: deal(images, n_rounds, _rng(seed, self._game))
        try:
            self._game = len(read_games())
        except (OSError, ValueError):
            self._game = 0  # what is wrong is said when the game ends
        self.head = ipw.HTML(layout=ipw.Layout(height="30px"))
        self.query, *self.examples = (ipw.HTML() for _ in range(WAYS + 1))
        narrow = ipw.Layout(width=f"{_SIDE}px", margin="2px 10px")
        self.answers = [
            ipw.Button(description=f"{n}", tooltip=f"Answer {n}")
            for n in range(1, WAYS + 1)
        ]
        for button in self.answers:
            button.layout = narrow
            button.add_class("mamlkit-game-answer")
            button.on_click(self._answer)
        self.status = ipw.HTML(layout=ipw.Layout(min_height="70px"))
        self.status.add_class("mamlkit-game-status")
        self.advance = ipw.Button()
        self.advance.layout.width = "160px"
        self.advance.add_class("mamlkit-game-next")
        self.advance.on_click(self._next_round)
        pairs = map(ipw.VBox, zip(self.examples, self.answers))
        row = ipw.Box([*pairs], layout=ipw.Layout(flex_flow="row wrap"))
        parts = [self.head, self.query, row, self.status, self.advance]
        super().__init__(parts)
        self.add_class("mamlkit-game")
        self.head.value = f"<b>{n_rounds} rounds</b>, each timed."
        for picture in (self.query, *self.examples):
            picture.value = _picture(None, "nothing yet")
        self._say("Press Start when you are ready.")
        self._new_game()
        self._wait("Start")

    def _new_game(self) -> None:
        self._game += 1
        self._rounds, self._right, self._seconds = self._deal(), [], []

    def _wait(self, what: str) -> None:
        """Let the reader press `advance`, and nothing else."""
        self.advance.description, self.advance.disabled = what, False
        for button in self.answers:
            button.disabled = True

    def _next_round(self, _button) -> None:
        if self.advance.disabled:  # a second click, sent before it knew
            return
        (support, query), at = self._rounds, len(self._right)
        if at == len(query.y):
            self._new_game()
            (support, query), at = self._rounds, 0
        self.head.value = (
            f"<b>Round {at + 1} of {len(query.y)}.</b> Which of the five is "
            f"the drawing with the question mark? Right so far: "
            f"{sum(self._right)}."
        )
        self.query.value = _picture(query.x[at, 0], "the drawing asked", "?")
        for n, picture in enumerate(self.examples):
            picture.value = _picture(support.x[at, n], f"example {n + 1}")
        self._say("Choose a number from 1 to 5.")
        self.advance.description, self.advance.disabled = "Next round", True
        for button in self.answers:
            button.disabled = False
        _focus(self.answers[0])
        self._shown = time.monotonic()

    def _answer(self, button) -> None:
        if button.disabled:
            return
        (support, query), at = self._rounds, len(self._right)
        seconds = time.monotonic() - self._shown
        chosen = self.answers.index(button)
        asked = query.y[at, 0].item()
        self._right.append(chosen == asked)
        self._seconds.append(round(seconds, 2))
        said = f"<b>✓ Right, it is {asked + 1}.</b>"
        if chosen != asked:
            said = f"<b>✗ It is {asked + 1}</b>, not {chosen + 1}."
            wrong = _picture(
                support.x[at, chosen], f"example {chosen + 1}, chosen", "✗"
            )
            self.examples[chosen].value = wrong
        self.examples[asked].value = _picture(
            support.x[at, asked], f"example {asked + 1}, the right one", "✓"
        )
        said = f"{said} {seconds:.1f} seconds."
        over = at + 1 == len(query.y)
        self._say(said + (self._result() if over else ""))
        self._wait("Play again" if over else "Next round")
        _focus(self.advance)

    def _result(self) -> str:
        right, n = sum(self._right), len(self._right)
        low, high = wilson_interval(right, n)
        median = statistics.median(self._seconds)
        kept = keep_game(self._right, self._seconds)
        return (
            f"<br><b>{right} of {n} right, {right / n:.0%}</b> (so few rounds "
            f"could come from anything between {low:.0%} and {high:.0%}), "
            f"median time {median:.1f} seconds.<br>{escape(kept)}"
        )

    def _say(self, html: str) -> None:
        self.status.value = f"<div role='status'>{html}</div>"


def _focus(button: ipw.Button) -> None:
    """Bring the keyboard to a button; ipywidgets 7 cannot."""
    if hasattr(button, "focus"):
        button.focus()


def _picture(image: Tensor | None, alt: str, mark: str = "") -> str:
    """Make HTML of one size: a line for the mark, and the drawing."""
    ink = torch.zeros(1, 28, 28) if image is None else image
    grey = (255 - 255 * ink[0]).round().byte().numpy()
    raw = io.BytesIO()
    Image.fromarray(grey).resize((_SIDE, _SIDE), 0).save(raw, "PNG")
    data = base64.b64encode(raw.getvalue()).decode()
    edge = {"✓": f"4px solid {GREEN}", "✗": f"4px dashed {GREY}"}
    edge = edge.get(mark, f"1px solid {GREY}")
    return (
        f"<div style='width:{_SIDE + 20}px;text-align:center'>"
        f"<div style='height:22px;line-height:22px'><b>{mark}</b></div>"
        f"<img alt='{alt}' width='{_SIDE}' height='{_SIDE}' style='outline:"
        f"{edge};max-width:none' src='data:image/png;base64,{data}'></div>"
    )


def _rng(seed: int, game: int) -> torch.Generator:
    """Fix the rounds of a game; number 0 is the one that is only shown."""
    return torch.Generator().manual_seed(1000 * (seed + 1) + game)


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
