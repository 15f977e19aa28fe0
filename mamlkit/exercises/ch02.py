"""Exercises of chapter 02: define a task."""

from collections import Counter

import torch

from mamlkit.exercises.compare import compare, pairs, require, to_list
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, shuffled, whole
from mamlkit.tasks import Batch

SHUFFLE_SPLIT = """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    s, q = order[:k_shot], order[k_shot:]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
"""
EPISODE = """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    parts = x[:, :k_shot], x[:, k_shot : k_shot + k_query]
    support, query = (
        Batch(part.flatten(0, 1), labels.repeat_interleave(part.shape[1]))
        for part in parts
    )
    return support, query
"""
MENDED_EPISODE = """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes, generator=generator)[:n_way, None]
    scores = torch.rand(n_way, n_drawings, generator=generator)
    x = images[classes, scores.argsort(1)[:, : k_shot + k_query]]
    labels = torch.arange(n_way)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), labels.repeat_interleave(k_query)),
    )
"""
MY_FAMILY = """
def my_family(n_tasks, k_shot, k_query, generator):
    x = torch.rand(n_tasks, k_shot + k_query, 1, generator=generator)
    bend = 3 * torch.randn(n_tasks, 1, 1, generator=generator)
    rise = 3 * torch.randn(n_tasks, 1, 1, generator=generator)
    return split(x, bend * x**2 + rise * x, k_shot)
"""


def as_pair(pair, what="The result"):
    """Unpack (support, query), each with x and y, in any form."""
    parts = to_list(pair)
    got = type(pair).__name__
    got += f" of {len(parts)}" if parts else ""
    require(
        parts is not None and len(parts) == 2,
        f"{what} should be a pair (support, query), but is a {got}.",
    )
    batches = []
    for name, part in zip(("support", "query"), parts):
        fields = [getattr(part, field, None) for field in "xy"]
        if any(field is None for field in fields):
            fields = to_list(part) or []
        tensors = [f for f in fields if isinstance(f, torch.Tensor)]
        require(
            len(fields) == len(tensors) == 2,
            f"The {name} set should be a Batch(x, y), but is a "
            f"{type(part).__name__}.",
        )
        x, y = tensors
        require(
            len(x) == len(y),
            f"The {name} set has {len(x)} inputs, but {len(y)} targets.",
        )
        batches.append(Batch(x, y))
    return batches


def splits_at_random(shuffle_split):
    """Ten examples 0..9 with targets ten times as large, then all sorts."""
    x = torch.arange(10.0).reshape(10, 1)
    task, k_shot = Batch(x, 10 * x), 4
    _check_split(shuffle_split, task, k_shot, seeded())
    g = seeded(1)
    for n, features in ((7, (2, 3)), (5, ()), (6, (2,)), (2, (1,))):
        numbers = torch.arange(n, dtype=torch.long)
        x = normal(g, n, *features)
        _check_split(shuffle_split, Batch(x, numbers), whole(g, 1, n - 1), g)
    x = torch.arange(5.0).reshape(5, 1)

    def drawn(seed):
        support, query = as_pair(
            shuffle_split(Batch(x.clone(), 10 * x), 2, seeded(seed))
        )
        return tuple(support.x.flatten().int().tolist())

    draws = [drawn(seed) for seed in range(300)]
    sets = Counter(tuple(sorted(draw)) for draw in draws)
    require(
        sets.keys() != {(0, 1)},
        "The support set is always the first examples: shuffle before you "
        "split.",
    )
    # The global generator is not the one that was handed over.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = [drawn(seed) for seed in range(20)]
    require(
        again == draws[:20] and len(sets) > 1,
        "The same seed should give the same split and other seeds others: "
        "draw the order with the generator you are given.",
    )
    # 10 sets, each 30 times on average: 8 is more than 4 deviations off.
    require(
        len(sets) == 10 and min(sets.values()) >= 8,
        f"Of five examples two make 10 different support sets. In 300 splits "
        f"yours were {len(sets)}, from {min(sets.values())} to "
        f"{max(sets.values())} times: every set should be as likely. "
        "Shuffle, do not just turn or swap.",
    )


