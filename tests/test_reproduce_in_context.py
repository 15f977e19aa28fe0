"""In-context experiments: a rival is what it says, and is chosen fairly."""

import math

import pytest
import torch
from torch.nn import functional as F

from mamlkit import MLP, Batch, InContextLearner, adapt, functional_loss
from mamlkit.reproduce import in_context_link, in_context_methods
from mamlkit.reproduce.in_context_methods import (
    best_for_one_point,
    closed_form,
    descend,
    draw,
    line_basis,
    prompt_losses,
    prompted,
    tuned,
    wave_basis,
    without_each,
)
from mamlkit.reproduce.in_context_trainings import (
    any_shots,
    prompt_loss,
    warm_cosine,
)
from mamlkit.tasks import Tasks


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = MLP(hidden=(8,))
    start = {k: p.detach() for k, p in model.named_parameters()}
    return start, functional_loss(model, F.mse_loss)


@pytest.fixture
def learner():
    torch.manual_seed(0)
    model = InContextLearner()
    return model, {k: p.detach() for k, p in model.named_parameters()}


def one(tasks, number):
    return (Batch(*(t[number] for t in part)) for part in tasks)


def test_descending_is_adapt(net):
    start, loss_fn = net
    tasks = draw("", 5, 3, seed=1)
    found = descend(start, loss_fn, loss_fn, tasks, lr=0.05, at=(1, 4))
    assert found.shape == (3, 2)
    support, query = one(tasks, 2)
    for column, steps in enumerate((1, 4)):
        adapted = adapt(start, loss_fn, support, lr=0.05, steps=steps)
        torch.testing.assert_close(found[2, column], loss_fn(adapted, query))


def test_adam_is_torchs_adam_for_each_task(net):
    start, loss_fn = net
    tasks = draw("", 5, 3, seed=1)
    found = descend(
        start, loss_fn, loss_fn, tasks, lr=0.01, at=(2, 7), adam=True
    )
    support, query = one(tasks, 1)
    params = {k: p.clone().requires_grad_() for k, p in start.items()}
    optimizer = torch.optim.Adam(params.values(), lr=0.01)
    for _ in range(7):
        optimizer.zero_grad()
        loss_fn(params, support).backward()
        optimizer.step()
    expected = loss_fn(params, query).detach()
    torch.testing.assert_close(found[1, 1], expected, rtol=1e-4, atol=1e-5)


def test_a_task_that_diverges_costs_infinity(net):
    start, loss_fn = net
    tasks = draw("", 5, 3, seed=1)
    found = descend(start, loss_fn, loss_fn, tasks, lr=1e4, at=(1, 30))
    assert (found[:, 1] == math.inf).all()


def test_the_best_rate_is_found_beyond_the_grid():
    asked = []

    def run(*, tasks, lr, at, adam):
        asked.append((adam, lr))
        # Best at 0.9 with SGD after 1 step, at 0.1 with Adam after 2.
        one = (math.log(lr / 0.9) ** 2) + 5 * adam
        two = (math.log(lr / 0.1) ** 2) + 5 * (not adam)
        return torch.tensor([[one, two]]).expand(3, 2)

    choice, errors = tuned(run, None, (1, 2), {False: (0.1,), True: (0.1,)})
    assert choice[1] == (False, pytest.approx(0.9))
    assert choice[2] == (True, 0.1) and errors[2] == 0
    assert len(asked) == len(set(asked))  # nothing is run twice


def test_least_squares_finds_a_wave_from_two_points_and_a_line():
    assert closed_form(wave_basis, draw("", 2, 50, seed=1)).median() < 1e-6
    assert closed_form(line_basis, draw("lines", 3, 50, seed=1)).max() < 1e-6
    assert closed_form(line_basis, draw("", 3, 50, seed=1)).mean() > 1


