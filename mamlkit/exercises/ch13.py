"""Exercises of chapter 13: guard the door."""

import torch

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)


def _two(found: object, what: str) -> list:
    require(
        isinstance(found, tuple | list) and len(found) == 2,
        f"Return two numbers, {what}.",
    )
    values = [as_scalar(value) for value in found]
    return [v.float() if isinstance(v, torch.Tensor) else v for v in values]


def check_door_rates(door_rates):
    """Five members and six strangers, one of each just at the threshold."""
    members = torch.tensor([0.9, 0.8, 0.6, 0.5, 0.95])
    strangers = torch.tensor([0.7, 0.6, 0.3, 0.2, 0.1, 0.05])
    found = door_rates(members, strangers, 0.6)
    let_in, refused = _two(found, "(let_in, refused)")
    counts = torch.tensor(2.0), torch.tensor(1.0)
    at_tau = "At a confidence of exactly tau the door opens: >= and <."
    if all(isinstance(value, torch.Tensor) for value in (let_in, refused)):
        require(
            (round(let_in.item(), 3), round(refused.item(), 3))
            != (0.2, 0.333),
            "These two are the other way round: strangers let in come first.",
        )
    compare(
        let_in,
        torch.tensor(1 / 3),
        "The share of strangers let in",
        [
            (counts[0], "This is a number of visits. Divide by how many "
             "strangers came."),
            (torch.tensor(1 / 6), at_tau),
            (torch.tensor(2 / 3), "This is the share of strangers kept "
             "out."),
            (torch.tensor(0.8), "This is the share of members let in. "
             "Strangers are asked for."),
            (torch.tensor(2 / 11), "You divide by all visitors. Divide by the "
             "strangers alone: the rate must not depend on how many members "
             "come."),
            (torch.tensor(100 / 3), "This is in percent. A share lies in [0, "
             "1]."),
        ],
    )  # fmt: skip
    compare(
        refused,
        torch.tensor(0.2),
        "The share of members refused",
        [
            (torch.tensor(0.4), "Somebody at a confidence of exactly tau is "
             "refused here and let in there. The door opens at tau."),
            (torch.tensor(0.8), "This is the share of members who get in. "
             "Count those who do not."),
            (torch.tensor(2 / 3), "This is the share of strangers refused, "
             "which is right to do. Members are asked for."),
            (torch.tensor(1 / 11), "You divide the refused by all visitors. "
             "Divide by the members alone."),
        ],
    )  # fmt: skip
    wide_open = _two(door_rates(members, strangers, 0.25), "(let_in, refused)")
    compare(
        torch.stack(wide_open),
        torch.tensor([0.5, 0.0]),
        "With tau = 0.25, (let_in, refused)",
        [(torch.tensor([1 / 3, 0.2]), "The threshold is fixed in your code.")],
    )


def check_doubtful_targets(doubtful_targets):
    """Three ways; y of two households with strangers numbered 3 to 7."""
    y = torch.tensor([[0, 2, 4, 1], [3, 1, 7, 2]])
    before = y.clone()
    try:
        found = doubtful_targets(y, 3)
    except IndexError:
        require(False, "A y of 7 was too much for your code. There may be "
                "more strangers than members.")  # fmt: skip
    require(torch.equal(y, before), "You changed y itself. Make new targets.")
    third = 1 / 3
    eye = torch.eye(3)

    def table(strangers, members=eye):
        return torch.cat([members, strangers.expand(5, 3)])[y]

    right = table(torch.tensor(third))
    hard, ones = table(torch.tensor(0.0)), table(torch.tensor(1.0))
    soft = table(torch.tensor(third), 0.9 * eye + 0.1 / 3)
    last, six = table(eye[2]), table(torch.tensor(1 / 6))
    wrapped = eye[y % 3]
    if isinstance(found, torch.Tensor):
        require(
            found.shape[-1:] == (3,),
            "There is an output for each stranger. A network of n_way "
            "outputs has none: the last axis is n_way long.",
        )
        require(
            found.dtype == torch.float32,
            f"Distributions are float32, these are {found.dtype}.",
        )
    compare(
        found,
        right,
        "The targets",
        [
            (hard, "A stranger's row is all 0. The loss is 0 then, whatever "
             "the network says: nothing is asked of it."),
            (ones, "A stranger's row is all 1, which does not sum to 1. "
             "Divide by n_way."),
            (torch.full_like(right, third), "Everybody is doubted, members "
             "too. Their rows are one-hot."),
            (soft, "The members' rows are softened as well. Only "
             "strangers are in doubt."),
            (last, "Every stranger is called the last member."),
            (wrapped, "A stranger is called a member, one or another. Ask "
             "for all names alike."),
            (six, "A stranger's row sums to a half: the share is 1 / n_way, "
             "not 1 over all labels."),
        ],
    )  # fmt: skip
    single = doubtful_targets(torch.tensor([1, 2]), 2)
    compare(
        single,
        torch.tensor([[0.0, 1.0], [0.5, 0.5]]),
        "The targets of y = [1, 2] for 2 ways",
        [
            (torch.tensor([[0.0, 1.0], [third, third]]), "The share of a "
             "stranger is fixed in your code. It is 1 / n_way."),
        ],
    )  # fmt: skip


