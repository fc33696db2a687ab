r"""What conjugate gradients know about the matrix: Ritz values and the error of the iterate.

Conjugate gradients are the Lanczos recurrence in disguise. Their coefficients :math:`\alpha_j, \beta_j` (of
:func:`trref.krylov.cg.cg`) are the entries of the tridiagonal matrix that Lanczos builds from :math:`r_0`, for
:math:`A` itself or, with a preconditioner :math:`M = CC^\top`, for :math:`C^{-1}AC^{-\top}` from :math:`C^{-1}r_0`:

.. math::
    :label: cg-lanczos-tridiagonal

    T_{jj} = \frac1{\alpha_j} + \frac{\beta_{j-1}}{\alpha_{j-1}}, \qquad
    T_{j,j+1} = \frac{\sqrt{\beta_j}}{\alpha_j},

without the second term for :math:`j = 0`. The eigenvalues of :math:`T_k` are the Ritz values: they say which part of
the spectrum the iteration has resolved, and how large the condition number is. The same coefficients give the error,
which cannot be seen from the residual. Between iterates k and k + d it falls by

.. math::
    :label: cg-lanczos-error

    \|x - x_k\|_A^2 - \|x - x_{k+d}\|_A^2 = \sum_{j=k}^{k+d-1} \alpha_j\, r_j^\top z_j,

a lower bound of :math:`\|x - x_k\|_A^2` that is tight when the next d steps reduce the error well. For :math:`x_0 = 0`
and no preconditioner the error is a remainder of Gauss quadrature for :math:`b^\top A^{-1} b`:

.. math:: \|x - x_k\|_A^2 = \|b\|^2 \big[ (T_n^{-1})_{11} - (T_k^{-1})_{11} \big] .

**Where implementations differ.** Most solvers stop by the residual, which may be smaller or larger than the error by
the condition number; few report :math:`\alpha` and :math:`\beta`.

**Provenance.** Confirmed: textbook; compared with reorthogonalised Lanczos and with dense linear algebra.

Golub and Strakoš, *Estimates in Quadratic Formulas*, 1994; Strakoš and Tichý, *On Error Estimation in the Conjugate
Gradient Method and Why it Works in Finite Precision Computations*, 2002.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.cg import recurrence
from trref.krylov.terms import begin, norm, out_of_units, require_symmetric
from trref.signature import K, N, NonNegative, Positive, PositiveInt, Real, checked


class CgCoefficients(NamedTuple):
    """The last iterate; alpha, beta and r·z of each step.

    `beta` holds the coefficient of the next direction after each step, `rz` the value before it. `converged` says that
    all steps asked for were taken, or that the residual has reached rounding.
    """

    x: Real[N]
    alpha: list[float]
    beta: list[float]
    rz: list[float]
    iterations: int
    converged: bool


@checked
def cg_coefficients(
    matvec: Callable,
    b: Real[N],
    *,
    preconditioner: Callable | None = None,
    steps: PositiveInt,
) -> CgCoefficients:
    """Take steps of conjugate gradients from 0 and keep their coefficients.

    Parameters
    ----------
    matvec
        A is symmetric positive definite.
    b
        The right-hand side, of norm 1e-100 or more: ``r·z`` is a square.

    Warns
    -----
    ConvergenceWarning
        A direction has no curvature, up to rounding: the matrix is singular.
    """
    system = begin(matvec, preconditioner, b, None, 0.0, steps)
    A, M, x, r = system.matvec, system.preconditioner, system.x, system.r
    if math.ldexp(system.norms[0], system.slope) < 1e-100:
        raise ValueError("b must have a norm of at least 1e-100")
    smallest = 10 * float(xp.finfo(b.dtype).eps) * system.norms[0]
    require_symmetric(A, r)

    alpha, beta, rz = [], [], [float(r @ M(r))]
    for step in recurrence(A, x, r, M):
        for history, value in zip((alpha, beta, rz), step, strict=True):
            history.append(value)
        if len(alpha) == steps or norm(r) <= smallest:
            break
    converged = len(alpha) == steps or norm(r) <= smallest
    if not converged:
        message = f"cg_coefficients stopped after {len(alpha)} steps: A is singular"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    x = out_of_units(x, system.slope - A.size)
    alpha = [math.ldexp(a, -A.size - M.size) for a in alpha]
    rz = [math.ldexp(a, 2 * system.slope + M.size) for a in rz[:-1]]
    return CgCoefficients(x, alpha, beta, rz, len(alpha), converged)


def _not_too_short(alpha, **_):
    """An `alpha` below 1e-100 (float32: 1e-15)."""
    shortest = 1e-100 if alpha.dtype.itemsize == 8 else 1e-15
    message = f"alpha must be no smaller than {shortest:g}"
    return [(lambda: (alpha >= shortest).all(), message)]


@checked(also=_not_too_short)
def tridiagonal_from_cg(alpha: Positive[K], beta: NonNegative[K]) -> Real[K, K]:
    """Return the tridiagonal matrix of the Lanczos recurrence from the coefficients of conjugate gradients.

    Parameters
    ----------
    alpha
        Step lengths.
    beta
        Coefficients of the next direction after each step; the last one is not used.
    """
    # eq. cg-lanczos-tridiagonal
    diagonal = 1 / alpha
    diagonal[1:] += beta[:-1] / alpha[:-1]
    side = xp.sqrt(beta[:-1]) / alpha[:-1]
    return xp.diag(diagonal) + xp.diag(side, 1) + xp.diag(side, -1)


@checked
def error_estimate(
    alpha: Positive[K], rz: NonNegative[K], *, delay: PositiveInt = 4
) -> NonNegative[K]:
    """Return lower bounds of the squared error in the A-norm of the iterates 0 to k - 1 of conjugate gradients.

    Parameters
    ----------
    rz
        ``r·z`` before each step.
    delay
        How many steps an estimate looks ahead. The last estimates look ahead as far as there are steps.
    """
    decrease = alpha * rz
    # eq. cg-lanczos-error
    return xp.stack([decrease[k : k + delay].sum() for k in range(len(alpha))])
