"""Exercises of chapter 07: classify new characters."""

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, whole

BATCH_NORM = """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    normalised = (x - mean) / (variance + eps).sqrt()
    return normalised + shift.view(1, -1, 1, 1)
"""
PROTOTYPES = """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    return -((queries[:, None] - prototypes) ** 2).sum(dim=-1)
"""
ACCURACY = """
def mended_accuracy(logits_of, support_x, x, y):
    logits = torch.stack(
        [logits_of(torch.cat([support_x, one[None]]))[-1] for one in x]
    )
    return (logits.argmax(1) == y).float().mean()
"""
INTERVAL = """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std() / len(task) ** 0.5
"""
WEIGHED = """
def weighed_classifier(support_x, support_y, query_x, n_way):
    means = torch.stack(
        [support_x[support_y == n].mean(0) for n in range(n_way)]
    )
    within = (support_x - means[support_y]).square().mean(0)
    away = (query_x[:, None] - means).square() / (within + 1e-3)
    return away.sum(-1).argmin(1)
"""


def two_pictures():
    """1, 3, 5, 7 have mean 4 and variance 5; 1 becomes -3/√5."""
    return torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]]), torch.zeros(1)


def norm_problem(g, number):
    """Channels of different sizes, one of them constant; any eps."""
    n, channels = 1 + number % 4, whole(g, 1, 1 + number)
    x = normal(g, n, channels, whole(g, 1, 4), 1 + number % 3)
    x = x * (1 + 4 * normal(g, channels, 1, 1).abs()) + 3 * normal(g, 1)
    eps = (None, 0.1, 1.0, None, 0.5, 1e-3)[number - 1]
    if number in (2, 6):
        x[:, 0] = 1.5
    if number == 4:
        x = x / 1000  # so small that the usual eps counts
    return (x, normal(g, channels), *([] if eps is None else [eps]))


def five_examples():
    """Prototypes (1, 0) and (0, 4); from (1, 2): -4 and -5."""
    features = torch.tensor([[0.0, 3.0], [0.0, 0.0], [0.0, 5.0], [2.0, 0.0]])
    labels = torch.tensor([1, 0, 1, 0])
    queries = torch.tensor([[1.0, 2.0], [0.0, 4.0], [1.0, 0.0]])
    return features, labels, queries, 2


def prototype_problem(g, number):
    """Classes of unequal size, in any order."""
    n_way = 2 + number % 3
    labels = torch.cat(
        [torch.arange(n_way), torch.randint(n_way, (number,), generator=g)]
    )
    labels = labels[torch.randperm(len(labels), generator=g)]
    d, k = 1 + number % 4, whole(g, 1, 4)
    return normal(g, len(labels), d), labels, normal(g, k, d), n_way


def above_the_mean(x):
    """A toy network: is x above the mean of its batch?"""
    centred = x - x.mean(dim=0)
    return torch.cat([-centred, centred], dim=1)


def in_company():
    """Two pictures of support, 10 and 0: their mean tells low from high."""
    support_x = torch.tensor([[10.0], [0.0]])
    x = torch.tensor([[4.2], [4.7], [1.0], [2.0], [5.4], [6.0], [5.6]])
    return above_the_mean, support_x, x, torch.tensor([0, 0, 0, 0, 1, 1, 1])


def company_problem(g, number):
    """Networks that look at the mean and the spread of their batch."""
    n_way, d = 2 + number % 3, whole(g, 2, 4)
    shape = ((d,), (1, d), (d, 1))[number % 3]
    weights, spread = normal(g, d, n_way), normal(g, d, n_way)

    def logits_of(x):
        flat = x.flatten(1)
        centred = flat - flat.mean(0)
        width = flat.square().mean(0).sqrt()
        return (
            centred / (0.3 + centred.std(0, correction=0)) @ weights
            + (flat * width) @ spread
        )

    support_x = 2 * normal(g, whole(g, 2, 5), *shape)
    x = 2 * normal(g, 8 + number, *shape)
    alone = [logits_of(torch.cat([support_x, one[None]]))[-1] for one in x]
    y = torch.stack(alone).argmax(1)
    wrong = torch.rand(len(x), generator=g) < 0.25
    return logits_of, support_x, x, torch.where(wrong, (y + 1) % n_way, y)


