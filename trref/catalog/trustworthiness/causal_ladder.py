"""What is known of `trref.trustworthiness.causal_ladder`."""

import math
from collections import Counter

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.trustworthiness.causal_ladder import (
    adversary_floor,
    backdoor,
    flipped,
    intervention_weights,
    seen,
)


def _tables(rng, size):
    S, C = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    table = 0.1 + rng.random((S, size, C)) ** 3
    return {"joint": table / table.sum()}


JOINT = Interface(
    "joint table",
    example=_tables,
    edges={
        "s says everything": lambda: {
            "joint": xp.array([[[0.3, 0.0], [0.1, 0.0]], [[0.0, 0.2], [0.0, 0.4]]])
        },
        "s is the same always": lambda: {"joint": xp.array([[[0.1, 0.2], [0.3, 0.4]]])},
        "x says nothing": lambda: {"joint": xp.ones((2, 2, 2)) / 8},
        "one x": lambda: {"joint": xp.array([[[0.1, 0.4]], [[0.3, 0.2]]])},
    },
)
"""``f(joint (S, K, C))``."""


def _seen(joint):
    S, K, C = joint.shape
    table = xp.zeros((K, C))
    for x in range(K):
        counts = [math.fsum(joint[s, x, y] for s in range(S)) for y in range(C)]
        table[x] = xp.array(counts) / math.fsum(counts)
    return table


def _set(joint):
    """By weights that cut the arrow from s to x: P(s) / P(s, x) of each entry."""
    S, K, C = joint.shape
    table = xp.zeros((K, C))
    for s in range(S):
        of_s = math.fsum(joint[s].ravel().tolist())
        for x in range(K):
            both = math.fsum(joint[s, x].tolist())
            for y in range(C):
                table[x, y] += float(joint[s, x, y]) * of_s / both
    return table


def _independent(inputs):
    """s and x are independent"""
    joint = inputs["joint"]
    x = joint.sum((0, 2))
    given = joint / joint.sum(2, keepdims=True)
    made = joint.sum((1, 2))[:, None, None] * x[:, None] * given
    return {"joint": made}


def _pairs(rng, size):
    labels = xp.concatenate([xp.array([0, 0, 1, 1]), rng.integers(0, 2, size)])
    same = rng.random(size + 4) < 0.8
    nuisance = xp.where(same, labels, 1 - labels)
    nuisance[:4] = xp.array([0, 1, 0, 1])
    return {"labels": labels, "nuisance": nuisance}


def _by_counting(labels, nuisance, *, classes=2, values=2, dtype="float64"):
    pairs = list(zip(labels.tolist(), nuisance.tolist(), strict=True))
    both, y = Counter(pairs), Counter(p[0] for p in pairs)
    s = Counter(p[1] for p in pairs)
    raw = [y[a] * s[b] / both[a, b] for a, b in pairs]
    return xp.array([w / math.fsum(raw) for w in raw], dtype=dtype)


def _uniform_nuisance(labels, nuisance, *, classes=2, values=2, dtype="float64"):
    pairs = list(zip(labels.tolist(), nuisance.tolist(), strict=True))
    both, y = Counter(pairs), Counter(p[0] for p in pairs)
    raw = xp.array([y[a] / both[a, b] for a, b in pairs], dtype=dtype)
    return raw / raw.sum()


def _samples(rng, size):
    D = int(rng.integers(1, 5))
    return {
        "X": rng.choice((0.1, 10.0)) * rng.standard_normal((size, D)),
        "nuisance": (rng.random(size) < 0.5).astype(float),
        "effect": rng.standard_normal(D),
    }


def _row_by_row(X, nuisance, effect):
    rows = [
        [v - e if s else v + e for v, e in zip(row, effect.tolist(), strict=True)]
        for row, s in zip(X.tolist(), nuisance.tolist(), strict=True)
    ]
    return xp.array(rows)


def _laws(rng, size):
    laws = rng.random((2, size + 1)) ** 2
    laws = laws / laws.sum(1, keepdims=True)
    return {"first": laws[0], "second": laws[1]}


def _best_adversary(first, second):
    """Its cross-entropy, with the chance of the first domain p / (p + q)."""
    terms = []
    for p, q in zip(first.tolist(), second.tolist(), strict=True):
        terms += [-0.5 * v * math.log(v / (p + q)) for v in (p, q) if v]
    return math.fsum(terms)


METHOD = Method(
    key="liu2023towards",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=seen,
            interface=JOINT,
            brute_force=_seen,
            limits=(Limit(to="causal_ladder.backdoor", hyper={}, where=_independent),),
            refused={
                "probabilities of sum 1/2": {"joint": lambda joint: joint / 2},
            },
        ),
        Estimator(
            f=backdoor,
            interface=JOINT,
            brute_force=_set,
            refused={
                "an x that some s never has": lambda: (
                    {"joint": xp.array([[[0.5, 0.0], [0.0, 0.0]], [[0.2, 0.1]] * 2])},
                    {},
                ),
                "no law": lambda: ({"joint": xp.ones((1, 1, 2))}, {}),
            },
        ),
        Estimator(
            f=intervention_weights,
            example=_pairs,
            edges={
                "independent already": lambda: {
                    "labels": xp.array([0, 0, 1, 1]),
                    "nuisance": xp.array([0, 1, 0, 1]),
                },
                "nearly always the same": lambda: {
                    "labels": xp.array([0, 0, 0, 0, 1, 1, 1]),
                    "nuisance": xp.array([0, 0, 0, 1, 1, 1, 0]),
                },
                "a pair is missing": lambda: {
                    "labels": xp.array([0, 0, 1]),
                    "nuisance": xp.array([0, 1, 1]),
                },
                "one sample": lambda: {
                    "labels": xp.array([1]),
                    "nuisance": xp.array([0]),
                },
            },
            settings={"default": {}, "probe": {"classes": 3, "values": 4}},
            brute_force=_by_counting,
            deviations=(
                Deviation(
                    "by the nuisance given the label",
                    _uniform_nuisance,
                    seen_in="zEpid, zepid.causal.ipw.IPTW with stabilized=False",
                    computes="1 / P(s | y): a uniform nuisance instead of its own law",
                ),
            ),
            refused={
                "a label that is no class": {"labels": 99},
                "a nuisance that there is not": {"nuisance": 99},
            },
        ),
        Estimator(
            f=flipped,
            example=_samples,
            edges={
                "no effect": lambda: {
                    "X": xp.ones((2, 2)),
                    "nuisance": xp.array([0.0, 1.0]),
                    "effect": xp.zeros(2),
                },
                "one": lambda: {
                    "X": xp.array([[1.0]]),
                    "nuisance": xp.ones(1),
                    "effect": xp.array([3.0]),
                },
            },
            brute_force=_row_by_row,
        ),
        Estimator(
            f=adversary_floor,
            example=_laws,
            edges={
                "the same": lambda: {
                    "first": xp.array([0.25, 0.75]),
                    "second": xp.array([0.25, 0.75]),
                },
                "half apart": lambda: {
                    "first": xp.array([0.5, 0.5, 0.0]),
                    "second": xp.array([0.0, 0.5, 0.5]),
                },
                "one value": lambda: {"first": xp.ones(1), "second": xp.ones(1)},
            },
            brute_force=_best_adversary,
        ),
    ),
)
