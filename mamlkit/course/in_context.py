"""The transformer of chapter 14, small enough for a page.

`in_context.js` beside this file reads what `export_weights` writes and gives
the answers of `InContextLearner`.
"""

import base64

import torch
from torch import Tensor

from mamlkit.in_context import InContextLearner

LEVELS = 127  # of a signed byte


def round_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to signed bytes; return levels and scales.

    Args:
        weight: shape (rows, columns), or (rows,), of which each is a row.

    Returns:
        int8 of shape (rows, columns), and float32 of shape (rows,).
    """
    rows = weight.detach().reshape(len(weight), -1)
    scales = rows.abs().amax(dim=1).clamp(min=1e-12) / LEVELS
    return (rows / scales[:, None]).round().to(torch.int8), scales


def rounded(model: InContextLearner) -> dict[str, Tensor]:
    """Make the weights that a page has after `export_weights`."""
    found = {}
    for name, weight in model.state_dict().items():
        levels, scales = round_rows(weight)
        found[name] = (levels * scales[:, None]).view_as(weight)
    return found


def export_weights(model: InContextLearner) -> dict:
    """Turn a transformer into what JSON can hold, a byte a weight.

    Args:
        model: any size.

    Returns:
        "layers", "heads", "tensors" (name, rows, columns, scales), and all
        bytes as base64, row by row.
    """
    tensors, levels = [], []
    for name, weight in model.state_dict().items():
        bytes_, scales = round_rows(weight)
        rows, columns = bytes_.shape
        tensors.append({
            "name": name,
            "rows": rows,
            "columns": columns,
            # Enough digits for the very float32.
            "scales": [float(f"{s:.9g}") for s in scales.tolist()],
        })  # fmt: skip
        levels.append(bytes_.flatten())
    joined = torch.cat(levels).numpy().tobytes()
    return {
        "layers": len(model.layers),
        "heads": model.layers[0].attention.heads,
        "tensors": tensors,
        "bytes": base64.b64encode(joined).decode(),
    }
