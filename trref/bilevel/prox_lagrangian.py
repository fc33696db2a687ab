r"""The proximal Lagrangian value function: the least value of a constrained lower level, made smooth.

A lower level :math:`\min_y f(x, y)` under :math:`g(x, y) \le 0` and :math:`y \in Y`, convex in y. How small it can get,
as a function of x, has kinks where constraints begin to bind. Two proximal terms take them away: one holds the
minimiser near a y, the other the multiplier near a z:

.. math::
    :label: prox-lagrangian-saddle

    \phi(\theta, \lambda) = f(x, \theta) + \lambda^\top g(x, \theta)
    + \frac{\| \theta - y \|^2}{2 \gamma_1} - \frac{\| \lambda - z \|^2}{2 \gamma_2}

.. math::
    :label: prox-lagrangian-value

    v(x, y, z) = \min_{\theta \in Y} \max_{\lambda \in Z} \phi, \qquad Z = [0, r]^C

(:math:`[-r, r]^C` for constraints :math:`g = 0`). The saddle point is unique, and found by steps in which the slope is
taken where a first step has led:

.. math::
    :label: prox-lagrangian-extragradient

    (\theta, \lambda)^{1/2} = \Pi\big[ (\theta, \lambda) + \eta\, s(\theta, \lambda) \big], \qquad
    (\theta, \lambda)^{+} = \Pi\big[ (\theta, \lambda) + \eta\, s\big( (\theta, \lambda)^{1/2} \big) \big]

with :math:`s = (-\nabla_\theta \phi, \nabla_\lambda \phi)`. By the envelope theorem v has, with the saddle point held,

.. math::
    :label: prox-lagrangian-gradient

    \nabla v = \Big( \nabla_x f(x, \theta) + \nabla_x g(x, \theta)^\top \lambda,\ \frac{y - \theta}{\gamma_1},\
    \frac{\lambda - z}{\gamma_2} \Big) .

Where :math:`g(x, y) \le 0` and z is in Z, :math:`f - v \ge 0`; it is 0 exactly where y solves the lower level and z is
a multiplier of it, if r is not too small. Without constraints v is the Moreau envelope of f in y.

==================  ===================
:math:`\lambda`     ``multiplier``
:math:`r`           ``radius``
:math:`\eta`        ``inner_lr``
==================  ===================

**Where implementations differ.** The authors' scripts for support vector machines multiply :math:`\theta - y` by the
constant that stands under it here.

**Provenance.** In words (a Moreau envelope of the Lagrangian, multipliers cut to a box, equal solutions) confirmed by
public reviews; the formulas from memory of the paper, and consistent with the authors' code. That the saddle point is
found by extragradient steps is a choice made here.

Yao, Yu, Zeng and Zhang, *Constrained Bi-Level Optimization: Proximal Lagrangian Value Function Approach and
Hessian-free Algorithm*, 2024, arXiv:2401.16164.
"""

