"""Exercises of chapter 11: avoid the pitfalls."""

from collections import Counter

import torch
from torch import Tensor

from mamlkit.exercises.compare import require, to_list, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import (
    coupled_loss,
    normal,
    seeded,
    some_batch,
    some_params,
    uniform,
    whole,
)
from mamlkit.exercises.words import about
from mamlkit.tasks import Batch, Tasks

RELABEL = """
def relabel(tasks, n_way, generator):
    n_tasks = len(tasks.support.y)
    new = torch.rand(n_tasks, n_way, generator=generator).argsort(-1)
    return Tasks(*(Batch(b.x, new.gather(1, b.y)) for b in tasks))
"""
SLOPE = """
def central_slope(fn, params, direction, eps):
    def at(step):
        return fn({n: p + step * direction[n] for n, p in params.items()})

    return (at(eps) - at(-eps)) / (2 * eps)
"""
ADAPT_ALL = """
def adapt_all(params, loss_fn, supports, lr, steps, momentum):
    results = []
    for support in supports:
        adapted = params
        velocity = {n: torch.zeros_like(p) for n, p in params.items()}
        for _ in range(steps):
            grads = grad(loss_fn)(adapted, support)
            velocity = {n: momentum * velocity[n] + grads[n] for n in grads}
            adapted = {n: p - lr * velocity[n] for n, p in adapted.items()}
        results.append(adapted)
    return results
"""
REPORT = """
def honest_report(validation, test):
    chosen = validation.mean(1).argmax()
    scores = test[chosen]
    return scores.mean(), 1.96 * scores.std() / len(scores) ** 0.5
"""
LOOKS = """
def looks_at_support(learner, tasks):
    own = torch.stack(
        [learner(Batch(*s), x) for *s, x in zip(*tasks.support, tasks.query.x)]
    )
    others = Batch(*(t.roll(1, 0) for t in tasks.support))
    swapped = torch.stack(
        [learner(Batch(*s), x) for *s, x in zip(*others, tasks.query.x)]
    )

    def error(answers):
        return (answers - tasks.query.y).square().mean()

    return error(own) < 0.7 * error(swapped)
"""


def fixed_labels(n_tasks: int, n_way: int, turn: int = 0) -> Tasks:
    """Tasks whose x is the class plus a half, so a label can be traced."""
    classes = torch.arange(n_way).repeat(n_tasks, 1)

    def part(k):
        shown = classes.repeat_interleave(k, 1)
        x = shown.unsqueeze(-1).float() + 0.5
        return Batch(x, (shown + turn) % n_way)

    return Tasks(part(2), part(3))


def numbers_anew(relabel):
    """Four ways in sixty tasks; other numbers; labels in another order."""
    labels = _labels(relabel, 60, 4)
    _labels(relabel, 5, 3, turn=1)
    _labels(relabel, 3, 2, turn=1)
    require(
        len(labels.unique(dim=0)) > 1,
        "Every task has the same permutation: the labels still agree from "
        "task to task.",
    )
    require(
        len(labels.unique(dim=0)) > 12,
        "There are 24 ways to number 4 classes, and 60 tasks use only "
        f"{len(labels.unique(dim=0))}. Turning the order round is not enough.",
    )
    # Two tasks agree by luck once in 24, so 2.5 of 60; 12 is 6 deviations.
    for apart in range(1, 31):
        agree = (labels == labels.roll(apart, 0)).all(1).sum().item()
        require(
            agree <= 12,
            f"Task i and task i + {apart} share their permutation in {agree} "
            "of 60 cases: draw each task's by itself.",
        )
    counts = Counter(labels[:, 0].tolist())
    require(
        len(counts) == 4 and min(counts.values()) >= 3,
        f"Class 0 gets the labels {sorted(counts)}, some of them hardly "
        "ever: every permutation should be as likely.",
    )


