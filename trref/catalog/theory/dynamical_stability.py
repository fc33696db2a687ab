"""What is known of `trref.theory.dynamical_stability`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Transform
from trref.theory.dynamical_stability import (
    StepBounds,
    TraceBound,
    alignment,
    critical_step,
    diagonal_trace,
    difference_trace,
    one_step_critical,
    relu_trace,
    second_moment_map,
    step_bounds,
)


def _gradients(rng, size):
    """Three samples or more, with a spread of lengths; their third entry is small or 0."""
    lengths = xp.exp(rng.uniform(-1, 1, (size + 2, 1)))
    return (
        lengths
        * rng.standard_normal((size + 2, 3))
        * xp.array([1.0, 0.6, rng.choice((0.0, 0.4))])
    )


def _example(rng, size):
    root = rng.standard_normal((3, 3))
    return {
        "gradients": _gradients(rng, size),
        "M": root @ root.T + 0.1 * rng.standard_normal((3, 3)),
        "displacement": rng.standard_normal(3),
    }


def _edge(gradients):
    g = xp.array(gradients)
    P = g.shape[1]
    return {"gradients": g, "M": xp.eye(P) + 0.25, "displacement": xp.ones(P)}


EDGES = {
    "three equal samples": lambda: _edge([[1.0, 2.0]] * 3),
    "orthogonal, of equal norm": lambda: _edge(2.0 * xp.eye(3)),
    "some do not move": lambda: _edge([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    "two samples, tiny, along one line": lambda: _edge(
        [[3e-9, 1e-9, -7e-9], [-6e-9, -2e-9, 14e-9]]
    ),
    "two samples": lambda: _edge([[1.0, 0.5], [-0.5, 2.0]]),
    "one weight": lambda: _edge([[0.5], [-2.0], [1.0]]),
}


def _only(*names):
    return {
        "example": lambda rng, size: {n: _example(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def _batches(gradients, batch, replacement):
    """All batches' curvatures, each as likely as any other."""
    n = len(gradients)
    drawn = (
        itertools.product(range(n), repeat=batch)
        if replacement
        else itertools.combinations(range(n), batch)
    )
    for rows in drawn:
        g = np.asarray(gradients)[list(rows)]
        yield g.T @ g / batch


def _moments(gradients, batch, replacement):
    """Mean curvature, and the mean of the curvature's Kronecker square, over all batches; of many from one and two."""
    g, n = np.asarray(gradients), len(gradients)
    if n ** min(batch, 2) > 200 or (replacement and batch > 2):
        one = np.stack([np.outer(row, row) for row in g])
        squares = np.stack([np.kron(a, a) for a in one]).mean(0)
        mean = one.mean(0)
        different = np.kron(mean, mean)
        if not replacement and n > 1:
            different = (n * different - squares) / (n - 1)
        return mean, squares / batch + (batch - 1) / batch * different
    curvatures = list(_batches(g, batch, replacement))
    return np.mean(curvatures, 0), np.mean([np.kron(c, c) for c in curvatures], 0)


def _operator(gradients, lr, batch, replacement):
    """The map as a matrix on the entries of M."""
    mean, square = _moments(gradients, batch, replacement)
    P = len(mean)
    once = np.kron(mean, np.eye(P)) + np.kron(np.eye(P), mean)
    return np.eye(P * P) - lr * once + lr**2 * square


def _bisect(too_large, top):
    """The step from which on it is too large."""
    low, high = 0.0, top
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if too_large(middle) else (middle, high)
    return low


def _critical(gradients, *, batch=1, replacement=True):
    def too_large(lr):
        matrix = _operator(gradients, lr, batch, replacement)
        return abs(np.linalg.eigvals(matrix)).max() > 1 + 1e-11

    return _bisect(too_large, 3 / np.linalg.norm(_mean(gradients), 2))


def _mean(gradients):
    return np.mean([np.outer(g, g) for g in np.asarray(gradients)], 0)


def _one_step(gradients, *, batch=1, replacement=True):
    P = gradients.shape[1]

    def too_large(lr):
        matrix = _operator(gradients, lr, batch, replacement)
        after = (matrix @ np.eye(P).ravel()).reshape(P, P)
        return np.linalg.eigvalsh(after)[-1] > 1 + 1e-12

    return _bisect(too_large, 3 / np.linalg.norm(_mean(gradients), 2))


def _bounds(gradients, *, batch=1, replacement=True):
    G = _mean(gradients)
    second = _moments(gradients, batch, replacement)[1]
    identity = np.eye(len(G)).ravel()
    return StepBounds(
        2 * np.trace(G) / (identity @ second @ identity),
        2 * batch / np.trace(G),
        2 / np.linalg.norm(G, 2),
    )


def _alignment(gradients, displacement):
    G, n = _mean(gradients), len(gradients)
    noise = -np.outer(G @ displacement, G @ displacement)
    for g in gradients:
        noise = noise + np.outer(g, g) * float(g @ displacement) ** 2 / n
    loss = displacement @ G @ displacement / 2
    return np.trace(noise @ G) / (2 * loss * np.linalg.norm(G) ** 2)


