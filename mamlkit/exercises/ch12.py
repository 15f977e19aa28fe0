"""Exercises of chapter 12: make it fast."""

import math
from statistics import mean, median

import torch

from mamlkit.exercises.engine import (
    Exercise,
    Question,
    as_scalar,
    compare,
    require,
)

LAUNCH = 2**-7  # seconds until the toy device has taken an order


class _Device:
    """Takes work at once and does it later, as a GPU does."""

    def __init__(self, durations):
        self.durations, self.calls, self.read = durations, 0, False
        self.now = self.busy_until = 0.0

    def start(self):
        self.now += LAUNCH
        duration = self.durations[self.calls % len(self.durations)]
        self.busy_until = max(self.now, self.busy_until) + duration
        self.calls += 1

    def wait(self):
        self.now = max(self.now, self.busy_until)

    def clock(self):
        self.read = True
        return self.now


def check_time_calls(time_calls):
    """Calls on a toy device, after a first one that is slow or fast."""
    for first, timed in (
        (9.0, (1.0, 1.25, 7.0, 3.0, 1.5)),
        (0.25, (1.0, 1.25, 7.0, 3.0, 1.5)),
        (9.0, (1.0, 7.0, 1.5)),
    ):
        n = len(timed)
        device = _Device((first, *timed))
        found = time_calls(device.start, device.wait, device.clock, n)
        require(
            device.calls == n + 1,
            f"start() was called {device.calls} times. With repeats = {n} it "
            f"should be {n + 1}: once to warm up, untimed, then {n} times.",
        )
        require(
            device.read,
            "You never call clock(): the device has a time of its own, which "
            "no other clock knows.",
        )
        delayed = (first + timed[0], *timed[1:])
        compare(
            as_scalar(found),
            torch.tensor(median(timed) + LAUNCH),
            "The time of a call",
            [
                (torch.tensor(LAUNCH), "You time how long it takes to hand "
                 "the work over. Wait before you read the clock again."),
                (torch.tensor(median(delayed) + LAUNCH), "The warm-up is "
                 "still running when the clock starts: wait for it, too."),
                (torch.tensor(mean(timed) + LAUNCH), "This is the mean, "
                 "which one disturbed call spoils. Take the median."),
                (torch.tensor((sum(timed) + LAUNCH) / n), "All calls are "
                 "timed as one, so the disturbed one is in it. Time each, "
                 "and take the median."),
                (torch.tensor(min(timed) + LAUNCH), "This is the luckiest "
                 "call. Take the median."),
                (torch.tensor(median((first, *timed)) + LAUNCH), "The first "
                 "call is among those you take the median of."),
            ],
        )  # fmt: skip


def check_batched_step(batched_step):
    """Three linear models: square ones, which hide nothing, then others."""
    generator, lr = torch.Generator().manual_seed(0), 0.5
    for n_out, n_in, k in ((2, 2, 2), (2, 5, 3)):
        w, x, y = (
            torch.randint(-3, 4, shape, generator=generator).float()
            for shape in ((3, n_out, n_in), (3, k, n_in), (3, k, n_out))
        )
        before = w.clone()
        found = batched_step(w, x, y, lr)
        require(
            torch.equal(w, before),
            "You changed weights itself. Make a new one.",
        )
        error = x @ w.mT - y
        total = error.mT @ x  # of each task: (out, in)
        step = lr * 2 * total / (k * n_out)
        wrong = [
            (step / lr, "This is the gradient. Return the weights "
             "after the step."),
            (w + step, "You walk uphill: subtract."),
            (w - step.sum(0), "Every task takes the sum of all tasks' steps: "
             "keep n in the result of einsum."),
            (w - step.mean(0), "Every task takes the average step of all "
             "tasks. In the inner loop each goes its own way."),
            (w - step / 3, "You divide by the number of tasks as well. A "
             "task's loss is a mean over its own errors."),
            (w - step / 2, "The 2 of the square's derivative is missing."),
            (w - step * k * n_out, "This is the step of the summed loss: "
             "divide by the number of errors of one task, examples times "
             "outputs."),
            (w - step * n_out, "You divide by the examples only; the loss is "
             "a mean over examples and outputs."),
            (w - step * k / n_in, "You divide by the number of weights. The "
             "loss is a mean over errors: examples times outputs."),
            (w - step * n_out / n_in, "You divide by the numbers in a task's "
             "x. The loss is a mean over errors: examples times outputs."),
        ]  # fmt: skip
        if n_out == n_in:
            swapped = "Inputs and outputs are swapped: weights has shape "
            wrong.append((w - step.mT, f"{swapped}(tasks, out, in)."))
        compare(found, w - step, "The new weights of three tasks", wrong)


