r"""CAGrad: near the mean gradient, the direction in which the worst task gains most.

M tasks have gradients :math:`g_i` with the mean :math:`g_0`. Among all directions that are not far from the mean, one
takes that whose smallest progress is largest,

.. math::
    :label: cagrad-primal

    \max_d\; \min_i\; g_i \cdot d \qquad \text{such that} \qquad \|d - g_0\| \le c\, \|g_0\|.

Its dual is a minimisation over weights w of the tasks, non-negative with sum 1:

.. math::
    :label: cagrad-dual

    F(w) = g_w \cdot g_0 + \sqrt\phi\, \|g_w\|, \qquad g_w = \sum_i w_i g_i, \qquad \sqrt\phi = c\, \|g_0\|,

.. math::
    :label: cagrad-dual-gradient

    \frac{\partial F}{\partial w_i} = g_i \cdot g_0 + \sqrt\phi\, \frac{g_i \cdot g_w}{\|g_w\|},

and the direction follows from the best weights:

.. math::
    :label: cagrad-direction

    d = g_0 + \frac{\sqrt\phi}{\|g_w\|}\, g_w

Any method for convex functions on a simplex finds them. Whether it has is told by the gap between both problems,

.. math::
    :label: cagrad-gap

    F(w) - \min_i\, g_i \cdot d(w) \ge 0,

which is 0 exactly at the best weights. With :math:`c = 0` the direction is the mean, with :math:`c < 1` its zeros are
points where the mean gradient is 0. Where :math:`g_w = 0` the last terms are 0.

**Where implementations differ.** The authors' code for networks divides the direction by :math:`1 + c^2`, so that its
length is about that of the mean.

**Provenance.** From memory of the paper; the dual is checked against the primal here.

Liu, Liu, Jin, Stone and Liu, *Conflict-Averse Gradient Descent for Multi-task Learning*, 2021, arXiv:2110.14048.
"""

from trref.backend import xp
from trref.signature import M, NonNegativeFloat, P, Real, Scalar, checked


def _norm(v):
    return xp.sqrt((v * v).sum())


@checked
def dual_objective(
    weights: Real[M], gradients: Real[M, P], *, c: NonNegativeFloat = 0.5
) -> tuple[Scalar, Real[M]]:
    """The dual function, to be minimised over non-negative weights of sum 1.

    Parameters
    ----------
    weights
        Of the tasks; any numbers.
    gradients
        One a row, of M tasks at the same P parameters.
    c
        How far from the mean the direction may be, relative to the mean.
    """
    mean, g_w = gradients.mean(0), weights @ gradients
    size = _norm(g_w)
    value = g_w @ mean + c * _norm(mean) * size  # eq. cagrad-dual
    pull = c * _norm(mean) / xp.where(size > 0, size, 1)
    return value, gradients @ (mean + pull * g_w)  # eq. cagrad-dual-gradient


@checked
def direction(
    gradients: Real[M, P], weights: Real[M], *, c: NonNegativeFloat = 0.5
) -> Real[P]:
    """The direction that weights give."""
    mean, g_w = gradients.mean(0), weights @ gradients
    size = _norm(g_w)
    # eq. cagrad-direction
    return mean + c * _norm(mean) / xp.where(size > 0, size, 1) * g_w


@checked
def duality_gap(
    gradients: Real[M, P], weights: Real[M], *, c: NonNegativeFloat = 0.5
) -> Scalar:
    """How far weights of sum 1 are from the best: the dual less the primal value."""
    d = direction.unchecked(gradients, weights, c=c)
    value, _ = dual_objective.unchecked(weights, gradients, c=c)
    # eq. cagrad-primal, cagrad-gap
    return value - (gradients @ d).min()
