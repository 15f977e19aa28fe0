"""Exercises of chapter 09: reinforce a policy."""

import math

import torch
from torch.func import grad

from mamlkit.exercises.engine import Exercise, Question, compare


def check_stand_still(stand_still):
    """By hand: the goal (0.3, 0.4) is 0.5 away, for 100 steps."""
    goals = torch.tensor([[0.3, 0.4], [-0.6, 0.8]])
    away = torch.tensor([0.5, 1.0])
    compare(
        stand_still(goals, 100),
        torch.tensor([-50.0, -100.0]),
        "The return towards (0.3, 0.4) and (-0.6, 0.8)",
        [
            (100 * away, "A reward is minus the distance: returns are "
             "negative."),
            (-100 * away**2, "You square the distance, as the paper's text "
             "does; this environment does not."),
            (-away, "That is the reward of one step: a return sums them over "
             "the horizon."),
            (-100 * goals.abs().sum(-1), "The distance is the straight line, "
             "sqrt(x² + y²), not |x| + |y|."),
        ],
    )  # fmt: skip
    compare(
        stand_still(goals, 10),
        torch.tensor([-5.0, -10.0]),
        "The return over 10 steps",
        [(torch.tensor([-50.0, -100.0]), "You ignore the horizon.")],
    )
    at_home = torch.tensor([[0.006, 0.008], [0.02, 0.0], [0.0, -0.009]])
    compare(
        stand_still(at_home, 100),
        torch.tensor([-0.01, -2.0, -0.009]),
        "The return for goals at (0.006, 0.008), (0.02, 0) and (0, -0.009)",
        [
            (torch.tensor([-1.0, -2.0, -0.9]), "The first and last goals' "
             "boxes contain the origin: those walks end after their first "
             "step."),
            (torch.tensor([0.0, -2.0, 0.0]), "A walk that starts inside the "
             "box still takes one step, and is paid for it."),
            (torch.tensor([-1.0, -2.0, -0.009]), "The end is a box, |x| and "
             "|y| both below 0.01, not a disc."),
        ],
    )  # fmt: skip


def check_mended_log_prob(mended_log_prob):
    """By hand: -(1² + 2²)/2 - log 2π for a standard normal in the plane."""
    zeros, actions = torch.zeros(2), torch.tensor([[1.0, 2.0]])
    right = torch.tensor([-2.5 - math.log(2 * math.pi)])
    compare(
        mended_log_prob(zeros, zeros, actions),
        right,
        "The log density of (1, 2) with mean 0 and deviation 1",
        [
            (right / 2, "Still the mean over the action's dimensions: a joint "
             "density is a product, so its logarithm is a sum."),
            (torch.tensor([-2.5]), "The constant is missing: subtract "
             "log(2π)/2 for each dimension."),
            (-right, "The sign is turned: densities fall away from the mean."),
            (right.exp(), "That is the density; its logarithm is wanted."),
        ],
    )  # fmt: skip
    right = torch.tensor([-4.5 - 1.5 * math.log(2 * math.pi)])
    compare(
        mended_log_prob(
            torch.zeros(3), torch.zeros(3), torch.tensor([[1.0, 2.0, 2.0]])
        ),
        right,
        "The log density of (1, 2, 2) with mean 0 and deviation 1",
        [
            (2 / 3 * right, "You double a mean, which is right for two "
             "dimensions only. Take the sum."),
        ],
    )  # fmt: skip
    log_std = torch.tensor([1.0, -0.5])
    mean = torch.tensor([[0.5, 1.0]])

    def by_hand(std):
        normal = torch.distributions.Normal(mean, std)
        return normal.log_prob(actions).sum(-1)

    compare(
        mended_log_prob(mean, log_std, actions),
        by_hand(log_std.exp()),
        "The log density with other means and deviations",
        [
            (by_hand((log_std / 2).exp()), "log_std is the logarithm of the "
             "standard deviation, not of the variance."),
            (by_hand(torch.ones(2)), "You ignore log_std."),
        ],
    )  # fmt: skip


def check_mean_of_others(mean_of_others):
    """By hand, three walks of two steps."""
    returns = torch.tensor([[3.0, 1.0], [5.0, 2.0], [10.0, 6.0]])
    compare(
        mean_of_others(returns),
        torch.tensor([[7.5, 4.0], [6.5, 3.5], [4.0, 1.5]]),
        "The baselines of three walks of two steps",
        [
            (returns.mean(0).expand(3, 2), "Each walk's own return is still "
             "in its baseline: leave it out of the mean."),
            ((returns.sum(0) - returns) / 3, "You leave the walk out of the "
             "sum, but still divide by all three: divide by two."),
            (returns.mean().expand(3, 2), "Average over walks only: each time "
             "step has a baseline of its own."),
            (returns.flip(1), "Average over the other walks, the first axis, "
             "not the other time steps."),
            (returns.sum(0) - returns, "That is the sum of the others: divide "
             "by their number."),
        ],
    )  # fmt: skip


