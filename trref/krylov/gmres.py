r"""GMRES: the smallest residual for general square systems, with restarts.

Without symmetry there is no short recurrence: Arnoldi's method orthogonalises each new vector against all before it
(modified Gram-Schmidt),

.. math::
    :label: gmres-arnoldi

    w = A v_j, \qquad h_{ij} = w^\top v_i, \; w \leftarrow w - h_{ij} v_i \; (i = 1, \dots, j), \qquad
    h_{j+1,j} = \|w\|, \; v_{j+1} = w / h_{j+1,j},

so that :math:`AV_k = V_{k+1} \underline H_k`, and the residual norm over the Krylov space is that of the small problem
:math:`\min_y \| \|r_0\| e_1 - \underline H_k y \|`. One plane rotation a step keeps :math:`\underline H_k` upper
triangular,

.. math::
    :label: gmres-rotation

    (c, s) = \frac{(h_{jj}, h_{j+1,j})}{\sqrt{h_{jj}^2 + h_{j+1,j}^2}}, \qquad
    g_{j+1} = -s\, g_j, \quad g_j \leftarrow c\, g_j, \qquad g_1 = \|r_0\|,

after which :math:`|g_{k+1}|` is the residual norm, and the iterate comes from a triangular system:

.. math::
    :label: gmres-solution

    R y = g, \qquad x = x_0 + M^{-1} V_k\, y .

On a singular matrix :math:`R` becomes singular, too. The step that would make it so, up to rounding, is not taken: a
unit vector :math:`u` with a small :math:`\|u^\top R\|` grows with :math:`R` by one entry, chosen for the smallest norm
(incremental condition estimation),

.. math::
    :label: gmres-narrow

    u \leftarrow \begin{pmatrix} s\, u \\ c \end{pmatrix}, \qquad
    \Big\| u^\top \begin{pmatrix} R & h \\ 0 & \rho \end{pmatrix} \Big\|^2 =
    s^2 \|u^\top R\|^2 + (s\, u^\top h + c\, \rho)^2 .

A step lowers the residual by :math:`c_j^2/2` of it at least; rounding adds :math:`\epsilon \|A\|` times its length. So
the iteration ends before a step with

.. math::
    :label: gmres-singular

    \max\big( |c_j|, \sqrt\epsilon \big)\, \|u^\top R\| \le 10\, \epsilon\, \max_i \|A v_i\| .

If the range of :math:`A` is that of :math:`A^\top`, the iterate before that step is a least-squares solution; otherwise
it may be none.

Work and memory grow with :math:`k`, so the iteration restarts from its current iterate after ``restart`` steps. With
``restart`` = n it is a direct method; with fewer it may stand still. The preconditioner stands on the right,
:math:`A M^{-1} u = b`, :math:`x = M^{-1} u`: the residual stays that of the system itself.

**Where implementations differ.** SciPy's ``gmres`` preconditions on the left, so it minimises and reports
:math:`\|M^{-1}(b - Ax)\|`, and its ``maxiter`` counts restarts; here ``max_iter`` counts products with :math:`A`.

**Provenance.** Confirmed: textbook; SciPy's ``gmres`` gives the same iterates.

Saad and Schultz, *GMRES: A Generalized Minimal Residual Algorithm for Solving Nonsymmetric Linear Systems*, 1986;
Bischof, *Incremental Condition Estimation*, 1990; Brown and Walker, *GMRES on (Nearly) Singular Systems*, 1997.
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
)
from trref.signature import N, OpenFraction, PositiveInt, Real, checked


@checked
def gmres(
    matvec: Callable,
    b: Real[N],
    *,
    x0: Real[N] | None = None,
    preconditioner: Callable | None = None,
    rtol: OpenFraction = 1e-8,
    max_iter: PositiveInt | None = None,
    restart: PositiveInt | None = None,
) -> KrylovResult:
    """Solve A x = b for a square A.

    Parameters
    ----------
    b
        The right-hand side.
    preconditioner
        Applied on the right; any M near A.
    rtol
        Of ``‖b - A x‖`` to ``‖b‖``.
    max_iter
        Counts all steps; 10 n if None.
    restart
        Steps between restarts; n if None, which never restarts in exact arithmetic.

    Returns
    -------
    KrylovResult
        For b = 0, x is 0. No residual norm is above the one before.

    Raises
    ------
    ValueError
        An `x0` whose residual is beyond 1e150 (float32: 1e15) times b; a solution too large or too small for the dtype.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, a whole cycle between restarts did not reduce the residual, or the matrix is singular.
    """
    system = begin(matvec, preconditioner, b, x0, rtol, max_iter)
    A, M, b, x, r, norms, target, max_iter, _ = system
    restart = len(b) if restart is None else restart

    enough, largest, singular = math.inf, 0.0, False
    while norms[-1] > target and norms[-1] < enough and len(norms) <= max_iter:
        start, start_norm = len(norms), norms[-1]
        steps = min(restart, max_iter + 1 - start)
        correction, cycle, largest, singular = _cycle(
            lambda v: A(M(v)), r, start_norm, target, steps, largest
        )
        trial = x + M(correction)  # eq. gmres-solution
        r = b - A(trial)
        norms += cycle
        if norm(r) < start_norm:
            x = trial
        never_rising(norms, start, min(norm(r), start_norm))
        # what is left after a singular matrix is no better for being small
        enough = start_norm / 2 if singular else start_norm

    why = ": the matrix is singular, up to rounding" * singular
    return finish("gmres", system, x, norms, why)


def _cycle(apply, r, r_norm, target, steps, largest):
    """Take at most so many steps from the residual r; return the correction V y, the residual norms, the largest norm
    of a product so far, and whether it ended at a singular matrix.
    """
    basis, g, norms = [r / r_norm], [r_norm], []
    columns, rotations, narrow, singular = [], [], ([], 0.0), False
    eps = float(xp.finfo(r.dtype).eps)
    for j in range(steps):
        h, w = _arnoldi(apply, basis)
        largest = max(largest, math.hypot(*h))

        # eq. gmres-rotation
        for i, (c, s) in enumerate(rotations):
            h[i], h[i + 1] = c * h[i] + s * h[i + 1], c * h[i + 1] - s * h[i]
        length = math.hypot(h[j], h[j + 1])
        smallest = 10 * eps * largest
        narrow = _narrowest(*narrow, h[:j], length)
        # the projected matrix is singular: this direction cannot help
        # eq. gmres-singular
        turn = max(abs(h[j]) / length, math.sqrt(eps)) if length else 1.0
        singular = turn * narrow[1] <= smallest
        if singular:
            norms.append(abs(g[j]))
            break
        c, s = h[j] / length, h[j + 1] / length
        g[j:] = [c * g[j], -s * g[j]]

        rotations.append((c, s))
        columns.append([*h[:j], length])
        norms.append(abs(g[j + 1]))
        if norms[-1] <= target or h[j + 1] <= smallest:
            break
        basis.append(w / h[j + 1])
    # eq. gmres-solution
    y = _back_substitution(columns, g)
    correction = sum(
        (y_j * v for y_j, v in zip(y, basis, strict=False)), xp.zeros_like(r)
    )
    return correction, norms, largest, singular


def _narrowest(u, size, h, pivot):
    """Return a unit vector u with a small ``size = ‖uᵀR‖`` once the column (h, pivot) has joined R, from those before.

    It is the best of all (s u, c).
    """
    # eq. gmres-narrow
    a = sum(u_i * h_i for u_i, h_i in zip(u, h, strict=True))
    angle = math.atan2(2 * a * pivot, size**2 + a**2 - pivot**2) / 2 if u else 0.0
    s, c = -math.sin(angle), math.cos(angle)
    return [*(s * u_i for u_i in u), c], math.hypot(s * size, s * a + c * pivot)


def _arnoldi(apply, basis):
    """Orthogonalise the next vector; return its coefficients h (host floats, its norm last) and what is left of it."""
    # eq. gmres-arnoldi
    w = apply(basis[-1])
    h = []
    for v in basis:
        h.append(w @ v)
        w = w - h[-1] * v
    h = floats(*h, xp.sqrt(w @ w))
    require_finite("matvec and preconditioner", *h)
    return h, w


def _back_substitution(columns, g):
    """Solve R y = g for the upper triangular R with the given columns."""
    y, g = [0.0] * len(columns), list(g)
    for j in reversed(range(len(columns))):
        y[j] = g[j] / columns[j][j]
        for i in range(j):
            g[i] -= columns[j][i] * y[j]
    return y
