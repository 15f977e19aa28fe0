"""The comparison of variants: equal time, equal iterations, paired tasks."""

import json
from argparse import ArgumentParser
from functools import partial

import pytest
import torch

from mamlkit.outer import History
from mamlkit.reproduce import training, variants, write_result


def test_a_curve_is_read_between_its_points():
    history = History(validation=[(100, 50.0), (200, 70.0), (300, 80.0)])
    assert variants.at(history, 150) == 60
    assert variants.at(history, 300) == 80
    assert variants.at(history, 50) == 50


def test_a_plateau_does_not_climb():
    values = [10.0 * i for i in range(1, 11)] + [100.0] * 10
    flat = History(validation=list(enumerate(values)))
    steep = History(validation=list(enumerate(range(20))))
    assert variants.climb(flat) == 0 and variants.climb(steep) == 5


def test_a_difference_is_between_the_same_tasks():
    task = torch.linspace(0, 100, 50)
    found = {"a": task + torch.tensor([[1.0], [2.0], [3.0]]),
             "b": task.repeat(4, 1)}  # fmt: skip
    row = variants.difference_row("a", "b", found)
    assert row["value"] == pytest.approx(2.0, abs=1e-3)
    assert 1 <= row["low"] < row["high"] <= 3 and row["n"] == 3


@pytest.fixture
def run(tmp_path, monkeypatch):
    def load(split):
        g = torch.Generator().manual_seed(len(split))
        return torch.rand(12, 20, 1, 28, 28, generator=g)

    for module in (training, variants):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(training, "load_omniglot", load)
    monkeypatch.setitem(variants.omniglot.COMMON, "validation_images", 20)
    for method in ("reptile", "imaml"):
        own = variants.omniglot.VARIANTS[method] | {
            "steps": 1, "test_steps": 1, "validation_images": 20,
        }  # fmt: skip
        monkeypatch.setitem(variants.omniglot.VARIANTS, method, own)
    here = partial(write_result, folder=tmp_path)
    monkeypatch.setattr(variants, "write_result", here)
    monkeypatch.setattr(training, "PROBE", 1)

    def run(*flags):
        parser = ArgumentParser()
        parser.add_argument("--seed", type=int, default=0)
        variants.arguments(parser)
        few = "--seeds 2 --width 4 --test-tasks 6 --budget 0".split()
        variants.run(parser.parse_args([*few, *flags]))
        return json.loads((tmp_path / "variants_5way.json").read_text())

    return run


def test_a_run_compares_every_pair_and_resumes(run, monkeypatch, capsys):
    flags = ("--variants", "fomaml", "reptile", "anil")
    first = run(*flags)
    names = {row["name"] for row in first["rows"]}
    assert {"fomaml_minus_anil", "fomaml_minus_reptile",
            "reptile_minus_anil", "anil_equal_iterations",
            "reptile_equal_seconds", "fomaml_last_climb"} <= names  # fmt: skip
    settings = first["settings"]
    assert settings["iterations"] == dict.fromkeys(flags[1:], 20)
    assert not settings["by_variant"]["fomaml"]["anneal"]
    assert len(first["curve"]) == 3 * 2 * 20
    # What was trained is there: the same numbers, at the same paces.
    monkeypatch.setattr(variants, "pace", None)
    again = run(*flags)
    assert again["rows"] == first["rows"]
    assert again["curve"] == first["curve"]
