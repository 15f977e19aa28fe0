"""The outer loop: its gradient, its training, and what it refuses."""

import math
import os
import re
import signal
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
    BatchNorm,
    Sinusoids,
    TaskArrays,
    Tasks,
    cosine,
    functional_loss,
    gradient_of,
    imaml_loss,
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


def small():
    torch.manual_seed(0)
    return MLP(hidden=(8,))


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
    options = {"iterations": done + 50, "validate": lambda params: 0.0}
    _, resumed = train(checkpoint=path, **options)
    _, whole = train(**options)
    assert resumed.loss == whole.loss
    assert same(resumed.params, whole.params)


@pytest.mark.parametrize("where", ["", "runs"])
def test_a_checkpoint_that_is_no_file_is_refused(where, tmp_path):
    where = where and str(tmp_path)
    said = f"checkpoint must name a file, .* got {re.escape(repr(where))}"
    with pytest.raises(ValueError, match=said):
        train(checkpoint=where)


def test_a_finished_run_is_read_back_not_repeated(tmp_path):
    path = tmp_path / "run.pt"
    _, first = train(checkpoint=path)
    _, again = train(checkpoint=path, model=MLP(hidden=(8,)))
    assert again.loss == first.loss and same(again.params, first.params)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train(checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"inner_lr 0.01 there, 0.5 here"):
        train(checkpoint=tmp_path / "run.pt", inner_lr=0.5)


def spoiling(at):
    """Adam whose step number `at` leaves weights that are not finite."""

    class Spoiling(torch.optim.Adam):
        calls = 0

        def step(self):
            super().step()
            self.calls += 1
            if self.calls == at:
                self.param_groups[0]["params"][0].data.fill_(math.nan)

    return Spoiling


def huge(at):
    """A sampler whose call number `at` gives an infinite loss."""
    calls = []

    def sample(n_tasks, generator):
        calls.append(1)
        one = {"k_shot": 5, "k_query": 5, "generator": generator}
        support, query = Sinusoids().sample(n_tasks, **one)
        scale = 1e30 if len(calls) == at else 1
        return Tasks(support, Batch(query.x, query.y * scale))

    return sample


def test_a_diverging_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(mamlkit.outer, "CHECKPOINT_SECONDS", 0)

    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match=r"at iteration 13: lower"):
        train(checkpoint=path, optimizer=spoiling(13))
    state = torch.load(path)
    assert state["iteration"] == 12
    assert all(p.isfinite().all() for p in state["params"].values())


def test_weights_survive_a_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    twin, _ = train()
    torch.manual_seed(0)
    model = MLP(hidden=(8,))
    with pytest.raises(ValueError, match="cannot write"):
        train(model, checkpoint=tmp_path / "file" / "run.pt")
    assert same(dict(model.named_parameters()), dict(twin.named_parameters()))


def test_divergence_with_several_inputs_is_told():
    class Two(nn.Linear):
        def forward(self, a, b):
            return super().forward(a * b)

    def sample(n_tasks, generator):
        x = torch.rand(n_tasks, 5, 1, generator=generator)
        batch = Batch({"a": x, "b": x}, x * math.nan if broken else x)
        return Tasks(batch, batch)

    for broken, message in ((True, "tasks hold numbers"), (False, "lower")):
        lr = {"inner_lr": 0.01 if broken else 1e30, "steps": 3}
        with pytest.raises(FloatingPointError, match=message):
            train(Two(1, 1), sample=sample, **lr)


