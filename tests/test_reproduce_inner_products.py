"""The second-order part of Reptile's inner steps, against its theory."""

import pytest
import torch

from mamlkit import CNN, Batch, Episodes
from mamlkit.reproduce import inner_products as ip

# L(θ; batch) = ½ Σ x (θ - y)²: everything is known in closed form.
THETA = {"w": torch.tensor([1.0, -2.0], dtype=torch.float64)}


def loss_fn(params, batch):
    return (batch.x * (params["w"] - batch.y).square()).sum(-1).mean() / 2


def batch(seed):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 3, 2, generator=g, dtype=torch.float64)
    return Batch(x, y)


def hessian(b):
    return b.x.mean(0)


def slope(b):
    return (b.x * (THETA["w"] - b.y)).mean(0)


@pytest.mark.parametrize("arm", ["different", "same"])
def test_the_second_order_part_is_that_of_the_expansion(arm):
    # To second order: α² Σ over pairs i < j of H_j g_i (Nichol et al.,
    # Eq. 16); with one batch, H g is the gradient of ½ |g|².
    tasks = [[batch(0), batch(1), batch(2)], [batch(3), batch(4), batch(5)]]
    if arm == "same":
        tasks = [[task[0]] * 3 for task in tasks]
    lr = 1e-4
    found = ip.second_order(loss_fn, THETA, tasks, lr)
    expected = sum(
        hessian(task[j]) * slope(task[i])
        for task in tasks
        for j in range(3)
        for i in range(j)
    ) / len(tasks)
    torch.testing.assert_close(found / lr**2, expected, rtol=1e-3, atol=1e-6)


def test_slopes_are_derivatives_along_the_direction():
    def products(params):
        return torch.stack([(params["w"] ** 2).sum(), params["w"][0]])

    along = torch.tensor([0.0, 5.0], dtype=torch.float64)
    found = ip.slopes(products, THETA, along)
    torch.testing.assert_close(found, torch.tensor([-4.0, 0.0]).double())


def drawn(n_tasks=3, k_shot=2, k_query=1):
    g = torch.Generator().manual_seed(0)
    images = torch.rand(8, 20, 1, 28, 28, generator=g)
    return Episodes(images, 5, rotations=True).sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=g
    )


def test_the_three_ways_to_cut_a_task(monkeypatch):
    monkeypatch.setattr(ip, "BATCH", 5)
    cuts = {
        arm: ip.cut_for(drawn(), arm, torch.Generator().manual_seed(0))
        for arm in ip.ARMS
    }
    for arm, tasks in cuts.items():
        assert len(tasks) == 3 and all(len(task) == 3 for task in tasks), arm
    different, same, whole = (cuts[arm][1] for arm in ip.ARMS)
    assert not torch.equal(different[0].x, different[1].x)
    for step in range(3):
        assert torch.equal(same[step].x, different[0].x)
        together = torch.cat([b.x for b in different])
        assert torch.equal(whole[step].x, together)


def test_gradients_of_one_task_are_alike_if_its_batches_are():
    torch.manual_seed(0)
    net = CNN(5, width=4)
    params = {k: p.detach() for k, p in net.named_parameters()}
    tasks = drawn(4, k_shot=2, k_query=2)
    twins = ip.Tasks(tasks.support, tasks.support)
    fn = ip.functional_loss(net, ip.F.cross_entropy)
    found = ip.likeness(fn, params, twins)
    torch.testing.assert_close(found[:, 0], torch.ones(4))
    assert (found[:, 1] < 0.9).all()
    one = ip.grad(fn)(params, Batch(tasks.support.x[2], tasks.support.y[2]))
    every = ip.gradients(fn, params, tasks.support)
    torch.testing.assert_close(every[2], ip.flatten(one))
