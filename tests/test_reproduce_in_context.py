"""In-context experiments: a rival is what it says, and is chosen fairly."""

import math

import pytest
import torch
from torch.nn import functional as F

from mamlkit import MLP, Batch, InContextLearner, adapt, functional_loss
from mamlkit.reproduce import (
    in_context_link,
    in_context_methods,
    judge_in_context,
    longer,
    read_result,
)
from mamlkit.reproduce.in_context_characters import shares
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
from mamlkit.reproduce.in_context_probe import (
    chosen_probe,
    probe_errors,
    probed,
)
from mamlkit.reproduce.in_context_rows import error_row
from mamlkit.reproduce.in_context_trainings import (
    ContextMLP,
    any_shots,
    context_loss,
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


# --- context parameters ------------------------------------------------------


def test_context_loss_adapts_the_context_alone_and_from_zero():
    torch.manual_seed(0)
    model = ContextMLP().double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    loss_fn = functional_loss(model, F.mse_loss)
    drawn = draw("", 6, 2, seed=1)
    tasks = Tasks(*(Batch(*(t.double() for t in part)) for part in drawn))
    found = context_loss(params, loss_fn, tasks, lr=0.7, steps=1)
    expected = []
    for number in range(2):
        support, query = one(tasks, number)
        # The same by hand: a context as an input that is followed by autograd.
        context = torch.zeros(5, dtype=torch.float64, requires_grad=True)

        def error(batch, context):
            x = torch.cat([batch.x, context.expand(len(batch.x), 5)], dim=1)
            return F.mse_loss(model.net(x), batch.y)

        (slope,) = torch.autograd.grad(error(support, context), context)
        expected.append(error(query, context - 0.7 * slope))
    mean = torch.stack(expected).mean()
    torch.testing.assert_close(found, mean, rtol=1e-6, atol=0)
    off = params | {"context": torch.ones(5).double()}
    again = context_loss(off, loss_fn, tasks, lr=0.7, steps=1)
    assert torch.equal(found, again)  # where the context stood is forgotten


def test_no_outer_step_moves_the_context():
    names = [k for k, p in ContextMLP().named_parameters() if p.requires_grad]
    assert names and "context" not in names


# --- the probe ---------------------------------------------------------------


@pytest.fixture
def features(learner):
    model, params = learner
    return probed(model, params, draw("", 6, 3, seed=1))


def test_a_probe_under_a_large_penalty_is_the_transformer(learner, features):
    tasks = draw("", 6, 3, seed=1)
    found = probe_errors(features, 1e12, "head")
    torch.testing.assert_close(found, prompted(*learner, tasks))
    nothing = probe_errors(features, 1e12, "zero")
    torch.testing.assert_close(nothing, tasks.query.y.square().mean((1, 2)))


@pytest.mark.parametrize("centre", ["zero", "head"])
def test_a_probe_is_ridge_regression_for_each_task(features, centre):
    found = probe_errors(features, 0.3, centre)
    for number in range(3):
        known, asked = features.known[number], features.asked[number]
        start = features.head * (centre == "head")
        gram = known.T @ known + 0.3 * torch.eye(known.shape[1]).double()
        lacking = features.y[number] - known @ start
        w = start + torch.linalg.solve(gram, known.T @ lacking)
        error = F.mse_loss(asked @ w, features.truth[number])
        torch.testing.assert_close(found[number].double(), error)


def test_an_example_does_not_see_its_own_y(learner):
    model, params = learner
    tasks = draw("", 6, 1, seed=1)
    before = probed(model, params, tasks).known
    tasks.support.y[0, 2] += 5.0
    after = probed(model, params, tasks).known
    same = (before == after).all(-1)[0]
    assert same.tolist() == [number == 2 for number in range(6)]


def test_the_probe_is_chosen_on_validation_tasks(features):
    centre, penalty = chosen_probe(features, penalties=(0.01, 1.0))
    least = probe_errors(features, penalty, centre).mean()
    for other in ("zero", "head"):
        for size in (0.01, 1.0):
            assert least <= probe_errors(features, size, other).mean()


# --- rows --------------------------------------------------------------------


def test_a_row_of_several_trainings_tells_of_each():
    generator = torch.Generator().manual_seed(0)
    tasks = torch.rand(200, generator=generator)
    reader = torch.stack([tasks, tasks + 0.1, tasks + 0.2])
    row = error_row("a", reader + 1.0, reader, scale=4.0)
    assert (row["n"], row["trainings"]) == (200, 3)
    assert row["value"] == pytest.approx(tasks.mean().item() + 1.1, abs=1e-4)
    each = [tasks.mean().item() + 1.0 + 0.1 * i for i in range(3)]
    assert row["by_training"] == pytest.approx(each, abs=1e-4)
    for gap, half in row["gaps"]:
        assert gap == pytest.approx(1.0, abs=1e-4) and half < 1e-6
    # Wider than over tasks alone, as the trainings differ.
    alone = error_row("a", reader[1:2], reader[:1], scale=4.0)
    assert row["interval"] > 1.2 * alone["interval"]
    assert row["exploded"] == 0.0


def test_one_training_is_compared_with_each_of_the_transformer():
    tasks = torch.linspace(0, 1, 50)
    reader = torch.stack([tasks, tasks + 0.5])
    row = error_row("a", tasks[None] + 1.0, reader, scale=0.01)
    gaps = [gap for gap, _ in row["gaps"]]
    assert gaps == pytest.approx([1.0, 0.5], abs=1e-4)
    assert row["exploded"] == 1.0


def test_a_row_of_what_diverged_says_so_without_a_number():
    tasks = torch.linspace(0, 1, 50)
    errors = torch.stack([tasks, tasks])
    errors[0, 3] = math.inf
    row = error_row("a", errors, errors.nan_to_num(posinf=1.0), scale=1.0)
    assert row["value"] is None and row["interval"] is None
    assert row["exploded"] == pytest.approx(0.01)


# --- characters --------------------------------------------------------------


def test_attention_answers_with_the_share_of_each_class():
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(2, 6, 32, generator=generator)
    new = torch.randn(2, 3, 32, generator=generator)
    y = torch.tensor([[0, 0, 1, 2, 3, 4], [4, 3, 2, 1, 1, 0]])
    weights = {
        k: torch.randn(32, 32, generator=generator) / 6
        for k in ("query", "key")
    }
    found = shares(weights, known, new, y).exp()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3))
    for task in range(2):
        for query in range(3):
            q = new[task, query] @ weights["query"]
            match = known[task] @ weights["key"] @ q / 32**0.5
            share = match.exp() / match.exp().sum()
            of_three = share[y[task] == 3].sum()
            torch.testing.assert_close(found[task, query, 3], of_three)


