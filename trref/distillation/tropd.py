r"""TrOPD: on-policy distillation that trusts a token by the chance that the teacher accepts it.

On-policy distillation pays the student, for each token that it samples, the reward

.. math::
    :label: tropd-reward

    R = \log\pi_{\text{T}}(x) - \log\pi_{\text{S}}(x), \qquad x \sim \pi_{\text{S}},

held constant in a policy gradient :math:`-R \log\pi_{\text{S}}(x)`, whose mean is the gradient of
:math:`KL(\pi_{\text{S}} \| \pi_{\text{T}})`. Where the teacher finds a token absurd, the reward falls without bound.
TrOPD tosses the coin of speculative decoding:

.. math::
    :label: tropd-trust

    M \sim \text{Bernoulli}(P), \qquad
    P = \min\Big\{ \frac{\pi_{\text{T}}(x)}{\pi_{\text{S}}(x)},\, 1 \Big\} = e^{\min(R, 0)}

A token that is accepted keeps its reward. A rejected one, an *outlier*, is pulled by a forward divergence on the
:math:`k` tokens that are likeliest to the teacher, whose probabilities are not renormalised:

.. math::
    :label: tropd-forward

    F = \sum_{v \in V^k_{\text{T}}} \pi_{\text{T}}(v) \log\frac{\pi_{\text{T}}(v)}{\pi_{\text{S}}(v)}, \qquad
    \frac{\partial F}{\partial z} = \pi_{\text{S}} \sum_{v \in V^k_{\text{T}}} \pi_{\text{T}}(v)
    - \pi_{\text{T}} \odot \mathbb 1[\cdot \in V^k_{\text{T}}]

Early in training the student continues prefixes that the teacher wrote, and imitates these with a small weight. Over
the :math:`n` tokens of the continuations and the :math:`n'` of the prefixes the loss is

.. math::
    :label: tropd-loss

    L = \frac1n \sum_{\text{continuation}} \big[ -M R \log\pi_{\text{S}}(x) + (1 - M) F \big]
    - \frac\beta{n'} \sum_{\text{prefix}} \log\pi_{\text{S}}(x)

.. math::
    :label: tropd-gradient

    \frac{\partial}{\partial z} : \qquad -\tfrac1n M R\, (e_x - \pi_{\text{S}})
    + \tfrac1n (1 - M) \frac{\partial F}{\partial z}, \qquad -\tfrac\beta{n'} (e_x - \pi_{\text{S}})

with :math:`M`, :math:`R` and :math:`\pi_{\text{T}}` constant. Two other ways with outliers, for comparison, drop the
second term (``mask``) or keep the reward, not less than :math:`-\tau` (``clip``). The prefix is the first

.. math::
    :label: tropd-prefix

    \frac{l}{2} \Big( 1 + \cos \frac{\pi j}{J} \Big)

of the :math:`l` tokens of the teacher's answer in step :math:`j` of :math:`J`.

A token is accepted with a chance of 1 less the total variation of the two policies. Given :math:`R < 0` the mean of
:math:`M |R|` is :math:`|R|\, e^{-|R|} \le 1/e`: the tail is bounded. The trust region is a gate, no ball: it promises
no improvement.

==============  ==================
:math:`M`       `accepted`
:math:`\beta`   `guidance_weight`
:math:`k`       `top_k`
:math:`j, J`    `step`, `steps`
==============  ==================

Where student and teacher agree, value and gradient of an accepted token are 0. Of tokens equally likely to the teacher,
those with lower numbers are among the k.

**Where implementations differ.** A public implementation takes the divergence over the whole vocabulary for accepted
tokens, too, which has the same mean gradient and less variance. Averages over accepted and rejected tokens apart would
weigh outliers the more, the rarer they are; here the mean is over all tokens. TRL's forward divergence on the teacher's
list renormalises both, which moves the fixed point.

**Provenance.** Partly: objective, gate, top-k term, schedule and defaults agree in two independent reading notes and in
a public implementation, the four parts in the authors' figure. The notes disagree on whether the cosine shortens the
prefix or lowers its weight; the figure shows the length. That each part is averaged over its own tokens, and the
gradient, are reconstructed. τ is published nowhere.

Xing et al., *Trust Region On-Policy Distillation*, 2026, arXiv:2606.01249.
"""

import math
from typing import Literal

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Rng,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import known, logit_gradient, near, token_mean
from trref.tokens.tre import region


