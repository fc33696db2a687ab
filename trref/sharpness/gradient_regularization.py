r"""Gradient regularisation: a penalty on the squared gradient, by one more gradient.

To the loss is added the squared norm of its gradient :math:`g = \nabla L`,

.. math::
    :label: gradient-regularization-objective

    \tilde L(\theta) = L(\theta) + \frac{\gamma}{2} \|g(\theta)\|^2, \qquad
    \nabla \tilde L = g + \gamma H g,

H the Hessian of L. Instead of a product with H, a difference of two gradients along g will do, forward or backward,

.. math::
    :label: gradient-regularization-differences

    \Delta_F = \frac{g(\theta + \varepsilon a) - g(\theta)}{\varepsilon}, \qquad
    \Delta_B = \frac{g(\theta) - g(\theta - \varepsilon a)}{\varepsilon}, \qquad a = g(\theta),

or the mean of the two. For a quadratic loss all of them are Hg. Otherwise they are not, and the paper's point is that
the forward difference with a fairly long :math:`\varepsilon` is not only cheaper than Hg but regularises better: it
sees the curvature uphill. What is followed,

.. math::
    :label: gradient-regularization-step

    g + \gamma\, \Delta_F
    = \nabla_\theta \Big[\Big(1 - \frac\gamma\varepsilon\Big) L(\theta)
    + \frac\gamma\varepsilon\, L(\theta + \varepsilon a)\Big]_{a = g},

is the gradient of a mean of two losses with a held constant: for :math:`\gamma = \varepsilon` that is the loss after an
unnormalised step of ascent, SAM without its norm. *Flooding*, which keeps the loss at a level b,

.. math::
    :label: gradient-regularization-flooding

    L_b(\theta) = |L(\theta) - b| + b,

does the same unasked: one step of ascent and one of descent, each of length :math:`\eta`, end at
:math:`\theta - \eta^2 \Delta_F(\eta)`, and in the other order at :math:`\theta - \eta^2 \Delta_B(\eta)`. At the level
itself its gradient is taken to be 0.

======================  ==================
:math:`\gamma`          `penalty_weight`
:math:`\varepsilon`     `inner_lr`
:math:`b`               `level`
======================  ==================

**Where implementations differ.** A trainer that cites the method clips both gradients before it takes their difference:
where they are long the difference of two unit vectors is left. Others step along the gradient divided by its norm and
multiply the difference by the norm: the same with :math:`\varepsilon / \|g\|` for :math:`\varepsilon`.

**Provenance.** The objective and the differences are confirmed by public summaries, the step by the code of a later
paper that uses it (JohannesAck/gradientregularization_trl); the identities of flooding are checked here.

Karakida, Takase, Hayase and Osawa, *Understanding Gradient Regularization in Deep Learning: Efficient Finite-Difference
Computation and Implicit Bias*, 2022, arXiv:2210.02720.
"""

from collections.abc import Callable
from typing import Literal

from trref import validate
from trref.backend import xp
from trref.problems.protocols import CurvedLoss
from trref.signature import (
    FiniteFloat,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


@checked
def penalised_loss(
    loss_and_grad: CurvedLoss,
    theta: Real[P],
    *,
    penalty_weight: NonNegativeFloat = 0.1,
) -> tuple[Scalar, Real[P]]:
    """Loss and penalty, with the exact gradient.

    Parameters
    ----------
    loss_and_grad
        With ``hessian_product(theta, v)``, such as `trref.problems.networks.ClassifierLoss`.
    penalty_weight
        0.01 to 0.1 in practice.
    """
    loss, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    Hg = loss_and_grad.hessian_product(theta, g)
    # eq. gradient-regularization-objective
    return loss + penalty_weight / 2 * (g * g).sum(), g + penalty_weight * Hg


@checked
def ascent_direction(loss_and_grad: Callable, theta: Real[P]) -> Real[P]:
    """The gradient, along which the differences are taken."""
    return xp.array(validate.loss_and_grad(loss_and_grad, theta, finite=True)[1])


@checked
def finite_difference_gradient(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    penalty_weight: NonNegativeFloat = 0.1,
    inner_lr: PositiveFloat = 0.1,
    scheme: Literal["forward", "backward", "central"] = "forward",
    ascent: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """A combination of losses whose gradient has a difference of gradients in the place of the Hessian product.

    Parameters
    ----------
    inner_lr
        How far along the gradient; 0.01 to 0.1 in practice.
    scheme
        Uphill, downhill or both; forward in the paper.
    ascent
        Held constant by the gradient; the `ascent_direction` if None.
    """
    here = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    along = here[1] if ascent is None else ascent
    ahead = behind = here
    if scheme != "backward":
        uphill = theta + inner_lr * along
        ahead = validate.loss_and_grad(loss_and_grad, uphill, finite=True)
    if scheme != "forward":
        downhill = theta - inner_lr * along
        behind = validate.loss_and_grad(loss_and_grad, downhill, finite=True)
    # eq. gradient-regularization-differences
    span = inner_lr * (2 if scheme == "central" else 1)
    rise, difference = ((a - b) / span for a, b in zip(ahead, behind, strict=True))
    # eq. gradient-regularization-step
    return here[0] + penalty_weight * rise, here[1] + penalty_weight * difference


@checked
def flooding(
    loss_and_grad: Callable, theta: Real[P], *, level: FiniteFloat = 0.1
) -> tuple[Scalar, Real[P]]:
    """The loss, reflected at a level.

    Parameters
    ----------
    level
        Below it the loss is made to rise.
    """
    loss, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    above = loss - level
    # eq. gradient-regularization-flooding
    return abs(above) + level, xp.sign(above) * g
