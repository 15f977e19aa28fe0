"""Tensors stay where they are told to be, on devices that are here or not.

The meta device, which has shapes and no numbers, stands for an accelerator:
what is drawn on the wrong device, or mixed with another, fails there too.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mamlkit import (
    CNN,
    MLP,
    Episodes,
    Harmonics,
    Sinusoids,
    SinusoidsAndLines,
    TaskArrays,
    adaptation_curve,
    functional_loss,
    meta_train,
)
from mamlkit.checkpoint import training_settings
from mamlkit.datasets.faces import draw_faces
from mamlkit.reproduce.jitter import jitter
from mamlkit.rl import (
    GaussianPolicy,
    linear_baseline,
    meta_trpo_step,
    repeat,
    roll_out,
    sample_goals,
    surrogate,
    the_40_goals,
    weigh,
)

META = torch.device("meta")
SIZES = {"k_shot": 2, "k_query": 3}


class OnMeta(torch.Generator):
    """A generator that says it is on the meta device."""

    device = META


def kinds(tasks):
    return {t.device.type for batch in tasks for t in batch}


FAMILIES = (Sinusoids(), Sinusoids(oracle=True), Harmonics(),
            SinusoidsAndLines())  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_families_draw_on_the_generators_device(family):
    tasks = family.sample(4, generator=OnMeta(), **SIZES)
    assert kinds(tasks) == {"meta"}


def test_goals_and_faces_are_drawn_on_the_generators_device():
    assert sample_goals(3, generator=OnMeta()).device == META
    faces = draw_faces(2, 3, generator=OnMeta())
    assert faces.device == META and faces.shape == (2, 3, 1, 28, 28)


def test_data_stay_where_they_are_whatever_draws_from_them():
    generator = torch.Generator()
    x, y = torch.zeros(5, 6, 4, device=META), torch.zeros(5, 6, device=META)
    tasks = TaskArrays(x, y).sample(2, generator=generator, **SIZES)
    assert kinds(tasks) == {"meta"}
    episodes = Episodes(torch.zeros(5, 6, 1, 8, 8), n_way=2, rotations=False)
    object.__setattr__(episodes, "images", episodes.images.to(META))
    tasks = episodes.sample(2, generator=generator, **SIZES)
    assert kinds(tasks) == {"meta"}
    images = torch.zeros(2, 1, 8, 8, device=META)
    assert jitter(images, generator).device == META


def test_rollouts_are_where_the_goals_are_whatever_draws_the_noise():
    policy = GaussianPolicy().to(META)
    params = {k: p.detach() for k, p in policy.named_parameters()}
    rollouts = roll_out(
        repeat(params, 3), policy, torch.zeros(3, 2, device=META),
        rollouts=2, generator=torch.Generator(), horizon=4,
    )  # fmt: skip
    assert {t.device.type for t in rollouts} == {"meta"}


def test_curve_moves_the_tasks():
    model = MLP().to(META)
    params = {k: p.detach() for k, p in model.named_parameters()}
    tasks = Sinusoids().sample(4, generator=torch.Generator(), **SIZES)
    loss_fn = functional_loss(model, F.mse_loss)
    curve = adaptation_curve(params, loss_fn, loss_fn, tasks, lr=0.1, steps=2)
    assert curve.device == META and curve.shape == (4, 3)


class WithoutFloat64(torch.Tensor):
    """A tensor that refuses float64, as those on MPS do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        found = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return found.as_subclass(torch.Tensor)  # which has it
        if isinstance(found, cls) and found.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        return found


class OnlyByCpu(torch.Tensor):
    """A tensor whose numbers can be had from its copy on the CPU alone."""

    def cpu(self):
        return torch.full((3,), 0.1)


def test_settings_may_lie_where_there_is_no_float64():
    rate = torch.full((3,), torch.nan).as_subclass(OnlyByCpu)
    settings = training_settings(
        torch.Generator(), {}, criterion=F.mse_loss, inner_lr={"w": rate}
    )
    kept = settings["inner_lr"]["w"]
    assert kept == torch.full((3,), 0.1).tolist()


def test_baseline_is_fitted_where_there_is_float64(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 3, 10, 2, generator=generator)
    returns = torch.randn(2, 3, 10, generator=generator)
    given = (states, returns, torch.ones(2, 3, 10))
    expected = linear_baseline(*given)
    refusing = [t.as_subclass(WithoutFloat64) for t in given]
    with pytest.raises(TypeError, match="no float64"):
        linear_baseline(*refusing)
    monkeypatch.setattr(surrogate, "WITHOUT_FLOAT64", ("cpu",))
    assert torch.equal(linear_baseline(*refusing), expected)


here = {
    "cuda": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
}


@pytest.fixture(params=["cuda", "mps"])
def device(request):
    if not here[request.param]:
        pytest.skip(f"no {request.param} here")
    return torch.device(request.param)


@pytest.mark.parametrize("drawn", ["there", "on the cpu"])
def test_accelerator_trains_resumes_and_judges(device, drawn, tmp_path):
    def generator():
        where = device if drawn == "there" else "cpu"
        return torch.Generator(where).manual_seed(0)

    def sample(n_tasks, generator):
        images = torch.rand(6, 5, 1, 28, 28).to(device)
        return Episodes(images, n_way=3, rotations=True).sample(
            n_tasks, generator=generator, **SIZES
        )

    options = {
        "criterion": F.cross_entropy, "inner_lr": 0.1, "meta_lr": 1e-3,
        "n_tasks": 2, "checkpoint": tmp_path / "run.pt",
    }  # fmt: skip
    model = CNN(3, width=4).to(device)
    options["inner_lr"] = {
        k: torch.full((), 0.1, device=device)
        for k, _ in model.named_parameters()
    }
    for _ in range(2):  # the second time only resumes
        history = meta_train(
            model, sample, iterations=3, generator=generator(), **options
        )
    assert len(history.loss) == 3
    assert all(p.device.type == device.type for p in model.parameters())
    tasks = sample(2, generator())
    loss_fn = functional_loss(model, F.cross_entropy)
    curve = adaptation_curve(
        history.params, loss_fn, loss_fn, tasks, lr=0.1, steps=1
    )
    assert curve.isfinite().all() and curve.device.type == device.type


@pytest.mark.parametrize("drawn", ["there", "on the cpu"])
def test_accelerator_walks(device, drawn):
    where = device if drawn == "there" else "cpu"
    generator = torch.Generator(where).manual_seed(0)
    policy = GaussianPolicy().to(device)
    params = {k: p.detach() for k, p in policy.named_parameters()}
    goals = the_40_goals()[:3].to(device)
    rollouts = roll_out(
        repeat(params, 3), policy, goals,
        rollouts=2, generator=generator, horizon=5,
    )  # fmt: skip
    assert weigh(rollouts).advantages.device.type == device.type
    params, reached = meta_trpo_step(
        params, policy, goals, lr=0.1, generator=generator, rollouts=2
    )
    assert reached.isfinite()
    assert {p.device.type for p in params.values()} == {device.type}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_accelerator_draws(device, family):
    generator = torch.Generator(device).manual_seed(0)
    tasks = family.sample(4, generator=generator, **SIZES)
    assert kinds(tasks) == {device.type}
    arrays = TaskArrays(np.zeros((3, 6, 2)), np.zeros((3, 6)))
    assert kinds(arrays.sample(2, generator=generator, **SIZES)) == {"cpu"}
    faces = draw_faces(2, 2, generator=generator)
    assert faces.isfinite().all() and faces.device.type == device.type
    assert jitter(faces[:, 0], generator).isfinite().all()
