"""Subproblems of every scale, judged in exact rational arithmetic: a lower bound of the model by weak duality.

For each multiplier λ >= 0 with B + λI positive definite the model is at least -g·(B + λI)⁻¹g/2 - λ radius²/2 in the
ball. A step is right if it comes close to the largest of these bounds.
"""

from fractions import Fraction

import numpy as np
import pytest

from trref.optimization.more_sorensen import more_sorensen
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_steps import cauchy_point, dogleg, subspace_step
from trref.optimization.trust_region_subproblem import eigen_step, pencil_step
from trref.problems.convex import DenseOperator

pytest.importorskip("hypothesis")
from hypothesis import example, given, settings
from hypothesis import strategies as st

EPS = Fraction(2) ** -52


def _exact(array):
    return [Fraction(float(x)) for x in array]


def _model(g, B, p):
    g, p, B = _exact(g), _exact(p), [_exact(row) for row in B]
    Bp = [sum(b * x for b, x in zip(row, p, strict=True)) for row in B]
    return sum(x * (a + y / 2) for a, x, y in zip(g, p, Bp, strict=True))


def _half_inverse(g, B, shift):
    """g·(B + shift I)⁻¹ g by elimination; None where the matrix is not positive definite, but for rows of zeros."""
    n, A, c = len(g), [_exact(row) for row in B], _exact(g)
    for i in range(n):
        A[i][i] += shift
    total = Fraction(0)
    for i in range(n):
        if not any(A[i][i:]) and not c[i]:
            continue
        if A[i][i] <= 0:
            return None
        total += c[i] ** 2 / A[i][i]
        for j in range(i + 1, n):
            factor = A[j][i] / A[i][i]
            c[j] -= factor * c[i]
            A[j] = [a - factor * b for a, b in zip(A[j], A[i], strict=True)]
    return total


def _lower_bound(g, B, radius, multiplier):
    """The largest of the bounds for multipliers at and closely above the one given."""
    size, bounds = Fraction(float(abs(B).sum(1).max())), []
    for shift in (0, *(Fraction(10) ** -k for k in (18, 16, 15, 14, 13, 12, 10, 8, 6))):
        trial = Fraction(multiplier) * (1 + shift) + shift * size
        if (term := _half_inverse(g, B, trial)) is not None:
            bounds.append(-term / 2 - trial * Fraction(radius) ** 2 / 2)
    return max(bounds)


def _rounding(g, B, p):
    """What rounding may do to the model's value: a few eps of each of its terms."""
    return 4 * (len(g) + 2) * EPS * -_model(-abs(g), -abs(B), abs(p))


def _problem(seed, n, slope, curvature, length, kind):
    """Entries near 10^slope and 10^curvature; the matrix is of three kinds."""
    rng = np.random.default_rng(seed)
    w = 10 ** rng.uniform(-2, 0, n) * (rng.choice((-1.0, 1.0), n) if kind == "any" else 1.0)
    if kind == "singular":
        w[0] = 0.0
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    B = (Q * w) @ Q.T
    B = 10.0**curvature * (B + B.T)
    g = 10.0**slope * rng.standard_normal(n)
    if rng.random() < 0.2:
        g = g - Q[:, 0] * (Q[:, 0] @ g)  # close to the hard case
    return g, B, float(10.0**length * rng.uniform(1, 10)), kind


problems = st.builds(
    _problem,
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    slope=st.integers(-150, 90),
    curvature=st.integers(-150, 90),
    length=st.integers(-150, 13),
    kind=st.sampled_from(("any", "definite", "singular")),
)
same_scale = st.builds(
    lambda seed, n, k, length, kind: _problem(seed, n, k + length, k, length, kind),
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    k=st.integers(-200, 80),
    length=st.integers(-90, 13),
    kind=st.sampled_from(("any", "definite", "singular")),
)


def _inside(p, radius):
    return sum(x * x for x in _exact(p)) <= Fraction(radius) ** 2 * (1 + Fraction(1, 10**11))


@pytest.mark.parametrize(
    ("solver", "share", "residual"),
    [(eigen_step, 1e-9, 0), (more_sorensen, 1e-9, 1e-11), (pencil_step, 1e-3, 1e-5)],
)
@given(problem=problems | same_scale)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_exact_steps_at_every_scale(solver, share, residual, problem):
    g, B, radius, kind = problem
    result = solver(g, B, radius=radius)
    value = _model(g, B, result.p)
    assert result.converged and result.multiplier >= 0 and _inside(result.p, radius)
    gap = value - _lower_bound(g, B, radius, result.multiplier)
    allowed = Fraction(share) * abs(value) + _rounding(g, B, result.p)
    if kind == "singular":  # where the smallest curvature is rounding of the others, a residual is relative to these
        allowed += Fraction(residual) * _rounding(g, B, np.full_like(g, radius)) / EPS
    assert abs(gap) <= allowed


@given(problem=problems | same_scale)
@settings(max_examples=600, deadline=None, derandomize=True)
@example(problem=(np.array([1e-8, 2e-8]), np.outer([0.6, 0.8], [0.6, 0.8]), 1e8, "singular"))
@example(problem=_problem(0, 2, -52, 90, 13, "definite"))
@example(problem=_problem(0, 2, -81, 70, 4, "definite"))
def test_cheap_steps_at_every_scale(problem):
    g, B, radius, _ = problem
    cauchy = cauchy_point(g, B, radius=radius)
    truncated = steihaug_toint(g, DenseOperator(B), radius=radius)
    steps = [cauchy, truncated]
    try:
        steps += [dogleg(g, B, radius=radius), subspace_step(g, B, radius=radius)]
    except ValueError as error:
        assert "must be positive definite" in str(error)

    # along -g the model is -t ‖g‖² + t² g·Bg/2 up to t = radius/‖g‖
    gg = sum(x * x for x in _exact(g))
    curvature = 2 * (_model(g, B, g) - gg)
    best = _model(g, B, cauchy.p)
    if curvature > 0 and gg**3 < (Fraction(radius) * curvature) ** 2:
        assert abs(best / (-(gg**2) / (2 * curvature)) - 1) < Fraction(1, 10**12)
    elif gg:
        along = sum(a * b for a, b in zip(_exact(g), _exact(cauchy.p), strict=True))
        assert along < 0 and abs(along**2 / (gg * Fraction(radius) ** 2) - 1) < Fraction(1, 10**12)
    for step in steps:
        value, rounding = _model(g, B, step.p), _rounding(g, B, step.p)
        assert _inside(step.p, radius) and value <= best + rounding
        if abs(value) > 1e-290:
            assert abs(Fraction(step.values[-1]) - value) <= rounding