def check_dice_terms(dice_terms):
    """With log π = (θ, 2θ) and r = (1, 3): □(θ) + 3 □(3θ), so 10 and 28."""
    rewards = torch.tensor([1.0, 3.0])

    def total(theta):
        return dice_terms(torch.stack([theta, 2 * theta]), rewards).sum()

    theta = torch.tensor(0.5)
    terms = dice_terms(torch.stack([theta, 2 * theta]), rewards)
    through = torch.tensor([0.5, 1.5])
    compare(
        terms,
        rewards,
        "The terms for rewards (1, 3)",
        [
            (through.exp() * rewards, "A box is worth 1: subtract the "
             "detached log-probability inside exp."),
            (through * rewards, "The value of a box is 1: you need exp, and "
             "the detached log-probability subtracted."),
            (torch.tensor([0.5, 1.0]) * rewards, "That is the naive "
             "surrogate: there is no box in it."),
        ],
    )  # fmt: skip
    compare(
        grad(total)(theta),
        torch.tensor(10.0),
        "The derivative for log π = (θ, 2θ)",
        [
            (torch.tensor(0.0), "The derivative is gone: detach only what you "
             "subtract."),
            (torch.tensor(7.0), "Each reward has the box of its own action "
             "only. Earlier actions decided too: take cumulative sums."),
            (torch.tensor(12.0), "Each reward has the box of all actions, "
             "later ones too, which cannot have caused it."),
            (torch.tensor(9.0), "Each reward has the box of the actions from "
             "it onwards: cumulate from the start."),
        ],
    )  # fmt: skip
    slopes = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    compare(
        grad(lambda t: dice_terms(t * slopes, torch.ones(2, 2)).sum())(theta),
        torch.tensor(14.0),
        "The derivative for two walks, (θ, 2θ) and (3θ, 4θ)",
        [
            (torch.tensor(13.0), "You cumulate over the walks. Time is the "
             "last axis."),
        ],
    )  # fmt: skip
    compare(
        grad(grad(total))(theta),
        torch.tensor(28.0),
        "The second derivative for log π = (θ, 2θ)",
        [
            (torch.tensor(0.0), "Right once, wrong twice: the second "
             "derivative is lost. Use exp rather than a plain difference."),
        ],
    )  # fmt: skip


_STILL = """
def stand_still(goals, horizon):
    inside = (goals.abs() < 0.01).all(-1)
    steps = torch.where(inside, 1, horizon)
    return -steps * goals.norm(dim=-1)
"""
_BOXES = """
def dice_terms(log_probs, rewards):
    through = log_probs.cumsum(-1)
    return torch.exp(through - through.detach()) * rewards
"""
_LOG_PROB = """
def mended_log_prob(mean, log_std, actions):
    normal = torch.distributions.Normal(mean, log_std.exp())
    return normal.log_prob(actions).sum(-1)
"""
_OTHERS = """
def mean_of_others(returns):
    return (returns.sum(0) - returns) / (len(returns) - 1)
"""

