"""What is known of `trref.optimization.sum_log_concave`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective
from trref.optimization.sum_log_concave import (
    Path,
    convexity_gap,
    cross_gradient,
    posterior,
    regularised_loss,
    slc_loss,
    xgd,
    xgd_bound,
)
from trref.problems.samples import LinearSamples, LogisticSamples, QuadraticSamples


def _example(rng, size):
    """Parts that are quadratic or logistic."""
    n = int(rng.integers(2, 5))
    X = rng.standard_normal((size, n))
    partials = (
        LinearSamples(X, 2 * rng.standard_normal(size), 0.1),
        LogisticSamples(3 * X, rng.choice([-1.0, 1.0], size)),
        QuadraticSamples(X**2, X),
    )[int(rng.integers(0, 3))]
    return {
        "partials": partials,
        "theta": rng.choice((0.3, 2.0)) * rng.standard_normal(n),
        "other": rng.choice((0.3, 2.0)) * rng.standard_normal(n),
        "mixture": rng.dirichlet(np.ones(size)),
    }


def _edge(a, b, theta, other, mixture):
    return {
        "partials": QuadraticSamples(xp.array(a), xp.array(b)),
        "theta": xp.array(theta),
        "other": xp.array(other),
        "mixture": xp.array(mixture),
    }


PARTS = Interface(
    "parts",
    example=_example,
    edges={
        "one part": lambda: _edge(
            [[1.0, 2.0]], [[1.0, 0.0]], [0.5, -1.0], [2.0, 1.0], [1.0]
        ),
        "a weight of 0": lambda: _edge(
            [[1.0], [1.0]], [[1.0], [-1.0]], [0.3], [-2.0], [0.0, 1.0]
        ),
        "between two valleys": lambda: _edge(
            [[4.0], [4.0]], [[8.0], [-8.0]], [0.0], [2.0], [0.5, 0.5]
        ),
        "parts that vanish": lambda: _edge(
            [[1.0], [1.0]], [[0.0], [40.0]], [40.0], [0.0], [0.3, 0.7]
        ),
        "the same point": lambda: _edge(
            [[1.0], [2.0], [0.5]], [[1.0], [0.0], [2.0]], [1.5], [1.5], [0.2, 0.3, 0.5]
        ),
    },
)


def _losses(partials, theta):
    return [float(x) for x in partials.each(theta)[0]]


def _log_sum(partials, theta):
    losses = _losses(partials, theta)
    return min(losses) - math.log(sum(math.exp(min(losses) - x) for x in losses))


def _shares(partials, theta):
    total = _log_sum(partials, theta)
    return xp.array([math.exp(total - x) for x in _losses(partials, theta)])


def _weighted(partials, theta, mixture):
    rows = [partials.on(slice(s, s + 1))(theta)[1] for s in range(len(partials))]
    return sum(float(w) * g for w, g in zip(mixture, rows, strict=True))


def _bregman(partials, theta, other, mixture):
    """The gap is the excess of the mixed losses over their tangent: all else cancels."""

    def mixed(at):
        return math.fsum(
            float(w) * x for w, x in zip(mixture, _losses(partials, at), strict=True)
        )

    slope = _weighted(partials, theta, mixture)
    return mixed(other) - mixed(theta) - float(slope @ (other - theta))


def _lengths(lr, steps, schedule):
    return [lr / math.sqrt(t + 1) if schedule == "root" else lr for t in range(steps)]


def _descended(partials, theta, mixture, *, lr, steps=100, schedule="root"):
    points, lengths = [theta], _lengths(lr, steps, schedule)
    for length in lengths:
        points.append(points[-1] - length * _weighted(partials, points[-1], mixture))
    weights = np.array(lengths) / math.fsum(lengths)
    return Path(np.stack(points), weights @ np.stack(points[:-1]))


def _rate(theta, other, *, lipschitz, lr, steps=100, schedule="root"):
    lengths = np.array(_lengths(lr, steps, schedule))
    distance = math.dist(theta.tolist(), other.tolist())
    return (distance**2 + lipschitz**2 * float(lengths @ lengths)) / (2 * lengths.sum())


def _own_posterior(inputs):
    """the mixture is the posterior"""
    return {**inputs, "mixture": posterior(inputs["partials"], inputs["theta"])}


STEPS = {
    "default": {"lr": 0.05},
    "constant": {"lr": 0.02, "schedule": "constant"},
    "probe": {"lr": 0.03, "steps": 7, "schedule": "constant"},
    "probe of falling steps": {"lr": 0.03, "steps": 7},
}

METHOD = Method(
    key="achab2023beyond",
    provenance="confirmed",
    functions=(
        Objective(f=slc_loss, interface=PARTS, wrt="theta"),
        Estimator(f=posterior, interface=PARTS, brute_force=_shares),
        Estimator(f=cross_gradient, interface=PARTS, brute_force=_weighted),
        Objective(
            f=regularised_loss,
            interface=PARTS,
            wrt="theta",
            limits=(Limit("sum_log_concave.slc_loss", {}, where=_own_posterior),),
        ),
        Estimator(f=convexity_gap, interface=PARTS, brute_force=_bregman),
        Estimator(
            f=xgd,
            interface=PARTS,
            sizes=(4, 8, 16),
            settings=STEPS,
            brute_force=_descended,
        ),
        Estimator(
            f=xgd_bound,
            interface=PARTS,
            example=lambda rng, size: {
                "theta": rng.standard_normal(size),
                "other": rng.standard_normal(size),
            },
            settings={n: {"lipschitz": 1.7, **hyper} for n, hyper in STEPS.items()},
            brute_force=_rate,
        ),
    ),
)
