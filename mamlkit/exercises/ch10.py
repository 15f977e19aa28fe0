"""Exercises of chapter 10: compare meta-learners."""

import torch

from mamlkit.exercises.compare import require
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, whole

SAME = """
def same_probability(f, g, weight, bias):
    return ((f[:, None] - g).abs() @ weight + bias).sigmoid()
"""
LABELS = """
def mended_labels(y, n_way):
    hot = F.one_hot(y, n_way).float()
    return torch.cat([torch.zeros(1, n_way), hot[:-1]])
"""
RULE = """
def rule(theta, slope, keep_score, rate_score):
    return keep_score.sigmoid() * theta - F.softplus(rate_score) * slope
"""
WIDER = """
def wider_head(weight, bias, n_way):
    return weight.mean(0).expand(n_way, -1), bias.mean().expand(n_way)
"""
CHOOSER = """
def choose_method(x, y):
    right = {"prototypes": 0, "neighbours": 0}
    for i in range(len(x)):
        rest = [j for j in range(len(x)) if j != i]
        known, labels = x[rest], y[rest]
        means = torch.stack(
            [known[labels == n].mean(0) for n in labels.unique()]
        )
        far = (means - x[i]).square().sum(1)
        right["prototypes"] += labels.unique()[far.argmin()] == y[i]
        near = (known - x[i]).square().sum(1).argmin()
        right["neighbours"] += labels[near] == y[i]
    return max(right, key=right.get)
"""


def two_by_three():
    """|(1, 3) - (2, 3)| = (1, 0), score -2 + 1 = -1, p = 0.27."""
    f = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    g = torch.tensor([[2.0, 3.0], [1.0, 1.0], [0.0, 0.5]])
    return f, g, torch.tensor([-2.0, -1.0]), torch.tensor(1.0)


def pair_problem(g, number):
    """Any numbers of features and drawings."""
    d = (2, 1, 3, 5, 2, 4)[number - 1]
    f, h = normal(g, 1 + number % 3, d), normal(g, whole(g, 1, 4), d)
    return f, h, normal(g, d), normal(g)


def four_labels():
    """2, 0, 1, 1 are told as nothing, 2, 0, 1."""
    return torch.tensor([2, 0, 1, 1]), 3


def label_problem(g, number):
    """Streams of any length, of which not every class need occur."""
    n_way = 2 + number % 4
    return torch.randint(n_way, (number + 1,), generator=g), n_way


def half_gates():
    """F = i = ½ at scores 0 and log(√e - 1): ½ θ - ½ slope."""
    half = torch.tensor(0.5).expm1().log()  # softplus of it is ½
    theta, slope = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 4.0])
    return theta, slope, torch.tensor(0.0), half


def rule_problem(g, number):
    """A gate for all entries or one for each, open or shut."""
    shape = ((), (3,), (2, 2), (1, 4), (2,), (3, 1))[number - 1]
    gates = shape if number % 2 else ()
    theta, slope = normal(g, *shape), normal(g, *shape)
    return theta, slope, 3 * normal(g, *gates), 3 * normal(g, *gates)


def three_rows():
    """Rows (1, 4), (3, 0) and (2, 5) have the mean (2, 3)."""
    weight = torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, 5.0]])
    return weight, torch.tensor([1.0, 2.0, 6.0]), 5


def head_problem(g, number):
    """Heads to be widened, narrowed and left as wide."""
    n, d = 2 + number % 4, 1 + number % 3
    return normal(g, n, d), normal(g, n), (2, 7, n, 1, 5, 3)[number - 1]