def test_the_bar_is_hidden_where_the_environment_says_so(capsys):
    train(iterations=2)
    assert "/2 [" in capsys.readouterr().err
    # tqdm asks the environment when it is imported.
    code = """
    from functools import partial
    import torch
    from mamlkit import MLP, Sinusoids, meta_train
    meta_train(MLP(), partial(Sinusoids().sample, k_shot=2, k_query=2),
               criterion=torch.nn.MSELoss(), inner_lr=0.1, meta_lr=0.1,
               n_tasks=2, iterations=2, generator=torch.Generator())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True,
        capture_output=True, text=True,
        env=os.environ | {"TQDM_DISABLE": "1"},
    )  # fmt: skip
    assert "/2 [" not in done.stderr


# --- what validation chooses


def falls_until(turn, slope=1):
    """A validation that is best at its call number `turn`."""
    calls = []

    def validate(params):
        calls.append({name: p.clone() for name, p in params.items()})
        return slope * abs(len(calls) - turn)

    validate.calls = calls
    return validate


def test_validation_gets_a_copy_that_it_may_keep_or_change():
    kept = []

    def keeps(params):
        kept.append((params, {k: p.clone() for k, p in params.items()}))
        return 0.0

    def spoils(params):
        for p in params.values():
            p.zero_()
        return 0.0

    _, plain = train()
    _, with_keeping = train(validate=keeps)
    _, with_spoiling = train(validate=spoils)
    for params, copy in kept:
        assert same(params, copy)
    assert not same(kept[0][0], kept[-1][0])
    assert plain.loss == with_keeping.loss == with_spoiling.loss
    assert same(plain.params, with_spoiling.params)


@pytest.mark.parametrize("maximize", [False, True])
def test_history_knows_where_validation_was_best(maximize):
    validate = falls_until(4, -1 if maximize else 1)
    model, history = train(iterations=40, validate=validate, maximize=maximize)
    iteration, value, params = history.best
    assert (iteration, value) == (8, 0.0)
    assert same(params, validate.calls[3])
    assert same(history.params, dict(model.named_parameters()))
    assert not same(history.params, params)
    validate = falls_until(4, -1 if maximize else 1)
    _, worst = train(iterations=40, validate=validate, maximize=not maximize)
    assert worst.best.iteration == 40


def test_the_best_weights_are_left_in_the_model_if_they_are_wanted():
    validate = falls_until(4)
    model, history = train(iterations=40, validate=validate, keep="best")
    assert same(history.params, validate.calls[3])
    assert same(dict(model.named_parameters()), validate.calls[3])
    assert len(history.loss) == 40


def test_the_first_of_equals_is_best_and_not_a_number_never_is():
    values = iter([float("nan"), 2.0, 1.0, 1.0, float("nan")] + [3.0] * 15)
    _, history = train(validate=lambda params: next(values), keep="best")
    assert history.best[:2] == (3, 1.0)
    _, history = train(validate=lambda params: float("nan"), keep="best")
    assert history.best is None and history.params


def test_patience_stops_when_nothing_better_came():
    validate = falls_until(4)
    _, history = train(iterations=40, validate=validate, patience=3)
    assert len(validate.calls) == 7 and len(history.loss) == 14
    assert history.best.iteration == 8
    _, history = train(validate=falls_until(30), patience=3)
    assert len(history.loss) == 20
    _, history = train(validate=lambda params: math.nan, patience=2)
    assert len(history.validation) == 2


class Halved(nn.Module):
    """A frozen encoder of half the digits, and a head that is trained."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(1, 4).bfloat16().requires_grad_(False)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.encoder(x).float())


def test_doubles_are_refused_where_the_model_would_take_them():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.by * x.sin()

    def doubles(n_tasks, generator):
        return waves(n_tasks, generator.initial_seed())

    with pytest.raises(ValueError, match="x is torch.float64 and the model"):
        train(Scaled(), sample=doubles)


def test_x_may_be_of_a_frozen_parts_type():
    def sample(n_tasks, generator):
        tasks = waves(n_tasks, generator.initial_seed())
        return Tasks(*(Batch(b.x.bfloat16(), b.y.float()) for b in tasks))

    _, history = train(Halved(), sample=sample, iterations=2)
    assert not same(history.params, history.start)


# --- the optimizer


def images(order=torch.contiguous_format):
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1)
    return nn.Sequential(*layers).to(memory_format=order)


def pictures(n_tasks, generator):
    draw = partial(torch.randn, generator=generator)
    batches = [Batch(draw(n_tasks, 3, 2, 4, 4), draw(n_tasks, 3, 1))] * 2
    return Tasks(*batches)


