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

**Where implementations differ.** The authors' code scales the parameters whose name contains "weight" and leaves biases
and the like with :math:`T = 1`; here all entries are scaled, as in the paper's elementwise operator. davda54/sam has no
:math:`\eta`: weights of zero never move in the ascent.

**Provenance.** Confirmed in the authors' code (SamsungLabs/ASAM, with its defaults :math:`\rho = 0.5` and
:math:`\eta = 0.01`) and in davda54/sam.

Kwon, Kim, Park and Choi, *ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
Networks*, 2021, arXiv:2102.11600.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.sharpness import deviations
from trref.sharpness.interfaces import PERTURBED_GRADIENT, WITH_PERTURBATION

__all__ = ["perturbation", "perturbed_gradient"]


def perturbation(loss_and_grad, theta, *, rho=0.5, eta=0.01):
    """Return the worst point of the linearised loss in the adaptive ball, relative to theta (P,)."""
    _, g = validate.loss_and_grad(loss_and_grad, theta)
    T = abs(theta) + eta  # eq. asam-scale
    Tg = T * g
    largest = abs(Tg).max()  # of no effect on the result, but squares of tiny gradients would vanish
    u = Tg / xp.where(largest > 0, largest, 1)
    return rho * T * u / xp.sqrt(xp.maximum((u * u).sum(), 1))  # eq. asam-perturbation


def perturbed_gradient(loss_and_grad, theta, *, rho=0.5, eta=0.01, perturbation=None):
    """Loss and gradient at the perturbed point.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(theta) -> (loss, gradient (P,))``, the same batch in both calls.
    theta : array (P,)
    rho : float
        Radius relative to the weights, in [0, inf); 0.5 to 2 in practice, ten times that of SAM.
    eta : float
        Added to the size of each weight, in [0, inf).
    perturbation : array (P,), optional
        The perturbation to use, held constant by the gradient; computed by `perturbation` when not given.

    Returns
    -------
    loss : scalar array
        At ``theta + perturbation``.
    gradient : array (P,)
        There, too.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, negative `rho` or `eta`.
    """
    validate.inputs(WITH_PERTURBATION, loss_and_grad, theta, perturbation)
    validate.interval("[0, inf)", rho=rho, eta=eta)
    if perturbation is None:
        perturbation = _worst_direction(loss_and_grad, theta, rho=rho, eta=eta)
    return validate.loss_and_grad(loss_and_grad, theta + perturbation)  # eq. asam-gradient


_worst_direction = perturbation


def _weights_of_size_one(inputs):
    """all weights are 1 or -1"""
    return {**inputs, "theta": xp.where(inputs["theta"] < 0, -1.0, 1.0)}


METHOD = Method(
    key="kwon2021asam",
    provenance="confirmed",
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": perturbation},
            settings={"default": {}, "probe": {"rho": 0.3, "eta": 0.2}},
            limits=(
                Limit("sam.perturbed_gradient", {"rho": 0.2, "eta": 0.0}, {"rho": 0.2}, where=_weights_of_size_one),
                Limit("sam.perturbed_gradient", {"rho": 0.0}, {"rho": 0.0}),
            ),
            deviations=(deviations.ASAM_WITHOUT_OFFSET,),
        ),
    ),
)
