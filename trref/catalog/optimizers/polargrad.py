"""What is known of `trref.optimizers.polargrad`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE
from trref.optimizers.muon import MuonState
from trref.optimizers.polar_decomposition import weights
from trref.optimizers.polargrad import (
    certified_decrease,
    gradient_condition,
    init,
    polar_first_update,
    steepest_descent_step,
    update,
)


def _with_factor(params, grads, state, lr, momentum, weight_decay, factor):
    """A step with another way to the polar factor."""
    m = [momentum * a + (1 - momentum) * g for a, g in zip(state.m, grads, strict=True)]
    U = [factor(a.reshape(len(a), -1)).reshape(a.shape) for a in m]
    moved = [
        (1 - lr * weight_decay) * p - lr * (a * u).sum() * u
        for p, a, u in zip(params, m, U, strict=True)
    ]
    return moved, MuonState(m)


def _two_steps(x):
    """QDWH from 1.2e-7, scaled by a bound of the spectral norm."""
    X = x if x.shape[0] >= x.shape[1] else x.T
    bound = math.sqrt(abs(X).sum(0).max() * abs(X).sum(1).max())
    X, lowest, eye = X / (bound or 1.0), 2.0**-23, xp.eye(X.shape[1])
    for _ in range(2):
        a, b, c, lowest = weights(lowest)
        X = b / c * X + (a - b / c) * xp.linalg.solve(eye + c * X.T @ X, X.T).T
    return X if x.shape[0] >= x.shape[1] else X.T


def _two_qdwh_steps(
    params,
    grads,
    state,
    *,
    lr=0.02,
    momentum=0.95,
    weight_decay=0.0,
    factor="svd",
    steps=5,
    eps=1e-7,
):
    how = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if factor != "svd":
        how |= {"factor": factor, "steps": steps, "eps": eps}
        return update(params, grads, state, **how)
    return _with_factor(params, grads, state, factor=_two_steps, **how)


def _short_coefficient(
    params,
    grads,
    state,
    *,
    lr=0.02,
    momentum=0.95,
    weight_decay=0.0,
    factor="svd",
    steps=5,
    eps=1e-7,
):
    how = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if factor != "muon":
        how |= {"factor": factor, "steps": steps, "eps": eps}
        return update(params, grads, state, **how)

    def iterate(x):
        X = (x if x.shape[0] <= x.shape[1] else x.T) / (xp.sqrt((x * x).sum()) + eps)
        for _ in range(steps):
            Y = X @ X.T
            X = 3.4445 * X + (-4.7750 * Y + 2.031 * Y @ Y) @ X
        return X if x.shape[0] <= x.shape[1] else X.T

    return _with_factor(params, grads, state, factor=iterate, **how)


POLARGRAD_TWO_QDWH_STEPS = Deviation(
    "two steps of QDWH",
    _two_qdwh_steps,
    seen_in="timlautk/polargrad, polar_grad.py and qdwh.py, inner_steps=2",
    computes="a polar factor whose singular values are between about ½ and 1",
)
POLARGRAD_SHORT_COEFFICIENT = Deviation(
    "2.031 for 2.0315",
    _short_coefficient,
    seen_in="timlautk/polargrad, polar_grad.py",
    computes="another polynomial: the last coefficient of Muon's iteration without its last digit",
)


def _rank_one(inputs):
    """Gradients have rank one"""

    def flattened(g):
        rows = g.reshape(len(g), -1)
        return (rows[:, :1] * rows[:1]).reshape(g.shape)

    gradients = [[flattened(g) for g in grads] for grads in inputs["gradients"]]
    return {**inputs, "gradients": gradients}


def _gradients(rng, size):
    return {"g": rng.choice((0.1, 5.0)) * rng.standard_normal((size, 2 + size % 3))}


def _matrix(rows):
    return lambda: {"g": xp.array(rows)}


GRADIENT = Interface(
    "one_gradient_matrix",
    example=_gradients,
    edges={
        "zero": _matrix([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        "rank one": _matrix([[1.0, 2.0], [2.0, 4.0]]),
        "a scaled rotation": _matrix([[3.0, 4.0], [-4.0, 3.0]]),
        "one row": _matrix([[3.0, -4.0, 1.0]]),
        "one number": _matrix([[-2.0]]),
        "rank two, up to rounding": _matrix(
            [[1e6, 0.0, 0.0], [0.0, 1e5, 0.0], [0.0, 0.0, 4e-10]]
        ),
        "badly conditioned": _matrix([[1.0, 0.0], [0.0, 1e-2], [0.0, 0.0]]),
    },
)


def _spectrum(g):
    """Singular values that are not zero and their right vectors, from the eigenvectors of G'G."""
    values, V = xp.linalg.eigh(g.T @ g)
    kept = values > 1e-13 * max(float(values.max()), 1e-300)
    return xp.sqrt(values[kept]), V[:, kept]


def _step_by_eigenvectors(g):
    s, V = _spectrum(g)
    return -s.sum() * (g @ V / s) @ V.T if len(s) else xp.zeros_like(g)


def _condition_by_eigenvalues(g):
    s, _ = _spectrum(g)
    return xp.asarray(float(s.max() / s.min()) if len(s) else 1.0)


def _decrease_by_eigenvalues(g, *, lipschitz, convexity=0.0):
    s, _ = _spectrum(g)
    gains = [1 / len(s), (float(s.min()) / float(s.max())) ** 2] if len(s) else [1.0]
    return xp.asarray(1 - convexity / lipschitz * max(gains))


SETTINGS = {
    "default": {},
    "Newton-Schulz": {"factor": "muon", "momentum": 0.8},
    "converged": {"factor": "quintic", "steps": 12, "momentum": 0.0},
    "probe": {
        "lr": 0.05,
        "momentum": 0.6,
        "weight_decay": 0.2,
        "factor": "polar_express",
        "steps": 3,
        "eps": 1e-3,
    },
}

METHOD = Method(
    key="lau2025polargrad",
    provenance={
        "confirmed": ("steepest", "step", "first"),
        "reconstructed": ("rate",),
    },
    functions=(
        UpdateRule(
            f=update,
            interface=MATRIX_UPDATE,
            init=init,
            settings=SETTINGS,
            limits=(
                Limit(
                    "sgd.update",
                    {"momentum": 0.0, "lr": 0.05, "weight_decay": 0.2},
                    {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True},
                    where=_rank_one,
                ),
                Limit(
                    "polargrad.polar_first_update", {"momentum": 0.0}, {"momentum": 0.0}
                ),
            ),
            deviations=(POLARGRAD_TWO_QDWH_STEPS, POLARGRAD_SHORT_COEFFICIENT),
        ),
        UpdateRule(
            f=polar_first_update,
            interface=MATRIX_UPDATE,
            init=init,
            settings=SETTINGS,
        ),
        Estimator(
            f=steepest_descent_step,
            interface=GRADIENT,
            brute_force=_step_by_eigenvectors,
        ),
        Estimator(
            f=gradient_condition,
            interface=GRADIENT,
            brute_force=_condition_by_eigenvalues,
        ),
        Estimator(
            f=certified_decrease,
            interface=GRADIENT,
            settings={
                "default": {"lipschitz": 2.0},
                "convex": {"lipschitz": 3.0, "convexity": 3.0},
                "probe": {"lipschitz": 5.0, "convexity": 0.7},
            },
            brute_force=_decrease_by_eigenvalues,
            refused={
                "more convex than smooth": lambda: (
                    {"g": xp.eye(2)},
                    {"lipschitz": 0.5, "convexity": 0.7},
                ),
            },
        ),
    ),
)
