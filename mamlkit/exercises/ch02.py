"""Exercises of chapter 02: define a task."""

import torch

from mamlkit.exercises.engine import Exercise, Question, compare, require
from mamlkit.tasks import Batch


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _check_pair(pair, what):
    """Unpack (support, query), each with x and y."""
    kind = type(pair).__name__
    sequence = isinstance(pair, tuple | list)
    if sequence and len(pair) != 2:
        kind += f" of {len(pair)}"
    require(
        sequence and len(pair) == 2,
        f"{what} should be a pair (support, query), but is a {kind}.",
    )
    for name, batch in zip(("support", "query"), pair):
        require(
            all(hasattr(batch, field) for field in ("x", "y")),
            f"The {name} set should be a Batch(x, y), but is a "
            f"{type(batch).__name__}.",
        )
        require(
            len(batch.x) == len(batch.y),
            f"The {name} set has {len(batch.x)} inputs, but {len(batch.y)} "
            "targets.",
        )
    return pair


def check_shuffle_split(shuffle_split):
    """Ten examples 0..9 with targets ten times as large."""
    x = torch.arange(10.0).reshape(10, 1)
    task = Batch(x, 10 * x)
    pair = shuffle_split(task, 4, _seeded())
    support, query = _check_pair(pair, "The result")
    sizes = len(support.x), len(query.x)
    require(
        sizes != (10, 10) and support.x.shape[:2] != (1, 4),
        "`split` cuts the second axis, of tasks stacked on the first. Here "
        "is one task without that axis: cut its examples yourself.",
    )
    require(
        sizes == (4, 6),
        "With k_shot 4, ten examples make 4 support and 6 query examples, "
        f"but you return {sizes[0]} and {sizes[1]}.",
    )
    both = torch.cat([support.x, query.x])
    require(
        both.shape == x.shape,
        "All inputs together should have the task's shape, (10, 1), but have "
        f"{tuple(both.shape)}.",
    )
    shared = set(support.x.flatten().tolist()) & set(
        query.x.flatten().tolist()
    )
    require(
        not shared,
        f"Support and query share the examples {sorted(shared)}: draw one "
        "order, and cut it once.",
    )
    compare(both.sort(0).values, x, "All inputs together, sorted")
    targets = torch.cat([support.y, query.y])
    require(
        torch.equal(targets, 10 * both)
        or torch.equal(targets, 10 * x)
        or not torch.equal(targets.sort(0).values, 10 * x),
        "x and y were shuffled in different orders: draw one order, and use "
        "it for both.",
    )
    compare(
        targets,
        10 * both,
        "The targets, which are ten times the inputs here,",
        [
            (10 * x, "Inputs are shuffled, but targets are not: an input has "
             "lost its target. Index x and y with the same order."),
        ],
    )  # fmt: skip
    sizes = [len(part.x) for part in shuffle_split(task, 7, _seeded())]
    require(
        sizes == [7, 3],
        f"With k_shot 7, ten examples make 7 and 3, but you return {sizes}.",
    )
    draws = [
        shuffle_split(task, 4, _seeded(seed))[0].x.flatten().tolist()
        for seed in (0, 0, 1, 2, 3)
    ]
    require(
        any(sorted(draw) != [0, 1, 2, 3] for draw in draws),
        "The support set is always the first four examples: shuffle before "
        "you split.",
    )
    require(
        draws[0] == draws[1] and len({*map(tuple, draws)}) > 1,
        "The same seed should give the same split and other seeds others: "
        "draw the order with the generator you are given.",
    )


def _numbered(n_classes, n_drawings):
    """Images of two pixels, both 100 · class + drawing."""
    numbers = 100 * torch.arange(n_classes)[:, None] + torch.arange(n_drawings)
    return numbers[..., None, None].float().expand(-1, -1, 1, 2)


def _pictures(*numbers):
    return torch.tensor(numbers).float()[:, None, None].expand(-1, 1, 2)