def five_tasks():
    """Task means 1, 1, 0, ⅓, ⅔; half-width 1.96 · 0.4346 / √5."""
    right = [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1]]
    return (torch.tensor(right).float(),)


def interval_problem(g, number):
    """Any number of tasks, of which some are hard."""
    tasks, queries = 1 + number, whole(g, 1, 5)
    hard = torch.rand(tasks, 1, generator=g)
    right = (torch.rand(tasks, queries, generator=g) < hard).float()
    right[0, 0], right[1, 0] = 1.0, 0.0  # not all tasks alike
    return (right,)


def weighs_features(weighed_classifier):
    """Thirty tasks: ten features, of which most are noise of any size."""
    g, own, plain = seeded(2), [], []
    for _ in range(30):
        n_way, d = 5, 10
        size = torch.exp(1.5 * normal(g, d))
        centres = normal(g, n_way, d)
        noise = torch.where(torch.rand(d, generator=g) < 0.4, 0.5, 3.0)

        def drawn(y, centres=centres, noise=noise, size=size, d=d):
            return size * (centres[y] + noise * normal(g, len(y), d))

        support_y = torch.arange(n_way).repeat(5)
        query_y = torch.randint(n_way, (40,), generator=g)
        support_x, query_x = drawn(support_y), drawn(query_y)
        scale = support_x.std(0)
        means = torch.stack([support_x[support_y == n].mean(0)
                             for n in range(n_way)])  # fmt: skip
        nearest = torch.cdist(query_x / scale, means / scale).argmin(1)
        plain.append((nearest == query_y).float().mean().item())
        said = to_tensor(
            weighed_classifier(support_x.clone(), support_y.clone(),
                               query_x.clone(), n_way)
        )  # fmt: skip
        require(
            said is not None and said.shape == query_y.shape,
            "Return one label for each query, shape (40,).",
        )
        own.append((said == query_y).float().mean().item())
    score, floor = (100 * sum(found) / 30 for found in (own, plain))
    require(
        score > floor + 5,
        f"You are right on {score:.0f} % of the queries, and the nearest "
        f"prototype of standardised features on {floor:.0f} %. Reach five "
        "points more than it.",
    )


