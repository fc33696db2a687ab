"""What is known of `trref.shift.trust_ssl`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.record import Interface
from trref.shift.trust_ssl import (
    Opinion,
    Views,
    conflict,
    cosine_gate,
    fused_ignorance,
    nt_xent,
    opinions,
    residual,
    trust_gate,
    trust_objective,
)


def _pair(rng, size):
    D = int(rng.integers(2, 5))
    first = rng.choice((0.3, 1.0, 5.0)) * rng.standard_normal((size, D))
    return {"first": first, "second": first + 0.5 * rng.standard_normal((size, D))}


PAIRS = {
    "one image": lambda: {
        "first": xp.array([[1.0, 2.0]]),
        "second": xp.array([[-2.0, 1.0]]),
    },
    "views at right angles": lambda: {
        "first": xp.array([[1.0, 0.5], [0.3, -2.0]]),
        "second": xp.array([[-1.0, 2.0], [2.0, 0.3]]),
    },
}


def _views(rng, size):
    T, E, M = (int(rng.integers(low, 4)) for low in (1, 2, 2))
    factors = rng.standard_normal((size, T, E))
    evidence = 0.1 + rng.gamma(0.5, rng.choice((0.1, 1.0)), (2, size, T, M))
    return {
        **_pair(rng, size),
        "first_factors": factors,
        "second_factors": factors + 0.7 * rng.standard_normal((size, T, E)),
        "first_evidence": evidence[0],
        "second_evidence": evidence[1],
    }


def _one_image(first_evidence, second_evidence):
    return {
        **PAIRS["one image"](),
        "first_factors": xp.array([[[1.0, -0.5]]]),
        "second_factors": xp.array([[[0.5, 2.0]]]),
        "first_evidence": xp.array([[first_evidence]]),
        "second_evidence": xp.array([[second_evidence]]),
    }


VIEWS = Interface(
    "views",
    example=_views,
    edges={
        "no evidence": lambda: _one_image([0.0, 0.0], [0.0, 0.0]),
        "sure of one thing": lambda: _one_image([500.0, 0.0], [800.0, 0.0]),
        "sure of different things": lambda: _one_image([500.0, 0.0], [0.0, 800.0]),
        "one knows, one does not": lambda: _one_image([3.0, 0.5, 0.1], [0.0, 0.0, 0.0]),
        "one prototype": lambda: _one_image([0.3], [0.2]),
    },
)


def _beliefs(rng, size):
    M = int(rng.integers(1, 5))
    draw = lambda: rng.dirichlet(xp.ones(M + 1), size)[:, :M]  # noqa: E731
    return {"first_belief": draw(), "second_belief": draw()}


def _opinion(e, prior):
    S = math.fsum(v + prior for v in e)
    return [v / S for v in e], prior * len(e) / S


def _each_opinion(evidence, *, prior=0.05):
    pairs = [_opinion(e, prior) for e in evidence.tolist()]
    return Opinion(xp.array([b for b, _ in pairs]), xp.array([u for _, u in pairs]))


def _pairs_of_prototypes(b1, b2):
    pairs = itertools.product(range(len(b1)), repeat=2)
    return min(math.fsum(b1[i] * b2[j] for i, j in pairs if i != j), 0.999)


def _each_conflict(first_belief, second_belief):
    rows = zip(first_belief.tolist(), second_belief.tolist(), strict=True)
    return xp.array([_pairs_of_prototypes(a, b) for a, b in rows])


def _each_ignorance(first_ignorance, second_ignorance, conflict, *, asymmetry=0.1):
    result = []
    for u, v, K in zip(
        first_ignorance.tolist(),
        second_ignorance.tolist(),
        conflict.tolist(),
        strict=True,
    ):
        together = u * v / (1 - min(K, 0.999))
        result.append(min(together + asymmetry * max(u - v, v - u), 1.0))
    return xp.array(result)


def _each_gate(
    first_evidence,
    second_evidence,
    *,
    floor=0.05,
    conflict_weight=2.0,
    ignorance_weight=3.0,
    asymmetry=0.1,
    prior=0.05,
):
    B, T, _ = first_evidence.shape
    result = xp.empty((B, T))
    for b, t in itertools.product(range(B), range(T)):
        b1, u = _opinion(first_evidence[b, t].tolist(), prior)
        b2, v = _opinion(second_evidence[b, t].tolist(), prior)
        K = _pairs_of_prototypes(b1, b2)
        ignorance = min(u * v / (1 - K) + asymmetry * abs(u - v), 1.0)
        closed = math.exp(-conflict_weight * K) * math.exp(
            -ignorance_weight * ignorance
        )
        result[b, t] = floor + (1 - floor) * closed
    return result


def _factor_vectors(rng, size):
    given = _views(rng, size)
    return {"first": given["first_factors"], "second": given["second_factors"]}


def _trusted(rng, size):
    given = _factor_vectors(rng, size)
    return {**given, "trust": rng.random(given["first"].shape[:2])}


def _each_cosine_gate(first, second, *, floor=0.05, temperature=0.5):
    B, T, _ = first.shape
    result = xp.empty((B, T))
    for b, t in itertools.product(range(B), range(T)):
        x, y = first[b, t].tolist(), second[b, t].tolist()
        inner = math.fsum(p * q for p, q in zip(x, y, strict=True))
        cosine = inner / math.hypot(*x) / math.hypot(*y)
        result[b, t] = floor + (1 - floor) / (1 + math.exp(-cosine / temperature))
    return result


ONE_FACTOR = {
    "one factor": lambda: {
        "first": xp.array([[[1.0, 0.0]]]),
        "second": xp.array([[[1.0, 1.0]]]),
    },
    "opposite": lambda: {
        "first": xp.array([[[1.0, 0.5]], [[2.0, 0.0]]]),
        "second": xp.array([[[-1.0, -0.5]], [[0.0, 1.0]]]),
    },
}


def _multiplicative(
    first,
    second,
    first_factors,
    second_factors,
    first_evidence,
    second_evidence,
    *,
    residual_weight=0.2,
    temperature=0.1,
    floor=0.05,
    conflict_weight=2.0,
    ignorance_weight=3.0,
    asymmetry=0.1,
    prior=0.05,
):
    """The contrastive loss times the mean trust, and nothing added."""
    trust = trust_gate(
        first_evidence,
        second_evidence,
        floor=floor,
        conflict_weight=conflict_weight,
        ignorance_weight=ignorance_weight,
        asymmetry=asymmetry,
        prior=prior,
    ).mean()
    value, by = nt_xent(first, second, temperature=temperature)
    nothing = 0 * first_factors
    zero = [0 * first_evidence, 0 * second_evidence]
    return trust * value, Views(
        trust * by.first, trust * by.second, nothing, nothing, *zero
    )


GATE = {
    "floor": 0.2,
    "conflict_weight": 1.3,
    "ignorance_weight": 0.7,
    "asymmetry": 3.0,
    "prior": 0.4,
}

REFUSED = {
    "a first view of length 0": {"first": 0},
    "a second view of length 0": {"second": 0},
}


METHOD = Method(
    key="boulila2026trust",
    provenance={
        "confirmed": (
            "contrast",
            "opinion",
            "conflict",
            "ignorance",
            "gate",
            "residual",
            "objective",
            "cosine-gate",
        ),
        "reconstructed": ("contrast-gradient", "residual-gradient"),
    },
    functions=(
        Objective(
            f=nt_xent,
            wrt=("first", "second"),
            example=_pair,
            edges=PAIRS,
            settings={"default": {}, "probe": {"temperature": 0.4}},
            refused=REFUSED,
        ),
        Estimator(
            f=opinions,
            example=lambda rng, size: {
                "evidence": rng.gamma(0.5, 1.0, (size, int(rng.integers(1, 5))))
            },
            edges={"no evidence": lambda: {"evidence": xp.zeros((1, 3))}},
            settings={"default": {}, "probe": {"prior": 0.4}},
            brute_force=_each_opinion,
        ),
        Estimator(
            f=conflict,
            example=_beliefs,
            edges={
                "of different things": lambda: {
                    "first_belief": xp.array([[1.0, 0.0]]),
                    "second_belief": xp.array([[0.0, 1.0]]),
                },
                "of one thing": lambda: {
                    "first_belief": xp.array([[0.0, 0.75]]),
                    "second_belief": xp.array([[0.0, 0.5]]),
                },
            },
            brute_force=_each_conflict,
        ),
        Estimator(
            f=fused_ignorance,
            example=lambda rng, size: {
                "first_ignorance": rng.random(size),
                "second_ignorance": rng.random(size),
                "conflict": rng.random(size) ** 3,
            },
            edges={
                "full conflict": lambda: {
                    "first_ignorance": xp.array([0.0, 0.01, 0.9]),
                    "second_ignorance": xp.array([0.0, 0.05, 0.8]),
                    "conflict": xp.array([1.0, 1.0, 0.75]),
                },
                "nothing is known": lambda: {
                    "first_ignorance": xp.array([1.0]),
                    "second_ignorance": xp.array([1.0]),
                    "conflict": xp.array([0.0]),
                },
            },
            settings={"default": {}, "probe": {"asymmetry": 0.4}},
            brute_force=_each_ignorance,
        ),
        Estimator(
            f=trust_gate,
            interface=VIEWS,
            settings={
                "default": {},
                "all is trusted": {"conflict_weight": 0.0, "ignorance_weight": 0.0},
                "probe": GATE,
            },
            brute_force=_each_gate,
        ),
        Estimator(
            f=cosine_gate,
            example=_factor_vectors,
            edges=ONE_FACTOR,
            settings={"default": {}, "probe": {"floor": 0.2, "temperature": 0.3}},
            brute_force=_each_cosine_gate,
            refused=REFUSED,
        ),
        Objective(
            f=residual,
            wrt=("first", "second"),
            example=_trusted,
            edges={
                name: lambda make=make: {
                    **make(),
                    "trust": xp.full(make()["first"].shape[:2], 0.3),
                }
                for name, make in ONE_FACTOR.items()
            },
            refused=REFUSED,
        ),
        Objective(
            f=trust_objective,
            wrt=Views._fields,
            edges={
                name: VIEWS.edges[name]
                for name in ("one knows, one does not", "sure of different things")
            },
            sizes=(2, 5),
            seeds=(0, 3),
            interface=VIEWS,
            stopped={"trust": trust_gate},
            settings={
                "default": {},
                "without the second loss": {"residual_weight": 0.0},
                "probe": {"residual_weight": 0.7, "temperature": 0.4, **GATE},
            },
            deviations=(
                Deviation(
                    "multiplicative gate",
                    _multiplicative,
                    seen_in="the multiplicative gate, the negative example beside WadiiBoulila/trust-ssl",
                    computes="the contrastive loss times the trust",
                    documented=True,
                ),
            ),
            refused={
                "a first view of length 0": {"first": 0},
                "a second view of length 0": {"second": 0},
                "first factors of length 0": {"first_factors": 0},
                "second factors of length 0": {"second_factors": 0},
            },
        ),
    ),
)
