"""What is known of `trref.gradients.gradnorm`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.gradients.gradnorm import renormalised, targets, weight_objective


def _example(rng, size):
    names = ("weights", "norms", "losses", "start_losses")
    return {name: xp.exp(rng.uniform(-1.5, 1.5, size)) for name in names}


def _tasks(weights, norms, losses, start):
    values = map(xp.array, (weights, norms, losses, start))
    names = ("weights", "norms", "losses", "start_losses")
    return lambda: dict(zip(names, values, strict=True))


BALANCE = Interface(
    "balance of tasks",
    example=_example,
    edges={
        "one task": lambda: _tasks([2.0], [0.5], [1.0], [3.0])(),
        "as fast as each other": lambda: _tasks(
            [1.0, 2.0], [4.0, 0.5], [1.0, 3.0], [2.0, 6.0]
        )(),
        "on the targets": lambda: _tasks(
            [1.0, 2.0], [4.0, 2.0], [1.0, 3.0], [2.0, 6.0]
        )(),
    },
)


def _ratios(weights, norms, losses, start_losses, *, alpha=1.5):
    w, n, now, first = (x.tolist() for x in (weights, norms, losses, start_losses))
    ratio = [a / b for a, b in zip(now, first, strict=True)]
    mean = math.fsum(a * b for a, b in zip(w, n, strict=True)) / len(w)
    return xp.array([mean * (r * len(w) / math.fsum(ratio)) ** alpha for r in ratio])


SETTINGS = {"default": {}, "equal norms": {"alpha": 0.0}, "probe": {"alpha": 0.7}}

METHOD = Method(
    key="chen2018gradnorm",
    provenance="partly",
    functions=(
        Estimator(f=targets, interface=BALANCE, settings=SETTINGS, brute_force=_ratios),
        Objective(
            f=weight_objective,
            interface=BALANCE,
            wrt="weights",
            stopped={"target": targets},
            settings=SETTINGS,
        ),
        Estimator(
            f=renormalised,
            interface=BALANCE,
            brute_force=lambda weights: xp.array(
                [len(weights) * w / math.fsum(weights.tolist()) for w in weights]
            ),
            deviations=(
                Deviation(
                    "sum of 1",
                    lambda weights: weights / weights.sum(),
                    seen_in="LucasBoTang/GradNorm gradnorm.py (3b70634)",
                    computes="weights of the sum 1, not of the sum M: all steps are M times shorter",
                ),
            ),
        ),
    ),
)
