"""What solvers share: of the trust-region subproblem, and of problems with constraints.

The former minimise ``g·p + p·B p / 2`` over ``‖p‖ <= radius``, the latter f under c = 0.
"""

import math
from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.signature import M, N, Real, Scalar


class Step(NamedTuple):
    """The step, where it ends ("interior", "boundary", "negative curvature"), and the model's values on the way."""

    p: Real[N]
    status: str
    values: list[float]
    iterations: int
    converged: bool


class ExactStep(NamedTuple):
    """The step, its multiplier, where it ends ("interior", "boundary", "hard case"), and the multipliers tried."""

    p: Real[N]
    multiplier: float
    status: str
    multipliers: list[float]
    iterations: int
    converged: bool


def well_posed(g, B, radius, **_):
    """A matrix that is not symmetric; a radius below 1e-305 of an entry of g."""
    loose = math.sqrt(xp.finfo(B.dtype).eps)
    too_short = (
        f"radius must be at least 1e-305 of the largest entry of g, not {radius}"
    )
    return [
        (lambda: (abs(B - B.T) <= loose * abs(B).max()).all(), "B must be symmetric"),
        (lambda: 1e-305 * abs(g).max() <= radius, too_short),
    ]


class Units(NamedTuple):
    """Exponents of two: of the units of steps and of the matrix, and of the largest entry of the matrix alone."""

    length: int
    size: int
    curvature: int

    def step(self, p):
        return xp.ldexp(p, self.length)

    def multiplier(self, x):
        return math.ldexp(x, self.size)

    def value(self, m):
        return math.ldexp(m, self.size + 2 * self.length)

    def decrease(self, t, slope):
        """The value t times slope, of which the product alone might vanish."""
        return math.ldexp(t, self.length) * math.ldexp(slope, self.size + self.length)


def in_units(g, B, radius):
    """The problem in units in which its numbers are at most 1, and the units: nothing under- or overflows.

    With p = 2^l p', radius = 2^l radius', B = 2^s B' and g = 2^(s + l) g' the model is 2^(s + 2l) m'(p'). Powers of
    two round nothing.
    """
    length = math.frexp(radius)[1]
    largest = floats(abs(g).max(), abs(B).max())
    slope, own = (math.frexp(x)[1] if x else -9999 for x in largest)
    # even, so that square roots of pivots are scaled by a power of two, too
    size, own = (e + e % 2 for e in (max(slope - length, own), own))
    scaled = xp.ldexp(g, -size - length), xp.ldexp(B, -size)
    return *scaled, math.ldexp(radius, -length), Units(length, size, own)


def length_and_direction(g):
    """Return ‖g‖ and g/‖g‖, or zeros; squares of tiny entries would vanish."""
    largest = abs(g).max()
    u = g / xp.where(largest > 0, largest, 1)
    length = xp.sqrt(xp.maximum(u @ u, 1))
    return largest * length, u / length


def boundary_steps(zz, zd, dd, radius):
    """Return both t with ``‖z + t d‖ = radius``, the negative one first, for ‖z‖ <= radius.

    The squared lengths and the product are given; the root that would cancel comes from the product of the two.
    """
    c = min(zz - radius * radius, 0.0)
    root = math.sqrt(zd * zd - dd * c)
    far = -(zd + math.copysign(root, zd)) / dd
    near = c / (dd * far) if far else 0.0
    return min(far, near), max(far, near)


class Lagrangian(NamedTuple):
    """Value and gradient in x of f + λ·c, the constraints c, their Jacobian, and the Hessian in x."""

    value: Scalar
    gradient: Real[N]
    c: Real[M]
    jacobian: Real[M, N]
    hessian: Real[N, N]


def _derivatives(name, function, x, shape):
    """Return values of that shape, and first and second derivatives, which are checked to be that."""
    result, n = function(x), len(x)
    if not (isinstance(result, tuple) and len(result) == 3):
        message = "a tuple of values, first and second derivatives"
        raise TypeError(f"{name} must return {message}, not {type(result).__name__}")
    value, *derivatives = result
    parts = [value if shape else xp.asarray(value, dtype=x.dtype), *derivatives]
    shapes = shape, (*shape, n), (*shape, n, n)
    for part, expected in zip(parts, shapes, strict=True):
        validate.returned(name, part, expected, finite=True)
        if part.dtype != x.dtype:
            raise TypeError(f"{name} returns {part.dtype} at a {x.dtype} point")
    return parts


def lagrangian(objective, constraints, x, multipliers):
    """Evaluate the Lagrangian; what the two callables return is checked, and finite."""
    f, slope, curvature = _derivatives("objective", objective, x, ())
    c, jacobian, bends = _derivatives("constraints", constraints, x, multipliers.shape)
    value, gradient = f + multipliers @ c, slope + jacobian.T @ multipliers
    hessian = curvature + (multipliers[:, None, None] * bends).sum(0)
    return Lagrangian(value, gradient, c, jacobian, hessian)


def independent(jacobian, **_):
    """Constraints whose gradients depend on each other."""
    if len(jacobian) > jacobian.shape[1]:
        raise ValueError("jacobian must have no more rows than columns")
    G = xp.where(xp.isfinite(jacobian), jacobian, 0)
    loose = len(G) * 10 * float(xp.finfo(G.dtype).eps)
    full = lambda: linalg.eigvalsh(G @ G.T)[0] > loose * (G * G).sum()  # noqa: E731
    return [(full, "jacobian must have independent rows")]
