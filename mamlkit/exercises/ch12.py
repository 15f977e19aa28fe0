"""Exercises of chapter 12: make it fast."""

import math

import torch

from mamlkit.exercises.compare import compare, require, to_list, to_tensor
from mamlkit.exercises.exercise import Exercise, ask, by_key
from mamlkit.exercises.problems import normal, seeded, whole

TIME = """
def time_calls(start, wait, clock, repeats):
    start()
    wait()
    times = []
    for _ in range(repeats):
        begun = clock()
        start()
        wait()
        times.append(clock() - begun)
    return torch.tensor(times).median().item()
"""
STEP = """
def batched_step(weights, x, y, lr):
    error = torch.einsum("nki,noi->nko", x, weights) - y
    total = torch.einsum("nko,nki->noi", error, x)
    return weights - lr * 2 * total / error[0].numel()
"""
REPAID = """
def repaid_after(price, slow, fast):
    if slow <= fast:
        return math.inf
    return math.ceil(1000 * price / (slow - fast))
"""
SHARE = """
def share(n_tasks, rank, world):
    which = range(rank, n_tasks, world)
    return which, len(which) / n_tasks
"""
DEAL = """
def deal_out(costs, world):
    parts = [[] for _ in range(world)]
    loads = [0.0] * world
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        parts[least].append(i)
        loads[least] += costs[i]
    return parts
"""

LAUNCH = 2**-7  # seconds until the toy device has taken an order


def device(durations):
    """start, wait and clock of what takes work at once and does it later."""
    state = {"now": 0.0, "busy": 0.0, "calls": 0, "read": 0}

    def start():
        state["now"] += LAUNCH
        duration = durations[state["calls"] % len(durations)]
        state["busy"] = max(state["now"], state["busy"]) + duration
        state["calls"] += 1

    def wait():
        state["now"] = max(state["now"], state["busy"])

    def clock():
        state["read"] += 1
        return state["now"]

    clock.state = state
    return start, wait, clock


def first_device():
    """A warm-up of 9 s, then 1, 1.25, 7, 3 and 1.5 s: median 1.5 + 2⁻⁷."""
    return *device([9.0, 1.0, 1.25, 7.0, 3.0, 1.5]), 5


def some_device(g, number):
    """First calls that are slow or fast, an odd number of others."""
    repeats = (3, 5, 7, 1, 9, 5)[number - 1]
    durations = (1 + normal(g, repeats + 1).square()).tolist()
    durations[0] *= 8 if number % 2 else 0.1
    durations[-1] += 6  # disturbed
    return *device(durations), repeats


def counted(found, start, wait, clock, repeats):
    """What was found, if the calls were counted rightly."""
    calls = clock.state["calls"]
    require(
        calls == repeats + 1,
        f"start() was called {calls} times. With repeats = {repeats} it "
        f"should be {repeats + 1}: once to warm up, untimed, then {repeats} "
        "times.",
    )
    require(
        clock.state["read"],
        "you never call clock(): the device has a time of its own, which no "
        "other clock knows.",
    )
    return found


def two_models():
    """Weights 1 and 2 at x = 1, 3 with y = 0: gradients 10 and 20."""
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1).expand(2, 2, 1)
    return torch.tensor([1.0, 2.0]).view(2, 1, 1), x, 0 * x, 0.05


def step_problem(g, number):
    """Any numbers of tasks, examples, inputs and outputs."""
    n, n_out, n_in, k = (
        (3, 2, 2, 2), (2, 1, 3, 2), (1, 3, 2, 4), (4, 2, 5, 3), (2, 4, 1, 1),
        (3, 2, 3, 5),
    )[number - 1]  # fmt: skip
    shapes = (n, n_out, n_in), (n, k, n_in), (n, k, n_out)
    return *(normal(g, *shape) for shape in shapes), 0.1 * number


def price_problem(g, number):
    """Prices that divide evenly, that do not, that never come back."""
    while True:
        fast, eighths = whole(g, 1, 16) / 8, whole(g, 1, 200)
        saved = (1.0, 0.375, 0.0, 1.125, 0.875)[number % 5]
        if number == 3:
            saved = -fast / 2
        price = (2 * eighths + 1) / 8
        if saved <= 0:
            return price, fast + saved, fast
        exact = 1000 * price / saved
        part = exact % 1
        if number in (1, 6) and not 0 < part < 0.5:
            continue
        if number in (4, 9) and part < 0.5:
            continue
        # However it is computed, rounding must not decide.
        ways = exact, price / (saved / 1000), price / saved * 1000
        if len({math.ceil(way) for way in ways}) == 1:
            return price, fast + saved, fast