def _near_and_known(logits, teacher_logits, actions, **_):
    """Actions that are no tokens, log-probabilities of student and teacher more than 30 apart."""
    (test, message), *_ = near(logits, teacher_logits)
    message = message.replace("old_logits", "teacher_logits")
    return [*known(logits, actions), (test, message)]


def _taken(log_p, actions):
    return xp.take_along_axis(log_p, actions[..., None], -1)[..., 0]


@checked
def trust_probability(
    log_prob: LogProb[B, T], teacher_log_prob: LogProb[B, T]
) -> Prob[B, T]:
    """Chance that each token of the student is accepted."""
    return xp.exp(xp.minimum(teacher_log_prob - log_prob, 0))  # eq. tropd-trust


@checked
def accept(
    rng: Rng, log_prob: LogProb[B, T], teacher_log_prob: LogProb[B, T]
) -> Mask[B, T]:
    """Toss the coin of each token: 1 where it is accepted."""
    chance = trust_probability.unchecked(log_prob, teacher_log_prob)
    u = xp.asarray(rng.random(log_prob.shape), dtype=log_prob.dtype)
    return (u < chance).astype(log_prob.dtype)


@checked(also=_near_and_known)
def k1_reward(
    logits: Real[B, T, V], teacher_logits: Real[B, T, V], actions: Index[B, T]
) -> Real[B, T]:
    """Reward of each token: how much likelier it is to the teacher."""
    difference = log_softmax(teacher_logits) - log_softmax(logits)
    return _taken(difference, actions)  # eq. tropd-reward


@checked(also=_near_and_known)
def tropd(
    logits: Real[B, T, V],
    teacher_logits: Real[B, T, V],
    actions: Index[B, T],
    accepted: Mask[B, T],
    prefix: Mask[B, T],
    mask: Mask[B, T],
    *,
    outlier: Literal["forward_kl", "mask", "clip"] = "forward_kl",
    top_k: PositiveInt = 64,
    tau: PositiveFloat | None = None,
    guidance_weight: NonNegativeFloat = 0.001,
    reward: Real[B, T] | None = None,
) -> tuple[Scalar, Real[B, T, V]]:
    """TrOPD loss of the student's continuations of the teacher's prefixes.

    Parameters
    ----------
    accepted
        As of `accept`; nothing where the prefix is 1.
    prefix
        1 on the tokens that the teacher wrote.
    outlier
        What becomes of rejected tokens.
    top_k
        How many tokens of the teacher count in the forward divergence.
    tau
        ``"clip"`` keeps the reward at least at -tau.
    guidance_weight
        Of the prefixes.
    reward
        Held constant; that of `k1_reward` if None.
    """
    if reward is None:
        reward = k1_reward.unchecked(logits, teacher_logits, actions)
    log_q, log_p = log_softmax(logits), log_softmax(teacher_logits)
    log_prob = _taken(log_q, actions)
    continued = token_mean(mask * (1 - prefix))
    guided = guidance_weight * token_mean(mask * prefix)
    trusted, rejected = continued * accepted, continued * (1 - accepted)

    # what log-probabilities of sampled tokens are multiplied by
    pull = trusted * reward + guided
    if outlier == "clip":
        if tau is None:
            raise TypeError("tau must be a number for the outlier 'clip'")
        pull = pull + rejected * xp.maximum(reward, -tau)
    L = -(pull * log_prob).sum()  # eq. tropd-loss
    dL = logit_gradient(logits, actions, -pull)  # eq. tropd-gradient
    if outlier != "forward_kl":
        return L, dL

    # eq. tropd-forward
    p = xp.exp(log_p) * region.unchecked(teacher_logits, "top_k", top_k, 1.0)
    F = (p * (log_p - log_q)).sum(-1)
    dF = xp.exp(log_q) * p.sum(-1, keepdims=True) - p
    return L + (rejected * F).sum(), dL + rejected[..., None] * dF


@checked
def prefix_length(
    length: NonNegative[B], *, step: NonNegativeInt = 0, steps: PositiveInt = 200
) -> NonNegative[B]:
    """Tokens of the teacher's answer that the student is given, before rounding.

    Parameters
    ----------
    length
        Tokens of the teacher's whole answers.
    step
        From 0; after the last step nothing is given.
    """
    done = min(step / steps, 1.0)
    return length * (1 + math.cos(math.pi * done)) / 2  # eq. tropd-prefix
