"""Exercises of chapter 08: plug in any model."""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from mamlkit.exercises.compare import require
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, outer_problem, seeded, uniform
from mamlkit.inner import adapt, functional_loss
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Batch, Tasks

KEEPS_STATE = """
def keeps_state(make, x, other):
    old = make()
    old(other)
    return not torch.equal(old(x), make()(x))
"""
ATTENTION = """
def attention_pool(states, q):
    weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1)
    return (weights.unsqueeze(-1) * states).sum(dim=1)
"""
META_SGD = """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    def loss(params, rates):
        return meta_loss(params, loss_fn, tasks, lr=rates)

    slopes = grad(loss, argnums=(0, 1))(params, rates)
    return tuple(
        {k: old[k] - meta_lr * slope[k] for k in old}
        for old, slope in zip((params, rates), slopes)
    )
"""
MY_MODEL = """
def my_model(n_in, n_out):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.gate = (nn.Linear(n_in, 32) for _ in range(2))
            self.out = nn.Linear(32, n_out)

        def forward(self, x):
            return self.out(self.value(x).tanh() * self.gate(x).sigmoid())

    return Gated()
"""


class _Clean(nn.Module):
    """The mean over time, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.weight * x.mean(1)


class _Carries(_Clean):
    """Adds what it said last, on average."""

    def forward(self, x):
        last = getattr(self, "last", 0.0)
        self.last = super().forward(x).detach().mean()
        return super().forward(x) + last


class _Caches(_Clean):
    """Divides by the scale of the first input it ever saw."""

    def forward(self, x):
        if not hasattr(self, "scale"):
            self.scale = x.abs().max()
        return super().forward(x / self.scale)


class _Counts(_Clean):
    """Grows with each call, in a registered buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.tensor(0.0))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class _Learns(_Clean):
    """Changes its weight a little in each call."""

    def forward(self, x):
        with torch.no_grad():
            self.weight += 0.01 * x.mean()
        return super().forward(x)


