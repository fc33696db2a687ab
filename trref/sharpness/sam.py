r"""Sharpness-aware minimisation.

Instead of the loss at the weights, minimise the worst loss in a ball of radius :math:`\rho` around them. The worst
point of the linearised loss is

.. math::
    :label: sam-perturbation

    \hat\epsilon(w) = \rho\, \frac{\nabla L(w)}{\|\nabla L(w)\|_2}, \qquad \hat\epsilon(w) = 0
    \text{ where } \nabla L(w) = 0,

with one norm over all parameters, and the gradient taken there, with the perturbation held constant,

.. math::
    :label: sam-gradient

    g_{SAM}(w) = \nabla L(w')\big|_{w' = w + \hat\epsilon(w)},

is what a base optimiser gets, at the unperturbed :math:`w`.

**Where implementations differ.** The derivative of :math:`L(w + \hat\epsilon(w))` has a second term,
:math:`\frac{\rho}{\|g\|} H (g' - \hat g \langle\hat g, g'\rangle)`, that SAM drops: frameworks must stop the gradient
at the perturbation. Public code adds 1e-12 to the norm; here a zero gradient gives no perturbation instead. A norm
per tensor is another method.

**Provenance.** Confirmed in davda54/sam, pytorch_optimizer and optax.

Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*, 2020,
arXiv:2010.01412.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Method, Objective
from trref.sharpness.interfaces import PERTURBED_GRADIENT

__all__ = ["perturbation", "perturbed_gradient"]


def perturbation(loss_and_grad, theta, *, rho=0.05):
    """Return the worst point of the linearised loss in the ball of radius rho, relative to theta (P,)."""
    _, g = validate.loss_and_grad(loss_and_grad, theta)
    norm = xp.sqrt((g * g).sum())
    return xp.where(norm > 0, rho / xp.where(norm > 0, norm, 1), 0).astype(theta.dtype) * g  # eq. sam-perturbation


def perturbed_gradient(loss_and_grad, theta, *, rho=0.05, perturbation=None):
    """Loss and gradient at the perturbed point.

    Parameters
    ----------
    loss_and_grad : callable
        ``loss_and_grad(theta) -> (loss, gradient (P,))``, the same batch in both calls.
    theta : array (P,)
    rho : float
        Radius, in [0, inf); 0.05 in the paper.
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
        Wrong shapes, values that are not finite, negative `rho`.
    """
    validate.inputs(PERTURBED_GRADIENT.inputs, loss_and_grad, theta)
    validate.interval("[0, inf)", rho=rho)
    if perturbation is None:
        perturbation = _worst_direction(loss_and_grad, theta, rho=rho)
    return validate.loss_and_grad(loss_and_grad, theta + perturbation)  # eq. sam-gradient


_worst_direction = perturbation

METHOD = Method(
    title="Sharpness-Aware Minimization for Efficiently Improving Generalization",
    key="foret2020sharpness",
    arxiv="2010.01412",
    provenance="confirmed",
    functions=(
        Objective(
            f=perturbed_gradient,
            interface=PERTURBED_GRADIENT,
            wrt="theta",
            stopped={"perturbation": perturbation},
            settings={"default": {}, "probe": {"rho": 0.3}},
        ),
    ),
)
