r"""Levenberg and Marquardt's method: weights of basis functions that solve an equation in the least squares.

A network gives N basis functions at the M points of a grid, the columns of B, and the solution is looked for among
their combinations :math:`u = B w`. The rows :math:`\mathcal F(u)` of the equation, its border and its start, and a
ridge, should all be 0:

.. math::
    :label: levenberg-marquardt-residual

    R(w) = \begin{pmatrix} \mathcal F(B w) \\ \rho\, w \end{pmatrix}, \qquad J = \begin{pmatrix} \mathcal F'(B w)\, B \\
    \rho I \end{pmatrix}

Each step solves a linear problem that leans towards steepest descent the more, the less the last one was worth:

.. math::
    :label: levenberg-marquardt-step

    \big( J^\top J + \mu\, \mathrm{diag}(J^\top J) \big)\, \delta = - J^\top R

It is taken if it makes :math:`\|R\|` smaller (or, within its rounding, the gradient), and :math:`\mu` is then divided
by 5, else multiplied by 4. The iteration
ends when the gradient is small beside that of the start,

.. math::
    :label: levenberg-marquardt-stop

    \|J^\top R\| \le \epsilon\, \|J_0\| \|R_0\| .

What is found is a stationary point. Which one depends on the start: a trivial solution of the equation, such as 0, is
one, and from there no step leads away.

================  ===============
:math:`\rho`      ``ridge``
:math:`\mu`       ``mu``
:math:`\epsilon`  ``rtol``
================  ===============

**Where implementations differ.** The paper's code calls a library whose damping multiplies the identity, not the
diagonal: the same solutions on another way.

**Provenance.** Confirmed: the least-squares problem, its ridge and the method's use by the paper's text and code
(ASK-Berkeley/physics-NNs-hard-constraints); the factors 5 and 4 and the stopping rule are choices of this module.

Chalapathi, Du and Krishnapriyan, *Scaling Physics-Informed Hard Constraints with Mixture-of-Experts*, 2024,
arXiv:2402.13412.
"""

import warnings
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.problems.protocols import GridEquation
from trref.signature import (
    M,
    N,
    OpenFraction,
    PositiveInt,
    Real,
    checked,
)

STEEPEST = 1e8
"""Damping at which steps have become too short to help: the iteration is at what rounding allows."""

Ridge = Annotated[float, "[1e-6, 1e3]"]


class Weights(NamedTuple):
    """Of the basis functions; norms of the residual after each step."""

    weights: Real[N]
    norms: list[float]
    iterations: int
    converged: bool


def moderate(basis, w0, **_):
    """Basis functions or weights beyond 1e4."""
    return [
        (lambda: abs(basis).max() <= 1e4, "basis must be at most 1e4 in size"),
        (lambda: abs(w0).max() <= 1e4, "w0 must be at most 1e4 in size"),
    ]


def stacked(equation, basis, w, ridge, rows=None):
    """Residual and Jacobian at weights, of all rows of the equation or of those with a 1, and of the ridge."""
    # eq. levenberg-marquardt-residual
    u = basis @ w
    r = equation.residual(u)
    shape = (len(r), len(w))
    J = validate.returned("equation.jvp", equation.jvp(u, basis), shape, finite=True)
    if rows is not None:
        r, J = rows * r, rows[:, None] * J
    eye = ridge * xp.eye(len(w), dtype=w.dtype)
    return xp.concatenate([r, ridge * w]), xp.concatenate([J, eye])


def damped_step(R, J, mu):
    """Return the step at a damping."""
    # eq. levenberg-marquardt-step
    A = J.T @ J
    return -linalg.solve(A + mu * xp.diag(A.diagonal()), J.T @ R)


@checked(also=moderate)
def levenberg_marquardt(
    equation: GridEquation,
    basis: Real[M, N],
    w0: Real[N],
    *,
    ridge: Ridge = 1e-4,
    rtol: OpenFraction = 1e-7,
    max_iter: PositiveInt = 100,
) -> Weights:
    """Solve an equation in the least squares among combinations of basis functions.

    Parameters
    ----------
    equation
        Such as those of `trref.problems.pde`.
    basis
        A column a function, a row a point of the grid.
    w0
        Where the iteration starts.
    ridge
        Weight of the weights' own rows.
    rtol
        Ends when the gradient is at most this, or 300 units of rounding, beside norms at the start.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached first.
    """
    return solve(
        equation, basis, w0, None, ridge, rtol, max_iter, "levenberg_marquardt"
    )


def solve(equation, basis, w, rows, ridge, rtol, max_iter, name):
    """`levenberg_marquardt` on some rows; unchecked."""
    R, J = stacked(equation, basis, w, ridge, rows)
    mu, norms, eps = 1e-3, [], float(xp.finfo(w.dtype).eps)
    # eq. levenberg-marquardt-stop
    norm, size, gradient = floats(_norm(R), _norm(J), _norm(J.T @ R))
    unit = size * norm
    while gradient > rtol * unit and len(norms) < max_iter and mu < STEEPEST:
        moved = w + damped_step(R, J, mu)
        there = stacked(equation, basis, moved, ridge, rows)
        found, slope = floats(_norm(there[0]), _norm(there[1].T @ there[0]))
        # near the end the norm no longer shows which is better, the gradient does
        level = found <= norm * (1 + 8 * eps) and slope < gradient
        mu = mu / 5 if found < norm or level else mu * 4
        if found < norm or level:
            w, (R, J), norm, gradient = moved, there, found, slope
        norms.append(norm)
    converged = gradient <= max(rtol, 300 * eps) * unit
    if not converged:
        warnings.warn(
            f"{name}: after {len(norms)} steps the gradient is {gradient:.2g}",
            validate.ConvergenceWarning,
            stacklevel=4,
        )
    return Weights(w + 0, norms, len(norms), converged)


def _norm(a):
    return xp.sqrt((a * a).sum())