def _of_full_loss(M, gradients, *, lr=0.1, batch=1, replacement=True):
    return second_moment_map(
        M, gradients, lr=2 * lr, batch=batch, replacement=replacement
    )


def _whatever_the_batch(gradients, *, batch=1, replacement=True):
    bounds = step_bounds(gradients, batch=batch, replacement=replacement)
    return bounds._replace(by_trace=bounds.by_trace / batch)


BATCHES = {
    "default": {},
    "without replacement": {"replacement": False},
    "probe": {"batch": 2, "replacement": False},
    "three with replacement": {"batch": 3},
}


def _two_layers(rng, size):
    return {
        "a": rng.choice((0.1, 1.0)) * rng.standard_normal(size),
        "b": rng.standard_normal(size),
    }


def _by_rows(a, W):
    d, trace, norm = len(W[0]), 0.0, 0.0
    for output, row in zip(a.tolist(), W.tolist(), strict=True):
        length = math.hypot(*row)
        trace += (length**2 + d * output**2) / 2
        norm += math.sqrt(d) * abs(output) * length
    return TraceBound(trace, norm)


def _by_entries(of_trace, of_norm):
    def brute_force(**weights):
        pairs = list(zip(*(w.tolist() for w in weights.values()), strict=True))
        return TraceBound(
            math.fsum(of_trace(*p) for p in pairs),
            math.fsum(of_norm(*p) for p in pairs),
        )

    return brute_force


REFUSED = {
    "a batch of more than all": {"batch": 99, "replacement": False},
    "gradients that are all 0": {"gradients": 0},
}


METHOD = Method(
    key="wu2023implicit",
    provenance={
        "confirmed": ("trace", "gd", "one-step", "batch"),
        "reconstructed": (
            "map",
            "critical",
            "squares",
            "alignment",
            "relu",
            "diagonal",
            "difference",
        ),
    },
    functions=(
        Transform(
            f=second_moment_map,
            wrt="M",
            jvp=lambda M, gradients, *, tangent, **hyper: second_moment_map(
                tangent, gradients, **hyper
            ),
            vjp=lambda M, gradients, *, cotangent, **hyper: second_moment_map(
                cotangent, gradients, **hyper
            ),
            settings=BATCHES
            | {"probe": {"lr": 0.35, "batch": 2, "replacement": False}},
            deviations=(
                Deviation(
                    "loss without the half",
                    _of_full_loss,
                    seen_in="any training with torch.nn.MSELoss, the mean of the squares",
                    computes="the Hessian of a loss without the factor 1/2: twice G",
                ),
            ),
            **_only("M", "gradients"),
            refused=REFUSED,
        ),
        Estimator(
            f=critical_step,
            settings=BATCHES,
            brute_force=_critical,
            tolerance=1e-8,
            **_only("gradients"),
            refused=REFUSED,
        ),
        Estimator(
            f=one_step_critical,
            settings=BATCHES,
            brute_force=_one_step,
            tolerance=1e-8,
            **_only("gradients"),
            refused=REFUSED,
        ),
        Estimator(
            f=step_bounds,
            settings=BATCHES,
            brute_force=_bounds,
            deviations=(
                Deviation(
                    "whatever the batch",
                    _whatever_the_batch,
                    seen_in="the paper's abstract, where it is read for any batch",
                    computes="2 over the trace for any batch, which larger batches exceed",
                ),
            ),
            **_only("gradients"),
            refused=REFUSED,
        ),
        Estimator(
            f=alignment,
            brute_force=_alignment,
            **_only("gradients", "displacement"),
            refused={
                "a displacement that changes nothing": {"displacement": 0},
            },
        ),
        Estimator(
            f=relu_trace,
            example=lambda rng, size: {
                "a": rng.standard_normal(size),
                "W": rng.choice((0.1, 1.0)) * rng.standard_normal((size, 3)),
            },
            edges={
                "balanced": lambda: {
                    "a": xp.array([1.0, -2.0]),
                    "W": xp.array([[2.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]]),
                },
                "a unit without weights": lambda: {
                    "a": xp.array([3.0]),
                    "W": xp.zeros((1, 2)),
                },
            },
            brute_force=_by_rows,
        ),
        Estimator(
            f=diagonal_trace,
            example=_two_layers,
            edges={
                "balanced": lambda: {
                    "a": xp.array([1.0, -2.0]),
                    "b": xp.array([-1.0, -2.0]),
                }
            },
            brute_force=_by_entries(
                lambda a, b: a * a + b * b, lambda a, b: abs(2 * a * b)
            ),
        ),
        Estimator(
            f=difference_trace,
            example=lambda rng, size: dict(
                zip("uv", _two_layers(rng, size).values(), strict=True)
            ),
            edges={
                "one of each pair is 0": lambda: {
                    "u": xp.array([1.0, 0.0]),
                    "v": xp.array([0.0, -2.0]),
                }
            },
            brute_force=_by_entries(
                lambda u, v: 4 * (u * u + v * v), lambda u, v: 4 * abs(u * u - v * v)
            ),
        ),
    ),
)
