r"""PSFT: supervised fine-tuning that stops pulling a token once the batch has raised it enough.

Supervised fine-tuning raises the log-probability of every demonstrated token,

.. math::
    :label: psft-sft

    L_{\text{SFT}} = -\frac1M \sum_{t} \log \pi_\theta(y_t \mid s_t),

the sum over the :math:`M` tokens of the demonstrations whose mask is 1. This is a policy gradient with an advantage
of 1 everywhere and no trust region: nothing keeps one batch from moving the policy far. PSFT keeps the advantage of 1
and takes PPO's clipped ratio to the policy at the start of the batch, the *anchor* :math:`\pi_{\text{old}}`:

.. math::
    :label: psft-objective

    L = -\frac1M \sum_t \min\big(r_t,\; \mathrm{clip}(r_t, 1-\varepsilon_{\text{low}}, 1+\varepsilon_{\text{high}})\big)
      = -\frac1M \sum_t \min(r_t,\; 1+\varepsilon_{\text{high}}),
    \qquad r_t = \frac{\pi_\theta(y_t \mid s_t)}{\pi_{\text{old}}(y_t \mid s_t)} .

The lower bound never acts, because the advantage is positive: below it the minimum is the ratio itself. It therefore
is no argument here. A token that has grown by the factor :math:`1+\varepsilon_{\text{high}}` since the anchor pulls
no more:

.. math::
    :label: psft-gradient

    \frac{\partial L}{\partial \log \pi_\theta(y_t \mid s_t)} = -\frac1M\, r_t\,
    \mathbf 1[r_t \le 1+\varepsilon_{\text{high}}] .

At the anchor this is the gradient of supervised fine-tuning, so one update a batch is supervised fine-tuning whatever
the bound. Away from it a token counts by its ratio: one that has become less probable pulls *less*. On the bound the
derivative is that of the ratio. How many tokens have stopped, of those with a mask of 1:

.. math::
    :label: psft-clipped

    \frac1M \sum_t \mathbf 1[r_t > 1+\varepsilon_{\text{high}}] .

A ratio cannot exceed :math:`1/\pi_{\text{old}}`: a token more probable than :math:`1/(1+\varepsilon_{\text{high}})`
never stops. And if a token stops where it reaches the bound (small steps), to raise it from :math:`\pi_{\text{old}}`
to :math:`\pi_\theta` takes at least so many anchors, rounded up:

.. math::
    :label: psft-anchors

    n = \max\Big( 0,\; \frac{\log \pi_\theta - \log \pi_{\text{old}}}{\log(1+\varepsilon_{\text{high}})} \Big) .

Where the mask is 0 nothing is counted; without any token, value and gradient are 0.

**Where implementations differ.** The authors' code runs PPO's loss of verl with advantages of 1. That clamps the
log-ratio to ±20, which takes the gradient from a token that has become e⁻²⁰ times as probable. Their script fills
micro-batches up to a number of tokens; verl takes the mean over the tokens of each and weighs it by its number of
answers. Where each answer fills one, that is the mean over answers of the mean over tokens, in which a token of a long
answer counts less.

**Provenance.** Partly: the objective was confirmed in the authors' code and in a review that quotes it, the default of
the bound in their script. The gradient and the number of anchors were derived here.

Zhu, Xie, Wang, Sun, Wang and Liu, *Proximal Supervised Fine-Tuning*, 2025, arXiv:2508.17784.
"""

import math

from trref.backend import xp
from trref.signature import B, LogProb, Mask, PositiveFloat, Real, Scalar, T, checked
from trref.tokens.terms import token_mean


@checked
def psft(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    clip_high: PositiveFloat = 0.28,
) -> tuple[Scalar, Real[B, T]]:
    """PSFT loss of a batch of demonstrations.

    Parameters
    ----------
    log_prob
        Of the tokens of the demonstrations.
    old_log_prob
        Of the same at the anchor, the policy at the start of the batch.
    """
    w, ratio = token_mean(mask), xp.exp(log_prob - old_log_prob)
    J = (w * xp.minimum(ratio, 1 + clip_high)).sum()  # eq. psft-objective
    dJ = w * ratio * (ratio <= 1 + clip_high)  # eq. psft-gradient
    return -J, -dJ


@checked
def sft(log_prob: LogProb[B, T], mask: Mask[B, T]) -> tuple[Scalar, Real[B, T]]:
    """Supervised fine-tuning: the mean negative log-likelihood of the demonstrations."""
    w = token_mean(mask)
    return -(w * log_prob).sum(), -w  # eq. psft-sft


@checked
def clipped_share(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    clip_high: PositiveFloat = 0.28,
) -> Scalar:
    """Share of the tokens that have stopped pulling."""
    ratio = xp.exp(log_prob - old_log_prob)
    return (token_mean(mask) * (ratio > 1 + clip_high)).sum()  # eq. psft-clipped


@checked
def fewest_anchors(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    *,
    clip_high: PositiveFloat = 0.28,
) -> Real[B, T]:
    """Anchors that it takes at least to raise each token from its old log-probability, before rounding up."""
    gain = xp.maximum(log_prob - old_log_prob, 0)
    return gain / math.log1p(clip_high)  # eq. psft-anchors