@pytest.mark.parametrize("halves", [1, 2])
def test_the_order_in_memory_changes_nothing(halves, tmp_path, monkeypatch):
    def rows_first(*args, **options):
        gradient = gradient_of(*args, **options)

        def contiguous(*args):  # as compiled code and other ranks return it
            grads, loss = gradient(*args)
            return {k: g.contiguous() for k, g in grads.items()}, loss

        return contiguous

    monkeypatch.setattr(mamlkit.outer, "gradient_of", rows_first)
    options = {"sample": pictures, "checkpoint": tmp_path / "run.pt"}
    if halves == 2:  # the first half in the usual order
        train(images(), iterations=4, **options)
    _, found = train(images(torch.channels_last), iterations=8, **options)
    _, usual = train(images(), iterations=8, sample=pictures)
    for name, p in usual.params.items():
        torch.testing.assert_close(found.params[name], p)


def test_the_outer_optimizer_is_an_argument():
    class Down(torch.optim.Optimizer):
        """Plain descent, and nothing else."""

        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad

    _, plain = train(optimizer=Down)
    _, sgd = train(optimizer=torch.optim.SGD)
    _, heavy = train(optimizer=partial(torch.optim.SGD, momentum=0.9))
    for name, p in plain.params.items():
        torch.testing.assert_close(p, sgd.params[name])
        assert not torch.allclose(p, heavy.params[name])
    _, adam = train(optimizer=partial(torch.optim.Adam, fused=True))
    assert same(adam.params, train()[1].params)


def test_every_group_keeps_its_own_rate_under_a_schedule():
    seen = []

    class Grouped(torch.optim.SGD):
        def __init__(self, params, lr):
            groups = [{"params": params[:1], "lr": 10 * lr},
                      {"params": params[1:]}]  # fmt: skip
            super().__init__(groups, lr=lr)

        def step(self):
            seen.append([group["lr"] for group in self.param_groups])
            super().step()

    train(optimizer=Grouped, meta_lr=0.01, iterations=2,
          schedule=lambda i: 1 - i / 2)  # fmt: skip
    assert seen == [[0.1, 0.01], [0.05, 0.005]]


def test_long_gradients_are_clipped_and_short_ones_are_not():
    options = {"optimizer": torch.optim.SGD, "meta_lr": 1.0, "iterations": 1}
    moved = {}
    for clip in (None, 1e-3, 1e9):
        model, history = train(clip=clip, **options)
        moved[clip] = torch.cat(
            [(p - history.start[k]).flatten()
             for k, p in history.params.items()]
        )  # fmt: skip
    assert moved[1e-3].norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert torch.equal(moved[None], moved[1e9])
    direction = moved[None] / moved[None].norm()
    torch.testing.assert_close(
        moved[1e-3] / moved[1e-3].norm(), direction, rtol=1e-3, atol=1e-3
    )


# --- logging, interruption, going on


def test_the_callback_sees_every_iteration_once():
    seen = []

    def callback(done, history):
        seen.append((done, history.loss[-1], len(history.loss)))

    _, history = train(callback=callback)
    assert seen == [(i, loss, i) for i, loss in enumerate(history.loss, 1)]


def test_the_callback_has_a_copy_of_the_weights_of_its_iteration():
    seen, judged = {}, {}

    def callback(done, history):
        seen[done] = dict(history.params)
        for p in history.params.values():
            p.add_(0)  # not those that are trained, which require grad
        history.params.clear()

    def validate(params):
        judged[len(judged) + 1] = params
        return 0.0

    _, history = train(callback=callback, validate=validate, iterations=20)
    assert len(seen) == len(judged) == 20
    assert all(same(seen[done], judged[done]) for done in seen)
    assert same(seen[20], history.params) and not same(seen[1], seen[20])


def stopping(at, error):
    def callback(done, history):
        if done == at:
            raise error

    return callback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("mine")])
