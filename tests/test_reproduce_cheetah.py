"""The half-cheetah's numbers: resumed, chosen elsewhere, all written."""

import json
from argparse import ArgumentParser
from functools import partial

import pytest
import torch

from mamlkit.checkpoint import load_checkpoint
from mamlkit.reproduce import cheetah, write_result

METHODS = ("maml", "pretrained", "random")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Few runs and rates, files elsewhere; flags -> arguments."""
    monkeypatch.setattr(cheetah, "BUILD", tmp_path / "build")
    monkeypatch.setattr(cheetah, "CHECKPOINTS", tmp_path / "checkpoints")
    write = partial(write_result, folder=tmp_path / "results")
    monkeypatch.setattr(cheetah, "write_result", write)
    monkeypatch.setattr(cheetah, "RATES", (0.1, 0.5))
    monkeypatch.setattr(cheetah, "JUDGED", 2)

    def parse(*flags):
        parser = ArgumentParser()
        parser.add_argument("--seed", type=int, default=0)
        cheetah.arguments(parser)
        few = ["--rollouts", "2", "--seeds", "2"]
        few += ["--threads", str(torch.get_num_threads())]
        return parser.parse_args([*few, *flags])

    return parse


def bits(params):
    return torch.cat([p.flatten() for p in params.values()])


def test_an_interrupted_training_resumes_to_the_same_bits(small):
    cheetah.train(small("--iterations", "1"), "maml", 0)
    resumed = cheetah.train(small("--iterations", "2"), "maml", 0)
    (cheetah.BUILD / "reproduce" / "cheetah_maml_0.pt").unlink()
    straight = cheetah.train(small("--iterations", "2"), "maml", 0)
    assert resumed["curve"] == straight["curve"]
    assert torch.equal(bits(resumed["params"]), bits(straight["params"]))


def test_methods_differ_and_settings_of_another_run_are_refused(small):
    args = small("--iterations", "2")
    maml, joint = (cheetah.train(args, name, 0) for name in METHODS[:2])
    assert not torch.equal(bits(maml["params"]), bits(joint["params"]))
    with pytest.raises(ValueError, match="inner_lr"):
        cheetah.train(small("--inner-lr", "0.2"), "maml", 0)


def test_the_best_rate_of_each_step_is_taken(small):
    _, params = cheetah.policy_of(0)
    found, chosen, tried = cheetah.returns(
        small(), params, ((0.1, 0.5), (0.1, 0.5)), seed=1
    )
    assert found.shape == (3, 2)
    for step, outcomes in enumerate(tried):
        assert chosen[step] == max(outcomes, key=outcomes.get)
        best = outcomes[chosen[step]]
        assert found[step + 1].mean().item() == pytest.approx(best)


def test_judging_is_kept_and_belongs_to_its_settings(small, monkeypatch):
    returned = torch.rand(4, 2), [0.1, 0.5, 0.1], []
    monkeypatch.setattr(cheetah, "returns", lambda *_: returned)
    first = cheetah.judged(small(), "random", 0)
    monkeypatch.setattr(cheetah, "returns", None)
    again = cheetah.judged(small(), "random", 0)
    assert torch.equal(first["test"], again["test"])
    with pytest.raises(ValueError, match="surrogate lvc there, naive here"):
        cheetah.judged(small("--surrogate", "naive"), "random", 0)


def test_the_file_has_every_row_and_the_checkpoint_how_it_moves(small):
    cheetah.run(small("--iterations", "1"))
    results = cheetah.BUILD.parent / "results"
    rows = json.loads((results / "cheetah.json").read_text())["rows"]
    prefixes = {"" if m == "maml" else f"{m}_" for m in METHODS}
    assert {r["name"] for r in rows} == {
        f"{way}{prefix}return_after_{step}"
        for way in ("", "forward_", "backward_")
        for prefix in prefixes
        for step in range(4)
    }
    by_name = {r["name"]: r for r in rows}
    for step in range(4):
        both, ahead, back = (
            by_name[f"{way}return_after_{step}"]["seeds"]
            for way in ("", "forward_", "backward_")
        )
        mean = [(a + b) / 2 for a, b in zip(ahead, back)]
        assert both == pytest.approx(mean, abs=0.011)
    stored = load_checkpoint(cheetah.CHECKPOINTS / "cheetah.pt")
    assert stored["gait"]["points"].shape == (4, 2, 201, 10, 2)
    assert stored["gait"]["returns"].shape == (4, 2)
    # Before a step both rewards are given to one policy, so that what one
    # pays the other takes, and only the effort is left.
    run = stored["gait"]["points"][0, :, :, 3:5, 0].float().mean(-1) / 1000
    gone = run[:, -1] - run[:, 0]
    speeds = stored["gait"]["returns"][0] - torch.tensor([1, -1]) * gone / 0.05
    assert (speeds < 0).all() and (speeds > -200 * 6 * 0.05).all()
