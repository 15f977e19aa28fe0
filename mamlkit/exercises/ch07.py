"""Exercises of chapter 07: classify new characters."""

import torch
from torch.nn import functional as F

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)


def check_batch_norm(batch_norm):
    """By hand: 1, 3, 5, 7 have mean 4 and variance 5; 1 becomes -3/√5."""
    x = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
    right = F.batch_norm(x, None, None, training=True)
    mean, var = x.mean(), x.var(correction=0)
    alone = F.instance_norm(x)
    compare(
        batch_norm(x, torch.tensor([0.0])),
        right,
        "1, 3 in one picture and 5, 7 in another",
        [
            ((x - mean) / (x.var() + 1e-5).sqrt(), "You divide by n - 1: use "
             "the mean of the squares, correction=0."),
            (alone, "You normalise each picture by itself. The mean is taken "
             "over the whole batch as well as the positions."),
            (torch.tensor([-1.0, -1.0, 1.0, 1.0]).view_as(x), "You normalise "
             "each position by itself. The mean is taken over the positions "
             "as well as the batch."),
            ((x - mean) / (var + 1e-5), "You divide by the variance, not by "
             "its root."),
        ],
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 4, 4, generator=random) * 5 + 2
    shift = torch.tensor([0.5, -1.0])
    plain = F.batch_norm(x, None, None, training=True)
    std = x.std(dim=(0, 2, 3), correction=0, keepdim=True)
    pooled = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    compare(
        batch_norm(x, shift),
        plain + shift.view(1, 2, 1, 1),
        "A batch of 3 pictures with 2 channels",
        [
            (plain, "The shift is missing."),
            (plain + shift.view(1, 2, 1, 1) / std, "The shift comes last, "
             "after the division."),
            (pooled + shift.view(1, 2, 1, 1), "You pool the channels: each "
             "has a mean and a variance of its own."),
        ],
    )  # fmt: skip


def check_prototype_logits(prototype_logits):
    """By hand: prototypes (1, 0) and (0, 4); from (1, 2): -4 and -5."""
    features = torch.tensor([[0.0, 3.0], [0.0, 0.0], [0.0, 5.0], [2.0, 0.0]])
    labels = torch.tensor([1, 0, 1, 0])
    queries = torch.tensor([[1.0, 2.0], [0.0, 4.0], [1.0, 0.0]])

    def wrong(prototypes, power=2):
        return -(torch.cdist(queries, torch.tensor(prototypes)) ** power)

    compare(
        prototype_logits(features, labels, queries, 2),
        torch.tensor([[-4.0, -5.0], [-17.0, 0.0], [0.0, -17.0]]),
        "The logits of three queries",
        [
            (-wrong([[1.0, 0.0], [0.0, 4.0]]), "The sign: a small distance "
             "must give a large logit."),
            (wrong([[1.0, 0.0], [0.0, 4.0]], 1), "Square the distance."),
            (wrong([[1.0, 0.0], [0.0, 4.0]]) / 2, "You average over the "
             "channels. A squared distance is their sum."),
            (wrong([[1.0, 0.0], [0.0, 4.0]]).softmax(1), "These are "
             "probabilities. Return logits: cross_entropy takes the softmax "
             "itself."),
            (wrong([[2.0, 0.0], [0.0, 8.0]]), "A prototype is the mean of "
             "its class's features, not their sum."),
            (wrong([[0.0, 1.5], [1.0, 2.5]]), "You take the examples in the "
             "order they come in. Their labels say which belong together."),
        ],
    )  # fmt: skip


def _above_the_mean(x):
    """Logits (examples, 2): is x above the mean of its batch?"""
    centred = x - x.mean(dim=0)
    return torch.cat([-centred, centred], dim=1)


def check_mended_accuracy(mended_accuracy):
    """Two pictures of support, 10 and 0: their mean tells low from high."""
    support_x = torch.tensor([[10.0], [0.0]])
    x = torch.tensor([[4.2], [4.7], [1.0], [2.0], [5.4], [6.0], [5.6]])
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1])

    def share(logits):
        return (logits.argmax(1) == y).float().mean()

    together = share(_above_the_mean(x))
    all_in = share(_above_the_mean(torch.cat([support_x, x]))[2:])
    compare(
        as_scalar(mended_accuracy(_above_the_mean, support_x, x, y)),
        torch.tensor(1.0),
        "The accuracy of a toy model that is always right in good company",
        [
            (torch.tensor(4 / 7), "Each query is still alone in its batch, or "
             "you read a support picture's row: put the support pictures "
             "beside it, and read the row of the query."),
            (torch.tensor(3 / 7), "You read the answer for the first support "
             "picture. The query's row is the last one."),
            (together, "The queries are judged together, without the support "
             "pictures."),
            (all_in, "The support pictures are there, but so are the other "
             "queries: one query a batch."),
            (torch.tensor(7.0), "Return the share of right answers, not "
             "their number."),
        ],
    )  # fmt: skip


