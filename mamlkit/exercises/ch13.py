"""Exercises of chapter 13: guard the door."""

import torch

from mamlkit.exercises.compare import require, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, whole

RATES = """
def door_rates(members, strangers, tau):
    let_in = (strangers >= tau).float().mean()
    refused = (members < tau).float().mean()
    return let_in, refused
"""
TARGETS = """
def doubtful_targets(y, n_way):
    known = F.one_hot(y.clamp(max=n_way - 1), n_way).float()
    doubt = torch.full_like(known, 1 / n_way)
    return torch.where((y < n_way).unsqueeze(-1), known, doubt)
"""
HONEST = """
def honest_door(
    val_members, val_strangers, test_members, test_strangers, most
):
    tau = val_strangers.quantile(1 - most)
    let_in = (test_strangers >= tau).float().mean()
    refused = (test_members < tau).float().mean()
    return let_in, refused
"""
LOOKS = """
def several_looks(probabilities):
    return probabilities.log().mean(1).softmax(-1).amax(-1)
"""


def five_members():
    """One member of five is below 0.6, and of six strangers two are not."""
    members = torch.tensor([0.9, 0.8, 0.6, 0.5, 0.95])
    strangers = torch.tensor([0.7, 0.6, 0.3, 0.2, 0.1, 0.05])
    return members, strangers, 0.6


def some_visits(g, number):
    """Unequal numbers of visits, some of them just at the threshold."""
    # Sixteenths, so that a visit at the threshold is exactly there.
    members, strangers = (
        torch.randint(0, 17, (whole(g, 2, 9),), generator=g) / 16
        for _ in range(2)
    )
    tau = whole(g, 3, 14) / 16
    members[-1] = strangers[0] = tau
    return members, strangers, tau


def two_households():
    """Three ways, strangers numbered 3 to 7."""
    return torch.tensor([[0, 2, 4, 1], [3, 1, 7, 2]]), 3


def some_labels(g, number):
    """Labels of any shape, and more strangers than members."""
    n_way = 2 + number % 4
    shape = ((3,), (), (2, 2), (5,), (1, 4), (2, 1, 3))[number - 1]
    # Sometimes nobody comes but the first member.
    highest = 1 if number == 4 else 3 * n_way
    return torch.randint(0, highest, shape, generator=g), n_way


def floating(targets, y, n_way):
    """Targets, which must be floating point, n_way of them."""
    if isinstance(targets, torch.Tensor):
        require(
            targets.shape[-1:] == (n_way,),
            "there is an output for each stranger. A network of n_way "
            "outputs has none: the last axis is n_way long.",
        )
        require(
            targets.is_floating_point(),
            f"distributions are float32, these are {targets.dtype}.",
        )
    return targets


def first_door():
    """A quarter of the eight validation strangers may come in.

    Two of them are above the threshold, 0.625. Of ten test strangers six are
    too, and of eight test members three are not.
    """
    return (
        torch.tensor([0.35, 0.45, 0.55, 0.75, 0.93, 0.94, 0.95, 0.96, 0.97]),
        torch.tensor([0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8]),
        torch.tensor([0.25, 0.4, 0.45, 0.7, 0.8, 0.9, 0.95, 0.97]),
        torch.tensor(
            [0.31, 0.43, 0.58, 0.59, 0.8, 0.81, 0.89, 0.91, 0.95, 0.96]
        ),
        0.25,
    )


