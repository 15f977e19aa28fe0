"""Pretraining beside MAML and prototypes, by how long each was trained.

On the bundled glyphs, 5-way 1-shot. Chen et al. 2019 (arXiv:1904.04232) and
Tian et al. 2020 (arXiv:2003.11539) found that a network trained in the
ordinary way to name all training classes, with a new head or nearest
centroids on its features, rivals meta-learning once it is trained well. Here
every method gets the same number of pictures an iteration, and each its own
rate at each budget, chosen on validation characters with a seed that is not
judged.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from tqdm.auto import trange

from mamlkit.baselines import nearest_example
from mamlkit.datasets.glyphs import load_glyphs
from mamlkit.episodes import Episodes
from mamlkit.inner import Params, functional_loss
from mamlkit.models import CNN
from mamlkit.outer import cosine, meta_train
from mamlkit.paths import BUILD
from mamlkit.reproduce import Known, row, write_result
from mamlkit.reproduce.judge import accuracies, descent
from mamlkit.reproduce.variants import difference_row, seed_row
from mamlkit.tasks import Batch, Tasks, cut, map_tasks

METHODS = ("maml", "protonet", "pretrained")
N_WAY, K_QUERY, N_TASKS = 5, 3, 8
PICTURES = N_TASKS * N_WAY * (1 + K_QUERY)  # of an iteration, for each method
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # Adam's
ALPHAS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # MAML's, of the mean loss
TUNING_RATES = (0.025, 0.1, 0.4, 1.6, 6.4, 25.6, 102.4)  # of fine-tuning
MOST_STEPS, HEAD_STEPS = 20, 300
PROBE = 40  # iterations by which the pace is measured
SEARCHING = 100  # the seed with which settings are chosen


def arguments(parser: ArgumentParser) -> None:
    """Add this experiment's flags."""
    add = parser.add_argument
    add("--budgets", nargs="+", type=int, default=[300, 1000, 3000])
    add("--meta-budgets", nargs="+", type=int, default=[300, 1000],
        help="those of MAML and prototypes")  # fmt: skip
    add("--seeds", type=int, default=5, help="trainings judged of each")
    add("--width", type=int, default=32, help="channels of the CNN")
    add("--tasks", type=int, default=400, help="test tasks")
    add("--threads", type=int, default=1)


def network(width: int, seed: int, names: int = N_WAY) -> nn.Module:
    """Initialise a CNN; the body is the same for all methods of a seed."""
    torch.manual_seed(seed)
    net = CNN(N_WAY, width=width)
    if names != N_WAY:
        net.head = nn.Linear(width, names)
    return net


def features(net: nn.Module, params: Params, x: Tensor) -> Tensor:
    """Mean over the positions of the last layer, (pictures, width)."""
    own = {
        name.removeprefix("body."): value
        for name, value in params.items()
        if name.startswith("body.")
    }
    return functional_call(net.body, own, (x,)).mean(dim=(-2, -1))


def prototype_loss(net, params, loss_fn, tasks, **unused) -> Tensor:
    """Mean query cross-entropy of prototypes; an objective of meta_train."""

    def of_task(support, query):
        known = features(net, params, support.x)
        belongs = F.one_hot(support.y, N_WAY).to(known)
        means = belongs.T @ known / belongs.sum(0)[:, None]
        apart = features(net, params, query.x)[:, None] - means
        return F.cross_entropy(-apart.square().sum(-1), query.y)

    return map_tasks(of_task, tasks).mean()


