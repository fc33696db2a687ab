r"""Trust region preference approximation: rules make levels, levels make pairs, and a divergence keeps steps small.

Answers that were sampled by the old policy get a level by rules, without a reward model:

.. math::
    :label: trpa-levels

    1\text{: all right}, \quad 2\text{: wrong}, \quad 3\text{: incomplete}, \quad 4\text{: wrong format}

Each answer's log-ratio to the reference is a mean over its tokens,

.. math::
    :label: trpa-log-ratio

    u_i = \frac1{|y_i|} \sum_t \big( \log\pi(y_{i,t}) - \log\pi_{ref}(y_{i,t}) \big)

and every pair of answers to one prompt whose levels differ is a comparison, :math:`\mathcal P = \{(i, j):
\text{level}_i < \text{level}_j\}`. Pairs whose winner is all right count with a larger temperature,

.. math::
    :label: trpa-pairs

    L_{pairs} = -\frac1{|\mathcal P|} \sum_{(i,j)} \log\sigma(h_{ij}), \qquad h_{ij} = \kappa_i \beta (u_i - u_j), \quad
    \kappa_i = \kappa \text{ if } \text{level}_i = 1, \text{ else } 1

.. math::
    :label: trpa-gradient

    \frac{\partial L_{pairs}}{\partial u_i} = \frac\beta{|\mathcal P|} \Big[
    -\sum_{j: (i,j)} \kappa_i\, \sigma(-h_{ij}) + \sum_{k: (k,i)} \kappa_k\, \sigma(-h_{ki}) \Big]

That is the form of the authors' code (``"pair"``): only differences count. The paper puts the temperature on each
answer,

.. math::
    :label: trpa-answers

    h_{ij} = \beta_i u_i - \beta_j u_j, \qquad \beta_i = \kappa\beta \text{ if } \text{level}_i = 1, \text{ else } \beta

(``"answer"``), which also rewards raising all of them. If no two answers to a prompt differ in the whole batch, each is
pushed by its own level, without a temperature:

.. math::
    :label: trpa-fallback

    L_{pairs} = -\frac1B \sum_i \log\sigma(s_i u_i), \qquad s_i = 1 \text{ if } \text{level}_i = 1, \text{ else } -1

The trust region is a penalty on the divergence from the old policy, a mean over all tokens,

.. math::
    :label: trpa-penalty

    k_3 = \min\big\{ e^d - d - 1,\; 10 \big\}, \qquad d = \log\pi_{old} - \log\pi, \qquad
    \frac{\partial k_3}{\partial \log\pi} = 1 - e^d

(0 where the minimum is 10), and the whole is

.. math::
    :label: trpa-loss

    L = L_{pairs} + c\, \overline{k_3}

or, as an option of the authors' code, with a root of the penalty, whose slope is the same at 0 and falls beyond:

.. math::
    :label: trpa-root

    L = L_{pairs} + c\, \sqrt{\overline{k_3} + \tfrac14}

At :math:`\pi = \pi_{old}` the penalty has no slope: with one step a batch it does nothing. The samples are the old
policy's, under which the expectation of :math:`k_3` is :math:`\sum \pi_{old}^2/\pi - 1 - \mathrm{KL}(\pi_{old} \|
\pi)`, not :math:`\mathrm{KL}(\pi\|\pi_{old})`; the two agree to second order. An answer without tokens has
:math:`u = 0`.

==================  ====================
:math:`\kappa`      ``winner_weight``
:math:`c`           ``kl_weight``
==================  ====================

**Where implementations differ.** In the authors' code the mean over pairs and the decision for :eq:`trpa-fallback` are
made in each micro-batch, so that the loss depends on how the batch is cut. Prompts with balanced levels have more pairs
and count for more. The clamp at 10 is on :math:`k_3` itself, as in verl, and is reached at :math:`d \approx 2.61` and
:math:`d \approx -11`.

**Provenance.** Levels, pairs, fallback, penalty and constants confirmed by the authors' code
(XueruiSu/Trust-Region-Preference-Approximation verl/trainer/ppo/core_algos.py, verl/workers/actor/dp_actor.py); the
paper's form by analogy with what a published review shows of it.

Su, Xie, Liu, Xia, Luo, Jin, Ma, Wang, Wang and Liu, *Trust Region Preference Approximation: A simple and stable
reinforcement learning algorithm for LLM reasoning*, 2025, arXiv:2504.04524.
"""

