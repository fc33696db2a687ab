r"""CISPO: the importance weight is clipped, not the update, so that every token keeps a gradient.

PPO's clip silences a token once its ratio has left the interval in the profitable direction. In long answers those are
often rare, decisive tokens. CISPO never silences a token, it limits how heavily one counts. The ratio is clipped and
held constant,

.. math::
    :label: cispo-weight

    \hat\rho_{i,t} = \mathrm{clip}(\rho_{i,t}, 1-\epsilon_l, 1+\epsilon_h), \qquad
    \rho_{i,t} = \exp(\log\pi_{i,t} - \log\pi^{old}_{i,t})

and the gradient goes through the log-probability, as in REINFORCE. With the weights w of :mod:`trref.tokens.grpo`, in
the paper the mean over all tokens,

.. math::
    :label: cispo-objective

    J = \sum_{i,t} w_{i,t}\; \mathrm{sg}[\hat\rho_{i,t}]\, \hat A_{i,t} \log\pi_{i,t}, \qquad
    w_{i,t} = \frac{m_{i,t}}{\sum_j |y_j|}

.. math::
    :label: cispo-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = w_{i,t}\, \hat\rho_{i,t}\, \hat A_{i,t}

Only the gradient has a meaning. It is that of :math:`\tau(\rho)\hat A` with :math:`\tau = \rho` up to the upper bound C
and :math:`C (1 + \log(\rho / C))` above (:func:`trref.tokens.drpo.dppo` without its mask). From :math:`\epsilon_l = 1`
on there is no lower bound: the paper tunes the upper one alone. Then no coefficient is larger than
:math:`C\,w\,|\hat A|`. GRPO's is 0 where a good token's ratio is above the interval, and has no bound where a bad
token's is. Nothing stops a ratio here: the bound caps the speed, it is no trust region.

The paper's unified form has a mask beside the weight, which silences the tokens that PPO's clip would:

.. math::
    :label: cispo-mask

    M_{i,t} = 0 \ \text{ where } \hat A_{i,t} > 0,\ \rho_{i,t} > 1 + \epsilon_h \ \text{ or }\ \hat A_{i,t} < 0,\
    \rho_{i,t} < 1 - \epsilon_l, \qquad 1 \text{ else.}

CISPO has M = 1 throughout. With the mask (`masked`) the gradient is PPO's where PPO's is bounded, and where a bad
token's ratio is above the interval it is bounded, too.

The paper publishes no bound for all models; the default of 5 is that of ScaleRL. An answer without tokens, and an
advantage of 0, give nothing.

===============================  =======================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
:math:`\hat\rho`                 `weight`
===============================  =======================

**Where implementations differ.** TRL caps the weight at its ``epsilon_high`` itself, not at 1 more: left at 0.2, next
to every token has the weight 0.2. verl reads the fields of PPO's clip, 0.2 on both sides, so that the weight has a
floor, too. A weight that is not detached adds the derivative of the ratio.

**Provenance.** Confirmed: by the code of TRL and verl and a public note on the paper, whose own text was not read; the
default bound by ScaleRL's weights in [0, 5]. What the coefficients of GRPO and of CISPO are is derived and checked.

MiniMax, *MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention*, 2025, arXiv:2506.13585. ScaleRL:
Khatri et al., 2025, arXiv:2510.13786.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import per_token, token_weights


@checked
def importance_weight(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    *,
    clip_low: PositiveFloat = 1.0,
    clip_high: PositiveFloat = 4.0,
) -> NonNegative[B, T]:
    """Clipped ratio of each token.

    Parameters
    ----------
    clip_low
        The weight is at least 1 - clip_low; from 1 on there is no lower bound.
    clip_high
        The weight is at most 1 + clip_high.
    """
    ratio = xp.exp(log_prob - old_log_prob)
    return xp.clip(ratio, 1 - clip_low, 1 + clip_high)  # eq. cispo-weight


@checked
def cispo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 1.0,
    clip_high: PositiveFloat = 4.0,
    aggregation: Literal["token_mean", "seq_mean", "constant"] = "token_mean",
    max_length: PositiveFloat = 1.0,
    masked: bool = False,
    weight: NonNegative[B, T] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """CISPO loss.

    Parameters
    ----------
    masked
        Whether tokens get nothing that PPO's clip would silence.
    weight
        Of each token, held constant; that of `importance_weight` if not given.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    if weight is None:
        weight = importance_weight.unchecked(
            log_prob, old_log_prob, clip_low=clip_low, clip_high=clip_high
        )
    w, A = token_weights(mask, aggregation, max_length=max_length), per_token(advantage)
    if masked:
        # eq. cispo-mask
        ratio = xp.exp(log_prob - old_log_prob)
        w = w * ~xp.where(A > 0, ratio > 1 + clip_high, ratio < 1 - clip_low)
    dJ = w * weight * A  # eq. cispo-gradient
    J = xp.vdot(dJ, log_prob)  # eq. cispo-objective
    return -J, -dJ
