"""Exercises of chapter 09: reinforce a policy."""

import math

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, uniform, whole

LOG_PROB = """
def mended_log_prob(mean, log_std, actions):
    normal = torch.distributions.Normal(mean, log_std.exp())
    return normal.log_prob(actions).sum(-1)
"""
OTHERS = """
def mean_of_others(returns):
    return (returns.sum(0) - returns) / (len(returns) - 1)
"""
BOXES = """
def dice_terms(log_probs, rewards):
    through = log_probs.cumsum(-1)
    return torch.exp(through - through.detach()) * rewards
"""
TWO_WALKS = """
def two_walks(walk):
    corners = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    best = corners[3]
    for corner in corners[:3]:
        if walk(corner.expand(20, 2))[-1] > 0:
            best = corner
            break
    return best.expand(20, 2)
"""


def one_action():
    """-(1² + 2²)/2 - log 2π for a standard normal in the plane."""
    return torch.zeros(2), torch.zeros(2), torch.tensor([[1.0, 2.0]])


def some_actions(g, number):
    """Actions of one to four dimensions, for one walk or many."""
    d = (3, 2, 1, 4, 2, 3)[number - 1]
    shape = ((), (4,), (2, 3))[number % 3]
    mean = normal(g, *shape, d)
    return mean, 0.5 * normal(g, d), normal(g, *shape, d)


def three_walks():
    """Three walks of two steps."""
    return (torch.tensor([[3.0, 1.0], [5.0, 2.0], [10.0, 6.0]]),)


def some_returns(g, number):
    """Two walks and more."""
    n = (2, 4, 5, 3, 7, 2)[number - 1]
    return (5 * normal(g, n, whole(g, 1, 5)),)


def first_boxes():
    """Boxes are worth 1, so the terms are the rewards themselves."""
    return torch.tensor([0.5, 1.0]), torch.tensor([1.0, 3.0])


def some_terms(g, number):
    """Walks of any length, several at once."""
    shape = ((3,), (2, 2), (4,), (3, 2), (2, 1, 3), (1,))[number - 1]
    return 0.4 * normal(g, *shape), normal(g, *shape)


def finds_the_corner(two_walks):
    """A room; one corner, unknown, pays near it, and the others cost."""
    corners = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    for number in range(8):
        g = seeded(number)
        size, pays = uniform(g, 0.6, 1.0), number % 4
        walks = 0

        def pay(actions, size=size, pays=pays):
            steps = to_tensor(actions)
            require(
                steps is not None and steps.shape == (20, 2),
                "A walk is a tensor of 20 actions in the plane, (20, 2).",
            )
            require(bool(steps.isfinite().all()), "An action is not finite.")
            position, paid = torch.zeros(2), []
            for step in steps.detach().float().clamp(-1, 1):
                position = (position + 0.1 * step).clamp(-size, size)
                away = (position - size * corners).norm(dim=-1)
                near = torch.exp(-4 * away**2)
                paid.append(2 * near[pays] - near.sum())
            return torch.stack(paid)

        def walk(actions, pay=pay):
            nonlocal walks
            walks += 1
            return pay(actions)

        final = two_walks(walk)
        best = pay(corners[pays].expand(20, 2)).sum().item()
        found = pay(final).sum().item()
        require(
            walks <= 3,
            f"You explore {walks} times. Three walks are allowed.",
        )
        require(
            found > 0.7 * best,
            f"With corner {pays} paying, your last walk's return is "
            f"{found:.2f}; a straight walk there gets {best:.2f}. Get 0.7 of "
            "it, whichever corner pays.",
        )