def _labels(relabel, n_tasks: int, n_way: int, turn: int = 0) -> Tensor:
    """The new label of every class, (tasks, n_way), after all checks."""
    tasks = fixed_labels(n_tasks, n_way, turn)

    def run(seed=0):
        found = to_list(relabel(tasks, n_way, seeded(seed)))
        require(
            found is not None and len(found) == 2,
            "Return Tasks: a support set and a query set.",
        )
        return found

    found, before = run(), fixed_labels(n_tasks, n_way, turn)
    require(
        torch.equal(tasks.support.y, before.support.y)
        and torch.equal(tasks.query.y, before.query.y),
        "You changed the labels of tasks itself. Make new ones.",
    )
    batches = []
    for name, new, old in zip(("support", "query"), found, tasks):
        x, y = new if to_list(new) and len(new) == 2 else (None, None)
        require(isinstance(y, Tensor), f"{name} should be a Batch(x, y).")
        require(
            torch.equal(x, old.x), f"{name}.x must stay as it is, in order."
        )
        require(
            y.shape == old.y.shape and not y.is_floating_point(),
            f"{name}.y should hold whole numbers, shape "
            f"{tuple(old.y.shape)}, but is {y.dtype} of shape "
            f"{tuple(y.shape)}.",
        )
        require(
            bool(((y >= 0) & (y < n_way)).all()),
            f"Labels must lie in 0..{n_way - 1}.",
        )
        batches.append(Batch(x, y.long()))
    kept = all(torch.equal(b.y, old.y) for b, old in zip(batches, tasks))
    require(not kept or n_tasks < 60, "All labels are what they were.")
    support, query = (
        # The label of each class, or -1 where it has several.
        torch.stack([_one_label(batch, c) for c in range(n_way)], 1)
        for batch in batches
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = run()[0][1]
    require(
        torch.equal(again, batches[0].y),
        "The same seed gives other labels: pass generator to what is random.",
    )
    require(
        n_tasks < 60 or not torch.equal(run(1)[0][1], batches[0].y),
        "Another seed gives the same labels: draw from generator.",
    )
    return support


def _one_label(batch: Batch, class_: int) -> Tensor:
    """The label of a class in each task, -1 if it has several."""
    mine = (batch.x.squeeze(-1) - 0.5).long() == class_
    low = batch.y.masked_fill(~mine, 10**6).amin(1)
    high = batch.y.masked_fill(~mine, -1).amax(1)
    return low.where(low == high, torch.tensor(-1))


def looks_labels_up(relabel):
    """A class need not sit at the position of its label."""
    tasks = fixed_labels(8, 4, turn=1)
    plain = relabel(fixed_labels(8, 4), 4, seeded())
    turned = relabel(tasks, 4, seeded())
    require(
        not torch.equal(to_list(plain)[0][1], to_list(turned)[0][1]),
        "You number examples by their place. Look the old label up in the "
        "permutation.",
    )


def relabels(relabel):
    """All that is to be said about it."""
    numbers_anew(relabel)
    looks_labels_up(relabel)


def cubes(names):
    """Cubes and a product of everything, values only."""

    def fn(params):
        require(
            isinstance(params, dict) and {*params} == {*names},
            "fn takes a dict with all the names of params.",
        )
        flat = torch.cat([params[n].reshape(-1) for n in names]).detach()
        return (flat**3).sum() + flat.prod() + flat.sum().sin()

    return fn


def first_slope():
    """On w³ + b³ at 1 and ½ along (1, -1) with ε = ¼.

    (1.25³ - 0.75³ + 0.25³ - 0.75³) / 0.5 = 2.25.
    """

    def fn(params):
        require(
            isinstance(params, dict) and {*params} == {"w", "b"},
            "fn takes a dict with all the names of params.",
        )
        return (params["w"] ** 3 + params["b"] ** 3).detach()

    params = {"w": torch.tensor(1.0).double(), "b": torch.tensor(0.5).double()}
    direction = {
        "w": torch.tensor(1.0).double(),
        "b": torch.tensor(-1.0).double(),
    }
    return fn, params, direction, 0.25


def slope_problem(g, number):
    """Steps so coarse that the ways to do it differ; any direction."""
    params = {
        k: p.double() for k, p in some_params(g, number, floor=2).items()
    }
    direction = {k: normal(g, *p.shape).double() for k, p in params.items()}
    return cubes([*params]), params, direction, uniform(g, 0.05, 0.5)


def bowl(params, batch):
    """½ (w - y)², whose gradient is w - y."""
    return ((params["w"] - batch.y) ** 2).sum() / 2


def three_bowls():
    """Two steps at α ¼ with momentum ½, from w = 1 to centres 8, 4, -2.

    Velocities -7, then -3.5 + (2.75 - 8) = -8.75: w goes to 4.9375. In the
    same way -3 leads to 2.6875 and 3 to -0.6875.
    """
    supports = [
        Batch(torch.zeros(1), torch.tensor(c)) for c in (8.0, 4.0, -2.0)
    ]
    return {"w": torch.tensor(1.0)}, bowl, supports, 0.25, 2, 0.5


def momentum_problem(g, number):
    """Several tasks, several steps, any momentum."""
    params = some_params(g, number)
    loss_fn = coupled_loss(g, params)
    supports = [some_batch(g, whole(g, 1, 3)) for _ in range(1 + number % 4)]
    rates = uniform(g, 0.05, 0.4), (3, 2, 1, 4, 3, 0)[number - 1]
    return params, loss_fn, supports, *rates, uniform(g, 0.2, 0.95)


def three_seeds():
    """Validation means 80, 90.25, 86: the second, whose test mean is 85."""
    validation = torch.tensor(
        [[80.0, 70, 90, 80], [90.0, 95, 85, 91], [85.0, 85, 90, 84]]
    )
    test = torch.tensor([[78.0, 80, 70], [84.0, 90, 81], [99.0, 96, 93]])
    return validation, test


def report_problem(g, number):
    """Seeds whose best task, test mean and validation mean disagree."""
    seeds = 2 + number % 4
    n, m = whole(g, 2, 6), whole(g, 2, 6)
    validation = 70 + 10 * normal(g, seeds, n)
    test = 70 + 10 * normal(g, seeds, m)
    # A seed that validation does not choose is lucky once, or at test.
    order = validation.mean(1).argsort()
    validation[order[0], 0] += 25
    validation[order[0], 1:] -= 26 / max(n - 1, 1)
    test[order[0]] += 15
    return validation, test


def _ridge(support, x, strength=0.05):
    """A learner that fits a line to the support set."""
    features, wanted = (
        torch.cat([t, torch.ones_like(t)], -1) for t in (support.x, x)
    )
    eye = strength * torch.eye(2)
    weights = torch.linalg.solve(
        features.T @ features + eye, features.T @ support.y
    )
    return wanted @ weights


def _nearest(support, x):
    """A learner that answers as the nearest support example."""
    return support.y[torch.cdist(x, support.x).argmin(1)]


def _two_points(support, x):
    """A learner that looks at two support examples only."""
    return _ridge(Batch(support.x[:2], support.y[:2]), x, 0.3)


def _kernel(support, x):
    """A learner that averages support examples near by."""
    weights = (-4 * torch.cdist(x, support.x) ** 2).softmax(1)
    return weights @ support.y


def _gradient(support, x):
    """A learner that takes twenty gradient steps."""
    w, b = torch.zeros(1), torch.zeros(1)
    for _ in range(20):
        error = w * support.x + b - support.y
        w, b = w - 0.5 * (error * support.x).mean(), b - 0.5 * error.mean()
    return w * x + b


def _constant(support, x):
    """A learner that always answers 0."""
    return torch.zeros_like(x)


def _remembered(support, x):
    """A learner that answers the same line in every task."""
    return 1.5 * x + 0.5


def _inputs_only(support, x):
    """A learner that looks at the support inputs, and at no target."""
    return x - support.x.mean()


def _noise(support, x):
    """A learner whose answers depend on the support set, and are noise."""
    seed = int(support.y.sum().abs() * 10**4) % 10**6
    return 2 * normal(seeded(seed), *x.shape)


def _other_targets(support, x):
    """A learner that mixes the targets up."""
    return _ridge(Batch(support.x, -support.y), x)


LEARNERS = (
    (_ridge, True),
    (_constant, False),
    (_nearest, True),
    (_remembered, False),
    (_two_points, True),
    (_inputs_only, False),
    (_kernel, True),
    (_noise, False),
    (_gradient, True),
    (_other_targets, False),
)


def separates_ten(looks_at_support):
    """Five learners that learn from the support set, and five that do not."""
    g = seeded(6)
    slope, rise = 2 * normal(g, 2, 60, 1, 1)

    def drawn(k):
        x = normal(g, 60, k, 1)
        return Batch(x, slope * x + rise + 0.1 * normal(g, 60, k, 1))

    tasks = Tasks(drawn(8), drawn(8))
    for learner, learns in LEARNERS:
        said = to_tensor(looks_at_support(learner, tasks))
        require(
            said is not None and said.numel() == 1, "Return True or False."
        )
        require(
            bool(said) == learns,
            f"You say {bool(said)} of {about(learner)}. It should be "
            f"{learns}.",
        )


EXERCISES = by_key(
    Exercise(
        "11.1",
        "relabel",
        level=2,
        minutes=10,
        hints=(
            "One permutation a task: torch.rand(n_tasks, n_way, "
            "generator=generator).argsort(-1).",
            "new.gather(1, y) looks every label up in its task's row.",
        ),
        solution=RELABEL,
        prove=relabels,
        mistakes=(
            (
                "new.gather(1, b.y)) for b in tasks",
                "torch.rand(n_tasks, n_way, "
                "generator=generator).argsort(-1).gather(1, b.y)) for b in "
                "tasks",
                "one thing in the support set and another",
            ),
            (
                "torch.rand(n_tasks, n_way, generator=generator).argsort(-1)",
                "torch.rand(1, n_way, "
                "generator=generator).argsort(-1).expand(n_tasks, -1)",
                "Every task has the same permutation",
            ),
            (
                "new.gather(1, b.y)",
                "b.y.gather(1, torch.rand(b.y.shape, "
                "generator=generator).argsort(-1))",
                "permute classes, not examples",
            ),
            (
                "torch.rand(n_tasks, n_way, generator=generator).argsort(-1)",
                "torch.randint(n_way, (n_tasks, n_way), generator=generator)",
                "share a label",
            ),
            (
                "new.gather(1, b.y)",
                "(b.y + new[:, :1]) % n_way",
                "Turning the order round",
            ),
            (", generator=generator", "", "The same seed gives other labels"),
            (
                "generator=generator",
                "generator=torch.Generator().manual_seed(0)",
                "Another seed gives the same labels",
            ),
            ("new.gather(1, b.y)", "b.y", "what they were"),
            (
                "    return",
                "    for b in tasks:\n"
                "        b.y.copy_(new.gather(1, b.y))\n"
                "    return",
                "labels of tasks itself",
            ),
            (
                "new.gather(1, b.y)",
                "new.repeat_interleave(b.y.shape[1] // n_way, 1)",
                "by their place",
            ),
            (
                "torch.rand(n_tasks, n_way, generator=generator).argsort(-1)",
                "torch.rand(-(-n_tasks // 2), n_way, "
                "generator=generator).argsort(-1).repeat_interleave(2, "
                "0)[:n_tasks]",
                "draw each task's by itself",
            ),
        ),
    ),
    Exercise(
        "11.2",
        "central_slope",
        level=1,
        minutes=5,
        hints=(
            "Two dicts: params moved by eps along direction, and by -eps.",
            "Their losses are 2 eps apart: (up - down) / (2 * eps).",
        ),
        solution=SLOPE,
        first=first_slope,
        told="For w³ + b³ at w = 1, b = 0.5 along (1, -1) with eps = 0.25",
        by_hand=lambda: 2.25,
        draw=slope_problem,
        mistakes=(
            (
                "at(-eps)) / (2 * eps)",
                "at(0)) / eps",
                "One-sided: the error is of the order of eps. Step both ways.",
            ),
            (
                "(at(eps) - at(-eps)) / (2 * eps)",
                "(at(0) - at(-eps)) / eps",
                "This looks back only: the error is of the order of eps. "
                "Step both ways.",
            ),
            (
                "(2 * eps)",
                "eps",
                "Twice the slope: the two points are 2 eps apart.",
            ),
            (
                "at(eps) - at(-eps)",
                "at(-eps) - at(eps)",
                "The sign is wrong: above minus below.",
            ),
            (
                " / (2 * eps)",
                "",
                "This is the difference of the losses, not yet divided.",
            ),
            (
                "    def at(step):\n",
                "    length = sum((v**2).sum() for v in direction.values()) "
                "** 0.5\n"
                "    direction = {n: v / length for n, v in "
                "direction.items()}\n"
                "    def at(step):\n",
                "You shortened the direction to length 1. Take it as it is.",
            ),
            (
                "    def at(step):\n",
                "    for n, v in direction.items():\n"
                "        params[n] += eps * v\n"
                "    def at(step):\n",
                "You changed params itself",
            ),
            (
                "for n, p in params.items()}",
                "if n == list(params)[0] else p for n, p in params.items()}",
                "Only one parameter moves. Move every one along its "
                "direction at once.",
            ),
        ),
    ),
    Exercise(
        "11.3",
        "adapt_all",
        level=2,
        minutes=10,
        hints=(
            "What is set before the loop over tasks, and changed within it?",
            "params is overwritten: give the inner loop a name of its own. "
            "And make a new velocity for each task.",
        ),
        solution=ADAPT_ALL,
        first=three_bowls,
        told="On three bowls with centres 8, 4, -2, from w = 1, two steps "
        "with lr = 0.25, momentum = 0.5",
        by_hand=lambda: [{"w": 4.9375}, {"w": 2.6875}, {"w": -0.6875}],
        draw=momentum_problem,
        orders=1,
        mistakes=(
            (
                "    for support in supports:\n"
                "        adapted = params\n"
                "        velocity = {n: torch.zeros_like(p) for n, p in "
                "params.items()}\n",
                "    adapted = params\n"
                "    velocity = {n: torch.zeros_like(p) for n, p in "
                "params.items()}\n"
                "    for support in supports:\n",
                "Both leaks are still there: a task begins where the last "
                "one ended, and in its stride.",
            ),
            (
                "    for support in supports:\n"
                "        adapted = params\n"
                "        velocity = {n: torch.zeros_like(p) for n, p in "
                "params.items()}\n",
                "    velocity = {n: torch.zeros_like(p) for n, p in "
                "params.items()}\n"
                "    for support in supports:\n"
                "        adapted = params\n",
                "Every task begins at params now, but the velocity of the "
                "last task pushes it.",
            ),
            (
                "    for support in supports:\n        adapted = params\n",
                "    adapted = params\n    for support in supports:\n",
                "The velocity is fresh, but a task begins where the last one "
                "ended, not at params.",
            ),
            (
                "momentum * velocity[n] + grads[n]",
                "grads[n]",
                "There is no momentum any more. Keep it within a task, and "
                "start it at zero.",
            ),
            (
                "    return results",
                "    return adapted",
                "should be a list of 3",
            ),
            (
                "+ grads[n] for",
                "+ grads[n].detach() for",
                "The gradients are detached: the outer loop would be first "
                "order.",
            ),
        ),
    ),
    Exercise(
        "11.4",
        "honest_report",
        level=1,
        minutes=5,
        hints=(
            "validation.mean(1) has one number a seed; argmax says which.",
            "The standard error of a mean over n tasks is std / n ** 0.5.",
        ),
        solution=REPORT,
        first=three_seeds,
        told="With validation means 80, 90.25, 86 and test tasks 84, 90, 81 "
        "of the second seed",
        by_hand=lambda: (85.0, 1.96 * 21**0.5 / 3**0.5),
        draw=report_problem,
        mistakes=(
            (
                "validation.mean(1).argmax()",
                "test.mean(1).argmax()",
                "This seed was chosen by its test accuracy: the best of "
                "several, luck included. Validation chooses.",
            ),
            (
                "validation.mean(1).argmax()",
                "validation.amax(1).argmax()",
                "This seed was chosen by its best single task. The mean over "
                "validation tasks chooses.",
            ),
            (
                "return scores.mean()",
                "return test.mean()",
                "This is the mean over all seeds. Here one is chosen, by "
                "validation.",
            ),
            (
                "return scores.mean()",
                "return validation[chosen].mean()",
                "This is the chosen seed's validation accuracy, which is "
                "lucky too. Report its test tasks.",
            ),
            (
                " / len(scores) ** 0.5",
                "",
                "This is the spread between tasks. The mean of n tasks "
                "varies less, by the root of n.",
            ),
            ("1.96 * ", "", "This is one standard error. 95 % takes 1.96."),
            (
                "1.96 *",
                "2 * 1.96 *",
                "This is the whole width. Report half of it, as in ±.",
            ),
            (
                "scores.std()",
                "scores.std(correction=0)",
                "Divide by n - 1 in the variance: torch's std does so by "
                "default.",
            ),
        ),
    ),
    Exercise(
        "11.5",
        "looks_at_support",
        level=3,
        minutes=20,
        the_one=True,
        hints=(
            "What should happen to the answers of a learner that learns, if "
            "you hand it another task's support set?",
            "It is not enough that the answers change: they must get worse. "
            "Compare errors with the own and with another task's support "
            "set, tasks.support.x.roll(1, 0).",
        ),
        example=LOOKS,
        prove=separates_ten,
        mistakes=(
            (
                "error(own) < 0.7 * error(swapped)",
                "not torch.equal(own, swapped)",
                "at the support inputs, and at no target",
            ),
            ("0.7 *", "0.001 *", "that answers as the nearest"),
            (
                "error(own) < 0.7 * error(swapped)",
                "own",
                "Return True or False",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "A network adapts to new tasks no better than before its inner step, "
        "though its training loss is close to zero. What do you try first?",
        (
            "Give its training tasks each other's support sets.",
            "If nothing changes, it never looked at the support set.",
        ),
        (
            "Train longer.",
            "The loss has nowhere to go. Look at what it measures.",
        ),
        (
            "More inner steps.",
            "Steps on a support set that is ignored teach nothing.",
        ),
    ),
    ask(
        "The slope check passes for first-order MAML on a linear model with "
        "a loss that is linear, too. Why?",
        (
            "The Hessian is zero there, so both gradients are equal.",
            "A control must be run where the mistake can show.",
        ),
        ("The check is broken.", "It compares right numbers."),
        ("ε was too large.", "On a linear loss any ε is exact."),
    ),
    ask(
        "Labels are noise, 5 ways, and a method scores 28 %. What share of "
        "the queries is also in the support set, if it finds all of those?",
        ("10 %.", "0.1 + 0.9 / 5 = 0.28."),
        ("8 %.", "That is what is above chance; the rest is guessed."),
        ("28 %.", "Of the others, one in five is right by luck."),
    ),
    ask(
        "You train ten seeds. What may stand in the table?",
        (
            "The mean over the ten, with its interval.",
            "Or the test accuracy of the one that validation prefers, if you "
            "say so.",
        ),
        (
            "The best on the test tasks.",
            "That is the truth plus the best luck of ten.",
        ),
        (
            "The best on test tasks, if there are many tasks.",
            "Smaller luck, but the seeds' own spread is still picked from.",
        ),
    ),
)
