"""The outer loop: its gradient, its training, and what it refuses."""

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mamlkit.checks
import mamlkit.outer
from mamlkit import (
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    cosine,
    functional_loss,
    meta_loss,
    meta_train,
    reptile_loss,
)


def params_of(model, dtype=torch.float64):
    return {k: p.detach().to(dtype) for k, p in model.named_parameters()}


def waves(n_tasks=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tasks = Sinusoids().sample(
        n_tasks, k_shot=5, k_query=4, generator=generator
    )
    return Tasks(*(Batch(b.x.double(), b.y.double()) for b in tasks))


# --- training


def train(model=None, seed=0, **options):
    torch.manual_seed(0)
    model = model or MLP(hidden=(8,))
    settings = {
        "criterion": F.mse_loss,
        "inner_lr": 0.01,
        "meta_lr": 0.01,
        "n_tasks": 4,
        "iterations": 20,
        "generator": torch.Generator().manual_seed(seed),
        "sample": partial(Sinusoids().sample, k_shot=5, k_query=5),
    } | options
    return model, meta_train(model, settings.pop("sample"), **settings)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_leaves_the_weights_in_the_model():
    torch.manual_seed(0)
    untrained = dict(MLP(hidden=(8,)).named_parameters())
    model, history = train(iterations=300)
    assert len(history.loss) == 300
    loss_fn = functional_loss(MLP(hidden=(8,)).double(), F.mse_loss)
    start, end = (
        meta_loss(
            {k: p.double() for k, p in params.items()},
            loss_fn,
            waves(500, seed=9),
            lr=0.01,
        )
        for params in (untrained, history.params)
    )
    assert end < 0.9 * start
    assert same(history.params, dict(model.named_parameters()))


def test_same_seed_same_bits():
    _, one = train()
    _, two = train()
    _, other = train(seed=1)
    assert one.loss == two.loss and same(one.params, two.params)
    assert one.loss != other.loss


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 3},
        {"inner_lr": 0.02},
        {"meta_lr": 0.02},
        {"n_tasks": 5},
        {"first_order": True},
        {"schedule": cosine(20)},
        {"objective": lambda *args, **kwargs: 2 * meta_loss(*args, **kwargs)},
        {"criterion": F.l1_loss},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_has_an_effect(change):
    _, plain = train()
    _, changed = train(**change)
    assert plain.loss[1:] != changed.loss[1:]


def test_loop_trains_to_the_same_numbers_as_vmap():
    _, batched = train()
    _, loop = train(over_tasks="loop")
    for a, b in zip(batched.loss, loop.loss):
        assert a == pytest.approx(b, rel=1e-3)


def test_validation_is_called_twenty_times_with_the_current_weights():
    seen = []

    def validate(params):
        seen.append({k: p.clone() for k, p in params.items()})
        return len(seen)

    _, history = train(iterations=40, validate=validate)
    assert history.validation == [(2 * i, i) for i in range(1, 21)]
    assert same(seen[-1], history.params)
    assert not same(seen[0], seen[-1])


def test_frozen_parameters_stay():
    model = MLP(hidden=(8,))
    model[1].weight.requires_grad_(False)
    before = model[1].weight.clone()
    _, history = train(model)
    assert torch.equal(model[1].weight, before)
    assert "1.weight" not in history.params and "1.bias" in history.params


CHILD = """
    import sys, torch, mamlkit.outer
    sys.path.insert(0, {tests!r})
    from test_outer import train
    mamlkit.outer.CHECKPOINT_SECONDS = 0


    def validate(params):
        print("a twentieth is done", flush=True)
        return 0.0

    train(iterations=2_000, checkpoint={path!r}, validate=validate)
"""


def test_killed_half_way_and_resumed_is_never_interrupted(tmp_path):
    path = tmp_path / "run.pt"
    code = textwrap.dedent(
        CHILD.format(tests=str(Path(__file__).parent), path=str(path))
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child.stdout.readline()
    child.kill()
    assert child.wait() != 0
    done = torch.load(path)["iteration"]
    assert 90 <= done < 2_000
    # Cut short: what remains is compared, not waited for.
    state = torch.load(path)
    state["settings"]["iterations"] = done + 50
    torch.save(state, path)
    options = {"iterations": done + 50, "validate": lambda params: 0.0}
    _, resumed = train(checkpoint=path, **options)
    _, whole = train(**options)
    assert resumed.loss == whole.loss
    assert same(resumed.params, whole.params)


def test_a_finished_run_is_read_back_not_repeated(tmp_path):
    path = tmp_path / "run.pt"
    _, first = train(checkpoint=path)
    _, again = train(checkpoint=path, model=MLP(hidden=(8,)))
    assert again.loss == first.loss and same(again.params, first.params)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train(checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"inner_lr 0.01 there, 0.5 here"):
        train(checkpoint=tmp_path / "run.pt", inner_lr=0.5)


def test_a_diverging_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(mamlkit.outer, "CHECKPOINT_SECONDS", 0)

    def breaks_at_12(i):
        return float("nan") if i == 12 else 1.0

    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match=r"at iteration 13: lower"):
        train(checkpoint=path, schedule=breaks_at_12)
    state = torch.load(path)
    assert state["iteration"] == 12
    assert all(p.isfinite().all() for p in state["params"].values())


