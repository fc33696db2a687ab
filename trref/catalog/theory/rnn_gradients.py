"""What is known of `trref.theory.rnn_gradients`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.theory.rnn_gradients import (
    errors,
    jacobian_norms,
    norm_bound,
    squared_loss,
    states,
    vanishing_penalty,
)


def _example(rng, size):
    """A network of three units with a matrix that contracts or expands, over as many steps as the size says."""
    W = rng.choice((0.5, 1.2)) * rng.standard_normal((3, 3)) / math.sqrt(3)
    arguments = {
        "W_rec": W,
        "W_in": 0.5 * rng.standard_normal((3, 2)),
        "bias": 0.3 * rng.standard_normal(3),
        "start": rng.standard_normal(3),
        "u": rng.standard_normal((size, 2)),
        "target": rng.standard_normal((size, 3)),
        "slopes": rng.standard_normal((size, 3)),
    }
    return _with_states(arguments)


def _with_states(arguments):
    first = ("W_rec", "W_in", "bias", "start", "u")
    x = states(*(arguments[name] for name in first))
    return arguments | {
        "states": x,
        "errors": errors(arguments["W_rec"], x, arguments["slopes"]),
    }


def _network(W, u, slopes=None):
    W, u = xp.array(W), xp.array(u)
    H, T = len(W), len(u)
    return _with_states(
        {
            "W_rec": W,
            "W_in": xp.ones((H, u.shape[1])) / 2,
            "bias": xp.zeros(H) + 0.125,
            "start": xp.zeros(H) - 0.25,
            "u": u,
            "target": xp.zeros((T, H)) + 0.5,
            "slopes": xp.ones((T, H)) if slopes is None else xp.array(slopes),
        }
    )


EDGES = {
    "one step": lambda: _network([[0.5, -1.0], [2.0, 0.25]], [[1.0]]),
    "nothing goes on": lambda: _network([[0.0, 0.0], [0.0, 0.0]], [[1.0], [0.5]]),
    "one unit": lambda: _network([[1.5]], [[0.5], [-0.5], [0.0]]),
    "a loss of the last step": lambda: _network(
        [[0.0, 1.0], [-1.0, 0.0]],
        [[0.5], [0.25], [0.0]],
        [[0.0, 0.0]] * 2 + [[1.0, -2.0]],
    ),
    "no error at two steps": lambda: _network(
        [[0.5, 0.0], [0.0, 0.5]],
        [[0.5], [0.25], [0.0]],
        [[1.0, 1.0]] + [[0.0, 0.0]] * 2,
    ),
}


def _only(*names):
    return {
        "example": lambda rng, size: {n: _example(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def _sigma(x, activation):
    return math.tanh(x) if activation == "tanh" else 1 / (1 + math.exp(-x))


def _slope(x, activation):
    y = _sigma(x, activation)
    return 1 - y * y if activation == "tanh" else y * (1 - y)


def _unit_by_unit(W_rec, W_in, bias, start, u, *, activation="tanh"):
    rows = [start.tolist()]
    for row in u.tolist():
        rows.append(
            [
                math.fsum(
                    w * _sigma(x, activation) for w, x in zip(W, rows[-1], strict=True)
                )
                + math.fsum(w * x for w, x in zip(V, row, strict=True))
                + b
                for W, V, b in zip(
                    W_rec.tolist(), W_in.tolist(), bias.tolist(), strict=True
                )
            ]
        )
    return xp.array(rows)


def _jacobian(W_rec, state, activation):
    """Of one step."""
    return np.array(
        [
            [w * _slope(x, activation) for w, x in zip(row, state, strict=True)]
            for row in W_rec.tolist()
        ]
    )


def _sum_of_paths(W_rec, states, slopes, *, activation="tanh"):
    """Each loss through each product of Jacobians."""
    T, H = slopes.shape
    delta = np.zeros((T, H))
    for t in range(T):
        product = np.eye(H)
        for s in range(t, T):
            if s > t:
                product = _jacobian(W_rec, states[s].tolist(), activation) @ product
            delta[t] += product.T @ slopes[s]
    return delta


def _norms(W_rec, states, *, activation="tanh"):
    product, norms = np.eye(len(W_rec)), []
    for row in states[-2::-1]:
        product = product @ _jacobian(W_rec, row.tolist(), activation)
        norms.append(math.sqrt(np.linalg.eigvalsh(product @ product.T)[-1]))
    return xp.array(norms)


def _bound(W_rec, states, *, activation="tanh"):
    largest = math.sqrt(np.linalg.eigvalsh(W_rec @ W_rec.T)[-1])
    gamma = {"tanh": 1.0, "logistic": 0.25}[activation]
    return xp.array([(gamma * largest) ** k for k in range(1, len(states))])


ACTIVATIONS = {"default": {}, "probe": {"activation": "logistic"}}

METHOD = Method(
    key="pascanu2013on",
    provenance={
        "confirmed": ("squared",),
        "partly": ("penalty", "penalty-gradient"),
        "reconstructed": ("state", "jacobian", "bound", "backward", "gradient"),
    },
    functions=(
        Estimator(
            f=states,
            settings=ACTIVATIONS,
            brute_force=_unit_by_unit,
            sizes=(4, 8, 16),
            **_only("W_rec", "W_in", "bias", "start", "u"),
        ),
        Estimator(
            f=errors,
            settings=ACTIVATIONS,
            brute_force=_sum_of_paths,
            sizes=(4, 8, 16),
            **_only("W_rec", "states", "slopes"),
        ),
        Objective(
            f=squared_loss,
            wrt=("W_rec", "W_in", "bias", "start"),
            settings=ACTIVATIONS,
            sizes=(4, 8, 16),
            **_only("W_rec", "W_in", "bias", "start", "u", "target"),
        ),
        Estimator(
            f=jacobian_norms,
            settings=ACTIVATIONS,
            brute_force=_norms,
            sizes=(4, 8),
            **_only("W_rec", "states"),
        ),
        Estimator(
            f=norm_bound,
            settings=ACTIVATIONS,
            brute_force=_bound,
            sizes=(4, 8, 16),
            **_only("W_rec", "states"),
        ),
        Objective(
            f=vanishing_penalty,
            wrt="W_rec",
            settings={
                "default": {},
                "squared": {"form": "squared"},
                "probe": {"form": "squared", "activation": "logistic"},
            },
            sizes=(4, 8, 16),
            **_only("W_rec", "states", "errors"),
        ),
    ),
)
