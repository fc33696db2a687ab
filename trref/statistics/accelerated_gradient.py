r"""Accelerated gradient for penalties that are not convex: damping that makes the proven bound least.

A sparse estimate minimises :math:`F(x) = \psi(x) + \lambda \|x\|_1`, where the smooth :math:`\psi` is a loss with the
concave part of SCAD or MCP (`trref.statistics.nonconvex_penalties`):

.. math::
    :label: accelerated-gradient-objective

    \psi(x) = f(x) + \sum_j q(x_j) .

The gradient of a convex loss with the constant :math:`L_f` and of q together has the constant
:math:`L = \max\{L_f, \frac1{a-1}\}` or :math:`\max\{L_f, \frac1\gamma\}`: q bends downward only. Three sequences are
kept, with damping

.. math::
    :label: accelerated-gradient-damping

    \alpha_1 = 1, \qquad \alpha_{k+1} = \frac2{1 + \sqrt{1 + 4 / \alpha_k^2}}, \qquad \omega = \frac{0.99}L, \qquad
    \delta_k = \frac\omega{\alpha_k},

which makes the known bound of the complexity least:

.. math::
    :label: accelerated-gradient-step

    \begin{aligned} x^{md} &= (1 - \alpha_k)\, x^{ag} + \alpha_k\, x, \qquad g = \nabla \psi(x^{md}), \\ x &\leftarrow
    \operatorname{soft}(x - \delta_k g,\ \delta_k \lambda), \qquad x^{ag} \leftarrow \operatorname{soft}(x^{md} - \omega
    g,\ \omega \lambda) . \end{aligned}

:math:`\alpha` is set to 1 again when the points slow down,

.. math::
    :label: accelerated-gradient-restart

    \|x^{md}_k - x^{md}_{k-1}\| < \|x^{md}_{k-1} - x^{md}_{k-2}\|,

but not sooner than three steps after it was. With :math:`\alpha = 1` always, this is the proximal gradient method. It
ends when

.. math::
    :label: accelerated-gradient-residual

    \frac{\|x^{md} - x^{ag}\|}\omega \le \text{gtol},

and then the gradient mapping at :math:`x^{ag}` is at most twice that, because one step moves two points apart by a
factor of at most :math:`1 + \omega L < 2`. That is a stationary point; another one may be lower. From the smallest
:math:`\lambda` at which 0 is stationary, the largest entry of the loss's gradient there, a path goes down with each
solution as the next start. Entries in which `penalized` is 0 (an intercept) bear no penalty.

=================  ==================
:math:`\lambda`    `penalty_weight`
:math:`L_f`        `smoothness`
=================  ==================

**Where implementations differ.** The authors' package updates :math:`\alpha` before the first step, which it takes at
0.62, leaves the first entry without a penalty, and ends when :math:`x^{md}` moves little.

**Provenance.** Confirmed in the authors' package (nonconvexAG 1.1.6), but for the test at the end.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.krylov.terms import floats
from trref.signature import (
    Binary,
    N,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)
from trref.statistics.terms import Penalty, moved, penalised


class AcceleratedResult(NamedTuple):
    """Solution; at each point where the gradient was taken, the objective and the gradient mapping's norm."""

    x: Real[N]
    values: list[float]
    residuals: list[float]
    iterations: int
    converged: bool


@checked
def accelerated_gradient(
    loss_and_grad: Callable,
    x0: Real[N],
    penalized: Binary[N] | None = None,
    *,
    smoothness: PositiveFloat = 1.0,
    penalty: Penalty = "mcp",
    penalty_weight: PositiveFloat = 0.1,
    a: Annotated[float, "(2, inf)"] = 3.7,
    gamma: PositiveFloat = 2.0,
    acceleration: Literal["restarted", "plain", "none"] = "restarted",
    gtol: PositiveFloat = 1e-6,
    max_iter: PositiveInt = 5000,
) -> AcceleratedResult:
    """Minimise a loss with a penalty by accelerated gradients.

    Parameters
    ----------
    x0
        Start.
    penalized
        1 for entries that bear the penalty; all if None.
    smoothness
        A Lipschitz constant of the loss's gradient.
    penalty
        Which one; the l1 norm is convex.
    penalty_weight
        The penalty's slope at 0.
    a
        Where SCAD is level, in units of the weight.
    gamma
        Where MCP is level, in units of the weight.
    acceleration
        Damping with restarts or without; none is the proximal gradient method.
    gtol
        The iteration ends when the gradient mapping's norm is at most this.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    # eq. accelerated-gradient-objective
    problem = penalised(loss_and_grad, penalized, penalty, penalty_weight, a, gamma)

    omega = problem.step_size(smoothness)
    x = best = x0
    before, alpha, last = x0, 1.0, 0
    values, residuals, speeds = [], [], []
    for k in range(max_iter):
        if k and acceleration != "none":
            # eq. accelerated-gradient-restart
            slower = k - last >= 3 and speeds[-1] < speeds[-2]
            if acceleration == "restarted" and slower:
                alpha, last = 1.0, k
            else:
                # eq. accelerated-gradient-damping
                alpha = 2 / (1 + math.sqrt(1 + 4 / alpha**2))

        # eq. accelerated-gradient-step
        middle = (1 - alpha) * best + alpha * x
        value, g = problem.smooth(middle)
        x = problem.step(x, g, omega / alpha)
        best = problem.step(middle, g, omega)

        objective = problem.whole(middle, value)
        value, residual, speed = floats(
            objective, moved(middle, best) / omega, moved(middle, before)
        )
        values.append(value)
        residuals.append(residual)
        speeds.append(speed)
        before = middle
        if residual <= gtol:  # eq. accelerated-gradient-residual
            break

    converged = residuals[-1] <= gtol
    if not converged:
        message = f"accelerated_gradient stopped at {residuals[-1]:.2e}, above {gtol:.2e}: {max_iter} iterations"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return AcceleratedResult(best, values, residuals, len(values), converged)
