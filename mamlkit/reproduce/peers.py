"""Other libraries' meta-gradients, for `mamlkit reproduce speed`.

Each takes the model, criterion, tasks, α and steps of `speed.problem` and
returns a function without arguments. Those in PyTorch add to the parameters'
`.grad`; JAX keeps parameters and optimizer to itself.
"""

import os
from importlib.util import find_spec

import torch
from torch import nn

from mamlkit.tasks import Batch

# Not a part of any extra: timed where somebody has installed them.
OPTIONAL = ("torchopt", "jax")


def missing(variants: tuple[str, ...]) -> list[str]:
    """List those optional variants whose library is not installed."""
    return [v for v in variants if v in OPTIONAL and not find_spec(v)]


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


def with_torchopt(model, criterion, tasks, lr, steps):
    """The same with TorchOpt's differentiable optimizer, as in its example."""
    import torchopt

    inner = torchopt.MetaSGD(model, lr=lr)
    # Once: each is a view, and a view of views would grow with the iterations.
    start = torchopt.extract_state_dict(model, by="reference")
    rates = torchopt.extract_state_dict(inner, by="reference")

    def meta_gradient():
        for i in range(len(tasks.support.x)):
            support, query = (Batch(b.x[i], b.y[i]) for b in tasks)
            for _ in range(steps):
                inner.step(criterion(model(support.x), support.y))
            loss = criterion(model(query.x), query.y)
            (loss / len(tasks.support.x)).backward()
            torchopt.recover_state_dict(model, start)
            torchopt.recover_state_dict(inner, rates)

    return meta_gradient


def use_threads(count: int) -> None:
    """Let JAX see `count` cores, as it takes a thread for each; Linux only."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:count])


def with_jax(model, criterion, tasks, lr, steps):
    """Make JAX's compiled meta-gradient and meta-iteration.

    Returns:
        two functions without arguments: the first returns the gradient by
        name, as arrays, at the parameters of now; the second takes a step of
        Adam (β = 0.001) and waits for it.
    """
    import jax
    from jax import numpy as jnp

    params = {k: jnp.array(p.detach()) for k, p in model.named_parameters()}
    batches = [[jnp.array(part) for part in batch] for batch in tasks]
    classify = isinstance(criterion, nn.CrossEntropyLoss)
    predict = _cnn if classify else _mlp

    def loss_fn(params, x, y):
        out = predict(jax, params, x)
        if not classify:
            return jnp.mean((out - y) ** 2)
        logs = jax.nn.log_softmax(out)
        return -jnp.take_along_axis(logs, y[:, None], axis=1).mean()

    def after_steps(params, support, query):
        for _ in range(steps):
            grads = jax.grad(loss_fn)(params, *support)
            params = {k: p - lr * grads[k] for k, p in params.items()}
        return loss_fn(params, *query)

    def objective(params, support, query):
        batched = jax.vmap(after_steps, (None, 0, 0))
        return batched(params, support, query).mean()

    @jax.jit
    def update(params, first, second, count, support, query):
        grads = jax.grad(objective)(params, support, query)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(
            lambda v, g: 0.999 * v + 1e-3 * g * g, second, grads
        )
        scale = jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = {
            k: p - 1e-3 * scale * first[k] / (jnp.sqrt(second[k]) + 1e-8)
            for k, p in params.items()
        }
        return params, first, second, count + 1

    gradient = jax.jit(jax.grad(objective))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros, jnp.array(1.0))

    def iteration():
        nonlocal state
        state = jax.block_until_ready(update(*state, *batches))

    return lambda: gradient(state[0], *batches), iteration


def _mlp(jax, params, x):
    """`MLP()`: three layers, called 1, 3 and 5."""
    for name in "135":
        x = x @ params[f"{name}.weight"].T + params[f"{name}.bias"]
        x = x if name == "5" else jax.nn.relu(x)
    return x


def _cnn(jax, params, x):
    """`CNN(5)`, its convolutions as products with patches.

    Under `vmap` over weights `lax.conv` is a grouped convolution, for which
    XLA has no fast code on a CPU.
    """
    for layer in (0, 3, 6, 9):
        weight = params[f"body.{layer}.weight"]
        patches = jax.lax.conv_general_dilated_patches(
            x, (3, 3), (2, 2), ((1, 1), (1, 1))
        )
        flat = weight.reshape(len(weight), -1)
        x = jax.numpy.einsum("ok,nkhw->nohw", flat, patches)
        x = x - x.mean((0, 2, 3), keepdims=True)
        variance = (x * x).mean((0, 2, 3), keepdims=True)
        x = x / jax.numpy.sqrt(variance + 1e-5)
        x = x + params[f"body.{layer + 1}.shift"][:, None, None]
        x = jax.nn.relu(x)
    return x.mean((2, 3)) @ params["head.weight"].T + params["head.bias"]
