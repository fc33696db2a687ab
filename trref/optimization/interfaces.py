"""What the solvers of the trust-region subproblem share: minimise ``g·p + p·B p / 2`` over ``‖p‖ <= radius``."""

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Interface
from trref.problems.convex import spd_matrix, spectrum

__all__ = [
    "SUBPROBLEM",
    "ExactStep",
    "Step",
    "boundary_steps",
    "boundary_violation",
    "convex",
    "dense_inputs",
    "diagonal",
    "floats",
]


class Step(NamedTuple):
    """Step (n,); where it ends ("interior", "boundary", "negative curvature"); model values; their number; verdict."""

    p: Any
    status: str
    values: list[float]
    iterations: int
    converged: bool


class ExactStep(NamedTuple):
    """Step (n,); multiplier; "interior", "boundary" or "hard case"; multipliers tried; their number; the verdict."""

    p: Any
    multiplier: float
    status: str
    multipliers: list[float]
    iterations: int
    converged: bool


def floats(*scalars):
    """Return device scalars as host floats, for the price of one synchronisation."""
    return xp.stack(scalars).tolist()


def dense_inputs(g, B, radius):
    """Check a gradient, a symmetric matrix and a radius."""
    _, flags = validate.deferred(SUBPROBLEM.inputs, g, B)
    validate.interval("(0, inf)", radius=radius)
    loose = math.sqrt(xp.finfo(B.dtype).eps)
    validate.require(*flags, (lambda: (abs(B - B.T) <= loose * abs(B).max()).all(), "B must be symmetric"))


def boundary_steps(zz, zd, dd, radius):
    """Return both t with ``‖z + t d‖ = radius``, the negative one first, for ‖z‖ <= radius.

    The squared lengths and the product are given; the root that would cancel comes from the product of the two.
    """
    c = min(zz - radius * radius, 0.0)
    root = math.sqrt(zd * zd - dd * c)
    far = -(zd + math.copysign(root, zd)) / dd
    near = c / (dd * far) if far else 0.0
    return min(far, near), max(far, near)


def boundary_violation(p, radius):
    """How far the step is outside, relative to the radius."""
    return float(xp.sqrt((p * p).sum())) / radius - 1


def _example(rng, size):
    """Eigenvalues of either sign or of both."""
    scale = rng.choice((0.05, 1.0, 30.0))
    signs = (rng.choice((-1.0, 1.0), size), xp.ones(size), -xp.ones(size))[rng.choice(3, p=(0.6, 0.2, 0.2))]
    B = spd_matrix(rng, scale * spectrum(size, rng.choice((2.0, 30.0))) * signs)
    return {"g": rng.choice((0.1, 1.0, 10.0)) * rng.standard_normal(size), "B": B}


def _edge(g, B):
    return {"g": xp.array(g, dtype=float), "B": xp.array(B, dtype=float)}


def diagonal(g, w):
    """Return a subproblem with a diagonal matrix."""
    return {"g": xp.array(g, dtype=float), "B": xp.diag(xp.array(w, dtype=float))}


def convex(inputs):
    """a convex model"""
    g, B = inputs["g"], inputs["B"]
    return {"g": g, "B": B @ B + xp.eye(len(g))}


SUBPROBLEM = Interface(
    "subproblem",
    inputs={"g": Input("N"), "B": Input("N N")},
    example=_example,
    edges={
        "hard case": lambda: diagonal([0, 0, 1, 1], [-2, -2, 1, 3]),
        "hard case, simple eigenvalue": lambda: diagonal([0.3, 0, 0.1], [1, -1, 2]),
        "zero gradient, convex": lambda: diagonal([0, 0], [1, 2]),
        "zero gradient, indefinite": lambda: diagonal([0, 0], [1, -2]),
        "zero model": lambda: diagonal([0, 0], [0, 0]),
        "linear model": lambda: diagonal([3, 4], [0, 0]),
        "singular, step inside": lambda: diagonal([0.01, 0], [1, 0]),
        "singular, no minimum inside": lambda: diagonal([0.1, 0.1], [1, 0]),
        "repeated eigenvalues": lambda: diagonal([1, 2, 3], [2, 2, 2]),
        "step ends exactly at the radius": lambda: diagonal([1.2, 1.6], [2, 2]),
        "one unknown": lambda: _edge([0.5], [[-1.5]]),
    },
)
"""``f(g (N), B (N N), *, radius, …)``: a symmetric model."""