def name_all(
    net: nn.Module, images: Tensor, iterations: int, rate: float, seed: int
) -> None:
    """Train in place to name every character, in each of four turns."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(iterations))
    turns = torch.arange(4).repeat_interleave(PICTURES // 4)
    for _ in trange(iterations, leave=False, mininterval=5):
        name = torch.randint(len(images), (PICTURES,), generator=generator)
        hand = torch.randint(images.shape[1], (PICTURES,), generator=generator)
        drawn = images[name, hand].chunk(4)
        x = torch.cat([d.rot90(t, (-2, -1)) for t, d in enumerate(drawn)])
        loss = F.cross_entropy(net(x), name * 4 + turns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()


def fit(
    method: str, iterations: int, seed: int, width: int, **setting: float
) -> Params:
    """Train once; θ without a graph. Arguments as those of `train`."""
    images = load_glyphs("train")
    if method == "pretrained":
        net = network(width, seed, 4 * len(images))
        name_all(net, images, iterations, setting["rate"], seed)
    else:
        net = network(width, seed)
        episodes = Episodes(images, N_WAY, rotations=True)
        own = {}
        if method == "protonet":
            net.head = nn.Identity()
            own["objective"] = partial(prototype_loss, net)
        meta_train(
            net,
            partial(episodes.sample, k_shot=1, k_query=K_QUERY),
            criterion=F.cross_entropy,
            inner_lr=setting.get("alpha", 0.0),
            meta_lr=setting["rate"],
            n_tasks=N_TASKS,
            iterations=iterations,
            generator=torch.Generator().manual_seed(seed),
            schedule=cosine(iterations),
            **own,
        )
    params = {k: p.detach() for k, p in net.named_parameters()}
    if method == "pretrained":
        params |= blank_head(width)
    return params


def pace(method: str, width: int) -> float:
    """Measure the processor's milliseconds of an iteration.

    Two trainings, one of them longer; the least of five differences, as
    other programs only add to it.
    """
    setting = {"rate": 0.01} | ({"alpha": 0.4} if method == "maml" else {})
    times = []
    for _ in range(5):
        spent = []
        for iterations in (1, 1 + PROBE):
            begun = time.process_time()
            fit(method, iterations, SEARCHING, width, **setting)
            spent.append(time.process_time() - begun)
        times.append(1000 * (spent[1] - spent[0]) / PROBE)
    return round(min(times), 1)


def train(
    method: str, iterations: int, seed: int, width: int, **setting: float
) -> Params:
    """Train once, or read what an earlier run left; θ without a graph.

    Args:
        method: one of `METHODS`.
        iterations: of `PICTURES` pictures each.
        seed: of the initial weights and of the pictures.
        width: channels.
        **setting: `rate`, Adam's, falling to 0; `alpha` for MAML.
    """
    said = "_".join(f"{k}{v}" for k, v in setting.items())
    name = f"budgets_{width}_{method}_{iterations}_{seed}_{said}.pt"
    find = partial(fit, method, iterations, seed, width, **setting)
    return Known(BUILD / "reproduce" / name)("params", find)


def blank_head(width: int) -> Params:
    """Make a head for a new task: all logits are 0."""
    return {
        "head.weight": torch.zeros(N_WAY, width),
        "head.bias": torch.zeros(N_WAY),
    }


def seen(
    net: nn.Module, params: Params, tasks: Tasks, together: bool
) -> tuple[Tensor, Tensor]:
    """Features of all support and query sets, (tasks, pictures, width).

    Args:
        net: a `CNN`.
        params: its weights.
        tasks: stacked.
        together: batch norm sees support and query as one batch, instead of
            each by itself.
    """

    def of_task(support, query):
        if together:
            both = features(net, params, torch.cat([support.x, query.x]))
            return both.split([len(support.y), len(query.y)])
        return tuple(features(net, params, b.x) for b in (support, query))

    parts = []
    for start in range(0, len(tasks.support.y), 50):
        some = cut(tasks, start, start + 50)
        parts.append(torch.func.vmap(of_task)(*some))
    return tuple(torch.cat(part).detach() for part in zip(*parts))


def centroids(net, params, tasks, together, cosine_of) -> Tensor:
    """Share right of the nearest class mean of the features, (tasks,)."""
    known, new = seen(net, params, tasks, together)
    belongs = F.one_hot(tasks.support.y, N_WAY).to(known).mT
    means = belongs @ known / belongs.sum(-1, keepdim=True)
    if cosine_of:
        means, new = (F.normalize(t, dim=-1) for t in (means, new))
    nearest = torch.cdist(new, means).argmin(-1)
    return (nearest == tasks.query.y).float().mean(-1)


def heads(net, params, tasks, together, normalised, rate) -> Tensor:
    """Share right of a head alone, by its steps, (tasks, steps + 1)."""
    known, new = seen(net, params, tasks, together)
    if normalised:
        known, new = (F.normalize(t, dim=-1) for t in (known, new))
    known, new = (F.pad(t, (0, 1), value=1.0) for t in (known, new))
    wanted = F.one_hot(tasks.support.y, N_WAY).to(known)
    weights = torch.zeros(len(known), N_WAY, known.shape[-1])
    found = []
    for _ in range(HEAD_STEPS + 1):
        said = (new @ weights.mT).argmax(-1)
        found.append((said == tasks.query.y).float().mean(-1))
        error = (known @ weights.mT).softmax(-1) - wanted
        weights = weights - rate * error.mT @ known / known.shape[1]
    return torch.stack(found, dim=-1)


def fine_tuned(net, params, tasks, rate, steps=MOST_STEPS) -> Tensor:
    """Share right after steps on all layers, (tasks, steps + 1)."""
    loss_fn = functional_loss(net, F.cross_entropy)
    return accuracies(net, descent(loss_fn, params, rate), tasks, steps=steps)


def choose_centroid(net, params, val) -> tuple[float, dict]:
    """Best accuracy on validation tasks, and with which features."""
    tried = {
        (together, cos): centroids(net, params, val, together, cos).mean()
        for together in (False, True)
        for cos in (False, True)
    }
    best = max(tried, key=tried.get)
    return tried[best].item(), {"together": best[0], "cosine_of": best[1]}


def choose_head(net, params, val) -> tuple[float, dict]:
    """Best accuracy on validation tasks, with which features and steps."""
    tried = {}
    for together in (False, True):
        for normalised in (False, True):
            for rate in TUNING_RATES:
                setting = together, normalised, rate
                means = heads(net, params, val, *setting).mean(0)
                tried[setting] = means.max().item(), means.argmax().item()
    best = max(tried, key=lambda setting: tried[setting][0])
    names = ("together", "normalised", "rate")
    return tried[best][0], dict(zip(names, best)) | {"steps": tried[best][1]}


def choose_tuning(net, params, val) -> tuple[float, dict]:
    """Best accuracy on validation tasks of fine-tuning all layers."""
    tried = {}
    for rate in TUNING_RATES:
        means = fine_tuned(net, params, val, rate).mean(0)
        tried[rate] = means.max().item(), means.argmax().item()
    best = max(tried, key=lambda rate: tried[rate][0])
    return tried[best][0], {"rate": best, "steps": tried[best][1]}


def choose_steps(net, params, val, alpha) -> tuple[float, dict]:
    """Best accuracy on validation tasks of MAML, and after which step."""
    means = fine_tuned(net, params, val, alpha).mean(0)
    return means.max().item(), {"rate": alpha, "steps": means.argmax().item()}


def climb(
    grid: tuple[float, ...], start: float, judge: Callable[[float], float]
) -> tuple[float, dict[float, float]]:
    """Find a value that is better than both of its neighbours on a grid.

    Args:
        grid: ascending.
        start: where to begin, one of the grid.
        judge: value -> score, higher is better.

    Returns:
        the value, and all scores.

    Raises:
        ValueError: the best is the first or last of the grid.
    """
    at, scores = grid.index(start), {}
    while True:
        if at in (0, len(grid) - 1):
            raise ValueError(f"the best is at the edge of {grid}: widen it")
        for near in (at - 1, at, at + 1):
            if grid[near] not in scores:
                scores[grid[near]] = judge(grid[near])
        best = max((at, at - 1, at + 1), key=lambda i: scores[grid[i]])
        if best == at:
            return grid[at], scores
        at = best


def search(
    method: str, iterations: int, known: dict, args: Namespace, val: Tasks
) -> dict[str, Any]:
    """Choose the rate of a training at its budget, with the seed for it.

    Args:
        method: one of `METHODS`.
        iterations: the budget.
        known: what was found at the budget before, where the search begins;
            MAML keeps the α of its first budget.
        args: flags.
        val: validation tasks.

    Returns:
        `rate`, `alpha` for MAML, and what was tried.
    """
    net = network(args.width, SEARCHING)

    def judge(rate: float, alpha: float) -> float:
        own = {"alpha": alpha} if method == "maml" else {}
        params = train(
            method, iterations, SEARCHING, args.width, rate=rate, **own
        )
        if method == "maml":
            score = choose_steps(net, params, val, alpha)[0]
        else:
            score = choose_centroid(net, params, val)[0]
        if method == "pretrained":
            score = max(score, choose_head(net, params, val)[0])
        said = method, iterations, rate, alpha, f"{100 * score:.1f}"
        print(*said, flush=True)
        return score

    alpha = known.get("alpha", 0.4)
    start = known.get("rate", 0.01)
    rate, tried = climb(RATES, start, lambda r: judge(r, alpha))
    found = {"rate": rate, "tried": tried}
    if method == "maml" and "alpha" in known:
        found |= {"alpha": alpha}
    elif method == "maml":
        alpha, alphas = climb(ALPHAS, alpha, lambda a: judge(rate, a))
        found |= {"alpha": alpha, "alphas_tried": alphas}
    return found


def choices_of(
    method: str, params: Params, setting: dict, args: Namespace, val: Tasks
) -> dict[str, dict]:
    """How each way of using a trained network is set at test."""
    net = network(args.width, SEARCHING)
    if method == "maml":
        return {"maml": choose_steps(net, params, val, setting["alpha"])[1]}
    centroid = choose_centroid(net, params, val)[1]
    if method == "protonet":
        return {"protonet": centroid}
    return {
        "pretrained_centroid": centroid,
        "pretrained_head": choose_head(net, params, val)[1],
        "pretrained_tuned": choose_tuning(net, params, val)[1],
    }


def score(use: str, params: Params, choice: dict, net, tasks) -> Tensor:
    """Percent right on each test task, of one network used in one way."""
    if use.endswith("head"):
        setting = {k: v for k, v in choice.items() if k != "steps"}
        found = heads(net, params, tasks, **setting)[:, choice["steps"]]
    elif use.endswith("tuned") or use == "maml":
        found = fine_tuned(net, params, tasks, **choice)[:, -1]
    else:
        found = centroids(net, params, tasks, **choice)
    return 100 * found


def blurred(tasks: Tasks, width: int) -> Tasks:
    """The same tasks, every dot the mean of the width x width around it."""
    return Tasks(
        *(
            Batch(
                F.avg_pool2d(b.x.flatten(0, 1), width, 1, width // 2).view_as(
                    b.x
                ),
                b.y,
            )
            for b in tasks
        )
    )


def pixels(val: Tasks, test: Tasks) -> tuple[list[dict], int]:
    """Judge the nearest picture, as it is and blurred as suits best."""
    widths = range(1, 14, 2)
    means = {w: nearest_example(blurred(val, w)).mean() for w in widths}
    best = max(means, key=means.get)
    return [
        row("pixels", 100 * nearest_example(test)),
        row("blurred_pixels", 100 * nearest_example(blurred(test, best))),
    ], best


def untrained(args: Namespace, val: Tasks, test: Tasks) -> tuple[dict, dict]:
    """Judge networks that were never trained, with their own best use."""
    found, choices = {}, {}
    net = network(args.width, SEARCHING)
    start = {k: p.detach() for k, p in net.named_parameters()}
    choices["untrained_tuned"] = choose_tuning(net, start, val)[1]
    choices["untrained_centroid"] = choose_centroid(net, start, val)[1]
    for use, choice in choices.items():
        each = []
        for seed in range(args.seeds):
            net = network(args.width, seed)
            params = {k: p.detach() for k, p in net.named_parameters()}
            each.append(score(use, params, choice, net, test))
        found[use] = torch.stack(each)
    return found, choices


def draw(part: str, n_tasks: int) -> Tasks:
    """Draw turned tasks of validation or test characters."""
    seed = {"val": 1_000_002, "test": 1_000_003}[part]
    return Episodes(load_glyphs(part), N_WAY, rotations=True).sample(
        n_tasks,
        k_shot=1,
        k_query=K_QUERY,
        generator=torch.Generator().manual_seed(seed),
    )


def run(args: Namespace) -> None:
    """Train and judge all; write glyphs_budgets.json."""
    torch.set_num_threads(args.threads)
    val, test = draw("val", args.tasks // 2), draw("test", args.tasks)
    rows, blur = pixels(val, test)
    found, choices = untrained(args, val, test)
    choices["blurred_pixels"] = {"width": blur}
    curve, known = [], {method: {} for method in METHODS}
    paces = {method: pace(method, args.width) for method in METHODS}
    lengths = dict.fromkeys(METHODS, args.meta_budgets)
    lengths["pretrained"] = args.budgets
    for iterations in sorted({*args.budgets, *args.meta_budgets}):
        for method in METHODS:
            if iterations not in lengths[method]:
                continue
            chosen = search(method, iterations, known[method], args, val)
            known[method] = chosen
            setting = {k: chosen[k] for k in ("rate", "alpha") if k in chosen}
            params = train(
                method, iterations, SEARCHING, args.width, **setting
            )
            uses = choices_of(method, params, setting, args, val)
            choices[f"{method}_{iterations}"] = chosen | {"uses": uses}
            each = {use: [] for use in uses}
            for seed in range(args.seeds):
                params = train(method, iterations, seed, args.width, **setting)
                net = network(args.width, seed)
                for use, choice in uses.items():
                    values = score(use, params, choice, net, test)
                    each[use].append(values)
                    mean = round(values.mean().item(), 2)
                    print(use, iterations, seed, mean, flush=True)
                    curve.append([use, iterations, seed, mean])
            for use, values in each.items():
                found[f"{use}_{iterations}"] = torch.stack(values)
            write(args, rows, found, choices, curve, paces)


def write(args, rows, found, choices, curve, paces) -> None:
    """Write what is known so far."""
    means = {name: values.mean(1).tolist() for name, values in found.items()}
    rows = rows + [seed_row(name, values) for name, values in means.items()]
    for name in found:
        use, _, iterations = name.rpartition("_")
        rival = f"maml_{iterations}"
        if rival in found and use != "maml":
            rows.append(difference_row(rival, name, found))
    path = write_result(
        "glyphs_budgets",
        settings={
            "pictures_an_iteration": PICTURES,
            "ways": N_WAY,
            "shots": 1,
            "queries_a_class": K_QUERY,
            "width": args.width,
            "test_tasks": args.tasks,
            "validation_tasks": args.tasks // 2,
            "choices": choices,
            "milliseconds_an_iteration": paces,
        },
        seed=0,
        seconds=0.0,
        curve=curve,
        rows=rows,
    )
    print(path.name, len(rows), "rows", flush=True)
