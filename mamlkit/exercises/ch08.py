"""Exercises of chapter 08: plug in any model."""

import torch
from torch import nn
from torch.func import grad, vmap

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Batch, Tasks


class _Clean(nn.Module):
    """The mean over time, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.weight * x.mean(1)


class _Carries(_Clean):
    """Starts from the sum of what it has seen."""

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


def check_keeps_state(keeps_state):
    """Two honest models, and three that differ in what they keep."""
    x = torch.linspace(-1, 1, 12).reshape(2, 6, 1) + 1
    other = 3 * x.flip(0) - 1
    for make, truth, message in (
        (_Clean, False, "You accuse a model that keeps nothing: it says the "
         "same about x, whatever it saw before. Compare answers to the same "
         "input, from equal weights."),
        (_Carries, True, "You let a model pass that adds what it said last. "
         "Compare what it says about x after another input with what a new "
         "model says."),
        (_Counts, True, "You let a model pass that counts its calls in a "
         "buffer."),
        (_Caches, True, "You let a model pass that remembers its first input. "
         "Asked twice about x it says the same: show it the other input "
         "first."),
    ):  # fmt: skip
        said = keeps_state(make, x, other)
        require(
            isinstance(said, bool),
            f"Return True or False, not a {type(said).__name__}.",
        )
        require(said == truth, message)


def _pooled(states, q, dim=1, root=True):
    scores = states @ q / (len(q) ** 0.5 if root else 1)
    weights = torch.softmax(scores, dim=dim)
    return (weights.unsqueeze(-1) * states).sum(1)


def check_attention_pool(attention_pool):
    """By hand: scores ln 3 and 0 give the weights ¾ and ¼."""
    by_hand = torch.tensor([[[1.0], [0.0]]])
    compare(
        attention_pool(by_hand, torch.tensor([3.0]).log()),
        torch.tensor([[0.75]]),
        "The pool of the states 1 and 0 with q = log 3",
        [
            (torch.tensor([[0.5]]), "All time steps weigh the same: that is "
             "the mean. Where is the softmax of the scores?"),
            (torch.tensor([[1.0]]), "The weights do not sum to 1 over time: "
             "the softmax runs along another axis."),
            (torch.tensor([[3.0]]).log(), "The scores themselves are the "
             "weights: put them through a softmax."),
        ],
    )  # fmt: skip
    states = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    q = torch.tensor([1.0, -2.0])
    compare(
        attention_pool(states, q),
        _pooled(states, q),
        "The pool of three random sequences",
        [
            (_pooled(states, q, root=False), "Divide the scores by √d, the "
             "root of the states' size."),
            (_pooled(states, q, dim=0), "The softmax runs over the examples: "
             "each example must mind its own time steps, axis 1."),
        ],
    )  # fmt: skip

    def by_q(pool, q):
        return grad(lambda q: (pool(states, q) ** 2).sum())(q)

    def bend(pool):
        return vmap(grad(lambda q: (by_q(pool, q) ** 2).sum()))(q.expand(2, 2))

    try:
        bent = bend(attention_pool)
    except RuntimeError as error:
        text = str(error).split("\n")[0]
        require(False, f"Right values, but torch.func stops at it: {text}")
    require(
        torch.allclose(bent, bend(_pooled), rtol=1e-3, atol=1e-5),
        "Right values, wrong second derivative by q: something in it is "
        "detached.",
    )


def _valley(params, batch):
    """L = mean ½ y (u - x)²: each task has a centre and a curvature."""
    return (batch.y * (params["u"] - batch.x) ** 2 / 2).mean()


_SUPPORT = Batch(torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [3.0]]))
_QUERY = Batch(torch.tensor([[3.0], [-2.0]]), torch.tensor([[2.0], [1.0]]))
_TASKS = Tasks(_SUPPORT, _QUERY)


def _u(value):
    return {"u": torch.tensor(value)}


def _slopes(params, rates, first_order=False):
    def loss(params, rates):
        return meta_loss(
            params, _valley, _TASKS, lr=rates, first_order=first_order
        )

    by_start, by_rate = grad(loss, argnums=(0, 1))(params, rates)
    return by_start["u"], by_rate["u"]


def check_meta_sgd_update(meta_sgd_update):
    """Against autograd of `meta_loss`, whose α is a dict."""
    params, rates, beta = _u(1.0), _u(0.1), 0.5
    pair = meta_sgd_update(params, rates, _valley, _TASKS, beta)
    both = isinstance(pair, tuple | list) and len(pair) == 2
    require(
        both and all(isinstance(d, dict) and [*d] == ["u"] for d in pair),
        "Return two dicts, (params, rates), with the names of params.",
    )
    require(
        params == _u(1.0) and rates == _u(0.1),
        "You changed params or rates itself. Return new dicts.",
    )
    by_start, by_rate = _slopes(params, rates)
    first, _ = _slopes(params, rates, first_order=True)
    plain = grad(meta_loss)(params, _valley, _TASKS, lr=0.0)["u"]
    compare(
        pair[0]["u"],
        params["u"] - beta * by_start,
        "u after the update",
        [
            (params["u"], "θ stays where it is: both must move."),
            (params["u"] + beta * by_start, "θ moves uphill."),
            (params["u"] - beta * first, "θ follows the first-order "
             "gradient."),
            (params["u"] - beta * plain, "The rates are not used in the inner "
             "step: hand lr=rates to meta_loss."),
        ],
    )  # fmt: skip
    moved = {"u": params["u"] - beta * by_start}
    compare(
        pair[1]["u"],
        rates["u"] - beta * by_rate,
        "The rate after the update",
        [
            (rates["u"], "Your rates never move: they are used, but not "
             "updated. This is MAML with a fixed α."),
            (rates["u"] + beta * by_rate, "α moves the wrong way: down the "
             "gradient, as θ does."),
            (rates["u"] - beta * by_start, "α moves by the gradient of θ. It "
             "has one of its own: argnums=(0, 1)."),
            (rates["u"] - beta * _slopes(moved, rates)[1], "α's gradient was "
             "taken after θ had moved. Take both first, then step."),
        ],
    )  # fmt: skip


EXERCISES = {
    "8.1": Exercise(
        name="keeps_state",
        check=check_keeps_state,
        hints=(
            "What would a newborn model say about x? Compare that with what "
            "an experienced one says.",
            "old = make(); old(other); then compare old(x) with make()(x) by "
            "torch.equal.",
        ),
        solution="""
