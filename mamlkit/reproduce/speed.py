"""How long a second-order meta-iteration takes, against `higher`.

Every variant runs in a process of its own, and the variants take turns, so
that a slow moment of the machine hits all of them. Reported are medians over
the rounds and their ratio to `higher` (https://github.com/facebookresearch/
higher), which adapts to one task after the other.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from functools import partial
from statistics import median

import torch
from torch import nn

from mamlkit.gradient import gradient_of
from mamlkit.inner import functional_loss
from mamlkit.models import CNN, MLP
from mamlkit.objectives import meta_loss
from mamlkit.reproduce import write_result
from mamlkit.tasks import Batch, Sinusoids, Tasks

# name -> (inner steps, threads, variants)
PROBLEMS = {
    "sinusoid_1_step": (1, 1, ("higher", "loop", "vmap", "compiled")),
    "sinusoid_5_steps": (5, 1, ("higher", "loop", "vmap", "compiled")),
    "omniglot_1_step": (1, 2, ("higher", "loop", "vmap", "compiled")),
}

# Without this glibc hands large tensors back to the system, which zeroes their
# pages anew at every iteration, which batched tasks pay for most.
KEEP_MEMORY = (
    "glibc.malloc.hugetlb=1"
    ":glibc.malloc.mmap_threshold=2000000000"
    ":glibc.malloc.trim_threshold=2000000000"
)


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))


def problem(name: str) -> tuple[nn.Module, nn.Module, Tasks, float]:
    """Model, criterion, tasks and α of a problem.

    25 waves of 10 + 10 points, or 32 tasks 5-way 1-shot with 1 query image
    a class. The images are noise: their content does not change the time.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    if name.startswith("sinusoid"):
        tasks = Sinusoids().sample(
            25, k_shot=10, k_query=10, generator=generator
        )
        return MLP(), nn.MSELoss(), tasks, 0.01
    y = torch.arange(5).expand(32, 5)
    support, query = (
        Batch(torch.rand(32, 5, 1, 28, 28, generator=generator), y)
        for _ in range(2)
    )
    return CNN(5), nn.CrossEntropyLoss(), Tasks(support, query), 0.4


def with_higher(model, criterion, tasks, lr, steps):
    """One meta-iteration's gradient with `higher`, task by task."""
    import higher

    inner = torch.optim.SGD(model.parameters(), lr=lr)

    def meta_gradient():
        for i in range(len(tasks.support.x)):
            support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
            with higher.innerloop_ctx(
                model, inner, copy_initial_weights=False
            ) as (fast, optimizer):
                for _ in range(steps):
                    optimizer.step(criterion(fast(support.x), support.y))
                loss = criterion(fast(query.x), query.y)
                (loss / len(tasks.support.x)).backward()

    return meta_gradient


def with_ours(model, criterion, tasks, lr, steps, variant):
    """The same with `meta_loss`."""
    loss_fn = functional_loss(model, criterion)
    objective = partial(
        meta_loss,
        lr=lr,
        steps=steps,
        over_tasks="loop" if variant == "loop" else "vmap",
    )
    compiled = gradient_of(objective, compile=True)
    params = dict(model.named_parameters())
    constants = {name: p.detach() for name, p in params.items()}

    def meta_gradient():
        if variant == "compiled":
            grads, _ = compiled(constants, loss_fn, tasks)
            for name, p in params.items():
                p.grad = grads[name]
        else:
            objective(params, loss_fn, tasks).backward()

    return meta_gradient


def measure(name: str, variant: str, seconds: float = 3.0) -> float:
    """Median milliseconds of a meta-iteration, Adam's update included."""
    steps, threads, _ = PROBLEMS[name]
    torch.set_num_threads(threads)
    model, criterion, tasks, lr = problem(name)
    if variant == "higher":
        gradient = with_higher(model, criterion, tasks, lr, steps)
    else:
        gradient = with_ours(model, criterion, tasks, lr, steps, variant)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def iteration():
        optimizer.zero_grad()
        gradient()
        optimizer.step()

    for _ in range(3):
        iteration()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begun = time.perf_counter()
        iteration()
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def run(args: Namespace) -> None:
    """Let the variants take turns; write speed.json."""
    begun, rows = time.perf_counter(), []
    for name in args.problems:
        steps, threads, variants = PROBLEMS[name]
        found = {variant: [] for variant in variants}
        for _ in range(args.rounds):
            for variant in variants:
                code = (
                    "from mamlkit.reproduce.speed import measure; "
                    f"print(measure({name!r}, {variant!r}))"
                )
                child = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", code],
                    env=os.environ | {"GLIBC_TUNABLES": KEEP_MEMORY},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found[variant].append(float(child.stdout.split()[-1]))
        base = median(found["higher"])
        for variant, times in found.items():
            middle = median(times)
            rows.append(
                {
                    "name": f"{name}_{variant}",
                    "value": round(middle, 3),
                    "interval": round((max(times) - min(times)) / 2, 3),
                    "n": args.rounds,
                    "paper": None,
                    "times_faster_than_higher": round(base / middle, 2),
                    "threads": threads,
                }
            )
            print(
                f"{rows[-1]['name']:28s} {middle:9.2f} ms  "
                f"{base / middle:6.1f} x",
                flush=True,
            )
    write_result(
        "speed",
        settings={"rounds": args.rounds, "unit": "ms, interval: half range"},
        seed=0,
        seconds=time.perf_counter() - begun,
        curve=[],
        rows=rows,
    )
