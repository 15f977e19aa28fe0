"""The course: what chapters import besides the algorithm itself."""

try:
    from mamlkit.course import plays
    from mamlkit.course.chapters import chapter_map
    from mamlkit.course.claims import claim, report_claims
    from mamlkit.course.figures import (
        BLUE,
        COLOURS,
        GREEN,
        GREY,
        MARKERS,
        ORANGE,
        PINK,
        arrow,
        box,
        draw_path,
        label_end,
        landscape,
        plot_mean,
        png,
        show,
        use_theme,
    )
    from mamlkit.course.game import deal
    from mamlkit.course.pad import Pad
    from mamlkit.course.plays import game as play
    from mamlkit.course.score import (
        draw_your_score,
        forget_score,
        wilson_interval,
    )
    from mamlkit.course.widgets import explore, quiz
    from mamlkit.datasets.omniglot import is_here as omniglot_is_here
    from mamlkit.exercises import check, hint, solution
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the course needs {missing.name}: pip install 'mamlkit[course]'",
        name=missing.name,
    ) from None
from mamlkit.paths import CHECKPOINTS, RESULTS, ROOT
from mamlkit.reproduce import read_result

__all__ = [
    "BLUE",
    "CHECKPOINTS",
    "COLOURS",
    "GREEN",
    "GREY",
    "MARKERS",
    "ORANGE",
    "PINK",
    "RESULTS",
    "ROOT",
    "Pad",
    "arrow",
    "box",
    "chapter_map",
    "check",
    "claim",
    "deal",
    "draw_path",
    "draw_your_score",
    "explore",
    "forget_score",
    "hint",
    "label_end",
    "landscape",
    "omniglot_is_here",
    "play",
    "plays",
    "plot_mean",
    "png",
    "quiz",
    "read_result",
    "report_claims",
    "show",
    "solution",
    "use_theme",
    "wilson_interval",
]
