"""What is known of `trref.gradients.gradient_agreement_filtering`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.gradients.interfaces import GRADIENTS
from trref.gradients.gradient_agreement_filtering import Filtered, filtered_mean


def _cosine(a, b, of_zero):
    lengths = math.hypot(*a), math.hypot(*b)
    if not all(lengths):
        return of_zero
    return math.fsum(
        p / lengths[0] * (q / lengths[1]) for p, q in zip(a, b, strict=True)
    )


def _in_their_order(gradients, *, tau=1.0):
    """The sets of those taken, kept as lists, and their sums computed anew each time."""
    rows, taken, distances = gradients.tolist(), [0], [0.0]
    for i in range(1, len(rows)):
        total = [math.fsum(column) for column in zip(*(rows[k] for k in taken))]  # noqa: B905
        distances.append(min(1 - _cosine(total, rows[i], -1.0), 2.0))
        taken += [i] * (distances[-1] <= tau)
    mean = [math.fsum(c) / len(taken) for c in zip(*(rows[k] for k in taken))]  # noqa: B905
    accepted = [float(i in taken) for i in range(len(rows))]
    skipped = [0.0] * len(mean)
    direction = mean if len(taken) > 1 else skipped
    return Filtered(*map(xp.array, (direction, accepted, distances)))


def _halving(gradients, *, tau=1.0):
    s, accepted, distances = gradients[0], [1.0], [0.0]
    for g in gradients[1:]:
        distances.append(1 - _cosine(s.tolist(), g.tolist(), 0.0))
        accepted.append(float(distances[-1] <= tau))
        s = (s + g) / 2 if accepted[-1] else s
    direction = s if sum(accepted) > 1 else xp.zeros_like(s)
    more = (xp.array(x, dtype=s.dtype) for x in (accepted, distances))
    return Filtered(direction, *more)


def _means(inputs):
    """at least two gradients, averaged like clients with equal counts"""
    rows = inputs["gradients"]
    rows = xp.concatenate([rows, rows]) if len(rows) == 1 else rows
    return {"gradients": rows}, {"thetas": rows, "counts": xp.ones_like(rows[:, 0])}


METHOD = Method(
    key="chaubard2024beyond",
    provenance={"confirmed": ("distance", "accept"), "partly": ("direction",)},
    functions=(
        Estimator(
            f=filtered_mean,
            interface=GRADIENTS,
            settings={
                "default": {},
                "in the paper's range": {"tau": 0.97},
                "all are taken": {"tau": 2.0},
                "probe": {"tau": 0.8},
            },
            brute_force=_in_their_order,
            limits=(
                Limit(
                    to="fedavg.average",
                    hyper={"tau": 2.0},
                    where=_means,
                    part="direction",
                ),
            ),
            deviations=(
                Deviation(
                    "halving",
                    _halving,
                    seen_in="Fchaubard/gradient_agreement_filtering src/gradient_agreement_filtering/gaf.py (555fa43)",
                    computes="the last gradient taken weighs a half, and one that is 0 is orthogonal to all",
                ),
            ),
        ),
    ),
)