def check_repaid_after(repaid_after):
    """Prices that divide evenly, that do not, and that never come back."""
    compare(
        as_scalar(repaid_after(4.0, 3.0, 0.5)),
        torch.tensor(1600.0),
        "4 s, repaid by 3 ms against 0.5 ms,",
        [
            (torch.tensor(1601.0), "A number that divides evenly needs no "
             "rounding up."),
            (torch.tensor(1.6), "Price and gain are in different units: 1 s "
             "is 1000 ms."),
            (torch.tensor(2.0), "Price and gain are in different units, and "
             "you round: 1 s is 1000 ms."),
            (torch.tensor(8000.0), "You divide by what a compiled iteration "
             "takes. What counts is what it saves."),
            (torch.tensor(4000 / 3), "You divide by what an iteration took. "
             "What counts is what it saves."),
            (torch.tensor(1334.0), "You divide by what an iteration took, "
             "rounded up. What counts is what it saves."),
            (torch.tensor(4000 / 6), "Times are saved by difference, not by "
             "ratio."),
            (torch.tensor(667.0), "Times are saved by difference, not by a "
             "ratio that is rounded up."),
        ],
    )  # fmt: skip
    compare(
        as_scalar(repaid_after(5.0, 3.5, 0.5)),
        torch.tensor(1667.0),
        "5 s, repaid by 3.5 ms against 0.5 ms,",
        [
            (torch.tensor(1666.0), "After 1666 iterations 2 ms are still "
             "missing: round up."),
            (torch.tensor(5000 / 3), "Nobody runs two thirds of an "
             "iteration: round up, to a whole number."),
        ],
    )  # fmt: skip
    compare(
        as_scalar(repaid_after(4.0, 3.5, 0.5)),
        torch.tensor(1334.0),
        "4 s, repaid by 3.5 ms against 0.5 ms,",
        [
            (torch.tensor(1333.0), "After 1333 iterations 1 ms is still "
             "missing: round up, not to the nearest."),
        ],
    )  # fmt: skip
    compare(
        as_scalar(repaid_after(0.125, 3.0, 1.0)),
        torch.tensor(63.0),
        "0.125 s, repaid by 3 ms against 1 ms,",
        [
            (torch.tensor(62.0), "You take something off the price. It is "
             "what compiling took, and nothing else."),
        ],
    )  # fmt: skip
    for slow, fast in ((1.0, 1.0), (1.0, 2.0)):
        try:
            never = repaid_after(5.0, slow, fast)
        except ZeroDivisionError:
            require(False, "Equal times divide by zero: return math.inf.")
        require(
            never is not None and never == math.inf,
            f"With {slow} ms against {fast} ms nothing is saved, ever: "
            f"return math.inf, not {never}.",
        )


def check_share(share):
    """Tasks that divide evenly among the processes, and that do not."""
    for n_tasks, world in ((8, 4), (10, 4), (7, 3)):
        found = [share(n_tasks, rank, world) for rank in range(world)]
        require(
            all(isinstance(f, tuple | list) and len(f) == 2 for f in found),
            "Return a pair: the indices, and a number to multiply with.",
        )
        require(
            not any(isinstance(which, slice) for which, _ in found),
            "Return the indices themselves, as a range or a list of them, "
            "not a slice.",
        )
        parts = [[int(i) for i in which] for which, _ in found]
        taken = sorted(i for part in parts for i in part)
        require(
            len({*taken}) == len(taken),
            f"Of {n_tasks} tasks some are taken by two processes: {parts}.",
        )
        left = {*range(n_tasks)} - {*taken}
        require(
            not left,
            f"Of {n_tasks} tasks nobody takes {sorted(left)}: rounding down "
            "loses the rest.",
        )
        require(
            taken == [*range(n_tasks)],
            f"Indices should lie in 0..{n_tasks - 1}, but are {taken}.",
        )
        sizes = [len(part) for part in parts]
        require(
            max(sizes) - min(sizes) <= 1,
            f"{n_tasks} tasks are dealt out as {sizes}, and all wait for the "
            "slowest: sizes should differ by 1 at most.",
        )
        weights = torch.tensor([float(weight) for _, weight in found])
        compare(
            weights,
            torch.tensor(sizes) / n_tasks,
            f"The weights of {world} processes with {sizes} tasks",
            [
                (torch.full((world,), 1 / world), "Every process counts the "
                 f"same, so a task counts more in a small part: {sizes}."),
                (torch.tensor(sizes).float(), "The weights should add up to "
                 "1: divide by the number of tasks."),
                (1 / torch.tensor(sizes), "You divide by the size of the "
                 "part, which its mean has done already."),
                (torch.ones(world), "The gradients are added up as they are: "
                 f"{world} means make {world} times the gradient."),
            ],
        )  # fmt: skip


