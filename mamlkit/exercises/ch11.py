"""Exercises of chapter 11: avoid the pitfalls."""

import torch
from torch import Tensor
from torch.func import grad

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.tasks import Batch, Tasks


def _fixed_labels(n_tasks: int, n_way: int) -> Tasks:
    """Tasks whose x is the class, so that a label can be traced."""
    y = torch.arange(n_way).repeat(n_tasks, 1)

    def part(k):
        labels = y.repeat_interleave(k, 1)
        return Batch(labels.unsqueeze(-1).float() + 0.5, labels)

    return Tasks(part(2), part(3))


def check_relabel(relabel):
    """On four ways, where x is the class plus a half."""
    tasks, n_way = _fixed_labels(60, 4), 4

    def run(seed=0):
        return relabel(tasks, n_way, torch.Generator().manual_seed(seed))

    found = run()
    require(
        isinstance(found, tuple) and len(found) == 2,
        "Return Tasks: a support set and a query set.",
    )
    require(
        torch.equal(tasks.support.y, _fixed_labels(60, 4).support.y),
        "You changed the labels of tasks itself. Make new ones.",
    )
    for name, new, old in zip(("support", "query"), found, tasks):
        require(
            torch.equal(new.x, old.x),
            f"{name}.x must stay as it is, in order.",
        )
        require(
            new.y.shape == old.y.shape and new.y.dtype == old.y.dtype,
            f"{name}.y should be {old.y.dtype} of shape "
            f"{tuple(old.y.shape)}, but is {new.y.dtype} of shape "
            f"{tuple(new.y.shape)}.",
        )
        require(
            bool(((new.y >= 0) & (new.y < n_way)).all()),
            f"Labels must lie in 0..{n_way - 1}.",
        )
    require(
        not torch.equal(found[0].y, tasks.support.y)
        or not torch.equal(found[1].y, tasks.query.y),
        "All labels are what they were.",
    )
    support, query = (
        # The label of each class, or -1 where it has several.
        torch.stack([_one_label(batch, c) for c in range(n_way)], 1)
        for batch in found
    )
    require(
        bool((support >= 0).all() and (query >= 0).all()),
        "Within a task one class has several labels: permute classes, not "
        "examples.",
    )
    require(
        torch.equal(support, query),
        "A class is called one thing in the support set and another in the "
        "query set: one permutation for both.",
    )
    require(
        bool((support.sort(1).values == torch.arange(n_way)).all()),
        "Two classes of a task share a label: draw a permutation, without "
        "replacement.",
    )
    require(
        len(support.unique(dim=0)) > 1,
        "Every task has the same permutation: the labels still agree from "
        "task to task.",
    )
    require(
        len(support.unique(dim=0)) > 12,
        f"There are 24 ways to number 4 classes, and 60 tasks use only "
        f"{len(support.unique(dim=0))}. Turning the order round is not "
        "enough.",
    )
    require(
        torch.equal(run().support.y, found[0].y),
        "The same seed gives other labels: pass generator to what is random.",
    )
    require(
        not torch.equal(run(1).support.y, found[0].y),
        "Another seed gives the same labels: draw from generator.",
    )
    # A class need not sit at the position of its label.
    turned = Tasks(*(Batch(b.x, (b.y + 1) % n_way) for b in tasks))
    again = relabel(turned, n_way, torch.Generator().manual_seed(0))
    labels = torch.stack([_one_label(again[0], c) for c in range(n_way)], 1)
    require(
        bool((labels >= 0).all()) and not torch.equal(again[0].y, found[0].y),
        "You number examples by their place. Look the old label up in the "
        "permutation.",
    )


def _one_label(batch: Batch, class_: int) -> Tensor:
    """The label of a class in each task, -1 if it has several."""
    mine = (batch.x.squeeze(-1) - 0.5).long() == class_
    low = batch.y.masked_fill(~mine, 10**6).amin(1)
    high = batch.y.masked_fill(~mine, -1).amax(1)
    return low.where(low == high, torch.tensor(-1))


