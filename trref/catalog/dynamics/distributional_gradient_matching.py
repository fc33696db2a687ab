"""What is known of `trref.dynamics.distributional_gradient_matching`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.dynamics.distributional_gradient_matching import (
    Drift,
    drift,
    field,
    joint_objective,
    trajectories,
    w2,
)
from trref.nn import mlp

HYPER = "log_length", "log_signal", "log_noise"


def _theta(rng, dims, hidden, scale=0.7):
    return np.asarray(mlp.init(rng, (dims, hidden, hidden, 2 * dims), scale=scale))


def _example(rng, size):
    D, M = int(rng.integers(1, 4)), size // 2 + 1
    t = np.cumsum(rng.uniform(0.3, 1.0, size))
    theta = _theta(rng, D, int(rng.integers(2, 5)))
    return {
        "theta": theta + 0.1 * rng.standard_normal(len(theta)),
        "log_length": rng.uniform(-0.4, 0.4, D),
        "log_signal": rng.uniform(-0.4, 0.4, D),
        "log_noise": rng.uniform(-1.4, -0.6, D),
        "t": t,
        "y": rng.choice((0.3, 2.0)) * rng.standard_normal((size, D)),
        "t2": rng.uniform(t[0] - 1, t[-1] + 1, M),
        "x": rng.choice((0.5, 5.0)) * rng.standard_normal((size, D)),
        "x0": rng.standard_normal(D),
        "noise": rng.standard_normal((size, D)),
        "slope": rng.standard_normal((size, D)),
        "slope_std": np.exp(rng.standard_normal((size, D))),
        "drift": rng.standard_normal((size, D)),
        "drift_std": np.exp(rng.standard_normal((size, D))),
    }


def _edge(theta, log_hyper, t, y, t2):
    y = np.array(y, dtype=float)
    given = {"theta": theta, "t": t, "y": y, "t2": t2}
    given |= dict(zip(HYPER, zip(*log_hyper, strict=True), strict=True))
    given |= {"x": y, "x0": y[0], "noise": 0.5 - y, "slope": y, "slope_std": 1 + abs(y)}
    given |= {"drift": y.copy(), "drift_std": 1 + abs(y)}
    return {name: xp.array(value, dtype=float) for name, value in given.items()}


def _drawn(dims, hidden, scale=1.0):
    return _theta(np.random.default_rng(3), dims, hidden, scale)


MATCHING = Interface(
    name="trajectory and network",
    example=_example,
    edges={
        "a network of zeros": lambda: _edge(
            np.zeros(mlp.size((1, 2, 2, 2))),
            [[0.0, 0.0, -1.0]],
            [0.0, 1.0, 2.0],
            [[1.0], [0.0], [-1.0]],
            [0.5, 1.5],
        ),
        "one observation of two states": lambda: _edge(
            _drawn(2, 1),
            [[0.0, 0.0, -1.0], [0.5, 0.3, -0.5]],
            [1.0],
            [[1.0, -2.0]],
            [0.0],
        ),
        "dense times, a variance below the floor": lambda: _edge(
            _drawn(1, 3),
            [[2.5, 0.0, -2.0]],
            np.linspace(0, 1, 6),
            np.sin(np.linspace(0, 1, 6))[:, None],
            [0.4, 0.5],
        ),
        "six states, five units": lambda: _edge(
            _drawn(6, 5),
            [[0.0, 0.1 * d, -1.0] for d in range(6)],
            [0.0, 1.0],
            [np.arange(6) / 3, 1 - np.arange(6) / 3],
            [0.5],
        ),
        "far from 0": lambda: _edge(
            _drawn(1, 2, 4.0),
            [[0.0, 2.0, 0.0]],
            [0.0, 1.0],
            [[30.0], [-30.0]],
            [0.0, 1.0],
        ),
    },
)


def _layer(W, b, h):
    return [
        math.fsum(w * v for w, v in zip(column, h, strict=True)) + c
        for column, c in zip(W.T.tolist(), b.tolist(), strict=True)
    ]


def _row(theta, x):
    """Mean and standard deviation at one state, neuron by neuron."""
    dims = len(x)
    hidden = next(
        h for h in range(1, 200) if mlp.size((dims, h, h, 2 * dims)) == len(theta)
    )
    first, second, last = mlp.unpack(
        np.asarray(theta), (dims, hidden, hidden, 2 * dims)
    )
    h = [math.tanh(a) for a in _layer(*first, x)]
    out = _layer(*last, [math.tanh(a) for a in _layer(*second, h)])
    return out[:dims], [max(a, 0) + math.log1p(math.exp(-abs(a))) for a in out[dims:]]


def _rows(theta, x):
    return Drift(
        *(
            np.array(part)
            for part in zip(*(_row(theta, r) for r in x.tolist()), strict=True)
        )
    )


def _field_by_rows(theta, x, noise):
    mean, std = _rows(theta, x)
    return mean + std * noise


def _runge_kutta(theta, x0, noise, *, duration=1.0, steps=20):
    """The textbook's four slopes, one trajectory after another."""
    h, paths = duration / steps, []
    for xi in noise:

        def slope(x, xi=xi):
            mean, std = _row(theta, x.tolist())
            return np.array(mean) + np.array(std) * xi

        path = [np.array(x0)]
        for _ in range(steps):
            x = path[-1]
            k1 = slope(x)
            k2 = slope(x + h / 2 * k1)
            k3 = slope(x + h / 2 * k2)
            path.append(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3)))
        paths.append(path)
    return np.array(paths).swapaxes(0, 1)


def _softplus_of_variance(theta, x, noise):
    mean, std = drift(theta, x)
    return mean + xp.log1p(xp.exp(std * std)) * noise


REFUSED = {
    "parameters of no network": {"theta": lambda theta: theta[:-1]},
    "large parameters": {"theta": 1e9},
}


METHOD = Method(
    key="treven2021distributional",
    provenance="confirmed",
    functions=(
        Objective(
            f=w2,
            wrt=("slope", "slope_std", "drift", "drift_std"),
            interface=MATCHING,
        ),
        Estimator(
            f=drift,
            interface=MATCHING,
            brute_force=_rows,
            refused=REFUSED,
        ),
        Objective(
            f=joint_objective,
            wrt=("theta", *HYPER),
            interface=MATCHING,
            sizes=(4, 12),
            settings={
                "default": {},
                "smoothers alone": {"weight": 0.0},
                "probe": {"weight": 0.3, "decay": 0.02, "floor": 0.02},
            },
            refused={
                "parameters of no network": {"theta": lambda theta: theta[:-1]},
                "large parameters": {"theta": 1e9},
                "times far apart": {"t": lambda t: 1e20 * t},
                "large data": {"y": 1e50},
                "a length far from 1": {"log_length": 1e3},
                "a signal far from 1": {"log_signal": 1e3},
                "a noise far from 1": {"log_noise": 1e3},
            },
        ),
        Estimator(
            f=field,
            interface=MATCHING,
            brute_force=_field_by_rows,
            deviations=(
                Deviation(
                    "the softplus of the variance",
                    _softplus_of_variance,
                    seen_in="lenarttreven/dgm, sampling of trajectories",
                    computes="the noise times the softplus of the variance in the place of the standard deviation",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=trajectories,
            interface=MATCHING,
            sizes=(2, 5),
            settings={"default": {"steps": 4}, "probe": {"duration": 1.7, "steps": 5}},
            brute_force=_runge_kutta,
            refused=REFUSED,
        ),
    ),
)