def chooses_well(choose_method):
    """Forty tasks: half of them blobs, half with classes in two pieces."""
    g = seeded(4)
    scores = {"prototypes": [], "neighbours": [], "yours": []}
    for number in range(40):
        n_way, d = 3, 10
        pieces = 1 if number % 2 else 2
        centres = 1.2 * normal(g, n_way, pieces, d)
        if pieces == 2:
            centres = 2 * normal(g, n_way, pieces, d)
            centres[:, 1] = -centres[:, 0]  # the mean of a class is nowhere

        def drawn(y, k, centres=centres, pieces=pieces, d=d):
            piece = torch.arange(len(y)) // k % pieces
            spread = 2.0 if pieces == 1 else 1.5
            return centres[y, piece] + spread * normal(g, len(y), d)

        y = torch.arange(n_way).repeat(6)
        query_y = torch.arange(n_way).repeat(20)
        x, query_x = drawn(y, n_way), drawn(query_y, n_way)
        means = torch.stack([x[y == n].mean(0) for n in range(n_way)])
        answers = {
            "prototypes": torch.cdist(query_x, means).argmin(1),
            "neighbours": y[torch.cdist(query_x, x).argmin(1)],
        }
        chosen = choose_method(x.clone(), y.clone())
        require(
            isinstance(chosen, str) and chosen in answers,
            f'Return "prototypes" or "neighbours", not {str(chosen)[:40]!r}.',
        )
        answers["yours"] = answers[chosen]
        for name, found in answers.items():
            scores[name].append((found == query_y).float().mean().item())
    mean = {k: 100 * sum(v) / len(v) for k, v in scores.items()}
    best = max(mean["prototypes"], mean["neighbours"])
    require(
        mean["yours"] > best + 3,
        f"Over 40 tasks prototypes are right in {mean['prototypes']:.0f} %, "
        f"the nearest neighbour in {mean['neighbours']:.0f} %, and your "
        f"choice in {mean['yours']:.0f} %. Choosing by task should gain "
        "three points over either.",
    )