EXERCISES = by_key(
    Exercise(
        "7.1",
        "batch_norm",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "x.mean(dim=..., keepdim=True) keeps shapes that broadcast. "
            "Which dimensions are averaged away, and which one stays?",
            "dim=(0, 2, 3) leaves the channels. The variance is the mean of "
            "(x - mean)². The shift needs shape (1, channels, 1, 1).",
        ),
        solution=BATCH_NORM,
        first=two_pictures,
        told="For 1, 3 in one picture and 5, 7 in another, with shift 0",
        by_hand=lambda: (
            torch.tensor([-3.0, -1.0, 1.0, 3.0]).view(2, 1, 1, 2) / 5**0.5
        ),
        draw=norm_problem,
        orders=1,
        forbidden=("batch_norm", "native_batch_norm"),
        mistakes=(
            (
                "((x - mean) ** 2).mean(dim",
                "x.var(dim",
                "You divide by n - 1: use the mean of the squares, "
                "correction=0.",
            ),
            (
                "(0, 2, 3)",
                "(2, 3)",
                "You normalise each picture by itself. The mean is taken "
                "over the whole batch as well as the positions.",
            ),
            (
                "(0, 2, 3)",
                "0",
                "You normalise each position by itself. The mean is taken "
                "over the positions as well as the batch.",
            ),
            (
                "(variance + eps).sqrt()",
                "(variance + eps)",
                "You divide by the variance, not by its root.",
            ),
            (
                "normalised + shift.view(1, -1, 1, 1)",
                "normalised",
                "The shift is missing.",
            ),
            (
                "(x - mean) / (variance + eps).sqrt()\n"
                "    return normalised + shift.view(1, -1, 1, 1)",
                "(x - mean + shift.view(1, -1, 1, 1))\n"
                "    return normalised / (variance + eps).sqrt()",
                "The shift comes last, after the division.",
            ),
            (
                "(0, 2, 3)",
                "(0, 1, 2, 3)",
                "You pool the channels: each has a mean and a variance of "
                "its own.",
            ),
            (
                "(variance + eps).sqrt()",
                "variance.sqrt()",
                "Where is eps? Without it a channel that is the same "
                "everywhere divides by 0.",
            ),
            (
                "    mean =",
                "    return torch.nn.functional.batch_norm(x, None, None, "
                "bias=shift, training=True, eps=eps)\n"
                "    mean =",
                "You call batch_norm",
            ),
            (
                "    normalised",
                "    mean, variance = mean.detach(), variance.detach()\n"
                "    normalised",
                "Mean and variance depend on x, too: do not detach them.",
            ),
        ),
    ),
    Exercise(
        "7.2",
        "prototype_logits",
        level=1,
        minutes=10,
        hints=(
            "features[labels == n] are the features of class n.",
            "Stack the n_way means to (n_way, channels); queries[:, None] "
            "minus them has shape (queries, n_way, channels).",
        ),
        solution=PROTOTYPES,
        first=five_examples,
        told="With prototypes (1, 0), (0, 4) and queries (1, 2), (0, 4), (1, "
        "0)",
        by_hand=lambda: torch.tensor(
            [[-4.0, -5.0], [-17.0, 0.0], [0.0, -17.0]]
        ),
        draw=prototype_problem,
        orders=1,
        mistakes=(
            (
                "return -(",
                "return (",
                "The sign: a small distance must give a large logit.",
            ),
            (
                "((queries[:, None] - prototypes) ** 2).sum(dim=-1)",
                "(queries[:, None] - prototypes).norm(dim=-1)",
                "Square the distance.",
            ),
            (
                ".sum(dim=-1)",
                ".mean(dim=-1)",
                "You average over the channels. A squared distance is their "
                "sum.",
            ),
            (
                "-((queries[:, None] - prototypes) ** 2).sum(dim=-1)",
                "(-((queries[:, None] - prototypes) ** "
                "2).sum(dim=-1)).softmax(1)",
                "These are probabilities. Return logits: cross_entropy takes "
                "the softmax itself.",
            ),
            (
                "].mean(dim=0)",
                "].sum(dim=0)",
                "A prototype is the mean of its class's features, not their "
                "sum.",
            ),
            (
                "    return",
                "    prototypes = features.view(n_way, -1, "
                "features.shape[1]).mean(1)\n"
                "    return",
                "You take the examples in the order they come in. Their "
                "labels say which belong together.",
            ),
            (
                "features[labels == n].mean(dim=0)",
                "features[labels == n].mean(dim=0).detach()",
                "The prototypes are detached, and the features of the "
                "support set learn nothing.",
            ),
        ),
    ),
    Exercise(
        "7.3",
        "mended_accuracy",
        level=2,
        minutes=10,
        hints=(
            "The model needs company whose make-up you know. Which pictures "
            "do you always have?",
            "logits_of(torch.cat([support_x, one[None]]))[-1] are the logits "
            "of one query, in the company of the support set.",
        ),
        solution=ACCURACY,
        first=in_company,
        told="With a toy model that is always right in good company",
        by_hand=lambda: 1.0,
        draw=company_problem,
        draws=10,
        mistakes=(
            (
                "torch.cat([support_x, one[None]])",
                "one[None]",
                "Each query is still alone in its batch: put the support "
                "pictures beside it.",
            ),
            (
                "[-1]",
                "[0]",
                "You read the answer for the first support picture. The "
                "query's row is the last one.",
            ),
            (
                "    return",
                "    logits = logits_of(x)\n    return",
                "The queries are judged together, without the support "
                "pictures.",
            ),
            (
                "    return",
                "    logits = logits_of(torch.cat([support_x, "
                "x]))[len(support_x) :]\n"
                "    return",
                "The support pictures are there, but so are the other "
                "queries: one query a batch.",
            ),
            (
                "    logits = torch.stack(\n"
                "        [logits_of(torch.cat([support_x, one[None]]))[-1] "
                "for one in x]\n"
                "    )",
                "    logits = []\n"
                "    for one in x:\n"
                "        support_x = torch.cat([support_x, one[None]])\n"
                "        logits.append(logits_of(support_x)[-1])\n"
                "    logits = torch.stack(logits)",
                "Earlier queries stay in the batch: each should be alone "
                "with the support pictures.",
            ),
            (
                ".float().mean()",
                ".float().sum()",
                "Return the share of right answers, not their number.",
            ),
        ),
    ),
    Exercise(
        "7.4",
        "accuracy_interval",
        level=2,
        minutes=10,
        hints=(
            "What was drawn independently: pictures, or tasks?",
            "task = right.mean(dim=1) has one number a task; the half-width "
            "is 1.96 times its standard deviation over √(number of tasks).",
        ),
        solution=INTERVAL,
        first=five_tasks,
        told="With task means 1, 1, 0, ⅓, ⅔ of three queries each",
        by_hand=lambda: (0.6, 1.96 * 0.434613 / 5**0.5),
        draw=interval_problem,
        mistakes=(
            (
                "1.96 * task.std() / len(task)",
                "1.96 * right.std() / right.numel()",
                "You count every query as independent. Queries of a task "
                "share its classes and its θ′: average each task first, then "
                "count tasks.",
            ),
            (
                " / len(task) ** 0.5",
                "",
                "This is how tasks scatter. The mean of n tasks scatters √n "
                "times less.",
            ),
            (
                "1.96 *",
                "2 * 1.96 *",
                "This is the whole width. Half of it stands after the ±.",
            ),
            (
                "task.std()",
                "task.std(correction=0)",
                "You divide by n. The spread of n tasks about their own mean "
                "is over n - 1, as std has it.",
            ),
            (" ** 0.5", "", "Divide by the root of the number of tasks."),
            (
                "1.96 * ",
                "",
                "One standard error covers 68 %. For 95 %, take 1.96.",
            ),
            (
                "len(task)",
                "right.numel()",
                "Divide by the root of the number of tasks, not of queries.",
            ),
            (
                ", 1.96 * task.std() / len(task) ** 0.5",
                "",
                "should be a pair",
            ),
        ),
    ),
    Exercise(
        "7.5",
        "weighed_classifier",
        level=3,
        minutes=20,
        hints=(
            "Which feature tells classes apart? One that differs little "
            "within a class. The support set shows how much.",
            "Divide each squared difference by the feature's variance about "
            "its own class's mean, before you sum.",
        ),
        example=WEIGHED,
        prove=weighs_features,
        mistakes=(
            (" / (within + 1e-3)", "", "five points more"),
            ("away.sum(-1).argmin(1)", "away.sum(-1)", "one label for each"),
        ),
    ),
)

