"""Exercises of chapter 10: compare meta-learners."""

import torch
from torch.nn import functional as F

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)


def _pairs(f, g):
    return f[:, None] - g


def check_same_probability(same_probability):
    """By hand: |(1, 3) - (2, 3)| = (1, 0), score -2 + 1 = -1, p = 0.27."""
    f = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    g = torch.tensor([[2.0, 3.0], [1.0, 1.0], [0.0, 0.5]])
    weight, bias = torch.tensor([-2.0, -1.0]), torch.tensor(1.0)
    score = _pairs(f, g).abs() @ weight + bias
    signed = _pairs(f, g) @ weight + bias
    actual = same_probability(f, g, weight, bias)
    if isinstance(actual, torch.Tensor):
        require(
            tuple(actual.shape) != (3, 2),
            "The rows should be those of f and the columns those of g: your "
            "table is on its side.",
        )
    compare(
        actual,
        score.sigmoid(),
        "The table of probabilities",
        [
            (signed.sigmoid(), "Swap the two drawings, and the answer "
             "changes: you left out the bars of |f - g|."),
            (-signed + 2 * bias, "Swap the drawings: no bars, no sigmoid."),
            (score, "These are scores. σ makes probabilities of them."),
            ((score - bias).sigmoid(), "Where is the bias? Without it a "
             "drawing is the same as itself with p = ½ only."),
            ((_pairs(f, g).square() @ weight + bias).sigmoid(), "You squared "
             "the differences: take their absolute values."),
            ((_pairs(f, g).abs().sum(-1) + bias).sigmoid(), "All features "
             "count alike: weigh each difference by its weight."),
            ((_pairs(f, g) @ weight).abs().add(bias).sigmoid(), "The bars "
             "are around the sum: differences of opposite sign cancel before "
             "they are seen."),
        ],
    )  # fmt: skip
    swapped = same_probability(g, f, weight, bias)
    compare(swapped, score.sigmoid().T, "The table for g and f, swapped")


def check_mended_labels(mended_labels):
    """By hand: 2, 0, 1 are told as nothing, 2, 0."""
    y = torch.tensor([2, 0, 1, 1])
    right = torch.tensor(
        [[0.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]],
    )
    hot = F.one_hot(y, 3).float()
    first = torch.tensor([[1.0, 0, 0]])
    told = mended_labels(y, 3)
    if isinstance(told, torch.Tensor):
        require(
            told.shape[:1] != (3,),
            "There are T steps, so T rows: the first step is told nothing, "
            "which is a row of zeros.",
        )
        require(
            told.shape[:1] != (5,),
            "A row too many: the label of the last drawing is told to nobody.",
        )
    compare(
        told,
        right,
        "What the network is told",
        [
            (hot, "That is the leak: with the drawing comes its own label, "
             "and copying it is all that training teaches."),
            (hot.roll(-1, 0), "You shifted the other way: each step is told "
             "the label of the next drawing, and the last that of the "
             "first."),
            (torch.cat([hot[1:], torch.zeros(1, 3)]), "These labels come "
             "from the future: step t is told the label of t + 1."),
            (hot.roll(1, 0), "Rolled round the end: the first step is told "
             "the label of the last drawing."),
            (torch.cat([first, hot[:-1]]), "Before the first drawing nothing "
             "is known; you tell it class 0."),
            (torch.cat([hot[:1], hot[:-1]]), "The first step is still told "
             "its own label."),
            (torch.zeros(4, 3), "Now nothing is ever told: a network without "
             "labels can but guess."),
        ],
    )  # fmt: skip


def check_rule(rule):
    """By hand: f = i = ½ at scores 0 and log(√e - 1): ½ θ - ½ slope."""
    theta, slope = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 4.0])
    half = torch.tensor(0.5).expm1().log()  # softplus of it is ½
    zero = torch.tensor(0.0)
    i0 = F.softplus(zero)
    compare(
        rule(theta, slope, zero, half),
        0.5 * theta - 0.5 * slope,
        "The weights after a step with f = i = ½",
        [
            (0.5 * theta + 0.5 * slope, "This step goes uphill: subtract "
             "i ⊙ ∇L."),
            (theta - 0.5 * slope, "Where is f? The old weight is kept in "
             "part only."),
            (0.5 * theta - half.sigmoid() * slope, "A step size may be "
             "larger than 1: i is a softplus, not a σ."),
            (i0 * theta - 0.5 * slope, "More than all of a weight cannot be "
             "kept: f is a σ, not a softplus."),
            (half.sigmoid() * theta - i0 * slope, "You swapped the gates: "
             "keep_score is for f, rate_score for i."),
            (-half * slope, "The scores are not the gates yet: apply σ and "
             "softplus."),
            (0.5 * theta - 0.5 * slope.sign(), "The gradient's size is "
             "lost: multiply by the gradient, not by its sign."),
            (0.5 * (theta - 0.5 * slope), "f belongs to θ alone: you shrink "
             "the step as well."),
        ],
    )  # fmt: skip
    keep, rate = torch.tensor([30.0, 0.0]), torch.tensor([0.0, 0.0])
    compare(
        rule(theta, slope, keep, rate),
        torch.stack([2 - i0, -0.5 - 4 * i0]),
        "The weights when each has its own gates",
    )