EXERCISES = by_key(
    Exercise(
        "10.1",
        "same_probability",
        level=1,
        minutes=5,
        hints=(
            "f[:, None] - g has shape (A, B, D): every f beside every g.",
            "((f[:, None] - g).abs() @ weight + bias).sigmoid()",
        ),
        solution=SAME,
        first=two_by_three,
        told="For f = [[1, 3], [0, 0]], g = [[2, 3], [1, 1], [0, 0.5]], "
        "weight (-2, -1) and bias 1",
        by_hand=lambda: torch.tensor(
            [[-1.0, -1.0, -3.5], [-6.0, -2.0, 0.5]]
        ).sigmoid(),
        draw=pair_problem,
        orders=1,
        mistakes=(
            (
                ".abs()",
                "",
                "Swap the two drawings, and the answer changes: you left out "
                "the bars of |f - g|.",
            ),
            (
                ".sigmoid()",
                "",
                "These are scores. σ makes probabilities of them.",
            ),
            (
                " + bias",
                "",
                "Where is the bias? Without it a drawing is the same as "
                "itself with p = ½ only.",
            ),
            (
                ".abs()",
                ".square()",
                "You squared the differences: take their absolute values.",
            ),
            (
                "@ weight",
                ".sum(-1)",
                "All features count alike: weigh each difference by its "
                "weight.",
            ),
            (
                "(f[:, None] - g).abs() @ weight",
                "((f[:, None] - g) @ weight).abs()",
                "The bars are around the sum: differences of opposite sign "
                "cancel before they are seen.",
            ),
            (
                "f[:, None] - g",
                "g[:, None] - f",
                "The rows should be those of f and the columns those of g: "
                "your table is on its side.",
            ),
            (
                ".sigmoid()",
                ".sigmoid().detach()",
                "Do not detach what is to be trained.",
            ),
        ),
    ),
    Exercise(
        "10.2",
        "mended_labels",
        level=1,
        minutes=5,
        hints=(
            "At step t the network may know y of the step before, not y of "
            "its own. What may it know at the first step?",
            "A row of zeros, then all one-hot rows but the last.",
        ),
        solution=LABELS,
        first=four_labels,
        told="For the labels 2, 0, 1, 1 of 3 classes",
        by_hand=lambda: torch.tensor(
            [[0.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
        ),
        draw=label_problem,
        mistakes=(
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "hot",
                "That is the leak: with the drawing comes its own label, and "
                "copying it is all that training teaches.",
            ),
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "hot.roll(-1, 0)",
                "You shifted the other way: each step is told the label of "
                "the next drawing, and the last that of the first.",
            ),
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "torch.cat([hot[1:], torch.zeros(1, n_way)])",
                "These labels come from the future: step t is told the label "
                "of t + 1.",
            ),
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "hot.roll(1, 0)",
                "Rolled round the end: the first step is told the label of "
                "the last drawing.",
            ),
            (
                "torch.zeros(1, n_way)",
                "torch.eye(n_way)[:1]",
                "Before the first drawing nothing is known; you tell it "
                "class 0.",
            ),
            (
                "torch.zeros(1, n_way)",
                "hot[:1]",
                "The first step is still told its own label.",
            ),
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "torch.zeros_like(hot)",
                "Now nothing is ever told: a network without labels can but "
                "guess.",
            ),
            (
                "torch.cat([torch.zeros(1, n_way), hot[:-1]])",
                "hot[:-1]",
                "There are T steps, so T rows: the first step is told "
                "nothing, which is a row of zeros.",
            ),
            (
                "hot[:-1]]",
                "hot]",
                "A row too many: the label of the last drawing is told to "
                "nobody.",
            ),
        ),
    ),
    Exercise(
        "10.3",
        "rule",
        level=1,
        minutes=5,
        hints=(
            "Two gates: f = σ(keep_score) for the old weight, i = "
            "softplus(rate_score) for its gradient.",
            "keep_score.sigmoid() * theta - F.softplus(rate_score) * slope",
        ),
        solution=RULE,
        first=half_gates,
        told="With θ = (2, -1), a slope of (1, 4) and scores that make f = i "
        "= ½",
        by_hand=lambda: torch.tensor([0.5, -2.5]),
        draw=rule_problem,
        orders=1,
        by=("theta", "keep_score", "rate_score"),
        mistakes=(
            (
                "theta - F",
                "theta + F",
                "This step goes uphill: subtract i ⊙ ∇L.",
            ),
            (
                "keep_score.sigmoid() * ",
                "",
                "Where is f? The old weight is kept in part only.",
            ),
            (
                "F.softplus(rate_score)",
                "rate_score.sigmoid()",
                "A step size may be larger than 1: i is a softplus, not a σ.",
            ),
            (
                "keep_score.sigmoid()",
                "F.softplus(keep_score)",
                "More than all of a weight cannot be kept: f is a σ, not a "
                "softplus.",
            ),
            (
                "keep_score.sigmoid() * theta - F.softplus(rate_score)",
                "rate_score.sigmoid() * theta - F.softplus(keep_score)",
                "You swapped the gates: keep_score is for f, rate_score for "
                "i.",
            ),
            (
                "keep_score.sigmoid() * theta - F.softplus(rate_score)",
                "keep_score * theta - rate_score",
                "The scores are not the gates yet: apply σ and softplus.",
            ),
            (
                "* slope",
                "* slope.sign()",
                "The gradient's size is lost: multiply by the gradient, not "
                "by its sign.",
            ),
            (
                "keep_score.sigmoid() * theta - F.softplus(rate_score) * "
                "slope",
                "keep_score.sigmoid() * (theta - F.softplus(rate_score) * "
                "slope)",
                "f belongs to θ alone: you shrink the step as well.",
            ),
        ),
    ),
    Exercise(
        "10.4",
        "wider_head",
        level=1,
        minutes=5,
        hints=(
            "Every class of a new task should start alike, with what all "
            "rows know together.",
            "weight.mean(0).expand(n_way, -1), and bias.mean() likewise.",
        ),
        solution=WIDER,
        first=three_rows,
        told="For rows (1, 4), (3, 0), (2, 5), biases 1, 2, 6 and 5 ways",
        by_hand=lambda: (
            torch.tensor([2.0, 3.0]).expand(5, 2),
            torch.full((5,), 3.0),
        ),  # fmt: skip
        draw=head_problem,
        orders=1,
        mistakes=(
            (
                "mean",
                "sum",
                "The sum of the rows is N times too long: take their mean.",
            ),
            (
                "    return",
                "    rows = torch.arange(n_way) % len(weight)\n"
                "    return weight[rows], bias[rows]\n"
                "    return",
                "You repeat the old rows: two classes with the same row are "
                "equal, and differ from the others for no reason.",
            ),
            (
                "    return",
                "    wide, more = torch.zeros(n_way, weight.shape[1]), "
                "torch.zeros(n_way)\n"
                "    kept = min(n_way, len(weight))\n"
                "    wide[:kept], more[:kept] = weight[:kept], bias[:kept]\n"
                "    return wide, more\n"
                "    return",
                "New rows of zeros beside old rows: the old classes start "
                "ahead, though labels are dealt anew.",
            ),
            (
                "    return",
                "    return torch.zeros(n_way, weight.shape[1]), "
                "torch.zeros(n_way)\n"
                "    return",
                "A head of zeros sends no gradient into the body at the "
                "first step.",
            ),
            (
                "weight.mean(0)",
                "weight[0]",
                "You copy the first row only: what the other rows know is "
                "lost.",
            ),
            (
                "weight.mean(0).expand(n_way, -1)",
                "weight.mean().expand(n_way, weight.shape[1])",
                "You took the mean over features, too: every row has D "
                "entries of its own.",
            ),
            (", bias.mean().expand(n_way)", "", "should be a pair"),
            (
                "    return",
                "    weight = weight.detach()\n    return",
                "The trained rows are detached: training the head through "
                "the wider one is no longer possible.",
            ),
        ),
    ),
    Exercise(
        "10.5",
        "choose_method",
        level=3,
        minutes=20,
        the_one=True,
        hints=(
            "All that you have is the support set. How could it say which "
            "method would have been right on it?",
            "Leave one example out, answer it from the rest by both methods, "
            "and count who is right; then the next.",
        ),
        example=CHOOSER,
        prove=chooses_well,
        mistakes=(
            (
                "    return",
                '    return "neighbours"\n    return',
                "Choosing by task",
            ),
            ("max(right, key=right.get)", "right", 'Return "prototypes" or'),
        ),
    ),
)

