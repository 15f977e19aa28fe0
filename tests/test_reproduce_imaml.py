"""iMAML as its authors' code trains it."""

import torch
from torch.func import grad, vjp
from torch.nn import functional as F

from mamlkit import Batch, Tasks, adapt, functional_loss
from mamlkit.datasets.glyphs import load_glyphs
from mamlkit.episodes import Episodes
from mamlkit.implicit import proximal_loss
from mamlkit.models import CNN
from mamlkit.reproduce.imaml import damped_imaml_loss


def test_on_bowls_it_is_closed_form():
    """Free steps, one pull, and a solve with the doubled, damped λ."""

    # L = a/2 (p - c)²; with α = 0.1 a free step multiplies p - c by 1 - αa.
    def loss_fn(params, batch):
        return (batch.x / 2 * (params["p"] - batch.y) ** 2).sum()

    bends, ends = torch.tensor([[[3.0]], [[5.0]]]), torch.ones(2, 1, 1)
    support, query = Batch(bends, ends), Batch(2 * bends, -ends)
    start, lr, strength, steps = torch.tensor([0.4]), 0.1, 2.0, 4
    found = grad(damped_imaml_loss)(
        {"p": start}, loss_fn, Tasks(support, query), strength=strength,
        lr=lr, steps=steps, cg_steps=3,
    )  # fmt: skip
    expected = []
    for a in (3.0, 5.0):
        free = 1 + (0.4 - 1) * (1 - lr * a) ** steps
        adapted = free - lr * strength * (free - 0.4)
        slope = 2 * a * (adapted + 1)
        expected.append(slope / (1 + a / (2 * (strength + 10))))
    torch.testing.assert_close(found["p"], torch.tensor([sum(expected) / 2]))


def test_undamped_the_papers_equation_is_not_positive_definite():
    """Why the authors' code damps: H reaches below -λ."""
    torch.manual_seed(0)
    net = CNN(5)
    theta = {k: p.detach() for k, p in net.named_parameters()}
    loss_fn = functional_loss(net, F.cross_entropy)
    tasks = Episodes(load_glyphs("train"), 5).sample(
        1, k_shot=1, k_query=1, generator=torch.Generator().manual_seed(0)
    )
    support = Batch(*(t[0] for t in tasks.support))
    tied = proximal_loss(loss_fn, theta, strength=2.0)
    adapted = adapt(theta, tied, support, lr=0.1, steps=16)
    adapted = {k: v.detach() for k, v in adapted.items()}
    _, product = vjp(lambda p: grad(loss_fn)(p, support), adapted)

    def highest(shift, sign):
        v = {k: torch.randn_like(p) for k, p in adapted.items()}
        for _ in range(40):
            w = product(v)[0]
            w = {k: shift * v[k] + sign * w[k] for k in v}
            size = sum((x**2).sum() for x in w.values()).sqrt()
            v = {k: x / size for k, x in w.items()}
        return size.item()

    top = highest(0.0, 1)
    lowest = top - highest(top, -1)
    assert lowest < -2.0
