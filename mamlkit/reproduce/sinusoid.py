"""The sinusoid experiment of Finn et al. 2017, Sec. 5.1 and Table 2.

MAML on the 40-40 network, 25 tasks an iteration, one inner step, Adam 1e-3;
beside it pretraining on all tasks and an untrained network, each with a
fine-tuning rate chosen on validation tasks, and the oracle that is told
amplitude and phase.

Errors have a heavy tail: on one task in thousands the steps grow without
bound, and one such task makes a mean of any size. So a rate is chosen among
those that explode on no validation task, and beside each mean, which is what
the paper gives, stand the median, a trimmed mean, and the share of test
tasks that exploded.
"""

import math
from argparse import ArgumentParser, Namespace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.evaluate import adaptation_curve
from mamlkit.inner import Params, functional_loss
from mamlkit.models import MLP
from mamlkit.outer import meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import read_result, row, write_result
from mamlkit.tasks import Sinusoids, in_chunks

INNER_LRS = (0.01, 0.001)  # the paper's text, the authors' code
FINE_TUNING_LRS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
EXPLODED = 100.0  # an error four times the largest of predicting 0, or more
TRIMMED = 0.01  # of the tasks, those with the largest errors
MOST = torch.finfo(torch.float32).max
CHUNK = 2_000  # tasks judged at once
# Table 2, 5-shot mean squared error after 1, 5 and 10 steps.
PAPER = {
    "mse_5shot": {1: 0.67, 5: 0.38, 10: 0.35},
    "pretrained_mse_5shot": {1: 2.41, 5: 2.23, 10: 2.19},
}


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--k-shot", type=int, default=10)
    parser.add_argument("--validation-tasks", type=int, default=20_000)
    parser.add_argument("--test-tasks", type=int, default=20_000)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument(
        "--judge",
        action="store_true",
        help="train only what data/checkpoints/sinusoid.pt does not have",
    )


def train(
    args: Namespace, name: str, lr: float, steps: int
) -> tuple[Params, list[float], float]:
    """Train one starting point; `steps=0` is joint training on all tasks.

    Returns:
        θ, the losses by iteration, the seconds that it took.
    """
    family = Sinusoids(oracle=name == "oracle")
    torch.manual_seed(args.seed)
    model = MLP(in_features=3 if family.oracle else 1)
    history = meta_train(
        model,
        partial(family.sample, k_shot=args.k_shot, k_query=args.k_shot),
        criterion=F.mse_loss,
        inner_lr=lr,
        meta_lr=1e-3,
        n_tasks=25,
        iterations=args.iterations,
        generator=torch.Generator().manual_seed(args.seed),
        steps=steps,
        checkpoint=BUILD / "reproduce" / f"sinusoid_{name}.pt",
        compile=not args.no_compile,
    )
    print(f"{name}: {history.seconds:.0f} s", flush=True)
    return history.params, history.loss, history.seconds


def curve(
    params: Params, lr: float, k_shot: int, n_tasks: int, seed: int
) -> Tensor:
    """Test error of `params` on fresh waves, shape (tasks, 11 steps).

    An error too large for float32 counts as the largest number there is.
    """
    loss_fn = functional_loss(MLP(), F.mse_loss)
    tasks = Sinusoids().sample(
        n_tasks,
        k_shot=k_shot,
        k_query=100,
        generator=torch.Generator().manual_seed(seed),
    )
    judge = partial(adaptation_curve, params, loss_fn, loss_fn)
    judge = partial(judge, lr=lr, steps=10)
    return in_chunks(judge, tasks, CHUNK).nan_to_num(MOST, posinf=MOST)


def summaries(
    name: str, values: Tensor, paper: float | None = None
) -> list[dict]:
    """Make the rows of one error: mean, median, trimmed mean, explosions.

    Args:
        name: of the mean; the others' begin with it.
        values: error of each task, shape (tasks,).
        paper: the published mean.

    Returns:
        rows `name`, `name_median` (its interval from the order of the
        errors), `name_trimmed` (without the largest hundredth) and
        `name_exploded` (percent of the tasks).
    """
    n = len(values)
    ordered = values.double().sort().values
    middle, reach = (n - 1) / 2, 1.96 * n**0.5 / 2
    low, high = ordered[[round(middle - reach), round(middle + reach)]]
    median = {
        "name": f"{name}_median",
        "value": round(values.double().median().item(), 4),
        "interval": round((high - low).item() / 2, 4),
        "n": n,
        "paper": None,
    }
    kept = ordered[: n - round(TRIMMED * n)]
    # The error of a trimmed mean is that of all, cut off where it was.
    spread = ordered.clamp(max=kept[-1]).std().item() / (1 - TRIMMED)
    trimmed = row(f"{name}_trimmed", kept) | {
        "interval": round(1.96 * spread / n**0.5, 4),
        "n": n,
    }
    exploded = 100 * (ordered > EXPLODED).double()
    return [
        row(name, values, paper),
        median,
        trimmed,
        row(f"{name}_exploded", exploded),
    ]


def rows(prefix: str, params: Params, lr: float, n_tasks: int) -> list[dict]:
    """Rows after 1, 5 and 10 steps with 5, 10 and 20 shots."""
    found = []
    for k_shot in (5, 10, 20):
        values = curve(params, lr, k_shot, n_tasks, seed=1_000_001)
        name = f"{prefix}mse_{k_shot}shot"
        for steps in (1, 5, 10):
            paper = PAPER.get(name, {}).get(steps)
            found += summaries(
                f"{name}_after_{steps}", values[:, steps], paper
            )
    return found


