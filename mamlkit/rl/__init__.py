"""Reinforcement learning: MAML with policy gradients (chapters 09, 15)."""

from mamlkit.rl.navigation import navigate, sample_goals, the_40_goals
from mamlkit.rl.policy import (
    GaussianPolicy,
    Rollouts,
    kl_divergence,
    log_prob,
    repeat,
    roll_out,
    total_return,
)
from mamlkit.rl.surrogate import (
    Experience,
    dice,
    linear_baseline,
    lvc,
    naive,
    policy_loss,
    returns_to_go,
    weigh,
)
from mamlkit.rl.trpo import (
    fisher_product,
    flat_conjugate_gradients,
    flatten,
    meta_trpo_step,
    trpo_step,
    unflatten,
)

__all__ = [
    "Experience",
    "GaussianPolicy",
    "Rollouts",
    "dice",
    "fisher_product",
    "flat_conjugate_gradients",
    "flatten",
    "kl_divergence",
    "linear_baseline",
    "log_prob",
    "lvc",
    "meta_trpo_step",
    "naive",
    "navigate",
    "policy_loss",
    "repeat",
    "returns_to_go",
    "roll_out",
    "sample_goals",
    "the_40_goals",
    "total_return",
    "trpo_step",
    "unflatten",
    "weigh",
]
