r"""LV-HBA: two levels with constraints on both, by single steps from first derivatives.

Of the problem :math:`\min F(x, y)` over y that solve the lower level :math:`\min_y f(x, y)` under
:math:`g(x, y) \le 0`, the lower level is asked for by the smooth value function v of
`trref.bilevel.prox_lagrangian`: :math:`f(x, y) - v(x, y, z) \le 0`, :math:`z \in Z` and :math:`(x, y) \in C`, the
pairs of :math:`g \le 0`, where the difference is not negative. As a penalty, with the saddle point
:math:`(\theta, \lambda)` of v held, it is

.. math::
    :label: lv-hba-merit

    \Psi_c = \frac1c F(x, y) + f(x, y) - \phi(\theta, \lambda)

.. math::
    :label: lv-hba-directions

    d_x = \frac{\nabla_x F}c + \nabla_x f(x, y) - \nabla_x f(x, \theta) - \nabla_x g(x, \theta)^\top \lambda, \quad
    d_y = \frac{\nabla_y F}c + \nabla_y f(x, y) - \frac{y - \theta}{\gamma_1}, \quad
    d_z = -\frac{\lambda - z}{\gamma_2} .

An iteration takes one step towards the saddle point, both parts of it from the old one,

.. math::
    :label: lv-hba-theta

    \theta^+ = \Pi_Y\Big( \theta - \eta \Big[ \nabla_y f(x, \theta) + \nabla_y g(x, \theta)^\top \lambda
    + \frac{\theta - y}{\gamma_1} \Big] \Big)

.. math::
    :label: lv-hba-multiplier

    \lambda^+ = \Pi_Z\Big( \lambda - \eta \Big[ -g(x, \theta) + \frac{\lambda - z}{\gamma_2} \Big] \Big)

and then one down the penalty, with the new saddle point and the old levels:

.. math::
    :label: lv-hba-levels

    (x, y)^+ = \Pi_C\big( (x, y) - \alpha\, (d_x, d_y) \big), \qquad z^+ = \Pi_Z( z - \beta\, d_z )

.. math::
    :label: lv-hba-weight

    c_k = c_0\, (k + 1)^p, \qquad 0 < p < \tfrac12 .

No second derivative and no inner loop. As c grows the levels follow the lower level's solutions, and F counts less and
less: the tail is slow. It ends here where c times all steps, each over its step size, is small: that is the gradient of
:math:`F + c\,(f - v)`, projected.

==================  ========================
:math:`\alpha`      ``lr``
:math:`\beta`       ``multiplier_lr``
:math:`\eta`        ``inner_lr``
:math:`\lambda`     ``multiplier``
:math:`c_0`         ``c0``
:math:`p`           ``growth``
==================  ========================

A ``radius`` below the multiplier leaves :math:`f - v > 0` at the solution.

**Where implementations differ.** The authors' scripts for support vector machines multiply :math:`\theta - y` by the
constant that divides it here, do not keep :math:`\lambda` above 0, and lose the step of x: it moves by the projection
alone. A copy of these in another repository never changes z.

**Provenance.** The directions, projections and the order of the updates are confirmed in the authors' code. When to
stop is a choice made here, and so is the size of the steps. The paper's conditions on these are not transcribed, and
its support vector machine is left out: it projects by a quadratic program a step.

Yao, Yu, Zeng and Zhang, *Constrained Bi-Level Optimization: Proximal Lagrangian Value Function Approach and
Hessian-free Algorithm*, 2024, arXiv:2401.16164.
"""

import math
import warnings
from typing import Annotated, NamedTuple