def check_wider_head(wider_head):
    """By hand: rows (1, 4) and (3, 0) have the mean (2, 2)."""
    weight = torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, 5.0]])
    bias = torch.tensor([1.0, 2.0, 6.0])
    for n_way in (5, 2):
        answer = wider_head(weight.clone(), bias.clone(), n_way)
        require(
            isinstance(answer, tuple | list) and len(answer) == 2,
            "Return a pair: the weight and the bias.",
        )
        more = weight[torch.arange(n_way) % 3]
        rest = torch.cat([weight, torch.zeros(5, 2)])[:n_way]
        compare(
            answer[0],
            weight.mean(0).expand(n_way, 2),
            f"The weight for {n_way} ways",
            [
                (weight.sum(0).expand(n_way, 2), "The sum of the rows is N "
                 "times too long: take their mean."),
                (more, "You repeat the old rows: two classes with the same "
                 "row are equal, and differ from the others for no reason."),
                (rest, "New rows of zeros beside old rows: the old classes "
                 "start ahead, though labels are dealt anew."),
                (torch.zeros(n_way, 2), "A head of zeros sends no gradient "
                 "into the body at the first step."),
                (weight[:1].expand(n_way, 2), "You copy the first row only: "
                 "what the other rows know is lost."),
                (weight.mean().expand(n_way, 2), "You took the mean over "
                 "features, too: every row has D entries of its own."),
            ],
        )  # fmt: skip
        compare(
            as_scalar(answer[1]),
            bias.mean().expand(n_way),
            f"The bias for {n_way} ways",
        )


