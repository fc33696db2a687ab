r"""Aggregational policy censoring (APC): a trust region in total variation, written as a clip without constraint.

Given several samples of the same state, TRPO in total variation asks for the ratios r that maximise the surrogate
within a budget and are those of a policy:

.. math::
    :label: fiberpo-censoring-trpo

    \max_r \sum_i r_i A_i \quad \text{subject to} \quad \hat D(s) = \frac1{T_s} \sum_{i \in s} |r_i - 1| \le \delta,
    \quad \sum_{i \in s} (r_i - 1) = 0 \ \text{ for each state } s

with :math:`T_s` the number of samples of s. The solution takes :math:`b = T_s \delta / 2` from the smallest advantages
(no more than 1 each, for a ratio is not negative) and gives all of it to the largest one:

.. math::
    :label: fiberpo-censoring-solution

    r_{(k)} = 1 - \mathrm{clip}(b - k, 0, 1), \quad k = 0, \dots, T_s - 2, \qquad
    r_{(T_s - 1)} = 1 + \sum_{k} \mathrm{clip}(b - k, 0, 1)

in the order of advantages; the gain per sample is :math:`\delta (A_{max} - A_{min})/2` while :math:`b \le 1`. APC drops
the constraint and clips each ratio by what the others leave of the budget:

.. math::
    :label: fiberpo-censoring-objective

    J = \frac1N \sum_i \big[ \mathrm{clip}(r_i - 1, \pm B_i^+) + 1 \big] A_i, \qquad
    B_i = T_s \delta - \sum_{j \in s,\, j \ne i} |r_j - 1|

If the advantages of each state sum to 0, its maximiser over ratios with :math:`\sum_{i \in s} (r_i - 1) = 0` is the
same (without that condition it can be beaten). Where :math:`\hat D(s) \le \delta` nothing is clipped. Beyond, samples
with :math:`B_i > 0` roll back and the others are switched off; with :math:`\sigma_i = \mathrm{sign}(r_i - 1)` and R
those that roll back,

.. math::
    :label: fiberpo-censoring-gradient

    \frac{\partial J}{\partial r_j} = \frac1N A_j \ \text{ within the budget}, \qquad
    -\frac{\sigma_j}N \sum_{i \in R,\, i \ne j} \sigma_i A_i \ \text{ beyond}

One sample of a state is PPO's clip without the minimum, at :math:`1 \pm \delta`. In the penalised form of TRPO, whose
value at a budget is :math:`\delta M - \frac{4\gamma}{1-\gamma} \|A\|_\infty\, \delta^2` with M the mean over states of
:math:`(A_{max} - A_{min})/2`, the best budget is

.. math::
    :label: fiberpo-censoring-radius

    \delta^* = \frac{(1 - \gamma)\, M}{8 \gamma\, \|A\|_\infty} \le \frac{1 - \gamma}{8 \gamma}

which vanishes as the discount goes to 1.

==============  ==========
:math:`\delta`  `radius`
r               `ratio`
:math:`\gamma`  `discount`
==============  ==========

Of equal advantages the later sample counts as the larger. Beyond the budget a ratio of exactly
1, where there is a kink, gets no gradient.

**Where implementations differ.** :math:`\hat D` has no factor 1/2: the budget bounds twice the total variation. The
paper's main text prints the radius with :math:`(1-\gamma)^2`, its appendix as here. Language models have one sample of
a prefix: there the sum constraint forces r = 1, and APC is a clip by tokens.

**Provenance.** Confirmed: objective, problem and radius by the full text (version 1, appendix). The solution and the
gradient are derived and checked.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from typing import Annotated

from trref.backend import xp
from trref.signature import (
    Index,
    N,
    NonNegative,
    OpenFraction,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


def _same(states, dtype):
    return (states[:, None] == states[None, :]).astype(dtype)


@checked
def apc(
    ratio: NonNegative[N],
    advantage: Real[N],
    states: Index[N],
    *,
    radius: PositiveFloat,
) -> tuple[Scalar, Real[N]]:
    """APC loss.

    Parameters
    ----------
    ratio
        New over old probability of each sampled action.
    states
        Equal numbers are one state.
    radius
        The budget of each state: of the mean of abs(ratio - 1), which is twice the total variation.
    """
    N = len(ratio)
    same, size, sign = _same(states, ratio.dtype), abs(ratio - 1), xp.sign(ratio - 1)
    count, total = same.sum(1), same @ size
    B = xp.maximum(count * radius - (total - size), 0)
    # eq. fiberpo-censoring-objective
    J = ((xp.clip(ratio - 1, -B, B) + 1) * advantage).sum() / N

    # eq. fiberpo-censoring-gradient
    within = total <= count * radius
    rolling = sign * advantage * (B > 0)
    gradient = xp.where(within, advantage, -sign * (same @ rolling - rolling)) / N
    return -J, -gradient


@checked
def tv_trpo_sample(
    advantage: Real[N], states: Index[N], *, radius: PositiveFloat
) -> NonNegative[N]:
    """Ratios that solve TRPO in total variation on samples; 1 where a state has one sample."""
    same, i = _same(states, advantage.dtype), xp.arange(len(states))
    smaller = advantage[None, :] < advantage[:, None]
    earlier = (advantage[None, :] == advantage[:, None]) & (i[None, :] < i[:, None])
    rank, count = (same * (smaller | earlier)).sum(1), same.sum(1)
    # eq. fiberpo-censoring-trpo, fiberpo-censoring-solution
    largest = rank == count - 1
    taken = xp.where(largest, 0, xp.clip(count * radius / 2 - rank, 0, 1))
    return 1 - taken + xp.where(largest, same @ taken, 0)


@checked
def penalised_radius(
    advantage: Real[N], states: Index[N], *, discount: OpenFraction
) -> Scalar:
    """Best budget of the penalised form of TRPO in total variation; 0 if all advantages are."""
    same = _same(states, advantage.dtype)
    rows = same * (advantage[None, :] - advantage[:, None])
    half = (rows.max(1) - rows.min(1)) / 2
    weight = 1 / same.sum(1)  # each state counts once
    M, largest = (weight * half).sum() / weight.sum(), abs(advantage).max()
    # eq. fiberpo-censoring-radius
    return trpo_radius.unchecked(discount) * M / xp.where(largest > 0, largest, 1)


@checked
def trpo_radius(discount: Annotated[float, "(0, 1]"]) -> float:
    """Largest value that `penalised_radius` can have: 0 at a discount of 1."""
    return (1 - discount) / (8 * discount)
