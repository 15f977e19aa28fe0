"""In-context learning: the support set is read, and no weight moves.

A transformer is given a task's examples and the queries in one go, as its
*prompt*. Trained on many tasks, it answers for a new one in a single forward
pass (Garg et al. 2022, arXiv:2208.01066; Akyürek et al. 2023,
arXiv:2211.15661). A set has no order, so no position is coded anywhere.

One layer of the simplest attention can do what `adapt` does in one step: see
`gradient_step_attention` (von Oswald et al. 2023, arXiv:2212.07677).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mamlkit.tasks import Batch


def normalise(tokens: Tensor) -> Tensor:
    """Give every token mean 0 and deviation 1 over its last axis."""
    return F.layer_norm(tokens, tokens.shape[-1:])


class Attention(nn.Module):
    """Every token collects what the context has for it.

    Args:
        width: numbers in a token.
        heads: parts of the width that look for different things.
    """

    def __init__(self, width: int = 64, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Look from tokens (..., n, width) into context (..., k, width)."""
        parts = self.query(tokens), self.key(context), self.value(context)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in parts
        )
        match = q @ k.mT / math.sqrt(q.shape[-1])  # (..., heads, n, k)
        found = match.softmax(-1) @ v
        return self.out(found.transpose(-3, -2).flatten(-2))


class Layer(nn.Module):
    """Attention to the examples, then a small network for each token."""

    def __init__(self, width: int = 64, heads: int = 4):
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, k_shot: int) -> Tensor:
        """Map (..., n, width) to the same; the first k_shot are known."""
        normal = normalise(tokens)
        tokens = tokens + self.attention(normal, normal[..., :k_shot, :])
        return tokens + self.mlp(normalise(tokens))


def as_tokens(support: Batch, x: Tensor) -> Tensor:
    """Write examples as (x, y, 1) and queries as (x, 0, 0), in one row.

    Args:
        support: x of shape (..., k_shot, features), y (..., k_shot, targets).
        x: shape (..., queries, features).

    Returns:
        shape (..., k_shot + queries, features + targets + 1).
    """
    known = torch.ones_like(support.x[..., :1])
    examples = torch.cat([support.x, support.y, known], dim=-1)
    blank = x.new_zeros(*x.shape[:-1], support.y.shape[-1] + 1)
    queries = torch.cat([x, blank], dim=-1)
    return torch.cat([examples, queries], dim=-2)


class InContextLearner(nn.Module):
    """A transformer whose prompt is the support set.

    Examples attend to each other and queries to the examples, so a query's
    answer depends on the support set as a set, and on no other query.

    Args:
        features: numbers in an x.
        targets: numbers in a y.
        width: numbers in a token.
        layers: how many.
        heads: of the attention.
    """

    def __init__(
        self,
        features: int = 1,
        targets: int = 1,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
    ):
        super().__init__()
        first = nn.Linear(features + targets + 1, width)
        self.read = nn.Sequential(first, nn.ReLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.write = nn.Linear(width, targets)

    def represent(self, support: Batch, x: Tensor) -> Tensor:
        """Compute what the last layer reads: (..., queries, width)."""
        tokens = self.read(as_tokens(support, x))
        k_shot = support.x.shape[-2]
        for layer in self.layers:
            tokens = layer(tokens, k_shot)
        return normalise(tokens[..., k_shot:, :])

    def forward(self, support: Batch, x: Tensor) -> Tensor:
        """Answer the queries of one task, or of many stacked.

        Args:
            support: x of shape (..., k_shot, features), y (..., k_shot,
                targets).
            x: shape (..., queries, features).

        Returns:
            shape (..., queries, targets).
        """
        return self.write(self.represent(support, x))


def linear_attention(
    tokens: Tensor, context: Tensor, match: Tensor, value: Tensor
) -> Tensor:
    """Attention without softmax: tokens + (tokens M contextᵀ) context V.

    Args:
        tokens: shape (..., n, width).
        context: shape (..., k, width).
        match: M, the product of query and key weights, (width, width).
        value: V, the product of value and output weights, (width, width).

    Returns:
        shape (..., n, width).
    """
    return tokens + tokens @ match @ context.mT @ context @ value


def gradient_step_attention(
    features: int, targets: int, *, k_shot: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Weights with which linear attention *is* a step of gradient descent.

    A token is an input and its residual, (x, y - W x), for a linear model
    with the weights W; a query counts as an example whose y is 0. One step of
    size lr on the mean squared error over k_shot examples and all targets
    changes the residual of any x by

        -2 lr / (k_shot targets) Σᵢ (yᵢ - W xᵢ) (xᵢ · x)

    A sum over examples, weighted by a product of inputs, is attention: M
    matches inputs with inputs, V hands on residuals (von Oswald et al. 2023,
    Prop. 1). The answer for a query is minus its residual, and L layers are L
    steps, whatever W was at the start.

    Args:
        features: numbers in an x.
        targets: numbers in a y.
        k_shot: examples in the prompt.
        lr: α, for the mean squared error.

    Returns:
        M and V for `linear_attention`, (features + targets, features +
        targets) each, in float64.
    """
    width = features + targets
    match = torch.zeros(width, width, dtype=torch.float64)
    value = torch.zeros_like(match)
    match[:features, :features].fill_diagonal_(1.0)
    value[features:, features:].fill_diagonal_(-2 * lr / (k_shot * targets))
    return match, value
