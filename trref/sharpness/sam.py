r"""Sharpness-aware minimisation.

Instead of the loss at the weights, minimise the worst loss in a ball of radius :math:`\rho` around them. The worst
point of the linearised loss is

.. math::
    :label: sam-perturbation

    \hat\epsilon(w) = \rho\, \frac{\nabla L(w)}{\|\nabla L(w)\|_2}, \qquad \hat\epsilon(w) = 0
    \text{ where } \nabla L(w) = 0,

with one norm over all parameters. In a ball of another norm, :math:`\|\epsilon\|_p \le \rho` with
:math:`1/p + 1/q = 1`, it is

.. math::
    :label: sam-general-norm

    \hat\epsilon(w) = \rho\, \mathrm{sign}(g)\, \frac{|g|^{q-1}}{\big(\|g\|_q^q\big)^{1/p}}, \qquad g = \nabla L(w),

which is the former for :math:`p = 2`, and :math:`\rho\,\mathrm{sign}(g)` for :math:`p = \infty`. The linearised loss
rises by :math:`\rho \|g\|_q` there. The gradient at that point, with the perturbation held constant,

.. math::
    :label: sam-gradient

    g_{SAM}(w) = \nabla L(w')\big|_{w' = w + \hat\epsilon(w)},

is what a base optimiser gets, at the unperturbed :math:`w`. With several devices each perturbs by its own share of the
batch, and the gradients are averaged. That is *m-sharpness*, for shares :math:`B_k` of m of the N examples:

.. math::
    :label: sam-shares

    g_m(w) = \sum_k \frac{|B_k|}{N}\, \nabla L_{B_k}(w')\big|_{w' = w + \hat\epsilon_{B_k}(w)}

How sharp a point is, :math:`\max_{\|\epsilon\| \le \rho} L(w + \epsilon) - L(w)`, is estimated from below by repeated
steps to the worst point of the linearised loss, each time linearised where the last one ended:

.. math::
    :label: sam-sharpness

    \epsilon_{k+1} = \hat\epsilon(w + \epsilon_k), \quad \epsilon_0 = 0, \qquad S = L(w + \epsilon_K) - L(w)

For a convex loss no step falls.

=====================  ==============================
:math:`w`              `theta`
:math:`m`              `share`
:math:`K`              `steps`
=====================  ==============================

**Where implementations differ.** The derivative of :math:`L(w + \hat\epsilon(w))` has a second term,
:math:`\frac{\rho}{\|g\|} H (g' - \hat g \langle\hat g, g'\rangle)`, that SAM drops: frameworks must stop the gradient
at the perturbation. Public code adds 1e-12 (davda54/sam) or 1e-16 (SamsungLabs/ASAM) to the norm; here a zero gradient
gives no perturbation instead. A norm per tensor is another method. Subtracting the perturbation again, instead of
keeping the weights, leaves rounding behind.

**Provenance.** Confirmed in davda54/sam, SamsungLabs/ASAM, pytorch_optimizer and optax; the general norm, the shares
and the repeated ascent from memory of the paper and standard theory, checked.

Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*, 2020,
arXiv:2010.01412.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import xp
from trref.problems.protocols import SampleLoss
from trref.signature import (
    K,
    NonNegativeFloat,
    P,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Norm = Annotated[float, "(1, inf)"] | Literal["inf"]


@checked
def worst_perturbation(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.05,
    p: Norm = 2.0,
) -> Real[P]:
    """The worst point of the linearised loss in the ball, relative to theta.

    Parameters
    ----------
    rho
        0.05 in the paper.
    p
        Which norm bounds the perturbation, or the largest entry; 2 in the paper's experiments.
    """
    _, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    largest = abs(g).max()  # of no effect, but powers of tiny gradients would vanish
    u = abs(g) / xp.where(largest > 0, largest, 1)
    # eq. sam-perturbation, sam-general-norm
    q = 1.0 if p == "inf" else p / (p - 1)
    return rho * xp.sign(g) * u ** (q - 1) / xp.maximum((u**q).sum(), 1) ** (1 - 1 / q)


@checked
def perturbed_gradient(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.05,
    p: Norm = 2.0,
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient at the perturbed point.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `worst_perturbation` if None.
    """
    if perturbation is None:
        perturbation = worst_perturbation.unchecked(loss_and_grad, theta, rho=rho, p=p)
    moved = theta + perturbation
    return validate.loss_and_grad(loss_and_grad, moved, finite=True)  # eq. sam-gradient


@checked
def share_perturbations(
    loss_and_grad: SampleLoss,
    theta: Real[P],
    *,
    share: PositiveInt,
    rho: NonNegativeFloat = 0.05,
    p: Norm = 2.0,
) -> Real[K, P]:
    """Each share's own perturbation.

    Parameters
    ----------
    loss_and_grad
        A mean over samples, such as `trref.problems.networks.ClassifierLoss`.
    share
        Samples in a share; the last share may be smaller.
    """
    parts, _ = _shares(loss_and_grad, share)
    worst = worst_perturbation.unchecked
    return xp.stack([worst(part, theta, rho=rho, p=p) for part in parts])


def _shares(loss_and_grad, share):
    """The loss on each share of the batch, and the share's weight."""
    points = len(loss_and_grad)
    starts = range(0, points, share)
    sizes = [min(share, points - start) for start in starts]
    pairs = zip(starts, sizes, strict=True)
    parts = [loss_and_grad.on(slice(start, start + size)) for start, size in pairs]
    return parts, [size / points for size in sizes]


@checked
def share_gradient(
    loss_and_grad: SampleLoss,
    theta: Real[P],
    *,
    share: PositiveInt,
    rho: NonNegativeFloat = 0.05,
    p: Norm = 2.0,
    perturbations: Real[K, P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and gradient with a perturbation for each share of the batch (m-sharpness).

    Parameters
    ----------
    perturbations
        Held constant by the gradient; the `share_perturbations` if None.
    """
    if perturbations is None:
        perturbations = share_perturbations.unchecked(
            loss_and_grad, theta, share=share, rho=rho, p=p
        )
    (parts, weights), rows = _shares(loss_and_grad, share), len(perturbations)
    if len(parts) != rows:
        raise ValueError(f"perturbations must have {len(parts)} rows, not {rows}")
    each = [
        validate.loss_and_grad(part, theta + moved, finite=True)
        for part, moved in zip(parts, perturbations, strict=True)
    ]
    # eq. sam-shares
    loss = sum(w * value for w, (value, _) in zip(weights, each, strict=True))
    terms = (w * g for w, (_, g) in zip(weights, each, strict=True))
    gradient = sum(terms, xp.zeros_like(theta))
    return loss, gradient


@checked
def sharpness(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.05,
    p: Norm = 2.0,
    steps: PositiveInt = 1,
) -> Scalar:
    """How far the loss rises within the ball, from below: by steps to the worst point of the linearised loss.

    Parameters
    ----------
    steps
        1 is SAM's own estimate.
    """
    # eq. sam-sharpness
    moved, worst = xp.zeros_like(theta), worst_perturbation.unchecked
    for _ in range(steps):
        moved = worst(loss_and_grad, theta + moved, rho=rho, p=p)
    above, here = (
        validate.loss_and_grad(loss_and_grad, point, finite=True)[0]
        for point in (theta + moved, theta)
    )
    return above - here
