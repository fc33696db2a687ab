"""What is known of `trref.federated.fedagain`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.federated.interfaces import MESSAGES
from trref.federated.fedagain import (
    aggregate,
    anomaly_scores,
    autoencoder_loss,
    divergences,
    reconstruction_errors,
    trust_weights,
)


def _samples(rng, size):
    """Reconstructions near and far, by two or more models."""
    K, N, D = int(rng.integers(2, 6)), size, int(rng.integers(1, 6))
    X = rng.standard_normal((N, D))
    off = rng.choice((0.01, 1.0, 30.0), (K, 1, 1)) * rng.standard_normal((K, N, D))
    return {"X": X, "reconstructed": X + off}


def _one_sample(K):
    X = xp.array([[1.0, -2.0, 0.5]])
    return {"X": X, "reconstructed": xp.zeros((K, 1, 3))}


def _perfect(K):
    X = xp.array([[1.0, -2.0], [0.0, 3.0]])
    off = xp.arange(float(K))[:, None, None]
    return {"X": X, "reconstructed": X + off}


def _of_one(arguments):
    return {**arguments, "reconstructed": arguments["reconstructed"][0]}


def _network(rng, size):
    N, D, H = size, int(rng.integers(1, 5)), int(rng.integers(1, 5))
    shapes = {"W1": (D, H), "b1": (H,), "W2": (H, D), "b2": (D,)}
    weights = {n: rng.standard_normal(s) for n, s in shapes.items()}
    return {**weights, "X": rng.choice((0.3, 2.0)) * rng.standard_normal((N, D))}


def _no_weights():
    zeros = {"W1": (2, 3), "b1": (3,), "W2": (3, 2), "b2": (2,)}
    return {n: xp.zeros(s) for n, s in zeros.items()} | {"X": xp.array([[1.0, -2.0]])}


def _with_signals(rng, size):
    """Messages of as many clients as there are errors, some of them with small ones."""
    arguments = MESSAGES.example(rng, size)
    K = len(arguments["counts"])
    errors = rng.choice((1e-3, 0.3, 5.0), K) * rng.uniform(0.5, 2.0, K)
    return {**arguments, "errors": errors, "divergences": rng.exponential(2.0, K)}


def _signals(make):
    arguments = make()
    K = len(arguments["counts"])
    more = {"errors": xp.arange(1.0, K + 1), "divergences": xp.arange(K, 0.0, -1)}
    return {**arguments, **more}


def _free_rider():
    arguments = _signals(MESSAGES.edges["one stayed where it was"])
    return {**arguments, "divergences": xp.array([0.0, 1.0, 2.0])}


def _no_errors():
    arguments = _signals(MESSAGES.edges["one stayed where it was"])
    return {**arguments, "errors": xp.zeros(3)}


SIGNALS = dataclasses.replace(
    MESSAGES,
    name="messages with signals",
    example=_with_signals,
    edges={
        **{n: lambda make=make: _signals(make) for n, make in MESSAGES.edges.items()},
        "a free rider": _free_rider,
        "no errors": _no_errors,
    },
)


def _many_clients(rng, size):
    errors = rng.choice((1e-3, 0.3, 5.0), size) * rng.uniform(0.5, 2.0, size)
    return {"errors": errors, "divergences": rng.exponential(2.0, size)}


def _trust(errors, divergences, *, eps=1e-4, signals="both"):
    e, d = errors.tolist(), divergences.tolist()
    of = {
        "both": lambda k: e[k] * d[k],
        "error": lambda k: e[k],
        "divergence": lambda k: d[k],
        "none": lambda k: 0.0,
    }[signals]
    w = [1 / (of(k) + eps) for k in range(len(e))]
    return xp.array([x / math.fsum(w) for x in w])


def _far(thetas, theta):
    return xp.array([math.dist(row, theta.tolist()) for row in thetas.tolist()])


def _mean_by_trust(thetas, theta, errors, *, eps=1e-4, signals="both"):
    weights = _trust(errors, _far(thetas, theta), eps=eps, signals=signals)
    columns = thetas.T.tolist()
    return xp.array([math.fsum(w * x for w, x in zip(weights, c)) for c in columns])  # noqa: B905


def _equal_counts(inputs):
    """counts are equal"""
    return {**inputs, "counts": xp.ones_like(inputs["errors"])}


SETTINGS = {
    "default": {},
    "error alone": {"signals": "error"},
    "divergence alone": {"signals": "divergence"},
    "neither": {"signals": "none"},
    "probe": {"eps": 0.03, "signals": "error"},
}

METHOD = Method(
    key="reyesamezcua2025robust",
    provenance={
        "confirmed": ("error", "divergence"),
        "partly": ("loss", "trust", "aggregate", "score"),
    },
    functions=(
        Objective(
            f=autoencoder_loss,
            example=_network,
            edges={"all weights are 0": _no_weights},
            wrt=("W1", "b1", "W2", "b2"),
        ),
        Estimator(
            f=anomaly_scores,
            example=lambda rng, size: _of_one(_samples(rng, size)),
            edges={
                "one sample": lambda: _of_one(_one_sample(1)),
                "perfect": lambda: _of_one(_perfect(1)),
            },
            brute_force=lambda X, reconstructed: xp.array(
                [
                    math.dist(a, b) ** 2
                    for a, b in zip(X.tolist(), reconstructed.tolist(), strict=True)
                ]
            ),
        ),
        Estimator(
            f=reconstruction_errors,
            example=_samples,
            edges={
                "one sample": lambda: _one_sample(2),
                "one client": lambda: _one_sample(1),
                "one is perfect": lambda: _perfect(3),
            },
            brute_force=lambda X, reconstructed: xp.array(
                [
                    xp.mean(
                        [math.dist(a, b) ** 2 for a, b in zip(X, each, strict=True)]
                    )
                    for each in reconstructed
                ]
            ),
        ),
        Estimator(f=divergences, interface=MESSAGES, brute_force=_far),
        Estimator(
            f=trust_weights,
            interface=dataclasses.replace(SIGNALS, example=_many_clients),
            settings=SETTINGS,
            brute_force=_trust,
        ),
        Estimator(
            f=aggregate,
            interface=SIGNALS,
            settings=SETTINGS,
            brute_force=_mean_by_trust,
            limits=(
                Limit(
                    to="fedavg.average", hyper={"signals": "none"}, where=_equal_counts
                ),
            ),
        ),
    ),
)
