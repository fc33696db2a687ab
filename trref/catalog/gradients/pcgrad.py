"""What is known of `trref.gradients.pcgrad`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.catalog.gradients.interfaces import GRADIENTS
from trref.gradients.pcgrad import surgery


def _meetings(arguments, rng=None):
    M = len(arguments["gradients"])
    draw = rng.permutation if rng else (lambda n: xp.arange(n)[::-1])
    return {**arguments, "order": xp.stack([draw(M) for _ in range(M)])}


def _example(rng, size):
    """More tasks where there is room for more than two dimensions of conflict."""
    return _meetings(GRADIENTS.example(rng, size), rng)


# rounding decides whether multiples of one gradient still conflict once they have been projected
ON_A_LINE = ("collinear, of many lengths", "opposite, by rounding more than that")
TASKS = dataclasses.replace(
    GRADIENTS,
    name="tasks",
    example=_example,
    edges={
        name: lambda make=make: _meetings(make())
        for name, make in GRADIENTS.edges.items()
        if name not in ON_A_LINE
    },
)


def _one_by_one(gradients, order):
    total = xp.zeros(gradients.shape[1])
    for i, g in enumerate(gradients):
        for j in order[i].tolist():
            other = gradients[j]
            if i != j and g @ other < 0:
                g = g - (g @ other) / (other @ other) * other
        total = total + g
    return total


METHOD = Method(
    key="yu2020gradient",
    provenance="partly",
    functions=(
        Estimator(
            f=surgery,
            interface=TASKS,
            brute_force=_one_by_one,
            deviations=(
                Deviation(
                    "mean over tasks",
                    lambda gradients, order: surgery(gradients, order) / len(gradients),
                    seen_in="WeiChengTseng/Pytorch-PCGrad pcgrad.py (7b8860f)",
                    computes="the mean of the projected gradients, not their sum",
                ),
            ),
            refused={
                "a task that there is not": {"order": 99},
            },
        ),
    ),
)