EXERCISES = {
    "10.1": Exercise(
        name="same_probability",
        check=check_same_probability,
        hints=(
            "f[:, None] - g has shape (A, B, D): every f beside every g.",
            "((f[:, None] - g).abs() @ weight + bias).sigmoid()",
        ),
        solution="""
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g).abs() @ weight + bias).sigmoid()
""",
        mistakes=(
            (
                """
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g) @ weight + bias).sigmoid()
""",
                "left out the bars",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return (f[:, None] - g).abs() @ weight + bias
""",
                "makes probabilities of them",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g).abs() @ weight).sigmoid()
""",
                "Where is the bias",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g).square() @ weight + bias).sigmoid()
""",
                "squared the differences",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g).abs().sum(-1) + bias).sigmoid()
""",
                "All features count alike",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return (((f[:, None] - g) @ weight).abs() + bias).sigmoid()
""",
                "around the sum",
            ),
            (
                """
def same_probability(f, g, weight, bias):
    return ((g[:, None] - f).abs() @ weight + bias).sigmoid()
""",
                "on its side",
            ),
        ),
    ),
    "10.2": Exercise(
        name="mended_labels",
        check=check_mended_labels,
        hints=(
            "At step t the network may know y of the step before, not y of "
            "its own. What may it know at the first step?",
            "A row of zeros, then all one-hot rows but the last.",
        ),
        solution="""
def mended_labels(y, n_way):
    hot = F.one_hot(y, n_way).float()
    return torch.cat([torch.zeros(1, n_way), hot[:-1]])
""",
        mistakes=(
            (
                """
def mended_labels(y, n_way):
    return F.one_hot(y, n_way).float()
""",
                "That is the leak",
            ),
            (
                """
def mended_labels(y, n_way):
    return F.one_hot(y, n_way).float().roll(-1, 0)
""",
                "shifted the other way",
            ),
            (
                """
def mended_labels(y, n_way):
    hot = F.one_hot(y, n_way).float()
    return torch.cat([hot[1:], torch.zeros(1, n_way)])
""",
                "come from the future",
            ),
            (
                """
def mended_labels(y, n_way):
    return F.one_hot(y, n_way).float().roll(1, 0)
""",
                "Rolled round the end",
            ),
            (
                """
def mended_labels(y, n_way):
    before = torch.cat([torch.zeros(1, dtype=y.dtype), y[:-1]])
    return F.one_hot(before, n_way).float()
""",
                "you tell it class 0",
            ),
            (
                """
def mended_labels(y, n_way):
    return F.one_hot(torch.cat([y[:1], y[:-1]]), n_way).float()
""",
                "still told its own label",
            ),
            (
                """
def mended_labels(y, n_way):
    return torch.zeros(len(y), n_way)
""",
                "nothing is ever told",
            ),
            (
                """
def mended_labels(y, n_way):
    return F.one_hot(y[:-1], n_way).float()
""",
                "so T rows",
            ),
            (
                """
def mended_labels(y, n_way):
    hot = F.one_hot(y, n_way).float()
    return torch.cat([torch.zeros(1, n_way), hot])
""",
                "A row too many",
            ),
        ),
    ),
    "10.3": Exercise(
        name="rule",
        check=check_rule,
        hints=(
            "Two gates: f = σ(keep_score) for the old weight, "
            "i = softplus(rate_score) for its gradient.",
            "keep_score.sigmoid() * theta - F.softplus(rate_score) * slope",
        ),
        solution="""
def rule(theta, slope, keep_score, rate_score):
    return keep_score.sigmoid() * theta - F.softplus(rate_score) * slope
""",
        mistakes=(
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return keep_score.sigmoid() * theta + F.softplus(rate_score) * slope
""",
                "goes uphill",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return theta - F.softplus(rate_score) * slope
""",
                "Where is f",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return keep_score.sigmoid() * theta - rate_score.sigmoid() * slope
""",
                "larger than 1",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    keep, rate = F.softplus(keep_score), F.softplus(rate_score)
    return keep * theta - rate * slope
""",
                "More than all of a weight",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return rate_score.sigmoid() * theta - F.softplus(keep_score) * slope
""",
                "swapped the gates",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return keep_score * theta - rate_score * slope
""",
                "not the gates yet",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    step = F.softplus(rate_score) * slope.sign()
    return keep_score.sigmoid() * theta - step
""",
                "not by its sign",
            ),
            (
                """
def rule(theta, slope, keep_score, rate_score):
    return keep_score.sigmoid() * (theta - F.softplus(rate_score) * slope)
""",
                "shrink the step as well",
            ),
        ),
    ),
    "10.4": Exercise(
        name="wider_head",
        check=check_wider_head,
        hints=(
            "Every class of a new task should start alike, with what all "
            "rows know together.",
            "weight.mean(0).expand(n_way, -1), and bias.mean() likewise.",
        ),
        solution="""
def wider_head(weight, bias, n_way):
    return weight.mean(0).expand(n_way, -1), bias.mean().expand(n_way)
""",
        mistakes=(
            (
                """
def wider_head(weight, bias, n_way):
    return weight.sum(0).expand(n_way, -1), bias.sum().expand(n_way)
""",
                "N times too long",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    rows = torch.arange(n_way) % len(weight)
    return weight[rows], bias[rows]
""",
                "repeat the old rows",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    wide, more = torch.zeros(n_way, weight.shape[1]), torch.zeros(n_way)
    kept = min(n_way, len(weight))
    wide[:kept], more[:kept] = weight[:kept], bias[:kept]
    return wide, more
""",
                "New rows of zeros",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    return torch.zeros(n_way, weight.shape[1]), torch.zeros(n_way)
""",
                "A head of zeros",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    return weight[:1].expand(n_way, -1), bias[:1].expand(n_way)
""",
                "copy the first row",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    shape = (n_way, weight.shape[1])
    return weight.mean().expand(shape), bias.mean().expand(n_way)
""",
                "mean over features, too",
            ),
            (
                """
def wider_head(weight, bias, n_way):
    return weight.mean(0).expand(n_way, -1)
""",
                "Return a pair",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A door should open for one face, from one picture. Nobody will "
        "take others' pictures. Which method is trained for that question?",
        (
            (
                "Prototypes.",
                "With one class, the nearest prototype is always that class.",
            ),
            (
                "A Siamese network.",
                "It says of two pictures whether they show the same, and "
                "needs no other class.",
            ),
            (
                "MAML with a head of one output.",
                "Softmax over one output is 1, whatever the picture.",
            ),
        ),
        right=1,
    ),
    Question(
        "The training loss of your memory network falls to 0 within a "
        "minute. What do you check first?",
        (
            (
                "Whether its state is too large.",
                "A large state does not tell it a label that it has not "
                "seen: the first sight of a class must cost something.",
            ),
            (
                "Whether the learning rate is too small.",
                "Then the loss would not fall.",
            ),
            (
                "Whether step t is told the label of step t.",
                "At a class's first sight nobody can know its label, so an "
                "honest loss cannot reach 0.",
            ),
        ),
        right=2,
    ),
    Question(
        "Prototypes beat MAML on your characters. What follows?",
        (
            (
                "For tasks like these, take prototypes; it says nothing of "
                "regression or control.",
                "They build on classes that look alike. MAML asks only for "
                "a gradient.",
            ),
            (
                "MAML is obsolete.",
                "On waves, prototypes cannot even be asked.",
            ),
            (
                "MAML was trained wrongly.",
                "Perhaps, but a cheaper method that is better on its own "
                "ground is nothing strange.",
            ),
        ),
        right=0,
    ),
)
