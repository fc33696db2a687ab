"""What is known of `trref.optimizers.fismo`."""

import dataclasses

from trref.backend import xp
from trref.catalog import (
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
    UpdateRule,
)
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE
from trref.optimizers.fismo import (
    factor_objective,
    fisher_step,
    init,
    stationary_left,
    stationary_right,
    update,
    update_left,
    update_right,
)


def _definite(rng, n):
    A = rng.standard_normal((n, n))
    return A @ A.T / n + 0.3 * xp.eye(n)


def _example(rng, size):
    m, n, K = size, 2 + size % 3, 3 + size // 4 % 2
    scale = rng.choice((0.2, 3.0))
    return {
        "g": scale * rng.standard_normal((m, n)),
        "left": _definite(rng, m),
        "right": _definite(rng, n),
        "gradients": scale * rng.standard_normal((K, m, n)),
    }


def _matrix(rows):
    def make():
        g = xp.array(rows)
        m, n = g.shape
        left = xp.diag(1 + xp.arange(float(m))) + 0.1 * xp.ones((m, m))
        return {"g": g, "left": left, "right": xp.eye(n), "gradients": g[None]}

    return make


FACTORS = Interface(
    "kronecker_factors",
    example=_example,
    edges={
        "one number": _matrix([[-2.0]]),
        "one row": _matrix([[3.0, -4.0, 1.0]]),
        "rank one": _matrix([[1.0, 2.0], [2.0, 4.0]]),
        "zero": _matrix([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    },
)
"""``f(g (M, N), left (M, M), right (N, N), gradients (K, M, N), …)``: a gradient, a sample of them, and factors."""


def _moderate(rng, size):
    """Gradients of about one size: the factors of large ones cannot be had in single precision."""
    return _smaller(MATRIX_UPDATE.example(rng, size))


def _smaller(inputs):
    first = max(float(abs(g).max()) for g in inputs["gradients"][0])
    gradients = [[g / (1 + first) for g in grads] for grads in inputs["gradients"]]
    return {**inputs, "gradients": gradients}


FISHER_UPDATE = dataclasses.replace(
    MATRIX_UPDATE,
    name="fisher_update",
    example=_moderate,
    edges={
        name: (lambda make=make: _smaller(make()))
        for name, make in MATRIX_UPDATE.edges.items()
    },
)


def _not_symmetric():
    inputs = FACTORS.edges["rank one"]()
    left = inputs["left"] + xp.array([[0.0, 0.5], [0.0, 0.0]])
    return {"g": inputs["g"], "left": left, "right": inputs["right"]}, {}


def _sample(inputs):
    return {name: inputs[name] for name in ("left", "right", "gradients")}


def _skewed(rng, size):
    """Factors that are not symmetric, as steps of a check make them."""
    inputs = _sample(_example(rng, size))
    for name in ("left", "right"):
        n = len(inputs[name])
        A = rng.standard_normal((n, n)) / n
        inputs[name] = inputs[name] + 0.4 * (A - A.T) + 0.3 * xp.eye(n)
    return inputs


def _left_by_loops(right, gradients, *, damping=0.0):
    inverse = xp.linalg.inv(right)
    terms = [xp.einsum("ia,ab,jb->ij", G, inverse, G) for G in gradients]
    ones = xp.eye(gradients.shape[1]) * float(xp.linalg.eigvals(inverse).real.sum())
    return (sum(terms) / len(terms) + damping * ones) / gradients.shape[2]


def _right_by_loops(left, gradients, *, damping=0.0):
    return _left_by_loops(left, xp.swapaxes(gradients, 1, 2), damping=damping)


def _one_left(left, right, g, *, gamma=0.95, damping=0.1):
    m, n = g.shape
    values, V = xp.linalg.eigh(right)
    half = g @ V / xp.sqrt(values)
    mean = sum(left[i, i] for i in range(m)) / m
    mixed = gamma * left + (1 - gamma) * (
        half @ half.T / n + damping * mean * xp.eye(m)
    )
    return mixed * m / sum(mixed[i, i] for i in range(m))


def _one_right(left, right, g, *, gamma=0.95, damping=0.1):
    return _one_left(right, left, g.T, gamma=gamma, damping=damping)


MIXING = {
    "default": {},
    "nothing kept": {"gamma": 0.0, "damping": 0.5},
    "probe": {"gamma": 0.6, "damping": 0.2},
}

REFUSED = {
    "a factor that is not symmetric": {"left": lambda left: left + left[:1]},
    "a left factor that is not definite": {"left": lambda left: -left},
    "a right factor that is not definite": {"right": lambda right: -right},
}


METHOD = Method(
    key="xu2026fismo",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=FISHER_UPDATE,
            init=init,
            settings={
                "default": {},
                "fast factors": {"gamma": 0.5, "damping": 0.3, "momentum": 0.0},
                "probe": {"lr": 0.05, "momentum": 0.6, "gamma": 0.7, "damping": 0.2},
            },
            limits=(
                Limit(
                    "muon.update",
                    {"gamma": 1.0, "momentum": 0.8},
                    {
                        "momentum": 0.8,
                        "factor": "svd",
                        "nesterov": False,
                        "scale": "none",
                    },
                ),
            ),
        ),
        Transform(
            f=fisher_step,
            interface=FACTORS,
            wrt="g",
            refused={"not symmetric": _not_symmetric},
        ),
        Objective(
            f=factor_objective,
            example=_skewed,
            edges={
                n: lambda make=make: _sample(make())
                for n, make in FACTORS.edges.items()
            },
            wrt=("left", "right"),
            sizes=(4, 8),
        ),
        Estimator(
            f=stationary_left,
            interface=FACTORS,
            settings={"default": {}, "probe": {"damping": 0.3}},
            brute_force=_left_by_loops,
        ),
        Estimator(
            f=stationary_right,
            interface=FACTORS,
            settings={"default": {}, "probe": {"damping": 0.3}},
            brute_force=_right_by_loops,
        ),
        Estimator(
            f=update_left,
            interface=FACTORS,
            settings=MIXING,
            brute_force=_one_left,
            refused=REFUSED,
        ),
        Estimator(
            f=update_right,
            interface=FACTORS,
            settings=MIXING,
            brute_force=_one_right,
            refused=REFUSED,
        ),
    ),
)
