"""Model-Agnostic Meta-Learning, as the course builds it."""

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.episodes import Episodes
from mamlkit.evaluate import (
    adaptation_curve,
    functional_accuracy,
    mean_interval,
    slope_error,
)
from mamlkit.glyphs import load_glyphs
from mamlkit.gradient import in_parts
from mamlkit.inner import adapt, functional_loss
from mamlkit.models import CNN, MLP, BatchNorm, Wave
from mamlkit.multistep import multi_step_loss
from mamlkit.omniglot import load_omniglot
from mamlkit.outer import History, cosine, map_tasks, meta_loss, meta_train
from mamlkit.tasks import (
    Batch,
    Harmonics,
    Sinusoids,
    SinusoidsAndLines,
    TaskArrays,
    Tasks,
)
from mamlkit.variants import (
    anil_loss,
    conjugate_gradients,
    imaml_loss,
    implicit_gradient,
    proximal_loss,
    reptile_loss,
)

__all__ = [
    "CNN",
    "MLP",
    "Batch",
    "BatchNorm",
    "Episodes",
    "Harmonics",
    "History",
    "Sinusoids",
    "SinusoidsAndLines",
    "TaskArrays",
    "Tasks",
    "Wave",
    "adapt",
    "adaptation_curve",
    "anil_loss",
    "conjugate_gradients",
    "cosine",
    "functional_accuracy",
    "functional_loss",
    "imaml_loss",
    "implicit_gradient",
    "in_parts",
    "load_checkpoint",
    "load_glyphs",
    "load_omniglot",
    "map_tasks",
    "mean_interval",
    "meta_loss",
    "meta_train",
    "multi_step_loss",
    "proximal_loss",
    "reptile_loss",
    "save_checkpoint",
    "slope_error",
]
