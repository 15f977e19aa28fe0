"""Paper-scale experiments: `mamlkit reproduce NAME`, one module each.

A module has `arguments(parser)`, which adds its own flags, and `run(args)`,
which trains (resumably), evaluates, and writes `data/results/*.json` and
`data/checkpoints/*`.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.evaluate import mean_interval
from mamlkit.paths import RESULTS, replacing

EXPERIMENTS = (
    "sinusoid",
    "omniglot",
    "variants",
    "features",
    "budgets",
    "inner_products",
    "room",
    "navigation",
    "cheetah",
    "speed",
    "in_context",
    "longer",
)


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
        seconds: training time; 0 if it was not measured.
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


class Known:
    """What was found so far, for a run that begins again.

    The file stays: whoever changed the code deletes it to measure anew.

    Args:
        path: the file; None: nothing is kept.
        **settings: what all that is in the file must come from.

    Raises:
        ValueError: the file is damaged, or from other settings.
    """

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self.path, self.state = path, {"settings": settings}
        if path and path.exists():
            self.state = load_checkpoint(path, settings or None)

    def __call__(self, key: str, find: Callable[[], Any]) -> Any:
        """Give what is known as `key`; if nothing is, find and keep it."""
        if key not in self.state:
            self.state[key] = find()
            if self.path:
                save_checkpoint(self.path, self.state)
        return self.state[key]
