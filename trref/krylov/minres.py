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

On a singular system that has no solution the residual falls until :math:`Ar = 0`, when :math:`x` is a least-squares
solution, one of many. The next direction is in the null space. Since :math:`Aw_j` is a unit vector in the norm of
:math:`M^{-1}`, the length of :math:`w_j` tells how little :math:`A` does along it. A step lowers the residual by
:math:`c_{j+1}^2/2` of it at least, and adds rounding of about :math:`\epsilon \|A\| \|c_{j+1} w_j\|`. The iteration
ends before a step of which mostly rounding would be left,

.. math::
    :label: minres-null

    \max\big( |c_{j+1}|, \sqrt\epsilon \big)\, \frac{\|z_j\|}{\|w_j\|} \le
    10\, \epsilon\, \max_i \big( |a_i| + \beta_i + \beta_{i+1} \big) ,

where the root stands for steps of no length, which do no harm, as on indefinite matrices.

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
    floats,
    never_rising,
    norm,
    require_finite,
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
        For b = 0, x is 0. The residual is never above that of the start (with a preconditioner, in its norm). Where the
        system has no solution it is a least-squares solution, up to rounding.

    Raises
    ------
    ValueError
        A `matvec` that is not symmetric, a `preconditioner` that is not positive definite; an `x0` whose residual is
        beyond 1e150 (float32: 1e15) times b; a solution too large or too small for the dtype.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, rounding keeps the residual above the target, or the system has no solution.
    """
    system = begin(matvec, preconditioner, b, x0, rtol, max_iter)
    A, M, b, x, r, norms, target, max_iter, _ = system
    if norms[0] > target:
        require_symmetric(A, r)

    start_norm, singular = math.inf, False
    while (
        norms[-1] > target
        and norms[-1] < start_norm / 2
        and len(norms) <= max_iter
        and not singular
    ):
        start, start_norm, start_x = len(norms), norms[-1], x.copy()
        start_size = _m_norm(r, M(r))
        for residual_norm in _recurrence(A, M, x, r):
            norms.append(residual_norm)
            if norms[-1] <= target or len(norms) > max_iter:
                break
        else:
            singular = True
        r = b - A(x)
        true = norm(r)
        if _m_norm(r, M(r)) > start_size:
            # rounding has spoiled the steps: the start is the best there is
            x, true = start_x, start_norm
        if preconditioner is None:
            never_rising(norms, start, true)
        norms[-1] = true

    why = ": the matrix is singular, up to rounding, and no x is better" * singular
    return finish("minres", system, x, norms, why)


def _recurrence(A, M, x, r):
    """Update the iterate x and its residual r in place; yield the residual norm after each step.

    It ends where the Krylov space does: the next Lanczos vector is zero up to rounding, and so is the residual. It ends
    before a step along the null space, up to rounding.
    """
    v_old = w_old = w = 0.0
    z = M(r)
    eta, beta = _m_norm(r, z), 0.0
    if eta == 0:
        raise ValueError("preconditioner must be positive definite: r·M⁻¹r = 0")
    v, z = r / eta, z / eta
    c_old, c, s_old, s, size = 1.0, 1.0, 0.0, 0.0, 0.0
    eps = float(xp.finfo(r.dtype).eps)
    while True:
        # eq. minres-lanczos
        u = A(z) - beta * v_old
        a = float(z @ u)
        u = u - a * v
        z_next = M(u)
        beta_next = _m_norm(u, z_next)
        require_finite("matvec and preconditioner", a, beta_next)

        # eq. minres-rotation
        rho0 = c * a - c_old * s * beta
        rho1 = math.hypot(rho0, beta_next)
        rho2 = s * a + c_old * c * beta
        rho3 = s_old * beta
        size = max(size, abs(a) + beta + beta_next)
        smallest = 10 * eps * size
        if rho1 <= smallest:
            return
        c_old, c, s_old, s = c, rho0 / rho1, s, beta_next / rho1

        # eq. minres-step
        w_old, w = w, (z - rho3 * w_old - rho2 * w) / rho1
        step, eta = c * eta, -s * eta

        ends, zz, ww = beta_next <= smallest, z @ z, w @ w
        if not ends:
            v_old, v, z, beta = v, u / beta_next, z_next / beta_next, beta_next
            # eq. minres-residual
            r *= s * s
            r += c * eta * v

        zz, ww, rr = floats(zz, ww, r @ r)
        # eq. minres-null
        if max(abs(c), math.sqrt(eps)) * math.sqrt(zz) <= smallest * math.sqrt(ww):
            return
        x += step * w
        yield 0.0 if ends else math.sqrt(rr)
        if ends:
            return


def _m_norm(u, z):
    squared = float(u @ z)
    require_finite("matvec and preconditioner", squared)
    if squared < 0:
        raise ValueError("preconditioner must be positive definite: u·M⁻¹u < 0")
    return math.sqrt(squared)
