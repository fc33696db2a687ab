"""What is known of `trref.manifolds.weighted_laplacian`."""

import math

import numpy as np
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.manifolds.weighted_laplacian import (
    exact_primal,
    heat_weights,
    laplacian,
    local_slopes,
    smoothing_objective,
    steepest_slopes,
)


def weights_of(X, t):
    """Calibrated weights of a cloud, without a cutoff."""
    k = xp.exp(-((X[:, None] - X[None]) ** 2).sum(-1) / (4 * t))
    k = k - xp.diag(xp.diag(k))
    return k / (2 * t * max(float(k.sum()) / len(X), 1e-30))


def _example(rng, size):
    """A cloud in the plane or the space, values at its points, shares that are equal or not, a third of it labelled."""
    N, D = max(size, 2), int(rng.integers(2, 4))
    X = rng.choice((0.5, 2.0)) * rng.uniform(-1, 1, (N, D))
    labelled = (rng.random(N) < 1 / 3).astype(float)
    labelled[rng.integers(N)] = 1.0
    share = rng.exponential(1, N) + 0.1
    return {
        "X": X,
        "f": rng.choice((0.2, 3.0)) * rng.standard_normal(N),
        "weights": weights_of(X, 1.0),
        "share": share / share.sum(),
        "target": rng.standard_normal(N),
        "labelled": labelled,
    }


def _edge(f, weights, share, target, labelled, X=None):
    return {
        "X": xp.arange(len(f) * 1.0)[:, None] ** 2 / 5 if X is None else xp.array(X),
        "f": xp.array(f),
        "weights": xp.array(weights),
        "share": xp.array(share),
        "target": xp.array(target),
        "labelled": xp.array(labelled),
    }


EDGES = {
    "two points": lambda: _edge(
        [0.0, 1.0], [[0.0, 2.0], [2.0, 0.0]], [0.25, 0.75], [3.0, -1.0], [1.0, 0.0]
    ),
    "a constant": lambda: _edge(
        [1.5] * 3,
        [[0.0, 1.0, 0.5], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]],
        [0.25, 0.25, 0.5],
        [1.5] * 3,
        [1.0] * 3,
    ),
    "all shares on one point": lambda: _edge(
        [0.0, 2.0, -1.0],
        [[0.0, 1.0, 0.5], [1.0, 0.0, 0.25], [0.5, 0.25, 0.0]],
        [1.0, 0.0, 0.0],
        [0.0, 4.0, 1.0],
        [0.0, 1.0, 1.0],
    ),
}
ALONE = lambda: _edge([2.0], [[0.0]], [1.0], [-0.5], [1.0])  # noqa: E731


def _only(*names, alone=True):
    edges = {**EDGES, **({"a point alone": ALONE} if alone else {})}
    return {
        "example": lambda rng, size: {n: _example(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in edges.items()
        },
    }


def _weights(X, *, t=0.05, cutoff=0.1):
    """Pair by pair."""
    N = len(X)
    k = [
        [
            math.exp(-(math.dist(a, b) ** 2) / (4 * t)) if i != j else 0.0
            for j, b in enumerate(X.tolist())
        ]
        for i, a in enumerate(X.tolist())
    ]
    k = [[x if x > cutoff else 0.0 for x in row] for row in k]
    degree = math.fsum(map(math.fsum, k)) / N
    return xp.array([[x / (2 * t * degree) for x in row] for row in k])


def _slopes(f, weights):
    f, w = f.tolist(), weights.tolist()
    N = len(f)
    return xp.array(
        [math.fsum(w[i][j] * (f[i] - f[j]) ** 2 for j in range(N)) for i in range(N)]
    )


def _steepest(f, X):
    f, X = f.tolist(), X.tolist()
    N = len(f)
    ways = lambda i: [  # noqa: E731
        (f[i] - f[j]) ** 2 / math.dist(X[i], X[j]) ** 2 for j in range(N) if j != i
    ]
    return xp.array([max(ways(i), default=0.0) for i in range(N)])


def _form(weights, share):
    """From the penalty of every pair of unit vectors, by polarisation."""
    N = len(share)
    penalty = lambda f: float(share @ _slopes(f, weights))  # noqa: E731
    unit = xp.eye(N)
    own = [penalty(unit[i]) for i in range(N)]
    return xp.array(
        [
            [
                own[i] if i == j else (penalty(unit[i] + unit[j]) - own[i] - own[j]) / 2
                for j in range(N)
            ]
            for i in range(N)
        ]
    )


def _least_squares(weights, share, target, labelled, *, mu=1.0):
    """As least squares: a row for each label and for each ordered pair."""
    N, count = len(share), float(labelled.sum())
    rows, right = [], []
    for i in range(N):
        if labelled[i]:
            pull = math.sqrt(mu / count)
            rows.append(pull * np.eye(N)[i])
            right.append(pull * float(target[i]))
        for j in range(N):
            if weights[i, j] > 0 and share[i] > 0:
                pull = math.sqrt(float(share[i] * weights[i, j]))
                rows.append(pull * (np.eye(N)[i] - np.eye(N)[j]))
                right.append(0.0)
    return np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]


