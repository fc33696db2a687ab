"""The batch that a trust-region step takes: signature, examples and the paper's guarantee as a certificate."""

import math

from trref.backend import xp
from trref.catalog import Input, Interface
from trref.problems.policies import CategoricalPolicy, LinearSoftmaxPolicy

__all__ = ["BATCH", "CONTINUOUS", "TOLERANCES", "within_the_trust_region"]

INPUTS = {
    "policy": Input("", "callable"),
    "theta": Input("P"),
    "states": Input("N D"),
    "actions": Input("N", "index"),
    "advantage": Input("N"),
    "weight": Input("N", "nonnegative", optional=True),
}
CONTINUOUS = {**INPUTS, "actions": Input("N K")}


def _example(rng, size):
    policy = CategoricalPolicy((3, 5, 3)) if rng.random() < 0.7 else LinearSoftmaxPolicy(3, 4)
    weight = rng.random(size)
    return {
        "policy": policy,
        "theta": rng.choice((0.1, 0.7)) * rng.standard_normal(policy.size),
        "states": rng.standard_normal((size, 3)),
        "actions": rng.integers(0, policy.actions, size),
        "advantage": rng.choice((0.05, 0.4, 30.0)) * rng.standard_normal(size),
        "weight": weight / weight.sum() if rng.random() < 0.5 else None,
    }


def _edge(advantage, logit=0.0, weight=None):
    return {
        "policy": LinearSoftmaxPolicy(2, 2),
        "theta": xp.array([logit, 0.0, 0.0, logit]),
        "states": xp.eye(2)[xp.arange(len(advantage)) % 2],
        "actions": xp.arange(len(advantage)) // 2 % 2,
        "advantage": xp.array(advantage, dtype=float),
        "weight": None if weight is None else xp.array(weight, dtype=float),
    }


def _saturating():
    """Along the first direction the surrogate rises, and then falls below its start: only short steps gain."""
    return {
        "policy": LinearSoftmaxPolicy(1, 2),
        "theta": xp.array([0.5, -0.5]),
        "states": xp.array([[1.0], [1 / 3]]),
        "actions": xp.array([0, 0]),
        "advantage": xp.array([2.0, -0.8]),
        "weight": xp.array([0.25, 0.75]),
    }


BATCH = Interface(
    "trust_region_batch",
    inputs=INPUTS,
    example=_example,
    edges={
        "zero advantages": lambda: _edge([0, 0, 0, 0]),
        "equal advantages": lambda: _edge([2, 2, 2, 2]),
        "all but deterministic": lambda: _edge([1, -1, 0.5, 2], logit=12.0),
        "one sample": lambda: _edge([-1.5]),
        "weights of zero": lambda: _edge([1, -1, 0.5, 2], weight=[1, 0, 0, 0]),
        "gains of short steps only": _saturating,
    },
)
"""``step(policy, theta (P), states (N D), actions (N), advantage (N), weight (N), *, delta, …)``."""


def within_the_trust_region(result, policy, theta, states, actions, advantage, weight=None, delta=0.01, **_):
    """Certificate: the mean KL(old‖new) relative to its bound; how much the surrogate fell, relative to its terms.

    Both are computed afresh, and compared with what the result says of its last trial.
    """
    weight = xp.full_like(advantage, 1 / len(advantage)) if weight is None else weight
    old, new = policy(theta, states), policy(result.theta, states)
    log_ratio = policy.log_prob(new, actions)[0] - policy.log_prob(old, actions)[0]
    scale = float((weight * abs(advantage)).sum()) or 1.0
    gain = float((weight * xp.expm1(log_ratio) * advantage).sum()) / scale
    divergence = float((weight * policy.kl(old, new)[0]).sum())
    if not math.isfinite(gain + divergence):
        return dict.fromkeys(TOLERANCES, math.inf)
    gains, divergences = (result.gains, result.divergences) if result.converged else ([0.0], [0.0])
    return {
        "mean KL over its bound": divergence / delta,
        "loss of the surrogate": max(0.0, -gain),
        "mean KL misreported": abs(divergence - divergences[-1]) / delta,
        "gain misreported": abs(gain - gains[-1] / scale),
    }


TOLERANCES = {
    "mean KL over its bound": 1 + 1e-9,
    "loss of the surrogate": 1e-12,
    "mean KL misreported": 1e-9,
    "gain misreported": 1e-10,
}
