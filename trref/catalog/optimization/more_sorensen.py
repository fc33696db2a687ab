"""What is known of `trref.optimization.more_sorensen`."""

import math

from trref.backend import linalg, xp
from trref.catalog import Deviation, Limit, Method, Solver
from trref.catalog.optimization.interfaces import (
    EXACT_SETTINGS,
    SUBPROBLEM,
    TIGHT,
    convex,
    optimality,
)
from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.terms import ExactStep


def _loose_length(g, B, *, radius):
    """Newton on the secular equation from the right of -λ_1, ended at a relative error of 0.1 in the length."""
    w, Q = linalg.eigh(B)
    w, c = xp.stack([w, Q.T @ g]).tolist()
    multiplier, status = (
        max(0.0, -1.001 * w[0] if w[0] < 0 else -0.999 * w[0] + 1e-12),
        "boundary",
    )
    for _ in range(50):
        terms = [
            (c_i / (w_i + multiplier), w_i + multiplier)
            for c_i, w_i in zip(c, w, strict=True)
            if c_i
        ]
        length = math.hypot(*(p_i for p_i, _ in terms))
        if abs(length - radius) <= 0.1 * radius or length < radius:
            break
        multiplier += (
            length**2 / sum(p_i**2 / d for p_i, d in terms) * (length - radius) / radius
        )
    p = [
        -c_i / (w_i + multiplier) if c_i else 0.0 for c_i, w_i in zip(c, w, strict=True)
    ]
    return ExactStep(
        Q @ xp.asarray(p, dtype=B.dtype), multiplier, status, [multiplier], 1, True
    )


LOOSE_LENGTH = Deviation(
    "a length within a tenth of the radius",
    _loose_length,
    seen_in="scipy/optimize/_trustregion_exact.py (k_easy = 0.1, k_hard = 0.2), behind method='trust-exact'",
    computes="a step whose length may miss the radius by 10 %, and no more than a fraction of the hard case's decrease",
    documented=True,
)


def _bracketed(result, g, B, *, radius, **_):
    """The last step lowers the model and is within the radius, and its multiplier is within the first bracket."""
    p = result.p
    length, size, norm = (
        float(x) for x in (xp.sqrt(p @ p), abs(B).sum(1).max(), xp.sqrt(g @ g))
    )
    return {
        "rise of the model": (float(g @ p + p @ (B @ p) / 2), 0.0),
        "length over the radius": (length / radius, 1 + 1e-12),
        "multiplier over its bound": (
            result.multiplier / (norm / radius + 1.01 * size),
            1.0,
        ),
    }


def _indefinite():
    return {
        "g": xp.array([1.0, -2.0, 0.5]),
        "B": xp.array([[1.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 1.0, 0.5]]),
    }


METHOD = Method(
    key="more1983computing",
    provenance={"confirmed": ("newton", "hard"), "partly": ("bracket",)},
    functions=(
        Solver(
            f=more_sorensen,
            prescribed=False,
            interface=SUBPROBLEM,
            settings={
                **EXACT_SETTINGS,
                "probe": {"radius": 0.7, "rtol": 1e-11, "max_iter": 80},
            },
            certificate=optimality,
            tolerances=TIGHT,
            failures={
                "two factorisations": lambda: (
                    _indefinite(),
                    {"radius": 1.0, "max_iter": 2},
                ),
                "one that fails": lambda: (
                    _indefinite(),
                    {"radius": 100.0, "max_iter": 1},
                ),
            },
            remains=_bracketed,
            limits=(
                Limit(
                    to="trust_region_subproblem.eigen_step",
                    hyper={},
                    to_hyper={"radius": 1.0},
                    where=convex,
                ),
            ),
            deviations=(LOOSE_LENGTH,),
            refused={
                "a matrix that is not symmetric": {"B": lambda B: B + B[:1]},
                "a radius that is too short": {"radius": 1e-310},
            },
        ),
    ),
)
