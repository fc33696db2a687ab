"""What is known of `trref.trustworthiness.trustworthy_erm`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective
from trref.catalog.domains.interfaces import DOMAIN_HEAD
from trref.trustworthiness.trustworthy_erm import (
    LowRank,
    Tilted,
    adversary_objective,
    encoder_objective,
    invariant_objective,
    low_rank_gradient,
    masking_effect,
    master_objective,
    saliency,
    tilted_policy,
)


def _data(rng, size):
    """Two classes; weights of the classifier off 0, of several scales, the last feature constant."""
    D = int(rng.integers(2, 5))
    X = rng.standard_normal((size + 1, D))
    X[:, -1] = 1.0
    theta = rng.choice((-1.0, 1.0), D) * rng.uniform(0.3, 1.5, D)
    movable = xp.ones(D)
    movable[-1] = 0.0
    weights = 0.3 + rng.random(size + 1)
    return {
        "theta": rng.choice((0.1, 1.0, 4.0)) * theta,
        "X": X,
        "labels": (rng.random(size + 1) < 0.5).astype(float),
        "weights": weights / weights.sum(),
        "movable": movable,
    }


def _given(theta, X, labels, weights=None, movable=None):
    return {
        "theta": xp.array(theta),
        "X": xp.array(X),
        "labels": xp.array(labels),
        "weights": None if weights is None else xp.array(weights),
        "movable": None if movable is None else xp.array(movable),
    }


LINEAR = Interface(
    "linear",
    example=_data,
    edges={
        "nothing is known of weights": lambda: _given(
            [0.5, -2.0, 0.7],
            [[1.0, 2.0, 1.0], [-1.0, 0.5, 1.0], [0.3, -0.2, 1.0]],
            [1.0, 0.0, 1.0],
        ),
        "one class, weights that are unlike": lambda: _given(
            [1.0, -0.5], [[1.0, 2.0], [-1.5, 1.0]], [1.0, 1.0], [0.9, 0.1], [1.0, 0.0]
        ),
        "a weight of 0": lambda: _given(
            [1.0, 0.0], [[1.0, 2.0], [-1.5, 1.0]], [1.0, 0.0], [0.5, 0.5], [1.0, 1.0]
        ),
        "nearly sure": lambda: _given(
            [30.0, -20.0], [[1.0, 0.5], [-1.0, 0.3]], [1.0, 1.0], None, [0.0, 0.0]
        ),
        "one sample": lambda: _given([0.8], [[1.5]], [0.0]),
    },
)
"""``f(theta (D), X (N, D), labels (N), …)``."""


def _domains(rng, size):
    D, K = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    return {
        "encoder": rng.choice((0.2, 1.0)) * rng.standard_normal((D, K)),
        "head": rng.standard_normal(K),
        "adversary": rng.standard_normal(K),
        "X": rng.standard_normal((size, D)),
        "labels": (rng.random(size) < 0.5).astype(float),
        "domain": (rng.random(size) < 0.5).astype(float),
    }


def _two_domains(encoder, head, adversary):
    return {
        "encoder": xp.array(encoder),
        "head": xp.array(head),
        "adversary": xp.array(adversary),
        "X": xp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -0.7]]),
        "labels": xp.array([1.0, 0.0, 1.0]),
        "domain": xp.array([1.0, 1.0, 0.0]),
    }


ADVERSARY = Interface(
    "encoder and adversary",
    example=_domains,
    edges={
        "a start of 0": lambda: _two_domains([[0.0], [0.0]], [0.0], [0.0]),
        "the adversary agrees with the head": lambda: _two_domains(
            [[1.0, -0.5], [0.3, 2.0]], [1.0, -1.0], [1.0, -1.0]
        ),
        "nearly sure": lambda: _two_domains([[8.0], [4.0]], [3.0], [-3.0]),
    },
)
"""``f(encoder (D, K), head (K), adversary (K), X (N, D), labels (N), domain (N), …)``."""


def _differences(theta, X, labels):
    """By a step of the data to either side, with the error of that taken off once."""

    def loss(i, j, move):
        x = [float(v) for v in X[i]]
        x[j] += move
        margin = (2 * float(labels[i]) - 1) * math.fsum(
            a * b for a, b in zip(x, theta.tolist(), strict=True)
        )
        return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))

    def slope(i, j, move):
        return (loss(i, j, move) - loss(i, j, -move)) / (2 * move)

    h = 2e-3 / max(1.0, float(abs(theta).max()))
    table = xp.zeros(X.shape)
    for i, j in itertools.product(*map(range, X.shape)):
        a, b, c = (slope(i, j, h * k) for k in (1, 2, 4))
        table[i, j] = (64 * a - 20 * b + c) / 45
    return table


def _all_masks(theta, X, *, features=1):
    D, worst = len(theta), []
    for row in (X * theta).tolist():
        masks = itertools.chain.from_iterable(
            itertools.combinations(range(D), k) for k in range(min(features, D) + 1)
        )
        worst.append(max(abs(math.fsum(row[j] for j in mask)) for mask in masks))
    return xp.array(worst)


def _factors(rng, size):
    N, R = int(rng.integers(2, 5)), int(rng.integers(1, 3))
    return {
        "G": rng.standard_normal((size, N)),
        "B": rng.standard_normal((size, R)),
        "A": rng.standard_normal((R, N)),
    }


def _entry_by_entry(G, B, A):
    """Each entry of B or A moved by 1: the change B A is linear in each of them."""
    by_B, by_A = xp.zeros(B.shape), xp.zeros(A.shape)
    for i, r in itertools.product(*map(range, B.shape)):
        by_B[i, r] = math.fsum(float(G[i, n] * A[r, n]) for n in range(A.shape[1]))
    for r, n in itertools.product(*map(range, A.shape)):
        by_A[r, n] = math.fsum(float(G[i, n] * B[i, r]) for i in range(len(B)))
    return LowRank(by_B, by_A)


def _arms(rng, size):
    policy = 0.1 + rng.random(size)
    return {
        "policy": policy / policy.sum(),
        "reward": rng.choice((0.3, 3.0)) * rng.standard_normal(size),
    }


def _tilted(policy, reward, *, kl_weight=1.0):
    pairs = list(zip(policy.tolist(), reward.tolist(), strict=True))
    best = max(r for p, r in pairs if p)
    raw = [p * math.exp(min(r - best, 0.0) / kl_weight) for p, r in pairs]
    total = math.fsum(raw)
    return Tilted(
        xp.array([v / total for v in raw]), best + kl_weight * math.log(total)
    )


METHOD = Method(
    key="liu2023towards",
    provenance="reconstructed",
    functions=(
        Objective(
            f=master_objective,
            interface=LINEAR,
            wrt="theta",
            sizes=(4, 16),
            settings={
                "default": {},
                "worst data": {"rho": 0.3},
                "worst share": {"reweighting": "cvar", "level": 0.6},
                "penalised": {"reweighting": "kl_penalty", "kl_weight": 0.5},
                "a ball of divergence": {"reweighting": "kl_ball", "radius": 0.2},
                "probe": {
                    "rho": 0.2,
                    "reweighting": "chi_square_ball",
                    "level": 0.5,
                    "kl_weight": 0.4,
                    "radius": 0.05,
                    "l2_weight": 0.3,
                },
            },
        ),
        Objective(
            f=encoder_objective,
            interface=ADVERSARY,
            wrt=("encoder", "head"),
            settings={
                "default": {},
                "without the adversary": {"adversary_weight": 0.0},
                "probe": {"adversary_weight": 0.3},
            },
        ),
        Objective(f=adversary_objective, interface=ADVERSARY, wrt="adversary"),
        Objective(
            f=invariant_objective,
            interface=DOMAIN_HEAD,
            wrt=("theta", "features"),
            settings={
                "default": {},
                "without a penalty": {"penalty_weight": 0.0},
                "probe": {"penalty": "vrex", "penalty_weight": 3.0},
            },
            limits=(
                Limit(
                    "hessian_alignment.alignment_objective",
                    {"penalty_weight": 0.0},
                    {"alpha": 0.0, "beta": 0.0},
                ),
            ),
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=saliency, interface=LINEAR, brute_force=_differences, tolerance=1e-8
        ),
        Estimator(
            f=masking_effect,
            interface=LINEAR,
            settings={
                "default": {},
                "more than there are": {"features": 9},
                "probe": {"features": 2},
            },
            brute_force=_all_masks,
        ),
        Estimator(
            f=low_rank_gradient,
            example=_factors,
            edges={
                "B is 0, as at the start": lambda: {
                    "G": xp.array([[1.0, 2.0], [3.0, 4.0]]),
                    "B": xp.zeros((2, 1)),
                    "A": xp.array([[1.0, -1.0]]),
                },
                "numbers": lambda: {
                    "G": xp.array([[2.0]]),
                    "B": xp.array([[3.0]]),
                    "A": xp.array([[5.0]]),
                },
            },
            brute_force=_entry_by_entry,
        ),
        Estimator(
            f=tilted_policy,
            example=_arms,
            edges={
                "equal rewards": lambda: {
                    "policy": xp.array([0.25, 0.75]),
                    "reward": xp.ones(2),
                },
                "the best is impossible": lambda: {
                    "policy": xp.array([0.5, 0.5, 0.0]),
                    "reward": xp.array([1.0, 0.0, 9.0]),
                },
                "one action": lambda: {
                    "policy": xp.ones(1),
                    "reward": xp.array([-2.0]),
                },
            },
            settings={"default": {}, "probe": {"kl_weight": 0.3}},
            brute_force=_tilted,
        ),
    ),
)
