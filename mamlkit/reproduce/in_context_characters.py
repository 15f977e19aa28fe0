"""Attention over the support set, on characters, at chapter 07's budget.

5-way 1-shot. The features are those of the pretrained networks of `budgets`,
frozen. One layer of attention is trained on them: a query looks for the
examples that match it, and its answer is the share of attention that each
class gets, as in matching networks (Vinyals et al. 2016, arXiv:1606.04080).
Judged on the test tasks of `budgets`, by the seeds and the rules there.
"""

import time

import torch
from torch import Tensor
from torch.nn import functional as F

from mamlkit.checkpoint import load_checkpoint, save_checkpoint
from mamlkit.datasets.glyphs import load_glyphs
from mamlkit.episodes import Episodes
from mamlkit.in_context import normalise
from mamlkit.inner import Params
from mamlkit.outer import cosine
from mamlkit.paths import BUILD
from mamlkit.reproduce import read_result
from mamlkit.reproduce.budgets import (
    K_QUERY,
    N_TASKS,
    N_WAY,
    SEARCHING,
    climb,
    draw,
    network,
    score,
    seen,
    train,
)
from mamlkit.reproduce.variants import difference_row, seed_row
from mamlkit.tasks import Tasks

WIDTH = 32  # of the networks, and of queries and keys
SEEDS = 5
ITERATIONS = 300  # of attention, on features
LENGTHS = (300, 640)  # iterations of pretraining
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # Adam's
RIVALS = ("pretrained_head", "pretrained_centroid")  # on the same features
META_LEARNED = ("maml", "protonet")


def shares(weights: Params, known: Tensor, new: Tensor, y: Tensor) -> Tensor:
    """Answer by attention; log of each class's share of it.

    Args:
        weights: "query" and "key", (WIDTH, WIDTH) each.
        known: features of the examples, (tasks, examples, WIDTH).
        new: features of the queries, (tasks, queries, WIDTH).
        y: classes of the examples, (tasks, examples).

    Returns:
        shape (tasks, queries, N_WAY).
    """
    queries, keys = new @ weights["query"], known @ weights["key"]
    match = (queries @ keys.mT / WIDTH**0.5).log_softmax(-1)
    # The log of a sum of shares; a class that no example has gets none.
    belongs = F.one_hot(y, N_WAY).to(match).log()
    return (match[..., None] + belongs[:, None]).logsumexp(-2)


def looked_at(
    body: Params, tasks: Tasks, normalised: bool
) -> tuple[Tensor, Tensor]:
    """Frozen features of examples and queries, (tasks, pictures, WIDTH)."""
    found = seen(network(WIDTH, 0), body, tasks, together=False)
    return tuple(normalise(t) for t in found) if normalised else found


