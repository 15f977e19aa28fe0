"""The course: what chapters import besides the algorithm itself."""

import warnings

try:
    from mamlkit.course import plays
    from mamlkit.course.chapters import chapter_map
    from mamlkit.course.claims import claim, exceeds, report_claims
    from mamlkit.course.diagrams import arrow, box, legend_of_arrows
    from mamlkit.course.figures import WIDE, png, show, use_theme
    from mamlkit.course.game import deal
    from mamlkit.course.grammar import (
        AMBER,
        BLACK,
        BLUE,
        COLOURS,
        GREY,
        MARKERS,
        ORANGE,
        PINK,
        VIOLET,
        look_of,
        name_of,
    )
    from mamlkit.course.pad import Pad
    from mamlkit.course.plays import game as play
    from mamlkit.course.plots import (
        accuracy_axis,
        draw_floor,
        draw_ink,
        in_percent,
        label_end,
        legend_above,
        name_panels,
        plot_mean,
        plot_runs,
        plot_scores,
    )
    from mamlkit.course.predicting import predict, predictions, reveal
    from mamlkit.course.score import (
        draw_your_score,
        forget_score,
        wilson_interval,
    )
    from mamlkit.course.tables import show_table
    from mamlkit.course.waves import (
        draw_path,
        draw_support,
        draw_truth,
        landscape,
        mark_best,
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
from mamlkit.reproduce.intervals import student_interval

# PyTorch 2.14 tells every reader, at the first `jvp`, about its own code.
warnings.filterwarnings(
    "ignore", "`torch.jit.script` is deprecated", FutureWarning
)

__all__ = [
    "AMBER",
    "BLACK",
    "BLUE",
    "CHECKPOINTS",
    "COLOURS",
    "GREY",
    "MARKERS",
    "ORANGE",
    "PINK",
    "RESULTS",
    "ROOT",
    "VIOLET",
    "WIDE",
    "Pad",
    "accuracy_axis",
    "arrow",
    "box",
    "chapter_map",
    "check",
    "claim",
    "deal",
    "draw_floor",
    "draw_ink",
    "draw_path",
    "draw_support",
    "draw_truth",
    "draw_your_score",
    "exceeds",
    "explore",
    "forget_score",
    "hint",
    "in_percent",
    "label_end",
    "landscape",
    "legend_above",
    "legend_of_arrows",
    "look_of",
    "mark_best",
    "name_of",
    "name_panels",
    "omniglot_is_here",
    "play",
    "plays",
    "plot_mean",
    "plot_runs",
    "plot_scores",
    "png",
    "predict",
    "predictions",
    "quiz",
    "read_result",
    "report_claims",
    "reveal",
    "show",
    "show_table",
    "solution",
    "student_interval",
    "use_theme",
    "wilson_interval",
]
