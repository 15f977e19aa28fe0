"""Exercises of chapter 00: play the few-shot game."""

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, whole

LUCKY = """
def lucky(n_way, n_rounds):
    return (1 / n_way) ** n_rounds
"""
NEAREST = """
def nearest(examples, query):
    distance = ((examples - query) ** 2).sum(dim=(1, 2))
    return distance.argmin()
"""
MENDED_SCORE = """
def mended_score(drawings):
    examples = drawings[:, 0].flatten(1)
    right = torch.zeros(0)
    for hand in range(1, drawings.shape[1]):
        queries = drawings[:, hand].flatten(1)
        picks = torch.cdist(queries, examples).argmin(1)
        right = torch.cat([right, picks == torch.arange(len(picks))])
    return right.float().mean()
"""
SHIFTED_PLAYER = """
def shifted_player(examples, query):
    shifts = [
        query.roll((down, right), (0, 1))
        for down in range(-6, 7)
        for right in range(-6, 7)
    ]
    distance = torch.cdist(
        torch.stack(shifts).flatten(1), examples.flatten(1)
    )
    return distance.amin(0).argmin()
"""


def three_squares():
    """Squared distances 9, 2 and 3, so the answer is 1."""
    examples = torch.zeros(3, 2, 2)
    examples[0] = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    examples[1] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    examples[2] = torch.tensor([[1.0, -1.0], [0.0, -1.0]])
    return examples, torch.zeros(2, 2)


def rivals(g, number):
    """Two examples near the query, one off in many dots, one in a single.

    Which of them is nearer by squares, another distance gets wrong in every
    second case: higher powers call the first near, lower ones the second.
    """
    n, height, width = (whole(g, 2, 3 + number) for _ in range(3))
    query = normal(g, height, width)
    examples = query + 5 * normal(g, n, height, width)
    signs = normal(g, height, width).sign()
    single = torch.zeros(height, width)
    length = (0.95, 1.05)[number % 2] * (height * width) ** 0.5
    single[whole(g, 0, height - 1), whole(g, 0, width - 1)] = length
    one, other = torch.randperm(n, generator=g)[:2].tolist()
    examples[one], examples[other] = query + signs, query + single
    return examples, query


def two_dots():
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
    return (torch.tensor(dots).float().unsqueeze(2),)


def some_hands(g, number):
    """Characters of any size, by one hand or more, more or less unlike."""
    n, hands = whole(g, 3, 7), 1 + number % 4
    pixels = ((2,), (3, 2), (1, 4, 4))[number % 3]
    characters = normal(g, n, 1, *pixels)
    return (characters + 1.2 * normal(g, n, hands, *pixels),)


def _drawn(ends):
    """Ink on 28 × 28 dots, of strokes with ends (..., strokes, 2, 2)."""
    dots = torch.cartesian_prod(*[torch.arange(28.0)] * 2)
    start, end = ends[..., None, 0, :], ends[..., None, 1, :]
    along = end - start
    share = ((dots - start) * along).sum(-1) / along.square().sum(-1)
    nearest = start + share.clamp(0, 1)[..., None] * along
    away = (dots - nearest).norm(dim=-1)  # (..., strokes, dots)
    return (1.8 - away).clamp(0, 1).amax(-2).unflatten(-1, (28, 28))


def sees_through_shifts(shifted_player):
    """60 rounds whose query is drawn anew, up to six dots elsewhere."""
    g, n = seeded(5), 60
    ends = 8 + 12 * torch.rand(n, 5, 3, 2, 2, generator=g)
    asked = torch.randint(5, (n,), generator=g)
    shifts = torch.randint(-6, 7, (n, 1, 1, 2), generator=g)
    shaken = ends[torch.arange(n), asked] + 0.5 * normal(g, n, 3, 2, 2)
    examples, queries = _drawn(ends), _drawn(shaken + shifts)
    right = 0
    for number in range(n):
        place = to_tensor(
            shifted_player(examples[number].clone(), queries[number].clone())
        )
        require(
            place is not None and place.numel() == 1,
            "Return one number, the index of an example, 0 to 4.",
        )
        right += int(place == asked[number])
    pixels = (examples - queries[:, None]).square().sum((2, 3)).argmin(1)
    require(
        right >= 51,
        f"Your player is right in {right} of {n} rounds, and comparing pixels "
        f"in {int((pixels == asked).sum())}. Reach 51.",
    )


