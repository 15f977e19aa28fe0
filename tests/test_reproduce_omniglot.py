import json
from argparse import ArgumentParser, Namespace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from mamlkit import (
    CNN,
    Batch,
    Episodes,
    adapt,
    functional_loss,
    load_checkpoint,
    meta_loss,
)
from mamlkit.reproduce import judge, methods, omniglot, training, untrained
from mamlkit.reproduce.learned_rates import LearnedRates
from mamlkit.reproduce.omniglot_settings import LEARNED


def tasks(n_tasks=3, k_query=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 20, 1, 28, 28, generator=generator)
    return Episodes(images, 5, rotations=True).sample(
        n_tasks, k_shot=1, k_query=k_query, generator=generator
    )


@pytest.fixture
def net():
    torch.manual_seed(0)
    return CNN(5, width=4)


def test_objective_is_the_meta_loss_with_the_learned_rates(net):
    learner = LearnedRates(net, 0.3, ("body.0.", "body.1."))
    params = {k: v.detach() for k, v in learner.named_parameters()}
    params["rates.0"] = torch.tensor(0.7)  # body.3.weight, the first adapted
    loss_fn = functional_loss(learner, F.cross_entropy)
    found = learner.objective(params, loss_fn, tasks(), lr=9.0, steps=2)

    weights, rates = learner.split(params)
    assert rates["body.0.weight"] == 0 and rates["body.3.weight"] == 0.7
    assert rates["head.bias"] == torch.tensor(0.3)
    plain = functional_loss(net, F.cross_entropy)
    expected = meta_loss(weights, plain, tasks(), lr=rates, steps=2)
    torch.testing.assert_close(found, expected)


def test_meta_gradient_reaches_shared_weights_and_rates(net):
    learner = LearnedRates(net, 0.3, ("body.0.",))
    params = {
        k: v.detach().requires_grad_() for k, v in learner.named_parameters()
    }
    loss_fn = functional_loss(learner, F.cross_entropy)
    loss = learner.objective(params, loss_fn, tasks(), lr=0.0)
    grads = torch.autograd.grad(loss, list(params.values()))
    for name, gradient in zip(params, grads):
        assert gradient.abs().max() > 0, name


def test_join_undoes_split(net):
    learner = LearnedRates(net, 0.3, ("body.0.",))
    params = {k: v.detach() for k, v in learner.named_parameters()}
    joined = learner.join(*learner.split(params))
    assert joined.keys() == params.keys()
    assert all(torch.equal(joined[k], params[k]) for k in params)


def descent(net, lr):
    params = {k: v.detach() for k, v in net.named_parameters()}
    loss_fn = functional_loss(net, F.cross_entropy)
    return judge.descent(loss_fn, params, lr)


def test_single_queries_are_judged_without_the_others(net):
    params = {k: v.detach() for k, v in net.named_parameters()}
    drawn = tasks(n_tasks=20)
    walk = descent(net, 2.0)
    found = judge.accuracies(net, walk, drawn, steps=3, one_by_one=True)
    loss_fn = functional_loss(net, F.cross_entropy)
    expected = []
    for sx, sy, qx, qy in zip(*drawn.support, *drawn.query):
        adapted = adapt(params, loss_fn, Batch(sx, sy), lr=2.0, steps=3)
        right = 0
        for x, y in zip(qx, qy):
            batch = torch.cat([sx, x[None]])
            logits = torch.func.functional_call(net, adapted, (batch,))
            right += int(logits[-1].argmax() == y)
        expected.append(right / len(qy))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_chunks_do_not_change_accuracies(net, monkeypatch):
    walk = descent(net, 0.5)
    judged = partial(judge.accuracies, net, walk, tasks(5), steps=1)
    whole = judged()
    assert whole.shape == (5, 2)
    monkeypatch.setattr(judge, "CHUNK", 2)
    torch.testing.assert_close(judged(), whole)


