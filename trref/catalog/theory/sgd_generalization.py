"""What is known of `trref.theory.sgd_generalization`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.problems.samples import (
    LinearSamples,
    LogisticSamples,
    QuadraticSamples,
    SoftmaxSamples,
)
from trref.theory.sgd_generalization import (
    PathDifference,
    gap_growth,
    gradient_moments,
    sgd_minus_gd,
    squared_gradient,
    trace_gradient,
)


def _gradients(rng, size):
    """Gradients around a mean that is small or large beside their spread."""
    mean = rng.choice((0.0, 0.1, 3.0)) * rng.standard_normal(3)
    return {
        "gradients": mean + rng.choice((0.05, 1.0)) * rng.standard_normal((size, 3))
    }


GRADIENTS = {
    "one sample": lambda: {"gradients": xp.array([[0.5, -2.0]])},
    "all equal": lambda: {"gradients": xp.ones((3, 2))},
    "opposite": lambda: {"gradients": xp.array([[1.0, -2.0], [-1.0, 2.0]])},
}


def _samples(rng, size):
    """A regression, a classification by two classes or three, or quadratics."""
    X, D = rng.standard_normal((size, 3)), 3
    kind = rng.integers(4)
    theta = rng.choice((0.1, 1.0)) * rng.standard_normal(3 * D if kind == 2 else D)
    if kind == 0:
        samples = LinearSamples(X, rng.standard_normal(size), 0.1)
    elif kind == 1:
        samples = LogisticSamples(X, rng.choice((-1.0, 1.0), size))
    elif kind == 2:
        samples = SoftmaxSamples(X, rng.integers(0, 3, size), 3)
    else:
        samples = QuadraticSamples(rng.exponential(1.0, (size, D)), X)
    return {"samples": samples, "theta": theta}


def _quadratics(a, b, theta):
    return {
        "samples": QuadraticSamples(xp.array(a), xp.array(b)),
        "theta": xp.array(theta),
    }


SAMPLES = {
    "one sample": lambda: _quadratics([[2.0, 1.0]], [[1.0, 0.0]], [0.5, -1.0]),
    "equal curvature": lambda: _quadratics(
        [[2.0, 1.0], [2.0, 1.0]], [[1.0, 0.0], [-1.0, 3.0]], [0.5, -1.0]
    ),
    "certain of the right class": lambda: {
        "samples": LogisticSamples(
            xp.array([[9.0, 1.0], [-8.0, 2.0]]), xp.array([1.0, -1.0])
        ),
        "theta": xp.array([4.0, 0.0]),
    },
}


def _moments(gradients):
    """The spread as half the mean squared distance of two different samples."""
    rows = gradients.tolist()
    n = len(rows)
    mean = [math.fsum(column) / n for column in zip(*rows, strict=True)]
    pairs = itertools.product(rows, rows)
    total = math.fsum(math.dist(a, b) ** 2 for a, b in pairs)
    return mean, total / (2 * n * max(n - 1, 1))


def _moments_by_pairs(gradients):
    mean, trace = _moments(gradients)
    return [xp.array(mean), xp.asarray(trace)]


def _trace_gradient(samples, theta):
    """From the whole Hessian of every sample, column by column."""
    gradients = samples.each(theta)[1]
    n, P = gradients.shape
    H = xp.empty((n, P, P))
    for j in range(P):
        column = xp.zeros((n, P))
        column[:, j] = 1.0
        H[:, :, j] = samples.each_product(theta, column)
    result = xp.zeros(P)
    for matrix, gradient in zip(H, gradients, strict=True):
        result += 2 / n * (matrix - H.mean(0)) @ (gradient - gradients.mean(0))
    return result


def _difference(samples, theta, *, lr=0.1, train_size=32, steps=4):
    pairs = math.comb(steps, 2)
    moved = -(lr**2) * pairs / (2 * train_size) * _trace_gradient(samples, theta)
    return PathDifference(moved, samples(theta)[1] @ moved)


METHOD = Method(
    key="roberts2021sgd",
    provenance={
        "partly": ("gap", "moments", "second-moment"),
        "reconstructed": ("trace-gradient", "path", "test-loss"),
    },
    functions=(
        Estimator(
            f=gradient_moments,
            example=_gradients,
            edges=GRADIENTS,
            brute_force=_moments_by_pairs,
        ),
        Estimator(
            f=squared_gradient,
            example=_gradients,
            edges=GRADIENTS,
            settings={"default": {}, "probe": {"train_size": 5}},
            brute_force=lambda gradients, *, train_size=32: (
                math.fsum(m * m for m in _moments(gradients)[0])
                + _moments(gradients)[1] / train_size
            ),
        ),
        Estimator(
            f=gap_growth,
            example=_gradients,
            edges=GRADIENTS,
            settings={"default": {}, "probe": {"lr": 0.03, "train_size": 5}},
            brute_force=lambda gradients, *, lr=0.1, train_size=32: (
                lr * _moments(gradients)[1] / train_size
            ),
        ),
        Estimator(
            f=trace_gradient,
            example=_samples,
            edges=SAMPLES,
            brute_force=_trace_gradient,
        ),
        Estimator(
            f=sgd_minus_gd,
            example=_samples,
            edges=SAMPLES,
            settings={
                "default": {},
                "one step": {"steps": 1},
                "probe": {"lr": 0.3, "train_size": 12, "steps": 3},
            },
            brute_force=_difference,
        ),
    ),
)
