r"""REINFORCE++ and its baseline form: advantages standardised over all tokens of the batch.

A group's deviation is noisy and made of the same rewards that it divides. REINFORCE++ standardises over the whole
batch. Its plain form has one answer a prompt, and pays for leaving the reference token by token, in the reward; what a
token gets is what follows it,

.. math::
    :label: reinforce-plus-plus-reward-to-go

    G_{i,t} = \sum_{s \ge t} \gamma^{n(t,s)}\, m_{i,s}\, r_{i,s}, \qquad
    r_{i,t} = -\beta\,(\log\pi_{i,t} - \log\pi^{ref}_{i,t}) + r_i\; \mathbb 1[t \text{ is the last token}]

where :math:`n(t,s)` counts the tokens from t to s, so that gaps in the mask cost no discount. With the mean and the
deviation over all tokens of the batch,

.. math::
    :label: reinforce-plus-plus-standardise

    \hat A_{i,t} = m_{i,t}\, \frac{G_{i,t} - \bar G}{\sqrt{\mathrm{var}\,G + \varepsilon}}

The baseline form has several answers a prompt, and subtracts the group's mean first:

.. math::
    :label: reinforce-plus-plus-baseline

    G_{i,t} = r_i - \bar r_{g(i)}

The loss is PPO's clip with equal bounds (:func:`trref.tokens.dapo.dapo_over_batch`); the baseline form adds the k2
penalty of :mod:`trref.tokens.kl_estimators`. The advantages have mean 0 and variance 1 over the tokens, whatever the
scale of the rewards. Without a charge and discount, what is subtracted is the mean reward weighted by lengths: OPO's
baseline over the batch (:mod:`trref.tokens.opo`). Shift and scale contain the answer itself, a bias of the order of one
over the batch; the baseline form keeps the factor :math:`1 - 1/G` of its own mean beside that. Equal G give exactly 0.

====================  ==================
:math:`\beta`         `kl_weight`
:math:`\gamma`        `discount`
:math:`\varepsilon`   `eps`
====================  ==================

**Where implementations differ.** verl and slime divide by the sample deviation, OpenRLHF and NeMo-RL by that of the
population. NeMo-RL charges each token its own divergence alone, so that it pays nothing for what it leads to. An older
recursion, still in SkyRL, forgets a reward that stands behind a gap in the mask. verl gives a group of one its raw
reward before it standardises.

**Provenance.** Confirmed: by the paper's abstract and the code of verl; the differences by notes on the others' code.
What is subtracted, and the moments, are derived and checked.

Hu et al., *REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization*, 2025,
arXiv:2501.03262.
"""

import math
from typing import Annotated

from trref.backend import xp
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegativeFloat,
    NonNegativeInt,
    Real,
    T,
    checked,
)
from trref.tokens.dr_grpo import centred_advantage


@checked
def reward_to_go(
    reward: Real[B],
    log_prob: LogProb[B, T],
    ref_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    kl_weight: NonNegativeFloat = 0.01,
    discount: Annotated[float, "(0, 1]"] = 1.0,
) -> Real[B, T]:
    """What follows each token: charges for leaving the reference, and the reward at the end.

    Parameters
    ----------
    log_prob
        At the time of sampling.
    discount
        Weight of a reward one token later.
    """
    # eq. reinforce-plus-plus-reward-to-go
    last = xp.cumsum(mask, 1) == mask.sum(1, keepdims=True)
    each = last * reward[:, None] - kl_weight * (log_prob - ref_log_prob)
    columns, running = [], xp.zeros_like(reward)
    for t in reversed(range(mask.shape[1])):
        m = mask[:, t]
        running = m * (each[:, t] + discount * running) + (1 - m) * running
        columns.append(m * running)
    return xp.stack(columns[::-1], axis=1)


@checked
def standardise(
    x: Real[B, T],
    mask: Mask[B, T],
    *,
    ddof: NonNegativeInt = 0,
    eps: NonNegativeFloat = 1e-8,
) -> Real[B, T]:
    """Standardise over all tokens of the batch; 0 where the mask is 0, and where all are equal.

    Parameters
    ----------
    x
        Any numbers of tokens.
    ddof
        Taken off the number of tokens that the variance is divided by.
    eps
        Added to the variance.
    """
    # eq. reinforce-plus-plus-standardise
    count = mask.sum()
    centred = mask * (x - (mask * x).sum() / xp.maximum(count, 1))
    largest = xp.where(mask == 1, x, -math.inf).max()
    varies = largest > xp.where(mask == 1, x, math.inf).min()
    centred = xp.where(varies, centred, 0)
    variance = (centred**2).sum() / xp.maximum(count - ddof, 1) + eps
    return centred / xp.sqrt(xp.where(variance > 0, variance, 1))


@checked
def reinforce_plus_plus(
    reward: Real[B],
    log_prob: LogProb[B, T],
    ref_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    kl_weight: NonNegativeFloat = 0.01,
    discount: Annotated[float, "(0, 1]"] = 1.0,
    ddof: NonNegativeInt = 0,
    eps: NonNegativeFloat = 1e-8,
) -> Real[B, T]:
    """Advantages of the plain form: rewards to go, standardised over the batch."""
    to_go = reward_to_go.unchecked(
        reward, log_prob, ref_log_prob, mask, kl_weight=kl_weight, discount=discount
    )
    return standardise.unchecked(to_go, mask, ddof=ddof, eps=eps)


@checked
def reinforce_plus_plus_baseline(
    reward: Real[B],
    group: Index[B],
    mask: Mask[B, T],
    *,
    ddof: NonNegativeInt = 0,
    eps: NonNegativeFloat = 1e-8,
) -> Real[B, T]:
    """Advantages of the baseline form: rewards less their group's mean, standardised over the batch."""
    # eq. reinforce-plus-plus-baseline
    centred = centred_advantage.unchecked(reward, group)
    return standardise.unchecked(centred[:, None], mask, ddof=ddof, eps=eps)