def keeps_state(make, x, other):
    old = make()
    old(other)
    return not torch.equal(old(x), make()(x))
""",
        mistakes=(
            (
                """
def keeps_state(make, x, other):
    model = make()
    return not torch.equal(model(x), model(x))
""",
                "show it the other input first",
            ),
            (
                """
def keeps_state(make, x, other):
    return not torch.equal(make()(x), make()(x))
""",
                "adds what it said last",
            ),
            (
                """
def keeps_state(make, x, other):
    model = make()
    return not torch.equal(model(x), model(other))
""",
                "accuse a model that keeps nothing",
            ),
            (
                """
def keeps_state(make, x, other):
    old = make()
    before = set(vars(old))
    old(other)
    return set(vars(old)) != before
""",
                "counts its calls",
            ),
            (
                """
def keeps_state(make, x, other):
    old = make()
    old(other)
    return (old(x) != make()(x)).any()
""",
                "Return True or False",
            ),
        ),
    ),
    "8.2": Exercise(
        name="attention_pool",
        check=check_attention_pool,
        hints=(
            "states @ q has shape (examples, time): one score a time step.",
            "weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1), then "
            "the sum over time of weights.unsqueeze(-1) * states.",
        ),
        solution="""
def attention_pool(states, q):
    weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1)
    return (weights.unsqueeze(-1) * states).sum(dim=1)
""",
        mistakes=(
            (
                """
def attention_pool(states, q):
    return states.mean(dim=1)
""",
                "that is the mean",
            ),
            (
                """
def attention_pool(states, q):
    weights = torch.softmax(states @ q / len(q) ** 0.5, dim=0)
    return (weights.unsqueeze(-1) * states).sum(dim=1)
""",
                "along another axis",
            ),
            (
                """
def attention_pool(states, q):
    weights = states @ q / len(q) ** 0.5
    return (weights.unsqueeze(-1) * states).sum(dim=1)
""",
                "The scores themselves",
            ),
            (
                """
def attention_pool(states, q):
    weights = torch.softmax(states @ q, dim=1)
    return (weights.unsqueeze(-1) * states).sum(dim=1)
""",
                "by √d",
            ),
            (
                """
def attention_pool(states, q):
    weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1)
    return (weights.detach().unsqueeze(-1) * states).sum(dim=1)
""",
                "wrong second derivative",
            ),
            (
                """