def check_central_slope(central_slope):
    """On w³ summed plus a product, with a step of 0.25."""
    params = {
        "w": torch.tensor([1.0, -2.0], dtype=torch.float64),
        "b": torch.tensor(0.5, dtype=torch.float64),
    }
    direction = {
        "w": torch.tensor([0.5, 2.0], dtype=torch.float64),
        "b": torch.tensor(-1.0, dtype=torch.float64),
    }
    before = {name: p.clone() for name, p in params.items()}

    def fn(p):
        require(
            isinstance(p, dict) and p.keys() == params.keys(),
            "fn takes a dict with all the names of params.",
        )
        return ((p["w"] ** 3).sum() + p["b"] ** 3 + p["w"].prod()).detach()

    def at(step, names=("w", "b")):
        return fn(
            {
                n: p + (step * direction[n] if n in names else 0)
                for n, p in params.items()
            }
        )

    eps = 0.25
    found = central_slope(fn, params, direction, eps)
    require(
        all(torch.equal(params[n], before[n]) for n in params),
        "You changed params itself. Make new dicts.",
    )
    length = sum((v**2).sum() for v in direction.values()) ** 0.5
    right = (at(eps) - at(-eps)) / (2 * eps)
    unit = (at(eps / length) - at(-eps / length)) / (2 * eps)
    compare(
        found if found is None else torch.as_tensor(found),
        right,
        "The slope with eps = 0.25",
        [
            ((at(eps) - at(0)) / eps, "One-sided: the error is of the order "
             "of eps. Step both ways."),
            ((at(0) - at(-eps)) / eps, "This looks back only: the error is "
             "of the order of eps. Step both ways."),
            (2 * right, "Twice the slope: the two points are 2 eps apart."),
            (-right, "The sign is wrong: above minus below."),
            (right * eps, "Divide by the distance, 2 eps."),
            (unit, "You shortened the direction to length 1. Take it as it "
             "is."),
            (unit * length, "You shortened the direction to length 1. Take "
             "it as it is."),
            (2 * eps * right, "This is the difference of the losses, not yet "
             "divided."),
            ((at(eps, "w") - at(-eps, "w")) / (2 * eps), "Only w moves. Move "
             "every parameter along its direction at once."),
        ],
    )  # fmt: skip


def _bowl(params, batch):
    """½ (w - y)², whose gradient is w - y."""
    return ((params["w"] - batch.y) ** 2).sum() / 2


def _run_all(
    params, supports, lr, steps, momentum, keep_params=False, keep_v=False
):
    """Adapt to every task; with either flag, with that leak."""
    start, results = params, []
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}
    for support in supports:
        if not keep_params:
            params = start
        if not keep_v:
            velocity = {n: torch.zeros_like(p) for n, p in start.items()}
        for _ in range(steps):
            grads = grad(_bowl)(params, support)
            velocity = {n: momentum * velocity[n] + grads[n] for n in grads}
            params = {n: p - lr * velocity[n] for n, p in params.items()}
        results.append(params)
    return results


def check_adapt_all(adapt_all):
    """Three bowls with different centres, two steps, momentum 0.5."""
    params = {"w": torch.tensor(1.0)}
    supports = [
        Batch(torch.zeros(1), torch.tensor(c)) for c in (8.0, 4.0, -2.0)
    ]
    options = {"lr": 0.25, "steps": 2, "momentum": 0.5}
    found = adapt_all(params, _bowl, supports, **options)
    require(params["w"] == 1.0, "You changed params itself.")
    require(
        isinstance(found, list | tuple) and len(found) == 3,
        "Return a list with one dict of parameters for each task.",
    )
    require(
        all(isinstance(p, dict) and p.keys() == {"w"} for p in found),
        "Every result should be a dict with the names of params.",
    )

    def results(**leaks):
        runs = _run_all(params, supports, **options, **leaks)
        return torch.stack([p["w"] for p in runs])

    plain = _run_all(params, supports, 0.25, 2, 0.0)
    compare(
        torch.stack([p["w"] for p in found]),
        results(),
        "The adapted w of three tasks",
        [
            (results(keep_params=True, keep_v=True), "Both leaks are still "
             "there: a task begins where the last one ended, and in its "
             "stride."),
            (results(keep_v=True), "Every task begins at params now, but the "
             "velocity of the last task pushes it."),
            (results(keep_params=True), "The velocity is fresh, but a task "
             "begins where the last one ended, not at params."),
            (torch.stack([p["w"] for p in plain]), "There is no momentum any "
             "more. Keep it within a task, and start it at zero."),
        ],
    )  # fmt: skip