class _Lists(_Clean):
    """Averages over all inputs so far, which it keeps in a list."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.mean())
        return super().forward(x) + torch.stack(self.seen).mean()


class _Wide(_Clean):
    """Two layers that keep nothing."""

    def __init__(self):
        super().__init__()
        line = torch.linspace(-1, 1, 4)
        self.inner = nn.Parameter(line.view(1, 4))

    def forward(self, x):
        return (x @ self.inner).tanh().mean(1)


MODELS = (_Clean, _Carries, _Caches, _Wide, _Counts, _Learns, _Lists)


def some_model(g, number):
    """A model that keeps something or not, and two unlike inputs."""
    x = normal(g, 2, 6, 1)
    return MODELS[number], x, 3 * normal(g, 2, 6, 1) + 1


def two_states():
    """Scores ln 3 and 0 give the weights ¾ and ¼."""
    return torch.tensor([[[1.0], [0.0]]]), torch.tensor([3.0]).log()


def some_states(g, number):
    """Sequences of any length and size."""
    examples, time, d = 1 + number % 4, 1 + number, 1 + number % 3
    return normal(g, examples, time, d), 2 * normal(g, d)


def fits_torch_func(attention_pool):
    """Differentiated twice and mapped over tasks, as meta_loss will."""
    states, q = normal(seeded(0), 3, 4, 2), torch.tensor([1.0, -2.0])

    def by_q(q):
        return grad(lambda q: (attention_pool(states, q) ** 2).sum())(q)

    try:
        vmap(grad(lambda q: (by_q(q) ** 2).sum()))(q.expand(2, 2))
    except RuntimeError as error:
        text = str(error).split("\n")[0]
        require(False, f"Right values, but torch.func stops at it: {text}")


def rates_problem(g, number):
    """A rate for each entry; θ and α both move."""
    params, loss_fn, tasks, _ = outer_problem(g, number)
    rates = {
        k: 0.1 + 0.5 * torch.rand(p.shape, generator=g)
        for k, p in params.items()
    }
    return params, rates, loss_fn, tasks, uniform(g, 0.1, 1.0)


def valley(params, batch):
    """L = mean ½ y (u - x)²: each task has a centre and a curvature."""
    return (batch.y * (params["u"] - batch.x) ** 2 / 2).mean()


def two_valleys():
    """Centres 2, -1 and curvatures 1, 3; queries 3, -2 with 2, 1.

    By hand, from u = 1 at rates 0.1: u′ = 1.1 and 0.4, query gradients -3.8
    and 2.4. By u they count 0.9 and 0.7 times: -0.87 on average. By the rate
    they count minus the support gradient, 1 and -6: -9.1 on average.
    """
    support = Batch(
        torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [3.0]])
    )
    query = Batch(torch.tensor([[3.0], [-2.0]]), torch.tensor([[2.0], [1.0]]))
    u, rate = {"u": torch.tensor(1.0)}, {"u": torch.tensor(0.1)}
    return u, rate, valley, Tasks(support, query), 0.5


def plugs_in(my_model):
    """A meta-gradient that differences confirm, and a fit that gets better."""
    for n_in, n_out in ((1, 1), (3, 2)):
        torch.manual_seed(0)
        model = my_model(n_in, n_out)
        require(
            isinstance(model, nn.Module),
            f"Return an nn.Module, not a {type(model).__name__}.",
        )
        model = model.double()
        params = {k: p.detach() for k, p in model.named_parameters()}
        require(bool(params), "Your model has no parameters.")
        g = seeded(n_in)
        x = normal(g, 3, 24, n_in).double()
        slope = normal(g, 3, n_in, n_out).double()
        y = (x @ slope).sin()
        tasks = Tasks(Batch(x[:, :12], y[:, :12]), Batch(x[:, 12:], y[:, 12:]))
        got = tuple(model(x[0]).shape)
        require(
            got == (24, n_out),
            f"For x of shape (24, {n_in}) the model should answer with "
            f"(24, {n_out}), not {got}.",
        )
        loss_fn = functional_loss(model, nn.functional.mse_loss)
        _check_gradient(params, loss_fn, tasks, g)
        _check_bend(model, params, x[0])
        support = Batch(tasks.support.x[0], tasks.support.y[0])
        before = loss_fn(params, support).item()
        after = adapt(params, loss_fn, support, lr=0.05, steps=80)
        reached = loss_fn(after, support).item()
        require(
            reached < 0.6 * before,
            f"80 steps with α = 0.05 bring the loss on a curve from "
            f"{before:.2g} to {reached:.2g}. Get below 0.6 of it.",
        )


def _check_gradient(params, loss_fn, tasks, g):
    ways = {}
    for way in ("loop", "vmap"):
        ways[way] = grad(meta_loss)(
            params, loss_fn, tasks, lr=0.1, over_tasks=way
        )
    along = {k: normal(g, *p.shape).double() for k, p in params.items()}

    def at(eps):
        moved = {k: p + eps * along[k] for k, p in params.items()}
        return meta_loss(moved, loss_fn, tasks, lr=0.1, over_tasks="loop")

    want = ((at(1e-5) - at(-1e-5)) / 2e-5).item()
    for way, slopes in ways.items():
        found = sum((slopes[k] * along[k]).sum() for k in params).item()
        require(
            abs(found - want) < 1e-5 * (1 + abs(want)),
            f"In the {way}, the meta-gradient along a direction is "
            f"{found:.6g}, and differences say {want:.6g}. Does your model "
            "keep something between calls, or cut the graph?",
        )


def _check_bend(model, params, x):
    def out(x):
        return functional_call(model, params, (x,))

    bend = (out(x) + out(-x) - 2 * out(0 * x)).abs().max().item()
    require(bend > 1e-6, "Your model is linear in x: let it bend.")


EXERCISES = by_key(
    Exercise(
        "8.1",
        "keeps_state",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "What would a newborn model say about x? Compare that with what "
            "an experienced one says.",
            "old = make(); old(other); then compare old(x) with make()(x) by "
            "torch.equal.",
        ),
        solution=KEEPS_STATE,
        draw=some_model,
        draws=len(MODELS),
        mistakes=(
            (
                "    old(other)\n"
                "    return not torch.equal(old(x), make()(x))",
                "    return not torch.equal(old(x), old(x))",
                "Asked twice about x, a model may say the same and still "
                "remember. Show it the other input first, and compare with a "
                "new model.",
            ),
            (
                "    old(other)\n",
                "",
                "A new model has seen nothing yet. Show it the other input "
                "before you ask.",
            ),
            (
                "make()(x)",
                "old(other)",
                "You compare answers to two inputs, which differ in any "
                "model.",
            ),
            (
                "    old(other)\n"
                "    return not torch.equal(old(x), make()(x))",
                "    before = set(vars(old))\n"
                "    old(other)\n"
                "    return set(vars(old)) != before",
                "Something kept may lie in a buffer or a list that was there "
                "before. Compare what the model says.",
            ),
            (
                "return not",
                "return",
                "The other way round: equal answers mean that nothing was "
                "kept.",
            ),
        ),
    ),
    Exercise(
        "8.2",
        "attention_pool",
        level=2,
        minutes=10,
        hints=(
            "states @ q has shape (examples, time): one score a time step.",
            "weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1), "
            "then the sum over time of weights.unsqueeze(-1) * states.",
        ),
        solution=ATTENTION,
        first=two_states,
        told="For the states 1 and 0 with q = log 3",
        by_hand=lambda: torch.tensor([[0.75]]),
        draw=some_states,
        orders=2,
        prove=fits_torch_func,
        mistakes=(
            (
                "    return (weights.unsqueeze(-1) * states).sum(dim=1)",
                "    return states.mean(dim=1)",
                "All time steps weigh the same: that is the mean. Where is "
                "the softmax of the scores?",
            ),
            (
                "** 0.5, dim=1",
                "** 0.5, dim=0",
                "The softmax runs over the examples: each must mind its own "
                "time steps, axis 1.",
            ),
            (
                "torch.softmax(states @ q / len(q) ** 0.5, dim=1)",
                "states @ q / len(q) ** 0.5",
                "The scores themselves are the weights: put them through a "
                "softmax.",
            ),
            (
                " / len(q) ** 0.5",
                "",
                "Divide the scores by √d, the root of the states' size.",
            ),
            (" ** 0.5", "", "You divide the scores by d: take its root."),
            (
                "(weights.unsqueeze",
                "(weights.detach().unsqueeze",
                "The weights are detached: q learns nothing.",
            ),
            (
                "states @ q",
                "states @ torch.tensor(q.tolist())",
                "torch.func stops",
            ),
            (".sum(dim=1)", "", "should have shape (1, 1)"),
        ),
    ),
    Exercise(
        "8.3",
        "meta_sgd_update",
        level=2,
        minutes=15,
        hints=(
            "Write a function of (params, rates) that returns meta_loss with "
            "lr=rates, and differentiate it by both.",
            "grad(loss, argnums=(0, 1))(params, rates) returns two dicts of "
            "slopes.",
        ),
        solution=META_SGD,
        first=two_valleys,
        told="On two tasks, from u = 1 and a rate of 0.1, with meta_lr = 0.5",
        by_hand=lambda: ({"u": 1.435}, {"u": 4.65}),
        draw=rates_problem,
        mistakes=(
            (
                "",
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(meta_loss)(params, loss_fn, tasks, lr=rates)
    return {k: params[k] - meta_lr * slope[k] for k in params}, dict(rates)
""",
                "Your rates never move: they are used, but not updated. This "
                "is MAML with a fixed α.",
            ),
            (
                "zip((params, rates), slopes)",
                "zip((params, rates), (slopes[0], slopes[0]))",
                "α moves by the gradient of θ. It has one of its own: "
                "argnums=(0, 1).",
            ),
            (
                "zip((params, rates), slopes)",
                "zip((params, rates), ({k: 0 for k in params}, slopes[1]))",
                "θ stays where it is: both must move.",
            ),
            (
                "",
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(meta_loss)(params, loss_fn, tasks, lr=rates)
    params = {k: params[k] - meta_lr * slope[k] for k in params}
    slope = grad(lambda r: meta_loss(params, loss_fn, tasks, lr=r))(rates)
    return params, {k: rates[k] - meta_lr * slope[k] for k in rates}
""",
                "α's gradient was taken after θ had moved. Take both first, "
                "then step.",
            ),
            (
                "lr=rates)",
                "lr=rates, first_order=True)",
                "θ follows the first-order gradient.",
            ),
            ("- meta_lr", "+ meta_lr", "Both move uphill: down the gradient."),
            (
                "zip((params, rates), slopes)",
                "zip((params, rates), (slopes[0], {k: -s for k, s in "
                "slopes[1].items()}))",
                "α moves the wrong way: down the gradient, as θ does.",
            ),
            (
                "    return tuple(",
                "    for k in params:\n"
                "        params[k] = params[k] - meta_lr * slopes[0][k]\n"
                "    return tuple(",
                "You changed params itself",
            ),
        ),
    ),
    Exercise(
        "8.4",
        "my_model",
        level=3,
        minutes=20,
        hints=(
            "Anything that turns (examples, n_in) into (examples, n_out) by "
            "tensors of its own, bends, and keeps nothing.",
            "Define a class within my_model: __init__ makes nn.Linear "
            "layers, forward combines them, say by a product or a sine.",
        ),
        example=MY_MODEL,
        prove=plugs_in,
        mistakes=(
            (".tanh() * self.gate(x).sigmoid()", "", "let it bend"),
            (
                "self.value(x).tanh()",
                "self.value(x).tanh().detach()",
                "cut the graph",
            ),
            ("    return Gated()", "    return Gated", "Return an nn.Module"),
            (
                "nn.Linear(32, n_out)",
                "nn.Linear(32, 7)",
                "the model should answer with",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "Your model uses nn.LSTM, and meta_loss stops. What do you do?",
        (
            'Pass over_tasks="loop".',
            "The loop never batches over tasks, and the fused layer's second "
            "derivative is right.",
        ),
        (
            "Pass first_order=True.",
            "It is vmap that cannot batch the fused call, not the second "
            "derivative that is missing.",
        ),
        (
            "Hand it a hidden state of zeros.",
            "Then another error comes: there is no batching rule.",
        ),
    ),
    ask(
        "A layer runs under vmap without a warning. What does that show?",
        (
            "Little: compare the meta-gradient with differences.",
            "Two evaluations along a direction test all of it.",
        ),
        (
            "That its meta-gradient is right.",
            "LayerNorm with weights runs too, and is wrong.",
        ),
        ("That it keeps no state.", "A cache may well run."),
    ),
    ask(
        "Meta-SGD's α of one entry has become very small. What does that say?",
        (
            "A longer step of this entry would not lower the query loss: the "
            "gradients disagree, or the loss is steep there.",
            "In section 4 the steep entry got the small rate, and needed it.",
        ),
        (
            "The entry is useless and can be removed.",
            "θ may need it; only its adapting does not pay.",
        ),
        (
            "The learning rate of α was too large.",
            "That makes it jump, not shrink.",
        ),
    ),
)