def _check_split(shuffle_split, task, k_shot, g):
    n, before = len(task.x), Batch(*(t.clone() for t in task))
    support, query = as_pair(shuffle_split(task, k_shot, g))
    compare(task, before, "After your split, the task itself has changed:")
    sizes = len(support.x), len(query.x)
    fits = sizes == (k_shot, n - k_shot)
    require(
        fits or (sizes != (n, n) and support.x.shape[:2] != (1, k_shot)),
        "`split` cuts the second axis, of tasks stacked on the first. Here "
        "is one task without that axis: cut its examples yourself.",
    )
    require(
        fits,
        f"With k_shot {k_shot}, {n} examples make {k_shot} support and "
        f"{n - k_shot} query examples, but you return {sizes[0]} and "
        f"{sizes[1]}.",
    )
    both, targets = (torch.cat(t) for t in zip(support, query))
    require(
        both.shape == task.x.shape and targets.shape == task.y.shape,
        f"All examples together should have the shapes {tuple(task.x.shape)} "
        f"and {tuple(task.y.shape)}, but have {tuple(both.shape)} and "
        f"{tuple(targets.shape)}.",
    )
    # Where in the task each example was.
    flat = (task.x.reshape(n, -1), both.reshape(n, -1))
    place = (flat[1][:, None] == flat[0]).all(-1).float().argmax(1)
    compare(both, task.x[place], "Among all inputs,")
    require(
        len({*place.tolist()}) == n,
        f"Support and query share examples: of {n} only "
        f"{len({*place.tolist()})} occur. Draw one order, and cut it once.",
    )
    require(
        torch.equal(targets, task.y[place]),
        "An input has lost its target: index x and y with the same order.",
    )


def numbered(n_classes, n_drawings, pixels=(1, 2)):
    """Images of a few pixels, all 100 · class + drawing."""
    numbers = 100 * torch.arange(n_classes)[:, None] + torch.arange(n_drawings)
    shape = (n_classes, n_drawings, *[1] * len(pixels))
    return numbers.float().reshape(shape).expand(-1, -1, *pixels).clone()


def pictures(*numbers):
    """Some of these images."""
    return torch.tensor(numbers).float()[:, None, None].expand(-1, 1, 2)


def three_of_six():
    """Classes 4, 0, 2 of six: one shot and two queries.

    By hand, support is the drawings 400, 0, 200, and query 401, 402, 1, 2,
    201, 202.
    """
    return numbered(6, 5), torch.tensor([4, 0, 2]), 1, 2


def episode_problem(g, number):
    """Any numbers of ways, shots and queries; other pixels."""
    n_classes = 2 + number
    images = numbered(n_classes, 7, ((2,), (1, 2, 2), (3, 1))[number % 3])
    n_way = whole(g, 2, n_classes)
    classes = torch.tensor(shuffled(g, n_classes)[:n_way])
    k_shot = (2, 1, 3, 2, 4, 3)[number - 1]
    return images, classes, k_shot, whole(g, 1, 7 - k_shot)


def labelled(pair, *_args):
    """The pair, whose labels must be whole numbers."""
    batches = as_pair(pair)
    for name, batch in zip(("support", "query"), batches):
        require(
            not batch.y.is_floating_point(),
            f"labels should be whole numbers (torch.long), but {name}.y is "
            f"{batch.y.dtype}.",
        )
    return tuple(batches)


def episodes_at_random(mended_episode):
    """Six numbered classes of eight drawings: 4 ways, 3 shots, 2 queries."""
    _check_episodes(mended_episode, 150, 6, 8, 4, 3, 2)
    _check_episodes(mended_episode, 40, 3, 5, 2, 1, 4)
    # All of it is used: nothing may be drawn twice.
    _check_episodes(mended_episode, 40, 4, 4, 4, 2, 2)