@pytest.mark.parametrize("when", ["callback", "validate", "sample"])
def test_interrupted_it_leaves_what_it_has_and_goes_on(when, error, tmp_path):
    path, calls = tmp_path / "run.pt", []
    sample = partial(Sinusoids().sample, k_shot=5, k_query=5)

    def after(fn, result):
        calls.append(1)
        if len(calls) == 12:
            raise error
        return result if fn is None else fn

    hooks = {
        "callback": {"callback": lambda *args: after(None, None)},
        "validate": {"validate": lambda params: after(None, 0.0)},
        "sample": {
            "sample": lambda n_tasks, generator: after(
                sample(n_tasks, generator=generator), None
            )
        },
    }[when]
    model = small()
    start = {k: p.clone() for k, p in model.named_parameters()}
    with pytest.raises(type(error)):
        train(model, checkpoint=path, **hooks)
    done = torch.load(path)["iteration"]
    assert done == {"callback": 12, "validate": 12, "sample": 11}[when]
    # The weights in the model are those of as many iterations.
    _, short = train(iterations=done)
    assert same(short.params, dict(model.named_parameters()))
    assert not same(start, dict(model.named_parameters()))
    options = {"validate": lambda params: 0.0} if when == "validate" else {}
    _, resumed = train(checkpoint=path, **options)
    _, whole = train(**options)
    assert resumed.loss == whole.loss and same(resumed.params, whole.params)
    assert resumed.validation == whole.validation
    assert same(resumed.start, whole.start)


