"""What is known of `trref.diffusion.adjoint_dpm`."""

import dataclasses
import math
from typing import Any

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.catalog.diffusion.interfaces import waves
from trref.diffusion.adjoint_dpm import (
    AdjointGradient,
    adjoint_gradient,
    t_of_rho,
    to_rho,
)
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.symplectic_adjoint import TABLEAUX, trained_guidance
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import BumpReward, QuadraticReward


def _example(rng, size):
    """One to four steps from a middle noise time."""
    D, steps = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    network = TimeNetwork(D, (int(rng.integers(3, 6)),))
    return {
        "network": network,
        "theta": float(rng.choice((0.3, 1.0))) * rng.standard_normal(network.size),
        "x": rng.standard_normal((size, D)),
        "times": xp.linspace(rng.choice((0.75, 0.5)), 0.1, steps + 1) ** 2,
        "loss": BumpReward(QuadraticReward(rng.standard_normal(D)), xp.zeros(D), 2.0),
    }


def _edge(times, D=2, rows=3, residual=False):
    network = TimeNetwork(D, (4,))
    if residual:
        network = Residual(MixtureNoise(three_components()), network)
    return {
        "network": network,
        "theta": waves(network.size),
        "x": waves(rows, D),
        "times": xp.array(times),
        "loss": QuadraticReward(waves(D)),
    }


SOLVED = Interface(
    "adjoint_flow",
    example=_example,
    edges={
        "one step": lambda: _edge([0.4, 0.1]),
        "no step": lambda: _edge([0.4, 0.4]),
        "a model and a correction": lambda: _edge([0.4, 0.2, 0.1], residual=True),
        "one point in sixteen dimensions": lambda: _edge([0.5, 0.2], 16, 1),
    },
)
"""A network with its parameters, noise x (N, D), K+1 falling times, and a loss of the end."""


def by_rows(network, theta, x, times, loss, *, rule="rk4"):
    """Brute force: every row by itself, in x/alpha and sigma/alpha, where steps are the same but for a scale."""
    a, b, c = TABLEAUX[rule]
    total, by_theta, by_x, starts = 0.0, xp.zeros_like(theta), [], []
    alpha, sigma = vp_schedule(times)
    levels = sigma / alpha

    def speed(s, y, adjoint):
        scale = 1 / xp.sqrt(1 + s**2)
        out, cache = network.forward(
            theta, (scale * y)[None], time_at(-2 * xp.log(s)[None])
        )
        d_theta, d_x = network.vjp(cache, adjoint[None])
        return out[0], -scale * d_x[0], -d_theta

    def step(s, h, parts):
        slopes = []
        for row, node in zip(a, c, strict=True):
            now = parts[:2]
            for share, slope in zip(row, slopes, strict=True):
                now = [p + h * share * d for p, d in zip(now, slope, strict=False)]
            slopes.append(speed(s + node * h, *now))
        for share, slope in zip(b, slopes, strict=True):
            parts = [p + h * share * d for p, d in zip(parts, slope, strict=True)]
        return parts

    for row in x:
        parts = [row / alpha[0], 0 * row, 0 * theta]
        for k in range(len(times) - 1):
            parts = step(levels[k], levels[k + 1] - levels[k], parts)
        value, gradient = loss((alpha[-1] * parts[0])[None])
        parts = [parts[0], alpha[-1] * gradient[0], 0 * theta]
        for k in reversed(range(len(times) - 1)):
            parts = step(levels[k + 1], levels[k] - levels[k + 1], parts)
        total, by_theta = total + value[0], by_theta + parts[2]
        by_x.append(parts[1] / alpha[0])
        starts.append(parts[0] * alpha[0])
    return AdjointGradient(total, by_theta, xp.stack(by_x), xp.stack(starts))


