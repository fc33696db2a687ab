"""Where the examples of trust-region subproblems come from, and the certificates of their solutions."""

import math

from trref.backend import linalg, xp
from trref.catalog.record import Interface
from trref.problems.convex import spd_matrix, spectrum
from trref.problems.samples import (
    LinearSamples,
    LogisticSamples,
    QuadraticSamples,
)

__all__ = [
    "DECREASE",
    "EXACT_SETTINGS",
    "RISK",
    "STEP_SETTINGS",
    "SUBPROBLEM",
    "TIGHT",
    "convex",
    "diagonal",
    "optimality",
    "rising_spectrum",
    "sufficient_decrease",
    "tiny",
]


def _example(rng, size):
    """Eigenvalues of either sign or of both."""
    scale = rng.choice((0.05, 1.0, 30.0))
    signs = (rng.choice((-1.0, 1.0), size), xp.ones(size), -xp.ones(size))[
        rng.choice(3, p=(0.6, 0.2, 0.2))
    ]
    B = spd_matrix(rng, scale * spectrum(size, rng.choice((2.0, 30.0))) * signs)
    return {"g": rng.choice((0.1, 1.0, 10.0)) * rng.standard_normal(size), "B": B}


def _edge(g, B):
    return {"g": xp.array(g, dtype=float), "B": xp.array(B, dtype=float)}


def diagonal(g, w):
    """Return a subproblem with a diagonal matrix."""
    return {"g": xp.array(g, dtype=float), "B": xp.diag(xp.array(w, dtype=float))}


def tiny(B):
    """Return a subproblem in which products of three numbers underflow."""
    return _edge([3e-120, -4e-120], 1e-120 * xp.array(B, dtype=float))


def convex(inputs):
    """a convex model"""
    g, B = inputs["g"], inputs["B"]
    return {"g": g, "B": B @ B + xp.eye(len(g))}


SUBPROBLEM = Interface(
    "subproblem",
    example=_example,
    edges={
        "hard case": lambda: diagonal([0, 0, 1, 1], [-2, -2, 1, 3]),
        "hard case, simple eigenvalue": lambda: diagonal([0.3, 0, 0.1], [1, -1, 2]),
        "zero gradient, convex": lambda: diagonal([0, 0], [1, 2]),
        "zero gradient, indefinite": lambda: diagonal([0, 0], [1, -2]),
        "zero model": lambda: diagonal([0, 0], [0, 0]),
        "linear model": lambda: diagonal([3, 4], [0, 0]),
        "singular, step inside": lambda: diagonal([0.01, 0], [1, 0]),
        "singular, no minimum inside": lambda: diagonal([0.1, 0.1], [1, 0]),
        "repeated eigenvalues": lambda: diagonal([1, 2, 3], [2, 2, 2]),
        "step ends exactly at the radius": lambda: diagonal([1.2, 1.6], [2, 2]),
        "one unknown": lambda: _edge([0.5], [[-1.5]]),
        "tiny": lambda: tiny([[2, 1], [1, -3]]),
    },
)
"""``f(g (N), B (N N), *, radius, …)``: a symmetric model."""


# ---- exact solutions


def optimality(result, g, B, *, radius, **_):
    """The conditions that hold at a global minimiser and nowhere else, relative to the sizes of g, B and the step.

    ``(B + λI) p = -g``, ``B + λI`` positive semidefinite, ``λ >= 0``, ``‖p‖ <= radius``, ``λ (radius - ‖p‖) = 0``.
    The last multiplier tried is λ.
    """
    # eq. trust-region-subproblem-optimality
    p, lam = result.p, result.multiplier
    length, size = (
        float(xp.sqrt((p * p).sum())),
        float(abs(linalg.eigvalsh(B)).max()) + abs(lam),
    )
    scale = float(xp.sqrt((g * g).sum())) + size * radius or 1.0
    residual = B @ p + lam * p + g
    return {
        "stationarity": float(xp.sqrt((residual * residual).sum())) / scale,
        "feasibility": length / radius - 1,
        "complementarity": lam * abs(radius - length) / scale,
        "indefiniteness": -(float(linalg.eigvalsh(B).min()) + lam) / (size or 1.0),
        "negative multiplier": -lam / (size or 1.0),
        "last multiplier tried": abs(result.multipliers[-1] - lam) / (size or 1.0),
    }


