"""Exercises of chapter 15: run with a body."""

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, uniform, whole

STAND_STILL = """
def stand_still(goals, horizon):
    inside = (goals.abs() < 0.01).all(-1)
    steps = torch.where(inside, 1, horizon)
    return -steps * goals.norm(dim=-1)
"""
TRUST_STEP = """
def trust_step(slope, bowl, max_kl):
    direction = torch.linalg.solve(bowl, slope)
    length = (2 * max_kl / (slope @ direction)).sqrt()
    return -length * direction
"""
FIND_AND_WALK = """
def find_and_walk(walk):
    look = torch.zeros(20, 2)
    look[0, 0], look[1, 1], look[2, 0] = 1, 1, -1
    first, second, third = walk(look)[:3] ** 2
    x = (third - second + 0.01) / 0.2
    y = (first - second + 0.01) / 0.2
    goal = torch.stack([x, y])
    steps = (goal.abs().max() / 0.1).ceil().clamp(min=1).int()
    moves = torch.zeros(20, 2)
    moves[:steps] = goal / 0.1 / steps
    return moves
"""


def two_goals():
    """The goal (0.3, 0.4) is 0.5 away, for 100 steps."""
    return torch.tensor([[0.3, 0.4], [-0.6, 0.8]]), 100


def some_goals(g, number):
    """Goals anywhere, some of whose boxes contain the origin."""
    near = torch.tensor(
        [[0.006, 0.008], [0.012, 0.0], [0.0, -0.009], [-0.009, 0.015]]
    )
    far = torch.rand(2 + number, 2, generator=g) - 0.5
    return torch.cat([near, far][:: (-1) ** number]), whole(g, 2, 60)


def a_small_bowl():
    """Direction (1, 2), slope times direction 8: a step of a tenth of it."""
    return torch.tensor([4.0, 2.0]), torch.diag(torch.tensor([4.0, 1])), 0.04


def some_bowls(g, number):
    """Slopes and bowls of one to five dimensions."""
    n = (2, 3, 1, 4, 5, 2)[number - 1]
    root = normal(g, n, n)
    bowl = root @ root.T + 0.5 * torch.eye(n)
    return normal(g, n), bowl, uniform(g, 0.005, 0.05)


def finds_the_goal(find_and_walk):
    """Goals anywhere; one walk to look, and one that counts."""
    for number in range(12):
        g = seeded(number)
        goal, walks = torch.rand(2, generator=g) - 0.5, 0

        def pay(actions, goal=goal):
            moves = to_tensor(actions)
            require(
                moves is not None and moves.shape == (20, 2),
                "A walk is a tensor of 20 actions in the plane, (20, 2).",
            )
            require(bool(moves.isfinite().all()), "An action is not finite.")
            moves = moves.detach().float().clamp(-1, 1)
            return -(0.1 * moves.cumsum(0) - goal).norm(dim=-1)

        def walk(actions, pay=pay):
            nonlocal walks
            walks += 1
            return pay(actions)

        final = find_and_walk(walk)
        steps = (goal.abs().max() / 0.1).ceil().clamp(min=1)
        straight = torch.zeros(20, 2)
        straight[: int(steps)] = goal / 0.1 / steps
        best, found = pay(straight).sum().item(), pay(final).sum().item()
        require(
            walks <= 1,
            f"You look around {walks} times. One walk is allowed.",
        )
        require(
            found > best - 0.3,
            f"With the goal {[round(x, 2) for x in goal.tolist()]}, your "
            f"walk's return is {found:.2f}; a straight one gets {best:.2f}. "
            "Come within 0.3 of it, wherever the goal is.",
        )


