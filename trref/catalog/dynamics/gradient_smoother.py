"""What is known of `trref.dynamics.gradient_smoother`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.dynamics.gradient_smoother import (
    Slopes,
    Smoothed,
    in_units,
    likelihood,
    smoother,
    weighed_smoother,
)

HYPER = "log_length", "log_signal", "log_noise"


def _example(rng, size):
    """Times apart by a fifth of the length or more, so that the slopes are not known exactly."""
    M = size + 1
    t = np.cumsum(rng.uniform(0.3, 1.0, size))
    d_mean, d_slope, d_variance = rng.standard_normal((3, M))
    return {
        "t": t,
        "y": rng.choice((0.3, 2.0)) * rng.standard_normal(size),
        "t2": rng.uniform(t[0] - 1, t[-1] + 1, M),
        "log_length": np.array(rng.uniform(-0.5, 0.5)),
        "log_signal": np.array(rng.uniform(-0.5, 0.5)),
        "log_noise": np.array(rng.uniform(-1.5, -0.5)),
        "d_mean": d_mean,
        "d_slope": d_slope,
        "d_variance": d_variance,
        "slope": d_slope,
        "slope_variance": d_variance**2,
    }


def _edge(t, y, t2, log_hyper):
    t, y, t2 = (np.array(v, dtype=float) for v in (t, y, t2))
    given = {"t": t, "y": y, "t2": t2}
    given |= dict(zip(HYPER, log_hyper, strict=True))
    given |= {"d_mean": t2 + 1, "d_slope": 2 - t2, "d_variance": 0 * t2 + 1.5}
    given |= {"slope": 1 - t2, "slope_variance": abs(t2)}
    return {name: xp.array(value) for name, value in given.items()}


SMOOTH = Interface(
    name="trajectory of one state",
    example=_example,
    edges={
        "one observation": lambda: _edge([0.5], [1.0], [0.5, 2.0], [0.0, 0.0, -1.0]),
        "twice at one time": lambda: _edge(
            [0.0, 0.0, 1.0], [1.0, 2.0, -1.0], [0.0, 1.0], [0.2, 0.3, -0.5]
        ),
        "far from the data": lambda: _edge(
            [0.0, 1.0], [1.0, -1.0], [100.0], [0.0, 0.5, -2.0]
        ),
        "hardly any noise": lambda: _edge(
            [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, -1.0], [0.5, 1.0], [0.0, 0.0, -4.0]
        ),
        "times that go back": lambda: _edge(
            [3.0, 1.0, 2.0], [1.0, 2.0, 0.0], [2.5, -1.0, 0.0], [-0.5, 1.0, 0.0]
        ),
    },
)


def _by_loop(t, y, t2, log_length, log_signal, log_noise):
    """Kernels one by one, a linear system a time, and the posterior covariance of x differentiated by its formula."""
    length, signal, noise = map(math.exp, (log_length, log_signal, log_noise))

    def k(a, b):
        return signal**2 * math.exp(-((a - b) ** 2) / (2 * length**2))

    C = np.array(
        [
            [k(a, b) + noise**2 * (i == j) for j, b in enumerate(t)]
            for i, a in enumerate(t)
        ]
    )
    mean, slope, variance = [], [], []
    for s in t2.tolist():
        row = np.array([k(s, b) for b in t])
        lean = np.array([(b - s) / length**2 * k(s, b) for b in t])
        mean.append(row @ np.linalg.solve(C, y))
        slope.append(lean @ np.linalg.solve(C, y))
        variance.append(signal**2 / length**2 - lean @ np.linalg.solve(C, lean))
    return Smoothed(*map(np.array, (mean, slope, variance)))


def _scaled_by_loop(slope, slope_variance, *, ratio=1.0):
    pairs = zip(slope.tolist(), slope_variance.tolist(), strict=True)
    return Slopes(
        *np.array([(m * ratio, (math.sqrt(v) * ratio) ** 2) for m, v in pairs]).T
    )


def _first_power(slope, slope_variance, *, ratio=1.0):
    scaled = in_units(slope, slope_variance, ratio=ratio)
    return scaled._replace(slope_variance=ratio * slope_variance)


REFUSED = {
    "times far apart": {"t": lambda t: 1e20 * t},
    "large data": {"y": 1e50},
    "a length far from 1": {"log_length": 1e3},
    "a signal far from 1": {"log_signal": 1e3},
    "a noise far from 1": {"log_noise": 1e3},
}


METHOD = Method(
    key="treven2021distributional",
    provenance="confirmed",
    functions=(
        Estimator(
            f=smoother,
            interface=SMOOTH,
            brute_force=_by_loop,
            refused=REFUSED,
        ),
        Objective(
            f=likelihood,
            wrt=HYPER,
            interface=SMOOTH,
            refused=REFUSED,
        ),
        Objective(
            f=weighed_smoother,
            wrt=HYPER,
            interface=SMOOTH,
            refused=REFUSED,
        ),
        Estimator(
            f=in_units,
            interface=SMOOTH,
            settings={"default": {}, "probe": {"ratio": 2.5}},
            brute_force=_scaled_by_loop,
            deviations=(
                Deviation(
                    "the first power",
                    _first_power,
                    seen_in="lenarttreven/dgm, dgm/dynamics/dynamics_model.py, prepare_normalized_dynamics",
                    computes="variances of slopes scaled with the ratio of the units, not with its square",
                ),
            ),
        ),
    ),
)
