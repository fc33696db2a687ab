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

Work and memory grow with :math:`k`, so the iteration restarts from its current iterate after ``restart`` steps. With
``restart`` = n it is a direct method; with fewer it may stand still. The preconditioner stands on the right,
:math:`A M^{-1} u = b`, :math:`x = M^{-1} u`: the residual stays that of the system itself.

**Where implementations differ.** SciPy's ``gmres`` preconditions on the left, so it minimises and reports
:math:`\|M^{-1}(b - Ax)\|`, and its ``maxiter`` counts restarts; here ``max_iter`` counts products with :math:`A`.

**Provenance.** Confirmed: textbook; SciPy's ``gmres`` gives the same iterates.

Saad and Schultz, *GMRES: A Generalized Minimal Residual Algorithm for Solving Nonsymmetric Linear Systems*, 1986.
"""

import math
from collections.abc import Callable

from trref.backend import xp
from trref.krylov.terms import KrylovResult, begin, finish, floats, norm, product
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
        For b = 0, x is 0.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or a whole cycle between restarts did not reduce the residual.
    """
    x, r, norms, target, max_iter = begin(matvec, b, x0, rtol, max_iter)
    restart = len(b) if restart is None else restart
    apply_M = (
        (lambda v: product(preconditioner, v, "preconditioner"))
        if preconditioner
        else (lambda v: v)
    )

    start_norm = math.inf
    while norms[-1] > target and norms[-1] < start_norm and len(norms) <= max_iter:
        start_norm = norms[-1]
        steps = min(restart, max_iter + 1 - len(norms))
        correction, cycle = _cycle(
            lambda v: matvec(apply_M(v)), r, start_norm, target, steps
        )
        x = x + apply_M(correction)  # eq. gmres-solution
        r = b - matvec(x)
        norms += cycle[:-1] + [norm(r)]

    return finish("gmres", x, norms, target)


def _cycle(apply, r, r_norm, target, steps):
    """Return the correction V y after at most so many steps from the residual r, and the residual norms."""
    basis, g, norms = [r / r_norm], [r_norm], []
    columns, rotations = [], []
    for j in range(steps):
        h, w = _arnoldi(apply, basis)
        size = math.hypot(*h)

        # eq. gmres-rotation
        for i, (c, s) in enumerate(rotations):
            h[i], h[i + 1] = c * h[i] + s * h[i + 1], c * h[i + 1] - s * h[i]
        length = math.hypot(h[j], h[j + 1])
        smallest = 10 * float(xp.finfo(r.dtype).eps) * size
        # the projected matrix is singular: this direction cannot help
        if length <= smallest:
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
    return sum(
        (y_j * v for y_j, v in zip(y, basis, strict=False)), xp.zeros_like(r)
    ), norms


def _arnoldi(apply, basis):
    """Orthogonalise the next vector; return its coefficients h (host floats, its norm last) and what is left of it."""
    # eq. gmres-arnoldi
    w = product(apply, basis[-1])
    h = []
    for v in basis:
        h.append(w @ v)
        w = w - h[-1] * v
    h = floats(*h, xp.sqrt(w @ w))

    if not all(math.isfinite(h_ij) for h_ij in h):
        raise ValueError("matvec and preconditioner must give finite values")
    return h, w


def _back_substitution(columns, g):
    """Solve R y = g for the upper triangular R with the given columns."""
    y, g = [0.0] * len(columns), list(g)
    for j in reversed(range(len(columns))):
        y[j] = g[j] / columns[j][j]
        for i in range(j):
            g[i] -= columns[j][i] * y[j]
    return y