def check_episode(episode):
    """Classes 4, 0, 2 of six: one shot and two queries, then the reverse.

    By hand, support is the drawings 400, 0, 200, and query 401, 402, 1, 2,
    201, 202.
    """
    images, classes = _numbered(6, 5), torch.tensor([4, 0, 2])
    pair = episode(images, classes, 1, 2)
    support, query = _check_pair(pair, "The result")
    compare(support.x, _pictures(400, 0, 200), "support.x")
    leak = _pictures(400, 401, 0, 1, 200, 201)
    turns = _pictures(401, 1, 201, 402, 2, 202)
    compare(
        query.x,
        _pictures(401, 402, 1, 2, 201, 202),
        "query.x",
        [
            (leak, "The query set begins with drawing 0, which is in the "
             "support set already. Start after the first k_shot."),
            (turns, "The query set takes the classes in turns: it should be "
             "class after class."),
        ],
    )  # fmt: skip
    compare(
        support.y,
        torch.tensor([0, 1, 2]),
        "support.y",
        [
            (classes, "The labels are numbers of classes. Within a task they "
             "are 0..N-1, the places in `classes`."),
        ],
    )  # fmt: skip
    compare(
        query.y,
        torch.tensor([0, 0, 1, 1, 2, 2]),
        "query.y",
        [
            (torch.tensor([0, 1, 2, 0, 1, 2]), "The query labels take turns, "
             "but the drawings come class after class: repeat each label."),
            (classes.repeat_interleave(2), "The query labels name classes "
             "by their own numbers. Within a task they are 0..N-1, as in the "
             "support set."),
        ],
    )  # fmt: skip
    require(
        support.y.dtype == query.y.dtype == torch.long,
        f"Labels should be whole numbers (torch.long), not {support.y.dtype}.",
    )
    support, query = _check_pair(episode(images, classes, 2, 1), "The result")
    compare(
        support.x,
        _pictures(400, 401, 0, 1, 200, 201),
        "support.x with two shots",
        [
            (_pictures(400, 0, 200, 401, 1, 201), "With two shots, the "
             "support set should be class after class, like the query set."),
        ],
    )  # fmt: skip
    compare(
        support.y,
        torch.tensor([0, 0, 1, 1, 2, 2]),
        "support.y with two shots",
        [
            (torch.tensor([0, 1, 2, 0, 1, 2]), "With two shots, the support "
             "labels take turns, but the drawings come class after class."),
        ],
    )  # fmt: skip
    compare(query.x, _pictures(402, 2, 202), "query.x after two shots")


def check_mended_episode(mended_episode):
    """Six numbered classes of eight drawings: 4 ways, 3 shots, 2 queries."""
    images, seen, alike = _numbered(6, 8), [], []
    for seed in range(60):
        pair = mended_episode(images, 4, 3, 2, _seeded(seed))
        support, query = _check_pair(pair, "The result")
        for name, batch, k in (("support", support, 3), ("query", query, 2)):
            shape = (4 * k, 1, 2)
            got = tuple(batch.x.shape)
            require(
                got == shape,
                f"{name}.x should have shape {shape}, but has {got}.",
            )
            compare(
                batch.y,
                torch.arange(4).repeat_interleave(k),
                f"{name}.y",
                [
                    (batch.x[:, 0, 0].long() // 100, "The labels are numbers "
                     "of classes. Within a task they are 0..N-1."),
                ],
            )  # fmt: skip
        s, q = (batch.x[:, 0, 0].long() for batch in pair)
        by_class = torch.cat([s.reshape(4, 3), q.reshape(4, 2)], 1) // 100
        classes = by_class[:, 0].tolist()
        require(
            (by_class == by_class[:, :1]).all(),
            "One label stands for drawings of several classes: support and "
            "query of a label need the same class.",
        )
        require(
            len(set(classes)) == 4,
            f"A task has the classes {classes}: one character under two "
            "labels. Draw classes without replacement.",
        )
        twice = len({*s.tolist()}) < 12 or len({*q.tolist()}) < 8
        require(not twice, "A set has the same drawing twice.")
        require(
            not {*s.tolist()} & {*q.tolist()},
            "Support and query still share drawings: draw k_shot + k_query "
            "at once, and cut.",
        )
        seen.append((tuple(classes), tuple(s.tolist())))
        places = (s % 100).reshape(4, 3)
        alike.append(bool((places == places[0]).all()))
    require(
        any(list(classes) != sorted(classes) for classes, _ in seen),
        "Classes always come in rising order, so that a low class has a low "
        "label: labels should be drawn anew.",
    )
    require(
        len({classes for classes, _ in seen}) > 1,
        "Every task has the same classes: draw them with the generator.",
    )
    used = {number % 100 for _, numbers in seen for number in numbers}
    require(
        len(used) == 8,
        f"Support uses only the drawings {sorted(used)} of each class: draw "
        "them at random.",
    )
    require(
        not all(alike),
        "All classes of a task use the drawings at the same places: draw "
        "places for each class, as leaky_episode does.",
    )
    again = mended_episode(images, 4, 3, 2, _seeded(59))[0].x[:, 0, 0]
    require(
        tuple(again.long().tolist()) == seen[-1][1],
        "The same seed gives another task: use the generator for every draw.",
    )