def check_honest_report(honest_report):
    """Three seeds: validation prefers the second, test the third."""
    validation = torch.tensor(
        [[80.0, 70, 90, 80], [90.0, 95, 85, 91], [85.0, 85, 90, 84]]
    )
    test = torch.tensor([[78.0, 80, 70], [84.0, 90, 81], [99.0, 96, 93]])
    found = honest_report(validation, test)
    require(
        isinstance(found, tuple | list) and len(found) == 2,
        "Return two numbers: the mean and half the interval's width.",
    )
    mean, half = (torch.as_tensor(number) for number in found)
    compare(
        mean,
        test[1].mean(),
        "The mean",
        [
            (test[2].mean(), "This seed was chosen by its test accuracy: the "
             "best of several, luck included. Validation chooses."),
            (test.mean(), "This is the mean over all seeds. Here one is "
             "chosen, by validation."),
            (validation[1].mean(), "This is the chosen seed's validation "
             "accuracy, which is lucky too. Report its test tasks."),
        ],
    )  # fmt: skip
    n = test.shape[1]
    spread = test[1].std()
    compare(
        half,
        1.96 * spread / n**0.5,
        "Half the interval",
        [
            (1.96 * spread, "This is the spread between tasks. The mean of n "
             "tasks varies less, by the root of n."),
            (spread / n**0.5, "This is one standard error. 95 % takes 1.96."),
            (2 * 1.96 * spread / n**0.5, "This is the whole width. Report "
             "half of it, as in ±."),
            (1.96 * test[1].std(correction=0) / n**0.5, "Divide by n - 1 in "
             "the variance: torch's std does so by default."),
            (1.96 * validation[1].std() / 2, "This is the interval of "
             "validation. The number is of test tasks."),
        ],
    )  # fmt: skip


_RELABEL = """
def relabel(tasks, n_way, generator):
    n_tasks = len(tasks.support.y)
    scores = torch.rand({rows}, n_way, generator=generator)
    new = scores.argsort(-1).expand(n_tasks, n_way)
    other = torch.rand(n_tasks, n_way, generator=generator).argsort(-1)
    return Tasks(
        Batch(tasks.support.x, new.gather(1, tasks.support.y)),
        Batch(tasks.query.x, {query}.gather(1, tasks.query.y)),
    )
"""

_SLOPE = """
def central_slope(fn, params, direction, eps):
    def at(step):
        return fn({{n: p + step * direction[n] for n, p in params.items()}})
    return {}
"""

_ADAPT_ALL = """
def adapt_all(params, loss_fn, supports, lr, steps, momentum):
    results = []
    adapted = params
    velocity = {{n: torch.zeros_like(p) for n, p in params.items()}}
    for support in supports:
{reset}
        for _ in range(steps):
            grads = grad(loss_fn)(adapted, support)
            velocity = {{n: {kept} + grads[n] for n in grads}}
            adapted = {{n: p - lr * velocity[n] for n, p in adapted.items()}}
        results.append(adapted)
    return results
"""
_BACK = "        adapted = params\n"
_STILL = (
    "        velocity = {n: torch.zeros_like(p) for n, p in params.items()}\n"
)

_REPORT = """
def honest_report(validation, test):
    chosen = {chosen}
    scores = test[chosen]
    mean = {mean}
    half = {half}
    return mean, half
"""


def _adapt_all(reset=_BACK + _STILL, kept="momentum * velocity[n]"):
    return _ADAPT_ALL.format(reset=reset, kept=kept)