EXERCISES = {
    "9.1": Exercise(
        name="stand_still",
        check=check_stand_still,
        hints=(
            "At the origin the distance from the goal is the goal's length.",
            "A goal whose box contains the origin ends the walk after one "
            "step: torch.where((goals.abs() < 0.01).all(-1), 1, horizon).",
        ),
        solution=_STILL,
        mistakes=(
            (_STILL.replace("-steps", "steps"), "returns are negative"),
            (_STILL.replace("dim=-1)", "dim=-1) ** 2"), "You square"),
            (_STILL.replace("-steps * ", "-"), "reward of one step"),
            (_STILL.replace("norm(dim=-1)", "abs().sum(-1)"), "straight line"),
            (_STILL.replace("1, horizon", "1, 100"), "ignore the horizon"),
            (_STILL.replace("inside, 1", "inside, horizon"), "contain the"),
            (_STILL.replace("inside, 1", "inside, 0"), "still takes one"),
            (
                _STILL.replace(
                    "(goals.abs() < 0.01).all(-1)", "goals.norm(dim=-1) < 0.01"
                ),
                "not a disc",
            ),
        ),
    ),
    "9.2": Exercise(
        name="mended_log_prob",
        check=check_mended_log_prob,
        hints=(
            "Two independent dimensions: densities multiply.",
            "The logarithm of a product is a sum: .sum(-1).",
        ),
        solution=_LOG_PROB,
        mistakes=(
            (_LOG_PROB.replace("sum", "mean"), "Still the mean"),
            (
                _LOG_PROB.replace("return ", "return 2 * ").replace(
                    "sum", "mean"
                ),
                "You double a mean",
            ),
            (
                """
def mended_log_prob(mean, log_std, actions):
    deviation = (actions - mean) / log_std.exp()
    return -(deviation**2 / 2 + log_std).sum(-1)
""",
                "constant is missing",
            ),
            (_LOG_PROB.replace("return ", "return -"), "sign is turned"),
            (_LOG_PROB.replace("sum(-1)", "sum(-1).exp()"), "That is the den"),
            (
                _LOG_PROB.replace("log_std.exp", "(log_std / 2).exp"),
                "variance",
            ),
            (_LOG_PROB.replace("log_std.exp()", "1.0"), "You ignore log_std"),
        ),
    ),
    "9.3": Exercise(
        name="mean_of_others",
        check=check_mean_of_others,
        hints=(
            "The sum of the others is the sum of all, minus one's own.",
            "There is one fewer of the others than of all.",
        ),
        solution=_OTHERS,
        mistakes=(
            (
                """
def mean_of_others(returns):
    return returns.mean(0).expand_as(returns)
""",
                "own return is still",
            ),
            (_OTHERS.replace(" - 1)", ")"), "divide by all three"),
            (
                """
def mean_of_others(returns):
    return returns.mean().expand_as(returns)
""",
                "walks only",
            ),
            (
                """
def mean_of_others(returns):
    others = returns.sum(1, keepdim=True) - returns
    return others / (returns.shape[1] - 1)
""",
                "not the other time steps",
            ),
            (
                _OTHERS.replace(" / (len(returns) - 1)", ""),
                "sum of the others",
            ),
        ),
    ),
    "9.4": Exercise(
        name="dice_terms",
        check=check_dice_terms,
        hints=(
            "A box is exp(x - x.detach()); what is its x here?",
            "All actions so far: x = log_probs.cumsum(-1).",
        ),
        solution=_BOXES,
        mistakes=(
            (_BOXES.replace(" - through.detach()", ""), "A box is worth 1"),
            (
                """
def dice_terms(log_probs, rewards):
    return log_probs.cumsum(-1) * rewards
""",
                "you need exp",
            ),
            (
                """
def dice_terms(log_probs, rewards):
    return log_probs * rewards
""",
                "naive surrogate",
            ),
            (_BOXES.replace("cumsum(-1)", "cumsum(-1).detach()"), "is gone"),
            (_BOXES.replace(".cumsum(-1)", ""), "own action only"),
            (_BOXES.replace("cumsum(-1)", "cumsum(0)"), "over the walks"),
            (
                _BOXES.replace("cumsum(-1)", "sum(-1, keepdim=True)"),
                "later ones too",
            ),
            (
                _BOXES.replace(
                    "log_probs.cumsum(-1)",
                    "log_probs.flip(-1).cumsum(-1).flip(-1)",
                ),
                "from it onwards",
            ),
            (
                """
def dice_terms(log_probs, rewards):
    through = log_probs.cumsum(-1)
    return (1 + through - through.detach()) * rewards
""",
                "Right once, wrong twice",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "Two surrogates have the same gradient at θ. What follows for MAML?",
        (
            (
                "They give the same adapted policy, but perhaps another "
                "meta-gradient.",
                "The step needs the first derivative; the meta-gradient needs "
                "the derivative of the step.",
            ),
            (
                "They give the same meta-gradient.",
                "The meta-gradient contains the surrogate's second "
                "derivative, and that may differ.",
            ),
            (
                "They are the same function up to a constant.",
                "Only their slopes at this one θ agree.",
            ),
        ),
        right=0,
    ),
    Question(
        "Why does joint training in the room with four corners end in the "
        "middle?",
        (
            (
                "Its step size is too small to leave.",
                "It starts by walking everywhere and learns to stop.",
            ),
            (
                "A fixed policy is paid in one task and charged in three.",
                "Averaged over the tasks every corner costs, and the middle "
                "is free.",
            ),
            (
                "The policy's network is too small for four corners.",
                "MAML's has the same size.",
            ),
        ),
        right=1,
    ),
    Question(
        "A colleague reports that MAML beats pretraining after one step, "
        "both with α = 0.5. What do you ask first?",
        (
            (
                "How many hidden units were there?",
                "Both had the same, presumably; it favours neither.",
            ),
            (
                "Was the discount the same at test time?",
                "The return that is reported has no discount.",
            ),
            (
                "Which α is best for pretraining?",
                "MAML was trained for its α. A rival deserves its own.",
            ),
        ),
        right=2,
    ),
)
