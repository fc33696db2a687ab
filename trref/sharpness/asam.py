r"""Adaptive sharpness-aware minimisation (ASAM): a ball that is measured in the weights' own size.

Multiply one layer of a ReLU network by c and divide the next by it: the function is the same, yet a ball of fixed
radius sees another sharpness. ASAM bounds each weight's perturbation relative to that weight,

.. math::
    :label: asam-scale

    \|T_w^{-1} \epsilon\|_2 \le \rho, \qquad T_w = \mathrm{diag}(|w| + \eta),

where a small :math:`\eta` lets weights of zero move, too. The worst point of the linearised loss is

.. math::
    :label: asam-perturbation

    \hat\epsilon(w) = \rho\, \frac{T_w^2\, g}{\|T_w\, g\|_2}, \qquad g = \nabla L(w),
    \qquad \hat\epsilon(w) = 0 \text{ where } T_w\, g = 0,

and the loss rises by :math:`\rho \|T_w g\|_2` there, to first order. With :math:`\eta = 0` that does not change when
weights are rescaled in a way that leaves the function as it is. As in :mod:`trref.sharpness.sam` the gradient

.. math::
    :label: asam-gradient

    g_{ASAM}(w) = \nabla L(w')\big|_{w' = w + \hat\epsilon(w)}

is taken with the perturbation held constant, and used at the unperturbed :math:`w`.

=====================  ==============
:math:`w`              `theta`
:math:`\eta`           `offset`
=====================  ==============

**Where implementations differ.** The authors' code scales the parameters whose name contains "weight" and leaves biases
and the like with :math:`T = 1`; here all entries are scaled, as in the paper's elementwise operator. davda54/sam has no
:math:`\eta`: weights of zero never move in the ascent.

**Provenance.** Confirmed in the authors' code (SamsungLabs/ASAM, with its defaults :math:`\rho = 0.5` and
:math:`\eta = 0.01`) and in davda54/sam.

Kwon, Kim, Park and Choi, *ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks*, 2021, arXiv:2102.11600.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.signature import NonNegativeFloat, P, Real, Scalar, checked


@checked
def worst_perturbation(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.5,
    offset: NonNegativeFloat = 0.01,
) -> Real[P]:
    """The worst point of the linearised loss in the adaptive ball, relative to theta.

    Parameters
    ----------
    rho
        Relative to the weights: 0.5 to 2 in practice, ten times that of SAM.
    offset
        Added to the size of each weight.
    """
    _, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    T = abs(theta) + offset  # eq. asam-scale
    Tg = T * g
    largest = abs(Tg).max()  # of no effect, but squares of tiny gradients would vanish
    u = Tg / xp.where(largest > 0, largest, 1)
    # eq. asam-perturbation
    return rho * T * u / xp.sqrt(xp.maximum((u * u).sum(), 1))


@checked
def perturbed_gradient(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.5,
    offset: NonNegativeFloat = 0.01,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient at the perturbed point.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `worst_perturbation` if None.
    """
    if perturbation is None:
        perturbation = worst_perturbation.unchecked(
            loss_and_grad, theta, rho=rho, offset=offset
        )
    moved = theta + perturbation
    # eq. asam-gradient
    return validate.loss_and_grad(loss_and_grad, moved, finite=True)
