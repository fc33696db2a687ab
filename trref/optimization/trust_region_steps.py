r"""Approximate steps for the trust-region subproblem: Cauchy point, dogleg, two-dimensional subspace.

Minimise the model

.. math::
    :label: trust-region-steps-model

    m(p) = g^\top p + \tfrac12 p^\top B p, \qquad \nabla m(p) = g + Bp,

over :math:`\|p\| \le \Delta`, well enough for convergence and cheaper than exactly. The Cauchy point, the minimiser
along :math:`-g`,

.. math::
    :label: trust-region-steps-cauchy

    p^C = -\tau \frac{\Delta}{\|g\|} g, \qquad
    \tau = 1 \text{ if } g^\top B g \le 0, \text{ else } \min\Big\{ 1, \frac{\|g\|^3}{\Delta\, g^\top B g} \Big\},

lowers the model by at least :math:`\tfrac12 \|g\| \min(\Delta, \|g\| / \|B\|_2)`, and every step at least as good makes
the outer iteration converge. For positive definite :math:`B` the dogleg path runs from 0 to the minimiser along
:math:`-g`, and on to the full step; along it the length grows and the model falls:

.. math::
    :label: trust-region-steps-dogleg

    p^U = -\frac{g^\top g}{g^\top B g}\, g, \qquad p^B = -B^{-1} g, \qquad
    p = p^B \text{ inside}, \;\; {-\Delta} \frac{g}{\|g\|} \text{ if } \|p^U\| \ge \Delta, \;\;
    \text{else } p^U + t\, (p^B - p^U).

The subspace step is the exact solution over the plane of both directions,

.. math::
    :label: trust-region-steps-subspace

    p \in \mathrm{span}\{ g, B^{-1} g \} .

=================  ===========================
:math:`\Delta`     `radius`
:math:`p^U`        ``steepest``
:math:`p^B`        ``newton``
=================  ===========================

A gradient of zero has the zero step. Lengths are those of :math:`g/\|g\|` times a number, and the numbers are brought
near 1 first (`trref.optimization.terms.in_units`), for products of tiny entries would vanish.

**Where implementations differ.** With an indefinite matrix the dogleg path means nothing; SciPy raises there, as here,
others shift the matrix first. Some use :math:`B + \lambda I` in the plane of the subspace step.

**Provenance.** The dogleg is confirmed by SciPy's sources; the rest is textbook.

Powell, *A Hybrid Method for Nonlinear Equations*, 1970; Conn, Gould and Toint, *Trust-Region Methods*, 2000; Nocedal
and Wright, *Numerical Optimization*, 2006, chapter 4.
"""

from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.optimization.terms import (
    Step,
    boundary_steps,
    in_units,
    length_and_direction,
    well_posed,
)
from trref.optimization.trust_region_subproblem import eigen_step
from trref.signature import N, PositiveFloat, Real, Scalar, checked


@checked
def model_value(g: Real[N], B: Real[N, N], p: Real[N]) -> tuple[Scalar, Real[N]]:
    """Value of the quadratic model, with the symmetric part of B, and its gradient.

    Parameters
    ----------
    g
        Gradient of the model at the centre.
    B
        Its Hessian.
    p
        The step.

    Returns
    -------
    value
    gradient
        With respect to `p`.
    """
    Bp = (B @ p + B.T @ p) / 2
    return g @ p + p @ Bp / 2, g + Bp  # eq. trust-region-steps-model


@checked(also=well_posed)
def cauchy_point(g: Real[N], B: Real[N, N], *, radius: PositiveFloat) -> Step:
    """Minimise the model along the negative gradient."""
    g, B, radius, units = in_units(g, B, radius)
    norm, u = length_and_direction(g)
    norm, curvature = floats(norm, u @ (B @ u))
    if norm == 0:
        return Step(xp.zeros_like(g), "interior", [0.0, 0.0], 1, True)

    # eq. trust-region-steps-cauchy
    if curvature * radius > norm:
        length, status = norm / curvature, "interior"
    else:
        length, status = radius, "boundary"
    value = units.decrease(length, -norm + length * curvature / 2)
    return Step(units.step(-length * u), status, [0.0, value], 1, True)


@checked(also=well_posed)
def dogleg(g: Real[N], B: Real[N, N], *, radius: PositiveFloat) -> Step:
    """Follow the dogleg path of a positive definite model to the radius or to its end.

    Raises
    ------
    ValueError
        A `B` that is not positive definite.
    """
    matrix = B
    g, B, radius, units = in_units(g, B, radius)
    L = _factor(matrix, units.curvature)
    norm, u = length_and_direction(g)
    norm, curvature = floats(norm, u @ (B @ u))
    # eq. trust-region-steps-dogleg
    if norm > radius * curvature:
        # the path leaves along the gradient
        return _step(-radius * u, "boundary", 1, g, B, units)

    newton = xp.ldexp(_newton(L, g), units.size - units.curvature)
    steepest = -(norm / curvature) * u if norm else newton
    leg = newton - steepest
    length, ss, sl, ll = floats(
        xp.sqrt(newton @ newton), steepest @ steepest, steepest @ leg, leg @ leg
    )
    if length <= radius:
        # its end is inside
        return _step(newton, "interior", 1, g, B, units)
    # it leaves on its second leg
    t = boundary_steps(ss, sl, ll, radius)[1]
    return _step(steepest + t * leg, "boundary", 1, g, B, units)


def _factor(B, exponent):
    """Return L with B = 2^exponent L Lᵀ: in its own units a small matrix is definite, too."""
    try:
        return linalg.cholesky(xp.ldexp(B, -exponent))
    except linalg.LinAlgError:
        raise ValueError("B must be positive definite") from None


def _newton(L, g):
    return -linalg.solve(L.T, linalg.solve(L, g))


def _step(p, status, iterations, g, B, units):
    largest = abs(p).max()
    t = xp.ldexp(xp.ones_like(largest), xp.frexp(largest)[1])  # a power of two: exact
    u = p / t
    value = units.decrease(*floats(t, g @ u + t * (u @ (B @ u)) / 2))
    return Step(units.step(p), status, [0.0, value], iterations, True)


@checked(also=well_posed)
def subspace_step(g: Real[N], B: Real[N, N], *, radius: PositiveFloat) -> Step:
    """Minimise a positive definite model over the part of the plane of g and B⁻¹g within the radius.

    Raises
    ------
    ValueError
        A `B` that is not positive definite.
    """
    matrix = B
    g, B, radius, units = in_units(g, B, radius)
    L = _factor(matrix, units.curvature)
    # eq. trust-region-steps-subspace
    basis, _ = linalg.qr(xp.stack([g, _newton(L, g)], 1))
    inner = basis.T @ g, basis.T @ B @ basis
    step = eigen_step.unchecked(*inner, radius=radius)
    return _step(basis @ step.p, step.status, step.iterations, g, B, units)