def check_honest_door(honest_door):
    """Eight to ten visits of each kind; a quarter, then half may come in."""
    val_m = torch.tensor(
        [0.35, 0.45, 0.55, 0.75, 0.93, 0.94, 0.95, 0.96, 0.97]
    )
    val_s = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8])
    test_m = torch.tensor([0.25, 0.4, 0.45, 0.7, 0.8, 0.9, 0.95, 0.97])
    test_s = torch.tensor(
        [0.31, 0.43, 0.58, 0.59, 0.8, 0.81, 0.89, 0.91, 0.95, 0.96]
    )

    def rate(strangers, members, tau):
        let_in = (strangers >= tau).float().mean()
        return let_in, (members < tau).float().mean()

    found = honest_door(val_m, val_s, test_m, test_s, 0.25)
    let_in, refused = _two(found, "(let_in, refused)")
    tau = val_s.quantile(0.75)
    right = rate(test_s, test_m, tau)
    wrong = {
        "test": test_s.quantile(0.75),
        "low": val_s.quantile(0.25),
        "members": val_m.quantile(0.25),
        "all": torch.cat([val_s, val_m]).quantile(0.75),
        "pooled": torch.cat([val_s, test_s]).quantile(0.75),
    }
    rates = {name: rate(test_s, test_m, cut)[0] for name, cut in wrong.items()}
    compare(
        let_in,
        right[0],
        "The share of test strangers let in",
        [
            (rates["test"], "The threshold is chosen on the test "
             "strangers, so the share comes out as ordered. Choose it on "
             "validation."),
            (rates["pooled"], "Validation and test strangers choose "
             "together here. Test people choose nothing."),
            (rates["members"], "Your threshold is a quantile of the "
             "members' confidences. What may get in is a share of "
             "strangers."),
            (rates["all"], "Your threshold is a quantile of all visits. "
             "What may get in is a share of the strangers'."),
            (rates["low"], "This threshold lets in 1 - most. The share "
             "`most` lies above the quantile 1 - most."),
            (rate(val_s, val_m, tau)[0], "This is the share of validation "
             "strangers, as good as ordered. Report test strangers."),
            (1 - right[0], "This is the share of strangers kept out."),
            (right[1], "These two are the other way round: strangers let in "
             "come first."),
        ],
    )  # fmt: skip
    compare(
        refused,
        right[1],
        "The share of test members refused",
        [
            (rate(val_s, val_m, tau)[1], "The refused are validation members "
             "still. Report test members."),
            (1 - right[1], "This is the share of members who get in."),
        ],
    )  # fmt: skip
    half = _two(honest_door(val_m, val_s, test_m, test_s, 0.5), "two shares")
    compare(
        torch.stack(half),
        torch.stack(rate(test_s, test_m, val_s.quantile(0.5))),
        "With most = 0.5, (let_in, refused)",
        [(torch.stack(right), "The threshold is fixed in your code.")],
    )