_TIME = """
def time_calls(start, wait, clock, repeats):
    start()
    {after_warm_up}
    times = []
    for _ in range(repeats):
        begun = clock()
        start()
        {after_call}
        times.append(clock() - begun)
    return {result}
"""


def _time(
    after_warm_up="wait()",
    after_call="wait()",
    result="torch.tensor(times).median().item()",
):
    return _TIME.format(
        after_warm_up=after_warm_up, after_call=after_call, result=result
    )


_STEP = """
def batched_step(weights, x, y, lr):
    error = torch.einsum("nki,noi->nko", x, weights) - y
    total = torch.einsum("nko,nki->{out}", error, x)
    return {result}
"""


def _step(
    result="weights - lr * 2 * total / error[0].numel()",
    out="noi",
):
    return _STEP.format(result=result, out=out)


_REPAID = """
def repaid_after(price, slow, fast):
    if slow <= fast:
        return {never}
    return {}
"""


def _repaid(
    result="math.ceil(1000 * price / (slow - fast))", never="math.inf"
):
    return _REPAID.format(result, never=never)


_SHARE = """
def share(n_tasks, rank, world):
    which = {which}
    return which, {weight}
"""


def _share(which="range(rank, n_tasks, world)", weight="len(which) / n_tasks"):
    return _SHARE.format(which=which, weight=weight)


