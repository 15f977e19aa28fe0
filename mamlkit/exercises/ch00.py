"""Exercises of chapter 00: play the few-shot game."""

import math
from numbers import Integral

import torch

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)


def check_lucky(lucky):
    """By hand: two rounds with five examples, 1/5 · 1/5 = 0.04."""
    for n_way, n_rounds in ((5, 1), (5, 2), (2, 3), (20, 2)):
        answer = lucky(n_way, n_rounds)
        require(
            isinstance(answer, int | float),
            f"Return a number, not a {type(answer).__name__}.",
        )
        right = n_way**-n_rounds
        said = f"lucky({n_way}, {n_rounds}) should be {right:.6g}"
        wrongs = (
            (100 * right, "A probability lies between 0 and 1: yours is in "
             "percent."),
            (1 / (n_way * n_rounds), "You divide by n_way · n_rounds. Rounds "
             "are independent, so their probabilities multiply."),
            (n_rounds / n_way, "You add the rounds. That counts how many a "
             "guesser gets right on average."),
            (1 - (1 - 1 / n_way) ** n_rounds, "That is the chance of at least "
             "one right answer. All of them must be right."),
            (1 / n_rounds**n_way, "Base and exponent are swapped."),
        )  # fmt: skip
        for wrong, message in wrongs:
            if math.isclose(answer, right) or not math.isclose(answer, wrong):
                continue
            raise_wrong = f"{said}, got {answer:.6g}. {message}"
            require(False, raise_wrong)
        require(math.isclose(answer, right), f"{said}, but is {answer:.6g}.")


def _place(nearest, examples, query):
    answer = torch.as_tensor(nearest(examples, query))
    require(
        answer < len(examples),
        f"{answer.item()} is no example's place: there are {len(examples)}. "
        "Did you sum over one axis? A drawing has two, dim=(1, 2).",
    )
    return answer


def check_nearest(nearest):
    """By hand: squared distances 9, 2 and 3, so the answer is 1."""
    examples = torch.zeros(3, 2, 2)
    examples[0] = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    examples[1] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    examples[2] = torch.tensor([[1.0, -1.0], [0.0, -1.0]])
    query = torch.zeros(2, 2)
    answer = nearest(examples, query)
    require(
        isinstance(answer, Integral | torch.Tensor),
        f"Return a whole number, not a {type(answer).__name__}.",
    )
    answer = torch.as_tensor(answer)
    require(
        answer.numel() == 1,
        f"Return one number, which example is nearest, not "
        f"{answer.numel()} of them.",
    )
    require(
        answer in (0, 1, 2) and not answer.is_floating_point(),
        f"Return the place of the nearest example, 0, 1 or 2, not its "
        f"distance: got {answer.item():.4g}.",
    )
    require(
        answer != 0,
        "You picked example 0, which is farthest away. Take the smallest "
        "distance, summed for each example by itself.",
    )
    require(
        answer != 2,
        "That is example 2. Do differences of opposite sign cancel in your "
        "sum? Then square them first. Or do you count from 1? Places begin "
        "with 0.",
    )
    # Here the sum of absolute differences has another smallest.
    examples = torch.zeros(3, 2, 2)
    examples[0] = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    examples[1] = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    examples[2] = torch.tensor([[5.0, 5.0], [5.0, 5.0]])
    answer = _place(nearest, examples, query)
    require(
        answer != 0,
        "You add the differences without squaring. In the equation each is "
        "squared: 3² is more than 1² + 1² + 1² + 1².",
    )
    compare(answer, torch.tensor(1), "The place of the nearest example")
    # Here the largest difference has another smallest.
    examples[0] = torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    examples[1] = torch.tensor([[2.0, 2.0], [2.0, 2.0]])
    answer = _place(nearest, examples, query)
    require(
        answer != 1,
        "You look at the largest difference only. Many small ones count, "
        "too: 2² + 2² + 2² + 2² is more than 3².",
    )
    random = torch.Generator().manual_seed(0)
    examples = torch.rand(5, 28, 28, generator=random)
    for right in (3, 0, 4):
        query = examples[right] + 0.1 * torch.rand(28, 28, generator=random)
        compare(
            _place(nearest, examples, query),
            torch.tensor(right),
            f"The place for a noisy copy of example {right}",
        )