def _one_sided(f, weights, share, target, labelled, *, mu=1.0):
    L = xp.diag(weights.sum(1)) - weights
    off, count = labelled * (f - target), labelled.sum()
    value = mu * (off * off).sum() / count + (share * f) @ (L @ f)
    return value, 2 * mu / count * off + share * (L @ f) + L @ (share * f)


REFUSED = {
    "an edge one way": {"weights": lambda weights: xp.triu(weights)},
    "a loop": {"weights": 1.0},
}


METHOD = Method(
    key="cervino2023learning",
    provenance={
        "confirmed": ("weights", "steepest"),
        "reconstructed": ("slopes", "form", "objective", "gradient", "primal"),
    },
    functions=(
        Estimator(
            f=heat_weights,
            brute_force=_weights,
            settings={
                "default": {"t": 0.5},
                "probe": {"t": 0.25, "cutoff": 0.03},
                "the nearest": {"t": 0.5, "cutoff": 0.5},
            },
            example=lambda rng, size: {
                "X": xp.concatenate(
                    [[[0.0, 0.0], [0.1, 0.2]], rng.uniform(-2, 2, (size, 2))]
                )
            },
            edges={
                "equal rows": lambda: {"X": xp.array([[1.0], [1.0], [1.5]])},
                "one out of reach": lambda: {
                    "X": xp.array([[0.0, 0, 0], [0.5, 0, 0], [9.0, 0, 0]])
                },
            },
            refused={
                "all out of reach": lambda: ({"X": xp.array([[0.0], [9.0]])}, {}),
            },
        ),
        Estimator(
            f=local_slopes,
            brute_force=_slopes,
            **_only("f", "weights"),
            refused=REFUSED,
        ),
        Estimator(
            f=steepest_slopes,
            brute_force=_steepest,
            **_only("f", "X"),
            refused={
                "equal rows": {"X": 0},
            },
        ),
        Estimator(
            f=laplacian,
            brute_force=_form,
            sizes=(4, 8, 16),
            **_only("weights", "share"),
            refused=REFUSED,
        ),
        Objective(
            f=smoothing_objective,
            wrt="f",
            settings={"default": {}, "probe": {"mu": 3.0}},
            deviations=(
                Deviation(
                    "one-sided Laplacian",
                    _one_sided,
                    seen_in="JuanCervino/smoothbench, scripts/toy_example_manifold.py, MANIFOLD_GRADIENT",
                    computes="a penalty of f times its plain Laplacian, weighed at one end of each pair",
                ),
            ),
            **_only("f", "weights", "share", "target", "labelled"),
            refused={
                "an edge one way": {"weights": lambda weights: xp.triu(weights)},
                "a loop": {"weights": 1.0},
                "no label": {"labelled": 0},
            },
        ),
        Estimator(
            f=exact_primal,
            brute_force=_least_squares,
            settings={"default": {}, "probe": {"mu": 3.0}},
            sizes=(4, 8, 32),
            refused={
                "shares leave a point alone": lambda: (
                    {
                        "weights": xp.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]),
                        "share": xp.array([1.0, 0.0, 0.0]),
                        "target": xp.ones(3),
                        "labelled": xp.array([1.0, 0, 0]),
                    },
                    {},
                )
            },
            **_only("weights", "share", "target", "labelled"),
        ),
    ),
)
