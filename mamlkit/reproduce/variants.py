"""What the variants of MAML lose on Omniglot, at 5 and at 20 ways, 1 shot.

The same network, tasks, rates and constant Adam for all; nothing is tuned
for any of them. Each training is judged 20 times on the same test tasks, so
that one curve compares at equal iterations and at equal seconds.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.datasets.omniglot import load_omniglot
from mamlkit.episodes import Episodes
from mamlkit.evaluate import adaptation_curve, functional_accuracy
from mamlkit.implicit import imaml_loss, proximal_loss
from mamlkit.inner import Params, functional_loss
from mamlkit.models import CNN
from mamlkit.objectives import anil_loss, meta_loss, reptile_loss
from mamlkit.outer import History, meta_train
from mamlkit.paths import BUILD
from mamlkit.reproduce import row, write_result
from mamlkit.reproduce.judge import CHUNK
from mamlkit.tasks import Tasks, in_chunks

HEAD = ("head.weight", "head.bias")
NAMES = ("maml", "fomaml", "reptile", "anil", "imaml")


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--ways", type=int, default=5, help="classes in a task")
    add("--seeds", type=int, default=3, help="trainings of each variant")
    add("--variants", nargs="+", choices=NAMES, default=NAMES)
    add("--iterations", type=int, default=1_000)
    add("--tasks", type=int, default=4, help="tasks an iteration")
    add("--queries", type=int, default=3, help="query examples a class")
    add("--steps", type=int, default=3, help="inner steps, also at test")
    add("--inner-lr", type=float, default=0.4, help="α, for the mean loss")
    add("--meta-lr", type=float, default=1e-3, help="β")
    add("--cg-steps", type=int, default=2, help="of iMAML; λ is 1/(α steps)")
    add("--test-tasks", type=int, default=200)
    add("--threads", type=int, default=1)


def objective(name: str, args: Namespace) -> Callable[..., Tensor]:
    """Look up what Adam follows."""
    reach = args.inner_lr * args.steps
    return {
        "maml": meta_loss,
        "fomaml": meta_loss,  # told to be first order by meta_train
        "reptile": reptile_loss,
        "anil": partial(anil_loss, adapted=HEAD),
        "imaml": partial(
            imaml_loss, strength=1 / reach, cg_steps=args.cg_steps
        ),
    }[name]


def accuracies(
    name: str, params: Params, tasks: Tasks, args: Namespace
) -> Tensor:
    """Adapt as in training and judge, transductively, in percent: (tasks,)."""
    model = CNN(args.ways)
    loss_fn = functional_loss(model, F.cross_entropy)
    body_lr = 0.0 if name == "anil" else args.inner_lr
    rates = {k: args.inner_lr if k in HEAD else body_lr for k in params}
    if name == "imaml":
        reach = args.inner_lr * args.steps
        loss_fn = proximal_loss(loss_fn, params, strength=1 / reach)
    judge = partial(
        adaptation_curve, params, loss_fn, functional_accuracy(model)
    )
    judge = partial(judge, lr=rates, steps=args.steps)
    return 100 * in_chunks(judge, tasks, CHUNK)[:, -1]


def train(
    name: str, seed: int, tests: Tasks, args: Namespace
) -> tuple[History, float]:
    """Train one variant, resumably; return what happened, and its speed.

    Returns:
        history, whose validation holds accuracies on `tests`, and seconds
        of processor time per iteration, which other programs disturb less.
    """
    stem = f"variants_{args.ways}way_{name}_{seed}"
    images = load_omniglot("train")
    sample = Episodes(images, args.ways, rotations=True).sample

    def run(iterations, **more):
        torch.manual_seed(seed)
        return meta_train(
            CNN(args.ways),
            partial(sample, k_shot=1, k_query=args.queries),
            criterion=F.cross_entropy,
            inner_lr=args.inner_lr,
            meta_lr=args.meta_lr,
            n_tasks=args.tasks,
            iterations=iterations,
            steps=args.steps,
            objective=objective(name, args),
            first_order=name == "fomaml",
            generator=torch.Generator().manual_seed(seed),
            **more,
        )

    def validate(params):
        percent = accuracies(name, params, tests, args).mean().item()
        print(f"{time.strftime('%H:%M')} {stem}: {percent:.2f}", flush=True)
        return percent

    few = min(20, args.iterations)
    begun = time.process_time()
    run(few)
    pace = (time.process_time() - begun) / few
    history = run(
        args.iterations,
        validate=validate,
        checkpoint=BUILD / "reproduce" / f"{stem}.pt",
    )
    return history, pace


def run(args: Namespace) -> None:
    """Train all variants with all seeds; write variants_{ways}way.json."""
    torch.set_num_threads(args.threads)
    images = load_omniglot("test")
    tests = Episodes(images, args.ways, rotations=True).sample(
        args.test_tasks,
        k_shot=1,
        k_query=1,
        generator=torch.Generator().manual_seed(1_000_001),
    )
    seeds = range(args.seed, args.seed + args.seeds)
    found = {
        name: [train(name, seed, tests, args) for seed in seeds]
        for name in args.variants
    }
    # All seeds of a variant cost the same, so its pace is their mean.
    paces = {
        name: sum(pace for _, pace in runs) / len(runs)
        for name, runs in found.items()
    }
    budget = args.iterations * min(paces.values())
    rows, curve = [], []
    for name, runs in found.items():
        at_end, in_time = [], []
        for seed, (history, _) in zip(seeds, runs):
            accuracy = accuracies(name, history.params, tests, args)
            rows.append(row(f"{name}_seed{seed}", accuracy))
            at_end.append(accuracy.mean())
            points = [(i, i * paces[name], v) for i, v in history.validation]
            curve += [
                [name, seed, i, round(s, 1), round(v, 2)] for i, s, v in points
            ]
            in_time.append(
                max((s, v) for _, s, v in points if s <= 1.001 * budget)[1]
            )
        if len(runs) > 1:
            rows += [
                row(f"{name}_equal_iterations", torch.stack(at_end)),
                row(f"{name}_equal_seconds", torch.tensor(in_time)),
            ]
    path = write_result(
        f"variants_{args.ways}way",
        settings={k: v for k, v in vars(args).items() if not callable(v)}
        | {
            "ms_per_iteration": {
                k: round(1000 * v, 1) for k, v in paces.items()
            }
        },
        seed=args.seed,
        seconds=sum(h.seconds for runs in found.values() for h, _ in runs),
        curve=curve,
        rows=rows,
    )
    print(path.read_text())
