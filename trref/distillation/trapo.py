r"""TRAPO: imitation of an expert's prefix and reinforcement of one's own continuation, in one loss.

The gradient of supervised fine-tuning weighs the gradient of a token's probability :math:`p` by :math:`1/p`, which
explodes on tokens that the policy finds unlikely. TrSFT caps the weight:

.. math::
    :label: trapo-weight

    \frac{\partial}{\partial \log p} = -\frac{p}{\max(p, \alpha)}

It is the derivative of a scalar, convex and once differentiable in p,

.. math::
    :label: trapo-potential

    \varphi_\alpha(p) = \begin{cases} -\log p & p \ge \alpha \\ 1 - \log\alpha - p/\alpha & p < \alpha \end{cases}
    \qquad = 1 - \max(\log p, \log\alpha) - \frac{p}{\max(p, \alpha)}

with supervised fine-tuning at :math:`\alpha = 0`. Over demonstrations, with :math:`M` tokens whose mask is 1,

.. math::
    :label: trapo-sft

    L = \frac1M \sum_t \varphi_\alpha(p_t),

and for an expert whose whole law :math:`e` is known, averaged over states,

.. math::
    :label: trapo-population

    L = \sum_y e_y\, \varphi_\alpha(q_y), \qquad
    \frac{\partial L}{\partial z} = q \sum_y s_y - s, \quad s_y = e_y\, \frac{q_y}{\max(q_y, \alpha)} .

The minimum drops the expert's minor modes and scales the others up. With :math:`e_1 \ge e_2 \ge \ldots` and
:math:`E_k = e_1 + \cdots + e_k`, let :math:`m` be the largest k with :math:`e_k \ge \alpha E_k`:

.. math::
    :label: trapo-optimum

    \lambda = \max\Big( E_m,\, \frac{e_{m+1}}{\alpha} \Big), \qquad q_k = \frac{e_k}{\lambda} \ (k \le m), \qquad
    q_{m+1} = 1 - \frac{E_m}{\lambda}, \qquad q_k = 0 \text{ beyond.}

TRAPO shows the policy the beginning of an expert's answer, and lets it go on. Tokens of the prefix (:math:`m_t = 1`,
supervised where :math:`s_t = 1`) are imitated, the policy's own get GRPO's term with the advantage of the group's mean,
without deviation (:func:`trref.tokens.dr_grpo.centred_advantage`), over a constant length:

.. math::
    :label: trapo-objective

    L = \frac1{B T_{\max}} \sum_{i,t} \big[ -(1 - m_t)\, A_i\, r_t + m_t s_t\, \varphi_\alpha(p_t) \big], \qquad
    r_t = \frac{p_t}{p_t^{\text{old}}}

.. math::
    :label: trapo-gradient

    \frac{\partial L}{\partial \log p_t} = \frac1{B T_{\max}} \Big[ -(1 - m_t)\, A_i\, r_t - m_t s_t\,
    \frac{p_t}{\max(p_t, \alpha)} \Big]

An option clips the ratio as PPO does. How much of the expert is shown is decided group by group: four answers without a
prefix come first, then 2, 1 and 1 with 0.2, 0.5 and all of it, as long as the prompt's mean reward so far is below
0.5, 0.7 and 0.9:

.. math::
    :label: trapo-schedule

    \text{ratio}_g = L_g\; \mathbb 1[\text{mean reward so far} < t_g] .

================  ==============
:math:`m_t`       `prefix`
:math:`s_t`       `supervised`
:math:`T_{\max}`  `max_length`
:math:`L_g`       `ratio`
:math:`t_g`       `threshold`
================  ==============

Without tokens, value and gradient are 0. Of equally likely modes the first are kept.

**Where implementations differ.** The authors' code has the surrogate :math:`-p / \max(p, \alpha)` with a constant
denominator: the same gradient, with a value of -1 on every token inside, which is no loss to watch. Its ratios begin
with 0.25, and the third group asks whether the sum of six rewards is below 4, where a sum of 4 is also a mean below
0.7. Of two answers with one prefix the second alone is supervised there, by :math:`s`.

**Provenance.** Confirmed by the authors' code and a reading note of the paper: the weight, the objective's gradient and
the schedule. The potential, and the optimum in closed form, were derived here; the note tells the optimum's shape.

Su et al., *Trust-Region Adaptive Policy Optimization*, 2025, arXiv:2512.17636.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    FiniteFloat,
    Fraction,
    LogProb,
    Mask,
    N,
    P,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    Simplex,
    T,
    V,
    checked,
)
from trref.tokens.terms import clip_surrogate, token_mean, token_weights


class Group(NamedTuple):
    """How many answers a group has, how much of the expert it is shown, and below which mean reward."""

    answers: int
    ratio: float
    threshold: float


GROUPS = (
    Group(4, 0.0, -1.0),
    Group(2, 0.2, 0.5),
    Group(1, 0.5, 0.7),
    Group(1, 1.0, 0.9),
)


def _potential(log_p, alpha):
    """The potential of each probability, and minus its derivative in the logarithm."""
    floor = math.log(alpha) if alpha > 0 else -math.inf
    pull = xp.exp(xp.minimum(log_p - floor, 0))  # eq. trapo-weight
    return 1 - xp.maximum(log_p, floor) - pull, pull  # eq. trapo-potential


@checked
def trust_region_sft(
    log_prob: LogProb[B, T], mask: Mask[B, T], *, alpha: Fraction = 0.1
) -> tuple[Scalar, Real[B, T]]:
    """TrSFT loss of demonstrations.

    Parameters
    ----------
    log_prob
        Of the tokens of the demonstrations.
    alpha
        Probability below which a token's pull falls.
    """
    value, pull = _potential(log_prob, alpha)
    w = token_mean(mask)
    return (w * value).sum(), -w * pull  # eq. trapo-sft


@checked
def population_loss(
    logits: Real[N, V], expert: Simplex[N, V], *, alpha: Fraction = 0.1
) -> tuple[Scalar, Real[N, V]]:
    """TrSFT loss of an expert whose law is known, mean over states.

    Parameters
    ----------
    expert
        Probabilities in each state.
    """
    log_q = log_softmax(logits)
    value, pull = _potential(log_q, alpha)
    # eq. trapo-population
    s = expert * pull
    gradient = xp.exp(log_q) * s.sum(-1, keepdims=True) - s
    return (expert * value).sum() / len(logits), gradient / len(logits)


@checked
def trsft_optimum(expert: Simplex[N, V], *, alpha: Fraction = 0.1) -> Simplex[N, V]:
    """Law that minimises the loss against each of the expert's."""
    order = xp.argsort(-expert, axis=-1, kind="stable")
    e = xp.take_along_axis(expert, order, -1)
    total = xp.cumsum(e, axis=-1)
    # eq. trapo-optimum
    kept = (e >= alpha * total).astype(e.dtype)
    kept_mass = (kept * e).sum(-1, keepdims=True)
    following = (xp.cumsum(1 - kept, axis=-1) == 1).astype(e.dtype)
    scale = kept_mass
    if alpha > 0:
        edge = (following * e).sum(-1, keepdims=True) / alpha
        scale = xp.maximum(kept_mass, edge)
    q = kept * e / scale + following * (1 - kept_mass / scale)
    return xp.take_along_axis(q, xp.argsort(order, axis=-1, kind="stable"), -1)