_RATES = """
def door_rates(members, strangers, tau):
    let_in = {let_in}
    refused = {refused}
    return {result}
"""

_TARGETS = """
def doubtful_targets(y, n_way):
    known = F.one_hot(y.clamp(max=n_way - 1), n_way).float()
    doubt = torch.full_like(known, {share})
    return torch.where((y < n_way).unsqueeze(-1), {known}, {doubt})
"""

_HONEST = """
def honest_door(
    val_members, val_strangers, test_members, test_strangers, most
):
    tau = {tau}
    let_in = {let_in}
    refused = {refused}
    return let_in, refused
"""


def _rates(
    let_in="(strangers >= tau).float().mean()",
    refused="(members < tau).float().mean()",
    result="let_in, refused",
):
    return _RATES.format(let_in=let_in, refused=refused, result=result)


def _targets(share="1 / n_way", known="known", doubt="doubt"):
    return _TARGETS.format(share=share, known=known, doubt=doubt)


def _honest(
    tau="val_strangers.quantile(1 - most)",
    let_in="(test_strangers >= tau).float().mean()",
    refused="(test_members < tau).float().mean()",
):
    return _HONEST.format(tau=tau, let_in=let_in, refused=refused)


EXERCISES = {
    "13.1": Exercise(
        name="door_rates",
        check=check_door_rates,
        hints=(
            "A comparison of a tensor with tau gives True and False; as "
            "floats their mean is a share.",
            "Strangers at tau or above come in; members below it do not.",
        ),
        solution=_rates(),
        mistakes=(
            (_rates(result="refused, let_in"), "other way round"),
            (
                _rates(let_in="(strangers >= tau).float().sum()"),
                "number of visits",
            ),
            (
                _rates(let_in="(strangers > tau).float().mean()"),
                ">= and <",
            ),
            (
                _rates(let_in="(members >= tau).float().mean()"),
                "share of members let in",
            ),
            (
                _rates(
                    let_in="(strangers >= tau).sum()"
                    " / (len(members) + len(strangers))"
                ),
                "how many members come",
            ),
            (
                _rates(let_in="(strangers < tau).float().mean()"),
                "strangers kept out",
            ),
            (
                _rates(
                    let_in="(strangers >= 0.6).float().mean()",
                    refused="(members < 0.6).float().mean()",
                ),
                "threshold is fixed",
            ),
            (
                _rates(let_in="100 * (strangers >= tau).float().mean()"),
                "in percent",
            ),
            (
                _rates(refused="(members <= tau).float().mean()"),
                "refused here and let in there",
            ),
            (
                _rates(refused="(members >= tau).float().mean()"),
                "members who get in",
            ),
            (
                _rates(refused="(strangers < tau).float().mean()"),
                "right to do",
            ),
            (
                _rates(
                    refused="(members < tau).sum()"
                    " / (len(members) + len(strangers))"
                ),
                "by the members alone",
            ),
            (_rates(result="let_in"), "Return two numbers"),
        ),
    ),
    "13.2": Exercise(
        name="doubtful_targets",
        check=check_doubtful_targets,
        hints=(
            "F.one_hot wants labels below n_way: clamp the strangers' first, "
            "and replace their rows afterwards.",
            "Or look rows up: torch.eye(n_way) with rows of 1 / n_way below "
            "it, as many as y.max() needs, indexed by y.",
        ),
        solution=_targets(),
        mistakes=(
            (_targets(share="0.0"), "nothing is asked of it"),
            (_targets(share="1.0"), "does not sum to 1"),
            (_targets(known="doubt"), "Everybody is doubted"),
            (
                _targets(known="0.9 * known + 0.1 / n_way"),
                "softened as well",
            ),
            (_targets(doubt="known"), "the last member"),
            (
                """
def doubtful_targets(y, n_way):
    return F.one_hot(y % n_way, n_way).float()
""",
                "one or another",
            ),
            (_targets(share="1 / (2 * n_way)"), "sums to a half"),
            (_targets(share="1 / 3"), "fixed in your code"),
            (
                """
def doubtful_targets(y, n_way):
    return F.one_hot(y).float()
""",
                "an output for each stranger",
            ),
            (
                """
def doubtful_targets(y, n_way):
    return F.one_hot(y.clamp(max=n_way - 1), n_way)
""",
                "Distributions are float32",
            ),
            (
                """
def doubtful_targets(y, n_way):
    table = torch.cat([torch.eye(n_way), torch.full((n_way,) * 2, 1 / n_way)])
    return table[y]
""",
                "more strangers than members",
            ),
            (
                """
def doubtful_targets(y, n_way):
    y[y >= n_way] = 0
    return F.one_hot(y, n_way).float()
""",
                "changed y itself",
            ),
        ),
    ),
    "13.3": Exercise(
        name="honest_door",
        check=check_honest_door,
        hints=(
            "Ask of every number: whose is it? Two of the four are for "
            "choosing, two for reporting.",
            "Choose tau on val_strangers; both rates are of test visits.",
        ),
        solution=_honest(),
        mistakes=(
            (
                _honest(
                    tau="test_strangers.quantile(1 - most)",
                    refused="(val_members < tau).float().mean()",
                ),
                "comes out as ordered",
            ),
            (
                _honest(refused="(val_members < tau).float().mean()"),
                "validation members still",
            ),
            (
                _honest(
                    tau="torch.cat([val_strangers, test_strangers])"
                    ".quantile(1 - most)"
                ),
                "Test people choose nothing",
            ),
            (
                _honest(tau="val_members.quantile(most)"),
                "quantile of the members",
            ),
            (
                _honest(
                    tau="torch.cat([val_strangers, val_members])"
                    ".quantile(1 - most)"
                ),
                "a quantile of all visits",
            ),
            (_honest(tau="0.65"), "fixed in your code"),
            (
                """
def honest_door(
    val_members, val_strangers, test_members, test_strangers, most
):
    tau = val_strangers.quantile(1 - most)
    refused = (test_members < tau).float().mean()
    return refused, (test_strangers >= tau).float().mean()
""",
                "other way round",
            ),
            (_honest(tau="val_strangers.quantile(most)"), "lets in 1 - most"),
            (
                _honest(let_in="(val_strangers >= tau).float().mean()"),
                "as good as ordered",
            ),
            (
                _honest(let_in="(test_strangers < tau).float().mean()"),
                "strangers kept out",
            ),
            (
                _honest(refused="(test_members >= tau).float().mean()"),
                "who get in",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "Your door scores 92 % in the test program, which feeds it ten "
        "visitors at once, and 20 % in the hall. What do you look at first?",
        (
            (
                "The camera.",
                "Perhaps. But the difference you know of is one visitor "
                "against ten.",
            ),
            (
                "What batch normalisation normalises by.",
                "One visitor alone is normalised by itself. Put it beside "
                "the pictures on file, in the test as well.",
            ),
            (
                "The number of inner steps.",
                "They are the same in both places.",
            ),
        ),
        right=1,
    ),
    Question(
        "Why can the inner loop not learn to doubt strangers?",
        (
            (
                "One step is too short.",
                "Any number of steps sees the members' pictures only.",
            ),
            (
                "The support set has no strangers in it.",
                "The outer loss has: it is asked of θ′ after adapting, and "
                "moves θ.",
            ),
            (
                "Softmax has no output for them.",
                "Nor does it after training with doubt. Equal "
                "probabilities say it as well.",
            ),
        ),
        right=1,
    ),
    Question(
        "After an update of θ you keep the old threshold. What happens?",
        (
            (
                "Nothing: it is a probability.",
                "A confidence of 0.6 is whatever this network makes of it.",
            ),
            (
                "The share of strangers let in is unknown.",
                "Choose the threshold anew, on validation people, with the "
                "steps and the company of the door.",
            ),
            (
                "The door refuses everybody.",
                "It may, or it may open to everybody. Nobody knows before "
                "measuring.",
            ),
        ),
        right=1,
    ),
)
