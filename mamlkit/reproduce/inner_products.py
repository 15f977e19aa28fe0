"""What makes Reptile learn: gradients of one task that point the same way.

Nichol et al. 2018, Sec. 5: taken step by step over *different* batches of a
task, k inner steps move θ along k mean gradients and, to second order in α,
in the direction in which the inner product of two batches' gradients grows.
Steps over one batch, even a batch of everything, have the product of that
batch's gradient with itself in its place. Three measurements:

- how alike two batches' gradients are, within a task and across tasks, for
  each network that `mamlkit reproduce omniglot` left;
- along the second-order part of the inner steps' mean movement, how fast
  the inner product grows, with different batches, one, and all at once;
- what Reptile learns with these three, everything else equal.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from mamlkit.checkpoint import described, load_checkpoint
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.history import History
from mamlkit.inner import LossFn, Params, functional_loss
from mamlkit.models import CNN
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import Known, reptile, row, write_result
from mamlkit.reproduce.intervals import row_of_trainings
from mamlkit.reproduce.judge import accuracies
from mamlkit.reproduce.omniglot_settings import METHODS
from mamlkit.reproduce.training import draw
from mamlkit.reproduce.untrained import choose_rule, rule_walk
from mamlkit.rl.trpo import flatten
from mamlkit.tasks import Batch, Tasks

SHOTS, BATCH = 10, 10  # of Reptile's training
ARMS = ("different", "same", "whole")


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--ways", type=int, default=5, help="classes in a task")
    add("--tasks", type=int, default=100, help="to measure on")
    add("--alpha", type=float, default=0.05, help="of the inner steps")
    add("--seeds", type=int, default=5, help="trainings of each kind, 2 up")
    add("--iterations", type=int, default=1_000, help="of each")
    add("--width", type=int, default=32, help="channels of the trained CNN")
    add("--test-tasks", type=int, default=500)
    add("--threads", type=int, default=1)


def cut_for(
    tasks: Tasks, arm: str, generator: torch.Generator
) -> list[list[Batch]]:
    """Cut each task's examples in the batches of its inner steps.

    Args:
        tasks: support and query set are one training set here.
        arm: "different" batches; the "same" one again and again; or the
            "whole" set, again and again.
        generator: shuffles.

    Returns:
        as many batches for each task as it has different ones.
    """
    found = list(reptile.cut(tasks, generator, size=BATCH))
    if arm == "same":
        return [[task[0]] * len(task) for task in found]
    if arm == "whole":
        return [
            [Batch(*map(torch.cat, zip(*task)))] * len(task) for task in found
        ]
    return found


def gradients(loss_fn: LossFn, params: Params, batch: Batch) -> Tensor:
    """Give each task's gradient: (tasks, parameters).

    Args:
        loss_fn: `(params, batch)` -> scalar.
        params: θ, the same for all tasks.
        batch: stacked, x of shape (tasks, examples, *features).
    """
    one = vmap(grad(loss_fn), in_dims=(None, 0))
    parts = [
        one(params, Batch(*(t[i : i + 25] for t in batch)))
        for i in range(0, len(batch.y), 25)
    ]
    return torch.cat([
        torch.cat([p.flatten(1) for p in part.values()], 1) for part in parts
    ])  # fmt: skip


def halves(tasks: Tasks) -> tuple[Batch, Batch]:
    """Take two batches of each task that share no image."""
    return tasks.support, tasks.query


def likeness(loss_fn: LossFn, params: Params, tasks: Tasks) -> Tensor:
    """Compare gradients of two batches: cosines, shape (tasks, 2).

    The first column is within a task, the second of one task's batch with
    the next task's.
    """
    a, b = (gradients(loss_fn, params, half) for half in halves(tasks))
    return torch.stack([
        F.cosine_similarity(a, b), F.cosine_similarity(a, b.roll(1, 0))
    ], 1)  # fmt: skip


def second_order(
    loss_fn: LossFn, params: Params, tasks: list[list[Batch]], lr: float
) -> Tensor:
    """Average what inner steps do besides following the gradients at θ.

    Args:
        loss_fn: `(params, batch)` -> scalar.
        params: θ.
        tasks: each the batches of its steps, equally many.
        lr: α.

    Returns:
        mean over tasks of θ′ - θ + α Σ ∇L(θ; batch), in one row.
    """
    x, y = (
        torch.stack([
            torch.stack([batch[part] for batch in task]) for task in tasks
        ])
        for part in (0, 1)
    )  # fmt: skip

    def one(batches_x, batches_y):
        moved, straight = params, 0.0
        for batch in map(Batch, batches_x, batches_y):
            at_start, now = (grad(loss_fn)(p, batch) for p in (params, moved))
            straight = straight + flatten(at_start)
            moved = {k: p - lr * now[k] for k, p in moved.items()}
        return flatten(moved) - flatten(params) + lr * straight

    parts = [
        vmap(one)(x[i : i + 25], y[i : i + 25]).sum(0)
        for i in range(0, len(x), 25)
    ]
    return sum(parts) / len(x)


def slopes(
    products: Callable[[Params], Tensor], params: Params, along: Tensor
) -> Tensor:
    """Differentiate each task's inner product along a direction of length 1.

    Args:
        products: θ -> shape (tasks,).
        params: θ.
        along: the direction, in one row, of any length.
    """
    sizes = [p.numel() for p in params.values()]
    # A hundredth of θ's length: above float32's noise, and still straight.
    reach = 0.01 * flatten(params).norm()
    step = (reach * along / along.norm()).split(sizes)

    def at(sign):
        return products({
            k: p + sign * s.view_as(p)
            for (k, p), s in zip(params.items(), step)
        })  # fmt: skip

    return (at(1) - at(-1)) / (2 * reach)


def pairs(args: Namespace) -> Tasks:
    """Draw validation tasks, each of two batches with no image in common."""
    return Episodes(load_omniglot("val"), args.ways, rotations=True).sample(
        args.tasks,
        k_shot=2,
        k_query=2,
        generator=torch.Generator().manual_seed(1_000_004),
    )


def measure(
    params: Params, args: Namespace, name: str
) -> list[dict[str, Any]]:
    """Measure likeness and the three slopes at one θ.

    Returns:
        rows of the result.
    """
    loss_fn = functional_loss(CNN(args.ways), F.cross_entropy)
    both = pairs(args)
    found = likeness(loss_fn, params, both)
    rows = [
        row(f"{name}_cosine_within", found[:, 0]),
        row(f"{name}_cosine_across", found[:, 1]),
    ]

    def products(p):
        a, b = (gradients(loss_fn, p, half) for half in halves(both))
        return (a * b).sum(1)

    train = Episodes(load_omniglot("train"), args.ways, rotations=True).sample(
        args.tasks,
        k_shot=SHOTS - 1,
        k_query=1,
        generator=torch.Generator().manual_seed(1_000_005),
    )
    now = products(params).mean()
    for arm in ARMS:
        shuffled = cut_for(train, arm, torch.Generator().manual_seed(0))
        along = second_order(loss_fn, params, shuffled, args.alpha)
        # As a share of what the product is, per hundredth of θ's length.
        scale = 0.01 * flatten(params).norm() / now.abs()
        rise = 100 * scale * slopes(products, params, along)
        rows.append(row(f"{name}_rise_{arm}", rise))
    return rows


def untrained(seed: int, args: Namespace) -> CNN:
    """Make the network with which the trainings of a seed begin."""
    torch.manual_seed(seed)
    return CNN(args.ways, width=args.width).to(
        memory_format=torch.channels_last
    )


def floor(seed: int, args: Namespace) -> Tensor:
    """Judge an untrained network with the rate and steps that suit it.

    Returns:
        accuracy on each test task, in percent.
    """
    net = untrained(seed, args)
    task = Namespace(ways=args.ways, shots=1)
    rule = choose_rule(net, draw("val", task, 200), only_head=False)
    walk = rule_walk(net, rule["lr"], only_head=False)
    tasks = draw("test", task, args.test_tasks)
    return 100 * accuracies(net, walk, tasks, steps=rule["steps"])[:, -1]


def learn(arm: str, seed: int, args: Namespace) -> tuple[Tensor, History]:
    """Train Reptile with one kind of inner batches; judge it.

    Returns:
        accuracy on each test task, in percent, and the history.
    """
    net = untrained(seed, args)
    loss_fn = functional_loss(net, F.cross_entropy)

    def judge(params, squares, split, n_tasks):
        walk = reptile.adam_walk(loss_fn, params, squares, lr=1e-3)
        task = Namespace(ways=args.ways, shots=1)
        tasks = draw(split, task, n_tasks)
        return 100 * accuracies(net, walk, tasks, steps=50)[:, -1]

    settings = Namespace(
        iterations=args.iterations, tasks=5, batch=BATCH, inner_lr=1e-3,
        meta_lr=1.0, anneal=True, seed=seed,
    )  # fmt: skip
    history, squares = reptile.train(
        net,
        partial(
            Episodes(load_omniglot("train"), args.ways, rotations=True).sample,
            k_shot=SHOTS - 1,
            k_query=1,
        ),
        settings,
        batches_of=lambda tasks, generator: cut_for(tasks, arm, generator),
        validate=lambda *state: judge(*state, "val", 25).mean(),
        checkpoint=BUILD / "reproduce" / f"inner_products_{arm}_{seed}.pt",
    )
    return judge(history.params, squares, "test", args.test_tasks), history


def train_and_judge(arm: str, seed: int, args: Namespace) -> dict[str, Any]:
    """Train and judge, or not train, one network.

    Args:
        arm: of `ARMS`, or "untrained".
        seed: of its first weights, tasks and batches.
        args: as the command has them.

    Returns:
        "accuracy" on each test task, in percent; "curve" on validation
        tasks; "alike", the mean cosines of `likeness`.
    """
    if arm == "untrained":
        found, curve = floor(seed, args), []
        net = untrained(seed, args)
        params = {k: p.detach() for k, p in net.named_parameters()}
    else:
        found, history = learn(arm, seed, args)
        curve = [[i, round(v, 2)] for i, v in history.validation]
        params = history.params
    loss_fn = functional_loss(
        CNN(args.ways, width=args.width), F.cross_entropy
    )
    with torch.no_grad():
        alike = likeness(loss_fn, params, pairs(args)).mean(0)
    print(f"{arm}, seed {seed}: {found.mean():.2f}, {alike}", flush=True)
    return {"accuracy": found, "curve": curve, "alike": alike}


def judged(arm: str, seed: int, args: Namespace) -> dict[str, Any]:
    """Give what `train_and_judge` found, now or in an earlier run."""
    names = ("ways", "iterations", "width", "test_tasks", "tasks")
    known = Known(
        BUILD / "reproduce" / f"inner_products_{arm}_{seed}_judged.pt",
        **{name: getattr(args, name) for name in names},
    )
    return known("judged", partial(train_and_judge, arm, seed, args))


def starts(args: Namespace) -> dict[str, Params]:
    """Collect θ: untrained, and of each method whose network is there."""
    torch.manual_seed(args.seed)
    found = {
        "untrained": {
            k: p.detach() for k, p in CNN(args.ways).named_parameters()
        }
    }
    for method in METHODS:
        infix = "" if method == "learned" else f"{method}_"
        path = CHECKPOINTS / f"omniglot_{infix}{args.ways}way_1shot.pt"
        if path.exists():
            found[method] = load_checkpoint(path)["params"]
    return found


def run(args: Namespace) -> None:
    """Measure, train, and write inner_products.json."""
    torch.set_num_threads(args.threads)
    rows, curves = [], []
    with torch.no_grad():
        for name, params in starts(args).items():
            known = Known(
                BUILD / "reproduce" / f"inner_products_{name}.pt",
                ways=args.ways,
                tasks=args.tasks,
                alpha=args.alpha,
                theta=described(params),
            )
            rows += known("rows", partial(measure, params, args, name))
            print(f"{name} measured", flush=True)
    seeds = range(args.seed, args.seed + args.seeds)
    means = {}
    for arm in ("untrained", *ARMS):
        states = [judged(arm, seed, args) for seed in seeds]
        for seed, state in zip(seeds, states):
            curves += [[arm, seed, *point] for point in state["curve"]]
        means[arm] = torch.stack([s["accuracy"].mean() for s in states])
        within, across = torch.stack([s["alike"] for s in states], 1)
        rows += [
            row_of_trainings(f"accuracy_{arm}", means[arm]),
            row_of_trainings(f"trained_{arm}_cosine_within", within, 3),
            row_of_trainings(f"trained_{arm}_cosine_across", across, 3),
        ]
    for other in ARMS[1:]:
        gap = means["different"] - means[other]
        rows.append(row_of_trainings(f"different_minus_{other}", gap))
    path = write_result(
        "inner_products",
        settings={k: v for k, v in vars(args).items() if not callable(v)},
        seed=args.seed,
        seconds=0.0,
        curve=curves,
        rows=rows,
    )
    print(path.read_text())
