"""How long a second-order meta-iteration takes, against other libraries.

Every variant runs in a process of its own, and the variants take turns, so
that a slow moment of the machine hits all of them. Reported are medians over
the rounds and their ratio to `higher` (https://github.com/facebookresearch/
higher), which adapts to one task after the other. TorchOpt and JAX are timed
where they are installed. In the same run all gradients are compared.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import nn

from mamlkit.gradient import gradient_of
from mamlkit.inner import functional_loss
from mamlkit.models import CNN, MLP
from mamlkit.objectives import meta_loss
from mamlkit.reproduce import peers, write_result
from mamlkit.tasks import Batch, Sinusoids, Tasks

OURS = ("loop", "vmap", "compiled")
VARIANTS = ("higher", "torchopt", *OURS, "jax")
# name -> inner steps
PROBLEMS = {"sinusoid_1_step": 1, "sinusoid_5_steps": 5, "omniglot_1_step": 1}
# One, as libraries differ in what they give to a second.
THREADS = 1
# Of two gradients in float32, |g - ours| / |ours|.
AGREE = 1e-3

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


def with_ours(model, criterion, tasks, lr, steps, variant):
    """One meta-iteration's gradient with `meta_loss`."""
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


def prepare(name: str, variant: str) -> tuple[Callable, Callable]:
    """Make a variant of a problem, in the state that all begin from.

    Args:
        name: of `PROBLEMS`.
        variant: of `VARIANTS`; its library is installed.

    Returns:
        two functions without arguments: the first returns the meta-gradient
        as one vector, in the order of the model's parameters; the second does
        a whole meta-iteration, Adam's update included.
    """
    steps = PROBLEMS[name]
    model, criterion, tasks, lr = problem(name)
    if variant == "jax":
        by_name, iteration = peers.with_jax(model, criterion, tasks, lr, steps)

        def jax_vector():
            grads = by_name()
            names = [name for name, _ in model.named_parameters()]
            parts = [torch.tensor(grads[name].tolist()) for name in names]
            return torch.cat([part.flatten() for part in parts])

        return jax_vector, iteration
    if variant in OURS:
        add = with_ours(model, criterion, tasks, lr, steps, variant)
    else:
        with_peer = getattr(peers, f"with_{variant}")
        add = with_peer(model, criterion, tasks, lr, steps)
    # TorchOpt exchanges the model's parameters for adapted ones.
    params = list(model.parameters())
    optimizer = torch.optim.Adam(params, lr=1e-3, fused=True)

    def vector():
        optimizer.zero_grad()
        add()
        return torch.cat([p.grad.flatten() for p in params])

    def iteration():
        optimizer.zero_grad()
        add()
        optimizer.step()

    return vector, iteration


def compare(name: str, variants: Sequence[str]) -> dict[str, float]:
    """Compare the variants' first meta-gradients with our loop's.

    Returns:
        variant -> |g - ours| / |ours|.

    Raises:
        ValueError: a gradient is another one.
    """
    ours = prepare(name, "loop")[0]()
    found = {}
    for variant in variants:
        gradient = prepare(name, variant)[0]()
        found[variant] = float((gradient - ours).norm() / ours.norm())
        # Not `>`, which lets NaN pass.
        if not found[variant] < AGREE:
            raise ValueError(
                f"{name}: the gradient of {variant} differs from ours by "
                f"{found[variant]:.1e} of its length, more than {AGREE}"
            )
    return found


def measure(name: str, variant: str, seconds: float = 3.0) -> float:
    """Median milliseconds of a meta-iteration, Adam's update included."""
    torch.set_num_threads(THREADS)
    if variant == "jax":
        peers.use_threads(THREADS)
    _, iteration = prepare(name, variant)
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
    absent = peers.missing(VARIANTS)
    if absent:
        print(f"left out, as not installed: {', '.join(absent)}", flush=True)
    variants = [v for v in VARIANTS if v not in absent]
    # As those who measure, so that they find compiled what this compiles.
    torch.set_num_threads(THREADS)
    for name in args.problems:
        differences = compare(name, variants)
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
                    "threads": THREADS,
                    "gradient_differs_by": float(
                        f"{differences[variant]:.1e}"
                    ),
                }
            )
            print(
                f"{rows[-1]['name']:28s} {middle:9.2f} ms  "
                f"{base / middle:6.1f} x  "
                f"gradient differs by {differences[variant]:.0e}",
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
