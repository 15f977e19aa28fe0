"""Attention over the support set, on characters, at chapter 07's scale.

5 ways, 1 shot, invented characters, networks of width 32. MAML, prototypes
and attention on frozen pretrained features, each with as many pictures; and
a head tuned on those features.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.datasets.glyphs import load_glyphs
from mamlkit.episodes import Episodes
from mamlkit.evaluate import adaptation_curve, functional_accuracy
from mamlkit.in_context import InContextLearner
from mamlkit.inner import Params, functional_loss
from mamlkit.models import CNN
from mamlkit.outer import cosine, meta_train
from mamlkit.paths import BUILD
from mamlkit.reproduce import row_of_seeds
from mamlkit.tasks import Batch, Tasks, in_chunks, map_tasks

N_WAY, K_QUERY, WIDTH = 5, 3, 32
N_TASKS, META_LR = 8, 0.003  # of chapter 07
ITERATIONS = 600  # twice chapter 07's; 300 if the features come first
TEST_TASKS, VALIDATION_TASKS = 600, 100
STEPS = 10
MAML_LR = 0.4
RATES = {
    "untrained": (0.1, 0.4, 1.6, 6.4, 25.6),
    "maml": (0.1, 0.2, 0.4, 0.8, 1.6),
    "tuned_head": (0.4, 1.6, 6.4, 25.6, 102.4),
}


def tasks_of(part: str, count: int, seed: int) -> Tasks:
    """Draw 1-shot tasks of "train", "val" or "test" characters."""
    return Episodes(load_glyphs(part), N_WAY).sample(
        count,
        k_shot=1,
        k_query=K_QUERY,
        generator=torch.Generator().manual_seed(seed),
    )


def meta_trained(
    model: nn.Module,
    seed: int,
    name: str,
    *,
    iterations: int,
    sample: Callable[..., Tasks] | None = None,
    **options,
) -> Params:
    """Train on episodes of the training characters, resumably."""
    episodes = Episodes(load_glyphs("train"), N_WAY)
    sample = sample or partial(episodes.sample, k_shot=1, k_query=K_QUERY)
    return meta_train(
        model,
        sample,
        criterion=F.cross_entropy,
        inner_lr=options.pop("inner_lr", 0.0),
        meta_lr=options.pop("meta_lr", META_LR),
        n_tasks=N_TASKS,
        iterations=iterations,
        generator=torch.Generator().manual_seed(seed),
        schedule=cosine(iterations),
        checkpoint=BUILD / "reproduce" / f"characters_{name}_{seed}.pt",
        **options,
    ).params


def pretrained(seed: int, iterations: int) -> Params:
    """Name all training characters in four turns; return the body."""
    path = BUILD / "reproduce" / f"characters_named_{iterations}_{seed}.pt"
    if path.exists():
        return load_checkpoint(path)
    images = load_glyphs("train")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = CNN(4 * len(images), width=WIDTH)
    adam = torch.optim.Adam(net.parameters(), META_LR)
    pictures = N_TASKS * N_WAY * (1 + K_QUERY)
    for _ in range(iterations):
        draw = torch.randint(10**6, (3, pictures), generator=generator)
        name, hand = draw[0] % len(images), draw[1] % images.shape[1]
        turn = draw[2, 0].item() % 4  # one for the whole batch
        logits = net(images[name, hand].rot90(turn, (-2, -1)))
        loss = F.cross_entropy(logits, 4 * name + turn)
        adam.zero_grad()
        loss.backward()
        adam.step()
    body = {
        k: p.detach() for k, p in net.named_parameters() if "head" not in k
    }
    save_checkpoint(path, body)
    return body


def embedder() -> nn.Module:
    """Make the body alone: pictures in, features out."""
    net = CNN(N_WAY, width=WIDTH)
    net.head = nn.Identity()
    return net


BODY = embedder()  # called with other weights only


@torch.no_grad()
def features(body: Params, tasks: Tasks) -> Tasks:
    """Replace pictures by what the frozen body makes of each batch."""

    def embed(support, query):
        known, new = (
            functional_call(BODY, body, (b.x,)) for b in (support, query)
        )
        return torch.cat([known, new])

    found = in_chunks(partial(map_tasks, embed), tasks)
    known, new = found.split([N_WAY, N_WAY * K_QUERY], dim=1)
    return Tasks(Batch(known, tasks.support.y), Batch(new, tasks.query.y))


def prototypes(params: Params, support: Batch, query: Batch) -> Tensor:
    """Logits of one task's queries from the nearness of class means."""
    known, new = (
        functional_call(BODY, params, (b.x,)) for b in (support, query)
    )
    belongs = F.one_hot(support.y, N_WAY).to(known)
    means = belongs.T @ known / belongs.sum(0)[:, None]
    return -(new[:, None] - means).square().sum(-1)


def prototype_loss(params: Params, _, tasks: Tasks, **unused) -> Tensor:
    """Mean query cross-entropy of prototypes, for `meta_train`."""

    def task_loss(support, query):
        return F.cross_entropy(prototypes(params, support, query), query.y)

    return map_tasks(task_loss, tasks).mean()