EXERCISES = {
    "12.1": Exercise(
        name="time_calls",
        check=check_time_calls,
        hints=(
            "Three faults: the first call is in it, a mean, and no wait().",
            "start(), wait(); then, for each repeat: read the clock, "
            "start(), wait(), read it again. The median of those.",
        ),
        solution=_time(),
        mistakes=(
            (
                """
def time_calls(start, wait, clock, repeats):
    begun = clock()
    for _ in range(repeats):
        start()
    return (clock() - begun) / repeats
""",
                "was called 5 times",
            ),
            (
                """
def time_calls(start, wait, clock, repeats):
    import time

    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        start()
        wait()
        times.append(time.perf_counter() - begun)
    return torch.tensor(times[1:]).median().item()
""",
                "never call clock()",
            ),
            (_time(after_call="pass"), "hand the work over"),
            (_time(after_warm_up="pass"), "The warm-up is still running"),
            (_time(result="sum(times) / repeats"), "This is the mean"),
            (_time(result="min(times)"), "the luckiest call"),
            (
                """
def time_calls(start, wait, clock, repeats):
    start()
    wait()
    begun = clock()
    for _ in range(repeats):
        start()
    wait()
    return (clock() - begun) / repeats
""",
                "timed as one",
            ),
            (
                """
def time_calls(start, wait, clock, repeats):
    times = []
    for _ in range(repeats + 1):
        begun = clock()
        start()
        wait()
        times.append(clock() - begun)
    times.sort()
    return (times[repeats // 2] + times[repeats // 2 + 1]) / 2
""",
                "among those you take the median of",
            ),
        ),
    ),
    "12.2": Exercise(
        name="batched_step",
        check=check_batched_step,
        hints=(
            'The prediction is torch.einsum("nki,noi->nko", x, weights).',
            'With error = prediction - y: torch.einsum("nko,nki->noi", '
            "error, x), times 2, over the number of errors of one task.",
        ),
        solution=_step(),
        mistakes=(
            (_step("lr * 2 * total / error[0].numel() / lr"), "the gradient."),
            (_step("weights + lr * 2 * total / error[0].numel()"), "uphill"),
            (_step(out="oi"), "keep n in the result"),
            (
                _step("weights - lr * 2 * total.mean(0) / error[0].numel()"),
                "the average step of all",
            ),
            (
                _step("weights - lr * 2 * total / error.numel()"),
                "by the number of tasks as well",
            ),
            (
                _step("weights - lr * total / error[0].numel()"),
                "square's derivative",
            ),
            (_step("weights - lr * 2 * total"), "the summed loss"),
            (
                _step("weights - lr * 2 * total / x.shape[1]"),
                "by the examples only",
            ),
            (
                _step("weights - lr * 2 * total / weights[0].numel()"),
                "the number of weights",
            ),
            (
                _step("weights - lr * 2 * total / x[0].numel()"),
                "the numbers in a task's x",
            ),
            (
                _step("weights - lr * 2 * total.mT / error[0].numel()"),
                "Inputs and outputs are swapped",
            ),
            (
                _step("weights.sub_(lr * 2 * total / error[0].numel())"),
                "changed weights itself",
            ),
        ),
    ),
    "12.3": Exercise(
        name="repaid_after",
        check=check_repaid_after,
        hints=(
            "One iteration saves slow - fast milliseconds.",
            "math.ceil(1000 * price / (slow - fast)), if anything is saved.",
        ),
        solution=_repaid(),
        mistakes=(
            (_repaid("price / (slow - fast)"), "in different units: 1 s"),
            (
                _repaid("math.ceil(price / (slow - fast))"),
                "units, and you round",
            ),
            (
                _repaid("math.ceil(1000 * price / fast)"),
                "by what a compiled",
            ),
            (_repaid("1000 * price / slow"), "what an iteration took. "),
            (
                _repaid("math.ceil(1000 * price / slow)"),
                "took, rounded up",
            ),
            (
                _repaid("1000 * price / (slow / fast)"),
                "by difference, not by ratio.",
            ),
            (
                _repaid("math.ceil(1000 * price * fast / slow)"),
                "ratio that is rounded up",
            ),
            (_repaid("int(1000 * price / (slow - fast))"), "2 ms are still"),
            (_repaid("1000 * price / (slow - fast)"), "two thirds"),
            (
                _repaid("int(1000 * price / (slow - fast)) + 1"),
                "needs no rounding up",
            ),
            (_repaid("round(1000 * price / (slow - fast))"), "1 ms is still"),
            (
                _repaid("math.ceil((1000 * price - fast) / (slow - fast))"),
                "off the price",
            ),
            (_repaid(never="0"), "nothing is saved"),
            (
                """
def repaid_after(price, slow, fast):
    return math.ceil(1000 * price / (slow - fast))
""",
                "Equal times divide by zero",
            ),
        ),
    ),
    "12.4": Exercise(
        name="share",
        check=check_share,
        hints=(
            "n_tasks // world forgets the rest; range can take steps.",
            "range(rank, n_tasks, world), and its length over n_tasks.",
        ),
        solution=_share(),
        mistakes=(
            (
                _share(
                    "range(rank * (n_tasks // world), "
                    "(rank + 1) * (n_tasks // world))",
                    "1 / world",
                ),
                "Of 10 tasks nobody takes",
            ),
            (
                _share("range(rank * 2, n_tasks if rank == 3 else rank*2+2)"),
                "the slowest",
            ),
            (
                _share(
                    "range(rank * (n_tasks // world), "
                    "(rank + 1) * -(-n_tasks // world))",
                ),
                "taken by two processes",
            ),
            (_share(weight="1 / world"), "counts the same"),
            (_share(weight="len(which)"), "should add up to 1"),
            (_share(weight="1 / len(which)"), "has done already"),
            (_share(weight="1"), "times the gradient"),
            (_share("slice(rank, None, world)", "1 / world"), "not a slice"),
            (
                _share("range(rank, n_tasks, 4)", "len(which) / n_tasks"),
                "Of 7 tasks",
            ),
            (
                """
def share(n_tasks, rank, world):
    return range(rank, n_tasks, world)
""",
                "Return a pair",
            ),
        ),
    ),
}

QUIZ = (
    Question(
        "A meta-iteration of 4 tasks with a large CNN takes 2 s. vmap instead "
        "of the loop changes nothing. Why?",
        (
            (
                "vmap does not work on convolutions.",
                "It does; the numbers are the same.",
            ),
            (
                "Arithmetic takes the time, not the calls.",
                "vmap saves calls. The arithmetic stays what it was.",
            ),
            (
                "Four tasks are too few to be stacked.",
                "On the sinusoid network four tasks gain already.",
            ),
        ),
        right=1,
    ),
    Question(
        "The same code takes 3 ms and, once more, 5 ms. A change brings it to "
        "4 ms. Is it faster?",
        (
            ("Yes, than 5.", "And slower than 3. The noise is larger."),
            (
                "Time both in turn, in one run, and compare the medians.",
                "What slows the machine then slows both.",
            ),
            ("Take the fastest of each.", "That reports the luckiest moment."),
        ),
        right=1,
    ),
    Question(
        "Memory is full at 32 tasks and 5 second-order inner steps. What "
        "keeps the gradient exactly what it is?",
        (
            ("Fewer inner steps.", "That is another meta-loss."),
            ("first_order=True.", "Flat memory, but another gradient."),
            (
                "tasks_at_once=8.",
                "A mean over parts, weighted by their size, is the mean.",
            ),
        ),
        right=2,
    ),
)
