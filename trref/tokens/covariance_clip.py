r"""Clip-Cov and KL-Cov: restraint for the few tokens that drive the entropy down.

A policy-gradient step lowers the entropy where likely tokens have high advantages: for a step
:math:`\Delta z = \eta A` of the logits of one softmax, :math:`\Delta H \approx -\eta\, \mathrm{Cov}_\pi(\log\pi, A)`.
Only few tokens have a large

.. math::
    :label: covariance-clip-covariance

    \kappa_{i,t} = \big(\log\pi_{i,t} - \overline{\log\pi}\big)\big(\hat A_{i,t} - \bar{\hat A}\big)

with means over the valid tokens of the batch; a constant. Clip-Cov drops the gradient of a random few of those between
two bounds, among tokens that the clip has not silenced already:

.. math::
    :label: covariance-clip-choice

    \delta_{i,t} = 1 \text{ for } \max\{\lfloor rN \rfloor, 1\} \text{ random tokens with } \omega_l < \kappa_{i,t} <
    \omega_h

.. math::
    :label: covariance-clip-clip-cov

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, (1 - \delta_{i,t})\, \ell_{i,t}

with the clipped term :math:`\ell` of :mod:`trref.tokens.grpo` and N valid tokens. KL-Cov penalises the tokens with the
largest :math:`\kappa`, and clips none:

.. math::
    :label: covariance-clip-largest

    \delta_{i,t} = 1 \text{ for the } \max\{\lfloor kN \rfloor, 1\} \text{ tokens of largest } \kappa

.. math::
    :label: covariance-clip-kl-cov

    J = \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|}\, \big( \rho \hat A - \beta\, \delta\, |\log\rho| \big)_{i,t}, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\,
    \big( \rho \hat A - \beta\, \delta\, \mathrm{sign}\log\rho \big)_{i,t}

The paper calls the penalty a KL divergence, all codes take the absolute log-ratio: its pull has the size :math:`\beta`
however small the drift, and on fresh data, where :math:`\log\rho = 0`, KL-Cov does nothing. Random numbers are an
input: among the candidates those of smallest `priority` are dropped. Ties go to the earlier token.

===========================  =======================
:math:`r,\ k`                `share`
:math:`\omega_l,\ \omega_h`  `lowest`, `highest`
:math:`\delta`               `dropped`, `chosen`
:math:`\beta`                `kl_weight`
===========================  =======================

**Where implementations differ.** SkyRL's share for KL-Cov is 0.2 of the tokens, where the authors mean 0.2 per cent.
A squared log-ratio, half of it, is what a penalty by an estimated divergence would be; it does not pull near 0.

**Provenance.** Confirmed: by the code of verl, adapted from the authors'. The effect on the entropy is the paper's, and
checked.

Cui et al., *The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models*, 2025, arXiv:2505.22617.
"""

import math

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    FiniteFloat,
    Fraction,
    LogProb,
    Mask,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, per_token, token_mean


@checked
def token_covariance(
    log_prob: LogProb[B, T], advantage: Real[B] | Real[B, T], mask: Mask[B, T]
) -> Real[B, T]:
    """Product of the centred log-probability and advantage of each token; 0 where the mask is 0."""
    w, A = token_mean(mask), per_token(advantage)
    # eq. covariance-clip-covariance
    return mask * (log_prob - (w * log_prob).sum()) * (A - (w * A).sum())


def _first(score, among, share, mask):
    """1 on a share of the valid tokens, those of smallest score among some; at least on one, if there is one."""
    quota = xp.maximum(xp.floor(share * mask.sum()), 1)
    order = xp.argsort(xp.where(among, score, math.inf).ravel(), kind="stable")
    rank = xp.argsort(order, kind="stable").reshape(score.shape)
    return (among & (rank < quota)).astype(score.dtype)


@checked
def clip_cov_choice(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    priority: Real[B, T],
    *,
    share: Fraction = 2e-4,
    lowest: FiniteFloat = 1.0,
    highest: FiniteFloat = 5.0,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
) -> Binary[B, T]:
    """Which tokens Clip-Cov drops.

    Parameters
    ----------
    priority
        Random numbers; the smallest are dropped first.
    share
        Of the valid tokens.
    lowest, highest
        Bounds of the covariance of a candidate.
    """
    kappa = token_covariance.unchecked(log_prob, advantage, mask)
    ratio, A = xp.exp(log_prob - old_log_prob), per_token(advantage)
    silent = xp.where(A > 0, ratio > 1 + clip_high, ratio < 1 - clip_low)
    # eq. covariance-clip-choice
    among = (mask == 1) & ~silent & (kappa > lowest) & (kappa < highest)
    return _first(priority, among, share, mask)


@checked
def clip_cov(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    dropped: Binary[B, T],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """Clip-Cov loss.

    Parameters
    ----------
    dropped
        1 on the tokens of `clip_cov_choice`.
    """
    term, derivative = clip_surrogate(
        log_prob, old_log_prob, advantage, clip_low, clip_high
    )
    w = token_mean(mask) * (1 - dropped)
    J = (w * term).sum()  # eq. covariance-clip-clip-cov
    return -J, -w * derivative


@checked
def kl_cov_choice(
    log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    share: Fraction = 2e-3,
) -> Binary[B, T]:
    """Which tokens KL-Cov penalises: a share of the valid ones, those of largest covariance."""
    kappa = token_covariance.unchecked(log_prob, advantage, mask)
    return _first(-kappa, mask == 1, share, mask)  # eq. covariance-clip-largest


@checked
def kl_cov(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    chosen: Binary[B, T],
    *,
    kl_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """KL-Cov loss: no clip, a penalty on some tokens.

    Parameters
    ----------
    chosen
        1 on the tokens of `kl_cov_choice`.
    """
    d = log_prob - old_log_prob
    unclipped, w = xp.exp(d) * per_token(advantage), token_mean(mask)
    # eq. covariance-clip-kl-cov
    J = (w * (unclipped - kl_weight * chosen * abs(d))).sum()
    return -J, -w * (unclipped - kl_weight * chosen * xp.sign(d))
