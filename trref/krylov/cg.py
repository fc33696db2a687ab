r"""Conjugate gradients: symmetric positive definite systems, preconditioned.

Of all vectors in the Krylov space :math:`x_0 + \mathrm{span}\{z_0, M^{-1}Az_0, \dots\}` the k-th iterate is the one
whose error is smallest in the norm :math:`\|e\|_A = \sqrt{e^\top A e}`. The matrix is touched only by one product a
step. With :math:`r_0 = b - Ax_0`, :math:`z_0 = M^{-1}r_0` and :math:`p_0 = z_0`:

.. math::
    :label: cg-step

    \alpha_k = \frac{r_k^\top z_k}{p_k^\top A p_k}, \qquad
    x_{k+1} = x_k + \alpha_k p_k, \qquad
    r_{k+1} = r_k - \alpha_k A p_k

.. math::
    :label: cg-direction

    z_{k+1} = M^{-1} r_{k+1}, \qquad
    \beta_k = \frac{r_{k+1}^\top z_{k+1}}{r_k^\top z_k}, \qquad
    p_{k+1} = z_{k+1} + \beta_k p_k

It ends after at most as many steps as :math:`A` has distinct eigenvalues, and

.. math:: \|e_k\|_A \le 2 \Big( \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1} \Big)^k \|e_0\|_A .

On a singular but consistent system the part of :math:`x_0` in the null space stays as it is. Where :math:`b` is
consistent only up to rounding, or not at all, the directions end in the null space: their curvature
:math:`p^\top A p / p^\top M p` then is rounding of the largest one met. The iteration stops there, before it would
divide by it.

**Where implementations differ.** The recurred residual drifts away from :math:`b - Ax`. Here the true residual decides
at the end: if it is above the target the iteration restarts from there, and gives up when restarts do not help. Some
implementations in policy optimisation start from small random noise (SB3-contrib), or take ten steps and add 1e-8 to
the denominator (Spinning Up).

**Provenance.** Confirmed: textbook; SciPy's ``cg`` gives the same iterates.

Hestenes and Stiefel, *Methods of Conjugate Gradients for Solving Linear Systems*, 1952.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Method, Solver
from trref.krylov import deviations
from trref.krylov.interfaces import (
    SPD_SOLVER,
    TOLERANCES,
    begin,
    finish,
    norm,
    product,
    relative_residual,
    require_symmetric,
)

__all__ = ["cg"]


def cg(matvec, b, *, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
    """Solve A x = b for a symmetric positive definite A.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> A v`` for arrays (n,).
    b : array (n,)
    x0 : array (n,), optional
        Start; 0 by default.
    preconditioner : callable
        ``preconditioner(r) -> M⁻¹ r`` with a symmetric positive definite M near A; the identity by default.
    rtol : float
        Ends when ``‖b - A x‖ <= rtol ‖b‖``; in (0, 1).
    max_iter : int, optional
        10 n by default.

    Returns
    -------
    KrylovResult
        Fields x, residual_norms, iterations, converged. For b = 0, x is 0.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, a `matvec` that is not symmetric (one extra product compares
        ``r·A(A r)`` with ``A r·A r`` for the first residual), that has negative curvature along a search direction,
        or none along the first.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, rounding keeps the true residual above the target, or a later direction has no
        curvature, up to rounding: the matrix is singular.
    """
    validate.inputs(SPD_SOLVER.inputs, matvec, b, x0, preconditioner)
    x, r, norms, target, max_iter = begin(matvec, b, x0, rtol, max_iter)
    if norms[0] > target:
        require_symmetric(matvec, r)

    start_norm, singular = math.inf, False
    while norms[-1] > target and norms[-1] < start_norm / 2 and len(norms) <= max_iter and not singular:
        start_norm = norms[-1]
        for _, _, rz in recurrence(matvec, x, r, preconditioner):
            norms.append(math.sqrt(rz) if preconditioner is None else norm(r))
            if norms[-1] <= target or len(norms) > max_iter:
                break
        else:
            singular = True
        r = b - matvec(x)
        norms[-1] = norm(r)

    return finish("cg", x, norms, target, ": the matrix is singular, up to rounding" if singular else "")


def recurrence(matvec, x, r, preconditioner=None):
    """Update the iterate x and its residual r in place; yield alpha, beta and the new r·z of each step.

    It ends where the matrix is singular: the curvature p·A p / p·M p is zero, up to rounding of the largest one so far.
    """
    apply_M = (lambda v: product(preconditioner, v, "preconditioner")) if preconditioner else (lambda v: v)
    z = apply_M(r)
    p = z.copy()
    rz = pMp = float(r @ z)
    rounding, largest = 10 * float(xp.finfo(r.dtype).eps), 0.0
    while True:
        # eq. cg-step
        Ap = matvec(p)
        curvature = float(p @ Ap)
        if largest and abs(curvature) <= rounding * largest * pMp:
            return
        if not (curvature > 0 and rz > 0):
            raise ValueError(_indefinite(curvature, rz))
        largest = max(largest, curvature / pMp)
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * Ap

        # eq. cg-direction
        z = apply_M(r)
        rz, previous = float(r @ z), rz
        beta = rz / previous
        p *= beta
        p += z

        pMp = rz + beta**2 * pMp  # r is orthogonal to the direction before
        yield alpha, beta, rz


def _indefinite(curvature, rz):
    if rz <= 0:
        return f"preconditioner must be positive definite: r·M⁻¹r = {rz:.3g}"
    return f"matvec must be positive definite: p·A p = {curvature:.3g} along a search direction"


METHOD = Method(
    title="Methods of Conjugate Gradients for Solving Linear Systems",
    key="hestenes1952methods",
    arxiv=None,
    provenance="confirmed",
    functions=(
        Solver(
            f=cg,
            interface=SPD_SOLVER,
            settings={"default": {}, "probe": {"rtol": 1e-5, "max_iter": 700}},
            certificate=relative_residual,
            tolerances=TOLERANCES,
            deviations=(deviations.CG_TEN_STEPS,),
            agreement=1e-2,
        ),
    ),
)