from trref import validate
from trref.bilevel.prox_lagrangian import (
    Levels,
    Saddle,
    project_multiplier,
    proximal_lagrangian,
    value_at_saddle,
)
from trref.krylov.terms import floats
from trref.problems.protocols import CoupledLevels
from trref.signature import (
    C,
    M,
    N,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class BilevelResult(NamedTuple):
    """Levels, saddle point, the final weight of the penalty, and the projected gradients times it."""

    x: Real[N]
    y: Real[M]
    z: Real[C]
    theta: Real[M]
    multiplier: Real[C]
    c: float
    residuals: list[float]
    iterations: int
    converged: bool


@checked
def merit(
    problem: CoupledLevels,
    x: Real[N],
    y: Real[M],
    z: Real[C],
    theta: Real[M],
    multiplier: Real[C],
    *,
    c: PositiveFloat = 1.0,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
) -> tuple[Scalar, Levels]:
    """What the levels descend on: the upper level, and how far the lower one is from solved.

    Parameters
    ----------
    problem
        Such as `trref.problems.bilevel.CoupledBilevel`.
    x
        Upper level.
    y
        Lower level.
    z
        What the multiplier is held near to.
    theta, multiplier
        The saddle point of the value function.
    c
        Weight of the lower level.
    gamma1, gamma2
        How loosely the saddle point is held near y and z.
    """
    F, F_x, F_y = problem.upper(x, y)
    f, f_x, f_y = problem.lower(x, y)
    v, d_v = value_at_saddle.unchecked(
        problem, x, y, z, theta, multiplier, gamma1=gamma1, gamma2=gamma2
    )
    # eq. lv-hba-directions
    d = Levels(F_x / c + f_x - d_v.x, F_y / c + f_y - d_v.y, -d_v.z)
    return F / c + f - v, d  # eq. lv-hba-merit


@checked
def saddle_step(
    problem: CoupledLevels,
    x: Real[N],
    y: Real[M],
    z: Real[C],
    theta: Real[M],
    multiplier: Real[C],
    *,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
    radius: PositiveFloat = 10.0,
    inner_lr: PositiveFloat = 0.1,
) -> Saddle:
    """One step towards the saddle point.

    Parameters
    ----------
    theta, multiplier
        Where it begins.
    radius
        Largest entry of a multiplier.
    inner_lr
        Step size.
    """
    slopes = proximal_lagrangian.unchecked(
        problem, theta, multiplier, x, y, z, gamma1=gamma1, gamma2=gamma2
    )[1]
    theta = problem.project_lower(theta - inner_lr * slopes.theta)  # eq. lv-hba-theta
    # eq. lv-hba-multiplier
    multiplier = project_multiplier.unchecked(
        problem, multiplier + inner_lr * slopes.multiplier, radius=radius
    )
    return Saddle(theta, multiplier)


@checked
def level_step(
    problem: CoupledLevels,
    x: Real[N],
    y: Real[M],
    z: Real[C],
    theta: Real[M],
    multiplier: Real[C],
    *,
    c: PositiveFloat = 1.0,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
    radius: PositiveFloat = 10.0,
    lr: PositiveFloat = 0.1,
    multiplier_lr: PositiveFloat = 0.1,
) -> Levels:
    """One step of both levels and z down the merit.

    Parameters
    ----------
    lr
        Step size of the levels.
    multiplier_lr
        Step size of z.
    """
    d = merit.unchecked(
        problem, x, y, z, theta, multiplier, c=c, gamma1=gamma1, gamma2=gamma2
    )[1]
    # eq. lv-hba-levels
    x, y = problem.project(x - lr * d.x, y - lr * d.y)
    z = project_multiplier.unchecked(problem, z - multiplier_lr * d.z, radius=radius)
    return Levels(x, y, z)


@checked
def lv_hba(
    problem: CoupledLevels,
    x0: Real[N],
    y0: Real[M],
    z0: Real[C],
    *,
    gamma1: PositiveFloat = 1.0,
    gamma2: PositiveFloat = 1.0,
    radius: PositiveFloat = 10.0,
    lr: PositiveFloat = 0.1,
    multiplier_lr: PositiveFloat = 0.1,
    inner_lr: PositiveFloat = 0.1,
    c0: PositiveFloat = 1.0,
    growth: Annotated[float, "(0, 0.5)"] = 0.3,
    gtol: PositiveFloat = 1e-2,
    max_iter: PositiveInt = 5000,
) -> BilevelResult:
    """Solve a problem of two levels with constraints.

    Parameters
    ----------
    x0, y0, z0
        Start; it is projected first. The saddle point starts at y and z.
    c0
        First weight of the lower level.
    growth
        Exponent with which it grows.
    gtol
        Of the weight times the projected gradients, the saddle point's included.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the numbers grew too large.
    """
    shared = {"gamma1": gamma1, "gamma2": gamma2, "radius": radius}
    rates = {"lr": lr, "multiplier_lr": multiplier_lr}
    x, y = problem.project(x0, y0)
    levels = Levels(x, y, project_multiplier.unchecked(problem, z0, radius=radius))
    saddle = Saddle(problem.project_lower(levels.y), levels.z)
    residuals, converged, c = [], False, c0
    while not converged and len(residuals) < max_iter:
        c = c0 * (len(residuals) + 1) ** growth  # eq. lv-hba-weight
        near = saddle_step.unchecked(
            problem, *levels, *saddle, inner_lr=inner_lr, **shared
        )
        new = level_step.unchecked(problem, *levels, *near, c=c, **rates, **shared)
        moves = [
            (((a - b) / rate) ** 2).sum()
            for a, b, rate in (
                (new.x, levels.x, lr),
                (new.y, levels.y, lr),
                (new.z, levels.z, multiplier_lr),
                (near.theta, saddle.theta, inner_lr),
                (near.multiplier, saddle.multiplier, inner_lr),
            )
        ]
        (size,) = floats(sum(moves))
        if not size < 1e200:
            break
        levels, saddle = new, near
        residuals.append(c * math.sqrt(size))
        converged = residuals[-1] <= gtol
    if not converged:
        warnings.warn(
            f"lv_hba: projected gradients are above gtol after {len(residuals)} steps",
            validate.ConvergenceWarning,
            stacklevel=3,
        )
    return BilevelResult(*levels, *saddle, c, residuals, len(residuals), converged)