QUIZ = (
    ask(
        "A paper reports 97 % for 5-way 5-shot characters. What do you ask "
        "first?",
        (
            "What an untrained network and the nearest pixels score.",
            "With five pictures a class both may come close; only the "
            "distance to such floors is due to the training.",
        ),
        (
            "How many layers the network has.",
            "That tells you its cost, not whether 97 % is much.",
        ),
        (
            "Whether chance is 20 %.",
            "It is, with 5 ways, and every method clears it by far.",
        ),
    ),
    ask(
        "A model with batch norm over the batch it sees scores 95 % on query "
        "sets of five classes. In your application pictures come one at a "
        "time. What do you report?",
        (
            "The accuracy with the support pictures and one query in each "
            "batch.",
            "That is what the application can do, and it is the number that "
            "is not transductive.",
        ),
        (
            "95 %: the weights are the same.",
            "The weights are, the statistics are not: the 95 % had the help "
            "of the other queries.",
        ),
        (
            "95 %, if the test characters are new.",
            "They must be new, but that is another question.",
        ),
    ),
    ask(
        "Another project's inner loss sums over the N ways and divides by K. "
        "Its α is 0.1 with 20 ways. Which α is the same step with our mean "
        "loss?",
        (
            "2.0",
            "The mean loss divides by N · K, so its gradient is N = 20 times "
            "shorter, and α must be 20 times larger.",
        ),
        (
            "0.005",
            "That makes the step shorter twice: the mean's gradient is "
            "already 20 times shorter.",
        ),
        ("0.1", "The two gradients differ by the factor N."),
    ),
)
