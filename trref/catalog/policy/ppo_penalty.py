"""What is known of `trref.policy.ppo_penalty`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.policy.interfaces import SURROGATE
from trref.nn.heads import categorical_log_prob
from trref.policy.ppo_penalty import (
    adapt_kl_weight,
    kl_estimators,
    kl_penalty_objective,
)


def _kl_in_the_advantage(logits, old_logits, actions, advantage, *, kl_weight=1.0):
    log_prob, d_log_prob = categorical_log_prob(logits, actions)
    old_log_prob = categorical_log_prob(old_logits, actions)[0]
    ratio = xp.exp(log_prob - old_log_prob)
    term = ratio * (advantage - kl_weight * (log_prob - old_log_prob)) / len(ratio)
    return -term.sum(), -term[:, None] * d_log_prob


KL_IN_THE_ADVANTAGE = Deviation(
    "penalty in the reward",
    _kl_in_the_advantage,
    seen_in="verl 0.9.1 verl/trainer/ppo/ray_trainer.py, apply_kl_penalty (of the old policy from a"
    " reference, in the reward), and other trainers of language models",
    computes="an advantage reduced by the weight times the sampled log-ratio, a constant of the gradient, instead of"
    " the exact divergence in the objective",
    documented=True,
)


def _proportional(kl_weight, kl, *, target=0.01):
    return kl_weight * (1 + xp.clip(kl / target - 1, -0.2, 0.2))


PROPORTIONAL = Deviation(
    "proportional controller",
    _proportional,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, AdaptiveKLController, after arXiv:1909.08593",
    computes="weight (1 + clip(kl / target - 1, ±0.2) n / horizon), here with n = horizon",
    documented=True,
)


def _penalty_example(rng, size):
    old = rng.choice((0.1, 1.5)) * rng.standard_normal((size, 4))
    return {
        "logits": old + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 4)),
        "old_logits": old,
        "actions": rng.integers(0, 4, size),
        "advantage": rng.standard_normal(size),
    }


def _penalty_edge(logits, old_logits, advantage):
    return {
        "logits": xp.array(logits, dtype=float),
        "old_logits": xp.array(old_logits, dtype=float),
        "actions": xp.zeros(len(logits), dtype=int),
        "advantage": xp.array(advantage, dtype=float),
    }


def _weight_example(rng, size):
    return {
        "kl_weight": xp.array(10.0 ** rng.uniform(-3, 3)),
        "kl": xp.array(0.01 * 4.0 ** rng.uniform(-1, 1)),
    }


def _weight_edge(kl_weight, kl):
    return {"kl_weight": xp.array(kl_weight), "kl": xp.array(kl)}


def _weight_by_cases(kl_weight, kl, *, target=0.01):
    if kl * 1.5 < target:
        return max(float(kl_weight) / 2, 1e-10)
    return min(float(kl_weight) * 2, 1e10) if kl > 1.5 * target else float(kl_weight)


def _estimators_by_ratio(log_prob, old_log_prob):
    ratio = xp.exp(log_prob) / xp.exp(old_log_prob)
    return xp.stack(
        [xp.log(1 / ratio), xp.log(ratio) ** 2 / 2, ratio - 1 - xp.log(ratio)]
    )


METHOD = Method(
    key="schulman2017proximal",
    provenance={
        "partly": ("objective", "beta", "estimators"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=kl_penalty_objective,
            example=_penalty_example,
            edges={
                "on-policy": lambda: _penalty_edge(
                    [[0.5, -1.0]] * 2, [[0.5, -1.0]] * 2, [1, -2]
                ),
                "no advantages": lambda: _penalty_edge(
                    [[0.5, -1.0]], [[0.0, 0.0]], [0]
                ),
                "all but deterministic": lambda: _penalty_edge(
                    [[5.0, 0.0]], [[-3.0, 0.0]], [1]
                ),
            },
            wrt="logits",
            settings={
                "default": {},
                "no penalty": {"kl_weight": 0.0},
                "probe": {"kl_weight": 2.5},
            },
            deviations=(KL_IN_THE_ADVANTAGE,),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Estimator(
            f=adapt_kl_weight,
            example=_weight_example,
            edges={
                "on the target": lambda: _weight_edge(2.0, 0.01),
                "on the upper threshold": lambda: _weight_edge(2.0, 1.5 * 0.01),
                "no divergence": lambda: _weight_edge(3.0, 0.0),
                "at the smallest weight": lambda: _weight_edge(1e-10, 0.0),
                "at the largest weight": lambda: _weight_edge(1e10, 1.0),
            },
            settings={"default": {}, "probe": {"target": 0.03}},
            deviations=(PROPORTIONAL,),
            brute_force=_weight_by_cases,
        ),
        Estimator(
            f=kl_estimators,
            interface=SURROGATE,
            brute_force=_estimators_by_ratio,
        ),
    ),
)
