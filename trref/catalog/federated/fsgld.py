"""What is known of `trref.federated.fsgld`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method
from trref.federated.fsgld import (
    Gaussian,
    Gaussians,
    conducive_gradients,
    conducive_targets,
    fit_surrogate,
    global_surrogate,
    langevin_step,
    local_targets,
    shard_drift,
    stationary_covariance,
)


def _definite(rng, P):
    Q = xp.linalg.qr(rng.standard_normal((P, P)))[0]
    A = Q * rng.uniform(0.5, 3.0, P) @ Q.T
    return (A + A.T) / 2


def _shards(rng, size):
    """Surrogates a little less sure than the likelihoods, off by a little."""
    S, P = size, int(rng.integers(1, 4))
    A = xp.stack([_definite(rng, P) for _ in range(S)])
    m = 3 * rng.standard_normal((S, P))
    shares = rng.dirichlet(xp.full(S, 5.0))
    return {
        "theta": rng.standard_normal(P),
        "means": m + 0.1 * rng.standard_normal((S, P)),
        "precisions": 0.9 * A,
        "likelihood_means": m,
        "likelihood_precisions": A,
        "prior_precision": _definite(rng, P),
        "shares": 0.5 * shares / shares.sum() + 0.5 / S,
    }


def _plain(S, shares):
    m = xp.sin(1 + xp.arange(2.0 * S)).reshape(S, 2)
    A = xp.stack([xp.diag(xp.array([1.0 + s, 2.0])) for s in range(S)])
    return {
        "theta": xp.array([0.5, -1.0]),
        "means": m + 0.1,
        "precisions": A,
        "likelihood_means": m,
        "likelihood_precisions": A,
        "prior_precision": xp.array([[0.2, 0.05], [0.05, 0.4]]),
        "shares": xp.array(shares),
    }


SHARDS = Interface(
    "shards",
    example=_shards,
    edges={
        "unequal shares": lambda: _plain(3, [0.7, 0.2, 0.1]),
        "two alike": lambda: {**_plain(2, [0.5, 0.5]), "means": xp.ones((2, 2))},
        "one is flat": lambda: {
            **_plain(2, [0.25, 0.75]),
            "precisions": xp.array(
                [[[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.5], [0.5, 1.0]]]
            ),
        },
    },
)
ONE = {**SHARDS.edges, "one shard": lambda: _plain(1, [1.0])}
FLAWED = {
    "a shard without a share": lambda: _plain(2, [1.0, 0.0]),
    "no precision at all": lambda: {
        **_plain(2, [0.5, 0.5]),
        "precisions": xp.zeros((2, 2, 2)),
    },
    "not symmetric": lambda: {
        **_plain(1, [1.0]),
        "precisions": xp.array([[[1.0, 0.5], [0.0, 1.0]]]),
    },
}


def _refused(*names, without=""):
    return {
        why: lambda make=make: ({n: make()[n] for n in names}, {})
        for why, make in FLAWED.items()
        if why != without
    }


def _product(means, precisions):
    """Completing the square, one shard after the other."""
    mean, total = means[0], precisions[0]
    for m, A in zip(means[1:], precisions[1:], strict=True):
        both = total + A
        if xp.linalg.det(both) != 0:
            pull = total @ mean + A @ m
            mean, total = xp.linalg.solve(both, pull), both
    return Gaussian(mean, total)


def _by_densities(theta, means, precisions, shares):
    """Differences of quadratic forms, which are exact but for rounding."""
    q = _product(means, precisions)
    log = lambda x, m, A: -0.5 * (x - m) @ A @ (x - m)  # noqa: E731
    rows = []
    for m, A, f in zip(means, precisions, shares, strict=True):
        row = []
        for e in xp.eye(len(theta)):
            ends = [
                log(theta + s * e, *q) - log(theta + s * e, m, A) / f for s in (1, -1)
            ]
            row.append((ends[0] - ends[1]) / 2)
        rows.append(row)
    return xp.array(rows)


def _alone(likelihood_means, likelihood_precisions, prior_precision, shares):
    means, precisions = [], []
    for m, A, f in zip(likelihood_means, likelihood_precisions, shares, strict=True):
        precisions.append(prior_precision + A / f)
        means.append(xp.linalg.inv(precisions[-1]) @ (A / f) @ m)
    return Gaussians(xp.stack(means), xp.stack(precisions))


def _corrected(
    likelihood_means, likelihood_precisions, means, precisions, prior_precision, shares
):
    """Natural parameters, added and subtracted."""
    pulls = [A @ m for A, m in zip(precisions, means, strict=True)]
    result = []
    for s, f in enumerate(shares):
        A = prior_precision + sum(precisions)
        A = A + (likelihood_precisions[s] - precisions[s]) / f
        b = sum(pulls) + (likelihood_precisions[s] @ likelihood_means[s] - pulls[s]) / f
        result.append((xp.linalg.inv(A) @ b, A))
    return Gaussians(*map(xp.stack, zip(*result, strict=True)))


def _draws(rng, size):
    """Of a posterior that is much surer than the prior, but for its last coordinate in a corner."""
    P = int(rng.integers(1, 3))
    N = max(size, P + 2)
    rows = rng.standard_normal((N, P)) @ (0.3 * _definite(rng, P))
    return {
        "draws": rng.standard_normal(P) + rows,
        "prior_precision": 0.02 * xp.eye(P),
    }


def _fitted(draws, prior_precision):
    C = xp.cov(draws.T).reshape(prior_precision.shape)
    precision = xp.linalg.inv(C) - prior_precision
    mean = draws.mean(0)
    return Gaussian(mean + xp.linalg.inv(precision) @ prior_precision @ mean, precision)


def _series(precision, *, lr):
    """The fixed point of C = M C M + h I with M = I - h A / 2, as a sum over eigenvalues."""
    values, Q = xp.linalg.eigh(precision)
    return (Q * (lr / (1 - (1 - lr / 2 * values) ** 2))) @ Q.T


METHOD = Method(
    key="mekkaoui2020federated",
    provenance={
        "confirmed": ("step", "surrogate"),
        "partly": ("drift", "conducive", "fit"),
        "reconstructed": ("local-target", "conducive-target", "stationary"),
    },
    functions=(
        Estimator(
            f=langevin_step,
            example=lambda rng, size: {
                name: rng.standard_normal(size) for name in ("theta", "drift", "noise")
            },
            edges={
                "at rest": lambda: {
                    "theta": xp.array([1.0]),
                    "drift": xp.zeros(1),
                    "noise": xp.zeros(1),
                }
            },
            settings={"default": {"lr": 0.01}, "probe": {"lr": 0.3}},
            brute_force=lambda theta, drift, noise, lr: xp.array(
                [
                    math.fsum((t, lr * d / 2, lr**0.5 * x))
                    for t, d, x in zip(theta, drift, noise, strict=True)
                ]
            ),
        ),
        Estimator(
            f=shard_drift,
            example=lambda rng, size: {
                "prior_gradient": rng.standard_normal(3),
                "gradients": rng.standard_normal((size, 3)),
            },
            edges={
                "one sample": lambda: {
                    "prior_gradient": xp.array([1.0, -2.0]),
                    "gradients": xp.array([[0.5, 4.0]]),
                }
            },
            settings={
                "default": {"count": 100, "share": 0.5},
                "probe": {"count": 7, "share": 0.2},
            },
            brute_force=lambda prior_gradient, gradients, count, share: (
                prior_gradient
                + sum(g * count / share / len(gradients) for g in gradients)
            ),
        ),
        Estimator(
            f=global_surrogate,
            interface=SHARDS,
            brute_force=_product,
            refused=_refused("means", "precisions", without="a shard without a share"),
        ),
        Estimator(
            f=conducive_gradients,
            interface=SHARDS,
            brute_force=_by_densities,
            refused=_refused("theta", "means", "precisions", "shares"),
        ),
        Estimator(
            f=fit_surrogate,
            example=_draws,
            edges={
                "three draws": lambda: {
                    "draws": xp.array([[1.0], [0.5], [0.0]]),
                    "prior_precision": xp.array([[0.5]]),
                }
            },
            brute_force=_fitted,
            refused={
                "two draws of a plane": lambda: (
                    {"draws": xp.eye(2), "prior_precision": xp.eye(2)},
                    {},
                ),
                "draws on a line": lambda: (
                    {"draws": xp.ones((4, 2)), "prior_precision": xp.eye(2)},
                    {},
                ),
                "draws that say what the prior says": lambda: (
                    {
                        "draws": xp.array([[1.0], [0.0], [-1.0]]),
                        "prior_precision": xp.eye(1),
                    },
                    {},
                ),
            },
        ),
        Estimator(
            f=local_targets,
            interface=SHARDS,
            brute_force=_alone,
            refused={
                "a shard that is never visited": {
                    "shares": lambda shares: (shares == shares.max()) * 1.0
                },
                "a target that is no distribution": {
                    "likelihood_precisions": lambda likelihood_precisions: (
                        -9 * likelihood_precisions
                    )
                },
            },
        ),
        Estimator(
            f=conducive_targets,
            interface=SHARDS,
            brute_force=_corrected,
            refused={
                **_refused(
                    "likelihood_means",
                    "likelihood_precisions",
                    "means",
                    "precisions",
                    "prior_precision",
                    "shares",
                ),
                "a target that is no distribution": {
                    "likelihood_precisions": lambda likelihood_precisions: (
                        -9 * likelihood_precisions
                    )
                },
            },
        ),
        Estimator(
            f=stationary_covariance,
            example=lambda rng, size: {"precision": _definite(rng, size)},
            edges={"one": lambda: {"precision": xp.array([[2.0]])}},
            settings={"default": {"lr": 0.01}, "probe": {"lr": 0.3}},
            brute_force=_series,
            refused={
                "too long steps": lambda: ({"precision": xp.eye(2)}, {"lr": 5.0}),
                "a flat direction": lambda: (
                    {"precision": xp.array([[1.0, 0.0], [0.0, 0.0]])},
                    {"lr": 0.1},
                ),
                "not symmetric": lambda: (
                    {"precision": xp.array([[1.0, 0.3], [0.0, 1.0]])},
                    {"lr": 0.1},
                ),
            },
        ),
    ),
)
