"""The outer loop: its gradient, its training, and what it refuses."""

import signal
import subprocess
import sys
import textwrap
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad
from torch.nn import functional as F

import mamlkit.checks
import mamlkit.outer
from mamlkit import (
    CNN,
    MLP,
    Batch,
    Sinusoids,
    Tasks,
    adapt,
    cosine,
    functional_loss,
    map_tasks,
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


def images(n_tasks=2, classes=3):
    def batch(each):
        y = torch.arange(classes).repeat(each).expand(n_tasks, -1)
        return Batch(
            torch.rand(n_tasks, classes * each, 1, 28, 28).double(), y
        )

    torch.manual_seed(0)
    return Tasks(batch(1), batch(2))


SHIPPED = {
    "mlp": (lambda: MLP(), F.mse_loss, waves, 0.01),
    "mlp with norm": (
        lambda: MLP(784, (16, 8), 3, norm=True),
        F.cross_entropy,
        images,
        0.1,
    ),
    "cnn": (lambda: CNN(3, width=6), F.cross_entropy, images, 0.1),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", SHIPPED)
def test_loop_and_vmap_agree_on_every_model(kind, steps):
    make, criterion, tasks, lr = SHIPPED[kind]
    torch.manual_seed(0)
    model = make().double()
    loss_fn, tasks = functional_loss(model, criterion), tasks()
    options = {"lr": lr, "steps": steps}
    loop, batched = (
        grad(meta_loss)(
            params_of(model), loss_fn, tasks, over_tasks=way, **options
        )
        for way in ("loop", "vmap")
    )
    for name in loop:
        torch.testing.assert_close(
            loop[name], batched[name], rtol=1e-8, atol=1e-11
        )


def test_meta_loss_is_the_mean_over_tasks():
    model, tasks = MLP().double(), waves()
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    one_by_one = []
    for i in range(3):
        support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
        adapted = adapt(params, loss_fn, support, lr=0.01, steps=2)
        one_by_one.append(loss_fn(adapted, query))
    actual = meta_loss(params, loss_fn, tasks, lr=0.01, steps=2)
    torch.testing.assert_close(actual, torch.stack(one_by_one).mean())


def test_order_of_tasks_does_not_matter():
    model, tasks = MLP().double(), waves(4)
    turned = Tasks(*(Batch(b.x.flip(0), b.y.flip(0)) for b in tasks))
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    torch.testing.assert_close(
        meta_loss(params, loss_fn, tasks, lr=0.01),
        meta_loss(params, loss_fn, turned, lr=0.01),
    )


@pytest.mark.parametrize("rate", [{"lr": 0}, {"lr": 0.1, "steps": 0}])
def test_without_inner_steps_it_is_joint_training(rate):
    model, tasks = MLP().double(), waves()
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    together = Batch(*(t.flatten(0, 1) for t in tasks.query))
    meta = grad(meta_loss)(params, loss_fn, tasks, **rate)
    joint = grad(loss_fn)(params, together)
    for name in params:
        torch.testing.assert_close(meta[name], joint[name])


def test_first_order_is_the_gradient_at_the_adapted_parameters():
    model, tasks = MLP().double(), waves(1)
    loss_fn, params = functional_loss(model, F.mse_loss), params_of(model)
    support, query = (Batch(b.x[0], b.y[0]) for b in tasks)
    adapted = adapt(params, loss_fn, support, lr=0.05, steps=3)
    options = {"lr": 0.05, "steps": 3}
    first = grad(meta_loss)(
        params, loss_fn, tasks, first_order=True, **options
    )
    for name, expected in grad(loss_fn)(adapted, query).items():
        torch.testing.assert_close(first[name], expected)


@pytest.mark.parametrize("curvature", [0.0, 1.5])
def test_first_order_differs_exactly_where_there_is_curvature(curvature):
    # L(w; c) = c w + curvature/2 w²
    def loss_fn(params, batch):
        w = params["w"]
        return (batch.y.mean() * w + curvature / 2 * w**2).sum()

    tasks = Tasks(
        Batch(torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])),
        Batch(torch.zeros(2, 1), torch.tensor([[3.0], [-1.0]])),
    )
    params = {"w": torch.tensor(2.0)}
    full, first = (
        grad(meta_loss)(params, loss_fn, tasks, lr=0.1, first_order=flag)["w"]
        for flag in (False, True)
    )
    assert torch.equal(full, first) == (curvature == 0)


def test_map_tasks_refuses_no_way_silently():
    with pytest.raises(ValueError, match='"vmap" or "loop"'):
        model = MLP()
        loss_fn = functional_loss(model, F.mse_loss)
        params = params_of(model)
        meta_loss(params, loss_fn, waves(), lr=0.1, over_tasks="maps")