def _report(
    chosen="validation.mean(1).argmax()",
    mean="scores.mean()",
    half="1.96 * scores.std() / len(scores) ** 0.5",
):
    return _REPORT.format(chosen=chosen, mean=mean, half=half)


EXERCISES = {
    "11.1": Exercise(
        name="relabel",
        check=check_relabel,
        hints=(
            "One permutation a task: torch.rand(n_tasks, n_way, "
            "generator=generator).argsort(-1).",
            "new.gather(1, y) looks every label up in its task's row.",
        ),
        solution=_RELABEL.format(rows="n_tasks", query="new"),
        mistakes=(
            (
                _RELABEL.format(rows="n_tasks", query="other"),
                "one thing in the support set and another",
            ),
            (
                _RELABEL.format(rows=1, query="new"),
                "Every task has the same permutation",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    def shuffled(batch):
        order = torch.rand(batch.y.shape, generator=generator).argsort(-1)
        return Batch(batch.x, batch.y.gather(1, order))
    return Tasks(*map(shuffled, tasks))
""",
                "permute classes, not examples",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    new = torch.randint(n_way, (len(tasks.support.y), n_way),
                        generator=generator)
    return Tasks(*(Batch(b.x, new.gather(1, b.y)) for b in tasks))
""",
                "share a label",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    by = torch.randint(n_way, (len(tasks.support.y), 1), generator=generator)
    return Tasks(*(Batch(b.x, (b.y + by) % n_way) for b in tasks))
""",
                "Turning the order round",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    new = torch.rand(len(tasks.support.y), n_way).argsort(-1)
    return Tasks(*(Batch(b.x, new.gather(1, b.y)) for b in tasks))
""",
                "The same seed gives other labels",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    g = torch.Generator().manual_seed(0)
    new = torch.rand(len(tasks.support.y), n_way, generator=g).argsort(-1)
    return Tasks(*(Batch(b.x, new.gather(1, b.y)) for b in tasks))
""",
                "Another seed gives the same labels",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    return tasks
""",
                "what they were",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    new = torch.rand(len(tasks.support.y), n_way,
                     generator=generator).argsort(-1)
    for b in tasks:
        b.y.copy_(new.gather(1, b.y))
    return tasks
""",
                "labels of tasks itself",
            ),
            (
                """
def relabel(tasks, n_way, generator):
    new = torch.rand(len(tasks.support.y), n_way,
                     generator=generator).argsort(-1)
    def numbered(b):
        return Batch(b.x, new.repeat_interleave(b.y.shape[1] // n_way, 1))
    return Tasks(*map(numbered, tasks))
""",
                "by their place",
            ),
        ),
    ),
    "11.2": Exercise(
        name="central_slope",
        check=check_central_slope,
        hints=(
            "Two dicts: params moved by eps along direction, and by -eps.",
            "Their losses are 2 eps apart: (up - down) / (2 * eps).",
        ),
        solution=_SLOPE.format("(at(eps) - at(-eps)) / (2 * eps)"),
        mistakes=(
            (_SLOPE.format("(at(eps) - at(0)) / eps"), "One-sided"),
            (_SLOPE.format("(at(0) - at(-eps)) / eps"), "looks back only"),
            (
                _SLOPE.format("(at(eps) - at(-eps)) / eps"),
                "Twice the slope",
            ),
            (
                _SLOPE.format("(at(-eps) - at(eps)) / (2 * eps)"),
                "sign is wrong",
            ),
            (_SLOPE.format("at(eps) - at(-eps)"), "not yet divided"),
            (
                """
def central_slope(fn, params, direction, eps):
    size = sum((v ** 2).sum() for v in direction.values()) ** 0.5
    def at(step):
        return fn({n: p + step * direction[n] / size
                   for n, p in params.items()})
    return (at(eps) - at(-eps)) / (2 * eps)
""",
                "length 1",
            ),
            (
                """
def central_slope(fn, params, direction, eps):
    for n, v in direction.items():
        params[n] += eps * v
    up = fn(params)
    for n, v in direction.items():
        params[n] -= 2 * eps * v
    return (up - fn(params)) / (2 * eps)
""",
                "changed params itself",
            ),
            (
                """
def central_slope(fn, params, direction, eps):
    def at(step):
        return fn(params | {"w": params["w"] + step * direction["w"]})
    return (at(eps) - at(-eps)) / (2 * eps)
""",
                "Only w moves",
            ),
        ),
    ),
    "11.3": Exercise(
        name="adapt_all",
        check=check_adapt_all,
        hints=(
            "What is set before the loop over tasks, and changed within it?",
            "params is overwritten: give the inner loop a name of its own. "
            "And make a new velocity for each task.",
        ),
        solution=_adapt_all(),
        mistakes=(
            (_adapt_all(reset=""), "Both leaks"),
            (_adapt_all(reset=_BACK), "velocity of the last task"),
            (_adapt_all(reset=_STILL), "The velocity is fresh"),
            (_adapt_all(kept="0"), "no momentum any more"),
            (
                """
def adapt_all(params, loss_fn, supports, lr, steps, momentum):
    for support in supports:
        params = {n: p - lr * grad(loss_fn)(params, support)[n]
                  for n, p in params.items()}
    return params
""",
                "a list with one dict",
            ),
        ),
    ),
    "11.4": Exercise(
        name="honest_report",
        check=check_honest_report,
        hints=(
            "validation.mean(1) has one number a seed; argmax says which.",
            "The standard error of a mean over n tasks is std / n ** 0.5.",
        ),
        solution=_report(),
        mistakes=(
            (_report(chosen="test.mean(1).argmax()"), "Validation chooses"),
            (_report(mean="test.mean()"), "mean over all seeds"),
            (_report(mean="validation[chosen].mean()"), "lucky too"),
            (_report(half="1.96 * scores.std()"), "spread between tasks"),
            (
                _report(half="scores.std() / len(scores) ** 0.5"),
                "one standard error",
            ),
            (
                _report(half="2 * 1.96 * scores.std() / len(scores) ** 0.5"),
                "whole width",
            ),
            (
                _report(
                    half="1.96 * scores.std(correction=0) / len(scores) ** 0.5"
                ),
                "n - 1",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A network adapts to new tasks no better than before its inner step, "
        "though its training loss is close to zero. What do you try first?",
        (
            (
                "Train longer.",
                "The loss has nowhere to go. Look at what it measures.",
            ),
            (
                "Give its training tasks each other's support sets.",
                "If nothing changes, it never looked at the support set.",
            ),
            (
                "More inner steps.",
                "Steps on a support set that is ignored teach nothing.",
            ),
        ),
        right=1,
    ),
    Question(
        "The slope check passes for first-order MAML on a linear model with "
        "a loss that is linear, too. Why?",
        (
            (
                "The check is broken.",
                "It compares right numbers.",
            ),
            (
                "The Hessian is zero there, so both gradients are equal.",
                "A control must be run where the mistake can show.",
            ),
            (
                "ε was too large.",
                "On a linear loss any ε is exact.",
            ),
        ),
        right=1,
    ),
    Question(
        "Labels are noise, 5 ways, and a method scores 28 %. What share of "
        "the queries is also in the support set, if it finds all of those?",
        (
            ("8 %.", "That is what is above chance; the rest is guessed."),
            ("10 %.", "0.1 + 0.9 / 5 = 0.28."),
            ("28 %.", "Of the others, one in five is right by luck."),
        ),
        right=1,
    ),
    Question(
        "You train ten seeds. What may stand in the table?",
        (
            (
                "The best on the test tasks.",
                "That is the truth plus the best luck of ten.",
            ),
            (
                "The mean over the ten, with its interval.",
                "Or the test accuracy of the one that validation prefers, "
                "if you say so.",
            ),
            (
                "The best on test tasks, if there are many tasks.",
                "Smaller luck, but the seeds' own spread is still picked "
                "from.",
            ),
        ),
        right=1,
    ),
)