EXERCISES = by_key(
    Exercise(
        "9.1",
        "mended_log_prob",
        level=1,
        minutes=5,
        hints=(
            "Two independent dimensions: densities multiply.",
            "The logarithm of a product is a sum: .sum(-1).",
        ),
        solution=LOG_PROB,
        first=one_action,
        told="For the action (1, 2) with mean 0 and deviation 1",
        by_hand=lambda: torch.tensor([-2.5 - math.log(2 * math.pi)]),
        draw=some_actions,
        orders=1,
        by=("mean", "log_std"),
        mistakes=(
            (
                "sum(-1)",
                "mean(-1)",
                "Still the mean over the action's dimensions: a joint "
                "density is a product, so its logarithm is a sum.",
            ),
            (
                "normal.log_prob(actions).sum",
                "2 * normal.log_prob(actions).mean",
                "You double a mean, which is right for two dimensions only. "
                "Take the sum.",
            ),
            (
                "    normal",
                "    normal = None\n"
                "    deviation = (actions - mean) / log_std.exp()\n"
                "    return -(deviation**2 / 2 + log_std).sum(-1)\n"
                "    normal",
                "The constant is missing: subtract log(2π)/2 for each "
                "dimension.",
            ),
            (
                "return ",
                "return -",
                "The sign is turned: densities fall away from the mean.",
            ),
            (
                "sum(-1)",
                "sum(-1).exp()",
                "That is the density; its logarithm is wanted.",
            ),
            (
                "log_std.exp",
                "(log_std / 2).exp",
                "log_std is the logarithm of the standard deviation, not of "
                "the variance.",
            ),
            (
                "log_std.exp()",
                "torch.ones_like(log_std)",
                "You ignore log_std.",
            ),
            (
                "sum(-1)",
                "sum()",
                "Sum over the last axis alone: every action has a density of "
                "its own.",
            ),
        ),
    ),
    Exercise(
        "9.2",
        "mean_of_others",
        level=1,
        minutes=5,
        hints=(
            "The sum of the others is the sum of all, minus one's own.",
            "There is one fewer of the others than of all.",
        ),
        solution=OTHERS,
        first=three_walks,
        told="For the returns [[3, 1], [5, 2], [10, 6]] of three walks",
        by_hand=lambda: torch.tensor([[7.5, 4.0], [6.5, 3.5], [4.0, 1.5]]),
        draw=some_returns,
        mistakes=(
            (
                "(returns.sum(0) - returns) / (len(returns) - 1)",
                "returns.mean(0).expand_as(returns)",
                "Each walk's own return is still in its baseline: leave it "
                "out of the mean.",
            ),
            (
                "(len(returns) - 1)",
                "len(returns)",
                "You leave the walk out of the sum, but still divide by all "
                "of them: divide by one fewer.",
            ),
            (
                "(returns.sum(0) - returns) / (len(returns) - 1)",
                "returns.mean().expand_as(returns)",
                "Average over walks only: each time step has a baseline of "
                "its own.",
            ),
            (
                "(returns.sum(0) - returns) / (len(returns) - 1)",
                "(returns.sum(1, keepdim=True) - returns) / "
                "(returns.shape[1] - 1)",
                "Average over the other walks, the first axis, not the other "
                "time steps.",
            ),
            (
                " / (len(returns) - 1)",
                "",
                "That is the sum of the others: divide by their number.",
            ),
        ),
    ),
    Exercise(
        "9.3",
        "dice_terms",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "A box is exp(x - x.detach()); what is its x here?",
            "All actions so far: x = log_probs.cumsum(-1).",
        ),
        solution=BOXES,
        first=first_boxes,
        told="For log-probabilities (0.5, 1) and rewards (1, 3)",
        by_hand=lambda: torch.tensor([1.0, 3.0]),
        draw=some_terms,
        orders=5,
        by=("log_probs",),
        mistakes=(
            (
                " - through.detach()",
                "",
                "A box is worth 1: subtract the detached log-probability "
                "inside exp.",
            ),
            (
                "torch.exp(through - through.detach())",
                "through",
                "The value of a box is 1: you need exp, and the detached "
                "log-probability subtracted.",
            ),
            (
                "torch.exp(through - through.detach())",
                "log_probs",
                "That is the naive surrogate: there is no box in it.",
            ),
            (
                "cumsum(-1)",
                "cumsum(-1).detach()",
                "The derivative is gone: detach only what you subtract.",
            ),
            (
                ".cumsum(-1)",
                "",
                "Each reward has the box of its own action only. Earlier "
                "actions decided too: take cumulative sums.",
            ),
            (
                "cumsum(-1)",
                "cumsum(0)",
                "You cumulate over the walks. Time is the last axis.",
            ),
            (
                "cumsum(-1)",
                "sum(-1, keepdim=True)",
                "Each reward has the box of all actions, later ones too, "
                "which cannot have caused it.",
            ),
            (
                "log_probs.cumsum(-1)",
                "log_probs.flip(-1).cumsum(-1).flip(-1)",
                "Each reward has the box of the actions from it onwards: "
                "cumulate from the start.",
            ),
            (
                "torch.exp(through - through.detach())",
                "(1 + through - through.detach())",
                "Right once, wrong twice: the second derivative is lost. Use "
                "exp rather than a plain difference.",
            ),
        ),
    ),
    Exercise(
        "9.4",
        "two_walks",
        level=3,
        minutes=20,
        hints=(
            "What do you know of the room before the first walk, and what "
            "after it? Every walk that you explore with may go to one corner.",
            "A corner that costs is not the one. After three such walks only "
            "one is left.",
        ),
        example=TWO_WALKS,
        prove=finds_the_corner,
        mistakes=(
            (
                "    return best.expand(20, 2)",
                "    return corners[0].expand(20, 2)",
                "whichever corner pays",
            ),
            ("corners[:3]", "corners", "Three walks are allowed"),
            (
                "return best.expand(20, 2)",
                "return best",
                "A walk is a tensor of 20",
            ),
        ),
    ),
)

QUIZ = (
    ask(
        "Two surrogates have the same gradient at θ. What follows for MAML?",
        (
            "They give the same adapted policy, but perhaps another "
            "meta-gradient.",
            "The step needs the first derivative; the meta-gradient needs "
            "the derivative of the step.",
        ),
        (
            "They give the same meta-gradient.",
            "The meta-gradient contains the surrogate's second derivative, "
            "and that may differ.",
        ),
        (
            "They are the same function up to a constant.",
            "Only their slopes at this one θ agree.",
        ),
    ),
    ask(
        "Why does joint training in the room with four corners end in the "
        "middle?",
        (
            "A fixed policy is paid in one task and charged in three.",
            "Averaged over the tasks every corner costs, and the middle is "
            "free.",
        ),
        (
            "Its step size is too small to leave.",
            "It starts by walking everywhere and learns to stop.",
        ),
        (
            "The policy's network is too small for four corners.",
            "MAML's has the same size.",
        ),
    ),
    ask(
        "What does the magic box exp(x - x.detach()) do to a surrogate?",
        (
            "Its value is 1, so it changes no number; differentiated, it "
            "brings the gradient of x.",
            "That is how each term remembers which actions led to it.",
        ),
        (
            "It keeps large probabilities from exploding.",
            "It clips nothing: its value is 1 whatever x is.",
        ),
        (
            "It stops the gradient of x.",
            "Only the part that is subtracted is detached; x itself is not.",
        ),
    ),
)