@pytest.fixture
def heard():
    """Ctrl-C is heard, which it is not in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_in_the_middle_of_an_update_waits_until_it_is_whole(tmp_path):
    class Pressed(torch.optim.SGD):
        """Presses Ctrl-C between the first parameter and the others."""

        def step(self):
            first, *others = self.param_groups[0]["params"]
            self.param_groups[0]["params"] = [first]
            super().step()
            signal.raise_signal(signal.SIGINT)
            self.param_groups[0]["params"] = others
            super().step()
            self.param_groups[0]["params"] = [first, *others]

    model, path = small(), tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer=Pressed, checkpoint=path)
    assert torch.load(path)["iteration"] == 1
    _, whole = train(optimizer=torch.optim.SGD, iterations=1)
    assert same(whole.params, dict(model.named_parameters()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_diverged_leaves_the_model_as_it_came(tmp_path):
    model, path = small(), tmp_path / "run.pt"
    before = {k: p.clone() for k, p in model.named_parameters()}
    for at, hooks in (
        (6, {}),
        (20, {}),  # the last step
        (6, {"callback": stopping(6, KeyboardInterrupt())}),
    ):
        with pytest.raises((FloatingPointError, KeyboardInterrupt)):
            train(model, optimizer=spoiling(at), checkpoint=path, **hooks)
        assert same(before, dict(model.named_parameters()))
        assert not path.exists()


def test_a_loss_that_is_not_finite_takes_nothing_with_it(tmp_path):
    model, path = small(), tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match="at iteration 12: lower"):
        train(model, sample=huge(13), checkpoint=path)
    _, short = train(iterations=12, sample=huge(0))
    assert same(short.params, dict(model.named_parameters()))
    state = torch.load(path)
    assert state["iteration"] == 12 and same(short.params, state["params"])
    # It meets the bad tasks again, and goes on where there are none.
    with pytest.raises(FloatingPointError, match="at iteration 12: lower"):
        train(model, sample=huge(1), checkpoint=path)
    assert same(short.params, dict(model.named_parameters()))
    _, resumed = train(sample=huge(0), checkpoint=path)
    assert resumed.loss == train(sample=huge(0))[1].loss


@pytest.mark.parametrize("at", [12, 20])
@pytest.mark.parametrize("how", ["loss", "weights"])
def test_a_run_that_diverged_leaves_the_best(how, at, tmp_path):
    validate, path = falls_until(4), tmp_path / "run.pt"
    options = {"sample": huge(at)} if how == "loss" else {}
    options |= {"optimizer": spoiling(at)} if how == "weights" else {}
    model = small()
    with pytest.raises(FloatingPointError):
        train(
            model, validate=validate, keep="best", checkpoint=path, **options
        )
    assert same(validate.calls[3], dict(model.named_parameters()))
    assert path.exists() == (how == "loss")


def test_other_rates_go_on_from_the_checkpoint_as_the_message_says(tmp_path):
    model, path = small(), tmp_path / "run.pt"
    rate = {"inner_lr": nn.Parameter(torch.tensor(0.01))}
    with pytest.raises(FloatingPointError, match="12: lower") as caught:
        train(model, sample=huge(13), checkpoint=path, **rate)
    said = str(caught.value)
    advice = said[said.index("model.load") : said.index(", under")]
    left, model = dict(model.named_parameters()), small()
    eval(advice, vars(mamlkit) | {"path": path, "model": model})
    assert same(left, dict(model.named_parameters()))
    train(model, checkpoint=tmp_path / "other.pt", meta_lr=0.001)


def nans_at(name, frozen=False):
    model = small()
    model.get_parameter(name).data[0] = math.nan
    model.get_parameter(name).requires_grad_(not frozen)
    return model


def fails(outputs, y):
    return F.mse_loss(outputs, y) / 0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model": nans_at("1.bias")}, ValueError, "'1.bias' holds numbers"),
        (
            {"inner_lr": nn.Parameter(torch.tensor(math.nan))},
            ValueError,
            "'inner_lr' holds numbers",
        ),
        (
            {"model": nans_at("3.bias", frozen=True)},
            FloatingPointError,
            "nan at iteration 0 before any inner step: .*criterion",
        ),
        ({"criterion": fails}, FloatingPointError, "nan at iteration 0 befor"),
        ({"inner_lr": 1e38}, FloatingPointError, "at iteration 0: lower inn"),
        (
            {
                "objective": lambda *given, **options: (
                    meta_loss(*given, **options) * math.nan
                )
            },
            FloatingPointError,
            "nan at iteration 0: lower",
        ),
    ],
)
@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_what_is_to_blame_is_named_where_it_is_not_the_rates(
    options, error, match, way
):
    with pytest.raises(error, match=match):
        train(over_tasks=way, **options)


def test_longer_iterations_go_on_from_a_finished_run(tmp_path):
    path = tmp_path / "run.pt"
    train(iterations=8, checkpoint=path)
    _, longer = train(iterations=20, checkpoint=path)
    _, whole = train(iterations=20)
    assert longer.loss == whole.loss and same(longer.params, whole.params)
    assert longer.seconds > 0
    with pytest.raises(ValueError, match="has done 20 iterations and 10 are"):
        train(iterations=10, checkpoint=path)


def test_what_was_best_before_an_interruption_is_best_after_it(tmp_path):
    path = tmp_path / "run.pt"
    first = falls_until(4)
    train(iterations=10, validate=first, checkpoint=path)
    _, history = train(
        iterations=20, validate=lambda params: 9.0, keep="best",
        checkpoint=path,
    )  # fmt: skip
    assert history.best.iteration == 4
    assert same(history.params, first.calls[3])
    # Patience counts on: nothing was better since.
    _, history = train(
        iterations=40, validate=lambda params: 9.0, patience=3,
        checkpoint=path,
    )  # fmt: skip
    assert len(history.loss) == 20


class Dropping(nn.Sequential):
    """Draws from torch's own generator."""

    def __init__(self):
        super().__init__(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_dropout_goes_on_to_the_same_bits(way, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"

    def run(**options):
        torch.manual_seed(0)
        model = Dropping()
        return train(model, over_tasks=way, **options)[1]

    whole = run(iterations=12)
    with pytest.raises(KeyboardInterrupt):
        run(
            iterations=12, checkpoint=path,
            callback=stopping(7, KeyboardInterrupt()),
        )  # fmt: skip
    torch.rand(5)  # another session's draws
    resumed = run(iterations=12, checkpoint=path)
    assert resumed.loss == whole.loss and same(resumed.params, whole.params)
    # The same when a timed checkpoint is all that is left.
    monkeypatch.setattr(mamlkit.outer, "CHECKPOINT_SECONDS", 0)
    kept = []

    def keep(done, history):
        if done == 7:
            kept.append(path.read_bytes())

    path.unlink()
    run(iterations=12, checkpoint=path, callback=keep)
    path.write_bytes(kept[0])
    assert torch.load(path)["iteration"] == 6
    assert run(iterations=12, checkpoint=path).loss == whole.loss


# --- bad input


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"tasks_at_once": 0}, "tasks_at_once must be a whole number >= 1"),
        ({"n_tasks": 0}, "n_tasks must be a whole number >= 1"),
        ({"n_tasks": True}, "n_tasks must be a whole number >= 1, got True"),
        ({"n_tasks": "4"}, "n_tasks must be a whole number >= 1, got '4'"),
        ({"iterations": -1}, "iterations must be a whole number >= 0"),
        ({"iterations": 1e1}, "iterations must be a whole number >= 0"),
        ({"steps": 1.0}, "steps must be a whole number >= 0"),
        ({"meta_lr": float("nan")}, "meta_lr must be finite"),
        ({"inner_lr": "0.1"}, "lr must be a number, a tensor, a dict"),
        ({"criterion": nn.MSELoss}, r"is a class: pass MSELoss\(\)"),
        ({"keep": "worst"}, 'keep must be "last" or "best"'),
        ({"keep": "best"}, "need validate"),
        ({"patience": 2}, "need validate"),
        ({"patience": 0}, "patience must be a whole number >= 1"),
        ({"clip": 0}, "clip must be > 0"),
        ({"generator": 0}, r"one of torch's, as torch.Generator"),
        ({"schedule": cosine}, r"cosine\(iterations\) makes such a schedule"),
        (
            {"schedule": lambda i: 1.0 if i < 9 else math.nan},
            "schedule must map an iteration to a finite number, got nan for 9",
        ),
        ({"schedule": lambda i: math.inf}, "finite number, got inf for 0"),
        ({"schedule": 0.5}, "schedule must be a function, got 0.5"),
        ({"callback": 3}, "callback must be a function, got 3"),
        ({"objective": "maml"}, "objective must be a function, got 'maml'"),
        ({"objective": None}, "objective must be a function, got None"),
        ({"criterion": None}, "criterion must be a function.* got None"),
        ({"criterion": "mse"}, "criterion must be a function.* got 'mse'"),
        ({"validate": 3}, "validate must be a function, got 3"),
        ({"model": MLP}, r"model must be a module, as MLP\(\), got <class"),
        ({"meta_lr": "1e-3"}, "meta_lr must be a Python number, got '1e-3'"),
        ({"meta_lr": torch.tensor(0.1)}, r"a Python number, got tensor\(0.1"),
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