def some_door(g, number):
    """Any numbers of visits; whatever a quantile is, the rates are the same.

    Between two neighbouring confidences of strangers lies the threshold, and
    no test visit lies there; or several are equal, and so is the threshold.
    """
    if number == 6:
        low, tau, high = 0.25, 0.5, 0.75
        val_strangers = torch.tensor([tau, low, tau, high, tau, tau, low, 1])
        test = (
            torch.tensor([tau, high, low, 1.0, tau]),
            torch.tensor([low, tau, tau, 0.0, high, low]),
        )
        return torch.tensor([high, tau, 1.0]), val_strangers, *test, 0.5
    n, k = (8, 10, 5, 20, 12)[number - 1], (4, 3, 2, 1, 9)[number - 1]
    val_strangers = torch.rand(n, generator=g).sort().values
    low, high = val_strangers[n - k - 1], val_strangers[n - k]

    def outside(size, power):
        found = torch.rand(200, generator=g) ** power
        return found[(found < low - 1e-3) | (found > high + 1e-3)][:size]

    order = torch.randperm(n, generator=g)
    val_members = torch.rand(whole(g, 3, 9), generator=g) ** 0.5
    test = outside(whole(g, 4, 9), 0.5), outside(whole(g, 4, 9), 0.8)
    return val_members, val_strangers[order], *test, k / n


def looks_again(several_looks):
    """Visits of members and strangers, three looks at each, five names."""
    g, first, own, mean = seeded(3), [], [], []
    for _ in range(20):
        n, looks, n_way = 150, 3, 5
        blur = 1.5 * normal(g, 2 * n, looks, n_way)
        who = torch.randint(n_way, (n,), generator=g)
        logits = blur
        logits[:n] += 2.5 * torch.eye(n_way)[who][:, None]
        logits[n:] += 0.7 * normal(g, n, 1, n_way)
        probabilities = logits.softmax(-1)
        said = to_tensor(several_looks(probabilities.clone()))
        require(
            said is not None and said.shape == (2 * n,),
            f"For probabilities of shape ({2 * n}, {looks}, {n_way}) return "
            f"one number a visit, ({2 * n},).",
        )
        require(bool(said.isfinite().all()), "A confidence is not finite.")
        for found, score in (
            (own, said),
            (first, probabilities[:, 0].amax(-1)),
            (mean, probabilities.amax(-1).mean(1)),
        ):
            tau = score[n:].double().quantile(0.9)
            found.append((score[:n] < tau).float().mean().item())
    refused, one, all_ = (
        100 * sum(found) / len(found) for found in (own, first, mean)
    )
    require(
        refused < all_ - 10,
        f"With one stranger in ten let in, your door refuses {refused:.0f} % "
        f"of the members. One look refuses {one:.0f} %, the mean of three "
        f"largest probabilities {all_:.0f} %. Refuse ten points fewer than "
        "that: do the looks agree on a name?",
    )


