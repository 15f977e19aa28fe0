"""The sinusoid experiment of Finn et al. 2017, Sec. 5.1 and Table 2.

MAML on the 40-40 network, 25 tasks an iteration, one inner step, Adam 1e-3;
beside it pretraining on all tasks with a fine-tuning rate chosen on
validation tasks, and the oracle that is told amplitude and phase.
"""

import math
from argparse import ArgumentParser, Namespace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.checkpoint import save_checkpoint
from mamlkit.evaluate import adaptation_curve
from mamlkit.inner import Params, functional_loss
from mamlkit.models import MLP
from mamlkit.outer import History, meta_train
from mamlkit.paths import BUILD, CHECKPOINTS
from mamlkit.reproduce import row, write_result
from mamlkit.tasks import Sinusoids

INNER_LRS = (0.01, 0.001)  # the paper's text, the authors' code
FINE_TUNING_LRS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# Table 2, 5-shot mean squared error after 1, 5 and 10 steps.
PAPER = {
    "mse_5shot": {1: 0.67, 5: 0.38, 10: 0.35},
    "pretrained_mse_5shot": {1: 2.41, 5: 2.23, 10: 2.19},
}


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    parser.add_argument("--iterations", type=int, default=70_000)
    parser.add_argument("--k-shot", type=int, default=10)
    parser.add_argument("--test-tasks", type=int, default=2_000)
    parser.add_argument("--no-compile", action="store_true")


def train(args: Namespace, name: str, lr: float, steps: int) -> History:
    """Train one starting point; `steps=0` is joint training on all tasks."""
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
    return history


def curve(
    params: Params, lr: float, k_shot: int, n_tasks: int, seed: int
) -> Tensor:
    """Test error of `params` on fresh waves, shape (tasks, 11 steps)."""
    loss_fn = functional_loss(MLP(), F.mse_loss)
    tasks = Sinusoids().sample(
        n_tasks,
        k_shot=k_shot,
        k_query=100,
        generator=torch.Generator().manual_seed(seed),
    )
    return adaptation_curve(params, loss_fn, loss_fn, tasks, lr=lr, steps=10)


def rows(prefix: str, params: Params, lr: float, n_tasks: int) -> list[dict]:
    """Rows after 1, 5 and 10 steps with 5, 10 and 20 shots."""
    found = []
    for k_shot in (5, 10, 20):
        values = curve(params, lr, k_shot, n_tasks, seed=1_000_001)
        name = f"{prefix}mse_{k_shot}shot"
        for steps in (1, 5, 10):
            paper = PAPER.get(name, {}).get(steps)
            found.append(row(f"{name}_after_{steps}", values[:, steps], paper))
    return found


def validation(params: Params, lr: float) -> float:
    """5-shot error after 10 steps on 1,000 tasks that no test uses."""
    mse = curve(params, lr, 5, 1_000, seed=1_000_002)[:, 10].mean().item()
    return mse if math.isfinite(mse) else math.inf


def run(args: Namespace) -> None:
    """Train, evaluate, and write sinusoid.json and sinusoid.pt."""
    torch.set_num_threads(1)  # tensors this small do not gain from more
    maml = {lr: train(args, f"maml_{lr}", lr, steps=1) for lr in INNER_LRS}
    pretrained = train(args, "pretrained", 0.0, steps=0)
    oracle = train(args, "oracle", 0.0, steps=0)

    choices = {
        f"maml, inner_lr {lr}": validation(history.params, lr)
        for lr, history in maml.items()
    }
    best = min(maml, key=lambda lr: choices[f"maml, inner_lr {lr}"])
    tuned = {lr: validation(pretrained.params, lr) for lr in FINE_TUNING_LRS}
    fine_tuning_lr = min(tuned, key=tuned.get)
    choices |= {f"pretrained, lr {lr}": mse for lr, mse in tuned.items()}

    chosen = maml[best]
    told = Sinusoids(oracle=True).sample(
        args.test_tasks,
        k_shot=1,
        k_query=100,
        generator=torch.Generator().manual_seed(1_000_001),
    )
    loss_fn = functional_loss(MLP(in_features=3), F.mse_loss)
    oracle_mse = adaptation_curve(
        oracle.params, loss_fn, loss_fn, told, lr=0.0, steps=0
    )[:, 0]
    every = max(1, args.iterations // 200)
    losses = torch.tensor(chosen.loss)[: args.iterations // every * every]
    means = losses.reshape(-1, every).mean(1).tolist()
    other = next(lr for lr in INNER_LRS if lr != best)
    path = write_result(
        "sinusoid",
        settings=vars(args)
        | {
            "inner_lr": best,
            "fine_tuning_lr": fine_tuning_lr,
            # None where some task diverged, which JSON has no number for
            "validation_mse": {
                k: round(v, 4) if math.isfinite(v) else None
                for k, v in choices.items()
            },
        },
        seed=args.seed,
        seconds=chosen.seconds,
        curve=[[(i + 1) * every, round(m, 4)] for i, m in enumerate(means)],
        rows=[
            *rows("", chosen.params, best, args.test_tasks),
            *rows(
                "pretrained_",
                pretrained.params,
                fine_tuning_lr,
                args.test_tasks,
            ),
            row("oracle_mse", oracle_mse),
            *rows(
                f"inner_lr_{other}_",
                maml[other].params,
                other,
                args.test_tasks,
            ),
        ],
    )
    save_checkpoint(
        CHECKPOINTS / "sinusoid.pt",
        {
            "maml": chosen.params,
            "pretrained": pretrained.params,
            "oracle": oracle.params,
            "inner_lr": best,
            "fine_tuning_lr": fine_tuning_lr,
        },
    )
    print(path.read_text())
