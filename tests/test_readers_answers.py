"""What readers hand in: right answers in odd forms, wrong ones in disguise."""

import copy
from collections import OrderedDict
from fractions import Fraction
from functools import partial, reduce

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

from mamlkit import Batch, Tasks, adapt, map_tasks, meta_loss
from mamlkit.exercises import find_exercise
from mamlkit.exercises.compare import Wrong

RIGHT, WRONG = [], []


def right(key, why):
    return lambda fn: RIGHT.append(pytest.param(key, fn, id=f"{key} {why}"))


def wrong(key, why, *said):
    """An answer that must be refused, with these words in the message."""
    return lambda fn: WRONG.append(
        pytest.param(key, fn, said, id=f"{key} {why}")
    )


def test_right_answers_pass(key, fn):
    find_exercise(key).check(fn)


def test_wrong_answers_are_refused_in_words(key, fn, said):
    with pytest.raises(Wrong) as fault:
        find_exercise(key).check(fn)
    for words in said:
        assert words in str(fault.value)


def pytest_generate_tests(metafunc):
    lists = {
        "test_right_answers_pass": ("key, fn", RIGHT),
        "test_wrong_answers_are_refused_in_words": ("key, fn, said", WRONG),
    }
    if metafunc.function.__name__ in lists:
        metafunc.parametrize(*lists[metafunc.function.__name__])


def plain(p, f, b, lr):
    g = grad(f)(p, b)
    return {k: p[k] - lr * g[k] for k in p}


def with_graph(p, f, b, lr):
    g = torch.autograd.grad(f(p, b), [*p.values()], create_graph=True)
    return {k: v - lr * g_ for (k, v), g_ in zip(p.items(), g)}


# ---- 3.1 one_step


@right("3.1", "an OrderedDict, the names in reverse")
def _(p, f, b, lr):
    return OrderedDict(reversed(plain(p, f, b, lr).items()))


@right("3.1", "by jacrev, name by name")
def _(p, f, b, lr):
    return {
        k: v - lr * jacrev(lambda w, k=k: f(p | {k: w}, b))(v)
        for k, v in p.items()
    }


@right("3.1", "by vjp")
def _(p, f, b, lr):
    loss, back = vjp(lambda q: f(q, b), p)
    (g,) = back(torch.ones_like(loss))
    return {k: p[k] - lr * g[k] for k in p}


@right("3.1", "in 64 bits and back")
def _(p, f, b, lr):
    wide = {k: v.double() for k, v in p.items()}
    wide_b = Batch(*(t.double() for t in b))
    return {k: v.float() for k, v in plain(wide, f, wide_b, lr).items()}


@right("3.1", "answers in 64 bits")
def _(p, f, b, lr):
    return {k: v.double() for k, v in plain(p, f, b, lr).items()}


@right("3.1", "on copies, with create_graph")
def _(p, f, b, lr):
    return with_graph(
        {k: v.clone().requires_grad_() for k, v in p.items()}, f, b, lr
    )


@right("3.1", "copies the dict and changes the copy")
def _(p, f, b, lr):
    out, g = dict(p), grad(f)(p, b)
    for k in out:
        out[k] = out[k] - lr * g[k]
    return out


@right("3.1", "one flat vector of all parameters")
def _(p, f, b, lr):
    def unflatten(flat):
        parts = flat.split([v.numel() for v in p.values()])
        return {k: t.view(v.shape) for (k, v), t in zip(p.items(), parts)}

    flat = torch.cat([v.reshape(-1) for v in p.values()])
    return unflatten(flat - lr * grad(lambda w: f(unflatten(w), b))(flat))


@wrong("3.1", "by adapt itself", "which this exercise does without")
def _(p, f, b, lr):
    return adapt(p, f, b, lr=lr)


@wrong("3.1", "the .grad of copies", "The values are right", "require grad")
def _(p, f, b, lr):
    p = {k: v.clone().requires_grad_() for k, v in p.items()}
    f(p, b).backward()
    return {k: v - lr * v.grad for k, v in p.items()}