def test_the_loop_takes_one_task_at_a_time():
    shapes = []

    def fn(support, query):
        shapes.append((support.x.shape, query.x.shape))
        return query.y.sum()

    tasks = waves(2)
    actual = map_tasks(fn, tasks, "loop")
    assert shapes == [((5, 1), (4, 1))] * 2
    torch.testing.assert_close(actual, tasks.query.y.sum((1, 2)))


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


@pytest.mark.parametrize("compile", [False, True])
def test_tasks_taken_in_parts_train_to_the_same_numbers(compile):
    _, whole = train(n_tasks=5)
    # Parts of 2, 2 and 1: each counts by its size.
    _, parts = train(n_tasks=5, tasks_at_once=2, compile=compile)
    for a, b in zip(whole.loss, parts.loss):
        assert a == pytest.approx(b, rel=1e-3)
    for name, p in whole.params.items():
        torch.testing.assert_close(parts.params[name], p, rtol=1e-3, atol=1e-4)


def test_tasks_taken_in_parts_are_seen_in_parts():
    sizes = []

    def objective(params, loss_fn, tasks, **settings):
        sizes.append(len(tasks.query.x))
        return meta_loss(params, loss_fn, tasks, **settings)

    train(n_tasks=5, iterations=1, objective=objective, tasks_at_once=2)
    assert sizes == [2, 2, 1]


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
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
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


def test_compiled_training_gives_the_same_numbers():
    _, eager = train(iterations=5)
    _, compiled = train(iterations=5, compile=True)
    for a, b in zip(eager.loss, compiled.loss):
        assert a == pytest.approx(b, rel=1e-4)


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setattr(mamlkit.checks.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match=r"needs a C\+\+ compiler"):
        _, history = train(iterations=3, compile=True)
    with warnings.catch_warnings():
        _, eager = train(iterations=3)
    assert history.loss == eager.loss


# --- bad input


def refused(model, tasks, match, criterion=F.mse_loss, **options):
    loss_fn = functional_loss(model, criterion)
    with pytest.raises(ValueError, match=match) as caught:
        meta_loss(params_of(model), loss_fn, tasks, lr=0.1, **options)
    assert "\n" not in str(caught.value)


def test_support_without_a_task_axis_is_refused():
    support, query = waves()
    alone = Tasks(Batch(support.x[0], support.y[0]), query)
    refused(MLP().double(), alone, r"one leading axis, the tasks")
    single = Tasks(*(Batch(b.x[0, :4], b.y[0, :4]) for b in waves()))
    refused(MLP().double(), single, r"a single task needs an axis of its own")


def test_different_numbers_of_tasks_are_refused():
    support, query = waves(3)
    fewer = Tasks(support, Batch(query.x[:2], query.y[:2]))
    refused(MLP().double(), fewer, r"'support.x': 3.*'query.x': 2")


def test_running_statistics_are_refused():
    model = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4)).double()
    for way in ("vmap", "loop"):
        refused(model, waves(), "track_running_stats=False", over_tasks=way)


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4)],
    ids=lambda norm: type(norm).__name__,
)
def test_fused_norms_with_weights_are_refused_under_vmap_only(norm):
    model = nn.Sequential(nn.Linear(1, 4), norm, nn.Linear(4, 1)).double()
    refused(model, waves(), 'over_tasks="loop"')
    loss_fn = functional_loss(model, F.mse_loss)
    options = {"lr": 0.1, "over_tasks": "loop"}
    assert meta_loss(params_of(model), loss_fn, waves(), **options) > 0


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


def test_examples_that_are_missing_are_refused():
    support, query = waves()
    fewer = Tasks(Batch(support.x, support.y[:, :3]), query)
    refused(MLP().double(), fewer, r"support needs as many x as y.*and 3 ex")
    none = Tasks(support, Batch(query.x[:, :0], query.y[:, :0]))
    refused(MLP().double(), none, r"query needs as many x as y, and one at l")


def test_running_statistics_that_are_only_read_are_accepted():
    """A pretrained body in eval mode, under a head that is trained."""
    body = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4)).double()
    model = nn.Sequential(body.requires_grad_(False).eval(), nn.Linear(4, 1))
    model.double()
    params = {k: p for k, p in params_of(model).items() if p.requires_grad}
    loss_fn = functional_loss(model, F.mse_loss)
    loss = meta_loss(params, loss_fn, waves(), lr=0.1, over_tasks="loop")
    assert loss > 0 and body[1].num_batches_tracked == 0
    body.train()
    refused(model, waves(), "track_running_stats=False", over_tasks="loop")


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
