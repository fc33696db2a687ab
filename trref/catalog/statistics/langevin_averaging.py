"""What is known of `trref.statistics.langevin_averaging`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Sampler
from trref.problems.convex import Quadratic
from trref.problems.sphere_models import SingleIndex, TensorPCA
from trref.statistics.langevin_averaging import (
    Averages,
    average_direction,
    averages,
    fourth_degree_drift,
    run,
    sphere_step,
    tensor_drift,
    third_degree_drift,
    top_direction,
    weak_drift_mean,
    weak_drift_second,
)


def _step(rng, size):
    return {
        "theta": rng.choice((0.3, 1.0)) * rng.standard_normal(size),
        "drift": rng.choice((0.5, 20.0)) * rng.standard_normal(size),
        "noise": rng.standard_normal(size),
    }


STEPS = {
    "nothing moves": lambda: {
        "theta": xp.array([0.6, -0.8]),
        "drift": xp.zeros(2),
        "noise": xp.zeros(2),
    },
    "pushed outward": lambda: {
        "theta": xp.array([1.0, 0.0]),
        "drift": xp.array([30.0, 0.0]),
        "noise": xp.array([0.0, 1.0]),
    },
}


def _one_step(theta, drift, noise, *, step_size=0.005, drift_weight=1.0):
    theta = [x / math.hypot(*theta) for x in theta.tolist()]
    push = [
        drift_weight * step_size * b + math.sqrt(step_size) * n
        for b, n in zip(drift.tolist(), noise.tolist(), strict=True)
    ]
    along = math.fsum(t * p for t, p in zip(theta, push, strict=True))
    moved = [t + p - along * t for t, p in zip(theta, push, strict=True)]
    return xp.array([x / math.hypot(*moved) for x in moved])


def _unprojected(theta, drift, noise, *, step_size=0.005, drift_weight=1.0):
    theta = theta / xp.sqrt(theta @ theta)
    push = drift_weight * step_size * drift + math.sqrt(step_size) * noise
    return (theta + push) / xp.sqrt((theta + push) @ (theta + push))


def _paths(rng, size):
    """A drift that is the same everywhere, on a sphere of four dimensions or more."""
    D = max(size, 4) + int(rng.integers(0, 2))
    return {"loss_and_grad": _linear(D), "start": rng.standard_normal(D)}


def _linear(D):
    """Minus the first coordinate: the drift is its direction."""
    return Quadratic(xp.zeros((D, D)), xp.eye(D)[0])


def _moments(
    draws, loss_and_grad, start, *, step_size=0.005, drift_weight=1.0, steps=10_000
):
    """The first order, within four standard errors of the noise, and what a step of this length and the drift leave."""
    D = len(start)
    b = -loss_and_grad(xp.zeros(D))[1]
    time = steps * step_size
    a = (D - 1) / 2
    # an entry of the mean: its share of the noise, and of a start that is forgotten after 1/a
    spread = math.sqrt(2 / (a * time * D))
    forgotten = 1 / (a * time)
    expected = 2 * drift_weight / (D - 1) * (1 - 1 / D) * float(b[0])
    finite = 2 * step_size * D + drift_weight / D
    path = np.asarray(draws)
    mean = path.mean(0)
    return {
        "squared lengths": (float((path**2).sum(1).max()), 1.0, 1e-12),
        "first entry": (
            float(mean[0]),
            expected,
            4 * spread + forgotten + finite * expected,
        ),
        "second entry": (float(mean[1]), 0.0, 4 * spread + forgotten),
    }


def _means(path):
    n, D = path.shape
    second = xp.empty((D, D))
    for i, j in itertools.product(range(D), repeat=2):
        second[i, j] = math.fsum(path[:, i] * path[:, j]) / n
    return Averages(xp.array([math.fsum(path[:, i]) / n for i in range(D)]), second)


def _vector(rng, size):
    return rng.choice((0.1, 3.0)) * rng.standard_normal(size)


def _gapped(rng, size):
    """A matrix with a top eigenvalue by itself, and a top eigenvector with a largest entry by itself."""
    x = 0.1 * rng.standard_normal(size)
    x[0] = rng.choice((-1.0, 1.0))
    noise = 0.02 * rng.standard_normal((size, size))
    return {"second": xp.outer(x, x) + noise + 0.1 * xp.eye(size)}


def _power_method(second):
    v, A = xp.ones(len(second)) / 7 + xp.arange(len(second)), (second + second.T) / 2
    shifted = A + 10 * abs(A).max() * len(A) * xp.eye(len(A)) / 10
    for _ in range(20_000):
        v = shifted @ v
        v = v / math.sqrt(v @ v)
    return v * xp.sign(v[int(abs(v).argmax())])


def _symmetric(rng, size):
    noise = rng.standard_normal((size,) * 3)
    orders = itertools.permutations(range(3))
    return {"tensor": sum(noise.transpose(order) for order in orders)}


def _fourth_moments(d):
    """Means over the sphere of products of four coordinates."""
    moments = {}
    for index in itertools.product(range(d), repeat=4):
        i, j, k, m = index
        pairs = (i == j) * (k == m) + (i == k) * (j == m) + (i == m) * (j == k)
        moments[index] = pairs / (d * (d + 2))
    return moments


def _tensor_drift(tensor):
    """Term by term, from the moments of the coordinates."""
    d = len(tensor)
    moments, result = _fourth_moments(d), xp.zeros(d)
    T = tensor.tolist()
    for i in range(d):
        total = math.fsum(T[i][j][j] / d for j in range(d))
        inward = math.fsum(
            moments[i, m, j, k] * T[m][j][k]
            for m, j, k in itertools.product(range(d), repeat=3)
        )
        result[i] = 3 * (total - inward)
    return result


def _samples(rng, size):
    X = rng.standard_normal((size, 3))
    return {"X": X, "y": rng.choice((0.2, 1.0)) * rng.standard_normal(size)}


SAMPLES = {
    "one sample": lambda: {"X": xp.array([[1.0, -2.0]]), "y": xp.array([0.5])},
    "a sample at 0": lambda: {
        "X": xp.array([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]]),
        "y": xp.array([1.0, -1.0]),
    },
}


def _third_degree(X, y):
    """From the mean of the polynomial's derivative, term by term."""
    N, d = X.shape
    result = xp.zeros(d)
    for x, output in zip(X, y, strict=True):
        square = math.fsum(
            (x[i] * x[j]) * ((i == j) / d)
            for i, j in itertools.product(range(d), repeat=2)
        )
        result += output * (3 * square - 3) / math.sqrt(6) * x / N
    return result