from typing import Literal

from trref.backend import special, xp
from trref.preferences.dpo import sequence_log_prob
from trref.preferences.terms import softplus
from trref.signature import (
    B,
    Binary,
    Index,
    LogProb,
    Mask,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)


@checked
def preference_levels(
    format_ok: Binary[B], complete: Binary[B], correct: Binary[B]
) -> Index[B]:
    """Level of each answer, 1 the best.

    Parameters
    ----------
    format_ok
        1 where the format is right.
    complete
        1 where the answer is complete.
    correct
        1 where it is right.
    """
    # eq. trpa-levels
    of_complete = xp.where(correct == 1, 1, 2)
    return xp.where(format_ok == 1, xp.where(complete == 1, of_complete, 3), 4)


@checked
def pair_loss(
    log_ratio: Real[B],
    level: Index[B],
    group: Index[B],
    *,
    beta: PositiveFloat = 0.1,
    winner_weight: PositiveFloat = 2.5,
    form: Literal["pair", "answer"] = "pair",
) -> tuple[Scalar, Real[B]]:
    """Mean loss over all pairs of different levels; without any, of the answers by themselves.

    Parameters
    ----------
    log_ratio
        Of each answer, a mean over its tokens.
    level
        Of each answer, 1 the best.
    beta
        Temperature of the comparisons.
    winner_weight
        What multiplies the temperature at level 1.
    form
        Whether the temperature belongs to the pair, as in the authors' code, or to the answer, as in the paper.
    """
    best = (level == 1).astype(log_ratio.dtype)
    temperature = beta * (1 + (winner_weight - 1) * best)
    of_winner = temperature[:, None]
    of_loser = of_winner if form == "pair" else temperature[None, :]
    # eq. trpa-answers
    h = of_winner * log_ratio[:, None] - of_loser * log_ratio[None, :]

    same = group[:, None] == group[None, :]
    pairs = (same & (level[:, None] < level[None, :])).astype(log_ratio.dtype)
    count = pairs.sum()
    share = pairs / xp.maximum(count, 1)
    # eq. trpa-pairs
    loss = (share * softplus(-h)).sum()
    slope = share * special.expit(-h)
    # eq. trpa-gradient
    gradient = (slope * of_loser).sum(0) - (slope * of_winner).sum(1)

    # eq. trpa-fallback
    B, sign = len(log_ratio), 2 * best - 1
    alone = softplus(-sign * log_ratio).sum() / B
    d_alone = -sign * special.expit(-sign * log_ratio) / B
    return xp.where(count > 0, loss, alone), xp.where(count > 0, gradient, d_alone)


@checked
def trpa(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    ref_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    level: Index[B],
    group: Index[B],
    *,
    beta: PositiveFloat = 0.1,
    winner_weight: PositiveFloat = 2.5,
    kl_weight: NonNegativeFloat = 0.001,
    form: Literal["pair", "answer"] = "pair",
    penalty: Literal["mean", "root"] = "mean",
) -> tuple[Scalar, Real[B, T]]:
    """Loss of the pairs, and the divergence from the old policy.

    Parameters
    ----------
    penalty
        Whether the mean divergence counts, or its root.
    """
    ratio = sequence_log_prob.unchecked(log_prob - ref_log_prob, mask, average=True)
    # eq. trpa-log-ratio
    loss, d_ratio = pair_loss.unchecked(
        ratio, level, group, beta=beta, winner_weight=winner_weight, form=form
    )
    d_log_prob = d_ratio[:, None] * mask / xp.maximum(mask.sum(1), 1)[:, None]

    # eq. trpa-penalty
    d = old_log_prob - log_prob
    k3 = xp.expm1(d) - d
    d_k3 = xp.where(k3 < 10, -xp.expm1(d), 0)
    weight = mask / xp.maximum(mask.sum(), 1)
    mean = (weight * xp.minimum(k3, 10)).sum()
    if penalty == "root":
        root = xp.sqrt(mean + 0.25)  # eq. trpa-root
        return loss + kl_weight * root, d_log_prob + kl_weight * weight * d_k3 / (
            2 * root
        )
    # eq. trpa-loss
    return loss + kl_weight * mean, d_log_prob + kl_weight * weight * d_k3
