r"""Robust reweighting: the worst mean loss over weights that an adversary, or a group, may choose.

Samples have losses :math:`\ell_i` and weights :math:`p_i` of their own, :math:`1/n` unless something else is known. A
robust loss is their mean under the worst weights q of a set, :math:`\max_{q \in \mathcal Q} \sum_i q_i \ell_i`, and by
Danskin's theorem its derivative by the losses is the maximiser :math:`q^\star` itself. Weights that are at most
:math:`1/\alpha` of the own ones give the *conditional value at risk*, the mean of the worst share :math:`\alpha`:

.. math::
    :label: robust-reweighting-cvar

    \max_{q_i \le p_i / \alpha} \sum_i q_i \ell_i = \min_\eta\, \eta + \frac1\alpha \sum_i p_i (\ell_i - \eta)_+,
    \qquad q^\star_{(i)} = \frac1\alpha \min\Big( p_{(i)},\ \big( \alpha - \sum_{j < i} p_{(j)} \big)_+ \Big)

in the order of falling losses, a part of a sample included. A penalty on the divergence is an exponential tilt,

.. math::
    :label: robust-reweighting-kl-penalty

    \max_q \sum_i q_i \ell_i - \lambda\, \text{KL}(q \| p) = \lambda \log \sum_i p_i e^{\ell_i / \lambda}, \qquad
    q^\star_i \propto p_i e^{\ell_i / \lambda},

and a bound on it the same tilt with the :math:`\lambda` at which the bound is reached,

.. math::
    :label: robust-reweighting-kl-ball

    \max_{\text{KL}(q \| p) \le \rho} \sum_i q_i \ell_i
    = \min_{\lambda > 0} \lambda \rho + \lambda \log \sum_i p_i e^{\ell_i / \lambda} .

A bound on the squared deviation of :math:`w_i = q_i / p_i` from 1 cuts a straight line off at 0:

.. math::
    :label: robust-reweighting-chi-square

    \max_{\frac12 \sum_i p_i (w_i - 1)^2 \le \rho} \sum_i p_i w_i \ell_i
    = \min_\eta\, \eta + \sqrt{1 + 2 \rho}\, \Big( \sum_i p_i (\ell_i - \eta)_+^2 \Big)^{1/2}, \qquad
    w^\star_i \propto (\ell_i - \eta)_+,

which is :math:`\bar\ell + \sqrt{2 \rho\, \text{Var}(\ell)}` as long as no weight reaches 0. All lie between the mean
(:math:`\alpha = 1`, :math:`\rho = 0`, :math:`\lambda \to \infty`) and the maximum, and rise with :math:`\rho`,
:math:`1/\alpha` and :math:`1/\lambda`; against each other they have no order.

The scale, :math:`\lambda` or :math:`\max \ell - \eta`, lies between :math:`e^{-40}` and :math:`e^{20}` times the range
of the losses, and is found by cutting the interval of its logarithm to a 64th nine times. The minima on the
right are flat there, so that their values have no error to first order. A ball that contains the worst sample gives its
loss.

**Groups** weigh by exponentiated gradients on the groups' losses,

.. math::
    :label: robust-reweighting-groups

    q_g \leftarrow \frac{q_g\, e^{\eta \ell_g}}{\sum_{g'} q_{g'}\, e^{\eta \ell_{g'}}},

and fixed weights make groups equal,

.. math::
    :label: robust-reweighting-balanced

    q_i = \frac{1}{G\, n_{g_i}} .

Whatever the weights, they are worth fewer samples, as to the variance of a mean:

.. math::
    :label: robust-reweighting-effective

    n_{\text{eff}} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2}

Where losses are equal the maximiser is not unique, and the own weights are returned by the balls; the first of equal
losses comes first in the conditional value at risk. A sample of weight 0 never gets any.

**Where implementations differ.** nnU-Net's loss of the worst share is the mean of the ``int(level * n)`` largest
losses, without the part of a sample.

**Provenance.** Reconstructed: the survey's equations were not seen; these are standard results of the literature that
it covers (Rockafellar and Uryasev; Hu and Hong; Duchi and Namkoong; Sagawa et al.), re-derived and checked here.

Liu, Chaudhary and Wang, *Towards Trustworthy and Aligned Machine Learning: A Data-centric Survey with Causality
Perspectives*, 2023, arXiv:2307.16851.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.nn.heads import one_hot
from trref.signature import (
    G,
    Index,
    N,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    Simplex,
    checked,
)
from trref.trustworthiness.terms import every_group

SMALLEST, LARGEST, PARTS, CUTS = -40.0, 20.0, 64, 9


def _own(losses, weights):
    """The weights of the samples, equal unless given."""
    return xp.ones_like(losses) / len(losses) if weights is None else weights


@checked
def cvar(
    losses: Real[N],
    weights: Simplex[N] | None = None,
    *,
    level: Annotated[float, "(0, 1]"] = 0.1,
) -> tuple[Scalar, Real[N]]:
    """Mean of the worst share of the losses.

    Parameters
    ----------
    losses
        Of the samples.
    weights
        Of the samples; equal ones if None.
    level
        The share.
    """
    p, order = _own(losses, weights), xp.argsort(-losses, kind="stable")
    p_sorted = p[order]
    before = xp.cumsum(p_sorted) - p_sorted
    # eq. robust-reweighting-cvar
    q_sorted = xp.clip(level - before, 0, p_sorted) / level
    q = q_sorted[xp.argsort(order, kind="stable")]
    return q @ losses, q


@checked
def kl_penalty(
    losses: Real[N],
    weights: Simplex[N] | None = None,
    *,
    kl_weight: Annotated[float, "[1e-6, 1e6]"] = 1.0,
) -> tuple[Scalar, Real[N]]:
    """Worst mean loss, less a penalty on the divergence of the weights."""
    p = _own(losses, weights)
    top, down = _below_top(losses, p)
    # eq. robust-reweighting-kl-penalty
    total = xp.log1p(p @ xp.expm1(down / kl_weight))
    q = p * xp.exp(down / kl_weight - total)
    return top + kl_weight * total, q


def _below_top(losses, p):
    """The largest loss of any weight, and how far each is below it."""
    top = xp.where(p > 0, losses, losses.min()).max()
    return top, xp.minimum(losses - top, 0)


def _in_units(down):
    """Distances in units of their range, and that."""
    span = -down.min()
    unit = xp.where(span > 0, span, 1)
    return down / unit, unit


def _in_ball(concentrated, dtype):
    """The smallest scale at which weights are not too concentrated, which they are less and less."""
    low, width = xp.asarray(SMALLEST, dtype=dtype), LARGEST - SMALLEST
    for _ in range(CUTS):
        width = width / PARTS
        inner = xp.exp(low + width * xp.arange(1, PARTS, dtype=dtype))
        low = low + width * concentrated(inner).astype(dtype).sum()
    return xp.exp(low[None])


def _tilted(p, down, scale):
    """log E exp(ℓ / λ) of losses below the top, the tilted weights and their divergence from p, at each scale λ."""
    below = down[:, None] / scale
    total = xp.log1p(p @ xp.expm1(below))
    q = p[:, None] * xp.exp(below - total)
    return total, q, (q * below).sum(0) - total


@checked
def kl_ball(
    losses: Real[N], weights: Simplex[N] | None = None, *, radius: PositiveFloat = 0.1
) -> tuple[Scalar, Real[N]]:
    """Worst mean loss over weights of a bounded divergence."""
    p = _own(losses, weights)
    top, down = _below_top(losses, p)
    down, unit = _in_units(down)
    # eq. robust-reweighting-kl-ball
    scale = _in_ball(lambda scale: _tilted(p, down, scale)[2] > radius, p.dtype)
    total, q, _ = _tilted(p, down, scale)
    return top + unit * (scale * (radius + total))[0], q[:, 0]


@checked
def chi_square_ball(
    losses: Real[N], weights: Simplex[N] | None = None, *, radius: PositiveFloat = 0.1
) -> tuple[Scalar, Real[N]]:
    """Worst mean loss over weights of a bounded squared deviation."""
    p = _own(losses, weights)
    top, down = _below_top(losses, p)
    down, unit = _in_units(down)

    def line(scale):
        """(ℓ - η)₊ in units of the scale, and its first two moments."""
        u = xp.maximum(1 + down[:, None] / scale, 0)
        return u, p @ u, p @ u**2

    def concentrated(scale):
        _, mean, square = line(scale)
        return square > (1 + 2 * radius) * mean**2

    # eq. robust-reweighting-chi-square
    scale = _in_ball(concentrated, p.dtype)
    u, mean, square = line(scale)
    value = scale * (math.sqrt(1 + 2 * radius) * xp.sqrt(square) - 1)
    return top + unit * value[0], p * u[:, 0] / mean


@checked
def group_weights(
    weights: Simplex[G], losses: Real[G], *, lr: Annotated[float, "(0, 1e6]"] = 0.1
) -> Simplex[G]:
    """One step of the groups' weights towards the worst group.

    Parameters
    ----------
    weights
        Of the groups.
    losses
        Mean loss of each.
    """
    tilt = lr * _below_top(losses, weights)[1]
    q = weights * xp.exp(tilt)
    return q / q.sum()  # eq. robust-reweighting-groups


@checked(also=every_group)
def balanced_weights(
    group: Index[N],
    *,
    groups: PositiveInt,
    dtype: Literal["float64", "float32"] = "float64",
) -> Simplex[N]:
    """Weights under which all groups count the same.

    Parameters
    ----------
    group
        Of each sample.
    groups
        How many there are.
    """
    member = one_hot(group, groups, dtype)
    # eq. robust-reweighting-balanced
    return member @ (1 / member.sum(0)) / groups


def _some_weight(weights, **_):
    """Weights that are all 0."""
    return [(lambda: weights.max() > 0, "weights must not all be 0")]


@checked(also=_some_weight)
def effective_size(weights: NonNegative[N]) -> Scalar:
    """How many equally weighted samples weighted ones are worth.

    Parameters
    ----------
    weights
        Of the samples, in any unit.
    """
    w = weights / weights.max()
    return w.sum() ** 2 / (w @ w)  # eq. robust-reweighting-effective
