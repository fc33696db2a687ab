r"""Probability smoothing policy optimisation (PSPO): mix the policy with the old one before dividing, and clip nothing.

What differs from GRPO: there is no clip. Instead the ratio is taken of a mixture, as label smoothing with the old
policy as target,

.. math::
    :label: pspo-mixture

    \tilde\pi = (1 - \alpha)\, \pi + \alpha\, \pi^{old}

.. math::
    :label: pspo-ratio

    \tilde\rho = \frac{\tilde\pi}{\pi^{old}} = (1 - \alpha)\, \rho + \alpha

.. math::
    :label: pspo-objective

    J = \sum_{i,t} w_{i,t}\, \tilde\rho_{i,t}\, \hat A_i, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} = (1 - \alpha)\, w_{i,t}\, \rho_{i,t}\, \hat A_i

with the weights of :mod:`trref.tokens.grpo`. The ratio is pulled towards 1 and is flat nowhere. It is an affine
function of the plain one, and therefore :math:`J = (1 - \alpha) J_{IS} + \alpha \sum w \hat A` with :math:`J_{IS}` the
unclipped importance-sampling objective: the gradient is exactly :math:`1 - \alpha` times that of :math:`J_{IS}`
(on-policy, of REINFORCE): a change of the step size for gradient descent, and of nothing but Adam's epsilon for Adam.
The mixture is closer to the old policy,

.. math::
    :label: pspo-contraction

    TV(\tilde\pi, \pi^{old}) = (1 - \alpha)\, TV(\pi, \pi^{old}), \quad
    \chi^2(\tilde\pi \| \pi^{old}) = (1 - \alpha)^2 \chi^2(\pi \| \pi^{old}), \quad
    KL(\tilde\pi \| \pi^{old}) \le (1 - \alpha)\, KL(\pi \| \pi^{old})

and the same for :math:`KL(\pi^{old} \| \tilde\pi)`. That bounds the mixture, which lives only inside the loss, and not
the policy, which samples.

Two extensions are not in the paper: they show what smoothing does where it is more than a step size. A product of
smoothed ratios changes the direction, too: each token is weighted by how far it moved,

.. math::
    :label: pspo-sequence

    J = \frac1B \sum_i \hat A_i \prod_t \tilde\rho_{i,t}^{\,m_{i,t}}, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}B\, \hat A_i\,
    \frac{(1 - \alpha)\, \rho_{i,t}}{\tilde\rho_{i,t}} \prod_s \tilde\rho_{i,s}^{\,m_{i,s}}

A clip of the smoothed ratio,

.. math::
    :label: pspo-clip

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \min\big\{ \tilde\rho \hat A,\;
    \mathrm{clip}(\tilde\rho, 1-\epsilon, 1+\epsilon)\, \hat A \big\}

has the gradient of a clip of the plain ratio at :math:`1 \pm \epsilon/(1-\alpha)`, times :math:`1-\alpha`: it is a
wider clip. In each an answer without tokens contributes nothing, though it counts in B.

**Where implementations differ.** The option for TRL (``trust_region_method="pspo"``, ``smoothing_alpha=0.1``) was never
released; its documentation agrees with the equations here. The runs that the paper compares had different learning
rates. No public code of the extensions was found.

**Provenance.** The method and its constant are confirmed by a public review that restates them and by that
documentation; the equivalence and the contraction are derived and checked here. The extensions are reconstructed.

Dwyer et al., *It's Not You, It's Clipping: A Soft Trust-Region via Probability Smoothing for LLM RL*, 2025,
arXiv:2509.21282.
"""

import math
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    Decay,
    LogProb,
    Mask,
    NonNegative,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.f_divergences import generator
from trref.tokens.terms import near, per_token, seq_mean, token_weights


class Contraction(NamedTuple):
    """Distances of the mixture from the old policy: KL(mixture ‖ old) is the reverse one."""

    total_variation: NonNegative[B, T]
    chi_square: NonNegative[B, T]
    reverse_kl: NonNegative[B, T]
    forward_kl: NonNegative[B, T]


def _smooth(ratio, alpha):
    return (1 - alpha) * ratio + alpha  # eq. pspo-ratio


