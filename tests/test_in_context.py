"""In-context learning: what the prompt may decide, and the link to `adapt`."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mamlkit import Batch, InContextLearner, Sinusoids, adapt, functional_loss
from mamlkit.in_context import (
    gradient_step_attention,
    linear_attention,
    normalise,
)


@pytest.fixture
def learner():
    torch.manual_seed(0)
    return InContextLearner(width=16, layers=2, heads=2).double()


def waves(k_shot, n_tasks=3):
    generator = torch.Generator().manual_seed(1)
    tasks = Sinusoids().sample(
        n_tasks, k_shot=k_shot, k_query=7, generator=generator
    )
    return (Batch(*(t.double() for t in part)) for part in tasks)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("targets, lr", [(1, 0.3), (2, 0.7)])
def test_layers_of_linear_attention_are_steps_of_adapt(targets, lr, steps):
    torch.manual_seed(targets)
    model = nn.Linear(4, targets, bias=False).double()
    params = {k: p.detach() for k, p in model.named_parameters()}
    start = params["weight"]
    x, y = torch.randn(9, 4).double(), torch.randn(9, targets).double()
    queries = torch.randn(5, 4).double()

    loss_fn = functional_loss(model, F.mse_loss)
    stepped = adapt(params, loss_fn, Batch(x, y), lr=lr, steps=steps)

    match, value = gradient_step_attention(4, targets, k_shot=9, lr=lr)
    inputs = torch.cat([x, queries])
    known = torch.cat([y, torch.zeros(5, targets).double()])
    tokens = torch.cat([inputs, known - inputs @ start.T], dim=-1)
    for _ in range(steps):
        tokens = linear_attention(tokens, tokens[:9], match, value)
    torch.testing.assert_close(tokens[:, :4], inputs, rtol=0, atol=0)
    residual = known - inputs @ stepped["weight"].T
    torch.testing.assert_close(tokens[:, 4:], residual, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("k_shot", [1, 2, 30])
def test_the_order_of_the_prompt_does_not_matter(learner, k_shot):
    support, query = waves(k_shot)
    order = torch.randperm(k_shot)
    shuffled = Batch(*(part[:, order] for part in support))
    torch.testing.assert_close(
        learner(shuffled, query.x), learner(support, query.x)
    )


def test_the_prompt_matters_and_so_does_each_y(learner):
    support, query = waves(4)
    answers = learner(support, query.x)
    changed = support.y.clone()
    changed[:, 2] += 1
    other = learner(Batch(support.x, changed), query.x)
    assert ((other - answers).abs() > 1e-6).all()


def test_a_query_sees_no_other_query(learner):
    support, query = waves(4)
    alone = learner(support, query.x[:, :1])
    torch.testing.assert_close(learner(support, query.x)[:, :1], alone)


def test_stacked_tasks_are_answered_as_one_after_the_other(learner):
    support, query = waves(4)
    one_by_one = [
        learner(Batch(*s), x) for s, x in zip(zip(*support), query.x)
    ]
    torch.testing.assert_close(
        learner(support, query.x), torch.stack(one_by_one)
    )


def test_the_head_reads_what_is_represented(learner):
    support, query = waves(4)
    features = learner.represent(support, query.x)
    assert features.shape == (3, 7, 16)
    torch.testing.assert_close(
        learner.write(features), learner(support, query.x)
    )


def test_other_numbers_of_features_and_targets_fit():
    learner = InContextLearner(features=3, targets=2, width=8, layers=1)
    support = Batch(torch.randn(5, 3), torch.randn(5, 2))
    assert learner(support, torch.randn(4, 3)).shape == (4, 2)


def test_a_normal_token_has_mean_0_and_deviation_1():
    tokens = normalise(3 + 5 * torch.randn(4, 64))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(4))
    deviation = tokens.std(-1, correction=0)
    torch.testing.assert_close(deviation, torch.ones(4))