def shares_out(share):
    """Tasks that divide evenly among the processes, and that do not."""
    for n_tasks, world in ((10, 4), (8, 4), (7, 3), (5, 5), (3, 1), (23, 6)):
        _check_share(share, n_tasks, world)


def _check_share(share, n_tasks, world):
    found = [share(n_tasks, rank, world) for rank in range(world)]
    require(
        all(isinstance(f, tuple | list) and len(f) == 2 for f in found),
        "Return a pair: the indices, and a number to multiply with.",
    )
    require(
        not any(isinstance(which, slice) for which, _ in found),
        "Return the indices themselves, as a range or a list of them, not a "
        "slice.",
    )
    lists = [to_list(which) for which, _ in found]
    require(None not in lists, "Return the indices as a range or a list.")
    parts = [[int(i) for i in which] for which in lists]
    taken = sorted(i for part in parts for i in part)
    require(
        len({*taken}) == len(taken),
        f"Of {n_tasks} tasks some are taken by two processes: {parts}.",
    )
    left = {*range(n_tasks)} - {*taken}
    require(
        not left,
        f"Of {n_tasks} tasks nobody takes {sorted(left)}: rounding down loses "
        "the rest.",
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
    weights = [to_tensor(weight) for _, weight in found]
    require(
        all(w is not None and w.numel() == 1 for w in weights),
        "The second of the pair should be a number.",
    )
    got = torch.stack([w.double().reshape(()) for w in weights])
    told = f"With {world} processes and {sizes} tasks"
    wrongs = (
        (
            [1 / world] * world,
            "every process counts the same, so a task counts more in a small "
            f"part: {sizes}.",
        ),
        (
            sizes,
            "the weights should add up to 1: divide by the number of tasks.",
        ),
        (
            [1 / size for size in sizes],
            "you divide by the size of the part, which its mean has done "
            "already.",
        ),
        (
            [1.0] * world,
            f"the gradients are added up as they are: {world} means make "
            f"{world} times the gradient.",
        ),
    )
    right = torch.tensor(sizes).double() / n_tasks
    if not torch.allclose(got, right):
        for wrong, message in wrongs:
            alike = torch.allclose(got, torch.tensor(wrong).double())
            require(not alike, f"{told}, {message}")
    compare(got, right, f"{told}, for the weights")


def balanced(deal_out):
    """Thirty times twenty tasks and more, some of them ten times as long."""
    worst, by_turns = [], []
    for number in range(30):
        g = seeded(number)
        n, world = whole(g, 20, 40), whole(g, 2, 5)
        costs = (0.5 + normal(g, n).exp()).tolist()
        parts = to_list(deal_out([*costs], world))
        require(
            parts is not None and len(parts) == world,
            f"Return one list of indices for each of {world} processes.",
        )
        parts = [[int(i) for i in part] for part in parts]
        taken = sorted(i for part in parts for i in part)
        require(
            taken == [*range(n)],
            f"Each of the tasks 0..{n - 1} should be dealt out once.",
        )
        least = max(sum(costs) / world, max(costs))
        worst.append(max(sum(costs[i] for i in p) for p in parts) / least)
        turns = [sum(costs[rank::world]) for rank in range(world)]
        by_turns.append(max(turns) / least)
    mean, floor = (sum(found) / len(found) for found in (worst, by_turns))
    require(
        mean < 1.04,
        f"The slowest process takes {mean:.3f} times what it must, on average "
        f"over 30 problems; dealing in turns takes {floor:.3f}. Get below "
        "1.04.",
    )


EXERCISES = by_key(
    Exercise(
        "12.1",
        "time_calls",
        level=2,
        minutes=10,
        hints=(
            "Three faults: the first call is in it, a mean, and no wait().",
            "start(), wait(); then, for each repeat: read the clock, "
            "start(), wait(), read it again. The median of those.",
        ),
        solution=TIME,
        first=first_device,
        told="On a device that takes 9 s, then 1, 1.25, 7, 3 and 1.5 s, with "
        "repeats = 5",
        by_hand=lambda: 1.5 + LAUNCH,
        draw=some_device,
        look=counted,
        mistakes=(
            (
                "",
                """
def time_calls(start, wait, clock, repeats):
    begun = clock()
    for _ in range(repeats):
        start()
    return (clock() - begun) / repeats
""",
                "was called 5 times",
            ),
            ("clock()", "0.0", "never call clock()"),
            (
                "        start()\n        wait()\n",
                "        start()\n",
                "You time how long it takes to hand the work over. Wait "
                "before you read the clock again.",
            ),
            (
                "    start()\n    wait()\n    times",
                "    start()\n    times",
                "The warm-up is still running when the clock starts: wait "
                "for it, too.",
            ),
            (
                "torch.tensor(times).median().item()",
                "sum(times) / repeats",
                "This is the mean, which one disturbed call spoils. Take the "
                "median.",
            ),
            (
                "torch.tensor(times).median().item()",
                "min(times)",
                "This is the luckiest call. Take the median.",
            ),
            (
                "",
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
                "All calls are timed as one, so the disturbed one is in it. "
                "Time each, and take the median.",
            ),
            (
                "",
                """
def time_calls(start, wait, clock, repeats):
    times = []
    for _ in range(repeats + 1):
        begun = clock()
        start()
        wait()
        times.append(clock() - begun)
    times.sort()
    return (times[repeats // 2] + times[(repeats + 1) // 2]) / 2
""",
                "The first call is among those you take the median of.",
            ),
        ),
    ),
    Exercise(
        "12.2",
        "batched_step",
        level=2,
        minutes=15,
        the_one=True,
        hints=(
            'The prediction is torch.einsum("nki,noi->nko", x, weights).',
            'With error = prediction - y: torch.einsum("nko,nki->noi", '
            "error, x), times 2, over the number of errors of one task.",
        ),
        solution=STEP,
        first=two_models,
        told="For two models with weights 1 and 2, x = 1, 3 and y = 0, with "
        "lr = 0.05",
        by_hand=lambda: torch.tensor([0.5, 1.0]).view(2, 1, 1),
        draw=step_problem,
        orders=1,
        mistakes=(
            (
                "weights - lr * 2 * total",
                "2 * total",
                "This is the gradient. Return the weights after the step.",
            ),
            ("weights - lr", "weights + lr", "You walk uphill: subtract."),
            (
                "->noi",
                "->oi",
                "Every task takes the sum of all tasks' steps: keep n in the "
                "result of einsum.",
            ),
            (
                "* total /",
                "* total.mean(0) /",
                "Every task takes the average step of all tasks. In the "
                "inner loop each goes its own way.",
            ),
            (
                "error[0].numel()",
                "error.numel()",
                "You divide by the number of tasks as well. A task's loss is "
                "a mean over its own errors.",
            ),
            (
                "lr * 2 *",
                "lr *",
                "The 2 of the square's derivative is missing.",
            ),
            (
                " / error[0].numel()",
                "",
                "This is the step of the summed loss: divide by the number "
                "of errors of one task, examples times outputs.",
            ),
            (
                "error[0].numel()",
                "x.shape[1]",
                "You divide by the examples only; the loss is a mean over "
                "examples and outputs.",
            ),
            (
                "error[0].numel()",
                "weights[0].numel()",
                "You divide by the number of weights. The loss is a mean "
                "over errors: examples times outputs.",
            ),
            (
                "error[0].numel()",
                "x[0].numel()",
                "You divide by the numbers in a task's x. The loss is a mean "
                "over errors: examples times outputs.",
            ),
            (
                "* total /",
                "* total.mT /",
                "Inputs and outputs are swapped: weights has shape (tasks, "
                "out, in).",
            ),
            (
                "    return weights - lr * 2 * total / error[0].numel()",
                "    return weights.sub_(lr * 2 * total / error[0].numel())",
                "You changed weights itself",
            ),
        ),
    ),
    Exercise(
        "12.3",
        "repaid_after",
        level=1,
        minutes=5,
        hints=(
            "One iteration saves slow - fast milliseconds.",
            "math.ceil(1000 * price / (slow - fast)), if anything is saved.",
        ),
        solution=REPAID,
        first=lambda: (4.0, 3.0, 0.5),
        told="For 4 s, repaid by 3 ms against 0.5 ms",
        by_hand=lambda: 1600,
        draw=price_problem,
        draws=12,
        mistakes=(
            (
                "math.ceil(1000 * price / (slow - fast))",
                "price / (slow - fast)",
                "Price and gain are in different units: 1 s is 1000 ms.",
            ),
            (
                "1000 * price",
                "price",
                "Price and gain are in different units, and you round: 1 s "
                "is 1000 ms.",
            ),
            (
                "(slow - fast)",
                "fast",
                "You divide by what a compiled iteration takes. What counts "
                "is what it saves.",
            ),
            (
                "(slow - fast)",
                "slow",
                "You divide by what an iteration took. What counts is what "
                "it saves.",
            ),
            (
                "(slow - fast)",
                "(slow / fast)",
                "Times are saved by difference, not by ratio.",
            ),
            (
                "math.ceil(",
                "int(",
                "You round down: after so many iterations something is still "
                "missing.",
            ),
            (
                "math.ceil(1000 * price / (slow - fast))",
                "1000 * price / (slow - fast)",
                "Nobody runs a part of an iteration: round up, to a whole "
                "number.",
            ),
            (
                "math.ceil(1000 * price / (slow - fast))",
                "int(1000 * price / (slow - fast)) + 1",
                "A number that divides evenly needs no rounding up.",
            ),
            ("math.ceil(", "round(", "You round to the nearest: round up."),
            (
                "return math.inf",
                "return 0",
                "Where nothing is saved, the price never comes back: return "
                "math.inf.",
            ),
            (
                "    if slow <= fast:\n        return math.inf\n",
                "",
                "Where nothing is saved, look before you divide.",
            ),
        ),
    ),
    Exercise(
        "12.4",
        "share",
        level=2,
        minutes=10,
        hints=(
            "n_tasks // world forgets the rest; range can take steps.",
            "range(rank, n_tasks, world), and its length over n_tasks.",
        ),
        solution=SHARE,
        prove=shares_out,
        mistakes=(
            (
                "range(rank, n_tasks, world)",
                "range(rank * (n_tasks // world), (rank + 1) * (n_tasks // "
                "world))",
                "Of 10 tasks nobody takes",
            ),
            (
                "range(rank, n_tasks, world)",
                "range(rank * (n_tasks // world), n_tasks if rank == world - "
                "1 else (rank + 1) * (n_tasks // world))",
                "the slowest",
            ),
            (
                "range(rank, n_tasks, world)",
                "range(rank * (n_tasks // world), (rank + 1) * -(-n_tasks // "
                "world))",
                "taken by two processes",
            ),
            ("len(which) / n_tasks", "1 / world", "counts the same"),
            ("len(which) / n_tasks", "len(which)", "should add up to 1"),
            ("len(which) / n_tasks", "1 / len(which)", "has done already"),
            ("len(which) / n_tasks", "1", "times the gradient"),
            (
                "range(rank, n_tasks, world)\n"
                "    return which, len(which) / n_tasks",
                "slice(rank, None, world)\n    return which, 1",
                "not a slice",
            ),
            ("n_tasks, world)\n", "n_tasks, 4)\n", "Of 7 tasks"),
            (
                "return which, len(which) / n_tasks",
                "return which",
                "Return a pair",
            ),
        ),
    ),
    Exercise(
        "12.5",
        "deal_out",
        level=2,
        minutes=15,
        hints=(
            "A long task that comes last ruins a fair deal. In which order "
            "would you deal?",
            "Longest first, each to whoever has least so far.",
        ),
        example=DEAL,
        prove=balanced,
        mistakes=(
            (
                "key=lambda i: -costs[i]",
                "key=lambda i: costs[i]",
                "Get below 1.04",
            ),
            ("parts[least].append(i)", "parts[0].append(0)", "dealt out once"),
            ("    return parts", "    return parts[:-1]", "one list of"),
        ),
    ),
)

QUIZ = (
    ask(
        "A meta-iteration of 4 tasks with a large CNN takes 2 s. vmap "
        "instead of the loop changes nothing. What is the likeliest reason?",
        (
            "Arithmetic takes the time, not the calls.",
            "vmap saves calls. The arithmetic stays what it was.",
        ),
        (
            "vmap does not work on convolutions.",
            "It does; the numbers are the same.",
        ),
        (
            "Four tasks are too few to be stacked.",
            "On the sinusoid network four tasks gain already.",
        ),
    ),
    ask(
        "The same code takes 3 ms and, once more, 5 ms. A change brings it "
        "to 4 ms. How do you learn whether that is faster?",
        (
            "Time both in turn, in one run, and compare the medians.",
            "What slows the machine then slows both.",
        ),
        (
            "You cannot: 4 lies between.",
            "You can, if you measure often enough to see through the noise.",
        ),
        ("Take the fastest of each.", "That reports the luckiest moment."),
    ),
    ask(
        "Memory is full at 32 tasks and 5 second-order inner steps. What "
        "keeps the gradient exactly what it is?",
        (
            "tasks_at_once=8.",
            "A mean over parts, weighted by their size, is the mean.",
        ),
        ("Fewer inner steps.", "That is another meta-loss."),
        ("first_order=True.", "Flat memory, but another gradient."),
    ),
)