def check_accuracy_interval(accuracy_interval):
    """By hand: task means 1, 1, 0, ⅓, ⅔; half-width 1.96 · 0.4346 / √5."""
    right = torch.tensor(
        [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1]]
    )
    right = right.float()
    pair = accuracy_interval(right)
    require(
        isinstance(pair, tuple | list) and len(pair) == 2,
        "Return a pair, the mean and the half-width.",
    )
    mean, half = map(as_scalar, pair)
    compare(mean, torch.tensor(0.6), "The mean")
    task = right.mean(dim=1)
    compare(
        half,
        1.96 * task.std() / 5**0.5,
        "The half-width",
        [
            (1.96 * right.std() / 15**0.5, "You count every query as "
             "independent. Queries of a task share its classes and its θ′: "
             "average each task first, then count tasks."),
            (1.96 * task.std(correction=0) / 5**0.5, "You divide by n. The "
             "spread of n tasks about their own mean is over n - 1, as std "
             "has it."),
            (1.96 * task.std() / 5, "Divide by the root of the number of "
             "tasks."),
            (2 * 1.96 * task.std() / 5**0.5, "This is the whole width. Half "
             "of it stands after the ±."),
            (1.96 * task.std(), "This is how tasks scatter. The mean of n "
             "tasks scatters √n times less."),
            (task.std() / 5**0.5, "One standard error covers 68 %. For 95 %, "
             "take 1.96."),
            (1.96 * task.std() / 15**0.5, "Divide by the root of the number "
             "of tasks, not of queries."),
        ],
    )  # fmt: skip


