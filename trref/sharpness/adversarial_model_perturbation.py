r"""Adversarial model perturbation (AMP): ascent with a fixed step, cut to a ball.

The loss to be minimised is the worst one in a ball around the weights,

.. math::
    :label: adversarial-model-perturbation-loss

    L_{AMP}(\theta) = \max_{\|\Delta\|_2 \le \rho} L(\theta + \Delta),

as in :mod:`trref.sharpness.sam`. The worst point is sought by N steps of gradient ascent from :math:`\Delta_0 = 0`, on
the same batch, each put back into the ball:

.. math::
    :label: adversarial-model-perturbation-ascent

    \tilde\Delta = \Delta_k + \zeta\, \nabla L(\theta + \Delta_k), \qquad
    \Delta_{k+1} = \tilde\Delta\, \min\Big(1, \frac{\rho}{\|\tilde\Delta\|_2}\Big).

SAM normalises the gradient; AMP only bounds it. Where the step leaves the ball, which it does for
:math:`\zeta \|\nabla L\| \ge \rho`, one step is SAM's. Where the gradient is small the perturbation is small, too:
late in training AMP fades out. A base optimiser gets the gradient

.. math::
    :label: adversarial-model-perturbation-gradient

    g_{AMP}(\theta) = \nabla L(\theta')\big|_{\theta' = \theta + \Delta_N},

with the perturbation held constant. If :math:`\Delta_N` is the only worst point that is the derivative of
:math:`L_{AMP}`, by Danskin's theorem.

Why it prefers wide wells: for one Gaussian well :math:`C - A \exp(-\frac12 (\theta - m)^\top K (\theta - m))` the least
worst loss is :math:`C - A \exp(-\rho^2 \sigma^2 / 2)`, at its centre, where :math:`\sigma^2` is the largest eigenvalue
of K. Of two wells that are far apart the deeper one, if it is narrower, loses once
:math:`\rho^2 > 2 \ln(A_1 / A_2) / (\sigma_1^2 - \sigma_2^2)`.

=====================  ==================
:math:`\zeta`          `inner_lr`
:math:`N`              `steps`
:math:`\Delta`         `perturbation`
=====================  ==================

**Where implementations differ.** The authors' code puts each parameter *tensor* into a ball of its own, so that the
whole perturbation may be longer by the root of their number. Its training loop clips the gradient to norm 50 within
every evaluation, which clips the ascent, too.

**Provenance.** The ascent, its order and the defaults (:math:`\zeta = 1`, one step) are confirmed in the authors' code
(hiyouga/AMP-Regularizer), the loss in the abstract; the single ball and the wells are from memory of the paper, and
checked.

Zheng, Zhang and Mao, *Regularizing Neural Networks via Adversarial Model Perturbation*, 2020, arXiv:2010.04925.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.signature import (
    NonNegativeFloat,
    P,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


@checked
def worst_perturbation(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.5,
    inner_lr: NonNegativeFloat = 1.0,
    steps: PositiveInt = 1,
) -> Real[P]:
    """Where projected gradient ascent in the ball ends, relative to theta.

    Parameters
    ----------
    inner_lr
        Step length of the ascent.
    steps
        Of the ascent, a gradient each; 1 in the paper.
    """
    moved = xp.zeros_like(theta)
    for _ in range(steps):
        _, g = validate.loss_and_grad(loss_and_grad, theta + moved, finite=True)
        # eq. adversarial-model-perturbation-ascent
        moved = moved + inner_lr * g
        largest = abs(moved).max()  # of no effect, but squares would overflow or vanish
        largest = xp.where(largest > 0, largest, 1)
        u = moved / largest
        moved = moved * xp.minimum(rho / largest / xp.sqrt(xp.maximum(u @ u, 1)), 1)
    return moved


@checked
def perturbed_gradient(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.5,
    inner_lr: NonNegativeFloat = 1.0,
    steps: PositiveInt = 1,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """The estimate of the worst loss in the ball, and the gradient there.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `worst_perturbation` if None.
    """
    if perturbation is None:
        perturbation = worst_perturbation.unchecked(
            loss_and_grad, theta, rho=rho, inner_lr=inner_lr, steps=steps
        )
    moved = theta + perturbation
    # eq. adversarial-model-perturbation-loss, adversarial-model-perturbation-gradient
    return validate.loss_and_grad(loss_and_grad, moved, finite=True)
