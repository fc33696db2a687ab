r"""Proximal conjugate gradients: the Polak-Ribière rule for the gradient mapping of a penalised loss.

An objective :math:`F = \psi + \lambda \|\cdot\|_1`, with the loss and the concave part of the penalty in
:math:`\psi` (`trref.statistics.accelerated_gradient`), has no gradient where entries are 0. What takes its place is
how far a proximal gradient step would move,

.. math::
    :label: proximal-cg-mapping

    G_t(x) = \frac1t \big( x - \operatorname{soft}(x - t \nabla \psi(x),\ t \lambda) \big),

which is the gradient for :math:`\lambda = 0`, and 0 at stationary points. From :math:`d_0 = -G_t(x_0)`, a trial goes
along the direction and makes a proximal gradient step there,

.. math::
    :label: proximal-cg-trial

    u = x + \alpha t\, d, \qquad x^+ = \operatorname{soft}(u - t \nabla \psi(u),\ t \lambda),

with :math:`\alpha` halved, from twice the last one on, until the objective is lower by

.. math::
    :label: proximal-cg-decrease

    F(x^+) \le F(x) - c\, \frac{\|x^+ - x\|^2}t .

If no :math:`\alpha` will do, the step is the proximal gradient step at x, which ensures that for :math:`t = 0.99/L` and
:math:`c \le \tfrac12`, and the direction starts anew. Else the directions are conjugate as those of Polak and Ribière,

.. math::
    :label: proximal-cg-direction

    \beta = \max\Big\{ 0,\ \frac{\langle G^+, G^+ - G \rangle}{\|G\|^2} \Big\}, \qquad d^+ = -G^+ + \beta d,

and start anew where they would not descend, :math:`\langle d^+, G^+ \rangle \ge 0`. A step costs two gradients or more.
Where the decrease asked for is below the rounding of F, steps are mostly plain ones.

=================  ==================
:math:`\lambda`    `penalty_weight`
:math:`t`          `lr`
:math:`c`          `decrease`
=================  ==================

**Where implementations differ.** No public code of this method is known. The number :math:`10^{-4}`, at most ten
trials and :math:`\alpha \le 64` are choices made here, and so is the first :math:`\alpha`: were it 1 at each step, G
would shrink along the way, :math:`\beta` would be 0, and the method two proximal gradient steps at a time.

**Provenance.** Reconstructed from the thesis' abstract, which names the method.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

import warnings
from collections.abc import Callable
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.signature import (
    Binary,
    N,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)
from trref.statistics.terms import Penalty, penalised

TRIALS, LONGEST = 10, 64.0


class ProximalCgResult(NamedTuple):
    """Solution; the objective and the gradient mapping's norm at the start and after each step."""

    x: Real[N]
    values: list[float]
    residuals: list[float]
    iterations: int
    converged: bool


@checked
def gradient_mapping(
    loss_and_grad: Callable,
    theta: Real[N],
    penalized: Binary[N] | None = None,
    *,
    lr: PositiveFloat = 0.1,
    penalty: Penalty = "mcp",
    penalty_weight: PositiveFloat = 0.1,
    a: Annotated[float, "(2, inf)"] = 3.7,
    gamma: PositiveFloat = 2.0,
) -> Real[N]:
    """How far a proximal gradient step moves, over its length.

    Parameters
    ----------
    penalized
        1 for entries that bear the penalty; all if None.
    penalty
        Which one; the l1 norm is convex.
    penalty_weight
        The penalty's slope at 0.
    a
        Where SCAD is level, in units of the weight.
    gamma
        Where MCP is level, in units of the weight.
    """
    problem = penalised(loss_and_grad, penalized, penalty, penalty_weight, a, gamma)
    g = problem.smooth(theta)[1]
    return (theta - problem.step(theta, g, lr)) / lr  # eq. proximal-cg-mapping


@checked
def proximal_cg(
    loss_and_grad: Callable,
    x0: Real[N],
    penalized: Binary[N] | None = None,
    *,
    smoothness: PositiveFloat = 1.0,
    penalty: Penalty = "mcp",
    penalty_weight: PositiveFloat = 0.1,
    a: Annotated[float, "(2, inf)"] = 3.7,
    gamma: PositiveFloat = 2.0,
    decrease: Annotated[float, "(0, 0.5]"] = 1e-4,
    gtol: PositiveFloat = 1e-6,
    max_iter: PositiveInt = 2000,
) -> ProximalCgResult:
    """Minimise a loss with a penalty by proximal conjugate gradients.

    Parameters
    ----------
    x0
        Start.
    smoothness
        A Lipschitz constant of the loss's gradient.
    decrease
        Of the objective at a step, in units of its squared length over the proximal step's.
    gtol
        The iteration ends when the gradient mapping's norm is at most this.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    problem = penalised(loss_and_grad, penalized, penalty, penalty_weight, a, gamma)
    t = problem.step_size(smoothness)

    def look(x):
        """What is wanted of a point: itself, its objective, the step from it, and the gradient mapping."""
        value, g = problem.smooth(x)
        step = problem.step(x, g, t)
        return x, problem.whole(x, value), step, (x - step) / t

    x, value, step, G = look(x0.copy())
    value, squared = floats(value, G @ G)
    d, alpha, values, residuals = -G, 1.0, [value], [squared**0.5]
    while residuals[-1] > gtol and len(values) <= max_iter:
        for _ in range(TRIALS):
            # eq. proximal-cg-trial
            trial, value, onward, mapping = look(look(x + alpha * t * d)[2])

            # eq. proximal-cg-decrease
            way = trial - x
            value, far = floats(value, way @ way)
            if value <= values[-1] - decrease * far / t:
                break
            alpha /= 2
        else:
            d, alpha = xp.zeros_like(d), 0.5
            trial, value, onward, mapping = look(step)
            value = float(value)

        # eq. proximal-cg-direction
        squared, beta, along = floats(
            mapping @ mapping, mapping @ (mapping - G), mapping @ d
        )
        beta = max(0.0, beta / residuals[-1] ** 2)
        descends = beta * along < squared
        d = -mapping + beta * d if descends else -mapping

        alpha = min(2 * alpha, LONGEST)
        x, step, G = trial, onward, mapping
        values.append(value)
        residuals.append(squared**0.5)

    converged = residuals[-1] <= gtol
    if not converged:
        message = f"proximal_cg stopped at {residuals[-1]:.2e}, above {gtol:.2e}: {max_iter} iterations"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return ProximalCgResult(x, values, residuals, len(values) - 1, converged)
