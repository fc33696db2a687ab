"""What is known of `trref.diffusion.trust_region_temperature`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.catalog.diffusion.trqam import PATHS
from trref.diffusion.trust_region_temperature import (
    dual_function,
    dual_update,
    path_kl,
    tilted_kl,
)

# ---- brute force


def _kl_of_steps(velocity, base_velocity, times, *, horizon=1):
    """The divergences of Gaussian steps, from their means and variances in the paper's time."""
    total, t = 0.0, 1 - times
    for k in range(len(velocity)):
        h = t[k + 1] - t[k]
        variance = h * 2 * (1 - t[k] + h) / (t[k] + h)
        for n in range(velocity.shape[1]):
            apart = 2 * h * (velocity[k, n] - base_velocity[k, n])
            total += float(apart @ apart) / (2 * variance)
    return total / velocity.shape[1] / horizon


def _each_dual(
    temperature,
    average,
    kl,
    *,
    budget=1.0,
    lr=0.01,
    rate=0.1,
    largest=2.0,
    lowest=0.01,
    highest=100.0,
):
    temperatures, averages = [], []
    rows = zip(temperature.tolist(), average.tolist(), kl.tolist(), strict=True)
    for lam, mean, estimate in rows:
        mean += rate * (min(estimate, largest * budget) - mean)
        temperatures.append(min(max(lam + lr * (mean - budget), lowest), highest))
        averages.append(mean)
    return temperatures, averages


def _by_the_law(temperature, value, weight):
    """The divergence of the tilted law by its definition, and the variance by pairs."""
    lam = float(temperature)
    pairs = [(q, w) for q, w in zip(value.tolist(), weight.tolist(), strict=True) if w]
    top = max(q for q, _ in pairs)
    tilted = [w * math.exp((q - top) / lam) for q, w in pairs]
    Z = math.fsum(tilted)
    p = [x / Z for x in tilted]
    kl = math.fsum(a * math.log(a / w) for a, (_, w) in zip(p, pairs, strict=True) if a)
    each = [q for q, _ in pairs]
    halves = [
        a * b * (q - r) ** 2 / 2
        for a, q in zip(p, each, strict=True)
        for b, r in zip(p, each, strict=True)
    ]
    return kl, -math.fsum(halves) / lam**3


# ---- examples


def _policies(rng, size):
    return {
        "temperature": 0.005 + rng.exponential(float(rng.choice((0.1, 3.0))), size),
        "average": rng.exponential(1.0, size),
        "kl": rng.exponential(float(rng.choice((0.3, 10.0))), size),
    }


def _policy(temperature, average, kl):
    names = ("temperature", "average", "kl")
    rows = xp.array([temperature, average, kl], dtype=float)
    return dict(zip(names, rows, strict=True))


def _critic(rng, size):
    return {
        "temperature": xp.asarray(rng.choice((0.3, 1.0, 8.0))),
        "value": 2 * rng.standard_normal(size) + 3,
        "weight": rng.dirichlet(xp.ones(size)),
    }


def _points(temperature, value, weight):
    return {
        "temperature": xp.asarray(temperature),
        "value": xp.array(value),
        "weight": xp.array(weight),
    }


LAWS = {
    "a constant critic": lambda: _points(0.5, [2.0, 2.0, 2.0], [0.5, 0.25, 0.25]),
    "one point": lambda: _points(2.0, [-3.0], [1.0]),
    "a point that is never seen": lambda: _points(
        0.01, [1.0, 50.0, 0.98, -40.0], [0.25, 0.0, 0.5, 0.25]
    ),
    "two points, one of them rare": lambda: _points(1.0, [0.0, 9.0], [0.999, 0.001]),
}

FEW = {"sizes": (2, 3, 5)}

METHOD = Method(
    key="dong2026trust",
    provenance={
        "confirmed": ("path-kl", "average", "step"),
        "reconstructed": ("tilted", "dual", "gradient"),
    },
    functions=(
        Estimator(
            f=path_kl,
            interface=PATHS,
            settings={
                "default": {},
                "chunks of five actions": {"horizon": 5},
                "probe": {"horizon": 3},
            },
            brute_force=_kl_of_steps,
            **FEW,
            refused={
                "times that rise": {"times": lambda times: times[::-1]},
                "steps that are too short": {"times": 0.5},
            },
        ),
        Estimator(
            f=dual_update,
            example=_policies,
            edges={
                "at the budget": lambda: _policy([0.5], [1.0], [1.0]),
                "at both ends of the bracket": lambda: _policy(
                    [0.01, 100.0], [0.0, 3.0], [0.0, 9.0]
                ),
                "outside the bracket": lambda: _policy(
                    [0.001, 500.0], [1.0, 1.0], [1.0, 1.0]
                ),
                "the largest estimate, and above": lambda: _policy(
                    [1.0, 1.0], [0.0, 0.0], [2.0, 50.0]
                ),
                "the first step": lambda: _policy([1.0], [0.0], [0.3]),
            },
            settings={
                "default": {},
                "a small budget": {"budget": 0.1},
                "probe": {
                    "budget": 0.4,
                    "lr": 0.3,
                    "rate": 0.25,
                    "largest": 3.0,
                    "lowest": 0.05,
                    "highest": 20.0,
                },
            },
            brute_force=_each_dual,
            refused={
                "a bracket in the wrong order": {"lowest": 2.0, "highest": 1.0},
            },
        ),
        Estimator(
            f=tilted_kl,
            example=_critic,
            edges=LAWS,
            brute_force=_by_the_law,
            refused={
                "a temperature next to 0": {"temperature": 1e-4},
            },
        ),
        Objective(
            f=dual_function,
            example=_critic,
            edges=LAWS,
            wrt="temperature",
            settings={"default": {}, "probe": {"budget": 0.3}},
            refused={
                "too cold": lambda: (_points(1e-4, [0.0, 1.0], [0.5, 0.5]), {}),
            },
        ),
    ),
)