EXERCISES = {
    "2.1": Exercise(
        name="shuffle_split",
        check=check_shuffle_split,
        hints=(
            "Draw one order of the examples, and use it for x and for y.",
            "order = torch.randperm(len(batch.x), generator=generator)",
        ),
        solution="""
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    s, q = order[:k_shot], order[k_shot:]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
""",
        mistakes=(
            (
                """
def shuffle_split(batch, k_shot, generator):
    x, y = batch
    return Batch(x[:k_shot], y[:k_shot]), Batch(x[k_shot:], y[k_shot:])
""",
                "always the first four",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    n = len(batch.x)
    s = torch.randperm(n, generator=generator)[:k_shot]
    q = torch.randperm(n, generator=generator)[k_shot:]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
""",
                "share the examples",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    n = len(batch.x)
    x = batch.x[torch.randperm(n, generator=generator)]
    y = batch.y[torch.randperm(n, generator=generator)]
    return Batch(x[:k_shot], y[:k_shot]), Batch(x[k_shot:], y[k_shot:])
""",
                "in different orders",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    s, q = order[:4], order[4:]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
""",
                "ten examples make 7 and 3",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    x = batch.x[torch.randperm(len(batch.x), generator=generator)]
    y = batch.y
    return Batch(x[:k_shot], y[:k_shot]), Batch(x[k_shot:], y[k_shot:])
""",
                "lost its target",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x))
    s, q = order[:k_shot], order[k_shot:]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
""",
                "with the generator you are given",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    s, q = order[:k_shot], order[k_shot : 2 * k_shot]
    return Batch(batch.x[s], batch.y[s]), Batch(batch.x[q], batch.y[q])
""",
                "4 support and 6 query",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    from mamlkit.tasks import split

    order = torch.randperm(len(batch.x), generator=generator)
    return split(batch.x[order], batch.y[order], k_shot)
""",
                "cuts the second axis",
            ),
            (
                """
def shuffle_split(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    x, y = batch.x[order], batch.y[order]
    return x[:k_shot], y[:k_shot], x[k_shot:], y[k_shot:]
""",
                "tuple of 4",
            ),
        ),
    ),
    "2.2": Exercise(
        name="episode",
        check=check_episode,
        hints=(
            "images[classes] has shape (N, drawings, *pixels): slice its "
            "second axis, then flatten the first two.",
            "torch.arange(N).repeat_interleave(k) is 0, 0, 1, 1, ... for "
            "k = 2.",
        ),
        solution="""
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    parts = x[:, :k_shot], x[:, k_shot : k_shot + k_query]
    support, query = (
        Batch(part.flatten(0, 1), labels.repeat_interleave(part.shape[1]))
        for part in parts
    )
    return support, query
""",
        mistakes=(
            (
                """
def episode(images, classes, k_shot, k_query):
    x = images[classes]
    parts = x[:, :k_shot], x[:, k_shot : k_shot + k_query]
    support, query = (
        Batch(part.flatten(0, 1), classes.repeat_interleave(part.shape[1]))
        for part in parts
    )
    return support, query
""",
                "numbers of classes",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    parts = x[:, :k_shot], x[:, :k_query]
    support, query = (
        Batch(part.flatten(0, 1), labels.repeat_interleave(part.shape[1]))
        for part in parts
    )
    return support, query
""",
                "in the support set already",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    queries = x[:, k_shot : k_shot + k_query].flatten(0, 1)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat(k_shot)),
        Batch(queries, labels.repeat_interleave(k_query)),
    )
""",
                "support labels take turns",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    queries = x[:, k_shot : k_shot + k_query].flatten(0, 1)
    shots = x[:, :k_shot].transpose(0, 1).flatten(0, 1)
    return (
        Batch(shots, labels.repeat(k_shot)),
        Batch(queries, labels.repeat_interleave(k_query)),
    )
""",
                "like the query set",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    queries = x[:, k_shot : k_shot + k_query].flatten(0, 1)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(queries, classes.repeat_interleave(k_query)),
    )
""",
                "as in the support set.",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    parts = x[:, :k_shot], x[:, k_shot : k_shot + k_query]
    support, query = (
        Batch(part.flatten(0, 1), labels.repeat(part.shape[1]))
        for part in parts
    )
    return support, query
""",
                "repeat each label",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes].transpose(0, 1), torch.arange(len(classes))
    parts = x[:k_shot], x[k_shot : k_shot + k_query]
    support, query = (
        Batch(part.flatten(0, 1), labels.repeat(len(part)))
        for part in parts
    )
    return support, query
