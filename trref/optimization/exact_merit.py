r"""An exact augmented Lagrangian: one smooth function whose minimisers solve a problem with equality constraints.

Minimise f(x) under :math:`c(x) = 0`. With multipliers :math:`\lambda`, the Lagrangian
:math:`L = f + \lambda^\top c` and the Jacobian G of c, a solution has

.. math::
    :label: exact-merit-residual

    \| \nabla L \| = 0, \qquad
    \nabla L = \begin{pmatrix} \nabla_x L \\ c \end{pmatrix}, \quad \nabla_x L = \nabla f + G^\top \lambda .

A step in x and :math:`\lambda` together needs a measure of progress. L is none: a solution is a saddle point of it. Two
penalties make it one,

.. math::
    :label: exact-merit-value

    L_\eta(x, \lambda) = f + \lambda^\top c + \frac{\eta_1}2 \|c\|^2 + \frac{\eta_2}2 \| \nabla_x L \|^2 ,

which is exact: for :math:`\eta_1` large and :math:`\eta_2` small enough, but finite and positive, its stationary points
are those of L. Its gradient is

.. math::
    :label: exact-merit-gradient

    \nabla_x L_\eta = \nabla_x L + \eta_2 \nabla^2_{xx} L\, \nabla_x L + \eta_1 G^\top c, \qquad
    \nabla_\lambda L_\eta = c + \eta_2 G\, \nabla_x L ,

with :math:`\nabla^2_{xx} L = \nabla^2 f + \sum_i \lambda_i \nabla^2 c_i`: 0 wherever :math:`\nabla L` is. Without the
second penalty it is the classical augmented Lagrangian, of which only x is minimised.

How large is large? In the multipliers the function is quadratic. With those that fit best,
:math:`\lambda_f = -(G G^\top)^{-1} G \nabla f`, and :math:`g_f = \nabla f + G^\top \lambda_f`, its least value is

.. math::

    \min_\lambda L_\eta = f + \lambda_f^\top c + \frac{\eta_2}2 \| g_f \|^2 +
    \frac12\, c^\top \Big( \eta_1 I - \frac1{\eta_2} (G G^\top)^{-1} \Big)\, c ,

a function of x alone that Fletcher proposed. It penalises the constraints only if

.. math::

    \eta_1 \eta_2 > \frac1{\lambda_{\min}(G G^\top)} ;

for less, multipliers that grow undo the penalty, and the solution need not be a minimum. Where the gradients of the
constraints depend on each other no weights are enough: there the function has no lower bound. So scale the constraints
such that their gradients have a length near 1. Descent alone needs less than a minimum: a method that starts with
weights below this, as the default ones often are, raises them when a direction does not descend.

Newton's direction for :math:`\nabla L = 0` descends on it if the curvature along the constraints is positive. Where it
is not, a multiple of the identity is added: with an orthonormal basis Z of the kernel of G,

.. math::
    :label: exact-merit-hessian

    B = \nabla^2_{xx} L + t I, \qquad t = \begin{cases} 0 & \lambda_{\min}(Z^\top \nabla^2_{xx} L\, Z) \ge 10^{-6} \\
    \xi + \| \nabla^2_{xx} L \|_F & \text{otherwise,} \end{cases}

and the direction :math:`\Delta` solves

.. math::
    :label: exact-merit-system

    \Gamma \Delta = -\nabla L, \qquad \Gamma = \begin{pmatrix} B & G^\top \\ G & 0 \end{pmatrix} .

With as many constraints as unknowns nothing is left to curve, and t = 0. In exact arithmetic :math:`\Delta` has
:math:`\nabla L_\eta^\top \Delta \le -\tfrac{\eta_2}2 \| \nabla L \|^2` for :math:`\eta_1` large and :math:`\eta_2`
small.

================  =======================
:math:`\eta_1`    `constraint_weight`
:math:`\eta_2`    `gradient_weight`
:math:`\xi`       `shift`
:math:`\lambda`   `multipliers`
================  =======================

**Where implementations differ.** The authors' code has the Hessian of f in the place of :math:`\nabla^2_{xx} L` in the
gradient: right for linear constraints only.

**Provenance.** Confirmed in the authors' code (IlgeeHong/AdaSketch-Newton) but for the gradient, which is derived here
and checked by differences.

Hong, Na, Mahoney and Kolar, *Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative
Sketching*, 2023, arXiv:2305.18379.
"""