def train_attention(
    body: Params, seed: int, rate: float, normalised: bool, label: str
) -> tuple[Params, float]:
    """Train queries and keys on frozen features, or read what was trained.

    Args:
        body: of a network of `budgets`.
        seed: of the weights and tasks.
        rate: Adam's, falling to 0.
        normalised: give features mean 0 and deviation 1 first.
        label: of the file.

    Returns:
        the weights, and the seconds that the processor worked.
    """
    label = f"attention_{label}_{seed}_rate{rate}_{normalised}.pt"
    path = BUILD / "reproduce" / label
    if path.exists():
        stored = load_checkpoint(path)
        return stored["weights"], stored["cpu_seconds"]
    begun = time.process_time()
    episodes = Episodes(load_glyphs("train"), N_WAY, rotations=True)
    generator = torch.Generator().manual_seed(seed)
    # Both begin as the identity: what looks alike gets attention.
    weights = {k: torch.eye(WIDTH).requires_grad_() for k in ("query", "key")}
    adam = torch.optim.Adam(weights.values(), rate)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, cosine(ITERATIONS))
    for _ in range(ITERATIONS):
        tasks = episodes.sample(
            N_TASKS, k_shot=1, k_query=K_QUERY, generator=generator
        )
        said = shares(
            weights, *looked_at(body, tasks, normalised), tasks.support.y
        )
        loss = F.nll_loss(said.flatten(0, 1), tasks.query.y.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    weights = {k: w.detach() for k, w in weights.items()}
    spent = time.process_time() - begun
    save_checkpoint(path, {"weights": weights, "cpu_seconds": spent})
    return weights, spent


def attention_score(
    body: Params, weights: Params, normalised: bool, tasks: Tasks
) -> Tensor:
    """Percent right on each task, (tasks,)."""
    features = looked_at(body, tasks, normalised)
    said = shares(weights, *features, tasks.support.y).argmax(-1)
    return 100 * (said == tasks.query.y).float().mean(-1)


def chosen_attention(
    body: Params, label: str, val: Tasks
) -> tuple[bool, float, dict]:
    """Choose features and rate by the seed that is not judged.

    Returns:
        whether to normalise, Adam's rate, and what was tried: percent right
        on validation tasks by rate.
    """
    best, tried = (-1.0, False, 0.0), {}
    for normalised in (False, True):

        def judge(rate, normalised=normalised):
            weights, _ = train_attention(
                body, SEARCHING, rate, normalised, label
            )
            found = attention_score(body, weights, normalised, val)
            return round(found.mean().item(), 2)

        rate, scores = climb(RATES, 0.01, judge)
        tried["normalised" if normalised else "raw"] = scores
        best = max(best, (scores[rate], normalised, rate))
    return best[1], best[2], tried


def rivals_of(
    length: int, bodies: list[Params], choices: dict, test: Tasks
) -> dict[str, Tensor]:
    """Percent right of a head and of class means on the same features."""
    return {
        f"{use}_{length}": torch.stack(
            [
                score(
                    use,
                    body,
                    choices[f"pretrained_{length}"]["uses"][use],
                    network(WIDTH, seed),
                    test,
                )
                for seed, body in enumerate(bodies)
            ]
        )
        for use in RIVALS
    }


def meta_learned(method: str, setting: dict, test: Tasks) -> Tensor:
    """Percent right of MAML or prototypes at their budget of 300."""
    own = {k: setting[k] for k in ("rate", "alpha") if k in setting}
    return torch.stack(
        [
            score(
                method,
                train(method, 300, seed, WIDTH, **own),
                setting["uses"][method],
                network(WIDTH, seed),
                test,
            )
            for seed in range(SEEDS)
        ]
    )


def character_rows() -> tuple[list[dict], dict]:
    """Rows of accuracies in percent, over trainings; and what was chosen.

    The others' accuracies are in glyphs_budgets.json; the differences to them
    are on the same tasks.
    """
    budgets = read_result("glyphs_budgets")["settings"]
    choices, tasks = budgets["choices"], budgets["test_tasks"]
    val, test = draw("val", budgets["validation_tasks"]), draw("test", tasks)
    found, chosen, rows = {}, {}, []
    for method in META_LEARNED:
        setting = choices[f"{method}_300"]
        found[f"{method}_300"] = meta_learned(method, setting, test)
    for length in LENGTHS:
        rate = choices[f"pretrained_{length}"]["rate"]
        *bodies, searching = (
            train("pretrained", length, seed, WIDTH, rate=rate)
            for seed in (*range(SEEDS), SEARCHING)
        )
        normalised, rate, tried = chosen_attention(searching, str(length), val)
        each, spent = [], 0.0
        for seed, body in enumerate(bodies):
            weights, seconds = train_attention(
                body, seed, rate, normalised, str(length)
            )
            each.append(attention_score(body, weights, normalised, test))
            spent += seconds / SEEDS
        name = f"characters_attention_{length}"
        found[name] = torch.stack(each)
        rivals = rivals_of(length, bodies, choices, test)
        found |= rivals
        rows.append(seed_row(name, found[name].mean(1).tolist()))
        rows += [
            difference_row(name, rival, found)
            for rival in (*rivals, *(f"{m}_300" for m in META_LEARNED))
        ]
        chosen[str(length)] = {
            "normalised": normalised,
            "rate": rate,
            "tried": tried,
            "cpu_seconds": round(spent, 1),
        }
    return rows, chosen
