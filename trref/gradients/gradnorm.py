r"""GradNorm: weights that bring the tasks' gradients to norms which follow how fast they learn.

The losses :math:`L_i` of M tasks are summed with weights :math:`w_i`. The gradient of each at the last shared layer has
the norm :math:`G_i = w_i n_i`. Tasks that have learnt less than others, by the ratio to their first loss, are to have
longer gradients:

.. math::
    :label: gradnorm-target

    r_i = \frac{L_i / L_i(0)}{\frac1M \sum_j L_j / L_j(0)}, \qquad
    T_i = \Big(\frac1M \sum_j G_j\Big)\, r_i^{\alpha}

The weights descend on

.. math::
    :label: gradnorm-objective

    L_{gn}(w) = \sum_{i=1}^M |w_i n_i - T_i|, \qquad
    \frac{\partial L_{gn}}{\partial w_i} = n_i \operatorname{sign}(w_i n_i - T_i),

with the targets held constant, and are brought back to the sum M:

.. math::
    :label: gradnorm-renormalise

    w \leftarrow \frac{M\, w}{\sum_i w_i}

With :math:`\alpha = 0` all norms are to be equal. Where a norm is on its target the derivative is 0.

**Where implementations differ.** A public implementation brings the weights back to the sum 1, and takes the norm of
the first tensor of the layer alone. Where the target is not held constant the weights of all tasks move together.

**Provenance.** From memory of the paper; the derivative is checked here.

Chen, Badrinarayanan, Lee and Rabinovich, *GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
Multitask Networks*, 2018, arXiv:1711.02257.
"""

from trref.backend import xp
from trref.signature import M, NonNegativeFloat, Positive, Real, Scalar, checked


@checked
def targets(
    weights: Positive[M],
    norms: Positive[M],
    losses: Positive[M],
    start_losses: Positive[M],
    *,
    alpha: NonNegativeFloat = 1.5,
) -> Positive[M]:
    """What the norms of the weighted gradients are to be.

    Parameters
    ----------
    weights
        Of the tasks.
    norms
        Of each task's gradient, without its weight.
    losses, start_losses
        Of each task now, and at the start.
    alpha
        How much longer the gradients of slow tasks are to be.
    """
    # eq. gradnorm-target
    ratio = losses / start_losses
    return (weights * norms).mean() * (ratio / ratio.mean()) ** alpha


@checked
def weight_objective(
    weights: Positive[M],
    norms: Positive[M],
    losses: Positive[M],
    start_losses: Positive[M],
    *,
    alpha: NonNegativeFloat = 1.5,
    target: Positive[M] | None = None,
) -> tuple[Scalar, Real[M]]:
    """How far the norms are from their targets.

    Parameters
    ----------
    target
        Held constant by the gradient; the `targets` if None.
    """
    if target is None:
        target = targets.unchecked(weights, norms, losses, start_losses, alpha=alpha)
    off = weights * norms - target
    return abs(off).sum(), norms * xp.sign(off)  # eq. gradnorm-objective


@checked
def renormalised(weights: Positive[M]) -> Positive[M]:
    """The weights, brought to a mean of 1."""
    return weights / weights.mean()  # eq. gradnorm-renormalise