EXERCISES = by_key(
    Exercise(
        "13.1",
        "door_rates",
        level=1,
        minutes=5,
        hints=(
            "A comparison of a tensor with tau gives True and False; as "
            "floats their mean is a share.",
            "Strangers at tau or above come in; members below it do not.",
        ),
        solution=RATES,
        first=five_members,
        told="For members 0.9, 0.8, 0.6, 0.5, 0.95, strangers 0.7, 0.6, 0.3, "
        "0.2, 0.1, 0.05 and tau = 0.6",
        by_hand=lambda: (1 / 3, 0.2),
        draw=some_visits,
        mistakes=(
            (
                "return let_in, refused",
                "return refused, let_in",
                "These two are the other way round: strangers let in come "
                "first.",
            ),
            (
                "(strangers >= tau).float().mean()",
                "(strangers >= tau).float().sum()",
                "This is a number of visits. Divide by how many strangers "
                "came.",
            ),
            (
                "strangers >= tau",
                "strangers > tau",
                "At a confidence of exactly tau the door opens: >= and <.",
            ),
            (
                "(strangers >= tau)",
                "(members >= tau)",
                "This is the share of members let in. Strangers are asked "
                "for.",
            ),
            (
                "(strangers >= tau).float().mean()",
                "(strangers >= tau).sum() / (len(members) + len(strangers))",
                "You divide by all visitors. Divide by the strangers alone: "
                "the rate must not depend on how many members come.",
            ),
            (
                "(strangers >= tau)",
                "(strangers < tau)",
                "This is the share of strangers kept out.",
            ),
            (
                "tau).float",
                "0.6).float",
                "The threshold is fixed in your code.",
            ),
            (
                "(strangers >= tau).float().mean()",
                "100 * (strangers >= tau).float().mean()",
                "This is in percent. A share lies in [0, 1].",
            ),
            (
                "members < tau",
                "members <= tau",
                "Somebody at a confidence of exactly tau is refused here and "
                "let in there. The door opens at tau.",
            ),
            (
                "members < tau",
                "members >= tau",
                "This is the share of members who get in. Count those who do "
                "not.",
            ),
            (
                "members < tau",
                "strangers < tau",
                "This is the share of strangers refused, which is right to "
                "do. Members are asked for.",
            ),
            (
                "(members < tau).float().mean()",
                "(members < tau).sum() / (len(members) + len(strangers))",
                "You divide the refused by all visitors. Divide by the "
                "members alone.",
            ),
            (
                "return let_in, refused",
                "return let_in",
                "should be a pair",
            ),
        ),
    ),
    Exercise(
        "13.2",
        "doubtful_targets",
        level=2,
        minutes=10,
        hints=(
            "F.one_hot wants labels below n_way: clamp the strangers' first, "
            "and replace their rows afterwards.",
            "Or look rows up: torch.eye(n_way) with rows of 1 / n_way below "
            "it, as many as y.max() needs, indexed by y.",
        ),
        solution=TARGETS,
        first=two_households,
        told="For y = [[0, 2, 4, 1], [3, 1, 7, 2]] and 3 ways",
        by_hand=lambda: torch.cat([torch.eye(3), torch.full((5, 3), 1 / 3)])[
            two_households()[0]
        ],
        draw=some_labels,
        look=floating,
        mistakes=(
            (
                "1 / n_way)",
                "0.0)",
                "A stranger's row is all 0. The loss is 0 then, whatever the "
                "network says: nothing is asked of it.",
            ),
            (
                "1 / n_way)",
                "1.0)",
                "A stranger's row is all 1, which does not sum to 1. Divide "
                "by n_way.",
            ),
            (
                ", known, doubt)",
                ", doubt, doubt)",
                "Everybody is doubted, members too. Their rows are one-hot.",
            ),
            (
                ", known, doubt)",
                ", 0.9 * known + 0.1 / n_way, doubt)",
                "The members' rows are softened as well. Only strangers are "
                "in doubt.",
            ),
            (
                ", known, doubt)",
                ", known, known)",
                "Every stranger is called the last member.",
            ),
            (
                "    return",
                "    return F.one_hot(y % n_way, n_way).float()\n    return",
                "A stranger is called a member, one or another. Ask for all "
                "names alike.",
            ),
            (
                "1 / n_way)",
                "1 / (2 * n_way))",
                "A stranger's row sums to a half: the share is 1 / n_way, "
                "not 1 over all labels.",
            ),
            (
                "1 / n_way)",
                "1 / 3)",
                "The share of a stranger is fixed in your code. It is 1 / "
                "n_way.",
            ),
            (
                "    known",
                "    return F.one_hot(y).float()\n    known",
                "an output for each stranger",
            ),
            (
                "    known",
                "    return F.one_hot(y.clamp(max=n_way - 1), n_way)\n"
                "    known",
                "istributions are float32",
            ),
            (
                "    known",
                "    return torch.cat([torch.eye(n_way), torch.full((n_way,) "
                "* 2, 1 / n_way)])[y]\n"
                "    known",
                "A stranger's number was too much for your table. There may "
                "be more strangers than members.",
            ),
            (
                "    known",
                "    y[y >= n_way] = 0\n    known",
                "You changed y itself",
            ),
        ),
    ),
    Exercise(
        "13.3",
        "honest_door",
        level=2,
        minutes=10,
        the_one=True,
        hints=(
            "Ask of every number: whose is it? Two of the four are for "
            "choosing, two for reporting.",
            "Choose tau on val_strangers; both rates are of test visits.",
        ),
        solution=HONEST,
        first=first_door,
        told="With most = 0.25 and two of eight validation strangers above "
        "0.6",
        by_hand=lambda: (0.6, 3 / 8),
        draw=some_door,
        mistakes=(
            (
                "tau = val_strangers",
                "tau = test_strangers",
                "The threshold is chosen on the test strangers, so the share "
                "comes out as ordered. Choose it on validation.",
            ),
            (
                "test_members < tau",
                "val_members < tau",
                "The refused are validation members still. Report test "
                "members.",
            ),
            (
                "val_strangers.quantile",
                "torch.cat([val_strangers, test_strangers]).quantile",
                "Validation and test strangers choose together here. Test "
                "people choose nothing.",
            ),
            (
                "val_strangers.quantile(1 - most)",
                "val_members.quantile(most)",
                "Your threshold is a quantile of the members' confidences. "
                "What may get in is a share of strangers.",
            ),
            (
                "val_strangers.quantile",
                "torch.cat([val_strangers, val_members]).quantile",
                "Your threshold is a quantile of all visits. What may get in "
                "is a share of the strangers'.",
            ),
            (
                "val_strangers.quantile(1 - most)",
                "0.65",
                "The threshold is fixed in your code.",
            ),
            (
                "return let_in, refused",
                "return refused, let_in",
                "These two are the other way round: strangers let in come "
                "first.",
            ),
            (
                "quantile(1 - most)",
                "quantile(most)",
                "This threshold lets in 1 - most. The share `most` lies "
                "above the quantile 1 - most.",
            ),
            (
                "test_strangers >= tau",
                "val_strangers >= tau",
                "This is the share of validation strangers, as good as "
                "ordered. Report test strangers.",
            ),
            (
                "test_strangers >= tau",
                "test_strangers < tau",
                "This is the share of strangers kept out.",
            ),
            (
                "test_members < tau",
                "test_members >= tau",
                "This is the share of members who get in.",
            ),
        ),
    ),
    Exercise(
        "13.4",
        "several_looks",
        level=3,
        minutes=20,
        hints=(
            "Three looks at a member are sure of the same name, three at a "
            "stranger of three different ones. What shows that?",
            "Add the evidence for each name over the looks first (logarithms "
            "of probabilities), then ask how sure the best name is.",
        ),
        example=LOOKS,
        prove=looks_again,
        mistakes=(
            (
                ".log().mean(1).softmax(-1).amax(-1)",
                ".amax(-1).mean(1)",
                "do the looks agree on a name",
            ),
            (".softmax(-1).amax(-1)", "", "one number a visit"),
        ),
    ),
)