EXERCISES = by_key(
    Exercise(
        "0.1",
        "lucky",
        level=1,
        minutes=3,
        hints=(
            "One round first: one of n_way answers is right.",
            "Two independent things both happen: multiply their chances.",
        ),
        solution=LUCKY,
        first=lambda: (5, 2),
        told="For 2 rounds of 5 answers",
        by_hand=lambda: 0.04,
        draw=lambda g, number: (whole(g, 2, 20), whole(g, 1, 5)),
        mistakes=(
            (
                "return (1",
                "return 100 * (1",
                "A probability lies between 0 and 1: yours is in percent.",
            ),
            (
                "(1 / n_way) ** n_rounds",
                "1 / (n_way * n_rounds)",
                "You divide by n_way · n_rounds. Rounds are independent, so "
                "their probabilities multiply.",
            ),
            (
                "(1 / n_way) ** n_rounds",
                "n_rounds / n_way",
                "You add the rounds. That counts how many a guesser gets "
                "right on average.",
            ),
            (
                "(1 / n_way) ** n_rounds",
                "1 - (1 - 1 / n_way) ** n_rounds",
                "That is the chance of at least one right answer. All of "
                "them must be right.",
            ),
            (
                "(1 / n_way) ** n_rounds",
                "(1 / n_rounds) ** n_way",
                "Base and exponent are swapped.",
            ),
            ("(1 / n_way) ** n_rounds", '"1 in 5"', "should be a number"),
        ),
    ),
    Exercise(
        "0.2",
        "nearest",
        level=1,
        minutes=5,
        the_one=True,
        hints=(
            "examples - query subtracts the query from every example.",
            "(examples - query) ** 2 has shape (n, height, width). Sum over "
            "the last two axes, .sum(dim=(1, 2)); then .argmin().",
        ),
        solution=NEAREST,
        first=three_squares,
        told="With squared distances 9, 2 and 3",
        by_hand=lambda: 1,
        draw=rivals,
        draws=8,
        mistakes=(
            (
                "argmin",
                "argmax",
                "That example is farthest away. Take the smallest distance, "
                "summed for each example by itself.",
            ),
            (
                "((examples - query) ** 2)",
                "(examples - query)",
                "Differences of opposite sign cancel in your sum. Square "
                "them first.",
            ),
            (
                "((examples - query) ** 2).sum(",
                "(examples - query).abs().amax(",
                "You look at the largest difference only. Many small ones "
                "count, too.",
            ),
            (
                "(dim=(1, 2))",
                "(dim=1)",
                "You sum over one axis, so the index is not an example's. A "
                "drawing has two axes, dim=(1, 2).",
            ),
            (
                "((examples - query) ** 2)",
                "(examples - query).abs()",
                "You add the differences without squaring. In the equation "
                "each is squared: one of 3 counts more than four of 1.",
            ),
            (
                "distance.argmin()",
                "distance.min()",
                "That is the distance of the nearest example, not its index.",
            ),
            (
                "distance.argmin()",
                "distance.argmin() + 1",
                "Indices begin with 0: you count from 1.",
            ),
            (
                "    return distance.argmin()",
                "    return ((examples - query) ** 2).sum(2).argmin(1)",
                "should be a number, but has shape (3,)",
            ),
        ),
    ),
    Exercise(
        "0.3",
        "mended_score",
        level=2,
        minutes=10,
        hints=(
            "Which drawing is at distance 0 from an example?",
            "Hand 0 drew the examples. Start the loop at hand 1.",
        ),
        solution=MENDED_SCORE,
        first=two_dots,
        told="For four characters by three hands",
        by_hand=lambda: 3 / 8,
        draw=some_hands,
        mistakes=(
            (
                "range(1, drawings",
                "range(drawings",
                "You still ask about the drawings that are the examples: "
                "each is nearest to itself.",
            ),
            (
                "range(1, drawings.shape[1])",
                "range(drawings.shape[1] - 1)",
                "You left out the last hand. The one to leave out is the one "
                "that drew the examples.",
            ),
            (
                "drawings[:, 0]",
                "drawings.mean(1)",
                "Your examples are means over all hands, and so contain the "
                "queries.",
            ),
            (
                "range(1, drawings.shape[1])",
                "[0]",
                "You ask about the examples only.",
            ),
            (
                "range(1, drawings.shape[1])",
                "[1]",
                "You ask a single hand. Ask all but the one that drew the "
                "examples.",
            ),
            (
                "range(1, drawings.shape[1]):\n"
                "        queries = drawings[:, hand].flatten(1)\n"
                "        picks = torch.cdist(queries, examples).argmin(1)\n"
                "        right = torch.cat([right, picks == "
                "torch.arange(len(picks))])\n"
                "    return right.float().mean()",
                "range(drawings.shape[1]):\n"
                "        queries = drawings[:, hand].flatten(1)\n"
                "        picks = torch.cdist(queries, examples).argmin(1)\n"
                "        right = torch.cat([right, picks == "
                "torch.arange(len(picks))])\n"
                "    return right.sum() / (len(right) - len(drawings))",
                "You left out a hand in the count, but not among the queries.",
            ),
            (
                "right.float().mean()",
                "right.float().sum()",
                "That is the number of right answers. Their share is asked "
                "for.",
            ),
        ),
    ),
    Exercise(
        "0.4",
        "shifted_player",
        level=3,
        minutes=20,
        hints=(
            "Two drawings of one character may lie far apart, dot by dot, "
            "and fit if one of them is moved.",
            "query.roll((1, 2), (0, 1)) moves all dots down by 1 and to the "
            "right by 2. Or move every drawing's centre of ink to the middle.",
        ),
        example=SHIFTED_PLAYER,
        prove=sees_through_shifts,
        mistakes=(
            ("range(-6, 7)", "range(1)", "Reach 51"),
            ("distance.amin(0).argmin()", "distance", "Return one number"),
        ),
    ),
)

QUIZ = (
    ask(
        "You learned each character from one drawing. Was that all you had?",
        (
            "No: years of other characters had taught you what changes from "
            "hand to hand and what does not.",
            "That is the part a network must learn before it meets your five "
            "drawings. Doing so is called meta-learning.",
        ),
        (
            "Yes: five drawings, nothing else.",
            "The pixel player had just that, and lost rounds that you would "
            "not lose.",
        ),
        ("No: the query helped.", "It was there for the pixel player, too."),
    ),
    ask(
        "A friend reports 10 of 10 right in the game. What do you know?",
        (
            "Accuracies below 72 % fit it badly.",
            "The 95 % interval of 10 of 10 runs from 72 to 100 %.",
        ),
        (
            "Their accuracy is 100 %.",
            "Someone who is right four times in five gets 10 of 10 in one "
            "game of ten.",
        ),
        (
            "Nothing: ten rounds are too few.",
            "A guesser gets 10 of 10 once in ten million games, so you know "
            "at least that it was not luck alone.",
        ),
    ),
    ask(
        "A new method is right in 70 % of such rounds. What do you ask first?",
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
)