@checked
def smoothed_policy(
    logits: Real[B, T, V], old_logits: Real[B, T, V], *, alpha: Decay = 0.1
) -> Prob[B, T, V]:
    """Mixture of the policy and the old one: a distribution.

    Parameters
    ----------
    alpha
        Share of the old policy.
    """
    p, q = xp.exp(log_softmax(logits)), xp.exp(log_softmax(old_logits))
    return (1 - alpha) * p + alpha * q  # eq. pspo-mixture


@checked(also=near)
def contraction(
    logits: Real[B, T, V], old_logits: Real[B, T, V], *, alpha: Decay = 0.1
) -> Contraction:
    """Distances of the mixture from the old policy."""
    # eq. pspo-contraction
    log_old = log_softmax(old_logits)
    log_u = log_softmax(logits) - log_old
    if alpha:
        log_u = xp.log1p((1 - alpha) * xp.expm1(log_u))
    kinds = ("total_variation", "pearson", "reverse_kl", "forward_kl")
    each = [generator.unchecked(log_u, kind)[0] for kind in kinds]
    return Contraction(*((xp.exp(log_old) * f).sum(-1) for f in each))


@checked
def smoothed_ratio(
    log_prob: LogProb[B, T], old_log_prob: LogProb[B, T], *, alpha: Decay = 0.1
) -> Positive[B, T]:
    """Ratio of the mixture to the old policy; never below `alpha`."""
    return _smooth(xp.exp(log_prob - old_log_prob), alpha)


@checked
def pspo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    alpha: Decay = 0.1,
    aggregation: Literal["seq_mean", "token_mean"] = "seq_mean",
) -> tuple[Scalar, Real[B, T]]:
    """PSPO loss; its gradient is 1 - alpha times that of the unclipped importance-sampling loss."""
    A, w = per_token(advantage), token_weights(mask, aggregation)
    ratio = xp.exp(log_prob - old_log_prob)
    # eq. pspo-objective
    J = (w * (_smooth(ratio, alpha) * A)).sum()
    dJ = (1 - alpha) * w * (ratio * A)
    return -J, -dJ


def _log_smooth(log_ratio, alpha):
    """The logarithm of the smoothed ratio."""
    if alpha == 0:
        return log_ratio
    log_alpha = xp.full_like(log_ratio, math.log(alpha))
    return xp.logaddexp(log_ratio + math.log1p(-alpha), log_alpha)


def _log_product(log_ratio, mask, alpha):
    return (mask * _log_smooth(log_ratio, alpha)).sum(1)


def _moderate_product(log_prob, old_log_prob, mask, alpha, **_):
    """A product beyond exp(30)."""
    bound = validate.LOG_RATIO_BOUND
    return [
        (
            lambda: (_log_product(log_prob - old_log_prob, mask, alpha) <= bound).all(),
            "log_prob must give no answer a product of smoothed ratios"
            f" above exp({bound:g})",
        )
    ]


@checked(also=_moderate_product)
def pspo_sequence(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    *,
    alpha: Decay = 0.1,
) -> tuple[Scalar, Real[B, T]]:
    """Loss with the smoothed ratio of the whole answer, a product over its tokens."""
    # eq. pspo-sequence
    log_ratio = log_prob - old_log_prob
    product = xp.exp(_log_product(log_ratio, mask, alpha))
    each = advantage * product * mask.any(1) / len(mask)
    J = each.sum()
    log_share = log_ratio + math.log1p(-alpha) - _log_smooth(log_ratio, alpha)
    dJ = mask * each[:, None] * xp.exp(log_share)
    return -J, -dJ


@checked
def pspo_clipped(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    alpha: Decay = 0.1,
    clip: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """Loss with the smoothed ratio under GRPO's clip, which is a wider clip of the plain one.

    Parameters
    ----------
    clip
        The ratio is the smoothed one.
    """
    A, w = per_token(advantage), seq_mean(mask)
    ratio = xp.exp(log_prob - old_log_prob)
    smoothed = _smooth(ratio, alpha)
    unclipped, clipped = smoothed * A, xp.clip(smoothed, 1 - clip, 1 + clip) * A
    # eq. pspo-clip
    J = (w * xp.minimum(unclipped, clipped)).sum()
    dJ = (1 - alpha) * w * ratio * A * (unclipped <= clipped)
    return -J, -dJ
