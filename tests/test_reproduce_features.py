"""How features move, and what the nearest class mean says."""

import json
from argparse import ArgumentParser
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from mamlkit import CNN, Batch, Episodes, functional_loss
from mamlkit.checkpoint import save_checkpoint
from mamlkit.reproduce import features, judge, training, write_result


@pytest.fixture
def net():
    torch.manual_seed(0)
    return CNN(5, width=4)


def params_of(net):
    return {k: p.detach() for k, p in net.named_parameters()}


def tasks(n_tasks=3, k_shot=2, k_query=2):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(8, 20, 1, 28, 28, generator=g)
    return Episodes(images, 5, rotations=True).sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=g
    )


def descent(net, lr):
    loss_fn = functional_loss(net, F.cross_entropy)
    return judge.descent(loss_fn, params_of(net), lr)


def test_layers_end_in_what_the_network_says(net):
    x = tasks().query.x[0]
    found = features.layers(net, params_of(net), x)
    assert len(found) == len(features.LAYERS)
    torch.testing.assert_close(found[-1], net(x))
    torch.testing.assert_close(found[3], net.body(x).flatten(1))


def test_alignment_sees_through_rotations_and_scales_only():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 5, generator=g, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=g).double()).Q
    same = features.alignment(x, 3 * x @ turn + 7)
    torch.testing.assert_close(same, torch.ones_like(same))
    other = torch.randn(30, 5, generator=g, dtype=torch.float64)
    # Kornblith et al. 2019, Eq. 3, written out for linear kernels.
    a, b = x - x.mean(0), other - other.mean(0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    found = features.alignment(x, other)
    torch.testing.assert_close(found, expected)
    assert found < 0.6


def test_features_do_not_move_without_a_step_and_do_with_one(net):
    drawn = tasks()
    still = features.movement(net, descent(net, 0.0), 1)(drawn)
    assert still.shape == (3, len(features.LAYERS), 2)
    torch.testing.assert_close(still, torch.ones_like(still))
    moved = features.movement(net, descent(net, 1.0), 2)(drawn)
    assert (moved[:, -1] < 0.999).any()
    twice = features.movement(net, descent(net, 1.0), 1)(drawn)
    assert not torch.allclose(moved, twice)


def test_nearest_mean_is_that_of_the_adapted_features(net):
    drawn, n_way = tasks(4), 5
    walk = descent(net, 1.0)
    for steps in (0, 2):
        found = features.nearest_mean(net, walk, n_way, steps=steps)(drawn)
        for t, accuracy in enumerate(found):
            pairs = zip(*drawn.support, *drawn.query)
            sx, sy, qx, qy = list(pairs)[t]
            *_, end = walk(Batch(sx, sy), steps)
            known, asked = (features.layers(net, end, x)[-2] for x in (sx, qx))
            means = torch.stack([known[sy == n].mean(0) for n in range(5)])
            alike = F.cosine_similarity(asked[:, None], means, dim=-1)
            right = (alike.argmax(1) == qy).float().mean()
            torch.testing.assert_close(accuracy, right)


def test_the_best_head_is_the_network_with_a_still_body(net, monkeypatch):
    monkeypatch.setattr(features, "RATES", (0.1, 1.0))
    monkeypatch.setattr(features, "MOST_STEPS", 3)
    params, drawn = params_of(net), tasks(6)
    walk, steps, choice = features.best_head(net, params, drawn)
    assert choice["tried"][str(choice["lr"])][1] == steps <= 3
    # The same by the long way: the whole network, its body's rate at zero.
    rates = {k: choice["lr"] * k.startswith("head.") for k in params}
    slow = judge.accuracies(net, descent(net, rates), drawn, steps=3)
    known = features.frozen(net, params, drawn)
    fast = judge.accuracies(net.head, walk, known, steps=3)
    assert torch.equal(fast, slow) and len(slow.unique()) > 2
    assert choice["tried"][str(choice["lr"])][0] == pytest.approx(
        100 * slow.mean(0).max().item(), abs=0.06
    )


def test_of_equally_good_rates_the_head_takes_the_quickest(net, monkeypatch):
    monkeypatch.setattr(features, "RATES", (0.1, 0.2, 0.3))
    steps = {0.1: 3, 0.2: 1, 0.3: 2}

    def accuracies(net, walk, tasks, *, steps):
        right = torch.zeros(1, steps + 1)
        right[:, walk:] = 0.9
        return right

    monkeypatch.setattr(features, "head_walk", lambda *a: steps[a[-1]])
    monkeypatch.setattr(features, "accuracies", accuracies)
    _, taken, choice = features.best_head(net, params_of(net), tasks(2))
    assert (taken, choice["lr"]) == (1, 0.2)


def test_a_run_asks_the_networks_that_are_there(
    tmp_path, monkeypatch, capsys, net
):
    def load(split):
        g = torch.Generator().manual_seed(len(split))
        return torch.rand(10, 20, 1, 28, 28, generator=g)

    for module in (training, features):
        monkeypatch.setattr(module, "load_omniglot", load)
    monkeypatch.setattr(features, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(features, "BUILD", tmp_path)
    monkeypatch.setattr(features, "RATES", (1.0,))
    monkeypatch.setattr(features, "MOST_STEPS", 1)
    monkeypatch.setattr(features, "build", lambda *_: net)
    here = partial(write_result, folder=tmp_path)
    monkeypatch.setattr(features, "write_result", here)
    state = {"params": params_of(net), "inner_lr": 0.5, "steps": 1}
    save_checkpoint(
        tmp_path / "omniglot_fomaml_5way_1shot.pt", state | {"settings": {}}
    )
    parser = ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    features.arguments(parser)
    flags = "--test-tasks 4 --moved-tasks 2".split()
    features.run(parser.parse_args(flags))
    result = json.loads((tmp_path / "features_5way_1shot.json").read_text())
    names = {row["name"]: row["n"] for row in result["rows"]}
    assert names["fomaml_head_alone_minus_all"] == 4
    assert names["fomaml_cka_conv4"] == 2
    assert "pixels_nearest_mean" in names and "anil_all_layers" not in names
    assert result["settings"]["head_alone"]["fomaml"]["lr"] == 1.0
    # What was asked is not asked again, unless something else is wanted.
    monkeypatch.setattr(features, "best_head", None)
    features.run(parser.parse_args(flags))
    again = json.loads((tmp_path / "features_5way_1shot.json").read_text())
    assert again == result
    with pytest.raises(ValueError, match="settings"):
        features.run(parser.parse_args([*flags, "--moved-tasks", "3"]))