def test_attention_stays_finite_where_nothing_matches():
    known, new = torch.zeros(1, 5, 32), torch.zeros(1, 1, 32)
    known[0, 0], new[0, 0] = 1e3, 1e3
    weights = {k: torch.eye(32) for k in ("query", "key")}
    found = shares(weights, known, new, torch.arange(5)[None])
    assert found.isfinite().all() and found.argmax() == 0


def test_the_rate_of_context_parameters_is_inside_its_grid(monkeypatch):
    trained = []

    def start(seed, lr, iterations):
        trained.append((seed, lr, iterations))
        return lr, None

    def best(run, tasks, at, rates):
        lr = run.args[0]
        return None, {1: abs(math.log(lr / 10)), 5: 9.0}

    monkeypatch.setattr(judge_in_context, "start_of_context", start)
    monkeypatch.setattr(judge_in_context, "tuned", best)
    judge_in_context.context_rate.cache_clear()
    lr, tried = judge_in_context.context_rate()
    judge_in_context.context_rate.cache_clear()
    assert lr == 9.0 and [*sorted(tried)] == [0.3, 1.0, 3.0, 9.0, 30.0]
    assert {(s, n) for s, _, n in trained} == {(0, 10_000)}


def test_untrained_networks_differ_and_are_of_the_seed():
    first, again, other = (
        judge_in_context.start_of("untrained", seed)[0] for seed in (1, 1, 2)
    )
    for name, weights in first.items():
        assert torch.equal(weights, again[name])
        assert not torch.equal(weights, other[name])


def test_every_setting_is_judged_from_every_start_once(monkeypatch, tmp_path):
    judged = []

    def errors(name, setting, k_shot, seed):
        judged.append((name, setting, k_shot, seed))
        # MAML is ahead of untrained networks by 2, give or take nothing.
        found = torch.arange(4.0) + {"untrained": 3.0}.get(name, 1.0)
        return {"best": found}, {"best": 1}

    reader = {"": torch.arange(4.0)[None], "zero_": torch.ones(1, 4)}
    monkeypatch.setattr(judge_in_context, "BUILD", tmp_path)
    monkeypatch.setattr(judge_in_context, "gradient_errors", errors)
    monkeypatch.setattr(judge_in_context, "prompt_errors", lambda *_: reader)
    monkeypatch.setattr(
        judge_in_context, "probe", lambda *_: (torch.arange(4.0), ["zero", 1])
    )
    monkeypatch.setattr(judge_in_context, "TUNED", ())
    rows, _ = judge_in_context.judge(0)
    pairs = [(n, s, k) for n, s, k, _ in judged]
    for setting, k_shot in judge_in_context.settings():
        for name in ("maml", "context", "untrained"):
            assert pairs.count((name, setting, k_shot)) == 5
        assert pairs.count(("pretrained", setting, k_shot)) == 1
    where = "shifted_lines_mse_50shot_best"
    gap = {r["name"]: r for r in rows}[f"maml_{where}_minus_untrained_{where}"]
    assert (gap["value"], gap["low"], gap["high"]) == (-2.0, -2.0, -2.0)
    assert judge_in_context.judge(0)[0] == rows and len(judged) == len(pairs)