def _fourth_degree(X, y):
    N, d = X.shape
    moments, result = _fourth_moments(d), xp.zeros((d, d))
    for x, output in zip(X, y, strict=True):
        for i in range(d):
            cubic = math.fsum(
                moments[i, j, k, m] * x[j] * x[k] * x[m]
                for j, k, m in itertools.product(range(d), repeat=3)
            )
            result[i] += output * (4 * cubic - 12 * x[i] / d) / math.sqrt(24) * x / N
    return result


METHOD = Method(
    key="wei2026improved",
    provenance={
        "partly": ("sde", "step", "means", "second", "direction"),
        "reconstructed": ("first", "tensor", "third", "fourth"),
    },
    functions=(
        Estimator(
            f=sphere_step,
            example=_step,
            edges=STEPS,
            settings={
                "default": {},
                "probe": {"step_size": 0.1, "drift_weight": 2.5},
            },
            brute_force=_one_step,
            deviations=(
                Deviation(
                    "not projected",
                    _unprojected,
                    seen_in="the drift as the public note on the paper writes it",
                    computes="drift and noise with their parts along the point, which shorten or lengthen the step",
                ),
            ),
            refused={
                "a point that is 0": {"theta": 0},
            },
        ),
        Sampler(
            f=run,
            example=_paths,
            edges={
                "tensor": lambda: {
                    "loss_and_grad": TensorPCA(xp.zeros((4, 4, 4))),
                    "start": xp.array([0.0, 0.0, 2.0, 0.0]),
                },
                "one index": lambda: {
                    "loss_and_grad": SingleIndex(xp.zeros((2, 4)), xp.ones(2), 3),
                    "start": xp.array([1.0, 1.0, 1.0, 1.0]),
                },
            },
            settings={
                "default": {"steps": 2000},
                "probe": {"step_size": 0.02, "drift_weight": 0.5, "steps": 1500},
            },
            moments=_moments,
            sizes=(4, 8),
            refused={
                "a start that is 0": {"start": 0},
            },
        ),
        Estimator(
            f=averages,
            example=lambda rng, size: {
                "path": rng.choice((0.1, 1.0))
                * rng.standard_normal((size, int(rng.integers(2, 5))))
            },
            edges={"one point": lambda: {"path": xp.array([[0.6, -0.8]])}},
            brute_force=_means,
        ),
        Estimator(
            f=average_direction,
            example=lambda rng, size: {"mean": _vector(rng, size)},
            edges={"one entry": lambda: {"mean": xp.array([-0.25])}},
            brute_force=lambda mean: xp.array(
                [x / math.hypot(*mean) for x in mean.tolist()]
            ),
            refused={
                "a mean that is 0": {"mean": 0},
            },
        ),
        Estimator(
            f=top_direction,
            example=_gapped,
            edges={
                "diagonal": lambda: {"second": xp.array([[0.25, 0.0], [0.0, 0.75]])}
            },
            brute_force=_power_method,
            tolerance=1e-7,
            sizes=(4, 8),
        ),
        Estimator(
            f=weak_drift_mean,
            example=lambda rng, size: (
                {"projected_drift": _vector(rng, size + 1)[1:]}
                if size > 1
                else {"projected_drift": _vector(rng, 2)}
            ),
            edges={
                "two dimensions": lambda: {"projected_drift": xp.array([1.0, -2.0])}
            },
            settings={"default": {}, "probe": {"drift_weight": 0.3}},
            brute_force=lambda projected_drift, *, drift_weight=1.0: xp.array(
                [
                    drift_weight * x / ((len(projected_drift) - 1) / 2)
                    for x in projected_drift.tolist()
                ]
            ),
            refused={
                "one dimension": {
                    "projected_drift": lambda projected_drift: projected_drift[:1]
                },
            },
        ),
        Estimator(
            f=weak_drift_second,
            example=lambda rng, size: {"outer": rng.standard_normal((size, size))},
            edges={"no drift": lambda: {"outer": xp.zeros((2, 2))}},
            settings={"default": {}, "probe": {"drift_weight": 0.3}},
            brute_force=lambda outer, *, drift_weight=1.0: xp.array(
                [
                    [
                        ((i == j) + drift_weight * (outer[i, j] + outer[j, i]))
                        / len(outer)
                        for j in range(len(outer))
                    ]
                    for i in range(len(outer))
                ]
            ),
            sizes=(4, 8),
        ),
        Estimator(
            f=tensor_drift,
            example=_symmetric,
            edges={"one entry": lambda: {"tensor": xp.full((1, 1, 1), 2.0)}},
            brute_force=_tensor_drift,
            sizes=(4, 8),
        ),
        Estimator(
            f=third_degree_drift,
            example=_samples,
            edges=SAMPLES,
            brute_force=_third_degree,
        ),
        Estimator(
            f=fourth_degree_drift,
            example=_samples,
            edges=SAMPLES,
            brute_force=_fourth_degree,
        ),
    ),
)
