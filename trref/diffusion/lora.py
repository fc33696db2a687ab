r"""Low-rank adapters (LoRA): a change of a weight matrix that is a product of two thin ones.

A trained matrix :math:`W` (outputs × inputs) stays as it is. What is learned is a change of rank r,

.. math::
    :label: lora-weights

    W' = W + \kappa\, \frac{\alpha}{r}\, B A, \qquad A \in \mathbb R^{r \times D}, \quad B \in \mathbb R^{M \times r},

with :math:`r (M + D)` numbers in the place of :math:`M D`. A starts at random and B at 0, so that training starts at
the model that is there. With :math:`\bar W` the gradient by :math:`W'`,

.. math::
    :label: lora-gradients

    \bar B = \kappa \frac \alpha r\, \bar W A^\top, \qquad \bar A = \kappa \frac \alpha r\, B^\top \bar W :

at B = 0 only B moves, and W' by at most r directions of inputs. The division by r keeps a change of the rank from being
a change of the step length. In training :math:`\kappa = 1`; afterwards smaller values blend the adapted model with the
first one (AlignProp goes back to its model that way). A rotation of the r dimensions, :math:`BQ` and :math:`Q^\top A`,
changes nothing; nor does the adapter at all where A or B is 0.

=====================  =====================
:math:`\alpha`         `alpha`
:math:`\kappa`         `strength`
=====================  =====================

**Where implementations differ.** PEFT divides by the root of r if asked to (``use_rslora``).

**Provenance.** Confirmed: the authors' loralib and PEFT compute this; the blend of weights is AlignProp's use of it,
from memory of that paper.

Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, arXiv:2106.09685.
"""

from typing import NamedTuple

from trref.signature import D, Fraction, M, PositiveFloat, R, Real, checked


class AdapterGradients(NamedTuple):
    """Derivatives by the two factors."""

    A: Real[R, D]
    B: Real[M, R]


@checked
def lora_weights(
    W: Real[M, D],
    A: Real[R, D],
    B: Real[M, R],
    *,
    alpha: PositiveFloat = 1.0,
    strength: Fraction = 1.0,
) -> Real[M, D]:
    """The adapted matrix.

    Parameters
    ----------
    W
        The trained matrix, a row an output.
    A
        What the adapter reads of the inputs.
    B
        Where it writes; 0 before training.
    alpha
        Size of the change, for every rank.
    strength
        Share of the change: 1 in training.
    """
    return W + strength * alpha / len(A) * (B @ A)  # eq. lora-weights


@checked
def lora_gradients(
    d_W: Real[M, D],
    A: Real[R, D],
    B: Real[M, R],
    *,
    alpha: PositiveFloat = 1.0,
    strength: Fraction = 1.0,
) -> AdapterGradients:
    """What a derivative by the adapted matrix is by its factors.

    Parameters
    ----------
    d_W
        The derivative by the adapted matrix.
    """
    scale = strength * alpha / len(A)
    return AdapterGradients(scale * B.T @ d_W, scale * d_W @ A.T)  # eq. lora-gradients
