"""Exercises: the engine, and a file with the content of each chapter."""

from mamlkit.exercises.engine import (
    check,
    find_exercise,
    find_exercises,
    find_quiz,
    hint,
    progress_table,
    show_progress,
    solution,
)

__all__ = [
    "check",
    "find_exercise",
    "find_exercises",
    "find_quiz",
    "hint",
    "progress_table",
    "show_progress",
    "solution",
]