def _picks(examples, queries):
    return torch.cdist(queries.flatten(1), examples.flatten(1)).argmin(1)


def check_mended_score(mended_score):
    """Four characters by three hands, each drawing two dots in a row.

    Hand 0 drew the examples. Of hand 1's drawings two are nearest to their
    own character's example, of hand 2's one: 3 of 8.
    """
    dots = [
        [[4, 0], [0, 0], [0, 4]],
        [[6, 1], [2, 2], [5, 0]],
        [[0, 2], [2, 2], [9, 2]],
        [[4, 9], [5, 9], [2, 7]],
    ]
    drawings = torch.tensor(dots).float().unsqueeze(2)
    names = torch.arange(4)

    def share(examples, hands):
        hits = [_picks(examples, drawings[:, h]) == names for h in hands]
        return torch.stack(hits).float().mean()

    first, mean = drawings[:, 0], drawings.mean(1)
    right = share(first, (1, 2))
    compare(
        as_scalar(mended_score(drawings)),
        right,
        "The score of four characters by three hands",
        [
            (share(first, (0, 1, 2)), "You still ask about the drawings that "
             "are the examples: each is nearest to itself."),
            (share(first, (0, 1)), "You left out the last hand. The one to "
             "leave out is the one that drew the examples."),
            (share(mean, (1, 2)), "Your examples are means over all hands, "
             "and so contain the queries."),
            (share(first, (0,)), "You ask about the examples only."),
            (share(first, (1,)), "You ask a single hand. Ask all but the "
             "one that drew the examples."),
            (share(first, (0, 1, 2)) * 3 / 2, "You left out a hand in the "
             "count, but not among the queries."),
        ],
    )  # fmt: skip