import math
import warnings
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.problems.protocols import CoupledLevels
from trref.signature import (
    C,
    M,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class Saddle(NamedTuple):
    """A lower level and a multiplier, or slopes by both."""

    theta: Real[M]
    multiplier: Real[C]


class Levels(NamedTuple):
    """Both levels and what a multiplier is held near to, or slopes by all three."""

    x: Real[N]
    y: Real[M]
    z: Real[C]


class SaddlePoint(NamedTuple):
    """The saddle point, and how long the steps would be at each look."""

    theta: Real[M]
    multiplier: Real[C]
    residuals: list[float]
    iterations: int
    converged: bool


@checked
def proximal_lagrangian(
    problem: CoupledLevels,
    theta: Real[M],
    multiplier: Real[C],
    x: Real[N],
    y: Real[M],
    z: Real[C],
    *,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
) -> tuple[Scalar, Saddle]:
    """Value of the proximal Lagrangian, and its slopes by what it is minimised and maximised over.

    Parameters
    ----------
    problem
        Such as `trref.problems.bilevel.CoupledBilevel`.
    theta
        Lower level, minimised over.
    multiplier
        Of the constraints, maximised over.
    x
        Upper level.
    y
        What `theta` is held near to.
    z
        What `multiplier` is held near to.
    gamma1, gamma2
        How loosely.
    """
    f, _, f_y = problem.lower(x, theta)
    g, _, J = problem.constraints(x, theta)
    if g.shape != z.shape:
        raise ValueError(f"z must have shape {tuple(g.shape)}, as the constraints")
    near, far = theta - y, multiplier - z
    # eq. prox-lagrangian-saddle
    value = f + multiplier @ g
    value = value + near @ near / (2 * gamma1) - far @ far / (2 * gamma2)
    by_theta = f_y + J.T @ multiplier + near / gamma1
    return value, Saddle(by_theta, g - far / gamma2)


@checked
def value_at_saddle(
    problem: CoupledLevels,
    x: Real[N],
    y: Real[M],
    z: Real[C],
    theta: Real[M],
    multiplier: Real[C],
    *,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
) -> tuple[Scalar, Levels]:
    """The value function, and its gradient with the saddle point held constant.

    Parameters
    ----------
    theta, multiplier
        The saddle point at x, y and z.
    """
    gammas = {"gamma1": gamma1, "gamma2": gamma2}
    value, _ = proximal_lagrangian.unchecked(
        problem, theta, multiplier, x, y, z, **gammas
    )
    f_x = problem.lower(x, theta)[1]
    J = problem.constraints(x, theta)[1]
    by_x = f_x + J.T @ multiplier
    # eq. prox-lagrangian-gradient
    gradient = Levels(by_x, (y - theta) / gamma1, (multiplier - z) / gamma2)
    return value, gradient  # eq. prox-lagrangian-value


@checked
def project_multiplier(
    problem: CoupledLevels, multiplier: Real[C], *, radius: PositiveFloat = 10.0
) -> Real[C]:
    """Nearest multiplier in the box.

    Parameters
    ----------
    radius
        Largest entry.
    """
    return xp.clip(multiplier, -radius if problem.equality else 0, radius)


@checked
def saddle_point(
    problem: CoupledLevels,
    x: Real[N],
    y: Real[M],
    z: Real[C],
    *,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
    radius: PositiveFloat = 10.0,
    inner_lr: PositiveFloat = 0.2,
    rtol: OpenFraction = 1e-10,
    max_iter: PositiveInt = 2000,
) -> SaddlePoint:
    """Find the saddle point, from y and z on.

    Parameters
    ----------
    inner_lr
        Step size.
    rtol
        The iteration ends when the slopes, projected, are this small relative to where it is (or to 1).

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the steps grew.
    """
    gammas = {"gamma1": gamma1, "gamma2": gamma2}

    def moved(at):
        slopes = proximal_lagrangian.unchecked(
            problem, at[0], at[1], x, y, z, **gammas
        )[1]
        multiplier = point[1] + inner_lr * slopes.multiplier
        return (
            problem.project_lower(point[0] - inner_lr * slopes.theta),
            project_multiplier.unchecked(problem, multiplier, radius=radius),
        )

    point = (
        problem.project_lower(y),
        project_multiplier.unchecked(problem, z, radius=radius),
    )
    residuals, converged = [], False
    while True:
        half = moved(point)
        steps = [((a - b) ** 2).sum() for a, b in zip(half, point, strict=True)]
        size, length = floats(sum(steps), sum((p * p).sum() for p in point))
        if not size < 1e200:
            break
        residuals.append(math.sqrt(size) / inner_lr)
        converged = residuals[-1] <= rtol * max(1, math.sqrt(length))
        if converged or len(residuals) > max_iter:
            break
        point = moved(half)  # eq. prox-lagrangian-extragradient
    if not converged:
        warnings.warn(
            f"saddle_point: slopes are not small after {len(residuals)} looks",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    return SaddlePoint(*point, residuals, max(len(residuals) - 1, 0), converged)
