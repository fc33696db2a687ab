"""What is known of `trref.continual.robust_continual`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective, Transform
from trref.continual.robust_continual import (
    change,
    compressed_jacobian,
    extended_projector,
    layer,
    layer_jacobian,
    penalised_objective,
    projected_gradient,
)
from trref.nn import mlp
from trref.problems.input_curved import InputCurvedClassifier
from trref.problems.networks import random_classifier


def _layer(rng, size):
    N, D, M, H = size, *map(int, rng.integers(1, 5, 3))
    return {
        "inputs": rng.standard_normal((N, M)),
        "W": rng.choice((0.3, 1.5)) * rng.standard_normal((M, H)),
        "jacobian": rng.standard_normal((N, D, M)),
        "tangent": rng.standard_normal((N, M)),
        "update": rng.standard_normal((M, H)),
    }


def _one():
    return {
        "inputs": xp.array([[0.5, -2.0]]),
        "W": xp.array([[1.0], [0.5]]),
        "jacobian": xp.array([[[1.0, 0.0], [0.0, 1.0]]]),
        "tangent": xp.array([[1.0, 1.0]]),
        "update": xp.array([[4.0], [1.0]]),
    }


LAYER = Interface(
    "a layer",
    example=_layer,
    edges={
        "one sample": _one,
        "weights of 0": lambda: {**_one(), "W": xp.zeros((2, 1))},
    },
)


def _units(inputs, W):
    W = W.T.tolist()
    return xp.array(
        [
            [math.tanh(math.fsum(map(math.prod, zip(x, w, strict=True)))) for w in W]
            for x in inputs.tolist()
        ]
    )


def _moved(jacobian, inputs, W):
    """Each entry by a complex step of the inputs."""
    result = xp.zeros((*jacobian.shape[:2], W.shape[1]))
    for s in range(len(inputs)):
        for a in range(jacobian.shape[1]):
            x = inputs[s] + 1e-30j * jacobian[s, a]
            result[s, a] = xp.tanh(x @ W).imag / 1e-30
    return result


def _kept(rng, size):
    """A projector on one direction, and rows that are partly in it, of singular values apart."""
    M = int(rng.integers(2, 6))
    frame = xp.linalg.qr(rng.standard_normal((M, M)))[0]
    N = max(size, M)
    left = xp.linalg.qr(rng.standard_normal((N, M)))[0]
    scale = rng.choice((0.1, 1.0, 10.0))
    rows = scale * (left * 0.5 ** xp.arange(M)) @ frame[::-1]
    return {
        "projector": xp.outer(frame[0], frame[0]),
        "rows": rows[:size] if size < M else rows,
    }


def _weights(rng, size):
    projector = _kept(rng, 4)["projector"]
    return {
        "gradient": rng.standard_normal((len(projector), size)),
        "projector": projector,
    }


def _some(projector, rows):
    return lambda: {"projector": xp.array(projector), "rows": xp.array(rows)}


def _greedy(projector, rows, *, energy):
    """One eigenvector of what is not yet held after the other, until enough is."""
    P, total = projector, (rows**2).sum()
    for _ in range(len(P)):
        held = ((rows @ P) ** 2).sum()
        rest = rows - rows @ P
        values, vectors = xp.linalg.eigh(rest.T @ rest)
        if held >= energy * total or values[-1] <= 1e-12 * total:
            break
        P = P + xp.outer(vectors[:, -1], vectors[:, -1])
    return P


def _classifier(rng, size):
    loss = random_classifier(rng, points=size, hidden=int(rng.integers(1, 4)))
    loss = InputCurvedClassifier(loss.X, loss.labels, loss.sizes, "tanh")
    return {"loss": loss, "theta": rng.choice((0.5, 1.5)) * mlp.init(rng, loss.sizes)}


def _deep(N):
    X = xp.sin(1 + xp.arange(2.0 * N)).reshape(N, 2)
    loss = InputCurvedClassifier(X, xp.arange(N) % 2, (2, 3, 2, 2), "tanh")
    return {"loss": loss, "theta": xp.cos(xp.arange(float(mlp.size(loss.sizes))))}


METHOD = Method(
    key="ru2024maintaining",
    provenance={
        "partly": (
            "jacobian",
            "condition",
            "compressed",
            "basis",
            "projection",
            "penalty",
        )
    },
    functions=(
        Estimator(f=layer, interface=LAYER, brute_force=_units),
        Estimator(f=layer_jacobian, interface=LAYER, brute_force=_moved),
        Estimator(
            f=compressed_jacobian,
            interface=LAYER,
            brute_force=lambda tangent, inputs, W: _moved(tangent[:, None], inputs, W)[
                :, 0
            ],
        ),
        Estimator(
            f=extended_projector,
            example=_kept,
            edges={
                "the first rows": _some([[0.0] * 2] * 2, [[3.0, 0.0], [0.0, 1.0]]),
                "held already": _some([[1.0, 0.0], [0.0, 0.0]], [[2.0, 0.0]]),
                "much is held": _some(
                    [[1.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]]
                ),
                "short rows": _some([[0.0] * 2] * 2, [[3e-9, 0.0], [0.0, 1e-9]]),
                "rows of 0": _some([[0.0] * 2] * 2, [[0.0, 0.0]]),
                "one row, twice": _some([[0.0] * 3] * 3, [[0.0, 2.0, 0.0]] * 2),
            },
            settings={
                "default": {"energy": 0.97},
                "everything": {"energy": 1.0},
                "nothing": {"energy": 0.0},
                "probe": {"energy": 0.6},
            },
            brute_force=_greedy,
        ),
        Transform(
            f=projected_gradient,
            example=_weights,
            edges={
                "nothing is kept": lambda: {
                    "gradient": xp.array([[1.0], [2.0]]),
                    "projector": xp.zeros((2, 2)),
                },
                "everything is": lambda: {
                    "gradient": xp.array([[1.0], [2.0]]),
                    "projector": xp.eye(2),
                },
            },
            wrt="gradient",
            idempotent=True,
            jvp=lambda gradient, projector, tangent: projected_gradient(
                tangent, projector
            ),
            vjp=lambda gradient, projector, cotangent: projected_gradient(
                cotangent, projector
            ),
            feasible=lambda result, gradient, projector: float(
                abs(projector @ result).max()
            ),
        ),
        Estimator(
            f=change,
            interface=LAYER,
            brute_force=lambda inputs, update: sum(
                xp.outer(inputs[:, m], update[m]) for m in range(len(update))
            ),
        ),
        Objective(
            f=penalised_objective,
            example=_classifier,
            edges={
                "one sample": lambda: _deep(1),
                "two hidden layers": lambda: _deep(4),
            },
            wrt="theta",
            settings={
                "default": {"weight": 0.1},
                "no penalty": {"weight": 0.0},
                "probe": {"weight": 3.0},
            },
        ),
    ),
)
