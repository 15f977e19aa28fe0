"""Navigation's numbers: what is chosen, where, and that nothing is lost."""

import json
from argparse import ArgumentParser
from functools import partial

import pytest
import torch

from mamlkit import adapt
from mamlkit.checkpoint import load_checkpoint
from mamlkit.reproduce import judge_navigation, navigation, write_result
from mamlkit.rl import (
    Experience,
    GaussianPolicy,
    naive,
    policy_loss,
    repeat,
    roll_out,
    the_40_goals,
    total_return,
    weigh,
)

GOALS = torch.tensor([[0.3, 0.1], [-0.2, 0.4]])


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Few goals and rates, files elsewhere; flags -> arguments."""
    monkeypatch.setattr(navigation, "BUILD", tmp_path / "build")
    monkeypatch.setattr(navigation, "CHECKPOINTS", tmp_path / "checkpoints")
    write = partial(write_result, folder=tmp_path / "results")
    monkeypatch.setattr(navigation, "write_result", write)
    monkeypatch.setattr(judge_navigation, "RATES", ((0.0, 0.3), (0.1,)))
    monkeypatch.setattr(judge_navigation, "OTHER_GOALS", 2)
    monkeypatch.setattr(judge_navigation, "the_40_goals", lambda: GOALS)
    monkeypatch.setattr(
        navigation, "SNAPSHOTS", {"maml": (1,), "pretrained": (), "oracle": ()}
    )

    def parse(*flags):
        parser = ArgumentParser()
        parser.add_argument("--seed", type=int, default=0)
        navigation.arguments(parser)
        few = ["--tasks", "2", "--threads", str(torch.get_num_threads())]
        return parser.parse_args([*few, *flags])

    return parse


def theta(seed=0, spread=0.0):
    torch.manual_seed(seed)
    params = {k: p.detach() for k, p in GaussianPolicy().named_parameters()}
    return params | {"log_std": params["log_std"] + spread}


def bits(params):
    return torch.cat([p.flatten() for p in params.values()])


def test_an_interrupted_training_resumes_to_the_same_bits(small):
    once = navigation.train(small("--iterations", "1"), "maml", 0)
    resumed = navigation.train(small("--iterations", "2"), "maml", 0)
    file = navigation.BUILD / "reproduce" / "navigation_maml_0.pt"
    file.unlink()
    straight = navigation.train(small("--iterations", "2"), "maml", 0)
    assert resumed["curve"] == straight["curve"]
    assert torch.equal(bits(resumed["params"]), bits(straight["params"]))
    # What is kept on the way is the θ of then, not the last one.
    for state in (resumed, straight):
        assert torch.equal(bits(state["snapshots"][1]), bits(once["params"]))
    assert not torch.equal(bits(once["params"]), bits(resumed["params"]))
    assert resumed["cpu_seconds"] > 0
    with pytest.raises(ValueError, match="has 2 updates and 1 are wanted"):
        navigation.train(small("--iterations", "1"), "maml", 0)


def test_joint_training_does_not_adapt(small):
    args = small("--iterations", "2")
    curves = [
        navigation.train(args, name, 0)["curve"]
        for name in ("maml", "pretrained")
    ]
    assert curves[0] != curves[1]


def test_the_best_rate_of_each_step_is_taken():
    options = ((0.0, 0.3, 50.0), (0.0, 0.1))
    found, chosen, tried = judge_navigation.returns(
        theta(), GOALS, options, seed=1
    )
    assert found.shape == (2, 3)
    for step, outcomes in enumerate(tried):
        means = {lr: values.mean() for lr, values in outcomes.items()}
        assert tuple(outcomes) == options[step]
        assert chosen[step] == max(means, key=means.get)
        torch.testing.assert_close(found[:, step + 1], outcomes[chosen[step]])
    assert chosen[0] == 0.3


def test_each_step_starts_from_the_step_before_and_its_own_rollouts():
    generator, policy = torch.Generator().manual_seed(1), GaussianPolicy()
    stacked, expected = repeat(theta(), 2), []
    for lr in (0.3, 0.1, 0.0):
        seen = roll_out(
            stacked, policy, GOALS, rollouts=40, generator=generator
        )
        expected.append(total_return(seen))
        seen, loss_fn = weigh(seen), policy_loss(policy, naive)
        each = [
            adapt(
                {k: p[i] for k, p in stacked.items()},
                loss_fn,
                Experience(*(part[i] for part in seen)),
                lr=lr,
            )
            for i in range(2)
        ]
        stacked = {k: torch.stack([p[k] for p in each]) for k in stacked}
    found = judge_navigation.returns(theta(), GOALS, ((0.3,), (0.1,)), 1)[0]
    torch.testing.assert_close(
        found, torch.stack(expected, dim=1), rtol=1e-3, atol=1e-2
    )


def test_updates_and_rates_are_chosen_elsewhere_and_judged_on_the_40(
    small, monkeypatch
):
    asked = []

    def watched(params, goals, options, seed):
        asked.append((goals, options, seed))
        return returns(params, goals, options, seed)

    returns = judge_navigation.returns
    monkeypatch.setattr(judge_navigation, "returns", watched)
    # Where nothing adapts, to stay near the origin beats to stray.
    monkeypatch.setattr(judge_navigation, "RATES", ((0.0,), (0.0,)))
    wild, calm = theta(0), theta(0, spread=-2.0)
    found = judge_navigation.judge({7: wild, 9: calm}, n_seeds=2)
    assert found["chosen"]["updates"] == 9
    assert torch.equal(bits(found["params"]), bits(calm))
    assert set(found["tried"]) == {7, 9}
    elsewhere, tests = asked[:-2], asked[-2:]
    assert len(elsewhere) == 2 * (1 + len(judge_navigation.SHARES))
    for goals, _, _ in elsewhere:
        assert torch.equal(goals, elsewhere[0][0])
        assert not torch.equal(goals, GOALS)
    assert [seed for _, _, seed in tests] == [2_000_001, 2_000_002]
    for goals, options, _ in tests:
        assert torch.equal(goals, GOALS)
        assert [o[0] for o in options] == found["chosen"]["lr"]
        assert all(len(o) == 1 for o in options)


def test_the_step_furthest_behind_the_paper_decides():
    paper = torch.tensor([judge_navigation.TABLE_4])
    found = paper * torch.tensor([9.0, 0.5, 1.25, 0.8])
    assert judge_navigation.score(found) == pytest.approx(0.8)
    # Means over the goals are compared, not goals.
    spread = torch.cat([0.5 * found, 1.5 * found])
    assert judge_navigation.score(spread) == pytest.approx(0.8)
    assert judge_navigation.score(found[:, :3]) == pytest.approx(0.8)
    found[0, 3] = torch.nan
    assert judge_navigation.score(found) == 0.0


def test_updates_and_the_first_step_are_chosen_together(small, monkeypatch):
    full, short, between = 1.0, *judge_navigation.SHARES
    # By spread of θ and share of the best α: after one step and after two.
    outcomes = {
        (0.0, full): (-10.0, -3.4),
        (0.0, short): (-13.0, -3.2),
        (0.0, between): (-10.5, -3.3),
        (-1.0, full): (-10.0, -3.3),
        (-1.0, short): (-12.0, -2.8),
        (-1.0, between): (-11.0, -3.1),
    }

    def told(params, goals, options, seed):
        spread = params["log_std"][0].item()
        shares = {round(0.3 * share, 6): share for _, share in outcomes}
        first = round(max(options[0]), 6)
        reached = outcomes[round(spread), shares[first]]
        return torch.tensor([[-40.0, *reached]]), [first, 0.1], []

    monkeypatch.setattr(judge_navigation, "returns", told)
    found = judge_navigation.judge(
        {7: theta(), 9: theta(spread=-1.0)}, n_seeds=1
    )
    assert found["chosen"]["updates"] == 9
    assert found["chosen"]["lr"][0] == pytest.approx(0.3 * between)
    assert {*found["shares"][7]} == {full, short, between}


def test_judging_is_stored_and_belongs_to_its_settings(small, monkeypatch):
    args = small("--test-seeds", "1")
    first = navigation.judged(args, "random", 0)

    def never(*_):
        raise AssertionError("judged again")

    monkeypatch.setattr(navigation, "judge", never)
    again = navigation.judged(args, "random", 0)
    assert torch.equal(first["test"], again["test"])
    for other in (["--test-seeds", "2"], ["--inner-lr", "1"]):
        with pytest.raises(ValueError, match="settings"):
            navigation.judged(small("--test-seeds", "1", *other), "random", 0)


def test_choices_are_means_over_the_training_seeds():
    def tried(values):
        values = torch.tensor(values)
        both = torch.stack([values - 9, values + 1], dim=1)
        shares = dict.fromkeys((1.0, *judge_navigation.SHARES), both)
        return {"tried": {30: [{0.5: values}]}, "shares": {30: shares}}

    broken = tried([1.0, float("nan")])
    row, shorter, *others = judge_navigation.choices(
        {"maml": [tried([-1.0, -3.0]), tried([-3.0, -5.0])], "bad": [broken]}
    )
    assert row["name"] == "maml_30_updates_step_1_alpha_0.5"
    assert row["value"] == -3.0 and row["n"] == 2
    assert shorter["name"] == "maml_30_updates_step_1_first_alpha_x_1.0"
    assert shorter["value"] == -2.0
    assert len(others) == len(judge_navigation.SHARES)


def test_the_command_writes_returns_choices_and_weights(small, tmp_path):
    navigation.run(
        small("--iterations", "2", "--seeds", "2", "--test-seeds", "1")
    )

    def read(name):
        return json.loads((tmp_path / "results" / f"{name}.json").read_text())

    result, choices = read("navigation"), read("navigation_choices")
    rows = {r["name"]: r for r in result["rows"]}
    both = [rows[f"seed{s}_return_after_1"]["value"] for s in (0, 1)]
    assert both[0] != both[1]
    mean = rows["return_after_1"]["value"]
    assert mean == pytest.approx(sum(both) / 2, abs=2e-4)
    # Two trainings know their spread badly, and the interval says so.
    spread = 12.706 * abs(both[0] - both[1]) / 2
    assert rows["return_after_1"]["interval"] > spread
    assert rows["return_after_1"]["seeds"] == pytest.approx(both, abs=2e-4)
    assert rows["return_after_1"]["paper"] == -11.68
    assert rows["pretrained_return_after_2"]["paper"] == -11.72
    assert len(result["settings"]["cpu_seconds"]) == 2
    each = result["settings"]["seconds_each"]
    assert result["seconds"] == pytest.approx(sum(each) / 2, abs=0.1)
    curves = [
        load_checkpoint(p)["curve"]
        for p in sorted(tmp_path.glob("build/reproduce/*maml_?.pt"))
    ]
    assert result["curve"] == [
        [i + 1, pytest.approx(sum(pair) / 2, abs=1e-3)]
        for i, pair in enumerate(zip(*curves))
    ]
    assert "random_0_updates_step_1_alpha_0.3" in {
        r["name"] for r in choices["rows"]
    }
    stored = load_checkpoint(tmp_path / "checkpoints" / "navigation.pt")
    chosen = result["settings"]["chosen"]["seed0"]
    assert stored["maml"]["lr"] == chosen["lr"]
    # The weights are those that were judged: their return is found again.
    seen = roll_out(
        repeat(stored["maml"]["params"], 2),
        GaussianPolicy(),
        GOALS,
        rollouts=40,
        generator=torch.Generator().manual_seed(2_000_001),
    )
    again = total_return(seen).mean().item()
    assert again == pytest.approx(rows["seed0_return_after_0"]["value"], 1e-4)


def test_the_goals_to_choose_on_are_not_those_of_table_4():
    goals = judge_navigation.sample_goals(
        judge_navigation.OTHER_GOALS,
        generator=torch.Generator().manual_seed(1_000_001),
    )
    assert torch.cdist(goals, the_40_goals()).min() > 1e-3
