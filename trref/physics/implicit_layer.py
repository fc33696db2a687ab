r"""Implicit layer: how the weights of a least-squares solve move with the basis, exactly, and as if all were solved.

A layer that solves for weights w of basis functions B (:mod:`trref.physics.levenberg_marquardt`) has no graph to
differentiate through, but its result has an equation. The paper takes all rows to be 0,

.. math::
    :label: implicit-layer-root

    J\, dw = - \begin{pmatrix} K\, dB\, w \\ 0 \end{pmatrix} \text{ in the least squares}, \qquad K = \mathcal F'(u),
    \quad u = B w

which is exact if the residual r of the rows is 0. What always holds is that the weights are stationary:

.. math::
    :label: implicit-layer-stationary

    J^\top R = B^\top K^\top r + \rho^2 w = 0, \qquad H = B^\top \Big( K^\top K + \sum_e r_e \nabla^2 \mathcal F_e(u)
    \Big) B + \rho^2 I

A loss with the derivative :math:`\ell_u` by the values has then the adjoint and the gradient

.. math::
    :label: implicit-layer-adjoint

    H \lambda = B^\top \ell_u, \qquad v = B \lambda,

.. math::
    :label: implicit-layer-gradient

    \frac{d\ell}{dB} = \ell_u w^\top - (K^\top r)\, \lambda^\top - \Big( K^\top K v + \sum_e r_e \nabla^2
    \mathcal F_e(u)\, v \Big) w^\top

Without the terms in r this is :eq:`implicit-layer-root`. The training loss is the equation's residual on all rows,
while the solve sees those with a 1:

.. math::
    :label: implicit-layer-loss

    \ell = \frac12 \|\mathcal F(B w^*)\|^2

The weights come from a fixed number of the damped steps and then of Newton's on the stationarity, each kept if it
helps. Where the solve sees all rows, the loss is stationary in w up to the ridge, and :math:`\lambda` next to nothing;
where basis functions are as many as points, u does not depend on them, and the gradient is 0.

================  =======================
:math:`\ell_u`    ``output_gradient``
:math:`\rho`      ``ridge``
================  =======================

**Where implementations differ.** The root form is that of the paper's text. Its code leaves the derivative to the
library of its solver, whose rule takes :math:`J^\top R` to be 0, not the rows: the stationary form. Where the equation
cannot be solved exactly by the basis, the root form is another gradient, and may have the other sign.

**Provenance.** The root form is confirmed by the paper's text, the solve and its loss by its code, too
(ASK-Berkeley/physics-NNs-hard-constraints); the stationary form is derived here, and checked by solving again.

Chalapathi, Du and Krishnapriyan, *Scaling Physics-Informed Hard Constraints with Mixture-of-Experts*, 2024,
arXiv:2402.13412.
"""

from trref import validate
from trref.backend import linalg, xp
from trref.physics.levenberg_marquardt import Ridge, damped_step, moderate, stacked
from trref.problems.protocols import GridEquation
from trref.signature import (
    E,
    M,
    Mask,
    N,
    NonNegativeInt,
    Real,
    Scalar,
    checked,
)


def _moderate(basis, weights, output_gradient, **_):
    """Numbers beyond 1e4."""
    named = {"basis": basis, "weights": weights, "output_gradient": output_gradient}
    return [
        (lambda a=a: abs(a).max() <= 1e4, f"{name} must be at most 1e4 in size")
        for name, a in named.items()
    ]


@checked(also=_moderate)
def implicit_gradient(
    equation: GridEquation,
    basis: Real[M, N],
    weights: Real[N],
    output_gradient: Real[M],
    rows: Mask[E],
    *,
    ridge: Ridge = 1e-4,
) -> Real[M, N]:
    """Gradient of a loss of the values by the basis, with weights that keep the solve stationary.

    Parameters
    ----------
    equation
        Such as those of `trref.problems.pde`.
    basis
        A column a function, a row a point of the grid.
    weights
        What the solve gave.
    output_gradient
        Derivative of the loss by the values at the points.
    rows
        1 for the rows of the equation that the solve sees.
    ridge
        Weight of the weights' own rows.
    """
    return stationary(equation, basis, weights, output_gradient, rows, ridge)


