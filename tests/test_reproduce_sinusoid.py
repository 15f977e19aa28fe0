"""The sinusoid's numbers: heavy tails are told, and steer no choice."""

import json
from argparse import ArgumentParser
from functools import partial

import pytest
import torch

from mamlkit import load_checkpoint
from mamlkit.reproduce import read_result, sinusoid, write_result


def by_name(rows):
    return {row["name"]: row for row in rows}


def test_one_explosion_moves_the_mean_only():
    calm = torch.linspace(0, 2, 1000)
    wild = calm.clone()
    wild[7] = 1e30
    before, after = (
        by_name(sinusoid.summaries("mse", v, 0.5)) for v in (calm, wild)
    )
    assert before["mse"]["value"] == pytest.approx(1.0, abs=1e-3)
    assert after["mse"]["value"] > 1e26 and after["mse"]["paper"] == 0.5
    for name in ("mse_median", "mse_trimmed"):
        change = after[name]["value"] - before[name]["value"]
        assert abs(change) < 0.003, name
    assert before["mse_exploded"]["value"] == 0
    assert after["mse_exploded"]["value"] == pytest.approx(0.1)


def test_the_interval_of_the_median_covers_it_in_95_of_100_draws():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        values = torch.rand(400, generator=generator) ** 3  # median 1/8
        row = by_name(sinusoid.summaries("mse", values))["mse_median"]
        hits += abs(row["value"] - 0.125) <= row["interval"]
    assert 0.92 < hits / 400 < 0.98


def test_a_rate_that_explodes_is_not_chosen():
    tried = {0.01: (0.5, 0.0), 0.02: (0.4, 0.0), 0.05: (0.3, 1e-4)}
    assert sinusoid.choose(tried) == 0.02
    with pytest.raises(ValueError, match=r"every rate explodes.*0\.05"):
        sinusoid.choose({0.05: (0.3, 1e-4)})


def test_an_error_that_overflows_is_counted_not_lost():
    net = sinusoid.MLP()
    params = {k: p.detach() for k, p in net.named_parameters()}
    found = sinusoid.curve(params, 50.0, 5, 30, seed=0)
    assert found.isfinite().all() and (found[:, 10] > 100).any()
    _, share = sinusoid.validation(params, 50.0, 30)
    assert share > 0


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(sinusoid, "BUILD", tmp_path / "build")
    monkeypatch.setattr(sinusoid, "CHECKPOINTS", tmp_path)
    for name, fn in (
        ("write_result", write_result),
        ("read_result", read_result),
    ):
        monkeypatch.setattr(sinusoid, name, partial(fn, folder=tmp_path))

    def run(*flags):
        parser = ArgumentParser()
        parser.add_argument("--seed", type=int, default=0)
        sinusoid.arguments(parser)
        short = "--iterations 4 --no-compile --test-tasks 40".split()
        short += ["--validation-tasks", "60"]
        sinusoid.run(parser.parse_args([*short, *flags]))
        return json.loads((tmp_path / "sinusoid.json").read_text())

    return run


def test_judging_again_trains_nothing_and_finds_the_same(
    run, monkeypatch, tmp_path, capsys
):
    first = run()
    rows = by_name(first["rows"])
    for name in ("zero_mse", "blind_mse", "oracle_mse",
                 "untrained_mse_5shot_after_10_median"):  # fmt: skip
        assert name in rows
    assert rows["blind_mse"]["value"] < rows["zero_mse"]["value"]
    assert first["curve"][-1][0] == 4
    monkeypatch.setattr(sinusoid, "train", None)
    again = run("--judge")
    assert again["rows"] == first["rows"]
    assert again["curve"] == first["curve"]
    lr = first["settings"]["fine_tuning_lr"]
    assert load_checkpoint(tmp_path / "sinusoid.pt")["fine_tuning_lr"] == lr


def test_judging_trains_what_is_missing(run, tmp_path, capsys):
    first = run()
    path = tmp_path / "sinusoid.pt"
    state = torch.load(path)
    theta = state.pop("maml_other")
    torch.save(state, path)
    (tmp_path / "build").rename(tmp_path / "gone")
    assert run("--judge")["rows"] == first["rows"]
    for name, p in torch.load(path)["maml_other"].items():
        assert torch.equal(p, theta[name])