def attention_logits(model: nn.Module, params: Params, tasks: Tasks) -> Tensor:
    """Logits of all queries, read off prompts of features and labels."""
    support, query = tasks
    labels = F.one_hot(support.y, N_WAY).to(support.x)
    prompt = Batch(support.x, labels)
    return functional_call(model, params, (prompt, query.x))


def attention_learner(seed: int, body: Params) -> tuple[nn.Module, Params]:
    """Train attention over the support set on frozen features."""
    episodes = Episodes(load_glyphs("train"), N_WAY)
    torch.manual_seed(seed)
    model = InContextLearner(WIDTH, N_WAY, layers=2)

    def sample(n_tasks, *, generator):
        drawn = episodes.sample(
            n_tasks, k_shot=1, k_query=K_QUERY, generator=generator
        )
        return features(body, drawn)

    def objective(params, _, tasks, **unused):
        logits = attention_logits(model, params, tasks)
        return F.cross_entropy(logits.flatten(0, 1), tasks.query.y.flatten())

    params = meta_trained(
        model, seed, "attention",
        iterations=ITERATIONS // 2, sample=sample, steps=0,
        objective=objective, meta_lr=META_LR / 3,
    )  # fmt: skip
    return model, params


def share_right(logits: Tensor, query: Batch) -> Tensor:
    """Share of right answers of each task, (tasks,)."""
    return (logits.argmax(-1) == query.y).float().mean(-1)


def adapted(net: nn.Module, params: Params, rates, tasks: Tasks, test: Tasks):
    """Accuracy with the rate and steps that are best on `tasks`; (tests,)."""
    judge = partial(
        adaptation_curve,
        params,
        functional_loss(net, F.cross_entropy),
        functional_accuracy(net),
        steps=STEPS,
    )
    means = {
        lr: in_chunks(partial(judge, lr=lr), tasks).mean(0) for lr in rates
    }
    lr = max(means, key=lambda lr: means[lr].max())
    step = int(means[lr].argmax())
    found = in_chunks(partial(judge, lr=lr), test)[:, step]
    return found, {"lr": lr, "steps": step}


def one_seed(seed: int) -> tuple[dict[str, float], dict]:
    """Train and judge everything once; accuracies in percent, and choices."""
    path = BUILD / "reproduce" / f"characters_judged_{seed}.pt"
    if path.exists():
        state = load_checkpoint(path)
        return state["found"], state["chosen"]
    test = tasks_of("test", TEST_TASKS, 1_000_001 + seed)
    val = tasks_of("val", VALIDATION_TASKS, 2_000_001 + seed)
    torch.manual_seed(seed)
    net = CNN(N_WAY, width=WIDTH)
    untrained = {k: p.detach().clone() for k, p in net.named_parameters()}
    maml = meta_trained(
        net, seed, "maml", iterations=ITERATIONS, inner_lr=MAML_LR
    )
    torch.manual_seed(seed)
    protonet = meta_trained(
        embedder(), seed, "protonet",
        iterations=ITERATIONS, objective=prototype_loss,
    )  # fmt: skip
    found, chosen = {}, {}
    for name, params in (("untrained", untrained), ("maml", maml)):
        found[name], chosen[name] = adapted(
            net, params, RATES[name], val, test
        )
    # Frozen features: of half the budget, and of all of it for the head.
    half, whole = (pretrained(seed, n) for n in (ITERATIONS // 2, ITERATIONS))
    head = nn.Linear(WIDTH, N_WAY)
    zero = {k: torch.zeros_like(p) for k, p in head.named_parameters()}
    found["tuned_head"], chosen["tuned_head"] = adapted(
        head, zero, RATES["tuned_head"],
        features(whole, val), features(whole, test),
    )  # fmt: skip
    model, params = attention_learner(seed, half)
    with torch.no_grad():
        seen = features(half, test)
        logits = attention_logits(model, params, seen)
        found["attention"] = share_right(logits, test.query)
        for name, body in (
            ("protonet", protonet),
            ("pretrained_means", whole),
        ):
            logits = in_chunks(
                partial(map_tasks, partial(prototypes, body)), test
            )
            found[name] = share_right(logits, test.query)
        far = torch.cdist(test.query.x.flatten(2), test.support.x.flatten(2))
        nearest = test.support.y.gather(1, far.argmin(-1))
        found["nearest_pixels"] = (nearest == test.query.y).float().mean(-1)
    found = {k: 100 * v.mean().item() for k, v in found.items()}
    print(seed, {k: round(v, 1) for k, v in found.items()}, chosen, flush=True)
    save_checkpoint(path, {"found": found, "chosen": chosen})
    return found, chosen


def character_rows(seeds: range) -> tuple[list[dict], list[dict]]:
    """Rows of accuracies in percent, over trainings; and what was chosen."""
    results = [one_seed(seed) for seed in seeds]
    rows = [
        row_of_seeds(
            f"characters_{name}", [found[name] for found, _ in results]
        )
        for name in results[0][0]
    ]
    return rows, [chosen for _, chosen in results]
