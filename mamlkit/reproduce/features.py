"""ANIL's question: do features change in the inner loop, or are they reused?

Raghu et al. 2020 (arXiv:1909.09157), Sec. 3 and 5, asked of the networks that
`mamlkit reproduce omniglot --method ...` left, on the same test tasks: adapt
all layers, or the head alone; ask for the nearest class mean without any
inner loop; and measure how far the features move.
"""

from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import described, load_checkpoint
from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.inner import Params, functional_loss
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import Known, row, write_result
from mamlkit.reproduce.judge import CHUNK, Walk, accuracies, descent
from mamlkit.reproduce.methods import head_of, unpacked, walk_of
from mamlkit.reproduce.omniglot_settings import METHODS
from mamlkit.reproduce.training import build, draw
from mamlkit.tasks import Batch, Tasks, in_chunks, map_tasks

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the head, mean loss
MOST_STEPS = 100
LAYERS = ("conv1", "conv2", "conv3", "conv4", "mean", "logits")


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--ways", type=int, default=5, help="classes in a task")
    add("--shots", type=int, default=1, help="support examples a class")
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--test-tasks", type=int, default=1_000)
    add("--moved-tasks", type=int, default=200, help="whose features move")
    add("--threads", type=int, default=1)


def layers(net: nn.Module, params: Params, x: Tensor) -> list[Tensor]:
    """List what each layer of a `CNN` says of images.

    Args:
        net: a `CNN`.
        params: its weights.
        x: shape (examples, 1, 28, 28).

    Returns:
        four convolutions after their ReLU, the mean over the image, and the
        logits: (examples, features), one for each of `LAYERS`.
    """
    found = []
    for i, module in enumerate(net.body):
        start = f"body.{i}."
        own = {
            name.removeprefix(start): value
            for name, value in params.items()
            if name.startswith(start)
        }
        x = functional_call(module, own, (x,))
        if isinstance(module, nn.ReLU):
            found.append(x.flatten(1))
    means = x.mean(dim=(-2, -1))
    logits = F.linear(means, params["head.weight"], params["head.bias"])
    return [*found, means, logits]


def nearest_mean(
    net: nn.Module, walk: Walk, n_way: int, *, steps: int
) -> Callable[[Tasks], Tensor]:
    """Judge by the nearest class mean among the features, by their cosine.

    Args:
        net: a `CNN`.
        walk: whose θ, after `steps` inner steps, has the features.
        n_way: classes; a task lists the examples of one after another.
        steps: 0 for no inner loop at all.

    Returns:
        tasks -> share of right answers, shape (tasks,), transductive.
    """

    def one(support, query):
        params = deque(walk(support, steps), maxlen=1).pop()
        known = layers(net, params, support.x)[-2]
        asked = layers(net, params, query.x)[-2]
        means = known.unflatten(0, (n_way, -1)).mean(1)
        alike = F.normalize(asked, dim=-1) @ F.normalize(means, dim=-1).mT
        return (alike.argmax(-1) == query.y).float().mean()

    return lambda tasks: in_chunks(partial(map_tasks, one), tasks, CHUNK)


def alignment(before: Tensor, after: Tensor) -> Tensor:
    """Compare two sets of features by linear CKA, in [0, 1].

    Kornblith et al. 2019 (arXiv:1905.00414): 1 means the same up to a
    rotation and a scale.

    Args:
        before: shape (examples, features).
        after: shape (examples, other features), of the same examples.
    """

    def gram(x):
        x = x - x.mean(0)
        return x @ x.mT

    k, other = gram(before), gram(after)
    return (k * other).sum() / (k.norm() * other.norm())


def movement(
    net: nn.Module, walk: Walk, steps: int
) -> Callable[[Tasks], Tensor]:
    """Measure how the inner steps move the features of the queries.

    Returns:
        tasks -> (tasks, layers, 2): CKA, and the mean cosine of an example's
        features before and after.
    """

    def one(support, query):
        path = walk(support, steps)
        start = next(path)
        end = deque(path, maxlen=1).pop()
        pairs = zip(
            layers(net, start, query.x), layers(net, end, query.x)
        )  # fmt: skip
        return torch.stack([
            torch.stack([
                alignment(before, after),
                F.cosine_similarity(before, after).mean(),
            ])
            for before, after in pairs
        ])  # fmt: skip

    return lambda tasks: in_chunks(partial(map_tasks, one), tasks, 5)


def frozen(net: nn.Module, params: Params, tasks: Tasks) -> Tasks:
    """Put the features of θ's body in the place of each task's images.

    The body stays as it is, so one pass serves all steps of the head. The
    queries share one batch, as in the rest of the judging.
    """

    def one(support, query):
        sets = [layers(net, params, batch.x)[-2] for batch in (support, query)]
        return torch.cat(sets)

    both = in_chunks(partial(map_tasks, one), tasks, CHUNK)
    sizes = [part.y.shape[1] for part in tasks]
    found = both.split(sizes, dim=1)
    return Tasks(*(Batch(x, part.y) for x, part in zip(found, tasks)))


def head_walk(net: nn.Module, params: Params, lr: float) -> Walk:
    """Make the walk of the head alone, down the loss on features."""
    head = dict(zip(("weight", "bias"), map(params.get, head_of(params))))
    return descent(functional_loss(net.head, F.cross_entropy), head, lr)


