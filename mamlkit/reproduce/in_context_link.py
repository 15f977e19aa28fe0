"""One layer of linear attention, trained, beside one gradient step.

von Oswald et al. 2023 (arXiv:2212.07677), Sec. 3: ten examples of a linear
function of ten inputs. The weights of `gradient_step_attention` are not given
to the layer; it learns them, or others.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.in_context import gradient_step_attention, linear_attention
from mamlkit.reproduce.intervals import student_interval

FEATURES = K_SHOT = 10
ITERATIONS, N_TASKS = 3_000, 256
TESTS = 10_000
LRS = torch.linspace(0.1, 4.0, 40)


def linear_tasks(
    n_tasks: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw functions w · x, w from N(0, 1), x from U[-1, 1).

    Returns:
        tokens (tasks, K_SHOT + 1, FEATURES + 1), of which the last is the
        query, whose y is said to be 0; and its true y, (tasks, 1).
    """
    shape = n_tasks, K_SHOT + 1, FEATURES
    x = 2 * torch.rand(shape, generator=generator) - 1
    w = torch.randn(n_tasks, FEATURES, 1, generator=generator)
    tokens = torch.cat([x, x @ w], dim=-1)
    asked = tokens[:, -1, -1:].clone()
    tokens[:, -1, -1] = 0.0
    return tokens, asked


def answers(tokens: Tensor, match: Tensor, value: Tensor) -> Tensor:
    """Answer each task's query by one layer, (tasks, 1)."""
    context, query = tokens[:, :-1], tokens[:, -1:]
    return -linear_attention(query, context, match, value)[:, 0, -1:]


def trained_layer(seed: int) -> tuple[Tensor, Tensor]:
    """Train M and V from small random numbers."""
    generator = torch.Generator().manual_seed(seed)
    weights = [
        0.02 * torch.randn(FEATURES + 1, FEATURES + 1, generator=generator)
        for _ in range(2)
    ]
    for weight in weights:
        weight.requires_grad_()
    adam = torch.optim.Adam(weights, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, ITERATIONS)
    for _ in range(ITERATIONS):
        tokens, asked = linear_tasks(N_TASKS, generator)
        adam.zero_grad()
        F.mse_loss(answers(tokens, *weights), asked).backward()
        adam.step()
        schedule.step()
    return tuple(weight.detach() for weight in weights)


def gradient_step(lr: float) -> tuple[Tensor, Tensor]:
    """Weights of one step from W = 0."""
    weights = gradient_step_attention(FEATURES, 1, k_shot=K_SHOT, lr=lr)
    return tuple(weight.float() for weight in weights)


def link_rows(seeds: range) -> list[dict]:
    """Errors of the step, of the layer, and of one beside the other.

    n is the number of trainings; intervals are Student's, over these.
    """
    names = ("zero", "gradient_step", "trained", "apart", "identity", "lr")
    found = {name: [] for name in names}
    for seed in seeds:
        match, value = trained_layer(seed)
        some, right = linear_tasks(
            TESTS, torch.Generator().manual_seed(3_000_001 + seed)
        )
        lr = min(
            LRS.tolist(),
            key=lambda lr: F.mse_loss(
                answers(some, *gradient_step(lr)), right
            ),
        )
        tokens, asked = linear_tasks(
            TESTS, torch.Generator().manual_seed(2_000_001 + seed)
        )
        step = answers(tokens, *gradient_step(lr))
        layer = answers(tokens, match, value)
        found["zero"].append(asked.square().mean().item())
        found["gradient_step"].append(F.mse_loss(step, asked).item())
        found["trained"].append(F.mse_loss(layer, asked).item())
        found["apart"].append(F.mse_loss(layer, step).item())
        found["lr"].append(lr)
        # What multiplies (xᵢ · x): a multiple of the identity, for a step.
        block = match[:-1, :-1]
        part = block.diagonal().mean() * torch.eye(FEATURES)
        share = part.square().sum() / block.square().sum()
        found["identity"].append(share.item())
    rows = []
    for name, values in found.items():
        mean, half = student_interval(torch.tensor(values))
        row = {"name": f"link_{name}", "value": mean, "interval": half}
        rows.append(row | {"n": len(values), "paper": None, "seeds": values})
    return rows