def test_the_best_answer_to_one_point_is_a_posterior_mean():
    tasks = draw("", 1, 4, seed=2)
    found = best_for_one_point(tasks)
    # Waves that pass near the point, out of many.
    generator = torch.Generator().manual_seed(0)
    rand = torch.rand(2, 4_000_000, generator=generator)
    amplitude, phase = 0.1 + 4.9 * rand[0], math.pi * rand[1]
    for number in range(4):
        support, query = one(tasks, number)
        y = amplitude * torch.sin(support.x[0, 0] - phase)
        near = (y - support.y[0, 0]).abs() < 0.02
        waves = amplitude[near] * torch.sin(query.x - phase[near])
        error = F.mse_loss(waves.mean(1, keepdim=True), query.y)
        torch.testing.assert_close(found[number], error, rtol=0.1, atol=0.02)


def test_noise_is_in_the_support_alone():
    clean, noisy = draw("", 10, 500, seed=3), draw("noise", 10, 500, seed=3)
    torch.testing.assert_close(clean.query.y, noisy.query.y)
    noise = noisy.support.y - clean.support.y
    assert abs(noise.std() - 1) < 0.05


@pytest.mark.parametrize(
    "setting, low, high", [("amplitude", 5, 10), ("", 0.1, 5)]
)
def test_amplitudes_are_of_the_setting(setting, low, high):
    tasks = draw(setting, 1, 300, seed=1)
    largest = tasks.query.y.abs().amax((1, 2))
    assert low * 0.9 <= largest.max() <= high
    assert largest.max() > 0.9 * high


def test_each_example_is_left_out_in_turn():
    support = Batch(torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4, 1))
    prompts, left_out = without_each(support)
    assert prompts.x.shape == (1, 4, 3, 1)
    assert prompts.x[0, 1].flatten().tolist() == [0, 2, 3]
    assert left_out.flatten().tolist() == [0, 1, 2, 3]


def test_tuning_the_transformer_lowers_its_error_on_examples_left_out(learner):
    model, params = learner
    loss_fn, metric = prompt_losses(model)
    tasks = draw("", 6, 2, seed=1)
    pairs = Tasks(tasks.support, (tasks.support, tasks.query))
    begin = descend(params, loss_fn, metric, pairs, lr=0.0, at=(1,))[:, 0]
    torch.testing.assert_close(begin, prompted(model, params, tasks))
    support, _ = one(tasks, 0)
    better = adapt(params, loss_fn, support, lr=1e-4)
    assert loss_fn(better, support) < loss_fn(params, support)


def test_prompts_are_of_every_length_and_their_loss_is_of_the_queries(learner):
    generator = torch.Generator().manual_seed(0)
    seen = {
        any_shots(1, generator=generator).support.x.shape[1]
        for _ in range(300)
    }
    assert seen == {*range(1, 21)}
    model, params = learner
    tasks = draw("", 4, 3, seed=1)
    loss = prompt_loss(params, None, tasks, model=model)
    torch.testing.assert_close(loss, prompted(model, params, tasks).mean())


def test_the_schedule_rises_and_falls():
    assert warm_cosine(1000, 0) == pytest.approx(1 / 200)
    assert warm_cosine(1000, 500) == pytest.approx(0.5)
    assert warm_cosine(1000, 1000) == pytest.approx(0)


def test_a_trained_layer_comes_near_the_step(monkeypatch):
    monkeypatch.setattr(in_context_link, "ITERATIONS", 400)
    monkeypatch.setattr(in_context_link, "TESTS", 2_000)
    rows = {r["name"]: r for r in in_context_link.link_rows(range(2))}
    step, layer = rows["link_gradient_step"], rows["link_trained"]
    assert step["value"] < 0.7 * rows["link_zero"]["value"]
    assert layer["value"] == pytest.approx(step["value"], rel=0.05)
    assert rows["link_apart"]["value"] < 0.1 * step["value"]


def test_the_grid_of_settings_is_whole():
    assert set(in_context_methods.SETTINGS) == {
        "", "amplitude", "phase", "x", "noise", "lines", "harmonics",
    }  # fmt: skip