@wrong("3.4", "an optimiser's steps", "cannot be differentiated")
def _(p, f, s, lr, steps):
    p = {k: v.clone().requires_grad_() for k, v in p.items()}
    optimizer = torch.optim.SGD(p.values(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        f(p, s).backward()
        optimizer.step()
    return p


@wrong("0.3", "fails on a single hand", "non-empty")
def _(drawings):
    examples = drawings[:, 0].flatten(1)
    picks = [
        torch.cdist(drawings[:, hand].flatten(1), examples).argmin(1)
        for hand in range(1, drawings.shape[1])
    ]
    right = torch.stack(picks) == torch.arange(len(examples))
    return right.float().mean()


@right("4.6", "as its hint says")
def _(iteration, iterations):
    return 1 / (iteration + 1)


@wrong("3.1", "strings", "should be a number, but is a str")
def _(p, f, b, lr):
    return plain(p, f, b, lr) | {[*p][-1]: "hello"}


@wrong("3.1", "one name too many", "should have the names")
def _(p, f, b, lr):
    return plain(p, f, b, lr) | {"extra": torch.zeros(2)}


@wrong("3.1", "the first name is missing", "should have the names")
def _(p, f, b, lr):
    return {k: v for k, v in plain(p, f, b, lr).items() if k != [*p][0]}


@wrong("3.1", "flattened parameters", "but has shape (1,)")
def _(p, f, b, lr):
    return {k: v.reshape(-1) for k, v in plain(p, f, b, lr).items()}


@wrong("3.1", "only named parameters u and v", "KeyError", "your line")
def _(p, f, b, lr):
    g = grad(f)(p, b)
    return {"u": p["u"] - lr * g["u"], "v": p["v"] - lr * g["v"]}


@wrong("3.1", "lr is always 0.1", "With params")
def _(p, f, b, lr):
    return plain(p, f, b, 0.1)


@wrong("3.1", "the sign of the gradient")
def _(p, f, b, lr):
    g = grad(f)(p, b)
    return {k: p[k] - lr * g[k].sign() for k in p}


@wrong("3.1", "each entry's own second derivative only", "derivative by")
def _(p, f, b, lr):
    out = {}
    for k in p:
        others = {n: v if n == k else v.detach() for n, v in p.items()}
        out[k] = p[k] - lr * grad(f)(others, b)[k]
    return out


@wrong("3.1", "the data is detached from the loss' gradient", "to batch")
def _(p, f, b, lr):
    return plain(p, f, Batch(*(t.detach() for t in b)), lr)


@wrong("3.1", "a gradient clipped to length 1")
def _(p, f, b, lr):
    g = grad(f)(p, b)
    n = sum((v**2).sum() for v in g.values()).sqrt().clamp(min=1)
    return {k: p[k] - lr * g[k] / n for k in p}


@wrong("3.1", "two half steps")
def _(p, f, b, lr):
    return plain(plain(p, f, b, lr / 2), f, b, lr / 2)


@wrong("3.1", "finite differences, right to three digits")
def _(p, f, b, lr):
    eps = 0.05
    out = {}
    for k, v in p.items():
        g = torch.zeros_like(v)
        for i in range(v.numel()):
            e = torch.zeros_like(v)
            e.view(-1)[i] = eps
            up, down = f(p | {k: v + e}, b), f(p | {k: v - e}, b)
            g.view(-1)[i] = ((up - down) / (2 * eps)).item()
        out[k] = v - lr * g
    return out


@wrong("3.1", "nothing is returned", "returns nothing")
def _(p, f, b, lr):
    plain(p, f, b, lr)


# ---- 3.2 mended_step


@right("3.2", "by torch.func")
def _(p, f, b, lr):
    return plain(p, f, b, lr)


@right("3.2", "the loss is called twice")
def _(p, f, b, lr):
    f(p, b).backward(retain_graph=True)
    for v in p.values():
        v.grad = None
    return with_graph(p, f, b, lr)


@right("3.2", "unused parameters are allowed for")
def _(p, f, b, lr):
    g = torch.autograd.grad(
        f(p, b), [*p.values()], create_graph=True, allow_unused=True
    )
    return {
        k: v if g_ is None else v - lr * g_ for (k, v), g_ in zip(p.items(), g)
    }


@wrong("3.2", "backward() with create_graph, then .data", "derivative")
def _(p, f, b, lr):
    f(p, b).backward(create_graph=True)
    out = {k: v - lr * v.grad.data for k, v in p.items()}
    for v in p.values():
        v.grad = None
    return out


@wrong("3.2", "the last parameter is nan", "not finite")
def _(p, f, b, lr):
    return plain(p, f, b, lr) | {[*p][-1]: p[[*p][-1]] * float("nan")}


@wrong("3.2", "the last parameter's graph is cut", "derivative")
def _(p, f, b, lr):
    out = plain(p, f, b, lr)
    return out | {[*out][-1]: out[[*out][-1]].detach()}


# ---- 3.3 adapt_each


@right("3.3", "a generator")
def _(p, f, supports, lr, steps):
    return (adapt(p, f, b, lr=lr, steps=steps) for b in supports)


@right("3.3", "map")
def _(p, f, supports, lr, steps):
    return map(lambda b: adapt(p, f, b, lr=lr, steps=steps), supports)


@right("3.3", "without adapt")
def _(p, f, supports, lr, steps):
    return [
        reduce(lambda q, _: plain(q, f, b, lr), range(steps), p)
        for b in supports
    ]


@right("3.3", "works on a deep copy, which is never detached")
def _(p, f, supports, lr, steps):
    return [
        adapt({k: v.clone() for k, v in p.items()}, f, b, lr=lr, steps=steps)
        for b in supports
    ]


@wrong("3.3", "a dict by number", "should be a list of 3")
def _(p, f, supports, lr, steps):
    return {
        i: adapt(p, f, b, lr=lr, steps=steps) for i, b in enumerate(supports)
    }


@wrong("3.3", "in reverse order", "result[0]")
def _(p, f, supports, lr, steps):
    return [adapt(p, f, b, lr=lr, steps=steps) for b in supports[::-1]]


@wrong("3.3", "empties the list of supports", "You changed supports itself")
def _(p, f, supports, lr, steps):
    out = []
    while supports:
        out.append(adapt(p, f, supports.pop(0), lr=lr, steps=steps))
    return out


@wrong("3.3", "deepcopy cuts the graph", "graph")
def _(p, f, supports, lr, steps):
    start = {k: v.detach().clone() for k, v in p.items()}
    return [adapt(start, f, b, lr=lr, steps=steps) for b in supports]


@wrong("3.3", "the first task only", "list of 1")
def _(p, f, supports, lr, steps):
    return [adapt(p, f, supports[0], lr=lr, steps=steps)]


@wrong("3.3", "three tasks always", "your line", "2 supports")
def _(p, f, supports, lr, steps):
    return [adapt(p, f, supports[i], lr=lr, steps=steps) for i in range(3)]


@wrong("3.3", "two steps always", "steps")
def _(p, f, supports, lr, steps):
    return [adapt(p, f, b, lr=lr, steps=2) for b in supports]


# ---- 3.4 my_adapt, 3.5 robust_step


@right("3.4", "by recursion")
def my_adapt(p, f, b, lr, steps):
    def after(p, steps):
        return p if steps == 0 else after(plain(p, f, b, lr), steps - 1)

    return after(p, steps)


@right("3.4", "a helper of its own called adapt")
def _(p, f, b, lr, steps):
    def adapt(p):
        return plain(p, f, b, lr)

    for _ in range(steps):
        p = adapt(p)
    return p


@wrong("3.4", "calls adapt", "You call adapt")
def _(p, f, b, lr, steps):
    return adapt(p, f, b, lr=lr, steps=steps)


@wrong("3.4", "calls adapt by meta_loss' neighbour", "You call adapt")
def _(p, f, b, lr, steps):
    from mamlkit import inner

    return partial(inner.adapt, p, f)(b, lr=lr, steps=steps)


@wrong("3.4", "one step even where steps is 0", "steps = 0")
def _(p, f, b, lr, steps):
    for _ in range(max(steps, 1)):
        p = plain(p, f, b, lr)
    return p


@wrong("3.4", "the last step is first order", "derivative")
def _(p, f, b, lr, steps):
    for i in range(steps):
        g = grad(f)(p, b)
        p = {
            k: p[k] - lr * (g[k].detach() if i == steps - 1 else g[k])
            for k in p
        }
    return p


@wrong("3.4", "a rate that shrinks")
def _(p, f, b, lr, steps):
    for i in range(steps):
        p = plain(p, f, b, lr / (1 + i))
    return p


@right("3.5", "a step of limited length")
def _(p, f, b, lr):
    g = grad(f)(p, b)
    size = sum((v**2).sum() for v in g.values()).sqrt()
    best = None
    for length in (1.0, 0.3, 0.1, 0.03, 0.01):
        rate = lr * length / (lr * size + length)
        end = {k: p[k] - rate * g[k] for k in p}
        loss = f(end, b).item()
        if best is None or loss < best[0]:
            best = loss, end
    return best[1]


@right("3.5", "halving until the loss falls, by create_graph")
def _(p, f, b, lr):
    if not all(v.requires_grad for v in p.values()):
        p = {k: v.clone().requires_grad_() for k, v in p.items()}
    before = f(p, b)
    g = torch.autograd.grad(before, [*p.values()], create_graph=True)
    for _ in range(30):
        end = {k: v - lr * g_ for (k, v), g_ in zip(p.items(), g)}
        if f(end, b) < 0.9 * before or lr < 1e-3:
            return end
        lr = lr / 2
    return end


@wrong("3.5", "a plain step", "It should fall on each of 20")
def _(p, f, b, lr):
    return plain(p, f, b, lr)


@wrong("3.5", "no step at all", "It should fall")
def _(p, f, b, lr):
    return dict(p)


@wrong("3.5", "values from a search, without a graph", "detached")
def _(p, f, b, lr):
    with torch.no_grad():
        g = {k: v.clone() for k, v in grad(f)(p, b).items()}
        ends = [{k: p[k] - lr / 2**i * g[k] for k in p} for i in range(12)]
        return min(ends, key=lambda e: f(e, b))


# ---- 4.1 meta_gradient_by_hand


@right("4.3", "a tensor of shape (1,)")
def _(w, a, c, q, lr):
    return torch.tensor([(1 - lr * a) * a * (w - lr * a * (w - c) - q)])


@right("4.3", "a NumPy scalar")
def _(w, a, c, q, lr):
    w, a, c, q, lr = map(np.float64, (w, a, c, q, lr))
    return (1 - lr * a) * a * (w - lr * a * (w - c) - q)


@right("4.3", "fractions")
def _(w, a, c, q, lr):
    w, a, c, q, lr = (Fraction(str(v)) for v in (w, a, c, q, lr))
    return (1 - lr * a) * a * (w - lr * a * (w - c) - q)


@right("4.3", "multiplied out")
def _(w, a, c, q, lr):
    s = 1 - lr * a
    return a * s * s * w + a * a * lr * s * c - a * s * q


@wrong("4.3", "by autograd", "You call autograd")
def _(w, a, c, q, lr):
    w = torch.tensor(w, requires_grad=True)
    loss = a / 2 * (w - lr * a * (w - c) - q) ** 2
    loss.backward()
    return w.grad.item()


@wrong("4.3", "by forward-mode autograd", "You call autograd")
def _(w, a, c, q, lr):
    def loss(w):
        return a / 2 * (w - lr * a * (w - c) - q) ** 2

    return jvp(loss, (torch.tensor(w),), (torch.tensor(1.0),))[1]


@wrong("4.3", "two steps", "-4.16")
def _(w, a, c, q, lr):
    s = (1 - lr * a) ** 2
    return s * a * (c + s * (w - c) - q)


@wrong("4.3", "curvature 2 always")
def _(w, a, c, q, lr):
    return (1 - 2 * lr) * 2 * (w - 2 * lr * (w - c) - q)


@wrong("4.3", "the answer of the text", "-4.16")
def _(w, a, c, q, lr):
    return -4.16


@wrong("4.3", "words", "should be a number, but is a str")
def _(w, a, c, q, lr):
    return "0.8 · -5.2"


@wrong("4.3", "the loss itself")
def _(w, a, c, q, lr):
    return a / 2 * (w - lr * a * (w - c) - q) ** 2


# ---- 4.2 finite_difference


@right("4.4", "nested lists")
def _(fn, w, eps=1e-5):
    found = []
    for i in range(w.numel()):
        up, down = w.clone(), w.clone()
        up.view(-1)[i] += eps
        down.view(-1)[i] -= eps
        found.append((fn(up) - fn(down)).item() / (2 * eps))
    return torch.tensor(found).view(w.shape).tolist()


@right("4.4", "NumPy")
def _(fn, w, eps=1e-5):
    result = np.zeros(tuple(w.shape))
    for place in np.ndindex(*w.shape):
        nudge = torch.zeros_like(w)
        nudge[place] = eps
        result[place] = float(fn(w + nudge) - fn(w - nudge)) / (2 * eps)
    return result


@right("4.4", "changes w and puts it back exactly")
def _(fn, w, eps=1e-5):
    result, flat = torch.zeros_like(w), w.view(-1)
    for i in range(w.numel()):
        old = flat[i].item()
        flat[i] = old + eps
        up = fn(w)
        flat[i] = old - eps
        down = fn(w)
        flat[i] = old
        result.view(-1)[i] = (up - down) / (2 * eps)
    return result


@right("4.4", "rows of the identity")
def _(fn, w, eps=1e-5):
    nudges = eps * torch.eye(w.numel(), dtype=w.dtype)
    found = [
        (fn(w + n.view(w.shape)) - fn(w - n.view(w.shape))) / (2 * eps)
        for n in nudges
    ]
    return torch.stack(found).view(w.shape)


@wrong("4.4", "five-point differences")
def _(fn, w, eps=1e-5):
    result = torch.zeros_like(w)
    for i in range(w.numel()):
        n = torch.zeros_like(w)
        n.view(-1)[i] = eps
        result.view(-1)[i] = (
            8 * (fn(w + n) - fn(w - n)) - fn(w + 2 * n) + fn(w - 2 * n)
        ) / (12 * eps)
    return result


@wrong("4.4", "the usual eps always")
def _(fn, w, eps=1e-5):
    result = torch.zeros_like(w)
    for i in range(w.numel()):
        n = torch.zeros_like(w)
        n.view(-1)[i] = 1e-5
        result.view(-1)[i] = (fn(w + n) - fn(w - n)) / 2e-5
    return result


@wrong("4.4", "vectors only", "should have shape (2, 2)")
def _(fn, w, eps=1e-5):
    result = torch.zeros(len(w), dtype=w.dtype)
    for i in range(len(w)):
        n = torch.zeros_like(w)
        n[i] = eps
        result[i] = (fn(w + n) - fn(w - n)) / (2 * eps)
    return result


@wrong("4.4", "changes w for good", "You changed w itself")
def _(fn, w, eps=1e-5):
    flat, result = w.view(-1), torch.zeros_like(w)
    for i in range(w.numel()):
        flat[i] += eps
        up = fn(w)
        flat[i] -= 2 * eps
        result.view(-1)[i] = (up - fn(w)) / (2 * eps)
    return result


@wrong("4.4", "a flat result", "should have shape (2, 2)")
def _(fn, w, eps=1e-5):
    found = []
    for i in range(w.numel()):
        n = torch.zeros_like(w)
        n.view(-1)[i] = eps
        found.append((fn(w + n) - fn(w - n)) / (2 * eps))
    return torch.stack(found)


@wrong("4.4", "autograd on the values", "0")
def _(fn, w, eps=1e-5):
    return grad(lambda w: fn(w) + 0 * w.sum())(w)


# ---- 4.3 mended_meta_gradient


def task(tasks, i):
    return [Batch(b.x[i], b.y[i]) for b in tasks]


@right("4.5", "by vmap over the tasks")
def _(p, f, tasks, lr):
    def one(p, sx, sy, qx, qy):
        return f(plain(p, f, Batch(sx, sy), lr), Batch(qx, qy))

    total = grad(
        lambda p: vmap(one, in_dims=(None, 0, 0, 0, 0))(
            p, *tasks.support, *tasks.query
        ).mean()
    )
    return total(p)


@right("4.5", "a gradient for each task, then their mean")
def _(p, f, tasks, lr):
    n = len(tasks.query.x)
    each = [
        grad(lambda p, i=i: f(plain(p, f, task(tasks, i)[0], lr),
                              task(tasks, i)[1]))(p)
        for i in range(n)
    ]  # fmt: skip
    return {k: sum(g[k] for g in each) / n for k in p}


@right("4.5", "backward() on leaves of its own")
def _(p, f, tasks, lr):
    leaves = {k: v.detach().clone().requires_grad_() for k, v in p.items()}
    n = len(tasks.query.x)
    for i in range(n):
        support, query = task(tasks, i)
        (f(with_graph(leaves, f, support, lr), query) / n).backward()
    return {k: v.grad for k, v in leaves.items()}


@right("4.5", "jvp of the Hessian by hand")
def _(p, f, tasks, lr):
    total = {k: torch.zeros_like(v) for k, v in p.items()}
    n = len(tasks.query.x)
    for i in range(n):
        support, query = task(tasks, i)
        v = grad(f)(plain(p, f, support, lr), query)
        _, hv = jvp(lambda p, s=support: grad(f)(p, s), (p,), (v,))
        total = {k: total[k] + (v[k] - lr * hv[k]) / n for k in p}
    return total


@wrong("4.5", "calls meta_loss by the back door", "You call meta_loss")
def _(p, f, tasks, lr):
    from mamlkit import objectives

    return grad(getattr(objectives, "meta_" + "loss"))(p, f, tasks, lr=lr)


@wrong("4.5", "the diagonal of the Hessian only")
def _(p, f, tasks, lr):
    total = {k: torch.zeros_like(v) for k, v in p.items()}
    n = len(tasks.query.x)
    for i in range(n):
        support, query = task(tasks, i)
        v = grad(f)(plain(p, f, support, lr), query)
        for k in p:

            def own(w, k=k, s=support):
                return grad(f)(p | {k: w}, s)[k]

            _, hv = jvp(own, (p[k],), (v[k],))
            total[k] = total[k] + (v[k] - lr * hv) / n
    return total


@wrong("4.5", "needs two tasks", "3, 3, 2")
def _(p, f, tasks, lr):
    def total(p):
        return sum(
            f(plain(p, f, task(tasks, i)[0], lr), task(tasks, i)[1]) / 2
            for i in (0, 1)
        )

    return grad(total)(p)


@wrong("4.5", "all tasks as one")
def _(p, f, tasks, lr):
    s, q = (Batch(b.x.flatten(0, 1), b.y.flatten(0, 1)) for b in tasks)
    return grad(lambda p: f(plain(p, f, s, lr), q))(p)


@wrong("4.5", "a tuple of gradients", "should be a dict")
def _(p, f, tasks, lr):
    return tuple(find_exercise("4.5").right(p, f, tasks, lr).values())


@wrong("4.5", "first order in one parameter")
def _(p, f, tasks, lr):
    def total(p):
        losses = []
        for i in range(len(tasks.query.x)):
            support, query = task(tasks, i)
            g = grad(f)(p, support)
            first = [*p][0]
            theta = {
                k: p[k] - lr * (g[k].detach() if k == first else g[k])
                for k in p
            }
            losses.append(f(theta, query))
        return torch.stack(losses).mean()

    return grad(total)(p)


# ---- 4.4 my_meta_loss, 4.5 my_walk, 4.6 rate_schedule


@right("4.1", "by map_tasks")
def _(p, f, tasks, lr, steps):
    def one(support, query):
        return f(adapt(p, f, support, lr=lr, steps=steps), query)

    return map_tasks(one, tasks).mean()


@right("4.1", "shape (1,)")
def _(p, f, tasks, lr, steps):
    total = 0
    for i in range(len(tasks.query.x)):
        support, query = task(tasks, i)
        total = total + f(adapt(p, f, support, lr=lr, steps=steps), query)
    return (total / len(tasks.query.x)).reshape(1)


@wrong("4.1", "a list of losses", "should be a number")
def _(p, f, tasks, lr, steps):
    return [
        f(adapt(p, f, s, lr=lr, steps=steps), q)
        for s, q in (task(tasks, i) for i in range(len(tasks.query.x)))
    ]


@wrong("4.1", "the median")
def _(p, f, tasks, lr, steps):
    def one(support, query):
        return f(adapt(p, f, support, lr=lr, steps=steps), query)

    return map_tasks(one, tasks).median()


@wrong("4.1", "float()", "graph")
def _(p, f, tasks, lr, steps):
    def one(support, query):
        return f(adapt(p, f, support, lr=lr, steps=steps), query)

    return float(map_tasks(one, tasks).mean())


@wrong("4.1", "support and query together")
def _(p, f, tasks, lr, steps):
    def one(support, query):
        both = Batch(*(torch.cat(t) for t in zip(support, query)))
        return f(adapt(p, f, support, lr=lr, steps=steps), both)

    return map_tasks(one, tasks).mean()


@right("4.2", "by SGD of torch, copies kept")
def _(p, f, draw_tasks, lr, meta_lr, iterations):
    leaves = {k: v.clone() for k, v in p.items()}
    optimizer = torch.optim.SGD(leaves.values(), lr=meta_lr)
    walk = [{k: v.clone() for k, v in leaves.items()}]
    for _ in range(iterations):
        g = grad(meta_loss)(leaves, f, draw_tasks(), lr=lr)
        for k, v in leaves.items():
            v.grad = g[k]
        optimizer.step()
        walk.append({k: v.detach().clone() for k, v in leaves.items()})
    return tuple(walk)


@wrong("4.2", "SGD on the params that were handed over", "You changed params")
def _(p, f, draw_tasks, lr, meta_lr, iterations):
    optimizer = torch.optim.SGD(p.values(), lr=meta_lr)
    walk = [{k: v.clone() for k, v in p.items()}]
    for _ in range(iterations):
        g = grad(meta_loss)(p, f, draw_tasks(), lr=lr)
        for k, v in p.items():
            v.grad = g[k]
        optimizer.step()
        walk.append({k: v.detach().clone() for k, v in p.items()})
    return walk


@wrong("4.2", "Adam")
def _(p, f, draw_tasks, lr, meta_lr, iterations):
    leaves = {k: v.clone() for k, v in p.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=meta_lr)
    walk = [{k: v.clone() for k, v in leaves.items()}]
    for _ in range(iterations):
        g = grad(meta_loss)(leaves, f, draw_tasks(), lr=lr)
        for k, v in leaves.items():
            v.grad = g[k]
        optimizer.step()
        walk.append({k: v.detach().clone() for k, v in leaves.items()})
    return walk


@wrong("4.2", "the same dict at every place", "result[0]")
def _(p, f, draw_tasks, lr, meta_lr, iterations):
    now, walk = dict(p), []
    for _ in range(iterations):
        walk.append(now)
        g = grad(meta_loss)(now, f, draw_tasks(), lr=lr)
        for k in now:
            now[k] = now[k] - meta_lr * g[k]
    return [*walk, now]


@wrong("4.2", "the last task only")
def _(p, f, draw_tasks, lr, meta_lr, iterations):
    walk = [p]
    for _ in range(iterations):
        tasks = Tasks(*(Batch(b.x[-1:], b.y[-1:]) for b in draw_tasks()))
        g = grad(meta_loss)(p, f, tasks, lr=lr)
        p = {k: p[k] - meta_lr * g[k] for k in p}
        walk.append(p)
    return walk


@right("4.6", "far strides, then 1/t")
def _(i, n):
    return 0.3 if i < 10 else 1.5 / (i + 3)


@wrong("4.6", "a good constant", "best constant rate")
def _(i, n):
    return 0.03


@wrong("4.6", "cosine from 1", "best constant rate")
def _(i, n):
    return 0.5 * (1 + np.cos(np.pi * i / n))


# ---- 6.1 first_order_step


@right("6.1", "grad of detached parameters")
def _(p, f, b, lr):
    g = grad(f)({k: v.detach() for k, v in p.items()}, b)
    return {k: p[k] - lr * g[k] for k in p}


@right("6.1", "autograd.grad without create_graph")
def _(p, f, b, lr):
    g = torch.autograd.grad(f(p, b), [*p.values()])
    return {k: v - lr * g_ for (k, v), g_ in zip(p.items(), g)}


@right("6.1", "adapt's own flag")
def _(p, f, b, lr):
    return adapt(p, f, b, lr=lr, first_order=True)


@right("6.1", "no_grad around the gradient")
def _(p, f, b, lr):
    fixed = {k: v.detach().requires_grad_() for k, v in p.items()}
    g = torch.autograd.grad(f(fixed, b), [*fixed.values()])
    with torch.no_grad():
        steps = [-lr * g_ for g_ in g]
    return {k: v + s for (k, v), s in zip(p.items(), steps)}


@wrong("6.1", "second order in the last parameter", "derivative")
def _(p, f, b, lr):
    g, last = grad(f)(p, b), [*p][-1]
    return {k: p[k] - lr * (g[k] if k == last else g[k].detach()) for k in p}


@wrong("6.1", "half of the second order", "derivative")
def _(p, f, b, lr):
    g = grad(f)(p, b)
    return {k: p[k] - lr * (g[k] + g[k].detach()) / 2 for k in p}


@wrong("6.1", "no graph at all", "graph")
def _(p, f, b, lr):
    with torch.no_grad():
        return adapt(p, f, b, lr=lr)


@wrong("6.1", "detaches the first parameter whole", "derivative")
def _(p, f, b, lr):
    out = adapt(p, f, b, lr=lr, first_order=True)
    return out | {[*p][0]: out[[*p][0]].detach()}


# ---- 6.2 is_second_order


def curved(p, b):
    return (p["w"] ** 3).sum() + p["w"].prod()


@right("6.2", "compares with adapt on a cubic, a bool tensor")
def _(step):
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    out = step({"w": w}, curved, None, 0.1)["w"]
    if not out.requires_grad:
        return torch.tensor(False)
    theirs = torch.autograd.grad(out[0] + 2 * out[1], w)[0]
    v = torch.tensor([0.7, -1.1], requires_grad=True)
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    mine = adapt({"w": w}, curved, None, lr=0.1)["w"]
    mine = torch.autograd.grad(mine[0] + 2 * mine[1], w)[0]
    assert v.requires_grad
    return torch.allclose(theirs, mine)


@right("6.2", "differences of the result")
def _(step):
    def at(w):
        w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        return w, step({"w": w}, lambda p, b: p["w"] ** 4, None, 0.01)["w"]

    w, out = at(1.0)
    if not out.requires_grad:
        return False
    slope = torch.autograd.grad(out, w)[0].item()
    up, down = at(1 + 1e-6)[1].item(), at(1 - 1e-6)[1].item()
    return bool(abs(slope - (up - down) / 2e-6) < 1e-4)


@wrong("6.2", "always yes", "should be False, but is True")
def _(step):
    return True


@wrong("6.2", "asks for a graph, and a slope that is not 1", "With step:")
def _(step):
    w = torch.tensor(1.0, requires_grad=True)
    out = step({"w": w}, lambda p, b: p["w"] ** 2, None, 0.1)["w"]
    return out.requires_grad and torch.autograd.grad(out, w)[0] != 1


@wrong("6.2", "a number", "should be True or False")
def _(step):
    w = torch.tensor(1.0, requires_grad=True)
    out = step({"w": w}, lambda p, b: p["w"] ** 2, None, 0.1)["w"]
    return torch.autograd.grad(out, w)[0].item() if out.requires_grad else 0


@wrong("6.2", "reads the source")
def _(step):
    import inspect

    return "detach" not in inspect.getsource(step)


@wrong("6.2", "gives up on an error", "should be True, but is False")
def _(step):
    def after(w):
        return step({"w": w}, lambda p, b: p["w"] ** 2, None, 0.1)["w"]

    try:
        return abs(grad(after)(torch.tensor(1.0)).item() - 0.8) < 1e-4
    except RuntimeError:
        return False


# ---- 6.3 walk_back


@right("6.3", "by reduce")
def _(path, hessian_times, g, lr):
    return reduce(
        lambda v, theta: v - lr * hessian_times(theta, v), path[-2::-1], g
    )


@right("6.3", "a copy changed in place")
def _(path, hessian_times, g, lr):
    v = g.clone()
    for theta in path[:-1][::-1]:
        v -= lr * hessian_times(theta, v)
    return v


@wrong("6.3", "the whole matrix", "products for 2 steps")
def _(path, hessian_times, g, lr):
    v, eye = g, torch.eye(len(g))
    for theta in path[:-1][::-1]:
        h = torch.stack([hessian_times(theta, e) for e in eye], 1)
        v = v - lr * h @ v
    return v


@wrong("6.3", "two steps always")
def _(path, hessian_times, g, lr):
    v = g
    for theta in (path[1], path[0]):
        v = v - lr * hessian_times(theta, v)
    return v


@wrong("6.3", "pops the path", "You changed path itself")
def _(path, hessian_times, g, lr):
    path.pop()
    v = g
    while path:
        v = v - lr * hessian_times(path.pop(), v)
    return v


@wrong("6.3", "adds the corrections up")
def _(path, hessian_times, g, lr):
    return g - lr * sum(hessian_times(theta, g) for theta in path[:-1])


# ---- 6.4 reptile_update


@right("6.4", "a running mean")
def _(p, f, supports, lr, steps, meta_lr):
    total = {k: torch.zeros_like(v) for k, v in p.items()}
    for b in supports:
        end = adapt(p, f, b, lr=lr, steps=steps)
        total = {k: total[k] + (end[k] - p[k]) / len(supports) for k in p}
    return {k: torch.lerp(p[k], p[k] + total[k], meta_lr) for k in p}


@right("6.4", "without a graph, NumPy in between")
def _(p, f, supports, lr, steps, meta_lr):
    ends = [adapt(p, f, b, lr=lr, steps=steps) for b in supports]
    return {
        k: (1 - meta_lr) * v.numpy()
        + meta_lr * np.mean([end[k].numpy() for end in ends], 0)
        for k, v in p.items()
    }


@wrong("6.4", "weighted by the number of the task")
def _(p, f, supports, lr, steps, meta_lr):
    ends = [adapt(p, f, b, lr=lr, steps=steps) for b in supports]
    n = sum(range(1, len(ends) + 1))
    return {
        k: p[k]
        + meta_lr
        * sum((i + 1) / n * (e[k] - p[k]) for i, e in enumerate(ends))
        for k in p
    }


@wrong("6.4", "the median of the ends")
def _(p, f, supports, lr, steps, meta_lr):
    ends = [adapt(p, f, b, lr=lr, steps=steps) for b in supports]
    return {
        k: p[k] + meta_lr * (torch.stack([e[k] for e in ends]).median(0)[0]
                             - p[k])
        for k in p
    }  # fmt: skip


@wrong("6.4", "divides by two always")
def _(p, f, supports, lr, steps, meta_lr):
    ends = [adapt(p, f, b, lr=lr, steps=steps) for b in supports]
    return {
        k: p[k] + meta_lr * (sum(e[k] for e in ends) / 2 - p[k]) for k in p
    }


# ---- 6.5 nothing_is_lost


@right("6.5", "a network's loss and random directions")
def _(step):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.randn(5, 2, dtype=torch.float64)

    def loss_fn(p, b):
        return functional_call(net, p, (x,)).sin().square().mean()

    start = {k: v.detach() for k, v in net.named_parameters()}
    for _ in range(3):
        u, v = (
            {k: torch.randn_like(p) for k, p in start.items()} for _ in "uv"
        )

        def out(p, u=u):
            end = step(p, loss_fn, None, 0.5)
            return sum((u[k] * end[k]).sum() for k in p)

        leaves = {k: p.clone().requires_grad_() for k, p in start.items()}
        total = out(leaves)
        if not total.requires_grad:
            return False
        slopes = torch.autograd.grad(
            total, [*leaves.values()], allow_unused=True
        )
        slope = sum(
            (v[k] * s).sum() for k, s in zip(v, slopes) if s is not None
        )
        up, down = (
            out({k: start[k] + e * v[k] for k in v}) for e in (1e-5, -1e-5)
        )
        if abs((up - down) / 2e-5 - slope) > 1e-6:
            return False
    return True


@wrong("6.5", "the detector of 6.2", "derivatives between parameters")
def _(step):
    try:
        return find_exercise("6.2").right(step)
    except (KeyError, IndexError):
        return True


@wrong("6.5", "knows plain steps only", "You accuse a step of normalised")
def _(step):
    def loss_fn(p, b):
        return (p["a"] * p["b"]).sum().sin() + (p["a"] ** 3).sum()

    def slopes(step):
        leaves = {
            k: torch.tensor([0.3, -0.8], requires_grad=True) for k in "ab"
        }
        out = step(leaves, loss_fn, None, 0.1)
        total = (out["a"] * torch.tensor([1.0, 2])).sum() - out["b"].sum()
        if not total.requires_grad:
            return torch.zeros(4)
        return torch.cat(torch.autograd.grad(total, [*leaves.values()]))

    mine = slopes(lambda p, f, b, lr: adapt(p, f, b, lr=lr))
    return torch.allclose(slopes(step), mine)


# ---- other chapters: forms


@right("0.1", "a tensor of 64 bits, shape (1, 1)")
def _(n_way, n_rounds):
    return torch.full((1, 1), n_way ** (-float(n_rounds))).double()


@right("0.2", "a plain int")
def _(examples, query):
    far = [((e - query) ** 2).sum().item() for e in examples]
    return far.index(min(far))


@right("0.2", "NumPy")
def _(examples, query):
    apart = examples.numpy() - query.numpy()
    return np.argmin((apart**2).sum((1, 2)))


@right("2.1", "plain tuples, examples in rising order")
def _(batch, k_shot, generator):
    order = torch.randperm(len(batch.x), generator=generator)
    s, q = order[:k_shot].sort().values, order[k_shot:].sort().values
    return [(batch.x[s], batch.y[s]), (batch.x[q], batch.y[q])]


@right("2.1", "by scores")
def _(batch, k_shot, generator):
    order = torch.rand(len(batch.x), generator=generator).argsort()
    parts = order.split([k_shot, len(order) - k_shot])
    return tuple(Batch(*(t[i] for t in batch)) for i in parts)


@right("2.3", "one class after the other")
def _(images, n_way, k_shot, k_query, generator):
    n_classes, n_drawings = images.shape[:2]
    support, query = [], []
    for c in torch.randperm(n_classes, generator=generator)[:n_way]:
        order = torch.randperm(n_drawings, generator=generator)
        support.append(images[c, order[:k_shot]])
        query.append(images[c, order[k_shot : k_shot + k_query]])
    labels = torch.arange(n_way)
    return (
        Batch(torch.cat(support), labels.repeat_interleave(k_shot)),
        Batch(torch.cat(query), labels.repeat_interleave(k_query)),
    )


@right("8.1", "compares deep copies")
def _(make, x, other):
    model = make()
    newborn = copy.deepcopy(model)
    model(other)
    return bool((model(x) - newborn(x)).abs().max() > 0)


@right("12.4", "blocks of nearly equal size, a fraction")
def _(n_tasks, rank, world):
    start = [round(n_tasks * r / world) for r in range(world + 1)]
    which = [*range(start[rank], start[rank + 1])]
    return which, Fraction(len(which), n_tasks)


@right("13.3", "a threshold by sorting")
def _(val_members, val_strangers, test_members, test_strangers, most):
    k = round(most * len(val_strangers))
    tau = val_strangers.sort(descending=True).values[k - 1]
    return [
        (test_strangers >= tau).double().mean().item(),
        (test_members < tau).double().mean().item(),
    ]


@right("9.2", "a loop over walks")
def _(returns):
    n = len(returns)
    return [
        sum(returns[j] for j in range(n) if j != i) / (n - 1) for i in range(n)
    ]


@wrong("5.4", "the lowest maximum")
def _(errors):
    return min(errors, key=lambda r: errors[r].nan_to_num(torch.inf).max())


@wrong("7.1", "eps outside the root")
def _(x, shift, eps=1e-5):
    away = x - x.mean((0, 2, 3), keepdim=True)
    spread = (away**2).mean((0, 2, 3), keepdim=True).sqrt()
    return away / (spread + eps) + shift.view(1, -1, 1, 1)


@right("7.1", "in 64 bits, by mean squares")
def _(x, shift, eps=1e-5):
    d = x.double()
    mean = d.mean((0, 2, 3), keepdim=True)
    variance = (d * d).mean((0, 2, 3), keepdim=True) - mean * mean
    normal = (d - mean) / (variance + eps) ** 0.5
    return (normal + shift.double()[:, None, None]).float()


@wrong("7.3", "the query stands in its batch twice")
def _(logits_of, support_x, x, y):
    return sum(
        int(logits_of(torch.cat([support_x, one[None], one[None]]))[-1]
            .argmax() == label)
        for one, label in zip(x, y)
    ) / len(x)  # fmt: skip


@wrong("7.5", "each feature by its spread", "standardised features")
def _(support_x, support_y, query_x, n_way):
    scale = support_x.std(0)
    means = [support_x[support_y == n].mean(0) for n in range(n_way)]
    return torch.cdist(query_x / scale, torch.stack(means) / scale).argmin(1)


@wrong("7.5", "from least to greatest", "five points more")
def _(support_x, support_y, query_x, n_way):
    low, high = support_x.aminmax(dim=0)
    means = [support_x[support_y == n].mean(0) for n in range(n_way)]
    reach = high - low
    return torch.cdist(query_x / reach, torch.stack(means) / reach).argmin(1)


@right("7.5", "by the pooled deviation, in a loop")
def _(support_x, support_y, query_x, n_way):
    own = [support_x[support_y == n] for n in range(n_way)]
    within = torch.stack([x.var(0) for x in own]).mean(0)
    scores = [((query_x - x.mean(0)) ** 2 / within).sum(1) for x in own]
    return torch.stack(scores, dim=1).argmin(1)


@wrong("9.3", "four terms of the exponential", "higher derivative")
def _(log_probs, rewards):
    through = log_probs.cumsum(-1)
    d = through - through.detach()
    return (1 + d + d**2 / 2 + d**3 / 6 + d**4 / 24) * rewards


@right("9.3", "a product of boxes")
def _(log_probs, rewards):
    return torch.exp(log_probs - log_probs.detach()).cumprod(-1) * rewards


@wrong("11.1", "the second half of the tasks as the first", "task i + 30")
def _(tasks, n_way, generator):
    n = len(tasks.support.y)
    new = torch.rand(-(-n // 2), n_way, generator=generator).argsort(-1)
    new = torch.cat([new, new])[:n]
    return Tasks(*(Batch(b.x, new.gather(1, b.y)) for b in tasks))


@wrong("11.3", "Nesterov's momentum")
def _(p, f, supports, lr, steps, momentum):
    ends = []
    for b in supports:
        now, v = p, {k: 0 * w for k, w in p.items()}
        for _ in range(steps):
            g = grad(f)(now, b)
            v = {k: momentum * v[k] + g[k] for k in v}
            now = {k: now[k] - lr * (momentum * v[k] + g[k]) for k in v}
        ends.append(now)
    return ends


@wrong("12.1", "five repeats always", "was called 6 times")
def _(start, wait, clock, repeats):
    times = []
    start()
    wait()
    for _ in range(5):
        begun = clock()
        start()
        wait()
        times.append(clock() - begun)
    return sorted(times)[2]


@right("12.2", "by vmap and grad, a list")
def _(weights, x, y, lr):
    slope = grad(lambda w, x, y: ((x @ w.T - y) ** 2).mean())
    return [*(weights - lr * vmap(slope)(weights, x, y))]


@right("12.3", "in seconds")
def _(price, slow, fast):
    return np.inf if fast >= slow else np.ceil(price / ((slow - fast) / 1000))


@wrong("13.2", "tables only", "IndexError", "your line")
def _(y, n_way):
    out = torch.full((*y.shape, n_way), 1 / n_way)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            if y[i, j] < n_way:
                out[i, j] = torch.eye(n_way)[y[i, j]]
    return out
