"""Exercises of chapter 04: differentiate through learning."""

import torch
from torch.func import grad

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Batch, Tasks


def check_by_hand(meta_gradient_by_hand):
    """The first case is the text's: (1 - 0.2) · 2 (1.4 - 4) = -4.16."""
    for w, a, c, q, lr in ((1.0, 2.0, 3.0, 4.0, 0.1), (2.0, 0.5, -1, 0, 0.4)):
        found = meta_gradient_by_hand(w, a, c, q, lr)
        require(found is not None, "Return the number.")
        found = torch.as_tensor(found)
        adapted = w - lr * a * (w - c)
        where = f"The meta-gradient at w={w}, a={a}, c={c}, q={q}, lr={lr}"
        cases = [
            (a * (adapted - q), "Your gradient ignores the path through θ′: "
             "this is first-order MAML. Multiply by dw′/dw."),
            ((1 - lr * a) * a * (w - q), "You take the query gradient at w. "
             "It belongs at w′, after the step."),
            ((1 - lr * a) * (adapted - q), "The query gradient lacks its "
             "factor a, the curvature."),
            ((1 - lr * a) * a * (adapted - c), "You judge on the support "
             "target c. The query target is q."),
            ((1 + lr * a) * a * (adapted - q), "dw′/dw has the wrong sign in "
             "it: w′ = w - lr a (w - c)."),
        ]  # fmt: skip
        compare(
            found.double(),
            torch.tensor((1 - lr * a) * a * (adapted - q)).double(),
            where,
            [(torch.tensor(v).double(), text) for v, text in cases],
        )


def check_finite_difference(finite_difference):
    """On sum(w³) + 2 w₁w₂w₃w₄, whose differences with eps 0.1 are coarse."""

    def fn(w):
        require(
            w.shape == (2, 2),
            "fn takes a tensor of w's whole shape: nudge one entry of a copy "
            "and pass all of it.",
        )
        return (w.detach() ** 3).sum() + 2 * w.detach().prod()

    def differences(up, down, scale):
        found = torch.zeros_like(w)
        for i in range(4):
            nudge = torch.zeros_like(w)
            nudge.view(-1)[i] = 0.1
            found.view(-1)[i] = (fn(w + up * nudge) - fn(w - down * nudge)) / (
                0.1 * scale
            )
        return found

    w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    before = w.clone()
    found = finite_difference(fn, w, 0.1)
    require(torch.equal(w, before), "You changed w itself. Work on a copy.")
    one_sided = (
        "These are one-sided differences, off by about eps. Take "
        "(fn(w + eps) - fn(w - eps)) / (2 eps)."
    )
    together = (fn(w + 0.1) - fn(w - 0.1)) / 0.2
    require(
        not isinstance(found, torch.Tensor) or found.dim(),
        "This is one number for all entries. Nudge one entry at a time, and "
        "collect the results in a tensor like w.",
    )
    compare(
        found,
        differences(1, 1, 2),
        "The central differences with eps 0.1",
        [
            (differences(1, 0, 1), one_sided),
            (differences(0, 1, 1), one_sided),
            (differences(1, 1, 1), "Twice too large: divide by 2 eps."),
            (together.expand_as(w), "You nudge all entries together. Nudge "
             "one at a time."),
            (torch.zeros_like(w), "All zeros: autograd sees nothing here. "
             "Use values of fn only."),
        ],
    )  # fmt: skip


def _cubic(params, batch):
    """L = mean (w x + w³ - y)²: a curvature that changes with w."""
    w = params["w"]
    return ((w * batch.x + w**3 - batch.y) ** 2).mean()


def check_mended(mended_meta_gradient):
    """Against grad(meta_loss), which the chapter has checked four ways."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, 1, generator=generator, dtype=torch.float64)
    y = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).view(3, 1, 1) * x
    tasks = Tasks(Batch(x[:, :4], y[:, :4]), Batch(x[:, 4:], y[:, 4:]))
    params = {"w": torch.tensor(0.7, dtype=torch.float64)}
    found = mended_meta_gradient(params, _cubic, tasks, 0.05)
    require(
        isinstance(found, dict) and found.keys() == params.keys(),
        "Return a dict with the names of params.",
    )
    require(params["w"] == 0.7, "You changed params itself.")

    def right(tasks, first_order=False):
        options = {"lr": 0.05, "first_order": first_order}
        return grad(meta_loss)(params, _cubic, tasks, **options)["w"]

    last = Tasks(*(Batch(b.x[-1:], b.y[-1:]) for b in tasks))
    swapped = Tasks(tasks.support, tasks.support)
    compare(
        found["w"],
        right(tasks),
        "The meta-gradient",
        [
            (right(last, True), "Both bugs are still there: first order, and "
             "only the last task counts. Differentiate with respect to "
             "params, not adapted."),
            (right(tasks, True), "Every task counts now, but the gradient "
             "ignores the path through θ′: this is first-order MAML. Is "
             "something detached, or do you differentiate with respect to "
             "adapted?"),
            (right(last), "Second order now, but only the last task counts."),
            (3 * right(tasks), "This is the sum over tasks. Take the mean."),
            (right(tasks) - right(tasks, True), "θ′ starts from a detached θ: "
             "only the path through the gradient is left."),
            (right(swapped), "You judge on the support set. Use the query."),
        ],
    )  # fmt: skip


_BY_HAND = """
def meta_gradient_by_hand(w, a, c, q, lr):
    adapted = w - lr * a * (w - c)
    return {}
