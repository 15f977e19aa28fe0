"""The inner loop against closed forms and finite differences."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from mamlkit import (
    MLP,
    Batch,
    Tasks,
    adapt,
    adaptation_curve,
    functional_loss,
    imaml_loss,
    meta_loss,
    multi_step_loss,
    reptile_loss,
)


def quadratic(params, target):
    """L(w; c) = a/2 |w - c|², a = 0.7."""
    return 0.35 * ((params["w"] - target) ** 2).sum()


W, SUPPORT, QUERY = torch.tensor(
    [[2, -1], [0.5, 3], [-1, 1]], dtype=torch.float64
)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_meta_gradient_on_a_quadratic_is_closed_form(steps, first_order):
    # A step shrinks w - c by 1 - lr a, so dL(w'; q)/dw = shrink a (w' - q);
    # first order drops the factor.
    def judged(params):
        adapted = adapt(
            params,
            quadratic,
            SUPPORT,
            lr=0.3,
            steps=steps,
            first_order=first_order,
        )
        return quadratic(adapted, QUERY)

    shrink = (1 - 0.3 * 0.7) ** steps
    adapted = SUPPORT + shrink * (W - SUPPORT)
    expected = (1 if first_order else shrink) * 0.7 * (adapted - QUERY)
    actual = grad(judged)({"w": W})["w"]
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


def test_meta_gradient_in_whole_numbers():
    # L = w² c with c = 1: w' = w - lr 2 w; lr = 2 gives w' = -3 w, so that
    # dL(w')/dw = 2 (-3 w)(-3) = 18 w, and -6 w in first order.
    def loss_fn(params, c):
        return params["w"] ** 2 * c

    def judged(params, first_order):
        adapted = adapt(
            params, loss_fn, 1, lr=2, steps=1, first_order=first_order
        )
        return loss_fn(adapted, 1)

    params = {"w": torch.tensor(5.0)}
    assert grad(judged)(params, False)["w"].item() == 90
    assert grad(judged)(params, True)["w"].item() == -30


def small_problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    loss_fn = functional_loss(model, F.mse_loss)
    support, query = (
        Batch(torch.randn(5, 2).double(), torch.randn(5, 1).double())
        for _ in range(2)
    )
    params = {k: p.detach() for k, p in model.named_parameters()}
    return params, loss_fn, support, query


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_meta_gradient_is_the_finite_difference(steps):
    params, loss_fn, support, query = small_problem()

    def judged(params):
        adapted = adapt(params, loss_fn, support, lr=0.2, steps=steps)
        return loss_fn(adapted, query)

    actual = grad(judged)(params)
    eps = 1e-5
    for name, value in params.items():
        for index in range(value.numel()):
            shift = torch.zeros_like(value).flatten()
            shift[index] = eps
            shift = shift.view_as(value)
            up = judged(params | {name: value + shift})
            down = judged(params | {name: value - shift})
            expected = (up - down) / (2 * eps)
            found = actual[name].flatten()[index]
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_learned_rates_get_their_exact_gradient_too():
    params, loss_fn, support, query = small_problem()
    rates = {name: torch.full_like(p, 0.2) for name, p in params.items()}

    def judged(rates):
        return loss_fn(adapt(params, loss_fn, support, lr=rates), query)

    # dL(θ - α g)/dα = -g L'(θ')
    slope = grad(loss_fn)(params, support)
    outer = grad(loss_fn)(adapt(params, loss_fn, support, lr=0.2), query)
    for name, found in grad(judged)(rates).items():
        torch.testing.assert_close(found, -slope[name] * outer[name])


def test_each_parameter_has_its_own_rate():
    params, loss_fn, support, _ = small_problem()
    rates = dict.fromkeys(params, torch.tensor(0.0))
    rates["2.bias"] = torch.tensor(0.5)
    adapted = adapt(params, loss_fn, support, lr=rates)
    for name in params:
        moved = not torch.equal(adapted[name], params[name])
        assert moved == (name == "2.bias")


def test_first_order_adapts_to_the_same_parameters():
    params, loss_fn, support, _ = small_problem()
    full = adapt(params, loss_fn, support, lr=0.2, steps=3)
    first = adapt(params, loss_fn, support, lr=0.2, steps=3, first_order=True)
    for name in params:
        torch.testing.assert_close(full[name], first[name], rtol=0, atol=0)


def test_nothing_is_shared_between_tasks_or_written_in_place():
    params, loss_fn, support, _ = small_problem()
    before = {name: p.clone() for name, p in params.items()}
    first = adapt(params, loss_fn, support, lr=0.5, steps=2)
    adapt(params, loss_fn, Batch(support.x + 1, support.y), lr=0.5, steps=2)
    again = adapt(params, loss_fn, support, lr=0.5, steps=2)
    for name in params:
        assert torch.equal(params[name], before[name])
        assert torch.equal(first[name], again[name])


def test_zero_steps_and_zero_rate_change_nothing():
    params, loss_fn, support, _ = small_problem()
    assert adapt(params, loss_fn, support, lr=0.5, steps=0) == params
    adapted = adapt(params, loss_fn, support, lr=0, steps=2)
    assert all(torch.equal(adapted[k], params[k]) for k in params)


def test_functional_loss_does_not_touch_the_model():
    model = MLP()
    before = {k: p.clone() for k, p in model.named_parameters()}
    params = {k: p.detach() + 1 for k, p in model.named_parameters()}
    batch = Batch(torch.randn(3, 1), torch.randn(3, 1))
    loss = functional_loss(model, F.mse_loss)(params, batch)
    expected = F.mse_loss(functional_call(model, params, batch.x), batch.y)
    assert torch.equal(loss, expected)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])


def test_a_weight_with_two_names_is_replaced_under_both():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    loss_fn = functional_loss(model, F.mse_loss)
    batch = Batch(torch.rand(5, 2), torch.rand(5, 2))
    doubled = {name: 2 * p for name, p in model.named_parameters()}
    found = loss_fn(doubled, batch)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    torch.testing.assert_close(found, F.mse_loss(model(batch.x), batch.y))


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(lr):
    params, loss_fn, support, _ = small_problem()
    with pytest.raises(ValueError, match=r"lr must be finite and >= 0, got"):
        adapt(params, loss_fn, support, lr=lr)


@pytest.mark.parametrize("steps", [-1, 1.5, None, True, "1"])
def test_steps_that_are_no_whole_number_are_refused(steps):
    params, loss_fn, support, query = small_problem()
    tasks = Tasks(*(Batch(b.x[None], b.y[None]) for b in (support, query)))
    options = {"lr": 0.1, "steps": steps}
    for use in (
        lambda: adapt(params, loss_fn, support, **options),
        lambda: meta_loss(params, loss_fn, tasks, **options),
        lambda: adaptation_curve(params, loss_fn, loss_fn, tasks, **options),
        lambda: multi_step_loss(
            params, loss_fn, tasks, weights=[1.0], **options
        ),
    ):
        said = f"steps must be a whole number >= 0, got {steps!r}$"
        with pytest.raises(ValueError, match=said):
            use()


def test_rates_of_other_names_are_refused():
    params, loss_fn, support, _ = small_problem()
    rates = dict.fromkeys(params, torch.tensor(0.1))
    rates["body"] = rates.pop("2.bias")
    wanted = r"missing \['2.bias'\], unknown \['body'\]"
    with pytest.raises(ValueError, match=wanted):
        adapt(params, loss_fn, support, lr=rates)


def test_frozen_parameters_are_not_moved():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].weight.requires_grad_(False)
    loss_fn = functional_loss(model, F.mse_loss)
    batch = Batch(torch.randn(4, 2), torch.randn(4, 1))
    tasks = Tasks(*[Batch(batch.x[None], batch.y[None])] * 2)
    everything = dict(model.named_parameters())
    for use in (
        lambda p: adapt(p, loss_fn, batch, lr=0.1),
        lambda p: meta_loss(p, loss_fn, tasks, lr=0.1),
        lambda p: reptile_loss(p, loss_fn, tasks, lr=0.1, steps=1),
        lambda p: imaml_loss(p, loss_fn, tasks, lr=0.1, steps=1, strength=1.0),
        lambda p: adaptation_curve(p, loss_fn, loss_fn, tasks, lr=1, steps=1),
    ):
        with pytest.raises(ValueError, match="'0.weight' is frozen"):
            use(everything)
        use({k: p for k, p in everything.items() if p.requires_grad})
        use({k: p.detach() for k, p in everything.items()})
        # Frozen as a whole, as for evaluation, there is nothing to tell apart.
        use({k: nn.Parameter(p, False) for k, p in everything.items()})


@pytest.mark.parametrize("batched", [False, True])
def test_a_criterion_without_a_scalar_is_refused(batched):
    loss_fn = functional_loss(MLP(), lambda out, y: (out - y) ** 2)
    params = dict(MLP().named_parameters())
    batch = Batch(torch.randn(2, 3, 1), torch.randn(2, 3, 1))
    with pytest.raises(ValueError, match=r"scalar tensor, got \(3, 1\)"):
        if batched:
            vmap(loss_fn, (None, 0))(params, batch)
        else:
            loss_fn(params, Batch(batch.x[0], batch.y[0]))


def judge(criterion, outputs, y, batched=False):
    """Compute a criterion on these very outputs, as `functional_loss` does."""
    params = {"out": outputs}

    class Gives(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Parameter(torch.zeros_like(outputs))

        def forward(self, x):
            return self.out.expand(*self.out.shape)

    model = Gives()
    x = torch.zeros(len(y), 1)
    loss_fn = functional_loss(model, criterion)
    if batched:
        slope = vmap(grad(loss_fn), (None, 0))(params, Batch(x[None], y[None]))
        return slope["out"][0]
    return loss_fn(params, Batch(x, y))


TARGETS = torch.tensor([0.3, -1.2, 0.9, 2.0])
OUTPUTS = torch.zeros(4)  # as of a head that begins at zero


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    "criterion",
    [
        F.mse_loss,
        nn.L1Loss(),
        nn.MSELoss(reduction="sum"),
        nn.HuberLoss(),
        lambda out, y: ((out - y) ** 2).mean(),
        lambda out, y: (out - y).abs().max(),
    ],
)
def test_outputs_and_targets_that_would_broadcast_are_refused(
    criterion, batched
):
    said = r"the model gives \(4, 1\), y is \(4,\): give y a last axis, y\[.*N"
    with pytest.raises(ValueError, match=said):
        judge(criterion, OUTPUTS[:, None], TARGETS, batched)
    said = r"the model gives \(4,\), y is \(4, 1\): take y's last axis away"
    with pytest.raises(ValueError, match=said):
        judge(criterion, OUTPUTS, TARGETS[:, None], batched)
    with pytest.raises(ValueError, match=r"\(4, 4, 1\), y is \(4, 4\): give"):
        judge(criterion, torch.zeros(4, 4, 1), torch.zeros(4, 4), batched)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    "criterion",
    [
        lambda out, y: F.mse_loss(out.squeeze(-1), y),
        lambda out, y: F.mse_loss(out[:, 0], y),
        lambda out, y: F.mse_loss(out.flatten(), y),
        lambda out, y: F.mse_loss(out.view(-1), y.view(-1)),
        lambda out, y: F.mse_loss(out, y[:, None]),
        lambda out, y: F.mse_loss(out, y.view_as(out)),
        # Of the whole batch, and not a mean over examples.
        lambda out, y: 1 - F.cosine_similarity(out[:, 0], y, dim=0),
        lambda out, y: (out[:, 0] - y).std(),
        # Without order, and rightly so.
        lambda out, y: (out.mean() - y.mean()).abs(),
    ],
)
def test_a_criterion_that_makes_them_alike_itself_is_accepted(
    criterion, batched
):
    found = judge(criterion, OUTPUTS[:, None] + 0.1, TARGETS, batched)
    if not batched:
        expected = criterion(OUTPUTS[:, None] + 0.1, TARGETS)
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("outputs", "y", "criterion"),
    [
        (torch.randn(5, 5), torch.arange(5), F.cross_entropy),
        (torch.randn(1, 5), torch.tensor([2]), F.cross_entropy),
        (torch.randn(4, 3), TARGETS[:, None], F.l1_loss),  # quantiles
        (torch.randn(1, 1), TARGETS[:1], F.mse_loss),  # one example
        (torch.randn(4, 4), TARGETS, lambda out, y: F.mse_loss(out[:, 0], y)),
        (torch.randn(4, 3, 4), torch.ones(4, 4).long(), F.cross_entropy),
        (torch.rand(4, 1), TARGETS[:, None].sigmoid(), F.binary_cross_entropy),
    ],
)
def test_shapes_that_differ_rightly_are_accepted(outputs, y, criterion):
    found = judge(criterion, outputs, y)
    torch.testing.assert_close(found, criterion(outputs, y))


def test_looking_at_the_shapes_draws_nothing():
    torch.manual_seed(0)
    judge(
        lambda o, y: F.dropout(o[:, 0] - y).square().mean(),
        OUTPUTS[:, None],
        TARGETS,
    )
    left = torch.rand(1)
    torch.manual_seed(0)
    F.dropout(TARGETS)
    assert torch.equal(left, torch.rand(1))


class Two(nn.Module):
    """Returns two things, in several ways."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(2, 1), how

    def forward(self, x):
        return self.how(self.layer(x), x)


class Output:
    def __init__(self, out, x):
        self.logits = out


@pytest.mark.parametrize(
    ("how", "choose"),
    [
        (lambda out, x: (out, x), lambda out, y: F.mse_loss(out[0], y)),
        (
            lambda out, x: {"logits": out, "x": x},
            lambda out, y: F.mse_loss(out["logits"], y),
        ),
        (Output, lambda out, y: F.mse_loss(out.logits, y)),
    ],
    ids=["tuple", "dict", "object"],
)
def test_of_several_outputs_the_criterion_chooses(how, choose):
    model, x, y = Two(how), torch.randn(3, 2), torch.randn(3, 1)
    params = {k: p.detach() for k, p in model.named_parameters()}
    found = functional_loss(model, choose)(params, Batch(x, y))
    assert torch.equal(found, F.mse_loss(model.layer(x), y))
    for naive in (F.mse_loss, nn.MSELoss(), lambda out, y: (out - y).sum()):
        with pytest.raises(ValueError, match="let it choose, as in criterion"):
            functional_loss(model, naive)(params, Batch(x, y))
