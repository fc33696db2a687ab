"""What is known of `trref.diffusion.score_projection`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective
from trref.diffusion.score_projection import (
    frozen_distance,
    moving_distance,
    projected_gradient,
)

LEVELS = {
    "default": {},
    "a small constant": {"huber": 0.2},
    "probe": {"ref_std": 0.7, "alpha": 0.6, "sigma": 0.9, "huber": 0.3},
}


def _example(rng, size):
    return {
        "mean": rng.standard_normal(size),
        "scale": rng.uniform(0.3, 1.5, size),
        "ref_means": rng.standard_normal(int(rng.integers(1, 4))),
    }


def _generators(mean, scale, ref_means):
    arrays = {"mean": mean, "scale": scale, "ref_means": ref_means}
    return {name: xp.array(values) for name, values in arrays.items()}


LINE = Interface(
    "line",
    example=_example,
    edges={
        "one generator": lambda: _generators([0.7], [1.3], [0.3]),
        "a mode that is far away": lambda: _generators([60.0], [0.8], [-60.0, 60.5]),
        "two modes, one generator between": lambda: _generators(
            [0.1, 0.4], [0.1, 1.4], [-1.0, 1.0]
        ),
    },
)


def _law_mean(mean):
    return mean.copy()


def _law_scale(scale):
    return scale.copy()


def _through_the_score(
    mean, scale, ref_means, *, ref_std=0.5, alpha=0.8, sigma=0.6, huber=0.5
):
    """The derivative of the score by the parameters, which is known on a line; by the trapezoidal rule over samples."""
    by_mean, by_scale = [], []
    var = alpha**2 * ref_std**2 + sigma**2
    for m, s in zip(mean.tolist(), scale.tolist(), strict=True):
        v = alpha**2 * s**2 + sigma**2
        x = xp.linspace(-9.0, 9.0, 2401) * math.sqrt(v) + alpha * m
        density = xp.exp(-((x - alpha * m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        parts = [
            xp.exp(-((x - alpha * c) ** 2) / (2 * var)) for c in ref_means.tolist()
        ]
        slopes = [
            p * (alpha * c - x) / var
            for p, c in zip(parts, ref_means.tolist(), strict=True)
        ]
        y = -(x - alpha * m) / v - sum(slopes) / sum(parts)
        pull = (x[1] - x[0]) * density * y / xp.sqrt(y**2 + huber**2)
        by_mean.append((pull * alpha / v).sum())
        by_scale.append((pull * (x - alpha * m) / v**2 * 2 * alpha**2 * s).sum())
    return xp.array(by_mean), xp.array(by_scale)


METHOD = Method(
    key="luo2024diff",
    provenance={
        "confirmed": ("projected", "moving"),
        "reconstructed": ("score", "frozen"),
    },
    functions=(
        Objective(
            f=frozen_distance,
            interface=LINE,
            wrt=("mean", "scale"),
            stopped={"law_mean": _law_mean, "law_scale": _law_scale},
            settings=LEVELS,
            sizes=(4, 8),
            seeds=(0,),
        ),
        Objective(
            f=moving_distance,
            interface=LINE,
            wrt=("mean", "scale"),
            settings=LEVELS,
            sizes=(4, 8),
            seeds=(0,),
        ),
        Estimator(
            f=projected_gradient,
            interface=LINE,
            settings=LEVELS,
            brute_force=_through_the_score,
            sizes=(4, 8),
            seeds=(0,),
        ),
    ),
)