def rho_of_levels(t, *, t_max=1.0):
    """Brute force: from the levels as they stand in the paper."""
    log_alpha = lambda t: -0.25 * t**2 * 19.9 - 0.05 * t  # noqa: E731
    alpha, last = xp.exp(log_alpha(t)), math.exp(log_alpha(t_max))
    return last * xp.sqrt(1 - alpha**2) / alpha - math.sqrt(1 - last**2)


def time_by_bisection(rho, *, t_max=1.0):
    """Brute force: halve an interval of times sixty times."""
    low, high = xp.full_like(rho, 1e-9), xp.full_like(rho, 2.0)
    for _ in range(60):
        middle = (low + high) / 2
        later = rho_of_levels(middle, t_max=t_max) > rho
        low, high = xp.where(later, low, middle), xp.where(later, middle, high)
    return middle


# ---- deviations


@dataclasses.dataclass(frozen=True)
class _Snapped:
    """A network that is asked, in time and in scale, at the nearest level of a grid."""

    network: Any
    times: Any

    def forward(self, theta, x, t):
        levels, here = (
            sigma / alpha for alpha, sigma in (vp_schedule(s) for s in (self.times, t))
        )
        nearest = abs(levels - here[0]).argmin()
        scale = xp.sqrt((1 + here[0] ** 2) / (1 + levels[nearest] ** 2))
        time = 0 * t + self.times[nearest]
        output, cache = self.network.forward(theta, scale * x, time)
        return output, (cache, scale)

    def vjp(self, cache, cotangent):
        by_theta, by_x = self.network.vjp(cache[0], cotangent)
        return by_theta, cache[1] * by_x


def _time_snapped(network, theta, x, times, loss, *, rule="rk4"):
    snapped = _Snapped(network, times)
    return adjoint_gradient(snapped, theta, x, times, loss, rule=rule)


TIME_SNAPPED = Deviation(
    "stages at the nearest level",
    _time_snapped,
    seen_in="HanshuYAN/AdjointDPM adjoint/src/node_solver_noise.py and node_solver_text.py",
    computes="stages between two levels with the time and the scale of the nearer one",
)


def _of_the_steps(network, theta, x, times, loss, *, rule="rk4"):
    alpha, sigma = vp_schedule(times)
    value, gradients = trained_guidance(
        network, theta, x, sigma / alpha, loss, rule=rule
    )
    return AdjointGradient(value, *gradients, x.copy())


OF_THE_STEPS = Deviation(
    "the gradient of the steps",
    _of_the_steps,
    seen_in="backpropagation through the sampler, such as mihirp1998/AlignProp",
    computes="the exact gradient of the discrete sampler, and with it the start as it was",
    documented=True,
)


METHOD = Method(
    key="pan2024adjointdpm",
    provenance="confirmed",
    functions=(
        Estimator(
            f=to_rho,
            example=lambda rng, size: {"t": rng.uniform(0.01, 1.0, size)},
            edges={"the start": lambda: {"t": xp.array([1.0, 0.999])}},
            settings={"default": {}, "probe": {"t_max": 0.7}},
            brute_force=rho_of_levels,
        ),
        Estimator(
            f=t_of_rho,
            example=lambda rng, size: {"rho": 0.4 * rng.random(size) ** 4 - 0.996},
            edges={"beyond the start": lambda: {"rho": xp.array([0.05, -0.01])}},
            settings={"default": {}, "probe": {"t_max": 0.7}},
            brute_force=time_by_bisection,
            refused={
                "a value below that of the data": {"rho": -2.0},
            },
        ),
        Estimator(
            f=adjoint_gradient,
            interface=SOLVED,
            settings={
                "default": {},
                "Euler": {"rule": "euler"},
                "midpoint": {"rule": "midpoint"},
                "probe": {"rule": "heun"},
            },
            brute_force=by_rows,
            deviations=(TIME_SNAPPED, OF_THE_STEPS),
            refused={
                "times that rise": {"times": lambda times: times[::-1]},
                "an end at the data": {"times": 0},
                "one time": {"times": lambda times: times[:1]},
            },
        ),
    ),
)