""",
                "classes in turns",
            ),
            (
                """
def episode(images, classes, k_shot, k_query):
    x, labels = images[classes], torch.arange(len(classes))
    support = Batch(x[:, :k_shot], labels)
    return support, Batch(x[:, k_shot : k_shot + k_query], labels)
""",
                "support.x should have shape",
            ),
        ),
    ),
    "2.3": Exercise(
        name="mended_episode",
        check=check_mended_episode,
        hints=(
            "Two draws that know nothing of each other may agree.",
            "torch.randperm draws without replacement; one argsort of "
            "n_drawings scores can serve both sets.",
        ),
        solution="""
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
""",
        mistakes=(
            (
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
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randint(n_classes, (n_way, 1), generator=generator)
    scores = torch.rand(n_way, n_drawings, generator=generator)
    x = images[classes, scores.argsort(1)[:, : k_shot + k_query]]
    labels = torch.arange(n_way)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), labels.repeat_interleave(k_query)),
    )
""",
                "under two labels",
            ),
            (
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes, generator=generator)[:n_way]
    classes = classes.sort().values[:, None]
    scores = torch.rand(n_way, n_drawings, generator=generator)
    x = images[classes, scores.argsort(1)[:, : k_shot + k_query]]
    labels = torch.arange(n_way)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), labels.repeat_interleave(k_query)),
    )
""",
                "rising order",
            ),
            (
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    classes = torch.randperm(len(images), generator=generator)[:n_way]
    x, labels = images[classes][:, : k_shot + k_query], torch.arange(n_way)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), labels.repeat_interleave(k_query)),
    )
""",
                "them at random",
            ),
            (
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes, generator=generator)[:n_way]
    places = torch.randperm(n_drawings, generator=generator)
    x, labels = images[classes][:, places], torch.arange(n_way)
    query = x[:, k_shot : k_shot + k_query]
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(query.flatten(0, 1), labels.repeat_interleave(k_query)),
    )
""",
                "at the same places",
            ),
            (
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes, generator=generator)[:n_way]
    scores = torch.rand(n_way, n_drawings, generator=generator)
    x = images[classes[:, None], scores.argsort(1)[:, : k_shot + k_query]]
    return (
        Batch(x[:, :k_shot].flatten(0, 1), classes.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), classes.repeat_interleave(k_query)),
    )
""",
                "numbers of classes",
            ),
            (
                """
def mended_episode(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    classes = torch.randperm(n_classes)[:n_way, None]
    scores = torch.rand(n_way, n_drawings)
    x = images[classes, scores.argsort(1)[:, : k_shot + k_query]]
    labels = torch.arange(n_way)
    return (
        Batch(x[:, :k_shot].flatten(0, 1), labels.repeat_interleave(k_shot)),
        Batch(x[:, k_shot:].flatten(0, 1), labels.repeat_interleave(k_query)),
    )
""",
                "generator for every draw",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "Training and test tasks all have the labels 0 to 4. Is that a leak?",
        (
            (
                "Yes, test labels must not occur in training.",
                "A label is only a place in its task: label 3 is another "
                "character every time.",
            ),
            (
                "No: classes must be disjoint, labels need not be.",
                "What test tasks ask for, new characters, training has never "
                "shown.",
            ),
            (
                "No, as long as the drawings differ.",
                "New drawings of known characters would test recognition of "
                "those, not learning of new ones.",
            ),
        ),
        right=1,
    ),
    Question(
        "Before its first inner step a 5-way network is right on 45 % of the "
        "queries. What follows?",
        (
            (
                "Meta-training went well.",
                "A good start is one from which a step leads far; it cannot "
                "know labels that were just drawn.",
            ),
            (
                "Five more points will come with more shots.",
                "Shots act through the inner step, which has not been taken.",
            ),
            (
                "Something tells it the labels, because guessing is 20 %.",
                "Look for fixed labels, or for anything else by which an "
                "example gives its label away.",
            ),
        ),
        right=2,
    ),
    Question(
        "You judge 100 tasks with 1 query a class and find the interval too "
        "wide. Which change always narrows it?",
        (
            (
                "More tasks.",
                "Tasks are independent: four times as many halve it.",
            ),
            (
                "More queries in the same tasks.",
                "That helps until the difference between tasks is all that "
                "is left.",
            ),
            (
                "Another seed.",
                "That gives another interval, on average of the same width.",
            ),
        ),
        right=0,
    ),
)