EXACT_SETTINGS = {
    "default": {"radius": 1.0},
    "short": {"radius": 0.05},
    "long": {"radius": 40.0},
    "probe": {"radius": 0.7},
}
CONDITIONS = (
    "stationarity",
    "feasibility",
    "complementarity",
    "indefiniteness",
    "negative multiplier",
)
TIGHT = {**dict.fromkeys(CONDITIONS, 1e-11), "last multiplier tried": 1e-10}


# ---- steps that are good enough


def sufficient_decrease(result, g, B, *, radius, **_):
    """The decrease that the Cauchy point guarantees, over the decrease; and the length."""
    p, norm, size = (
        result.p,
        math.sqrt(float(g @ g)),
        float(abs(linalg.eigvalsh(B)).max()),
    )
    bound = norm / 2 * min(radius, norm / size if size else math.inf)
    decrease = -float(g @ p + p @ (B @ p) / 2)
    too_small = math.inf if bound else 0.0
    return {
        "Cauchy decrease over the decrease": bound / decrease
        if decrease > 0
        else too_small,
        "length beyond the radius": float(xp.sqrt((p * p).sum())) / radius - 1,
        "error of the reported value": abs(result.values[-1] + decrease)
        / (abs(decrease) or 1.0),
    }


STEP_SETTINGS = {
    "default": {"radius": 1.0},
    "short": {"radius": 0.05},
    "probe": {"radius": 3.7},
}
DECREASE = {
    "Cauchy decrease over the decrease": 1 + 1e-9,
    "length beyond the radius": 1e-10,
    "error of the reported value": 1e-9,
}
"""Bounds of the figures of `sufficient_decrease`."""


# ---- losses of samples under a spectrum


def rising_spectrum(rng, size):
    """A spectrum in ascending order: a superquantile's, an extremile's, or an equal one."""
    u = xp.linspace(0.0, 1.0, size + 1)
    kind = int(rng.integers(0, 3))
    level, power = float(rng.uniform(0.1, 0.8)), float(rng.uniform(1.5, 4.0))
    h = (xp.maximum(u - level, 0) / (1 - level), u**power, u)[kind]
    return h[1:] - h[:-1]


def _risk_example(rng, size):
    D = int(rng.integers(2, 5))
    X = rng.standard_normal((size, D))
    samples = (
        LinearSamples(X, rng.choice((0.5, 3.0)) * rng.standard_normal(size), 0.1),
        LogisticSamples(X, rng.choice([-1.0, 1.0], size)),
    )[int(rng.integers(0, 2))]
    return {
        "losses": rng.choice((0.1, 1.0, 20.0)) * rng.standard_normal(size),
        "spectrum": rising_spectrum(rng, size),
        "samples": samples,
        "theta": rng.standard_normal(D),
    }


def _risk_edge(losses, spectrum):
    """Losses as they are, and samples of one parameter that have these at 1."""
    losses, spectrum = xp.array(losses), xp.array(spectrum)
    half = losses - losses.min() + 0.5
    return {
        "losses": losses,
        "spectrum": spectrum,
        "samples": QuadraticSamples(4 * half[:, None], half[:, None]),
        "theta": xp.array([1.0]),
    }


RISK = Interface(
    "risk",
    example=_risk_example,
    edges={
        "one sample": lambda: _risk_edge([0.7], [1.0]),
        "equal losses": lambda: _risk_edge([0.4] * 4, [0.0, 0.1, 0.3, 0.6]),
        "some are equal": lambda: _risk_edge(
            [2.0, 0.5, 0.5, -1.0], [0.0, 0.0, 0.5, 0.5]
        ),
        "the largest alone": lambda: _risk_edge([0.3, 1.5, 0.9], [0.0, 0.0, 1.0]),
        "the largest alone, far above": lambda: _risk_edge(
            [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]
        ),
        "equal weights": lambda: _risk_edge([0.3, 5.0, 0.9, 0.1], [0.25] * 4),
        "far apart": lambda: _risk_edge([0.0, 1e-3, 5.0, 200.0], [0.1, 0.2, 0.3, 0.4]),
        "in descending order": lambda: _risk_edge([3.0, 2.0, 1.5], [0.2, 0.3, 0.5]),
    },
)
"""Losses of N samples, a model and its parameters, and a spectrum."""