ARRAYS = TaskArrays(torch.zeros(5, 9, 1), torch.zeros(5, 9, 1))
EXAMPLES = torch.utils.data.TensorDataset(torch.zeros(9, 1), torch.zeros(9))


@pytest.mark.parametrize(
    ("sample", "match"),
    [
        (ARRAYS, r"got a TaskArrays: partial\(….sample, k_shot=…"),
        (Sinusoids(), r"got a Sinusoids: partial\(….sample, k_shot=…"),
        (EXAMPLES, r"got a TensorDataset: .*TaskArrays.from_groups\(x, y, gr"),
        (torch.utils.data.DataLoader(EXAMPLES), "got a DataLoader: .*from_gr"),
        ([waves()], "got a list"),
        (ARRAYS.sample, "but missing a required .*'k_shot'.* makes one"),
        (lambda n_tasks: waves(n_tasks), "unexpected keyword .*'generator'"),
        (lambda: iter([waves()]), "but too many positional arguments"),
    ],
)
def test_what_is_no_sampler_is_told_what_to_write_instead(sample, match):
    with pytest.raises(ValueError, match=match) as caught:
        train(sample=sample)
    assert "sample_tasks must be a function, called as" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_criterion_is_judged_before_a_checkpoint_is_compared(tmp_path):
    train(checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="criterion must be a function"):
        train(checkpoint=tmp_path / "run.pt", criterion=None)


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_one_task_without_an_axis_of_its_own_is_told_so(over_tasks):
    batch = Batch(torch.zeros(5, 3), torch.zeros(5, 1))
    alone = {"sample": lambda n_tasks, generator: Tasks(batch, batch)}
    said = r"it has 3 x and 1 y: a single task needs an axis.*x\[None\]"
    with pytest.raises(ValueError, match=said):
        train(nn.Linear(3, 1), over_tasks=over_tasks, **alone)