def floors(n_tasks: int) -> list[dict]:
    """Rows of what knows no task: predicting 0, and the best blind answer.

    The latter is E[A] E[sin(x - φ)] = -(2/π) 2.55 cos x.
    """
    query = Sinusoids().sample(
        n_tasks,
        k_shot=1,
        k_query=100,
        generator=torch.Generator().manual_seed(1_000_001),
    ).query  # fmt: skip
    blind = -2 / math.pi * 2.55 * query.x.cos()
    return [
        row("zero_mse", query.y.square().mean((1, 2))),
        row("blind_mse", (query.y - blind).square().mean((1, 2))),
    ]


def validation(params: Params, lr: float, n_tasks: int) -> tuple[float, float]:
    """Judge a rate on tasks that no test uses: 5 shots, 10 steps.

    Returns:
        the mean error without the largest hundredth, and the share of tasks
        that exploded.
    """
    errors = curve(params, lr, 5, n_tasks, seed=1_000_002)[:, 10].double()
    kept = errors.sort().values[: n_tasks - round(TRIMMED * n_tasks)]
    share = (errors > EXPLODED).double().mean()
    return kept.mean().item(), share.item()


def choose(tried: dict[float, tuple[float, float]]) -> float:
    """Choose the rate with the smallest error of those that never explode.

    Args:
        tried: rate -> what `validation` says.

    Raises:
        ValueError: all explode on some task.
    """
    calm = {lr: error for lr, (error, share) in tried.items() if share == 0}
    if not calm:
        raise ValueError(f"every rate explodes: try some below {min(tried)}")
    return min(calm, key=calm.get)


def stored() -> dict[str, Params]:
    """Read the starting points that there are, by `train`'s names."""
    state = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
    names = {
        "maml": f"maml_{state['inner_lr']}",
        "maml_other": f"maml_{state.get('other_inner_lr')}",
    }
    return {
        names.get(key, key): value
        for key, value in state.items()
        if isinstance(value, dict)
    }


def run(args: Namespace) -> None:
    """Train, evaluate, and write sinusoid.json and sinusoid.pt."""
    torch.set_num_threads(1)  # tensors this small do not gain from more
    kept, history = (stored(), read_result("sinusoid")) if args.judge else (
        {}, {}
    )  # fmt: skip
    trained = {}
    for name, lr in (
        *((f"maml_{lr}", lr) for lr in INNER_LRS),
        ("pretrained", 0.0),
        ("oracle", 0.0),
    ):
        trained[name] = (
            (kept[name], history["curve"], history["seconds"])
            if name in kept
            else train(args, name, lr, steps=int(lr > 0))
        )
    thetas = {name: found[0] for name, found in trained.items()}
    torch.manual_seed(args.seed)
    thetas["untrained"] = {
        name: p.detach() for name, p in MLP().named_parameters()
    }

    judged = partial(validation, n_tasks=args.validation_tasks)
    choices = {
        "maml": {lr: judged(thetas[f"maml_{lr}"], lr) for lr in INNER_LRS}
    }
    for name in ("pretrained", "untrained"):
        tried = {lr: judged(thetas[name], lr) for lr in FINE_TUNING_LRS}
        choices[name] = tried
    best, fine_tuning_lr, untrained_lr = map(choose, choices.values())
    other = next(lr for lr in INNER_LRS if lr != best)
    chosen, losses, seconds = trained[f"maml_{best}"]

    told = Sinusoids(oracle=True).sample(
        args.test_tasks,
        k_shot=1,
        k_query=100,
        generator=torch.Generator().manual_seed(1_000_001),
    )
    loss_fn = functional_loss(MLP(in_features=3), F.mse_loss)
    oracle_mse = adaptation_curve(
        thetas["oracle"], loss_fn, loss_fn, told, lr=0.0, steps=0
    )[:, 0]
    judge = partial(rows, n_tasks=args.test_tasks)
    path = write_result(
        "sinusoid",
        settings={k: v for k, v in vars(args).items() if not callable(v)}
        | {
            "inner_lr": best,
            "fine_tuning_lr": fine_tuning_lr,
            "untrained_lr": untrained_lr,
            "exploded": EXPLODED,
            "trimmed": TRIMMED,
            "validation": {
                f"{name}, lr {lr}": [float(f"{x:.4g}") for x in found]
                for name, tried in choices.items()
                for lr, found in tried.items()
            },
        },
        seed=args.seed,
        seconds=seconds,
        curve=thinned(losses),
        rows=[
            *judge("", chosen, best),
            *judge("pretrained_", thetas["pretrained"], fine_tuning_lr),
            *judge("untrained_", thetas["untrained"], untrained_lr),
            row("oracle_mse", oracle_mse),
            *floors(args.test_tasks),
            *judge(f"inner_lr_{other}_", thetas[f"maml_{other}"], other),
        ],
    )
    save_checkpoint(
        CHECKPOINTS / "sinusoid.pt",
        {
            "maml": chosen,
            "maml_other": thetas[f"maml_{other}"],
            "pretrained": thetas["pretrained"],
            "oracle": thetas["oracle"],
            "inner_lr": best,
            "other_inner_lr": other,
            "fine_tuning_lr": fine_tuning_lr,
        },
    )
    print(path.read_text())


def thinned(losses: list) -> list:
    """Average a training's losses to some 200 (iteration, loss) pairs.

    What is stored has been averaged.
    """
    if losses and isinstance(losses[0], list):
        return losses
    every = max(1, len(losses) // 200)
    means = torch.tensor(losses)[: len(losses) // every * every]
    means = means.reshape(-1, every).mean(1).tolist()
    return [[(i + 1) * every, round(m, 4)] for i, m in enumerate(means)]
