"""The table of chapter 08: which layers give a right meta-gradient, and how.

Facts about the pinned version of PyTorch, measured in float64: autograd
against differences of the meta-loss along random directions.
"""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mamlkit import (
    Batch,
    BatchNorm,
    Tasks,
    adapt,
    functional_loss,
    map_tasks,
    meta_loss,
)

pytestmark = pytest.mark.filterwarnings("ignore")
PLAIN = {"track_running_stats": False}


class Pick(nn.Module):
    """A recurrent layer or cell, read to its last time step."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        if isinstance(self.layer, nn.RNNBase):
            return self.layer(x)[0][:, -1]
        zeros = x.new_zeros(len(x), 4)
        pair = isinstance(self.layer, nn.LSTMCell)
        state = (zeros, zeros) if pair else zeros
        for t in range(x.shape[1]):
            state = self.layer(x[:, t], state)
        return state[0] if pair else state


class Attention(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.project, self.kernel = nn.Linear(3, 12), kernel

    def forward(self, x):
        parts = self.project(x).unflatten(-1, (3, 2, 2)).unbind(-3)
        with sdpa_kernel(self.kernel):
            return F.scaled_dot_product_attention(
                *(part.transpose(-2, -3) for part in parts)
            )


def dense(layer):
    return nn.Sequential(nn.Linear(3, 4), layer, nn.Tanh())


def weight_norm():
    return dense(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


# what it is, (in the loop, under vmap), how meta_loss refuses it
FACTS = {
    "dropout": (lambda: dense(nn.Dropout()), "exact exact", None),
    "group": (lambda: dense(nn.GroupNorm(1, 4)), "exact exact", None),
    "rms": (lambda: dense(nn.RMSNorm(4)), "exact exact", None),
    "ours": (lambda: dense(BatchNorm(4)), "exact exact", None),
    "layer, no weights": (
        lambda: dense(nn.LayerNorm(4, 1e-5, False)),
        "exact exact",
        None,
    ),
    "layer": (lambda: dense(nn.LayerNorm(4)), "exact wrong", "has weights"),
    "batch": (
        lambda: dense(nn.BatchNorm1d(4, **PLAIN)),
        "exact wrong",
        "has weights",
    ),
    "running": (
        lambda: dense(nn.BatchNorm1d(4)),
        "stops stops",
        "running statistics",
    ),
    "weight norm": (weight_norm, "wrong wrong", "weight_norm"),
    "rnn cell": (lambda: Pick(nn.RNNCell(3, 4)), "exact exact", None),
    "gru cell": (lambda: Pick(nn.GRUCell(3, 4)), "exact exact", None),
    "lstm cell": (lambda: Pick(nn.LSTMCell(3, 4)), "exact stops", None),
    **{
        kind.__name__: (
            lambda kind=kind: Pick(kind(3, 4, batch_first=True)),
            "exact stops",
            None,
        )
        for kind in (nn.RNN, nn.GRU, nn.LSTM)
    },
    "math": (lambda: Attention(SDPBackend.MATH), "exact exact", None),
    "flash": (
        lambda: Attention(SDPBackend.FLASH_ATTENTION),
        "stops stops",
        None,
    ),
}
TIMED = (Pick, Attention)


def prepared(kind):
    torch.manual_seed(0)
    model = FACTS[kind][0]().double()
    shape = (3, 5, 4, 3) if isinstance(model, TIMED) else (3, 5, 3)
    x = torch.randn(2, *shape).double()
    y = torch.randn(2, *torch.stack([model(t) for t in x[0]]).shape).double()
    return model, Tasks(*map(Batch, x, y))


def judged(model, tasks, way):
    def loss_fn(params, batch):  # functional_loss without its refusals
        outputs = functional_call(model, params, (batch.x,))
        return F.mse_loss(outputs, batch.y)

    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(params):
        def task_loss(support, query):
            return loss_fn(adapt(params, loss_fn, support, lr=0.5), query)

        torch.manual_seed(0)
        return map_tasks(task_loss, tasks, way).mean()

    try:
        found = grad(loss)(params)
    except RuntimeError:
        return "stops"
    apart, size = 0.0, 0.0
    for seed in range(4):
        torch.manual_seed(1 + seed)
        step = {k: 1e-5 * torch.randn_like(p) for k, p in params.items()}
        high, low = (
            loss({k: p + sign * step[k] for k, p in params.items()})
            for sign in (1, -1)
        )
        slope = sum((found[k] * step[k]).sum() for k in params)
        apart = max(apart, abs(slope - (high - low) / 2).item())
        size = max(size, abs(slope).item())
    return "exact" if apart < 1e-5 * size else "wrong"


@pytest.mark.parametrize("kind", FACTS)
def test_layer_is_what_the_table_says(kind):
    model, tasks = prepared(kind)
    said = [judged(model, tasks, way) for way in ("loop", "vmap")]
    assert " ".join(said) == FACTS[kind][1]


@pytest.mark.parametrize("kind", FACTS)
def test_meta_loss_refuses_what_is_wrong_and_nothing_else(kind):
    _, facts, match = FACTS[kind]
    model, tasks = prepared(kind)
    loss_fn = functional_loss(model, F.mse_loss)
    params = {name: p.detach() for name, p in model.named_parameters()}
    for way, fact in zip(("loop", "vmap"), facts.split()):
        refused = fact == "wrong" or match == "running statistics"
        try:
            meta_loss(params, loss_fn, tasks, lr=0.1, over_tasks=way)
        except ValueError as error:
            assert refused and match in str(error)
        except RuntimeError:
            assert fact == "stops" and not refused
        else:
            assert not refused


def test_the_old_weight_norm_is_refused_too():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(3, 4))
    loss_fn = functional_loss(layer, F.mse_loss)
    x, y = torch.randn(2, 5, 3), torch.randn(2, 5, 4)
    tasks = Tasks(Batch(x, y), Batch(x, y))
    params = dict(layer.named_parameters())
    with pytest.raises(ValueError, match="weight_norm"):
        meta_loss(params, loss_fn, tasks, lr=0.1, over_tasks="loop")


def test_dropout_under_vmap_needs_its_own_draws():
    x = torch.ones(3, 4)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(F.dropout)(x)
    vmap(F.dropout, randomness="different")(x)