def test_no_more_images_are_judged_at_once_than_memory_holds(net, monkeypatch):
    walk = descent(net, 0.5)
    drawn = tasks(5)
    images = drawn.query.y.shape[1] * (drawn.support.y.shape[1] + 1)
    sizes = []
    forward = judge.in_chunks

    def watched(fn, tasks, size):
        sizes.append(size)
        return forward(fn, tasks, size)

    monkeypatch.setattr(judge, "in_chunks", watched)
    monkeypatch.setattr(judge, "IMAGES", 2 * images)
    judged = partial(judge.accuracies, net, walk, drawn, steps=1)
    alone = judged(one_by_one=True)
    judged()
    assert sizes[0] == 2 and alone.shape == (5,) and sizes[1] > 2
    monkeypatch.setattr(judge, "IMAGES", 1)
    again = judged(one_by_one=True)
    assert sizes[-1] == 1
    torch.testing.assert_close(again, alone)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the experiment on random images, into a folder of its own."""
    sizes = {"train": 30, "val": 10, "test": 10}

    def load(split):
        generator = torch.Generator().manual_seed(sizes[split])
        return torch.rand(sizes[split], 20, 1, 28, 28, generator=generator)

    monkeypatch.setattr(training, "load_omniglot", load)
    for module in (training, omniglot):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(omniglot, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(omniglot, "RESULTS", tmp_path)
    # Few tasks to choose on: these networks learn nothing.
    monkeypatch.setattr(omniglot, "CHOOSE_ON", 80)
    monkeypatch.setattr(omniglot, "CHOOSE_FLOOR_ON", 20)
    monkeypatch.setitem(omniglot.COMMON, "validation_images", 20)
    monkeypatch.setattr(omniglot, "pace", lambda args: 0.1)
    monkeypatch.setattr(untrained, "RATES", (0.1, 1.0))
    monkeypatch.setattr(untrained, "STEPS", 2)
    for name in ("write_result", "read_result"):
        here = partial(getattr(omniglot, name), folder=tmp_path)
        monkeypatch.setattr(omniglot, name, here)

    def run(*flags):
        parser = ArgumentParser()
        parser.add_argument("--seed", type=int, default=0)
        omniglot.arguments(parser)
        short = "--iterations 3 --tasks 2 --test-tasks 4".split()
        omniglot.run(parser.parse_args([*short, *flags]))
        newest = max(tmp_path.glob("*.json"), key=lambda p: p.stat().st_mtime)
        return json.loads(newest.read_text())

    return run


def test_a_run_writes_its_result_and_weights(run, tmp_path, capsys):
    result = run("--model", "mlp", "--shared", "1.", "2.")
    assert result["experiment"] == "omniglot_mlp_5way_1shot"
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["accuracy"]["paper"] == 89.7 and rows["accuracy"]["n"] == 4
    steps = result["settings"]["test_steps"]
    after = rows[f"accuracy_after_{steps}"]["value"]
    assert rows["accuracy"]["value"] == after
    state = load_checkpoint(tmp_path / "omniglot_mlp_5way_1shot.pt")
    assert state["inner_lr"].keys() == state["params"].keys()
    assert state["inner_lr"]["1.weight"] == 0
    assert state["inner_lr"]["4.weight"] != 0


def test_a_finished_run_is_judged_again_to_the_same_numbers(run, capsys):
    first = run("--model", "mlp")
    assert run("--model", "mlp") == first


def test_a_run_begins_where_another_ended(run, tmp_path, capsys):
    run("--model", "mlp")
    start = tmp_path / "omniglot_mlp_5way_1shot.pt"
    before = load_checkpoint(start)
    flags = ("--model", "mlp", "--ways", "10", "--iterations", "0")
    result = run(*flags, "--start", str(start))
    assert result["settings"]["started_from"]["ways"] == 5
    after = load_checkpoint(tmp_path / "omniglot_mlp_10way_1shot.pt")
    assert torch.equal(
        after["params"]["1.weight"], before["params"]["1.weight"]
    )
    rate = after["inner_lr"]["4.weight"] / before["inner_lr"]["4.weight"]
    assert rate == pytest.approx(2.0)
    assert after["params"]["13.bias"].shape == (10,)


def test_every_run_begins_from_a_checkpoint_that_is_there():
    starts = [s["start"] for s in LEARNED.values() if "start" in s]
    assert starts and all(path.exists() for path in starts), starts


def test_a_start_of_another_architecture_is_refused(run, tmp_path, capsys):
    fixed = ("--method", "fixed", "--threads", "1")
    run("--model", "mlp", *fixed)
    start = str(tmp_path / "omniglot_mlp_fixed_5way_1shot.pt")
    with pytest.raises(ValueError, match="no weight in .* fits this model"):
        run("--start", start, *fixed, "--ways", "4")


def test_a_short_run_joins_the_table_of_choices(run, tmp_path, capsys):
    kept = {"name": "old", "value": 1.0}
    table = {"settings": {}, "seconds": 2.0, "rows": [kept]}
    path = tmp_path / "omniglot_choices.json"
    path.write_text(json.dumps(table))
    flags = "--model mlp --name small --choose --no-jitter".split()
    table = run(*flags)
    old, new = table["rows"]
    assert old == kept and new["name"] == "small" and new["n"] == 8
    assert new["settings"]["tasks"] == 2 and not new["settings"]["jitter"]
    assert table["seconds"] > 2.0
    assert not (tmp_path / "small.json").exists()
    assert len(run(*flags, "--jitter")["rows"]) == 2  # replaced, not added


def test_distorted_images_teach_something_else(run, tmp_path, capsys):
    for name, flag in (("plain", "--no-jitter"), ("moved", "--jitter")):
        run("--model", "mlp", "--name", name, flag)
    plain, moved = (
        load_checkpoint(tmp_path / f"{name}.pt")["params"]["1.weight"]
        for name in ("plain", "moved")
    )
    assert plain.shape == moved.shape and not torch.equal(plain, moved)


def test_mirror_images_join_as_characters_of_their_own(run, monkeypatch):
    seen = []

    def watched(images, n_way, rotations):
        seen.append(images)
        return Episodes(images, n_way, rotations)

    monkeypatch.setattr(training, "Episodes", watched)
    run("--model", "mlp", "--name", "mirrored", "--mirror")
    # The sizes of `run` tell the splits apart: only training has mirrors.
    assert sorted({len(images) for images in seen}) == [10, 60]
    plain, mirrored = max(seen, key=len).split(30)
    assert torch.equal(mirrored, plain.flip(-1))
    assert not torch.equal(mirrored, plain)


def test_a_refit_goes_on_with_the_validation_characters(run, monkeypatch):
    run("--model", "mlp")
    seen, drawn = [], []
    monkeypatch.setattr(
        omniglot, "draw", lambda split, *rest: drawn.append(split) or tasks()
    )
    episodes = training.Episodes

    def watched(images, n_way, rotations):
        seen.append(images)
        return episodes(images, n_way, rotations)

    monkeypatch.setattr(training, "Episodes", watched)
    result = run("--model", "mlp", "--refit")
    assert result["experiment"] == "omniglot_mlp_5way_1shot_refit"
    before = result["settings"]["started_from"]
    assert before["name"] == "omniglot_mlp_5way_1shot"
    # Rounded to a tenth, and the refit takes three iterations only.
    assert result["seconds"] >= round(before["trained_seconds"], 1)
    assert before["trained_seconds"] > 0
    (images,) = seen  # of 30 and 10 characters
    assert torch.equal(images[30:], training.load_omniglot("val"))
    # Nothing may be chosen with characters that were trained on. (The floor
    # is that of the run before.)
    assert result["curve"] == [] and drawn == ["test"]
    assert result["settings"]["validation_by_steps"] is None
    assert result["settings"]["test_steps"] == 1


@pytest.mark.parametrize("method", ["fixed", "reptile", "anil", "imaml"])
def test_every_method_can_be_judged_again_from_its_checkpoint(
    run, tmp_path, method, capsys
):
    few = "--steps 2 --test-steps 2 --most-steps 2 --queries 1".split()
    result = run("--model", "mlp", "--method", method, *few)
    name = f"omniglot_mlp_{method}_5way_1shot"
    assert result["experiment"] == name
    rows = {row["name"]: row["value"] for row in result["rows"]}
    assert "untrained_accuracy" in rows and "accuracy_after_2" in rows
    assert result["settings"]["untrained"]["lr"] >= min(untrained.RATES)
    state = load_checkpoint(tmp_path / f"{name}.pt")
    args = Namespace(**result["settings"] | {"test_tasks": 4})
    net = training.build("mlp", 5)
    walk = methods.walk_of(method, net, methods.unpacked(state), args)
    test = training.draw("test", args, 4)
    found = 100 * judge.accuracies(net, walk, test, steps=state["steps"])
    assert found[:, -1].mean().item() == pytest.approx(rows["accuracy"])


def test_the_floor_alone_is_that_of_a_training(run, tmp_path):
    alone = run("--model", "mlp", "--floor")
    assert alone["experiment"] == "omniglot_untrained_mlp_5way_1shot"
    (tmp_path / f"{alone['experiment']}.json").unlink()
    beside = run("--model", "mlp", "--method", "fixed", "--queries", "1")
    assert alone["rows"] == [beside["rows"][-1]]
    assert alone["settings"]["untrained"] == beside["settings"]["untrained"]


def test_one_floor_is_measured_once(run, monkeypatch):
    flags = ("--model", "mlp", "--queries", "1", "--method")
    floor = run(*flags, "fixed")["rows"][-1]
    asked = []

    def measure(args):
        asked.append(args.method)
        return floor, {}

    monkeypatch.setattr(omniglot, "judge_untrained", measure)
    assert run(*flags, "fomaml")["rows"][-1] == floor and not asked
    run(*flags, "anil")  # adapts the head alone
    run(*flags, "imaml", "--seed", "1")  # other weights
    assert asked == ["anil", "imaml"]


def test_the_floor_on_more_tasks_counts(run, tmp_path):
    flags = ("--model", "mlp", "--queries", "1", "--method")
    few = run(*flags, "fixed")["rows"][-1]
    many = run("--model", "mlp", "--floor", "--test-tasks", "12")["rows"][-1]
    assert few["n"] < many["n"] == 12
    assert run(*flags, "imaml")["rows"][-1] == many


def test_a_floor_that_was_broken_off_goes_on(run, monkeypatch):
    flags = "--model mlp --floor --test-tasks 150".split()
    whole = run(*flags)["rows"]
    judged, asked = untrained.accuracies, []
    left = iter(range(3))  # two rates and the first hundred tasks

    def until_killed(*args, **kwargs):
        asked.append(args)
        if next(left, None) is None:
            raise KeyboardInterrupt
        return judged(*args, **kwargs)

    monkeypatch.setattr(untrained, "accuracies", until_killed)
    kept = omniglot.BUILD / "reproduce"
    (kept / "omniglot_untrained_mlp_5way_1shot_floor.pt").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(*flags)
    left = iter(range(9))
    asked.clear()
    assert run(*flags)["rows"] == whole and len(asked) == 1
    with pytest.raises(ValueError, match="test_tasks 150 there, 4 here"):
        run("--model", "mlp", "--floor")


def test_the_pace_is_the_time_of_an_iteration(run, monkeypatch):
    seen, clock = [], iter([0.0, 5.0, 10.0, 25.0] * 3)
    monkeypatch.setattr(training.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(
        training, "train", lambda args, judged: seen.append(args.iterations)
    )
    found = training.pace(Namespace(iterations=7))
    assert seen == [1, 11] * 3 and found == pytest.approx(1.0)
