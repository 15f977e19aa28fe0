"""The variants' recipes do what their authors' code does."""

from argparse import Namespace
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from mamlkit import MLP, Batch, Episodes, adapt, functional_loss
from mamlkit.reproduce import methods, reptile, untrained

ARGS = Namespace(
    iterations=4,
    tasks=3,
    batch=5,
    inner_lr=0.01,
    meta_lr=1.0,
    anneal=True,
    seed=0,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return MLP(36, (8,), 5, norm=True)


def sample(n_tasks=3, *, generator, k_shot=2, k_query=1):
    images = torch.rand(
        8, 20, 1, 6, 6, generator=torch.Generator().manual_seed(1)
    )
    return Episodes(images, 5, rotations=True).sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=generator
    )


def drawn(**counts):
    return sample(generator=torch.Generator().manual_seed(2), **counts)


def train(net, path, args=ARGS, validate=lambda *_: 0.0):
    return reptile.train(net, sample, args, validate=validate, checkpoint=path)


def test_reptile_is_the_authors_loop(net, tmp_path):
    theta = deepcopy(net)
    history, squares = train(net, tmp_path / "a.pt")
    # Literally: one Adam that lasts; θ moves by ε (mean θ′ - θ).
    fast = deepcopy(theta)
    adam = torch.optim.Adam(fast.parameters(), 0.01, betas=(0.0, 0.999))
    g = torch.Generator().manual_seed(0)
    for i in range(4):
        tasks, ends = sample(generator=g), []
        for t in range(3):
            x = torch.cat([tasks.support.x[t], tasks.query.x[t]])
            y = torch.cat([tasks.support.y[t], tasks.query.y[t]])
            fast.load_state_dict(theta.state_dict())
            for some in torch.randperm(15, generator=g).split(5):
                adam.zero_grad()
                F.cross_entropy(fast(x[some]), y[some]).backward()
                adam.step()
            ends.append([p.detach().clone() for p in fast.parameters()])
        with torch.no_grad():
            for p, *found in zip(theta.parameters(), *ends):
                p += (1 - i / 4) * (torch.stack(found).mean(0) - p)
    for (name, found), p in zip(history.params.items(), theta.parameters()):
        torch.testing.assert_close(found, p.detach())
        step = 1 - 0.999**36
        moment = adam.state[fast.get_parameter(name)]["exp_avg_sq"] / step
        torch.testing.assert_close(squares[name], moment)
        torch.testing.assert_close(net.get_parameter(name).detach(), found)


