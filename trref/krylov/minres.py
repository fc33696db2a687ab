r"""MINRES: the smallest residual for symmetric systems, definite or not.

Conjugate gradients need a positive definite matrix, because they minimise an error norm that only exists there. The
residual norm :math:`\|b - Ax\|` exists for every symmetric matrix. MINRES minimises it over the Krylov space, with the
Lanczos recurrence :math:`AV_k = V_{k+1} \underline T_k` (diagonal :math:`a_j`, off-diagonal :math:`\beta_j`,
:math:`v_1 = r_0/\beta_1`),

.. math::
    :label: minres-lanczos

    a_j = v_j^\top A v_j, \qquad
    \beta_{j+1} v_{j+1} = A v_j - a_j v_j - \beta_j v_{j-1},

and one new plane rotation a step, which keeps :math:`\underline T_k` upper triangular. From :math:`\eta = \beta_1`,
:math:`c_0 = c_1 = 1`, :math:`s_0 = s_1 = 0`, :math:`w_0 = w_{-1} = 0`:

.. math::
    :label: minres-rotation

    \rho_0 = c_j a_j - c_{j-1} s_j \beta_j, \quad
    \rho_1 = \sqrt{\rho_0^2 + \beta_{j+1}^2}, \quad
    \rho_2 = s_j a_j + c_{j-1} c_j \beta_j, \quad
    \rho_3 = s_{j-1} \beta_j, \qquad
    c_{j+1} = \rho_0/\rho_1, \quad s_{j+1} = \beta_{j+1}/\rho_1

.. math::
    :label: minres-step

    w_j = (v_j - \rho_3 w_{j-2} - \rho_2 w_{j-1}) / \rho_1, \qquad
    x \leftarrow x + c_{j+1}\, \eta\, w_j, \qquad \eta \leftarrow -s_{j+1}\, \eta .

In the first step the incoming :math:`\beta` is 0. :math:`|\eta|` is the residual norm, and the residual itself is

.. math::
    :label: minres-residual

    r_j = s_{j+1}^2\, r_{j-1} + c_{j+1}\, \eta_{j+1}\, v_{j+1}

with the new :math:`\eta_{j+1} = -s_{j+1} \eta_j`. With a positive definite preconditioner :math:`M` the Lanczos
vectors are orthonormal in :math:`M^{-1}`, :math:`w_j` is built from :math:`z_j = M^{-1} v_j`, and
:math:`\|r\|_{M^{-1}}` is what falls; so :math:`M` must be positive definite even where :math:`A` is not.

**Where implementations differ.** SciPy's ``minres`` stops by an estimate that includes the norms of :math:`A` and
:math:`x`, and reports nothing about :math:`\|b - Ax\|` itself. Here the true residual decides, as in
:func:`trref.krylov.cg.cg`: above the target the iteration restarts from there, and gives up when that does not help.

**Provenance.** Confirmed: textbook; SciPy's ``minres`` gives the same iterates.

Paige and Saunders, *Solution of Sparse Indefinite Systems of Linear Equations*, 1975.
"""

import math
from collections.abc import Callable

from trref.backend import xp
from trref.krylov.terms import (
    KrylovResult,
    begin,
    finish,
    norm,
    product,
    require_symmetric,
)
from trref.signature import N, OpenFraction, PositiveInt, Real, checked


@checked
def minres(
    matvec: Callable,
    b: Real[N],
    *,
    x0: Real[N] | None = None,
    preconditioner: Callable | None = None,
    rtol: OpenFraction = 1e-8,
    max_iter: PositiveInt | None = None,
) -> KrylovResult:
    """Solve A x = b for a symmetric A, definite or not.

    Parameters
    ----------
    b
        The right-hand side.
    rtol
        Of ``‖b - A x‖`` to ``‖b‖``.
    max_iter
        10 n if None.

    Returns
    -------
    KrylovResult
        For b = 0, x is 0.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, rounding keeps the residual above the target, or the system has no solution.
    """
    x, r, norms, target, max_iter = begin(matvec, b, x0, rtol, max_iter)
    if norms[0] > target:
        require_symmetric(matvec, r)

    start_norm = math.inf
    while norms[-1] > target and norms[-1] < start_norm / 2 and len(norms) <= max_iter:
        start_norm = norms[-1]
        for residual_norm in _recurrence(matvec, x, r, preconditioner):
            norms.append(residual_norm)
            if norms[-1] <= target or len(norms) > max_iter:
                break
        r = b - matvec(x)
        norms[-1] = norm(r)

    return finish("minres", x, norms, target)


def _recurrence(matvec, x, r, preconditioner):
    """Update the iterate x and its residual r in place; yield the residual norm after each step.

    It ends where the Krylov space does: the next Lanczos vector is zero up to rounding. Then so is the residual, or,
    where the pivot is zero too, the system is singular and the iterate stays.
    """
    apply_M = (
        (lambda v: product(preconditioner, v, "preconditioner"))
        if preconditioner
        else (lambda v: v)
    )
    v_old = w_old = w = 0.0
    z = apply_M(r)
    eta, beta = _m_norm(r, z), 0.0
    if eta == 0:
        raise ValueError("preconditioner must be positive definite: r·M⁻¹r = 0")
    v, z = r / eta, z / eta
    c_old, c, s_old, s, size = 1.0, 1.0, 0.0, 0.0, 0.0
    while True:
        # eq. minres-lanczos
        u = matvec(z) - beta * v_old
        a = float(z @ u)
        u = u - a * v
        z_next = apply_M(u)
        beta_next = _m_norm(u, z_next)

        # eq. minres-rotation
        rho0 = c * a - c_old * s * beta
        rho1 = math.hypot(rho0, beta_next)
        rho2 = s * a + c_old * c * beta
        rho3 = s_old * beta
        size = max(size, abs(a) + beta + beta_next)
        smallest = 10 * float(xp.finfo(r.dtype).eps) * size
        if rho1 <= smallest:
            return
        c_old, c, s_old, s = c, rho0 / rho1, s, beta_next / rho1

        # eq. minres-step
        w_old, w = w, (z - rho3 * w_old - rho2 * w) / rho1
        x += c * eta * w
        eta = -s * eta

        if beta_next <= smallest:
            yield 0.0
            return
        v_old, v, z, beta = v, u / beta_next, z_next / beta_next, beta_next

        # eq. minres-residual
        r *= s * s
        r += c * eta * v

        yield norm(r)


def _m_norm(u, z):
    squared = float(u @ z)
    if not squared >= 0:
        raise ValueError(
            f"preconditioner must be positive definite: u·M⁻¹u = {squared:.3g}"
        )
    return math.sqrt(squared)