def attention_pool(states, q):
    scores = states @ torch.tensor(q.tolist()) / len(q) ** 0.5
    weights = torch.softmax(scores, dim=1)
    return (weights.unsqueeze(-1) * states).sum(dim=1)
""",
                "torch.func stops",
            ),
            (
                """
def attention_pool(states, q):
    weights = torch.softmax(states @ q / len(q) ** 0.5, dim=1)
    return weights.unsqueeze(-1) * states
""",
                "should have shape",
            ),
        ),
    ),
    "8.3": Exercise(
        name="meta_sgd_update",
        check=check_meta_sgd_update,
        hints=(
            "Write a function of (params, rates) that returns meta_loss with "
            "lr=rates, and differentiate it by both.",
            "grad(loss, argnums=(0, 1))(params, rates) returns two dicts of "
            "slopes.",
        ),
        solution="""
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    def loss(params, rates):
        return meta_loss(params, loss_fn, tasks, lr=rates)

    slopes = grad(loss, argnums=(0, 1))(params, rates)
    return tuple(
        {k: old[k] - meta_lr * slope[k] for k in old}
        for old, slope in zip((params, rates), slopes)
    )
""",
        mistakes=(
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(meta_loss)(params, loss_fn, tasks, lr=rates)
    return {k: params[k] - meta_lr * slope[k] for k in params}, dict(rates)
""",
                "Your rates never move",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(meta_loss)(params, loss_fn, tasks, lr=rates)
    return ({k: params[k] - meta_lr * slope[k] for k in params},
            {k: rates[k] - meta_lr * slope[k] for k in params})
""",
                "by the gradient of θ",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(lambda r: meta_loss(params, loss_fn, tasks, lr=r))(rates)
    return dict(params), {k: rates[k] - meta_lr * slope[k] for k in rates}
""",
                "θ stays where it is",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    slope = grad(meta_loss)(params, loss_fn, tasks, lr=rates)
    params = {k: params[k] - meta_lr * slope[k] for k in params}
    slope = grad(lambda r: meta_loss(params, loss_fn, tasks, lr=r))(rates)
    return params, {k: rates[k] - meta_lr * slope[k] for k in rates}
""",
                "after θ had moved",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    def loss(p, r):
        return meta_loss(p, loss_fn, tasks, lr=r, first_order=True)

    one, two = grad(loss, argnums=(0, 1))(params, rates)
    return ({k: params[k] - meta_lr * one[k] for k in params},
            {k: rates[k] - meta_lr * two[k] for k in rates})
""",
                "first-order gradient",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    def loss(p, r):
        return meta_loss(p, loss_fn, tasks, lr=r)

    one, two = grad(loss, argnums=(0, 1))(params, rates)
    return ({k: params[k] - meta_lr * one[k] for k in params},
            {k: rates[k] + meta_lr * two[k] for k in rates})
""",
                "the wrong way",
            ),
            (
                """
def meta_sgd_update(params, rates, loss_fn, tasks, meta_lr):
    def loss(p, r):
        return meta_loss(p, loss_fn, tasks, lr=r)

    one, two = grad(loss, argnums=(0, 1))(params, rates)
    for k in params:
        params[k] = params[k] - meta_lr * one[k]
        rates[k] = rates[k] - meta_lr * two[k]
    return params, rates
""",
                "changed params or rates itself",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "Your model uses nn.LSTM, and meta_loss stops. What do you do?",
        (
            (
                'Pass over_tasks="loop".',
                "The loop never batches over tasks, and the fused layer's "
                "second derivative is right.",
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
        right=0,
    ),
    Question(
        "A layer runs under vmap without a warning. What does that show?",
        (
            (
                "That its meta-gradient is right.",
                "LayerNorm with weights runs too, and is wrong.",
            ),
            (
                "That it keeps no state.",
                "A cache may well run.",
            ),
            (
                "Little: compare the meta-gradient with differences.",
                "Two evaluations along a direction test all of it.",
            ),
        ),
        right=2,
    ),
    Question(
        "Meta-SGD's α of one entry has become very small. What may it mean?",
        (
            (
                "The entry is useless and can be removed.",
                "θ may need it; only its adapting does not pay.",
            ),
            (
                "Support and query gradient of the entry hardly agree, so "
                "moving it does not help new examples.",
                "α grows with the product of the two gradients.",
            ),
            (
                "The learning rate of α was too large.",
                "That makes it jump, not shrink.",
            ),
        ),
        right=1,
    ),
)
