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
from trref.catalog import Limit, Method, Solver
from trref.optimization import deviations
from trref.optimization.interfaces import SUBPROBLEM, ExactStep, convex, dense_inputs, floats
from trref.optimization.trust_region_subproblem import SETTINGS, TIGHT, optimality

__all__ = ["more_sorensen"]


def more_sorensen(g, B, *, radius, rtol=1e-12, max_iter=100):
    """Solve the subproblem by Cholesky factorisations of B + λI.

    Parameters
    ----------
    g : array (n,)
        Gradient of the model.
    B : array (n, n)
        Symmetric.
    radius : float
        In (0, inf).
    rtol : float
        Ends when the length is that of the radius, or the step can be brought there, with this relative error.
    max_iter : int
        The most factorisations.

    Returns
    -------
    ExactStep
        Fields p, multiplier, status, multipliers, iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, `B` not symmetric, numbers out of range.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    dense_inputs(g, B, radius)
    validate.interval("(0, 1)", rtol=rtol)
    validate.integer("[1, inf)", max_iter=max_iter)
    rtol = max(rtol, 10 * len(g) * float(xp.finfo(B.dtype).eps))
    g_norm, size, softest = floats(xp.sqrt(g @ g), abs(B).sum(1).max(), xp.diag(B).min())
    scale = g_norm + size * radius
    if scale == 0:
        return ExactStep(xp.zeros_like(g), 0.0, "interior", [0.0], 1, True)

    low, high = max(0.0, -softest, g_norm / radius - size), g_norm / radius + 1.01 * size  # eq. more-sorensen-bracket
    multiplier, tried, p, answer = low, [], xp.zeros_like(g), None
    while answer is None and len(tried) < max_iter:
        tried.append(multiplier)
        try:
            L = linalg.cholesky(B + multiplier * xp.eye(len(g), dtype=B.dtype))
        except linalg.LinAlgError:
            low, multiplier = multiplier, (multiplier + high) / 2
            continue
        # eq. more-sorensen-newton
        p = -linalg.solve(L.T, linalg.solve(L, g))
        w = linalg.solve(L, p)
        z, Hz = _softest(B, L, multiplier)
        p_norm, w_norm, pz, curvature, error = floats(xp.sqrt(p @ p), xp.sqrt(w @ w), p @ z, z @ Hz, xp.sqrt(Hz @ Hz))
        answer = _finished(p, z, p_norm, pz, error, multiplier, radius, rtol, scale)
        low, high = (multiplier, high) if p_norm > radius else (max(low, multiplier - curvature), multiplier)
        newton = multiplier + (p_norm / w_norm) ** 2 * (p_norm - radius) / radius if w_norm else low

        multiplier = newton if low < newton < high else low + (0.5 if p_norm > radius else 0.01) * (high - low)
    if answer is None:
        message = f"more_sorensen stopped after {len(tried)} iterations away from the solution"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=2)
    p, status = answer or (p, "boundary")
    return ExactStep(p, tried[-1], status, tried, len(tried), answer is not None)


def _softest(B, L, multiplier):
    """A unit vector z near the null space of H = B + λI where it is nearly singular, by inverse iteration; and H z."""
    diagonal = xp.diag(L)
    z = xp.where(xp.arange(len(L)) == xp.argmin(diagonal), 1.0, 0.0).astype(B.dtype)
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
        tau = (radius - p_norm) * (radius + p_norm) / (pz + math.copysign(math.sqrt(discriminant), pz))
        if error * abs(tau) <= rtol * scale:
            # the eigenvalue of H along z is zero to eight digits, or only the last digits of the length were missing
            return p + tau * z, "hard case" if error * radius <= 1e-8 * scale else "boundary"
    return None


METHOD = Method(
    key="more1983computing",
    provenance={"confirmed": ("newton", "hard"), "partly": ("bracket",)},
    functions=(
        Solver(
            f=more_sorensen,
            prescribed=False,
            interface=SUBPROBLEM,
            settings={**SETTINGS, "probe": {"radius": 0.7, "rtol": 1e-11, "max_iter": 80}},
            certificate=optimality,
            tolerances=TIGHT,
            limits=(Limit("trust_region_subproblem.eigen_step", {}, {"radius": 1.0}, where=convex),),
            deviations=(deviations.LOOSE_LENGTH,),
        ),
    ),
)