EXERCISES = {
    "0.1": Exercise(
        name="lucky",
        check=check_lucky,
        hints=(
            "One round first: one of n_way answers is right.",
            "Two independent things both happen: multiply their chances.",
        ),
        solution="""
def lucky(n_way, n_rounds):
    return (1 / n_way) ** n_rounds
""",
        mistakes=(
            (
                """
def lucky(n_way, n_rounds):
    return 100 / n_way**n_rounds
""",
                "yours is in percent",
            ),
            (
                """
def lucky(n_way, n_rounds):
    return 1 / (n_way * n_rounds)
""",
                "probabilities multiply",
            ),
            (
                """
def lucky(n_way, n_rounds):
    return n_rounds / n_way
""",
                "add the rounds",
            ),
            (
                """
def lucky(n_way, n_rounds):
    return 1 - (1 - 1 / n_way) ** n_rounds
""",
                "at least one",
            ),
            (
                """
def lucky(n_way, n_rounds):
    return "1 in 5"
""",
                "Return a number",
            ),
        ),
    ),
    "0.2": Exercise(
        name="nearest",
        check=check_nearest,
        hints=(
            "examples - query subtracts the query from every example.",
            "(examples - query) ** 2 has shape (n, height, width). Sum over "
            "the last two axes, .sum(dim=(1, 2)); then .argmin().",
        ),
        solution="""
def nearest(examples, query):
    distance = ((examples - query) ** 2).sum(dim=(1, 2))
    return distance.argmin()
""",
        mistakes=(
            (
                """
def nearest(examples, query):
    return ((examples - query) ** 2).sum(dim=(1, 2)).argmax()
""",
                "farthest away",
            ),
            (
                """
def nearest(examples, query):
    return (examples - query).sum(dim=(1, 2)).argmin()
""",
                "cancel in your sum",
            ),
            (
                """
def nearest(examples, query):
    return (examples - query).abs().amax(dim=(1, 2)).argmin()
""",
                "the largest difference only",
            ),
            (
                """
def nearest(examples, query):
    return ((examples - query) ** 2).sum(dim=1).argmin()
""",
                "no example's place",
            ),
            (
                """
def nearest(examples, query):
    return (examples - query).abs().sum(dim=(1, 2)).argmin()
""",
                "without squaring",
            ),
            (
                """
def nearest(examples, query):
    return ((examples - query) ** 2).sum(dim=(1, 2)).min()
""",
                "not its distance",
            ),
            (
                """
def nearest(examples, query):
    return ((examples - query) ** 2).sum(dim=2).argmin(dim=1)
""",
                "one number",
            ),
        ),
    ),
    "0.3": Exercise(
        name="mended_score",
        check=check_mended_score,
        hints=(
            "Which drawing is at distance 0 from an example?",
            "Hand 0 drew the examples. Start the loop at hand 1.",
        ),
        solution="""
def mended_score(drawings):
    examples = drawings[:, 0].flatten(1)
    right = []
    for hand in range(1, drawings.shape[1]):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right.append(picks == torch.arange(len(picks)))
    return torch.stack(right).float().mean()
""",
        mistakes=(
            (
                """
def mended_score(drawings):
    examples = drawings[:, 0].flatten(1)
    right = []
    for hand in range(drawings.shape[1]):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right.append(picks == torch.arange(len(picks)))
    return torch.stack(right).float().mean()
""",
                "still ask about",
            ),
            (
                """
def mended_score(drawings):
    examples = drawings[:, 0].flatten(1)
    right = []
    for hand in range(drawings.shape[1] - 1):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right.append(picks == torch.arange(len(picks)))
    return torch.stack(right).float().mean()
""",
                "left out the last hand",
            ),
            (
                """
def mended_score(drawings):
    examples = drawings.mean(1).flatten(1)
    right = []
    for hand in range(1, drawings.shape[1]):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right.append(picks == torch.arange(len(picks)))
    return torch.stack(right).float().mean()
""",
                "contain the queries",
            ),
            (
                """
def mended_score(drawings):
    examples = drawings[:, 0].flatten(1)
    picks = torch.cdist(examples, examples).argmin(1)
    return (picks == torch.arange(len(picks))).float().mean()
""",
                "the examples only",
            ),
            (
                """
def mended_score(drawings):
    examples, queries = drawings[:, 0].flatten(1), drawings[:, 1].flatten(1)
    picks = torch.cdist(queries, examples).argmin(1)
    return (picks == torch.arange(len(picks))).float().mean()
""",
                "a single hand",
            ),
            (
                """
def mended_score(drawings):
    examples, right = drawings[:, 0].flatten(1), 0
    for hand in range(drawings.shape[1]):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right += (picks == torch.arange(len(picks))).sum()
    return right / len(drawings) / (drawings.shape[1] - 1)
""",
                "in the count",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "You learned each character from one drawing. Was that all you had?",
        (
            (
                "Yes: five drawings, nothing else.",
                "The pixel player had just that, and lost rounds that you "
                "would not lose.",
            ),
            (
                "No: years of other characters had taught you what changes "
                "from hand to hand and what does not.",
                "That is the part a network must learn before it meets your "
                "five drawings. Doing so is called meta-learning.",
            ),
            (
                "No: the query helped.",
                "It was there for the pixel player, too.",
            ),
        ),
        right=1,
    ),
    Question(
        "A friend reports 10 of 10 right in the game. What do you know?",
        (
            (
                "Their accuracy is 100 %.",
                "Someone who is right four times in five gets 10 of 10 in one "
                "game of ten.",
            ),
            (
                "Nothing: ten rounds are too few.",
                "A guesser gets 10 of 10 once in ten million games, so you "
                "know at least that it was not luck alone.",
            ),
            (
                "Accuracies below 72 % fit it badly.",
                "The 95 % interval of 10 of 10 runs from 72 to 100 %.",
            ),
        ),
        right=2,
    ),
    Question(
        "A new method is right in 70 % of such rounds. What do you ask?",
        (
            (
                "What comparing pixels scores on the same rounds.",
                "Near 70 % may be owed to no learning at all. Every accuracy "
                "needs its floor beside it.",
            ),
            (
                "Whether it beats chance, 20 %.",
                "Comparing pixels beats chance, too, and knows nothing.",
            ),
            (
                "How large its network is.",
                "Size does not say whether anything was learned.",
            ),
        ),
        right=0,
    ),
)