EXERCISES = {
    "7.1": Exercise(
        name="batch_norm",
        check=check_batch_norm,
        hints=(
            "x.mean(dim=..., keepdim=True) keeps shapes that broadcast. Which "
            "dimensions are averaged away, and which one stays?",
            "dim=(0, 2, 3) leaves the channels. The variance is the mean of "
            "(x - mean)². The shift needs shape (1, channels, 1, 1).",
        ),
        solution="""
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    normalised = (x - mean) / (variance + eps).sqrt()
    return normalised + shift.view(1, -1, 1, 1)
""",
        mistakes=(
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = x.var(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (variance + eps).sqrt() + shift.view(1, -1, 1, 1)
""",
                "divide by n - 1",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (variance + eps).sqrt() + shift.view(1, -1, 1, 1)
""",
                "each picture by itself",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=0, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=0, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() + shift.view(1, -1, 1, 1)
""",
                "each position by itself",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean + shift.view(1, -1, 1, 1)) / (variance + eps).sqrt()
""",
                "shift comes last",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (variance + eps) + shift.view(1, -1, 1, 1)
""",
                "not by its root",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    return F.batch_norm(x, None, None, training=True, eps=eps)
""",
                "shift is missing",
            ),
            (
                """
def batch_norm(x, shift, eps=1e-5):
    mean, variance = x.mean(), x.var(correction=0)
    return (x - mean) / (variance + eps).sqrt() + shift.view(1, -1, 1, 1)
""",
                "pool the channels",
            ),
        ),
    ),
    "7.2": Exercise(
        name="prototype_logits",
        check=check_prototype_logits,
        hints=(
            "features[labels == n] are the features of class n.",
            "Stack the n_way means to (n_way, channels); queries[:, None] "
            "minus them has shape (queries, n_way, channels).",
        ),
        solution="""
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    return -((queries[:, None] - prototypes) ** 2).sum(dim=-1)
""",
        mistakes=(
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    return ((queries[:, None] - prototypes) ** 2).sum(dim=-1)
""",
                "The sign",
            ),
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    return -(queries[:, None] - prototypes).norm(dim=-1)
""",
                "Square the distance",
            ),
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    return -((queries[:, None] - prototypes) ** 2).mean(dim=-1)
""",
                "average over the channels",
            ),
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].mean(dim=0) for n in range(n_way)]
    )
    distances = ((queries[:, None] - prototypes) ** 2).sum(dim=-1)
    return (-distances).softmax(dim=1)
""",
                "These are probabilities",
            ),
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = torch.stack(
        [features[labels == n].sum(dim=0) for n in range(n_way)]
    )
    return -((queries[:, None] - prototypes) ** 2).sum(dim=-1)
""",
                "not their sum",
            ),
            (
                """
def prototype_logits(features, labels, queries, n_way):
    prototypes = features.view(n_way, -1, features.shape[1]).mean(dim=1)
    return -((queries[:, None] - prototypes) ** 2).sum(dim=-1)
""",
                "order they come in",
            ),
        ),
    ),
    "7.3": Exercise(
        name="mended_accuracy",
        check=check_mended_accuracy,
        hints=(
            "The model needs company whose make-up you know. Which pictures "
            "do you always have?",
            "logits_of(torch.cat([support_x, one[None]]))[-1] are the logits "
            "of one query, in the company of the support set.",
        ),
        solution="""
def mended_accuracy(logits_of, support_x, x, y):
    logits = torch.stack(
        [logits_of(torch.cat([support_x, one[None]]))[-1] for one in x]
    )
    return (logits.argmax(1) == y).float().mean()
""",
        mistakes=(
            (
                """
def mended_accuracy(logits_of, support_x, x, y):
    logits = torch.stack([logits_of(one[None])[0] for one in x])
    return (logits.argmax(1) == y).float().mean()
""",
                "still alone",
            ),
            (
                """
def mended_accuracy(logits_of, support_x, x, y):
    logits = torch.stack(
        [logits_of(torch.cat([support_x, one[None]]))[0] for one in x]
    )
    return (logits.argmax(1) == y).float().mean()
""",
                "first support",
            ),
            (
                """
def mended_accuracy(logits_of, support_x, x, y):
    return (logits_of(x).argmax(1) == y).float().mean()
""",
                "judged together",
            ),
            (
                """
def mended_accuracy(logits_of, support_x, x, y):
    logits = logits_of(torch.cat([support_x, x]))[len(support_x) :]
    return (logits.argmax(1) == y).float().mean()
""",
                "so are the other",
            ),
            (
                """
def mended_accuracy(logits_of, support_x, x, y):
    logits = torch.stack(
        [logits_of(torch.cat([support_x, one[None]]))[-1] for one in x]
    )
    return (logits.argmax(1) == y).float().sum()
""",
                "not their number",
            ),
        ),
    ),
    "7.4": Exercise(
        name="accuracy_interval",
        check=check_accuracy_interval,
        hints=(
            "What was drawn independently: pictures, or tasks?",
            "task = right.mean(dim=1) has one number a task; the half-width "
            "is 1.96 times its standard deviation over √(number of tasks).",
        ),
        solution="""
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std() / len(task) ** 0.5
""",
        mistakes=(
            (
                """
def accuracy_interval(right):
    return right.mean(), 1.96 * right.std() / right.numel() ** 0.5
""",
                "every query as independent",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std()
""",
                "how tasks scatter",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 2 * 1.96 * task.std() / len(task) ** 0.5
""",
                "the whole width",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std(correction=0) / len(task) ** 0.5
""",
                "You divide by n.",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std() / len(task)
""",
                "root of the number of tasks.",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), task.std() / len(task) ** 0.5
""",
                "covers 68 %",
            ),
            (
                """
def accuracy_interval(right):
    task = right.mean(dim=1)
    return task.mean(), 1.96 * task.std() / right.numel() ** 0.5
""",
                "not of queries",
            ),
            (
                """
def accuracy_interval(right):
    return right.mean()
""",
                "Return a pair",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A paper reports 97 % for 5-way 5-shot characters. What do you ask "
        "first?",
        (
            (
                "How many layers the network has.",
                "That tells you its cost, not whether 97 % is much.",
            ),
            (
                "What an untrained network and the nearest pixels score.",
                "With five pictures a class both may come close; only the "
                "distance to such floors is due to the training.",
            ),
            (
                "Whether chance is 20 %.",
                "It is, with 5 ways, and every method clears it by far.",
            ),
        ),
        right=1,
    ),
    Question(
        "A model with batch norm over the batch it sees scores 95 % on query "
        "sets of five classes. In your application pictures come one at a "
        "time. What do you report?",
        (
            (
                "95 %: the weights are the same.",
                "The weights are, the statistics are not: the 95 % had the "
                "help of the other queries.",
            ),
            (
                "95 %, if the test characters are new.",
                "They must be new, but that is another question.",
            ),
            (
                "The accuracy with the support pictures and one query in "
                "each batch.",
                "That is what the application can do, and it is the number "
                "that is not transductive.",
            ),
        ),
        right=2,
    ),
    Question(
        "Another project's inner loss sums over the N ways and divides by K. "
        "Its α is 0.1 with 20 ways. Which α is the same step here?",
        (
            (
                "2.0",
                "The mean loss divides by N · K, so its gradient is N = 20 "
                "times shorter, and α must be 20 times larger.",
            ),
            (
                "0.005",
                "That makes the step shorter twice: the mean's gradient is "
                "already 20 times shorter.",
            ),
            ("0.1", "The two gradients differ by the factor N."),
        ),
        right=0,
    ),
)
