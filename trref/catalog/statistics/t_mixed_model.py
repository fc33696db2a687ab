"""What is known of `trref.statistics.t_mixed_model`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective
from trref.statistics.t_mixed_model import robustness_weights, t_log_likelihood


def _clusters(rng, size):
    n, p, q = (int(k) for k in rng.integers((2, 1, 1), (5, 4, 3)))
    X, Z = rng.standard_normal((size, n, p)), rng.standard_normal((size, n, q))
    beta = rng.standard_normal(p)
    noise = rng.choice((0.3, 5.0), (size, 1)) * rng.standard_normal((size, n))
    return {
        "beta": beta + 0.3 * rng.standard_normal(p),
        "log_variance": np.asarray(rng.normal()),
        "factor": 0.5 * rng.standard_normal((q, q)),
        "X": X,
        "Z": Z,
        "y": X @ beta + noise,
    }


def _small(y, Z=1.0):
    return lambda: {
        "beta": xp.array([0.5]),
        "log_variance": xp.asarray(0.25),
        "factor": xp.array([[-0.5]]),
        "X": xp.ones((1, 2, 1)),
        "Z": xp.full((1, 2, 1), Z),
        "y": xp.array([y]),
    }


CLUSTERS = Interface(
    "clusters",
    example=_clusters,
    edges={
        "one cluster": _small([1.0, -2.0]),
        "far off": _small([300.0, -40.0]),
        "no effects of its own": _small([1.0, 2.0], 0.0),
    },
)


def _one_by_one(beta, log_variance, factor, X, Z, y, *, dof=4.0):
    weights = []
    L = np.tril(np.asarray(factor), -1) + np.diag(np.exp(np.diag(factor)))
    for x, z, row in zip(X, Z, y, strict=True):
        V = z @ L @ L.T @ z.T + math.exp(float(log_variance)) * np.eye(len(row))
        r = row - x @ beta
        weights.append((dof + len(r)) / (dof + r @ np.linalg.solve(V, r)))
    return xp.array(weights)


def _spoiled(**changed):
    return lambda: ({**_small([1.0, -2.0])(), **changed}, {})


REFUSED = {
    "a variance out of range": _spoiled(log_variance=xp.asarray(31.0)),
    "effects out of range": _spoiled(factor=xp.array([[40.0]])),
    "effects that hide the noise": _spoiled(Z=xp.full((1, 2, 1), 1e8)),
}

METHOD = Method(
    key="yang2025contributions",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=robustness_weights,
            interface=CLUSTERS,
            settings={"default": {}, "probe": {"dof": 2.5}},
            sizes=(4, 8),
            refused=REFUSED,
            brute_force=_one_by_one,
        ),
        Objective(
            f=t_log_likelihood,
            interface=CLUSTERS,
            wrt=("beta", "log_variance", "factor"),
            settings={
                "default": {},
                "normal": {"dof": None},
                "probe": {"dof": 2.5},
            },
            sizes=(4, 8),
            refused=REFUSED,
        ),
    ),
)