def test_reptile_resumes_to_the_same_bits(net, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(*_):
        stop.calls += 1
        if stop.calls == 2:
            raise StopError
        return 0.0

    stop.calls = 0
    begin = deepcopy(net)
    straight, squares = train(deepcopy(begin), tmp_path / "once.pt")
    # Kept after every iteration.
    monkeypatch.setattr(reptile, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(StopError):
        train(deepcopy(begin), tmp_path / "twice.pt", validate=stop)
    resumed, again = train(deepcopy(begin), tmp_path / "twice.pt")
    assert resumed.loss == straight.loss and len(resumed.loss) == 4
    for name, p in straight.params.items():
        assert torch.equal(resumed.params[name], p)
        assert torch.equal(again[name], squares[name])


def test_a_reptile_training_of_other_settings_is_refused(net, tmp_path):
    train(deepcopy(net), tmp_path / "a.pt")
    other = Namespace(**(vars(ARGS) | {"batch": 3}))
    with pytest.raises(ValueError, match="batch 5 there, 3 here"):
        train(deepcopy(net), tmp_path / "a.pt", other)


@pytest.mark.parametrize("size", [None, 2])
def test_the_walk_at_test_is_that_of_adam_with_its_state(net, size):
    params = {k: p.detach().clone() for k, p in net.named_parameters()}
    squares = {k: torch.full_like(p, 1e-3) for k, p in params.items()}
    tasks = drawn(k_shot=1)
    support = Batch(tasks.support.x[0], tasks.support.y[0])
    walk = reptile.adam_walk(
        functional_loss(net, F.cross_entropy), params, squares, lr=0.02,
        batch=size,
    )  # fmt: skip
    found = list(walk(support, 6))
    assert len(found) == 7 and found[0] is params
    adam = torch.optim.Adam(net.parameters(), 0.02, betas=(0.0, 0.999))
    for p in net.parameters():  # as after a long training
        adam.state[p] = {
            "step": torch.tensor(1e6),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.full_like(p, 1e-3),
        }
    order = reptile.portions(5, size or 5, 6)
    for some, expected in zip(order, found[1:]):
        adam.zero_grad()
        F.cross_entropy(net(support.x[some]), support.y[some]).backward()
        adam.step()
        for name, p in net.named_parameters():
            torch.testing.assert_close(p.detach(), expected[name])


def test_portions_see_every_example_once_a_pass():
    found = reptile.portions(20, 10, 6)
    assert len(found) == 6
    for first, second in zip(found[::2], found[1::2]):
        assert sorted(torch.cat([first, second]).tolist()) == list(range(20))
    assert not torch.equal(found[0], found[2])


def state_of(net, **more):
    params = {k: p.detach() for k, p in net.named_parameters()}
    return {"params": params, "inner_lr": 0.3} | more


def ends(method, net, support, steps=2, **args):
    args = Namespace(**args)
    *_, end = methods.walk_of(method, net, state_of(net), args)(support, steps)
    return end


def test_each_method_adapts_as_it_was_trained(net):
    params, tasks = state_of(net)["params"], drawn(k_shot=1)
    support = Batch(tasks.support.x[0], tasks.support.y[0])
    loss_fn = functional_loss(net, F.cross_entropy)
    plain = adapt(params, loss_fn, support, lr=0.3, steps=2)
    # iMAML's authors pull back in training only.
    for method in ("learned", "fixed", "fomaml", "imaml"):
        found = ends(method, net, support)
        assert all(torch.equal(found[k], plain[k]) for k in plain)
    found = ends("anil", net, support)
    for name, p in params.items():
        moved = not torch.equal(found[name], p)
        assert moved == name.startswith("4."), name


def test_objectives_are_those_of_their_methods(net):
    params, tasks = state_of(net)["params"], drawn(k_shot=1)
    loss_fn = functional_loss(net, F.cross_entropy)
    options = {"lr": 0.3, "steps": 2}

    def gradient(method, **more):
        args = Namespace(strength=2.0, cg_steps=3)
        fn = methods.objective(method, net, args)
        leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
        fn(leaves, loss_fn, tasks, **options, **more).backward()
        return leaves["1.weight"].grad

    maml = gradient("fixed")
    assert not torch.allclose(gradient("fomaml", first_order=True), maml)
    anil, imaml = gradient("anil"), gradient("imaml")
    assert not torch.allclose(anil, maml)
    assert not torch.allclose(imaml, maml)
    assert not torch.allclose(imaml, anil)


def test_the_grid_of_the_untrained_rule_grows_at_its_end(net, monkeypatch):
    def rises_to_30(net, lr, tasks, *, steps):
        return torch.tensor([[0.2, 0.9 - abs(lr - 30.0) / 100]])

    monkeypatch.setattr(untrained, "RATES", (1.0, 3.0))
    monkeypatch.setattr(untrained, "rule_walk", lambda net, lr, **_: lr)
    monkeypatch.setattr(untrained, "accuracies", rises_to_30)
    rule = untrained.choose_rule(net, None, only_head=False)
    assert [*map(float, rule["tried"])] == [1, 3, 10, 30, 100]
    assert rule["lr"] == 30 and rule["steps"] == 1


def test_the_untrained_rule_is_the_best_of_those_tried(net, monkeypatch):
    monkeypatch.setattr(untrained, "RATES", (0.001, 0.3))
    monkeypatch.setattr(untrained, "STEPS", 3)
    # Bright, dim, ...: even this network can tell these classes apart.
    level = torch.linspace(0, 1, 8).view(8, 1, 1, 1, 1)
    noise = 0.1 * torch.rand(8, 20, 1, 6, 6)
    episodes = Episodes((0.9 * level + noise), 5, rotations=False)
    tasks = episodes.sample(
        40, k_shot=1, k_query=1, generator=torch.Generator().manual_seed(0)
    )
    for only_head in (False, True):
        rule = untrained.choose_rule(net, tasks, only_head=only_head)
        best = max(percent for percent, _ in rule["tried"].values())
        assert rule["tried"][str(rule["lr"])] == [best, rule["steps"]]
        assert best > 20
        judged = partial(untrained.accuracies, net, tasks=tasks)
        walk = untrained.rule_walk(net, rule["lr"], only_head=only_head)
        again = 100 * judged(walk, steps=rule["steps"])[:, -1].mean()
        assert abs(again.item() - best) < 0.06