EXERCISES = by_key(
    Exercise(
        "15.1",
        "stand_still",
        level=1,
        minutes=10,
        hints=(
            "At the origin the distance from the goal is the goal's length.",
            "A goal whose box contains the origin ends the walk after one "
            "step: torch.where((goals.abs() < 0.01).all(-1), 1, horizon).",
        ),
        solution=STAND_STILL,
        first=two_goals,
        told="Towards (0.3, 0.4) and (-0.6, 0.8), over 100 steps",
        by_hand=lambda: torch.tensor([-50.0, -100.0]),
        draw=some_goals,
        mistakes=(
            (
                "-steps",
                "steps",
                "A reward is minus the distance: returns are negative.",
            ),
            (
                "dim=-1)",
                "dim=-1) ** 2",
                "You square the distance, as the paper's text does; this "
                "environment does not.",
            ),
            (
                "-steps * ",
                "-",
                "That is the reward of one step: a return sums them over the "
                "horizon.",
            ),
            (
                "norm(dim=-1)",
                "abs().sum(-1)",
                "The distance is the straight line, sqrt(x² + y²), not |x| + "
                "|y|.",
            ),
            ("1, horizon", "1, 100", "You ignore the horizon."),
            (
                "inside, 1",
                "inside, horizon",
                "Where a goal's box contains the origin, the walk ends after "
                "its first step.",
            ),
            (
                "inside, 1",
                "inside, 0",
                "A walk that starts inside the box still takes one step, and "
                "is paid for it.",
            ),
            (
                "(goals.abs() < 0.01).all(-1)",
                "goals.norm(dim=-1) < 0.01",
                "The end is a box, |x| and |y| both below 0.01, not a disc.",
            ),
            (
                "all(-1)",
                "any(-1)",
                "A goal's box contains the origin only if |x| and |y| are "
                "both below 0.01.",
            ),
        ),
    ),
    Exercise(
        "15.2",
        "trust_step",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "First the direction x with bowl @ x = slope, then its length.",
            "For the step -s x the KL is s² (x @ bowl @ x) / 2, and bowl @ x "
            "is the slope. Which s makes it max_kl?",
        ),
        solution=TRUST_STEP,
        first=a_small_bowl,
        told="For the slope (4, 2), the bowl diag(4, 1) and a KL of 0.04",
        by_hand=lambda: torch.tensor([-0.1, -0.2]),
        draw=some_bowls,
        mistakes=(
            (
                "-length",
                "length",
                "You climb: the slope is that of a loss, so go against it.",
            ),
            (
                "torch.linalg.solve(bowl, slope)",
                "slope",
                "That is the plain gradient's direction. Solve "
                "bowl @ x = slope for it.",
            ),
            (
                "torch.linalg.solve(bowl, slope)",
                "bowl @ slope",
                "You multiply by the bowl where its inverse is wanted: use "
                "torch.linalg.solve(bowl, slope).",
            ),
            (
                ".sqrt()",
                "",
                "The root is missing: the KL grows with the square of the "
                "length.",
            ),
            (
                "2 * max_kl",
                "max_kl",
                "The bowl is half of vᵀHv: its half is missing in the length.",
            ),
            (
                "slope @ direction",
                "direction @ direction",
                "You measure the direction by its own length. The KL "
                "measures it by the bowl, direction @ bowl @ direction.",
            ),
            (
                "-length * direction",
                "-direction",
                "The direction is right, and its length is not yet chosen.",
            ),
        ),
    ),
    Exercise(
        "15.3",
        "find_and_walk",
        level=3,
        minutes=20,
        hints=(
            "A reward is minus a distance, and you know where you stood. How "
            "many distances tell where a point lies?",
            "Subtract the squares of two distances, from places that differ "
            "in one coordinate only: the square of the unknown drops out.",
        ),
        example=FIND_AND_WALK,
        prove=finds_the_goal,
        mistakes=(
            (
                "    moves[:steps] = goal / 0.1 / steps\n",
                "",
                "Come within 0.3 of it",
            ),
            (
                "    first, second",
                "    walk(look)\n    first, second",
                "One walk is allowed",
            ),
            ("return moves", "return moves[:5]", "A walk is a tensor of 20"),
        ),
    ),
)

QUIZ = (
    ask(
        "A colleague reports that MAML beats pretraining after one step, "
        "both with α = 0.5. What do you ask first?",
        (
            "Which α is best for pretraining?",
            "MAML was trained for its α. A rival deserves its own.",
        ),
        (
            "How many hidden units were there?",
            "Both had the same, presumably; it favours neither.",
        ),
        (
            "Was the discount the same at test time?",
            "The return that is reported has no discount.",
        ),
    ),
    ask(
        "Why does TRPO limit the KL of the policies, and not the length of "
        "the step in θ?",
        (
            "The same change of θ can change the actions a little or a lot.",
            "The walks tell about policies that act alike, whatever their "
            "parameters are.",
        ),
        (
            "The KL is cheaper to compute.",
            "A length is cheaper: the KL needs the policy in all states.",
        ),
        (
            "It makes every step lower the loss.",
            "That is what going back by 0.8 is for.",
        ),
    ),
    ask(
        "Between the second and the third step the return rises from -3.3 "
        "to -2.3. What may have happened?",
        (
            "Walks reach the goal's box sooner and end, so that fewer "
            "negative rewards add up.",
            "A return is a sum, and a shorter walk has fewer terms.",
        ),
        (
            "The walkers stand still nearer to the goal, and nothing else.",
            "They may, but a walk that ends also stops being charged.",
        ),
        (
            "The oracle was beaten.",
            "Its return is -0.5 here, and nobody comes near it.",
        ),
    ),
)
