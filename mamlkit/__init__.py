"""Model-Agnostic Meta-Learning, as the course builds it."""

from mamlkit.arrays import TaskArrays
from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.datasets.faces import load_faces
from mamlkit.datasets.glyphs import load_glyphs
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.datasets.people import load_people, read_picture
from mamlkit.deploy import adapted_model
from mamlkit.episodes import Episodes
from mamlkit.evaluate import (
    adaptation_curve,
    functional_accuracy,
    mean_interval,
    one_by_one,
    slope_error,
)
from mamlkit.gradient import gradient_of, in_parts
from mamlkit.implicit import (
    conjugate_gradients,
    imaml_loss,
    implicit_gradient,
    proximal_loss,
)
from mamlkit.in_context import (
    InContextLearner,
    gradient_step_attention,
    linear_attention,
)
from mamlkit.inner import adapt, functional_loss
from mamlkit.models import CNN, MLP, BatchNorm, Wave
from mamlkit.objectives import (
    anil_loss,
    meta_loss,
    multi_step_loss,
    reptile_loss,
)
from mamlkit.outer import History, cosine, meta_train
from mamlkit.tasks import (
    Batch,
    Harmonics,
    Sinusoids,
    SinusoidsAndLines,
    Tasks,
    in_chunks,
    map_tasks,
)

__version__ = "0.2.0"

__all__ = [
    "CNN",
    "MLP",
    "Batch",
    "BatchNorm",
    "Episodes",
    "Harmonics",
    "History",
    "InContextLearner",
    "Sinusoids",
    "SinusoidsAndLines",
    "TaskArrays",
    "Tasks",
    "Wave",
    "adapt",
    "adaptation_curve",
    "adapted_model",
    "anil_loss",
    "conjugate_gradients",
    "cosine",
    "functional_accuracy",
    "functional_loss",
    "gradient_of",
    "gradient_step_attention",
    "imaml_loss",
    "implicit_gradient",
    "in_chunks",
    "in_parts",
    "linear_attention",
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
