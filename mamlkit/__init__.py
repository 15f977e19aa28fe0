"""Model-Agnostic Meta-Learning, as the course builds it."""

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.episodes import Episodes
from mamlkit.evaluate import (
    adaptation_curve,
    functional_accuracy,
    mean_interval,
    one_by_one,
    slope_error,
)
from mamlkit.faces import load_faces
from mamlkit.glyphs import load_glyphs
from mamlkit.gradient import in_parts
from mamlkit.inner import adapt, functional_loss
from mamlkit.models import CNN, MLP, BatchNorm, Wave
from mamlkit.multistep import multi_step_loss
from mamlkit.omniglot import load_omniglot
from mamlkit.outer import History, cosine, map_tasks, meta_loss, meta_train
from mamlkit.pictures import load_people, read_picture
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
    "load_faces",
    "load_glyphs",
    "load_omniglot",
    "load_people",
    "map_tasks",
    "mean_interval",
    "meta_loss",
    "meta_train",
    "multi_step_loss",
    "one_by_one",
    "proximal_loss",
    "read_picture",
    "reptile_loss",
    "save_checkpoint",
    "slope_error",
]
