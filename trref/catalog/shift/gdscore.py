"""What is known of `trref.shift.gdscore`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method
from trref.shift.gdscore import (
    gdscore,
    head_gradient,
    loss_bound,
    lp_size,
    pseudo_labels,
)


def _softmax(z):
    e = xp.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _outputs(rng, size):
    D, C = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    scale = rng.choice((0.3, 1.0, 4.0))
    return {
        "features": rng.standard_normal((size, D)),
        "weights": scale * rng.standard_normal((D, C)),
        "bias": rng.standard_normal(C),
        "uniform": 0.999 * rng.random(size),
    }


def _labelled(rng, size):
    given = _outputs(rng, size)
    P = _softmax(given["features"] @ given["weights"] + given["bias"])
    labels = rng.integers(0, P.shape[1], size)
    return {"features": given["features"], "probabilities": P, "labels": labels}


def _unlabelled(rng, size):
    return {
        "probabilities": _labelled(rng, size)["probabilities"],
        "uniform": 0.999 * rng.random(size),
    }


def _label_by_label(probabilities, uniform, *, tau=0.5):
    labels = []
    for p, u in zip(probabilities.tolist(), uniform.tolist(), strict=True):
        labels.append(p.index(max(p)) if max(p) >= tau else math.floor(len(p) * u))
    return xp.array(labels)


def _entry_by_entry(features, probabilities, labels):
    (N, D), C = features.shape, probabilities.shape[1]
    G = xp.empty((D, C))
    for j in range(D):
        for c in range(C):
            terms = [
                float(features[i, j]) * (float(probabilities[i, c]) - (labels[i] == c))
                for i in range(N)
            ]
            G[j, c] = math.fsum(terms) / N
    return G


def _matrix(rng, size):
    scale = rng.choice((1e-3, 1.0, 50.0))
    return {"G": scale * rng.standard_normal((size, int(rng.integers(1, 4))))}


def _sum_of_powers(G, *, p=0.3):
    logs = [math.log(abs(v)) for v in G.ravel().tolist() if v]
    if not logs:
        return 0.0
    total = math.fsum(math.exp(p * (v - max(logs))) for v in logs)
    return math.exp(math.log(total) / p + max(logs))


def _batch_by_batch(features, weights, bias, uniform, *, tau=0.5, p=0.3, batch=128):
    P, sizes = _softmax(features @ weights + bias), []
    labels = _label_by_label(P, uniform, tau=tau)
    for start in range(0, len(P), batch):
        rows = slice(start, start + batch)
        G = _entry_by_entry(features[rows], P[rows], labels[rows])
        sizes.append(_sum_of_powers(G, p=p))
    return math.fsum(sizes) / len(sizes)


def _heads(rng, size):
    C = int(rng.integers(1, 4))
    names = ("first_gradient", "second_gradient", "step")
    return {name: rng.standard_normal((size, C)) for name in names}


def _by_powers(first_gradient, second_gradient, step, *, p=2.0):
    q = 1 / (1 - 1 / p)
    sizes = [_sum_of_powers(g, p=p) for g in (first_gradient, second_gradient)]
    return max(sizes) * _sum_of_powers(step, p=q)


def _one_matrix(inputs):
    """the two gradients agree, and the step is one entry of 1"""
    G = inputs["first_gradient"]
    step = xp.zeros_like(G)
    step[0, 0] = 1.0
    return {"first_gradient": G, "second_gradient": G / 2, "step": step}, {"G": G}


METHOD = Method(
    key="xie2024leveraging",
    provenance={
        "confirmed": ("labels", "gradient", "size", "score"),
        "partly": ("bound",),
    },
    functions=(
        Estimator(
            f=pseudo_labels,
            example=_unlabelled,
            edges={
                "on the threshold": lambda: {
                    "probabilities": xp.array([[0.5, 0.5], [0.25, 0.75]]),
                    "uniform": xp.array([0.75, 0.0]),
                },
                "one sample, one class": lambda: {
                    "probabilities": xp.ones((1, 1)),
                    "uniform": xp.zeros(1),
                },
            },
            settings={
                "default": {},
                "all its own": {"tau": 0.0},
                "only certain ones": {"tau": 1.0},
                "probe": {"tau": 0.7},
            },
            brute_force=_label_by_label,
            refused={
                "a draw of 1": {"uniform": 1.0},
            },
        ),
        Estimator(
            f=head_gradient,
            example=_labelled,
            edges={
                "certain and right": lambda: {
                    "features": xp.array([[2.0, -1.0]]),
                    "probabilities": xp.array([[0.0, 1.0]]),
                    "labels": xp.array([1]),
                },
            },
            brute_force=_entry_by_entry,
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=lp_size,
            example=_matrix,
            edges={
                "nothing": lambda: {"G": xp.zeros((2, 2))},
                "one entry of many": lambda: {"G": xp.array([[0.0, -3.0, 0.0]])},
                "too small to square": lambda: {
                    "G": xp.array([[1e-200], [3e-200], [0.0]])
                },
            },
            settings={"default": {}, "Euclidean": {"p": 2.0}, "probe": {"p": 0.7}},
            brute_force=_sum_of_powers,
        ),
        Estimator(
            f=gdscore,
            example=_outputs,
            edges={
                "no features": lambda: {
                    "features": xp.zeros((2, 2)),
                    "weights": xp.ones((2, 3)),
                    "bias": xp.array([0.0, 1.0, 0.5]),
                    "uniform": xp.array([0.1, 0.9]),
                },
                "undecided": lambda: {
                    "features": xp.array([[1.0], [2.0], [-1.0]]),
                    "weights": xp.zeros((1, 3)),
                    "bias": xp.zeros(3),
                    "uniform": xp.array([0.1, 0.5, 0.9]),
                },
                "one sample": lambda: {
                    "features": xp.array([[1.5, -0.5]]),
                    "weights": xp.array([[1.0, 0.0], [0.5, 0.2]]),
                    "bias": xp.zeros(2),
                    "uniform": xp.array([0.3]),
                },
            },
            settings={
                "default": {},
                "its own labels": {"tau": 0.0, "p": 1.0},
                "probe": {"tau": 0.7, "p": 0.6, "batch": 3},
            },
            brute_force=_batch_by_batch,
        ),
        Estimator(
            f=loss_bound,
            example=_heads,
            edges={
                "no step": lambda: {
                    "first_gradient": xp.ones((1, 2)),
                    "second_gradient": xp.ones((1, 2)),
                    "step": xp.zeros((1, 2)),
                },
            },
            settings={"default": {}, "probe": {"p": 1.5}},
            brute_force=_by_powers,
            limits=(
                Limit(
                    to="gdscore.lp_size",
                    hyper={"p": 3.0},
                    to_hyper={"p": 3.0},
                    where=_one_matrix,
                ),
            ),
        ),
    ),
)