QUIZ = (
    ask(
        "A door should open for one face, from one picture. Nobody will take "
        "others' pictures. Which method is trained for that question?",
        (
            "A Siamese network.",
            "It says of two pictures whether they show the same, and needs "
            "no other class.",
        ),
        (
            "Prototypes.",
            "With one class, the nearest prototype is always that class.",
        ),
        (
            "MAML with a head of one output.",
            "Softmax over one output is 1, whatever the picture.",
        ),
    ),
    ask(
        "The training loss of your memory network falls to 0 within a "
        "minute. What do you check first?",
        (
            "Whether step t is told the label of step t.",
            "At a class's first sight nobody can know its label, so an "
            "honest loss cannot reach 0.",
        ),
        (
            "Whether its state is too large.",
            "A large state does not tell it a label that it has not seen: "
            "the first sight of a class must cost something.",
        ),
        (
            "Whether the learning rate is too small.",
            "Then the loss would not fall.",
        ),
    ),
    ask(
        "Prototypes beat MAML on your characters. What follows?",
        (
            "For tasks like these, take prototypes; it says nothing of "
            "regression or control.",
            "They build on classes that look alike. MAML asks only for a "
            "gradient.",
        ),
        ("MAML is obsolete.", "On waves, prototypes cannot even be asked."),
        (
            "MAML was trained wrongly.",
            "Perhaps, but a cheaper method that is better on its own ground "
            "is nothing strange.",
        ),
    ),
)