QUIZ = (
    ask(
        "Your door scores 92 % in the test program, which feeds it ten "
        "visitors at once, and 20 % in the hall. What do you look at first?",
        (
            "What batch normalisation normalises by.",
            "One visitor alone is normalised by itself. Put it beside the "
            "pictures on file, in the test as well.",
        ),
        (
            "The camera.",
            "Perhaps. But the difference you know of is one visitor against "
            "ten.",
        ),
        ("The number of inner steps.", "They are the same in both places."),
    ),
    ask(
        "Why can the inner loop not learn to doubt strangers?",
        (
            "The support set has no strangers in it.",
            "The outer loss has: it is asked of θ′ after adapting, and moves "
            "θ.",
        ),
        (
            "One step is too short.",
            "Any number of steps sees the members' pictures only.",
        ),
        (
            "Softmax has no output for them.",
            "Nor does it after training with doubt. Equal probabilities say "
            "it as well.",
        ),
    ),
    ask(
        "You keep the old threshold after an update of θ. What happens?",
        (
            "The share of strangers let in is unknown.",
            "Choose the threshold anew, on validation people, with the steps "
            "and the company of the door.",
        ),
        (
            "Nothing: it is a probability.",
            "A confidence of 0.6 is whatever this network makes of it.",
        ),
        (
            "The door refuses everybody.",
            "It may, or it may open to everybody. Nobody knows before "
            "measuring.",
        ),
    ),
)
