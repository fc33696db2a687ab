r"""IGNITE: a surrogate whose predictions do not hang on its weights.

Offline optimisation fits a surrogate :math:`h_\omega` to data and then climbs it, to where it was never right. IGNITE
fits it such that its *mean prediction* over a batch B,

.. math::
    :label: ignite-mean-output

    G(\omega) = \frac{1}{|B|} \sum_{x \in B} h_\omega(x), \qquad g = \nabla_\omega G,

changes little when the weights move. To first order its *sharpness* is the length of its gradient,

.. math::
    :label: ignite-sharpness

    \max_{\|\delta\| \le \rho} |G(\omega + \delta) - G(\omega)| \approx \rho\, \|g(\omega)\|,

which is to stay below a threshold :math:`\epsilon`. With a multiplier for that constraint the loss L is replaced by

.. math::
    :label: ignite-lagrangian

    L(\omega) + \lambda\, \big(\rho\, \|g(\omega)\| - \epsilon\big), \qquad
    \nabla = \nabla L + \lambda \rho\, \nabla^2 G\, \frac{g}{\|g\|}.

The product with the Hessian becomes a difference of two gradients, a short way r along g:

.. math::
    :label: ignite-difference

    \nabla L + \frac{\lambda\rho}{r}\, \big(\nabla G(\omega + d) - \nabla G(\omega)\big), \qquad
    d = r\, \frac{g}{\|g\|}, \quad d = 0 \text{ where } g = 0,

the gradient of :math:`L + \lambda \big(\frac{\rho}{r} (G(\omega + d) - G(\omega)) - \epsilon\big)` with d held
constant. The ascent is SAM's, but of the prediction and not of the loss. After each step of the weights the multiplier
moves,

.. math::
    :label: ignite-multiplier

    \lambda \leftarrow \max\big(0,\; \lambda + \eta\, (\rho\, \|g\| - \epsilon)\big).

A constant multiplier (IGNITE-2) makes a penalty of the constraint. A network whose last layer has a bias has
:math:`\|g\| \ge 1`: with :math:`\epsilon < \rho` the constraint cannot be met, and the multiplier grows without end. A
surrogate that is linear in its weights is left alone.

=====================  ==================
:math:`\omega`         `theta`
:math:`G`              `mean_output`
:math:`\lambda`        `penalty_weight`
:math:`r`              `inner_rho`
:math:`\epsilon`       `threshold`
:math:`d`              `perturbation`
=====================  ==================

**Where implementations differ.** The authors' code lets the multiplier become negative, where a constraint is met for
long: it then rewards sharpness.

**Provenance.** The step, both variants and the defaults are confirmed in the authors' code (cuong-dm/IGNITE), sharpness
and the constrained problem by a public summary of the paper; that the multiplier is kept from becoming negative is
ours.

Dao, Le Nguyen, Truong and Hoang, *Incorporating Surrogate Gradient Norm to Improve Offline Optimization Techniques*,
2024, arXiv:2503.04242.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.problems.protocols import CurvedLoss
from trref.sharpness.terms import direction, length
from trref.signature import (
    NonNegativeFloat,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def output_sharpness(
    mean_output: Callable, theta: Real[P], *, rho: NonNegativeFloat = 0.05
) -> Scalar:
    """How far the mean prediction moves within the ball, to first order.

    Parameters
    ----------
    mean_output
        ``mean_output(theta) -> (mean prediction, gradient)``, such as `trref.problems.networks.MeanOutput`.
    rho
        Radius of the ball of weights.
    """
    g = _output(mean_output, theta)[1]  # eq. ignite-mean-output
    return xp.asarray(rho * length(g))  # eq. ignite-sharpness


def _output(mean_output, theta):
    return validate.loss_and_grad(mean_output, theta, "mean_output", finite=True)


@checked
def output_perturbation(
    mean_output: Callable, theta: Real[P], *, inner_rho: PositiveFloat = 0.05
) -> Real[P]:
    """A short way along which the mean prediction rises.

    Parameters
    ----------
    inner_rho
        Its length.
    """
    return inner_rho * direction(_output(mean_output, theta)[1])


@checked
def penalised_fit(
    loss_and_grad: Callable,
    mean_output: Callable,
    theta: Real[P],
    *,
    penalty_weight: NonNegativeFloat = 0.01,
    rho: NonNegativeFloat = 0.05,
    inner_rho: PositiveFloat = 0.05,
    threshold: NonNegativeFloat = 0.1,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and constraint, by a difference of two gradients.

    Parameters
    ----------
    penalty_weight
        The multiplier.
    threshold
        What the sharpness is to stay below.
    perturbation
        Held constant by the gradient; the `output_perturbation` if None.
    """
    loss, gradient = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    G, g = _output(mean_output, theta)
    if perturbation is None:
        perturbation = inner_rho * direction(g)
    G_there, g_there = _output(mean_output, theta + perturbation)
    # eq. ignite-difference
    scale = rho / inner_rho
    value = loss + penalty_weight * (scale * (G_there - G) - threshold)
    return value, gradient + penalty_weight * scale * (g_there - g)


@checked
def penalised_fit_exact(
    loss_and_grad: Callable,
    mean_output: CurvedLoss,
    theta: Real[P],
    *,
    penalty_weight: NonNegativeFloat = 0.01,
    rho: NonNegativeFloat = 0.05,
    threshold: NonNegativeFloat = 0.1,
) -> tuple[Scalar, Real[P]]:
    """Loss and constraint, with the exact gradient.

    Parameters
    ----------
    mean_output
        With ``hessian_product(theta, v)``.
    """
    loss, gradient = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    g = _output(mean_output, theta)[1]
    Hu = mean_output.hessian_product(theta, direction(g))
    # eq. ignite-lagrangian
    value = loss + penalty_weight * (rho * length(g) - threshold)
    return value, gradient + penalty_weight * rho * Hu


@checked
def multiplier_step(
    mean_output: Callable,
    theta: Real[P],
    multiplier: Scalar,
    *,
    lr: PositiveFloat = 1e-3,
    rho: NonNegativeFloat = 0.05,
    threshold: NonNegativeFloat = 0.1,
) -> Scalar:
    """The next multiplier, of the weights before their step.

    Parameters
    ----------
    multiplier
        The last one.
    """
    over = output_sharpness.unchecked(mean_output, theta, rho=rho) - threshold
    # eq. ignite-multiplier
    return xp.asarray(xp.maximum(multiplier + lr * over, 0))
