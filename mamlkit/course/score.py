"""The reader's own score at chapter 00's game, kept in one small file.

The file lies in Jupyter's data folder of the user, which `jupyter --data-dir`
prints: a checkout may be read-only. Where nobody can press a button, as under
papermill, no score is read, so that outputs never depend on who runs them.
"""

import json
import math
import time
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from mamlkit.course.grammar import PINK
from mamlkit.exercises.progress import put_aside, somebody_is_there
from mamlkit.paths import alone, replacing

NAME = "mamlkit_score.json"


def score_path() -> Path:
    """Where the score is kept; the file exists after the first game."""
    return Path(jupyter_data_dir()) / NAME


def read_games(path: Path | None = None) -> list[dict]:
    """Read all finished games.

    Args:
        path: the file; `score_path()` by default.

    Returns:
        for each game its date and, by round, `right` and `seconds`.

    Raises:
        ValueError: the file is damaged.
        OSError: it is there, but cannot be read.
    """
    path = path or score_path()
    try:
        games = json.loads(path.read_text(encoding="utf-8"))["games"]
        for game in games:
            rounds = len(game["right"])
            whole = rounds == len(game["seconds"]) > 0
            if not whole or {*map(type, game["right"])} != {bool}:
                raise ValueError
            sum(game["seconds"])
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise ValueError("the file is damaged") from None
    return games


def keep_game(right: list[bool], seconds: list[float]) -> str:
    """Add a finished game to the file; whatever happens is said, not raised.

    Args:
        right: of each round, whether the answer was right.
        seconds: of each round, until the answer.

    Returns:
        one line: where the game is kept, or why it is not. A damaged file
        is put aside, not overwritten.
    """
    path, said = score_path(), ""
    today = time.strftime("%Y-%m-%d")
    game = {"date": today, "right": right, "seconds": seconds}
    try:
        with alone(path):
            try:
                games = read_games(path)
            except ValueError:
                aside = put_aside(path)
                games = []
                said = f"The file was damaged and is now {aside.name}. "
            text = json.dumps({"games": [*games, game]}, indent=1) + "\n"
            with replacing(path) as file:
                file.write(text.encode())
    except OSError as fault:
        return f"{said}Not kept: {fault.strerror}: {path}."
    return f"{said}Kept in {path}; forget_score() deletes it."


def forget_score() -> None:
    """Delete the file with your games, and say so."""
    path = score_path()
    try:
        path.unlink()
        print(f"Deleted {path}.")
    except FileNotFoundError:
        print("There is no score to delete.")
    except OSError as fault:
        print(f"Not deleted: {fault.strerror}: {path}.")


def your_rounds() -> list[bool] | None:
    """Of every round you ever finished, whether you were right.

    Returns:
        None before the first game, and where nobody is there to be "you". A
        file that cannot be read is one printed line, and None.
    """
    if not somebody_is_there():
        return None
    try:
        games = read_games()
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or fault
        print(f"No score of yours: {why}: {score_path()}.")
        return None
    return [answer for game in games for answer in game["right"]] or None


def draw_your_score(ax: Axes) -> str:
    """Draw your accuracy in percent as an upright line, if you have played.

    The band is the 95 % interval of so few rounds.

    Args:
        ax: its horizontal axis is accuracy in percent.

    Returns:
        a sentence for the figure's alt text; empty if nothing was drawn.
    """
    rounds = your_rounds()
    if rounds is None:
        return ""
    right, n = sum(rounds), len(rounds)
    low, high = wilson_interval(right, n)
    for text in ax.texts:  # stays readable where the line crosses it
        text.set_path_effects([withStroke(linewidth=4, foreground="white")])
    ax.axvline(100 * right / n, color=PINK, lw=2, ls="--")
    ax.axvspan(100 * low, 100 * high, color=PINK, alpha=0.12, lw=0)
    # Above the axes: rows and their numbers are below.
    ax.annotate(
        f"you: {right} of {n}",
        (100 * right / n, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",  # near 100 % there is no room on the other side
        color=PINK,
    )
    said = f"You were right in {right} of {n} rounds: {right / n:.0%}"
    said = f"{said}, or {low:.0%} to {high:.0%} with so few rounds."
    print(said)
    return f" {said}"


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Where the true share lies, with 95 % confidence, after `n` trials.

    Unlike 1.96 standard errors it has a width at 0 and n right, too (Wilson
    1927).

    Args:
        right: successes, 0 to n.
        n: trials, at least 1.

    Returns:
        low and high end, in [0, 1].

    Examples:
        >>> [round(end, 2) for end in wilson_interval(10, 10)]
        [0.72, 1.0]
    """
    z, share = 1.96, right / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + s * half) / (1 + z * z / n) for s in (-1, 1))
    return max(0.0, low), min(1.0, high)