# --- bad input


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"tasks_at_once": 0}, "tasks_at_once must be a whole number >= 1"),
        ({"n_tasks": 0}, "n_tasks must be a whole number >= 1"),
        ({"iterations": -1}, "iterations must be a whole number >= 0"),
        ({"iterations": 1e1}, "iterations must be a whole number >= 0"),
        ({"steps": 1.0}, "steps must be a whole number >= 0"),
        ({"meta_lr": float("nan")}, "meta_lr must be finite"),
        ({"inner_lr": "0.1"}, "lr must be a number, a tensor or a dict"),
        ({"criterion": nn.MSELoss}, r"is a class: pass MSELoss\(\)"),
        ({"generator": 0}, r"one of torch's, as torch.Generator"),
        ({"schedule": cosine}, r"cosine\(iterations\) makes such a schedule"),
        (
            {"sample": lambda n_tasks, generator: waves(n_tasks).support},
            r"must return Tasks\(support, query\).*got Batch",
        ),
        (
            {"sample": lambda n_tasks, generator: waves(n_tasks)},
            "x is torch.float64 and the model torch.float32",
        ),
    ],
)
def test_impossible_training_is_refused(setting, match):
    with pytest.raises(ValueError, match=match):
        train(**setting)


def test_a_model_without_parameters_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameter that requires grad"):
        train(MLP().requires_grad_(False))


class Remembers(nn.Linear):
    """Keeps a moving average of what it sees, as some modules do."""

    def __init__(self):
        super().__init__(1, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0)
        return super().forward(x)


def test_a_model_that_remembers_is_refused_and_stays_whole(tmp_path):
    model = Remembers()
    for over_tasks in ("vmap", "loop"):
        with pytest.raises(ValueError, match="changes its buffer 'seen'"):
            train(model, over_tasks=over_tasks)
    torch.save(model.state_dict(), tmp_path / "model.pt")


def test_what_vmap_cannot_batch_says_what_to_do():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(1, 1, batch_first=True)

        def forward(self, x):
            return self.rnn(x.unsqueeze(1))[0][:, -1]

    with pytest.raises(RuntimeError) as caught:
        train(Recurrent())
    assert 'over_tasks="loop"' in caught.value.__notes__[0]
    train(Recurrent(), iterations=1, over_tasks="loop")


def test_a_parameter_that_plays_no_part_is_left_alone():
    for size in (None, 2):
        model = MLP(hidden=(8,))
        model.register_parameter("idle", nn.Parameter(torch.ones(2)))
        _, history = train(model, iterations=2, tasks_at_once=size)
        assert torch.equal(history.params["idle"], torch.ones(2))


def test_inputs_that_are_not_finite_are_named():
    def sample(n_tasks, generator):
        support, query = Sinusoids().sample(
            n_tasks, k_shot=5, k_query=5, generator=generator
        )
        return Tasks(support, Batch(query.x * float("nan"), query.y))

    with pytest.raises(FloatingPointError, match="tasks hold numbers that"):
        train(sample=sample)


def test_settings_of_numpy_can_be_read_back(tmp_path):
    options = {
        "inner_lr": np.float32(0.01),
        "meta_lr": np.float64(0.01),
        "n_tasks": np.int64(4),
        "steps": np.int64(1),
    }
    _, first = train(checkpoint=tmp_path / "run.pt", **options)
    _, again = train(checkpoint=tmp_path / "run.pt", **options)
    assert again.loss == first.loss


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"inner_lr": "halved"}, "inner_lr {"),
        ({"objective": partial(reptile_loss)}, "objective meta_loss th"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, match, tmp_path):
    rates = {
        name: torch.full_like(p, 0.01)
        for name, p in MLP(hidden=(8,)).named_parameters()
    }
    train(checkpoint=tmp_path / "run.pt", inner_lr=rates)
    change = {"inner_lr": rates} | change
    if change["inner_lr"] == "halved":
        change["inner_lr"] = {name: r / 2 for name, r in rates.items()}
    with pytest.raises(ValueError, match=match):
        train(checkpoint=tmp_path / "run.pt", **change)