def test_the_probes_floor_has_the_weights_that_training_began_with(
    monkeypatch,
):
    sizes = {"width": 8, "layers": 1, "heads": 2}
    monkeypatch.setitem(longer.SIZES, "transformer", sizes)
    val, tests = (draw("", 6, n, seed=n) for n in (3, 4))
    monkeypatch.setattr(judge_in_context, "tasks_of", lambda *_: val)
    monkeypatch.setattr(judge_in_context, "tests_of", lambda *_: tests)
    found, (centre, penalty) = longer.untrained_probe("", 6, seed=1)
    torch.manual_seed(1)  # as `train` does before its first step
    model = InContextLearner(**sizes)
    params = {k: p.detach() for k, p in model.named_parameters()}
    assert (centre, penalty) == chosen_probe(probed(model, params, val))
    on_tests = probed(model, params, tests)
    assert torch.equal(found, probe_errors(on_tests, penalty, centre))
    assert not torch.equal(found, longer.untrained_probe("", 6, seed=2)[0])


def test_the_stored_file_of_longer_walks_has_every_setting():
    names = {*read_result("in_context_longer")["rows"]}
    for setting, k_shot in judge_in_context.settings():
        where = f"shifted_{setting}_" if setting else ""
        where += f"mse_{k_shot}shot"
        assert f"maml_{where}_after_1000" in names
        assert k_shot == 1 or f"probe_untrained_{where}" in names


@pytest.mark.parametrize("best, better", [(1, True), (4, True), (4, False)])
def test_a_longer_walk_is_taken_where_it_is_best_elsewhere(
    monkeypatch, tmp_path, best, better
):
    """Not on the tasks that it is judged on, and with a rate of its own."""
    walks = []

    def walk(start, loss_fn, metric, *, tasks, lr, at, adam):
        on = "val" if tasks == "val" else "tests"
        walks.append((on, adam, at, lr))
        # On other tasks one optimiser is best, at 0.3 and after so many
        # steps; on the tests everything would be better without a step.
        errors = [abs(math.log(lr / 0.3)) + abs(s - best) for s in at]
        if on == "tests":
            errors = [10.0 * s for s in at]
        return torch.tensor([errors]) + (0 if adam == better else 0.5)

    def tuned_alone(run, tasks, at, rates):
        ((adam, grid),) = rates.items()
        errors = {
            lr: run(tasks=tasks, lr=lr, at=at, adam=adam)[0].tolist()
            for lr in (*grid, 0.3)
        }
        lr = min(errors, key=lambda lr: min(errors[lr]))
        return {s: (adam, lr) for s in at}, dict(zip(at, errors[lr]))

    monkeypatch.setattr(longer, "BUILD", tmp_path)
    monkeypatch.setattr(longer, "STEPS", (1, 2))
    monkeypatch.setattr(longer, "LONGER", (3, 4))
    monkeypatch.setattr(longer, "descend", walk)
    monkeypatch.setattr(longer, "tuned", tuned_alone)
    monkeypatch.setattr(longer, "start_of", lambda *_: (None, None))
    monkeypatch.setattr(longer, "tasks_of", lambda *_: "val")
    monkeypatch.setattr(longer, "tests_of", lambda *_: "tests")
    (tmp_path / "reproduce").mkdir()
    found, chosen = longer.walked("maml", "", 5, 0, 1.0)
    assert chosen["best"] == best
    name = "Adam" if better else "SGD"
    assert all(chosen[str(s)] == [name, 0.3] for s in (1, 2, 3, 4))
    assert found["best"].tolist() == [10.0 * best]
    assert ("tests", better, (1, 2, 3, 4), 0.3) in walks
    before = len(walks)
    again, _ = longer.walked("maml", "", 5, 0, 1.0)  # is read, not walked
    assert torch.equal(again["best"], found["best"]) and len(walks) == before
    with pytest.raises(ValueError, match="context_lr 1.0 there, 2.0 here"):
        longer.walked("maml", "", 5, 0, 2.0)
