"""What is known of `trref.diffusion.v_prediction`."""

import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
)
from trref.diffusion.v_prediction import (
    angular_step,
    flow_velocity,
    min_snr_weight,
    velocity_loss,
    velocity_target,
)


def _example(rng, size):
    shape = (size, int(rng.integers(1, 5)))
    data, noise, x, predicted = rng.standard_normal((4, *shape))
    return {
        "predicted": float(rng.choice((0.1, 1.0))) * predicted + noise,
        "velocity": predicted,
        "data": data,
        "noise": noise,
        "x": x,
        "alpha_bar": rng.random(size),
        "weight": rng.exponential(1.0, size),
    }


def _edge(alpha_bar, weight=1.0):
    rows = xp.array([[1.0, -2.0], [0.5, 0.25]])
    return {
        "predicted": rows,
        "velocity": rows,
        "data": -rows[::-1],
        "noise": rows**2,
        "x": 0.5 * rows - 1,
        "alpha_bar": xp.array(alpha_bar),
        "weight": xp.array([weight, 2 * weight]),
    }


ANGULAR = Interface(
    "angular_velocity",
    example=_example,
    edges={
        "little signal and little noise": lambda: _edge([1e-6, 1 - 1e-6]),
        "equal levels": lambda: _edge([0.5, 0.5]),
        "weights of zero": lambda: _edge([0.2, 0.9], 0.0),
    },
)
"""Data, noise, points x and predictions (N, D) at squared signal levels alpha_bar (N), with weights (N)."""

PURE = {**ANGULAR.edges, "pure noise and pure data": lambda: _edge([0.0, 1.0])}


def weight_by_rows(alpha_bar, *, kind="velocity", cap=5.0):
    """Brute force: row by row, from the ratio of signal to noise."""
    weights = []
    for a in alpha_bar.tolist():
        snr = a / (1 - a)
        capped = snr if snr < cap else cap
        weights.append(capped / {"data": 1, "noise": snr, "velocity": snr + 1}[kind])
    return xp.array(weights)


# ---- places


def _one_level(inputs):
    """all rows have the squared signal level 0.64"""
    level = 0 * inputs["alpha_bar"] + 0.64
    return {**inputs, "alpha_bar": level}


def _by_noise(inputs):
    """the angle's signal is 0.6, then 0.8; the noise is that of the velocity"""
    x = inputs["x"]
    noise = 0.8 * x + 0.6 * inputs["velocity"]
    return inputs, {"x": x, "noise": noise, "z": 0 * x}


# ---- deviations


def _one_too_many(alpha_bar, *, kind="velocity", cap=5.0):
    if kind != "velocity":
        return min_snr_weight(alpha_bar, kind=kind, cap=cap)
    one_more = 1 / (1 - alpha_bar)
    return xp.minimum(one_more, cap) / one_more


def _not_divided(alpha_bar, *, kind="velocity", cap=5.0):
    return min_snr_weight(
        alpha_bar, kind="data" if kind == "velocity" else kind, cap=cap
    )


METHOD = Method(
    key="salimans2022progressive",
    provenance="confirmed",
    functions=(
        Transform(
            f=velocity_target,
            interface=ANGULAR,
            edges={
                name: lambda make=make: ANGULAR.of(
                    make(), ("data", "noise", "alpha_bar")
                )
                for name, make in PURE.items()
            },
            wrt="noise",
            jvp=lambda data, noise, alpha_bar, *, tangent: (
                xp.sqrt(alpha_bar)[:, None] * tangent
            ),
            vjp=lambda data, noise, alpha_bar, *, cotangent: (
                xp.sqrt(alpha_bar)[:, None] * cotangent
            ),
        ),
        Objective(
            f=velocity_loss,
            interface=ANGULAR,
            wrt="predicted",
            limits=(
                Limit(
                    "score_matching.flow_matching",
                    {},
                    {"alpha_rate": -0.6, "sigma_rate": 0.8},
                    where=_one_level,
                ),
            ),
        ),
        Transform(
            f=angular_step,
            interface=ANGULAR,
            wrt="x",
            jvp=lambda *, tangent, angle=1.0, next_angle=0.6, **_: (
                math.cos(next_angle - angle) * tangent
            ),
            vjp=lambda *, cotangent, angle=1.0, next_angle=0.6, **_: (
                math.cos(next_angle - angle) * cotangent
            ),
            settings={
                "default": {},
                "to the data": {"next_angle": 0.0},
                "from noise": {"angle": math.pi / 2},
                "probe": {"angle": 1.3, "next_angle": 0.2},
            },
            limits=(
                Limit(
                    "score_models.ddim_step",
                    {"angle": math.acos(0.6), "next_angle": math.acos(0.8)},
                    {"alpha_bar": 0.36, "next_alpha_bar": 0.64},
                    where=_by_noise,
                ),
            ),
        ),
        Estimator(
            f=min_snr_weight,
            interface=ANGULAR,
            settings={
                "default": {},
                "noise": {"kind": "noise"},
                "data": {"kind": "data"},
                "probe": {"kind": "noise", "cap": 2.0},
                "another cap": {"cap": 2.0},
            },
            brute_force=weight_by_rows,
            deviations=(
                Deviation(
                    "the minimum of SNR + 1",
                    _one_too_many,
                    seen_in="diffusers' training examples before their pull request 6307",
                    computes="min(SNR + 1, k)/(SNR + 1): a weight near 1 where there is no signal",
                ),
                Deviation(
                    "not divided",
                    _not_divided,
                    seen_in="TiankaiHang/Min-SNR-Diffusion-Training before its issue 3",
                    computes="the weight of the data on the velocity",
                ),
            ),
            refused={
                "no noise": {"alpha_bar": 1.0},
                "no signal where noise is predicted": {
                    "kind": "noise",
                    "alpha_bar": 0.0,
                },
            },
        ),
        Transform(
            f=flow_velocity,
            interface=ANGULAR,
            wrt="velocity",
            jvp=lambda *, tangent, u=0.6, **_: tangent / math.hypot(1 - u, u),
            vjp=lambda *, cotangent, u=0.6, **_: cotangent / math.hypot(1 - u, u),
            settings={
                "default": {},
                "pure noise": {"u": 1.0},
                "probe": {"u": 0.3},
            },
        ),
    ),
)
