r"""Conflict-aware gradient agreement augmentation (CG2A): augmentations of one batch, balanced and in agreement.

**Reconstructed:** only the paper's abstract could be read. It names two parts, a *gradient agreement solver* that
balances magnitudes, and a *soft gradient surgery* that eases conflicts. The equations of both are built here from
older methods that the words point to; none of them should be quoted as the paper's.

A batch is augmented in n ways, and each way gives a gradient :math:`g_i` at the same parameters. Strong augmentations
give long gradients that would outvote the others. What counts here is the direction, and how far each agrees with the
group,

.. math::
    :label: cg2a-agreement

    \hat g_i = \frac{g_i}{\|g_i\|}, \qquad a_i = \sum_{j=1}^n \hat g_i \cdot \hat g_j,

because a step :math:`-\alpha \sum_i w_i \hat g_i` lowers the sum of all losses, each in units of its gradient's norm,
by :math:`\alpha \sum_i w_i a_i` to first order. The weights are

.. math::
    :label: cg2a-weights

    w_i = \frac{\max(a_i, 0)}{\sum_j \max(a_j, 0)}, \qquad \text{equal where all of these are } 0.

At least one :math:`a_i` is not negative, as their sum is :math:`\|\sum_i \hat g_i\|^2`. So that learning rates keep
their meaning, the lengths are restored on average, by the mean norm :math:`\bar m`:

.. math::
    :label: cg2a-rescaled

    m_i = n\, w_i\, \bar m\, \hat g_i, \qquad \bar m = \frac1n \sum_{i=1}^n \|g_i\|

Then every coordinate k is asked how far the n vectors :math:`m_i` agree on its sign,

.. math::
    :label: cg2a-sign-agreement

    u_k = \sum_{i=1}^n m_{ik}, \qquad \kappa_k = \frac{|u_k|}{\sum_i |m_{ik}|} \in [0, 1],

and their mean is attenuated there, not deleted:

.. math::
    :label: cg2a-surgery

    g_k = \frac1n\, \kappa_k^{\tau}\, u_k

With :math:`\tau = 0` that is the mean; as :math:`\tau` grows only coordinates remain in which nobody disagrees. As
:math:`g \cdot u = \frac1n \sum_k \kappa_k^\tau u_k^2 \ge 0`, a step never ascends on the sum of the rescaled losses; on
a single one it may. Where the signs are random, :math:`\kappa` is about :math:`1/\sqrt n` everywhere, and the surgery
is little else than a shorter step.

How far the gradients disagree before any of this is told by

.. math::
    :label: cg2a-diagnostics

    c_{ij} = \hat g_i \cdot \hat g_j, \qquad
    \text{conflicts} = \frac{2}{n(n-1)} \#\{i < j: c_{ij} < 0\}, \qquad
    s_k = \frac1n \Big|\sum_i \operatorname{sign} g_{ik}\Big|.

A gradient that is 0 has the direction 0: it agrees with nobody, and its weight is 0 unless all weigh the same. A
coordinate that is 0 in all gradients is 0 in the result. The surgery acts on the gradients, before an optimiser such
as Adam divides them.

**Where implementations differ.** The older *gradient agreement* weighs by the inner products of the gradients
themselves, :math:`a_i = \sum_j g_i \cdot g_j`, over :math:`\sum_j |a_j|` (``normalise=False``): the longest gradient
then has most of the weight.

**Provenance.** Reconstructed, as said above: weights after gradient agreement (arXiv:1810.08178) on directions, surgery
after the agreement-sum of Mansilla et al. (2021), made soft.

Liu, Chen, Liu, Wang, Yang, Zhao, Zhou, Yi, Li, Zhang and Gan, *Improving Generalization in Visual Reinforcement
Learning via Conflict-aware Gradient Agreement Augmentation*, 2023, arXiv:2308.01194.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.gradients.terms import unit
from trref.signature import M, NonNegativeFloat, P, Prob, Real, Scalar, checked


class Diagnostics(NamedTuple):
    """How far gradients differ."""

    norms: Real[M]
    """Of each gradient."""
    cosines: Real[M, M]
    """Of each pair; 0 where one of them is 0."""
    conflicts: Scalar
    """Share of the pairs whose cosine is negative; 0 where there is no pair."""
    sign_agreement: Prob[P]
    """In each coordinate, the mean of the signs without its sign."""


@checked
def diagnostics(gradients: Real[M, P]) -> Diagnostics:
    """Norms, cosines, conflicts and signs of gradients.

    Parameters
    ----------
    gradients
        One a row, at the same P parameters.
    """
    # eq. cg2a-diagnostics
    n, G = len(gradients), unit(gradients)
    cosines = G @ G.T
    pairs = (xp.arange(n)[:, None] < xp.arange(n)) & (cosines < 0)
    conflicts = pairs.sum().astype(G.dtype) / max(n * (n - 1) / 2, 1)
    signs = abs(xp.sign(gradients).sum(0)) / n

    return Diagnostics(_norms(gradients), cosines, conflicts, signs)


def _norms(gradients):
    return (gradients * unit(gradients)).sum(1)


@checked
def agreement_weights(gradients: Real[M, P], *, normalise: bool = True) -> Real[M]:
    """How much each gradient weighs, by its agreement with all.

    Parameters
    ----------
    normalise
        Whether directions are compared. If not, gradients are, and one that points
        against the sum of all weighs less than nothing.
    """
    n = len(gradients)
    G = unit(gradients) if normalise else gradients
    agreement = G @ G.sum(0)  # eq. cg2a-agreement
    # eq. cg2a-weights
    share = xp.maximum(agreement, 0) if normalise else agreement
    total = abs(share).sum()
    return xp.where(total > 0, share / xp.where(total > 0, total, 1), 1 / n)


@checked
def rescaled(gradients: Real[M, P]) -> Real[M, P]:
    """The gradients' directions, at lengths that follow their agreement."""
    # eq. cg2a-rescaled
    w = agreement_weights.unchecked(gradients)
    return len(gradients) * w[:, None] * _norms(gradients).mean() * unit(gradients)


@checked
def soft_surgery(gradients: Real[M, P], *, tau: NonNegativeFloat = 1.0) -> Real[P]:
    """The mean of gradients, attenuated where their signs disagree.

    Parameters
    ----------
    tau
        Exponent of the agreement.
    """
    u, total = gradients.sum(0), abs(gradients).sum(0)
    kappa = abs(u) / xp.where(total > 0, total, 1)  # eq. cg2a-sign-agreement
    return kappa**tau * u / len(gradients)  # eq. cg2a-surgery


@checked
def direction(gradients: Real[M, P], *, tau: NonNegativeFloat = 1.0) -> Real[P]:
    """Both parts: the surgery of the rescaled gradients."""
    return soft_surgery.unchecked(rescaled.unchecked(gradients), tau=tau)
