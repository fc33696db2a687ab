"""What is known of `trref.adversarial.regional_adversarial_training`."""

import math

from trref.adversarial.regional_adversarial_training import (
    box_point,
    distance_share,
    hull_point,
    rat_objective,
    segment_point,
    smoothed_labels,
    soft_cross_entropy,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.record import Interface
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss


def _example(rng, size):
    N, D, V = size, int(rng.integers(1, 5)), int(rng.integers(1, 6))
    x = rng.random((N, D))
    vertices = x + 0.3 * rng.uniform(-1, 1, (V, N, D))
    return {
        "vertices": vertices,
        "weights": rng.dirichlet(xp.ones(V), N),
        "x": x,
        "end": vertices[-1],
        "points": vertices[0],
        "uniform": rng.random((N, D)),
        "labels": rng.integers(0, 3, N),
        "distance": rng.random(N),
    }


def _fit(arguments, inputs):
    """A draw a row where no coordinate has its own."""
    if "uniform" in inputs and inputs["uniform"].shape == "N":
        return {**arguments, "uniform": arguments["uniform"][:, 0].copy()}
    return arguments


def _given(vertices, weights, x, distance):
    vertices, x = xp.array(vertices), xp.array(x)
    return {
        "vertices": vertices,
        "weights": xp.array(weights),
        "x": x,
        "end": vertices[-1],
        "points": vertices[0],
        "uniform": xp.abs(xp.cos(xp.arange(1.0 + x.size)[1:])).reshape(x.shape),
        "labels": xp.arange(len(x)) % 3,
        "distance": xp.array(distance),
    }


REGION = Interface(
    "adversarial regions",
    example=_example,
    edges={
        "one corner": lambda: _given([[[0.2, 0.9]]], [[1.0]], [[0.3, 0.8]], [0.0]),
        "equal corners": lambda: _given(
            [[[0.5], [0.1]]] * 3,
            [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]],
            [[0.5], [0.2]],
            [1.0, 0.5],
        ),
        "beyond the radius": lambda: _given(
            [[[0.9, 0.1]], [[0.5, 0.5]]], [[0.5, 0.5]], [[0.1, 0.2]], [1.0]
        ),
    },
    fit=_fit,
)


def _mixtures(vertices, weights):
    V, N, D = vertices.shape
    result = xp.empty((N, D))
    for i in range(N):
        for d in range(D):
            terms = [float(weights[i, v]) * float(vertices[v, i, d]) for v in range(V)]
            result[i, d] = math.fsum(terms)
    return result


def _between(vertices, uniform):
    V, N, D = vertices.shape
    result = xp.empty((N, D))
    for i in range(N):
        for d in range(D):
            ends = sorted(float(vertices[v, i, d]) for v in range(V))
            u = float(uniform[i, d])
            result[i, d] = (1 - u) * ends[0] + u * ends[-1]
    return result


def _on_the_way(x, end, uniform, *, least=0.0):
    rows = []
    for a, b, u in zip(x.tolist(), end.tolist(), uniform.tolist(), strict=True):
        r = least * (1 - u) + u
        rows.append([(1 - r) * p + r * q for p, q in zip(a, b, strict=True)])
    return xp.array(rows)


def _shares(points, x, *, radius=0.3):
    off = [
        max(abs(p - q) for p, q in zip(a, b, strict=True))
        for a, b in zip(points.tolist(), x.tolist(), strict=True)
    ]
    return xp.array([min(v / radius, 1.0) for v in off])


def _soft(distance, labels, *, classes, most=0.3, power=1.0):
    rows = []
    for rho, y in zip(distance.tolist(), labels.tolist(), strict=True):
        s = most * rho**power
        rows.append([(1 - s) * (k == y) + s / classes for k in range(classes)])
    return xp.array(rows)


def _whatever_the_distance(distance, labels, *, classes, most=0.3, power=1.0):
    return smoothed_labels(
        xp.ones_like(distance), labels, classes=classes, most=most, power=power
    )


def _targets(rng, size):
    K = int(rng.integers(1, 5))
    return {
        "logits": rng.choice((0.3, 1.0, 5.0)) * rng.standard_normal((size, K)),
        "targets": rng.dirichlet(xp.ones(K), size),
    }


def _network(rng, size):
    D, K = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    sizes = (D, 3, K)
    loss = ClassifierLoss(rng.random((size, D)), rng.integers(0, K, size), sizes)
    theta = rng.choice((0.5, 2.0)) * mlp.init(rng, sizes)
    return {
        "network": loss,
        "theta": theta,
        "targets": rng.dirichlet(xp.ones(K), size),
    }


def _two_corners(inputs):
    """the corners are the input and the end"""
    x, end, r = inputs["x"], inputs["end"], inputs["uniform"]
    corners = {"vertices": xp.stack([x, end]), "weights": xp.stack([1 - r, r], 1)}
    return inputs, corners


METHOD = Method(
    key="song2021regional",
    provenance={
        "partly": ("entropy", "objective"),
        "reconstructed": ("hull", "box", "segment", "distance", "labels"),
    },
    functions=(
        Estimator(f=hull_point, interface=REGION, brute_force=_mixtures),
        Estimator(f=box_point, interface=REGION, brute_force=_between),
        Estimator(
            f=segment_point,
            interface=REGION,
            settings={"default": {}, "probe": {"least": 0.4}},
            brute_force=_on_the_way,
            limits=(
                Limit(
                    to="regional_adversarial_training.hull_point",
                    hyper={},
                    where=_two_corners,
                ),
            ),
        ),
        Estimator(
            f=distance_share,
            interface=REGION,
            settings={"default": {}, "probe": {"radius": 0.15}},
            brute_force=_shares,
        ),
        Estimator(
            f=smoothed_labels,
            interface=REGION,
            settings={
                "default": {"classes": 3},
                "hard": {"classes": 3, "most": 0.0},
                "probe": {"classes": 4, "most": 0.6, "power": 2.5},
            },
            brute_force=_soft,
            deviations=(
                Deviation(
                    "ordinary smoothing",
                    _whatever_the_distance,
                    seen_in="label smoothing of common libraries",
                    computes="the same targets whatever the distance",
                    documented=True,
                ),
            ),
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Objective(
            f=soft_cross_entropy,
            wrt="logits",
            example=_targets,
            edges={
                "undecided": lambda: {
                    "logits": xp.zeros((2, 2)),
                    "targets": xp.array([[1.0, 0.0], [0.25, 0.75]]),
                },
                "one class": lambda: {
                    "logits": xp.array([[3.0]]),
                    "targets": xp.ones((1, 1)),
                },
            },
        ),
        Objective(
            f=rat_objective,
            wrt="theta",
            example=_network,
            edges={
                "one point": lambda: {
                    "network": ClassifierLoss(xp.array([[0.5]]), xp.array([0]), (1, 2)),
                    "theta": xp.array([1.0, -1.0, 0.5, 0.0]),
                    "targets": xp.array([[0.9, 0.1]]),
                },
            },
        ),
    ),
)