PAIR = Batch(torch.zeros(4, 5, 1), torch.zeros(4, 5, 1))


@pytest.mark.parametrize(
    ("tasks", "bad"),
    [
        (
            Tasks(Batch(PAIR.x.numpy(), PAIR.y), None),
            "support.x is of type ndarray",
        ),
        (Tasks(PAIR, Batch(PAIR.x, {"y": PAIR.y})), "query.y is of type dict"),
        (Tasks(PAIR, None), "query is of type NoneType"),
        (Tasks(PAIR, PAIR.x), "query is of type Tensor"),
        (
            Tasks(PAIR, Batch((PAIR.x, None), PAIR.y)),
            r"x\[1\] is of type None",
        ),
        (Tasks(PAIR, Batch({}, PAIR.y)), "query.x is empty"),
        ((PAIR, PAIR), "got tuple$"),
        (None, "got NoneType$"),
    ],
)
def test_the_part_of_tasks_that_is_wrong_is_named(tasks, bad):
    with pytest.raises(ValueError, match=f"must return Tasks.*{bad}"):
        train(sample=lambda n_tasks, generator: tasks)


def test_a_model_that_is_wrapped_for_many_processes_is_refused():
    with pytest.raises(ValueError, match="the module itself, model.module"):
        train(nn.DataParallel(MLP()))


def test_a_compiled_model_is_refused_as_its_names_are_others():
    with pytest.raises(ValueError, match="the module itself, and compile=Tr"):
        train(torch.compile(MLP()))


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

    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x + 1 if x.sum() > 0 else x)

    for make in (Recurrent, partial(Branching, 1, 1)):
        for trial in (True, False):
            if make is Recurrent and not trial:
                continue  # PyTorch's message says nothing of vmap
            with pytest.raises(RuntimeError) as caught:
                train(make(), trial=trial)
            (note,) = caught.value.__notes__
            assert 'over_tasks="loop"' in note and "first" not in note
        train(make(), iterations=1, over_tasks="loop")


def test_what_has_no_second_derivative_says_what_to_do():
    class Attentive(nn.Linear):
        def forward(self, x):
            x = super().forward(x)[None, None]
            return F.scaled_dot_product_attention(x, x, x)[0, 0]

    for over_tasks in ("vmap", "loop"):
        with pytest.raises(RuntimeError) as caught:
            train(Attentive(1, 1), over_tasks=over_tasks)
        (note,) = caught.value.__notes__
        assert "first_order=True" in note and "loop" not in note
    train(Attentive(1, 1), first_order=True, iterations=1)


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_errors_that_are_not_vmaps_bear_no_note(over_tasks):
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        train(nn.Linear(4, 1), over_tasks=over_tasks)
    assert not hasattr(caught.value, "__notes__")


def test_running_statistics_name_what_resnets_take():
    class Resnet(nn.Sequential):
        def __init__(self, norm_layer=nn.BatchNorm1d):
            super().__init__(nn.Linear(1, 4), norm_layer(4), nn.Linear(4, 1))

    with pytest.raises(ValueError, match="norm_layer= of a resnet"):
        train(Resnet(), iterations=1)
    train(Resnet(norm_layer=mamlkit.BatchNorm), iterations=1)