def _check_episodes(mended_episode, n_seeds, n_classes, n_drawings, n_way,
                    k_shot, k_query):  # fmt: skip
    images = numbered(n_classes, n_drawings)
    seen, alike, firsts = [], 0, Counter()

    def numbers(seed):
        pair = mended_episode(images, n_way, k_shot, k_query, seeded(seed))
        support, query = labelled(pair)
        for name, batch, k in (
            ("support", support, k_shot),
            ("query", query, k_query),
        ):
            shape, got = (n_way * k, 1, 2), tuple(batch.x.shape)
            require(
                got == shape,
                f"{name}.x should have shape {shape}, but has {got}.",
            )
            own = batch.x[:, 0, 0].long() // 100
            right = torch.arange(n_way).repeat_interleave(k)
            turned = torch.equal(batch.y, own) and not torch.equal(own, right)
            require(
                not turned,
                "The labels are numbers of classes. Within a task they are "
                "0..N-1.",
            )
            compare((batch.y,), (right,), f"For the labels in {name}.y,")
        return [b.x[:, 0, 0].long() for b in (support, query)]

    for seed in range(n_seeds):
        s, q = numbers(seed)
        by_class = torch.cat(
            [s.view(n_way, k_shot), q.view(n_way, k_query)], 1
        )
        classes = (by_class // 100)[:, 0].tolist()
        require(
            (by_class // 100 == by_class[:, :1] // 100).all(),
            "One label stands for drawings of several classes: support and "
            "query of a label need the same class.",
        )
        require(
            len(set(classes)) == n_way,
            f"A task has the classes {classes}: one character under two "
            "labels. Draw classes without replacement.",
        )
        whole_sets = len({*s.tolist()}) == len(s) and len(
            {*q.tolist()}
        ) == len(q)
        require(whole_sets, "A set has the same drawing twice.")
        require(
            not {*s.tolist()} & {*q.tolist()},
            "Support and query still share drawings: draw k_shot + k_query "
            "at once, and cut.",
        )
        seen.append((tuple(classes), s.tolist(), q.tolist()))
        places = (by_class % 100).sort(1).values
        firsts.update((by_class % 100)[:, 0].tolist())
        alike += bool((places == places[0]).all())
    if n_seeds > 100:
        _check_variety(seen, alike, firsts, n_classes, n_drawings, n_way)
    require(
        images.equal(numbered(n_classes, n_drawings)),
        "You changed images itself.",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        for seed in (0, n_seeds - 1):
            again = [drawn.tolist() for drawn in numbers(seed)]
            require(
                again == [*seen[seed][1:]],
                "The same seed gives another task: use the generator for "
                "every draw.",
            )


def _check_variety(seen, alike, firsts, n_classes, n_drawings, n_way):
    n = len(seen)
    orders = Counter(classes for classes, *_ in seen)
    require(
        any(list(classes) != sorted(classes) for classes in orders),
        "Classes always come in rising order, so that a low class has a low "
        "label: labels should be drawn anew.",
    )
    used = {classes[0] for classes in orders}
    require(
        used == {*range(n_classes)},
        f"Label 0 is only ever one of the classes {sorted(used)}, of "
        f"{n_classes}: draw them with the generator.",
    )
    pairs_seen = Counter(classes[:2] for classes in orders.elements())
    possible = n_classes * (n_classes - 1)
    require(
        len(pairs_seen) > 0.7 * possible,
        f"Of {possible} pairs of classes that may have the labels 0 and 1, "
        f"{n} tasks use {len(pairs_seen)}. Every order should be as likely.",
    )
    rare = min(firsts.values()) if len(firsts) == n_drawings else 0
    require(
        rare > 0.5 * n * n_way / n_drawings,
        f"The first shot is drawing {sorted(firsts)} of its class, and some "
        "of them hardly ever: draw them at random.",
    )
    require(
        alike < n / 2,
        "All classes of a task use the drawings at the same places: draw "
        "places for each class, as leaky_episode does.",
    )


def is_a_family(my_family):
    """Its own support set helps with a task; that of another task does not."""
    g = seeded(0)
    tasks = my_family(40, 15, 10, seeded(0))
    batches = as_pair(tasks)
    for name, batch, k in zip(("support", "query"), batches, (15, 10)):
        for field, t in zip("xy", batch):
            got = tuple(t.shape)
            require(
                len(got) == 3 and got[:2] == (40, k),
                f"{name}.{field} should have shape (40, {k}, features), but "
                f"has {got}.",
            )
            require(
                t.is_floating_point() and bool(t.isfinite().all()),
                f"{name}.{field} should be finite floating-point numbers.",
            )
    again, other = (
        my_family(40, 15, 10, seeded(0)),
        my_family(40, 15, 10, seeded(1)),
    )
    require(
        all(
            torch.equal(a.actual, a.expected)
            for a in pairs(again, tuple(batches))
        ),  # fmt: skip
        "The same seed gives other tasks: draw everything with generator.",
    )
    require(
        not torch.equal(as_pair(other)[0].y, batches[0].y),
        "Another seed gives the same tasks: draw from generator.",
    )
    support, query = batches
    shared = (query.x[:, :, None] == support.x[:, None]).all(-1).any()
    require(not shared, "A query example is in the support set, too.")
    own = _nearest_error(support, query)
    turn = torch.tensor(shuffled(g, 40)).sort().indices.roll(1)
    others = _nearest_error(Batch(support.x[turn], support.y[turn]), query)
    require(
        own < 0.3 * others,
        "Answering with the nearest support example should be much better "
        "with a task's own support set than with another task's. With your "
        f"family the squared errors are {own:.3g} and {others:.3g}; the "
        "first should be below 0.3 of the second. Do tasks differ, and does "
        "each have a rule that its own examples show?",
    )


def _nearest_error(support, query):
    nearest = torch.cdist(query.x, support.x).argmin(-1)
    found = torch.stack([y[i] for y, i in zip(support.y, nearest)])
    return (found - query.y).square().mean().item()


EXERCISES = by_key(
    Exercise(
        "2.1",
        "shuffle_split",
        level=1,
        minutes=5,
        hints=(
            "Draw one order of the examples, and use it for x and for y.",
            "order = torch.randperm(len(batch.x), generator=generator)",
        ),
        solution=SHUFFLE_SPLIT,
        prove=splits_at_random,
        mistakes=(
            (
                "torch.randperm(len(batch.x), generator=generator)",
                "torch.arange(len(batch.x))",
                "always the first examples",
            ),
            (
                "q = order[:k_shot], order[k_shot:]",
                "q = order[:k_shot], torch.randperm(len(batch.x), "
                "generator=generator)[k_shot:]",
                "share examples",
            ),
            (
                "    s, q = order[:k_shot], order[k_shot:]\n",
                "    other = torch.randperm(len(batch.x), "
                "generator=generator)\n"
                "    batch = Batch(batch.x, batch.y[other])\n"
                "    s, q = order[:k_shot], order[k_shot:]\n",
                "lost its target",
            ),
            (
                "order[:k_shot], order[k_shot:]",
                "order[:3], order[3:]",
                "but you return 3 and 7",
            ),
            (
                "(len(batch.x), generator=generator)",
                "(len(batch.x))",
                "draw the order with the generator",
            ),
            (
                "order[k_shot:]",
                "order[k_shot : 2 * k_shot]",
                "but you return 4 and 4",
            ),
            (
                "",
                """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    return split(batch.x[order], batch.y[order], k_shot)
""",
                "cuts the second axis",
            ),
            (
                "    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], "
                "batch.y[q])",
                "    return batch.x[s], batch.y[s], batch.x[q], batch.y[q]",
                "tuple of 4",
            ),
            (
                "torch.randperm(len(batch.x), generator=generator)",
                "torch.arange(len(batch.x)).roll(torch.randint(len(batch.x), "
                "(1,), generator=generator).item())",
                "every set should be as likely",
            ),
        ),
    ),
    Exercise(
        "2.2",
        "episode",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "images[classes] has shape (N, drawings, *pixels): slice its "
            "second axis, then flatten the first two.",
            "torch.arange(N).repeat_interleave(k) is 0, 0, 1, 1, ... for k = "
            "2.",
        ),
        solution=EPISODE,
        first=three_of_six,
        told="For classes 4, 0, 2, whose images are 100 · class + drawing, "
        "with k_shot = 1, k_query = 2",
        by_hand=lambda: (
            Batch(pictures(400, 0, 200), torch.tensor([0, 1, 2])),
            Batch(
                pictures(401, 402, 1, 2, 201, 202),
                torch.tensor([0, 0, 1, 1, 2, 2]),
            ),
        ),
        draw=episode_problem,
        look=labelled,
        mistakes=(
            (
                "labels.repeat_interleave",
                "classes.repeat_interleave",
                "The labels are numbers of classes. Within a task they are "
                "0..N-1, the places in `classes`.",
            ),
            (
                "x[:, k_shot : k_shot + k_query]",
                "x[:, :k_query]",
                "The query set begins with drawing 0, which is in the "
                "support set already. Start after the first k_shot.",
            ),
            (
                "x[:, k_shot : k_shot + k_query]",
                "x[:, k_shot:]",
                "The query set takes all that is left: k_query of each class.",
            ),
            (
                "repeat_interleave(part",
                "repeat(part",
                "The labels take turns, but the drawings come class after "
                "class: repeat each label.",
            ),
            (
                "part.flatten(0, 1), labels.repeat_interleave(part.shape[1])",
                "part.transpose(0, 1).flatten(0, 1), "
                "labels.repeat(part.shape[1])",
                "The classes take turns. They should come class after class, "
                "in both sets.",
            ),
            (
                "part.flatten(0, 1), labels.repeat_interleave(part.shape[1])",
                "part, labels",
                "should have shape (3, 1, 2)",
            ),
            (
                "labels.repeat_interleave(part.shape[1])",
                "labels.repeat_interleave(part.shape[1]).float()",
                "should be whole numbers",
            ),
        ),
    ),
    Exercise(
        "2.3",
        "mended_episode",
        level=2,
        minutes=15,
        hints=(
            "Two draws that know nothing of each other may agree.",
            "torch.randperm draws without replacement; one argsort of "
            "n_drawings scores can serve both sets.",
        ),
        solution=MENDED_EPISODE,
        prove=episodes_at_random,
        mistakes=(
            (
                "",
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes, generator=generator)[:n_way, None]

    def some(k):
        scores = torch.rand(n_way, n_drawings, generator=generator)
        x = images[classes, scores.argsort(1)[:, :k]].flatten(0, 1)
        return Batch(x, torch.arange(n_way).repeat_interleave(k))

    return some(k_shot), some(k_query)
""",
                "still share drawings",
            ),
            (
                "torch.randperm(n_classes, generator=generator)[:n_way, None]",
                "torch.randint(n_classes, (n_way, 1), generator=generator)",
                "under two labels",
            ),
            (
                "[:n_way, None]",
                "[:n_way, None].sort(0).values",
                "rising order",
            ),
            (
                "scores.argsort(1)",
                "torch.arange(n_drawings).expand(n_way, -1)",
                "them at random",
            ),
            (
                "torch.rand(n_way, n_drawings",
                "torch.rand(1, n_drawings",
                "at the same places",
            ),
            ("torch.arange(n_way)", "classes.flatten()", "numbers of classes"),
            (", generator=generator)", ")", "generator for every draw"),
        ),
    ),
    Exercise(
        "2.4",
        "my_family",
        level=2,
        minutes=15,
        hints=(
            "Draw once a task what makes it this task, with shape (n_tasks, "
            "1, 1); draw x for every example; compute y from both.",
            "split(x, y, k_shot) makes Tasks of all that.",
        ),
        example=MY_FAMILY,
        prove=is_a_family,
        mistakes=(
            (
                "torch.randn(n_tasks, 1, 1",
                "torch.randn(n_tasks, k_shot + k_query, 1",
                "with another task's. With",
            ),
            (", generator=generator)", ")", "draw everything with generator"),
            (
                "x**2 + rise * x, k_shot",
                "x**2 + rise * x, 1",
                "should have shape (40, 15",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "Training and test tasks all have the labels 0 to 4. Is that a leak?",
        (
            "No: classes must be disjoint, labels need not be.",
            "What test tasks ask for, new characters, training has never "
            "shown.",
        ),
        (
            "Yes, test labels must not occur in training.",
            "A label is only a place in its task: label 3 is another "
            "character every time.",
        ),
        (
            "No, as long as the drawings differ.",
            "New drawings of known characters would test recognition of "
            "those, not learning of new ones.",
        ),
    ),
    ask(
        "Before its first inner step a 5-way network is right on 45 % of the "
        "queries. What follows?",
        (
            "Something tells it the labels, because guessing is 20 %.",
            "Look for fixed labels, or for anything else by which an example "
            "gives its label away.",
        ),
        (
            "Meta-training went well.",
            "A good start is one from which a step leads far; it cannot know "
            "labels that were just drawn.",
        ),
        (
            "Five more points will come with more shots.",
            "Shots act through the inner step, which has not been taken.",
        ),
    ),
    ask(
        "You judge 100 tasks with 1 query a class and find the interval too "
        "wide. Which change can narrow it as far as you like?",
        ("More tasks.", "Tasks are independent: four times as many halve it."),
        (
            "More queries in the same tasks.",
            "That helps until the difference between tasks is all that is "
            "left.",
        ),
        (
            "Another seed.",
            "That gives another interval, on average of the same width.",
        ),
    ),
)