@checked
def trapo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    prefix: Mask[B, T],
    supervised: Mask[B, T],
    mask: Mask[B, T],
    *,
    max_length: PositiveFloat,
    alpha: Fraction = 0.1,
    clip: PositiveFloat | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """TRAPO loss of answers that begin as the expert's do.

    Parameters
    ----------
    prefix
        1 on tokens of the expert.
    supervised
        1 on those of the prefix that are imitated.
    clip
        The ratio is not clipped if None.
    """
    width = math.inf if clip is None else clip
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, width, width)
    value, pull = _potential(log_prob, alpha)
    w = token_weights(mask, "constant", max_length=max_length)
    own, shown = w * (1 - prefix), w * prefix * supervised
    L = (shown * value - own * term).sum()  # eq. trapo-objective
    dL = -own * derivative - shown * pull  # eq. trapo-gradient
    return L, dL


@checked
def prefix_ratio(
    reward: Real[P, N], *, ratio: Fraction = 0.2, threshold: FiniteFloat = 0.5
) -> Prob[P]:
    """Share of the expert's answer that the next group is shown, for each prompt.

    Parameters
    ----------
    reward
        Of each prompt's answers so far.
    ratio
        What is shown where more is needed, as in `GROUPS`.
    threshold
        Mean reward from which on nothing is shown.
    """
    # eq. trapo-schedule
    return ratio * (reward.mean(1) < threshold).astype(reward.dtype)