@pytest.mark.parametrize("iterations", [2, 30])
def test_a_parameter_that_plays_no_part_is_left_alone_and_named(iterations):
    for size in (None, 2):
        model = MLP(hidden=(8,))
        model.register_parameter("idle", nn.Parameter(torch.ones(2)))
        options = {"iterations": iterations, "tasks_at_once": size}
        with pytest.warns(UserWarning, match="has reached idle:") as said:
            _, history = train(model, **options)
        assert len(said) == 1 and said[0].filename == __file__
        assert torch.equal(history.params["idle"], torch.ones(2))


class Cut(nn.Module):
    """A body that is shut off from the gradient."""

    def __init__(self, how):
        super().__init__()
        self.body, self.head, self.how = nn.Linear(1, 4), nn.Linear(4, 1), how

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                features = self.body(x)
            return self.head(features)
        return self.head(self.body(x).detach())


@pytest.mark.parametrize("way", ["vmap", "loop"])
@pytest.mark.parametrize("how", ["no_grad", "detach"])
@pytest.mark.parametrize(
    "objective",
    [meta_loss, reptile_loss, partial(imaml_loss, strength=10.0)],
)
def test_a_part_without_gradient_is_named_whatever_the_objective(
    how, way, objective
):
    model = Cut(how)
    before = model.body.weight.clone()
    with pytest.warns(UserWarning, match="reached body.bias, body.weight:"):
        train(model, over_tasks=way, objective=objective, iterations=3)
    assert torch.equal(model.body.weight, before)


@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_a_model_without_any_gradient_is_refused(way):
    class Shut(MLP):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="no gradient reaches any parameter"):
        train(Shut(), over_tasks=way)


def test_what_begins_at_zero_and_moves_later_is_not_named(recwarn):
    class Gate(nn.Module):
        """Its inner part gets no gradient until the gate has opened."""

        def __init__(self):
            super().__init__()
            self.plain, self.part = nn.Linear(1, 1), nn.Linear(1, 1)
            self.gate = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.plain(x) + self.gate * self.part(x).tanh()

    for first_order in (False, True):
        train(Gate(), iterations=30, first_order=first_order)
    assert not [w for w in recwarn if "gradient" in str(w.message)]


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
        ({"inner_lr": "halved"}, r"inner_lr.1.bias \[0.009.* there, \[0.004"),
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


@pytest.mark.parametrize(
    ("one", "other", "match"),
    [
        (nn.ReLU(), nn.Tanh(), r"layers.function ….*ReLU.* there, ….*Tanh"),
        (
            BatchNorm(8),
            BatchNorm(8, eps=0.5),
            r"\(layers.with.2.eps 1e-05 there, 0.5 here\)",
        ),
    ],
)
def test_a_checkpoint_of_other_layers_is_refused(one, other, match, tmp_path):
    def model(layer):
        layers = [*small()]
        return nn.Sequential(*layers[:2], layer, layers[3])

    path = tmp_path / "run.pt"
    train(model(one), checkpoint=path)
    with pytest.raises(ValueError, match=match):
        train(model(other), checkpoint=path)
    train(model(one), checkpoint=path)


def test_an_optimizer_that_is_already_made_is_refused():
    made = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match="class or function.* finished SGD"):
        train(optimizer=made)


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_a_penalty_on_the_models_own_weights_is_refused(over_tasks):
    model = MLP(hidden=(8,))

    def penalised(outputs, y):
        size = sum(p.square().sum() for p in model.parameters())
        return F.mse_loss(outputs, y) + size

    weight, bias, *_ = model.parameters()
    slope = bias.grad = torch.ones_like(bias)
    with pytest.raises(ValueError, match=r"reads the model's own '.*weight'"):
        train(model, criterion=penalised, over_tasks=over_tasks)
    assert bias.grad is slope and weight.grad is None


@pytest.mark.parametrize("found", [None, (1.0, 0.1), torch.ones(3)])
def test_validation_must_find_one_number(found):
    with pytest.raises(ValueError, match="must return one number, got a"):
        train(validate=lambda params: found)
