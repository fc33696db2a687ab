"""What is known of `trref.tokens.tre`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION, with_edges
from trref.tokens.tre import min_entropy, region_bonus, tail_mass_drift, tre


def without_advantage(inputs):
    """all advantages are 0"""
    return {**inputs, "advantage": xp.zeros_like(inputs["advantage"])}


def of_one_length(inputs):
    """answers of one length"""
    return {
        **inputs,
        "mask": xp.ones_like(inputs["mask"]),
        "ref_logits": inputs["old_logits"],
    }


def _large():
    """A logit near 800, whose exponential overflows."""
    batch = FULL_DISTRIBUTION.edges["equal rewards"]()
    first = 800.0 * (xp.arange(batch["logits"].shape[-1]) == 0)
    return {
        name: value + first if name.endswith("logits") else value
        for name, value in batch.items()
    }


LARGE = with_edges(
    FULL_DISTRIBUTION, *FULL_DISTRIBUTION.edges, **{"a large logit": _large}
)


def rows(rng, size):
    """Logits of several spreads."""
    return {
        "logits": float(rng.choice((0.5, 1.5, 4.0))) * rng.standard_normal((size, 6))
    }


ROWS = {
    "uniform": lambda: {"logits": xp.zeros((1, 4))},
    "one token": lambda: {"logits": xp.zeros((1, 1))},
    "large logits": lambda: {
        "logits": xp.array([[801.0, 800.5, 799.0], [800.0, 0.5, 0.0]])
    },
}


def drift_by_loops(logits, *, rule="top_k", K=2, P=0.99):
    """The chain rule, token by token."""
    drift = []
    for z in logits.tolist():
        p = [math.exp(x - max(z)) for x in z]
        p = [x / sum(p) for x in p]
        inside, outside, before = [], [], 0.0
        for rank, x in enumerate(sorted(p, reverse=True)):
            chosen = rule == "all" or (rank < K if rule == "top_k" else before < P)
            (inside if chosen else outside).append(x)
            before += x
        M = sum(inside)
        q = [x / M for x in inside]
        H = -sum(x * math.log(x) for x in q if x)
        dM, dH = (
            [x * sum(outside) for x in inside],
            [-x * (math.log(x) + H) if x else 0.0 for x in q],
        )
        drift.append(sum(a * b for a, b in zip(dM, dH, strict=True)))
    return drift


def _min_entropy_for_one(logits, mask, *, rule="top_k", K=2, P=0.99):
    if rule == "top_k" and K == 1:
        return min_entropy(logits, mask)
    return region_bonus(logits, mask, rule=rule, K=K, P=P)


MIN_ENTROPY_FOR_ONE = Deviation(
    "the min-entropy for K = 1",
    _min_entropy_for_one,
    seen_in="WhyChaos/TRE-Encouraging-Exploration-in-the-Trust-Region verl/utils/torch_functional.py",
    computes="-log max p in the place of an entropy inside a set of one token, which is 0",
)


PROBE = {"rule": "top_p", "K": 3, "P": 0.8}


SETTINGS = {
    "default": {},
    "top_p": {"rule": "top_p"},
    "all": {"rule": "all"},
    "probe": PROBE,
}


METHOD = Method(
    key="huang2026tre",
    provenance={
        "confirmed": ("region", "entropy", "scaled", "objective", "min-entropy"),
        "reconstructed": ("drift", "mass-preserving"),
    },
    functions=(
        Objective(
            f=region_bonus,
            interface=LARGE,
            wrt="logits",
            settings={**SETTINGS, "K = 1": {"K": 1}},
            limits=(
                Limit("tre.region_bonus", {"K": 1000}, {"rule": "all"}),
                Limit("tre.region_bonus", {"rule": "top_p", "P": 1.0}, {"rule": "all"}),
            ),
            deviations=(MIN_ENTROPY_FOR_ONE,),
        ),
        Objective(
            f=tre,
            interface=LARGE,
            wrt="logits",
            settings={
                "default": {},
                "all": {"rule": "all"},
                "probe": {"clip": 0.35, "entropy_weight": 0.3, **PROBE},
            },
            limits=(
                Limit(
                    "tre.region_bonus", {"entropy_weight": 1.0}, where=without_advantage
                ),
                Limit(
                    "apo.apo",
                    {"entropy_weight": 0.0},
                    {"push": 1.0, "pull": 0.0},
                    where=of_one_length,
                ),
            ),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Objective(f=min_entropy, interface=FULL_DISTRIBUTION, wrt="logits"),
        Estimator(
            f=tail_mass_drift,
            example=rows,
            edges=ROWS,
            settings=SETTINGS,
            brute_force=drift_by_loops,
        ),
    ),
)