"""

_DIFFERENCE = """
def finite_difference(fn, w, eps=1e-5):
    result = torch.zeros_like(w)
    for i in range(w.numel()):
        nudge = torch.zeros_like(w)
        nudge.view(-1)[i] = eps
        result.view(-1)[i] = {}
    return result
"""

_MENDED = """
def mended_meta_gradient(params, loss_fn, tasks, lr):
    def total(params):
        losses = []
        for i in range(len(tasks.support.x)):
            support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
            grads = grad(loss_fn)(params, support)
            adapted = {{n: {start} - lr * {gradient} for n in params}}
            losses.append(loss_fn(adapted, {judged}))
        return {result}
    return grad(total)(params)
"""


def _mended(
    gradient="grads[n]",
    judged="query",
    result="torch.stack(losses).mean()",
    start="params[n]",
):
    return _MENDED.format(
        gradient=gradient, judged=judged, result=result, start=start
    )


EXERCISES = {
    "4.1": Exercise(
        name="meta_gradient_by_hand",
        check=check_by_hand,
        hints=(
            "First w′, then the query gradient at w′, then dw′/dw.",
            "w′ = w - lr a (w - c), so dw′/dw = 1 - lr a.",
        ),
        solution=_BY_HAND.format("(1 - lr * a) * a * (adapted - q)"),
        mistakes=(
            (_BY_HAND.format("a * (adapted - q)"), "first-order MAML"),
            (_BY_HAND.format("(1 - lr * a) * a * (w - q)"), "gradient at w."),
            (_BY_HAND.format("(1 - lr * a) * (adapted - q)"), "curvature"),
            (
                _BY_HAND.format("(1 - lr * a) * a * (adapted - c)"),
                "support target",
            ),
            (
                _BY_HAND.format("(1 + lr * a) * a * (adapted - q)"),
                "wrong sign",
            ),
        ),
    ),
    "4.2": Exercise(
        name="finite_difference",
        check=check_finite_difference,
        hints=(
            "For each entry: fn a little above, fn a little below.",
            "nudge = torch.zeros_like(w); nudge.view(-1)[i] = eps",
        ),
        solution=_DIFFERENCE.format(
            "(fn(w + nudge) - fn(w - nudge)) / (2 * eps)"
        ),
        mistakes=(
            (
                _DIFFERENCE.format("(fn(w + nudge) - fn(w)) / eps"),
                "one-sided",
            ),
            (
                _DIFFERENCE.format("(fn(w + nudge) - fn(w - nudge)) / eps"),
                "Twice too large",
            ),
            (
                _DIFFERENCE.format("(fn(w + eps) - fn(w - eps)) / (2 * eps)"),
                "all entries together",
            ),
            (
                """
def finite_difference(fn, w, eps=1e-5):
    return (fn(w + eps) - fn(w - eps)) / (2 * eps)
""",
                "one number for all",
            ),
            (
                """
def finite_difference(fn, w, eps=1e-5):
    w = w.clone().requires_grad_()
    return grad(fn)(w)
""",
                "Use values of fn only",
            ),
            (
                _DIFFERENCE.format("fn(w.view(-1)[i] + eps) / (2 * eps)"),
                "pass all of it",
            ),
            (
                """
def finite_difference(fn, w, eps=1e-5):
    result = torch.zeros_like(w)
    for i in range(w.numel()):
        w.view(-1)[i] += eps
        up = fn(w)
        w.view(-1)[i] -= 3 * eps
        result.view(-1)[i] = (up - fn(w)) / (3 * eps)
    return result
""",
                "changed w itself",
            ),
        ),
    ),
    "4.3": Exercise(
        name="mended_meta_gradient",
        check=check_mended,
        hints=(
            "Write the mean query loss as a function of params, then call "
            "grad on that function.",
            "Collect each task's query loss in a list; no detach anywhere.",
        ),
        solution=_mended(),
        mistakes=(
            (
                _mended("grads[n].detach()", result="losses[-1]"),
                "Both bugs",
            ),
            (_mended("grads[n].detach()"), "Every task counts now"),
            (_mended(result="losses[-1]"), "Second order now"),
            (_mended(result="sum(losses)"), "Take the mean"),
            (_mended(judged="support"), "Use the query"),
            (_mended(start="params[n].detach()"), "from a detached θ"),
        ),
    ),
}

QUIZ = (
    Question(
        "What does the outer loop minimise?",
        (
            (
                "The average support loss at θ.",
                "That is joint training: the left star.",
            ),
            (
                "The average query loss at each task's θ′.",
                "Judged after learning, on examples that learning did not "
                "see.",
            ),
            (
                "The distance between θ and every θ′.",
                "Being near in parameters is not the goal; a low loss after "
                "the step is.",
            ),
        ),
        right=1,
    ),
    Question(
        "Five inner steps make the meta-gradient ...",
        (
            (
                "a fifth-order derivative.",
                "No factor holds more than a second derivative.",
            ),
            (
                "a product of five factors I - αH times the query gradient.",
                "One factor for each step, each with the Hessian at that "
                "step's parameters.",
            ),
            (
                "five times as large.",
                "On the bowl the factor shrinks it: 0.8 to the fifth.",
            ),
        ),
        right=1,
    ),
    Question(
        "During training the loss at θ itself, before any step, goes up. "
        "What now?",
        (
            (
                "Lower β: training diverges.",
                "Look at the loss after the step first.",
            ),
            (
                "Nothing, if the query loss after the step goes down.",
                "The outer loop was never asked for a good θ, only for a "
                "good place to start from.",
            ),
            (
                "Raise α until it goes down.",
                "α does not change the loss at θ.",
            ),
        ),
        right=1,
    ),
)
