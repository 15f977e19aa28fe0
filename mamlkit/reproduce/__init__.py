"""Paper-scale experiments: `mamlkit reproduce NAME`, one module each.

A module has `arguments(parser)`, which adds its own flags, and `run(args)`,
which trains (resumably), evaluates, and writes `data/results/*.json` and
`data/checkpoints/*`.
"""

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mamlkit.evaluate import mean_interval
from mamlkit.paths import RESULTS, replacing

EXPERIMENTS = (
    "sinusoid",
    "omniglot",
    "variants",
    "features",
    "inner_products",
    "navigation",
    "speed",
    "in_context",
    "cheetah",
    "room",
)
# 97.5 % points of Student's t, by the number of trainings less one.
STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}


def row(
    name: str, values: torch.Tensor, paper: float | None = None
) -> dict[str, Any]:
    """Summarise one number per task as a row of a result file.

    Args:
        name: what was measured.
        values: shape (tasks,), in the unit of `paper`.
        paper: the published value, if there is one.
    """
    mean, half = mean_interval(values.cpu().double())
    return {
        "name": name,
        "value": round(mean.item(), 4),
        "interval": round(half.item(), 4),
        "n": len(values),
        "paper": paper,
    }


def row_of_seeds(
    name: str, values: Sequence[float] | torch.Tensor, **more: Any
) -> dict[str, Any]:
    """Summarise one number per training as a row of a result file.

    Args:
        name: what was measured.
        values: one a training, at most seven.
        **more: further entries of the row.

    Returns:
        the mean; half the width of its 95 % interval by Student's t, which
        says what other trainings (and what was drawn anew with each) would
        make of it; n, the trainings; and "seeds", the values themselves, so
        that paired differences can be taken.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    half = STUDENT[len(values) - 1] * values.std() / len(values) ** 0.5
    finite = bool(values.isfinite().all())
    return {
        "name": name,
        "value": _significant(values.mean().item()) if finite else None,
        "interval": _significant(half.item()) if finite else None,
        "n": len(values),
        "paper": None,
        "seeds": [_significant(v) for v in values.tolist()],
    } | more


def _significant(number: float, digits: int = 5) -> float | None:
    """Round; None for what JSON has no number for."""
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def write_result(
    experiment: str,
    *,
    settings: dict[str, Any],
    seed: int,
    seconds: float,
    curve: list,
    rows: list[dict[str, Any]],
    folder: Path = RESULTS,
) -> Path:
    """Write `<folder>/<experiment>.json` and return its path.

    Args:
        experiment: file name without ending.
        settings: everything that another run would need.
        seed: of the training.
        seconds: training time.
        curve: (iteration, value) pairs.
        rows: as made by `row`.
        folder: where to write.

    Raises:
        ValueError: the folder cannot be written.
    """
    result = {
        "experiment": experiment,
        "settings": settings | {"threads": torch.get_num_threads()},
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "seconds": round(seconds, 1),
        "curve": curve,
        "rows": rows,
    }
    path = Path(folder) / f"{experiment}.json"
    try:
        with replacing(path) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    return path


def read_result(experiment: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Read a result file; its rows become a dict by name.

    Raises:
        ValueError: the experiment has not been run.
    """
    path = Path(folder) / f"{experiment}.json"
    if not path.exists():
        raise ValueError(f"no {path.name}: run `mamlkit reproduce` first")
    result = json.loads(path.read_text())
    result["rows"] = {r["name"]: r for r in result["rows"]}
    return result
