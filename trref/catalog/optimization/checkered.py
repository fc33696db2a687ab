"""What is known of `trref.optimization.checkered`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.nn.heads import one_hot
from trref.optimization.checkered import (
    checkoid_loss,
    cross_checkoid_loss,
    multiclass_checkoid_loss,
    outcome_weights,
)


def _example(rng, size):
    M, C = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    Z = rng.choice((0.3, 1.0, 4.0)) * rng.standard_normal((size, M, C))
    return {
        "z": rng.choice((0.3, 1.0, 6.0)) * rng.standard_normal((size, M)),
        "Z": Z,
        "labels": rng.integers(0, C, size),
        "parity": rng.integers(0, 2, size) * 1.0,
        "weights": rng.dirichlet(np.ones(C), (size, M)),
    }


def _edge(z, Z, labels):
    z, Z, labels = xp.array(z), xp.array(Z), xp.array(labels)
    return {
        "z": z,
        "Z": Z,
        "labels": labels,
        "parity": (labels % 2) * 1.0,
        "weights": one_hot(labels, Z.shape[-1], Z.dtype)[:, None] + 0 * Z,
    }


EDGES = {
    "one decision": lambda: _edge(
        [[0.5], [-2.0]], [[[0.5, 0.0]], [[1.0, -1.0]]], [0, 1]
    ),
    "all equal": lambda: _edge([[0.0, 0.0]], [[[0.0] * 3, [0.0] * 3]], [2]),
    "nearly impossible": lambda: _edge(
        [[60.0, 60.0], [40.0, -50.0]],
        [[[60.0, 0.0], [60.0, 0.0]], [[50.0, 0.0], [0.0, 40.0]]],
        [1, 0],
    ),
    "one sure, one open": lambda: _edge(
        [[300.0, 0.25]], [[[300.0, 0.0, 0.0], [0.25, 0.0, -0.5]]], [1]
    ),
    "one row, many decisions": lambda: _edge(
        [[1.0, -1.0, 0.5, 2.0, -0.3]], [[[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]]], [1]
    ),
}
DECISIONS = Interface("decisions", example=_example, edges=EDGES)
PARITIES = Interface(
    "parities",
    example=_example,
    edges=EDGES,
    fit=lambda arguments, inputs: {**arguments, "labels": arguments["parity"]},
)


def _enumerated(Z, labels):
    """By all ways to have the class."""
    N, M, C = Z.shape
    w = np.zeros((N, M, C))
    for i in range(N):
        ways = []
        for way in itertools.product(range(C), repeat=M):
            if sum(way) % C == int(labels[i]):
                ways.append((sum(float(Z[i, k, j]) for k, j in enumerate(way)), way))
        top = max(score for score, _ in ways)
        total = math.fsum(math.exp(score - top) for score, _ in ways)
        for score, way in ways:
            for k, j in enumerate(way):
                w[i, k, j] += math.exp(score - top) / total
    return w


def _by_fourier(Z, labels):
    """Probabilities by transforms, clipped."""
    e = np.exp(Z - Z.max(-1, keepdims=True))
    s = e / e.sum(-1, keepdims=True)
    modes = np.fft.fft(s, axis=-1)
    p = np.fft.ifft(modes.prod(1), axis=-1).real.clip(1e-16, 1)
    rows = np.arange(len(Z))
    seen = p[rows, labels]
    w = np.zeros(Z.shape)
    for k in range(Z.shape[1]):
        others = np.delete(modes, k, axis=1).prod(1)
        rest = np.fft.ifft(others, axis=-1).real.clip(0, 1)
        for j in range(Z.shape[-1]):
            w[:, k, j] = s[:, k, j] * rest[rows, (labels - j) % Z.shape[-1]] / seen
    return -np.log(seen).mean(), (s - w) / len(Z)


BY_FOURIER = Deviation(
    "probabilities by Fourier transforms, clipped at 1e-16",
    lambda Z, labels: tuple(map(xp.asarray, _by_fourier(Z, labels))),
    seen_in="the paper's own way to compute them, in floating point",
    computes="the same but for classes that are nearly impossible: a loss of at most 36.8 there",
    documented=True,
)


def _own_weights(inputs):
    """there is one decision, and the weights are 1 at the label"""
    Z = inputs["Z"][:, :1].copy()
    C = Z.shape[-1]
    labels = xp.argmax(inputs["weights"][:, 0], -1)
    weights = one_hot(labels, C, Z.dtype)[:, None]
    return {**inputs, "Z": Z, "weights": weights, "labels": labels}


NO_SUCH_OUTCOME = {
    "a label that is no outcome": {"labels": 99},
}


METHOD = Method(
    key="achab2023beyond",
    provenance="confirmed",
    functions=(
        Objective(f=checkoid_loss, interface=PARITIES, wrt="z"),
        Objective(
            f=multiclass_checkoid_loss,
            interface=DECISIONS,
            wrt="Z",
            deviations=(BY_FOURIER,),
            refused=NO_SUCH_OUTCOME,
        ),
        Estimator(
            f=outcome_weights,
            interface=DECISIONS,
            brute_force=_enumerated,
            refused=NO_SUCH_OUTCOME,
        ),
        Objective(
            f=cross_checkoid_loss,
            interface=DECISIONS,
            wrt="Z",
            limits=(
                Limit("checkered.multiclass_checkoid_loss", {}, where=_own_weights),
            ),
        ),
    ),
)