def stationary(equation, basis, w, output_gradient, rows, ridge):
    """`implicit_gradient`; unchecked."""
    u, (r, _, H) = basis @ w, _system(equation, basis, w, rows, ridge)
    # eq. implicit-layer-adjoint
    adjoint = linalg.solve(H, basis.T @ output_gradient)
    v = basis @ adjoint
    # eq. implicit-layer-gradient
    pushed = equation.vjp(u, rows * equation.jvp(u, v)) + equation.curvature(u, r, v)
    gradient = (output_gradient - pushed)[:, None] * w
    return gradient - equation.vjp(u, r)[:, None] * adjoint


def _system(equation, basis, w, rows, ridge):
    """Residual of the rows that count, gradient of half its square with the ridge's, and second derivatives."""
    R, J = stacked(equation, basis, w, ridge, _fitting(equation, basis @ w, rows))
    r = R[: len(rows)]
    # eq. implicit-layer-stationary
    curved = equation.curvature(basis @ w, r, basis)
    return r, J.T @ R, J.T @ J + basis.T @ curved


def _fitting(equation, u, rows):
    """The rows, if they are as many as the equation's."""
    validate.returned("equation.residual", equation.residual(u), rows.shape)
    return rows


@checked(also=_moderate)
def root_gradient(
    equation: GridEquation,
    basis: Real[M, N],
    weights: Real[N],
    output_gradient: Real[M],
    rows: Mask[E],
    *,
    ridge: Ridge = 1e-4,
) -> Real[M, N]:
    """Gradient of a loss of the values by the basis, as if the solve left no residual."""
    u = basis @ weights
    rows = _fitting(equation, u, rows)
    _, J = stacked(equation, basis, weights, ridge, rows)
    # eq. implicit-layer-root
    v = basis @ linalg.solve(J.T @ J, basis.T @ output_gradient)
    pushed = equation.vjp(u, rows * equation.jvp(u, v))
    return (output_gradient - pushed)[:, None] * weights


def settled(equation, basis, w, rows, ridge, steps, polish):
    """Weights after a fixed number of damped steps and of Newton's, each kept if it helps."""
    rows = _fitting(equation, basis @ w, rows)
    mu, (R, J) = 1e-3 + 0 * w[:1], stacked(equation, basis, w, ridge, rows)
    for _ in range(steps):
        moved = w + damped_step(R, J, mu)
        there, J_there = stacked(equation, basis, moved, ridge, rows)
        better = there @ there < R @ R
        mu = xp.where(better, mu / 5, mu * 4)
        w, R = xp.where(better, moved, w), xp.where(better, there, R)
        J = xp.where(better, J_there, J)
    for _ in range(polish):
        _, g, H = _system(equation, basis, w, rows, ridge)
        moved = w - linalg.solve(H, g)
        after = _system(equation, basis, moved, rows, ridge)[1]
        w = xp.where(after @ after < g @ g, moved, w)
    return w


@checked(also=moderate)
def constrained_loss(
    equation: GridEquation,
    basis: Real[M, N],
    w0: Real[N],
    rows: Mask[E],
    *,
    ridge: Ridge = 1e-4,
    steps: NonNegativeInt = 16,
    polish: NonNegativeInt = 3,
) -> tuple[Scalar, Real[M, N]]:
    """Half the squared residual of all rows, at weights that solve those with a 1.

    Parameters
    ----------
    w0
        Where the solve starts.
    steps
        Damped ones.
    polish
        Newton's.

    Returns
    -------
    loss
    gradient
        With respect to `basis`.
    """
    w = settled(equation, basis, w0, rows, ridge, steps, polish)
    u = basis @ w
    residual = equation.residual(u)
    output_gradient = equation.vjp(u, residual)
    # eq. implicit-layer-loss
    gradient = stationary(equation, basis, w, output_gradient, rows, ridge)
    return (residual * residual).sum() / 2, gradient
