r"""Moré and Sorensen's solution of the trust-region subproblem.

The exact minimiser of :math:`g^\top p + \tfrac12 p^\top B p` over :math:`\|p\| \le \Delta` (see
:mod:`trref.optimization.trust_region_subproblem`) from a few Cholesky factorisations, without eigenvalues. Newton's
method for :math:`1/\Delta - 1/\|p(\lambda)\| = 0`:

.. math::
    :label: more-sorensen-newton

    B + \lambda I = LL^\top, \quad LL^\top p = -g, \quad L w = p, \qquad
    \lambda \leftarrow \lambda + \Big( \frac{\|p\|}{\|w\|} \Big)^2\, \frac{\|p\| - \Delta}{\Delta},

kept inside a bracket around the multiplier, which starts as

.. math::
    :label: more-sorensen-bracket

    \max\{ 0, -\min_i B_{ii}, \|g\|/\Delta - \|B\|_\infty \} \le \lambda \le \|g\|/\Delta + \|B\|_\infty

and shrinks: a factorisation that fails, or a step that is too long, raises its lower end, a step that is too short
lowers its upper end. A unit vector :math:`z` along which :math:`H = B + \lambda I` is nearly singular raises the lower
end to :math:`\lambda - z^\top H z`, and settles the hard case and its neighbourhood, where :math:`\lambda` cannot be
told from :math:`-\lambda_1` in floating point: the step is brought to the radius along :math:`z`,

.. math::
    :label: more-sorensen-hard

    p + \tau z, \qquad \|p + \tau z\| = \Delta, \qquad \big\| H (p + \tau z) + g \big\| = |\tau|\, \|Hz\|,

and accepted when that residual is small.

The numbers are brought near 1 first (`trref.optimization.terms.in_units`).

**Where implementations differ.** SciPy's ``trust-exact`` follows the same paper with tolerances of 0.1 in the length
and 0.2 in the hard case, gets :math:`z` from LINPACK's condition estimator, and a better lower end from a
factorisation that fails.

**Provenance.** Newton's step and the hard case are confirmed by SciPy's sources; the test of acceptance is ours: the
paper bounds the model's value, this the residual of the optimality conditions.

Moré and Sorensen, *Computing a Trust Region Step*, 1983.
"""

import math
import warnings

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.optimization.terms import ExactStep, in_units, well_posed
from trref.signature import (
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)


@checked(also=well_posed)
def more_sorensen(
    g: Real[N],
    B: Real[N, N],
    *,
    radius: PositiveFloat,
    rtol: OpenFraction = 1e-12,
    max_iter: PositiveInt = 100,
) -> ExactStep:
    """Solve the subproblem by Cholesky factorisations of B + λI.

    Parameters
    ----------
    g
        Gradient of the model.
    B
        Its Hessian.
    rtol
        Ends when the length is that of the radius, or the step can be brought there, with this relative error.
    max_iter
        Each takes a factorisation.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached; the step is the last one, shortened to the radius.
    """
    rtol = max(rtol, 10 * len(g) * float(xp.finfo(B.dtype).eps))
    g, B, radius, units = in_units(g, B, radius)
    g_norm, size, softest = floats(
        xp.sqrt(g @ g), abs(B).sum(1).max(), xp.diag(B).min()
    )
    scale = g_norm + size * radius
    if scale == 0:
        return ExactStep(xp.zeros_like(g), 0.0, "interior", [0.0], 1, True)

    # eq. more-sorensen-bracket
    low = max(0.0, -softest, g_norm / radius - size)
    high = g_norm / radius + 1.01 * size
    multiplier, tried, p, p_norm, answer = low, [], xp.zeros_like(g), 0.0, None
    while answer is None and len(tried) < max_iter:
        tried.append(multiplier)
        try:
            L = linalg.cholesky(B + multiplier * xp.eye(len(g), dtype=B.dtype))
        except linalg.LinAlgError:
            # not positive definite: the multiplier is too small
            low, multiplier = multiplier, (multiplier + high) / 2
            continue

        # eq. more-sorensen-newton
        p = -linalg.solve(L.T, linalg.solve(L, g))
        w = linalg.solve(L, p)
        z, Hz = _softest(B, L, multiplier)
        p_norm, w_norm, pz, curvature, error = floats(
            xp.sqrt(p @ p), xp.sqrt(w @ w), p @ z, z @ Hz, xp.sqrt(Hz @ Hz)
        )
        answer = _finished(p, z, p_norm, pz, error, multiplier, radius, rtol, scale)

        if p_norm > radius:
            low = multiplier
        else:
            low, high = max(low, multiplier - curvature), multiplier
        newton = low
        if w_norm:
            excess = (p_norm - radius) / radius
            newton = multiplier + (p_norm / w_norm) ** 2 * excess
        if low < newton < high:
            multiplier = newton
        else:
            # into the bracket; close to its lower end where only singularity is ahead
            multiplier = low + (0.5 if p_norm > radius else 0.01) * (high - low)

    if answer is None:
        message = f"more_sorensen stopped after {len(tried)} iterations away from the solution"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
        p = p * min(1.0, radius / p_norm) if p_norm else p
    p, status = answer or (p, "boundary")
    tried = [units.multiplier(x) for x in tried]
    return ExactStep(
        units.step(p), tried[-1], status, tried, len(tried), answer is not None
    )


def _softest(B, L, multiplier):
    """A unit vector z near the null space of H = B + λI where it is nearly singular, by inverse iteration; and H z."""
    diagonal = xp.diag(L)
    first = xp.arange(len(L)) == xp.argmin(diagonal)
    z = xp.where(first, 1.0, 0.0).astype(B.dtype)
    for _ in range(2):
        z = linalg.solve(L.T, linalg.solve(L, z))
        z = z / xp.sqrt(z @ z)
    return z, B @ z + multiplier * z


def _finished(p, z, p_norm, pz, error, multiplier, radius, rtol, scale):
    """The step and its status if it is accurate enough: as it is, or brought to the radius by a piece of z."""
    if p_norm <= radius and multiplier * radius <= rtol * scale:
        return p, "interior"
    if abs(p_norm - radius) <= rtol * radius:
        return p, "boundary"
    discriminant = pz * pz + (radius - p_norm) * (radius + p_norm)
    if p_norm <= 2 * radius and discriminant >= 0:  # a longer step would cancel
        # eq. more-sorensen-hard
        root = math.copysign(math.sqrt(discriminant), pz)
        tau = (radius - p_norm) * (radius + p_norm) / (pz + root)
        if error * abs(tau) <= rtol * scale:
            # the eigenvalue of H along z is zero to eight digits, or only the last
            # digits of the length were missing
            hard = error * radius <= 1e-8 * scale
            return p + tau * z, "hard case" if hard else "boundary"
    return None