def best_head(
    net: nn.Module, params: Params, tasks: Tasks
) -> tuple[Walk, int, dict]:
    """Choose rate and steps for a head on a frozen body.

    Args:
        net: the architecture.
        params: θ.
        tasks: of validation characters.

    Returns:
        its walk over features, the fewest steps among the best to a tenth of
        a percent (so of equally good rates the one that needs fewest), and
        what was tried: by rate, the best percentage and its steps.
    """
    known, tried = frozen(net, params, tasks), {}
    for lr in RATES:
        walk = head_walk(net, params, lr)
        means = accuracies(net.head, walk, known, steps=MOST_STEPS).mean(0)
        percents = [round(p, 1) for p in (100 * means).tolist()]
        tried[lr] = max(percents), percents.index(max(percents))
    # Of rates that are equally good, the one with the fewest steps.
    best = max(tried, key=lambda lr: (tried[lr][0], -tried[lr][1]))
    choice = {str(lr): list(found) for lr, found in tried.items()}
    walk = head_walk(net, params, best)
    return walk, tried[best][1], {"lr": best, "tried": choice}


def many_queries(args: Namespace) -> Tasks:
    """Draw test tasks with 15 queries a class, to compare features on."""
    return Episodes(load_omniglot("test"), args.ways, rotations=True).sample(
        args.moved_tasks,
        k_shot=args.shots,
        k_query=15,
        generator=torch.Generator().manual_seed(1_000_003),
    )


def of_method(
    method: str, state: dict[str, Any], args: Namespace
) -> tuple[list[dict], dict]:
    """Ask all questions of one method's network, as its checkpoint has it.

    Returns:
        rows, and what was chosen for the head alone.
    """
    net, steps = build("cnn", args.ways), state["steps"]
    walk = walk_of(method, net, state, Namespace(**state["settings"]))
    test = draw("test", args, args.test_tasks)
    val = draw("val", args, 2_000 // args.ways)
    tuned, head_steps, choice = best_head(net, state["params"], val)
    known = frozen(net, state["params"], test)
    whole = accuracies(net, walk, test, steps=steps)[:, -1]
    head = accuracies(net.head, tuned, known, steps=head_steps)[:, -1]
    means = nearest_mean(net, walk, args.ways, steps=0)(test)
    adapted = nearest_mean(net, walk, args.ways, steps=steps)(test)
    moved = movement(net, walk, steps)(many_queries(args))
    rows = [
        row(f"{method}_all_layers", 100 * whole),
        row(f"{method}_head_alone", 100 * head),
        row(f"{method}_nearest_mean", 100 * means),
        row(f"{method}_nearest_mean_adapted", 100 * adapted),
        # On the same tasks, so that the difference has its own interval.
        row(f"{method}_head_alone_minus_all", 100 * (head - whole)),
        row(f"{method}_nearest_mean_minus_all", 100 * (means - whole)),
    ]
    for i, layer in enumerate(LAYERS):
        rows.append(row(f"{method}_cka_{layer}", moved[:, i, 0]))
        rows.append(row(f"{method}_cosine_{layer}", moved[:, i, 1]))
    return rows, choice | {"steps": head_steps}


def floors(args: Namespace) -> list[dict]:
    """Judge nearest class means of an untrained network, and of pixels."""
    torch.manual_seed(args.seed)
    net = build("cnn", args.ways)
    params = {name: p.detach() for name, p in net.named_parameters()}
    walk = descent(functional_loss(net, F.cross_entropy), params, 0.0)
    test = draw("test", args, args.test_tasks)
    untrained = nearest_mean(net, walk, args.ways, steps=0)(test)

    def pixels(support, query):
        means = support.x.flatten(1).unflatten(0, (args.ways, -1)).mean(1)
        near = torch.cdist(query.x.flatten(1), means).argmin(-1)
        return (near == query.y).float().mean()

    found = map_tasks(pixels, test)
    return [
        row("untrained_nearest_mean", 100 * untrained),
        row("pixels_nearest_mean", 100 * found),
    ]


def run(args: Namespace) -> None:
    """Ask the networks that are there; write features_*way_*shot.json."""
    torch.set_num_threads(args.threads)
    rows, choices = floors(args), {}
    for method in args.methods:
        infix = "" if method == "learned" else f"{method}_"
        name = f"omniglot_{infix}{args.ways}way_{args.shots}shot"
        if (CHECKPOINTS / f"{name}.pt").exists():
            state = unpacked(load_checkpoint(CHECKPOINTS / f"{name}.pt"))
            known = Known(
                BUILD / "reproduce" / f"features_{name}.pt",
                theta=described(state["params"]),
                tasks=(args.test_tasks, args.moved_tasks),
                head_alone=(RATES, MOST_STEPS),
            )
            ask = partial(of_method, method, state, args)
            found, choices[method] = known("asked", ask)
            rows += found
            for each in found:
                print(each["name"], each["value"], flush=True)
    path = write_result(
        f"features_{args.ways}way_{args.shots}shot",
        settings={
            "ways": args.ways,
            "shots": args.shots,
            "test_tasks": args.test_tasks,
            "moved_tasks": args.moved_tasks,
            "head_alone": choices,
        },
        seed=args.seed,
        seconds=0.0,
        curve=[],
        rows=rows,
    )
    print(path.read_text())