from collections.abc import Callable
from typing import NamedTuple

from trref.backend import linalg, xp
from trref.optimization.terms import independent, lagrangian
from trref.signature import (
    K,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

LEAST_CURVATURE = 1e-6  # along the constraints


class MeritGradient(NamedTuple):
    """With respect to the unknowns and to the multipliers."""

    x: Real[N]
    multipliers: Real[M]


class NewtonSystem(NamedTuple):
    """The matrix, symmetric but not definite, and the right-hand side."""

    matrix: Real[K, K]
    right: Real[K]


@checked
def kkt_residual(
    objective: Callable, constraints: Callable, x: Real[N], multipliers: Real[M]
) -> Scalar:
    """How far a point is from solving the problem.

    Parameters
    ----------
    objective
        ``objective(x)`` -> value, gradient (N) and Hessian (N, N), such as `trref.problems.constrained.WithHessian`.
    constraints
        ``constraints(x)`` -> values (M), Jacobian (M, N) and Hessians (M, N, N).
    x
        The unknowns.
    multipliers
        One a constraint.
    """
    at = lagrangian(objective, constraints, x, multipliers)
    # eq. exact-merit-residual
    return xp.sqrt(at.gradient @ at.gradient + at.c @ at.c)


@checked
def exact_merit(
    objective: Callable,
    constraints: Callable,
    x: Real[N],
    multipliers: Real[M],
    *,
    constraint_weight: NonNegativeFloat = 1.0,
    gradient_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, MeritGradient]:
    """The exact augmented Lagrangian.

    Parameters
    ----------
    constraint_weight
        Of half the squared norm of the constraints.
    gradient_weight
        Of half the squared norm of the Lagrangian's gradient.
    """
    at = lagrangian(objective, constraints, x, multipliers)
    g, c, G = at.gradient, at.c, at.jacobian

    # eq. exact-merit-value
    penalties = constraint_weight / 2 * (c @ c) + gradient_weight / 2 * (g @ g)
    value = at.value + penalties

    # eq. exact-merit-gradient
    by_x = g + gradient_weight * (at.hessian @ g) + constraint_weight * (G.T @ c)
    by_multipliers = c + gradient_weight * (G @ g)

    return value, MeritGradient(by_x, by_multipliers)


@checked(also=independent)
def modified_hessian(
    hessian: Real[N, N], jacobian: Real[M, N], *, shift: PositiveFloat = 0.1
) -> Real[N, N]:
    """A curvature that is positive along the constraints.

    Parameters
    ----------
    hessian
        Of the Lagrangian, symmetric.
    jacobian
        Of the constraints.
    shift
        The least curvature where something is added.
    """
    M, N = jacobian.shape
    if M == N:
        return hessian.copy()
    # eq. exact-merit-hessian
    Z = linalg.qr(jacobian.T, mode="complete")[0][:, M:]
    least = linalg.eigvalsh(Z.T @ hessian @ Z)[0]
    t = xp.where(
        least >= LEAST_CURVATURE, 0, shift + xp.sqrt((hessian * hessian).sum())
    )
    return hessian + t * xp.eye(N, dtype=hessian.dtype)


@checked
def newton_system(
    curvature: Real[N, N], jacobian: Real[M, N], gradient: Real[N], c: Real[M]
) -> NewtonSystem:
    """The linear system of a step in x and in the multipliers.

    Parameters
    ----------
    curvature
        The modified Hessian.
    jacobian
        Of the constraints.
    gradient
        Of the Lagrangian, in x.
    c
        The constraints.
    """
    nothing = xp.zeros((len(c), len(c)), dtype=c.dtype)
    # eq. exact-merit-system
    top = xp.concatenate([curvature, jacobian.T], 1)
    matrix = xp.concatenate([top, xp.concatenate([jacobian, nothing], 1)])
    return NewtonSystem(matrix, -xp.concatenate([gradient, c]))
