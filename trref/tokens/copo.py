r"""COPO: groups that agree learn from the other prompts, groups that disagree from themselves.

Where all answers to a prompt are right, or all are wrong, GRPO's advantage is zero and the group is wasted. What
differs here: a second advantage, the same for all answers to a prompt, says how well its group did among the P prompts
of the batch,

.. math::
    :label: copo-reward

    R_j = \frac1{G_j} \sum_{i \in j} r_i

.. math::
    :label: copo-global

    \hat A^{glob}_j = \frac{R_j - \bar R}{s_R + \varepsilon}, \qquad \bar R = \frac1P \sum_j R_j, \qquad
    s_R^2 = \frac1P \sum_j (R_j - \bar R)^2

exactly zero where all prompts did equally well. How much the final answers of the group agree decides which of the two
counts. With the shares f of the distinct ones among G,

.. math::
    :label: copo-entropy

    H_j = -\sum_a f_{j,a} \log f_{j,a} \in [0, \log G_j]

.. math::
    :label: copo-weight

    w_j = \frac{1}{1 + e^{-\gamma (H_j - h)}}

is the weight of the group's own advantage :math:`\hat A` (:func:`trref.tokens.grpo.group_advantage`). With
:math:`\gamma = 20` and :math:`h = 1.5` it is almost a switch: six different answers give 0.997, one pair among them
0.77, two pairs 0.03. The threshold depends on G: of four answers :math:`\log 4 = 1.39` is the largest entropy, and even
four different ones give 0.09. As a share of :math:`\log 6` it is 0.84 (``unit="log_group"``). A group that agrees on a
wrong answer has H = 0 just as one that agrees on the right one. A group of different wrong answers has a large H,
listens to itself and learns nothing; with ``global_if_all_wrong`` it listens to the other prompts,

.. math::
    :label: copo-all-wrong

    w_j = 0 \quad \text{where} \quad R_j = 0 .

With GRPO's clipped term :math:`\ell` the two losses are blended,

.. math::
    :label: copo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \Big[ w_{j(i)}\, \ell_{i,t}(\hat A_i)
    + (1 - w_{j(i)})\, \ell_{i,t}(\hat A^{glob}_{j(i)}) \Big]

or, which is the same on-policy, where both are REINFORCE with the blended advantages, and while both advantages have
one sign, their advantages:

.. math::
    :label: copo-blended

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \ell_{i,t}\big( w_{j(i)} \hat A_i
    + (1 - w_{j(i)})\, \hat A^{glob}_{j(i)} \big)

With w = 1 this is GRPO; with w = 0 and groups of one it is REINFORCE on rewards normalised over the batch; for a single
prompt the global term vanishes.

A group of wrong answers has all of them pushed down alike, so that probability moves to answers that were not sampled.
Before the division by :math:`s_R` the mean of the global term's gradient on-policy is 1/G of the gradient of the
probability of being right: an ordinary policy gradient, weaker, with the batch as baseline. Its sign depends on which
prompts share the batch: easy ones are pushed up and hard ones down, whatever progress they make.

===================  ===========
h                    `threshold`
:math:`\varepsilon`  `eps`
===================  ===========

**Where implementations differ.** The authors' code could not be read. Whether answers are equal is to be decided on
normalised final answers, not on token strings. Where prompts have groups of different sizes, the global statistics here
count every prompt once, the loss every answer.

**Provenance.** Partly: that a prompt's reward is its group's mean, its normalisation over the batch, that all tokens of
all its answers get this one advantage, entropy, weight and the two constants, and that two losses are blended, by
public reviews of the paper. Reconstructed: that both losses share GRPO's clipped term, the unit ``"log_group"``, and
what becomes of groups of wrong answers: a review says that the paper treats them separately, and not how. The
statistics of the batch are constants. In the paper's ablation, as the reviews report it, the global loss alone does as
well as the blend, 60.35 % against 60.38 %.

Han et al., *COPO: Consistency-Aware Policy Optimization*, 2025, arXiv:2508.04138.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    FiniteFloat,
    Index,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, group_mean, per_token, seq_mean


@checked
def prompt_reward(reward: Real[B], group: Index[B]) -> Real[B]:
    """Mean reward of each answer's group."""
    return group_mean(reward, group)[0]  # eq. copo-reward


@checked
def global_advantage(
    reward: Real[B], group: Index[B], *, eps: NonNegativeFloat = 0.0
) -> Real[B]:
    """How well each answer's group did among the prompts of the batch; exactly 0 where all did equally well.

    Parameters
    ----------
    eps
        Added to the deviation.
    """
    # eq. copo-global
    R, count = group_mean(reward, group)
    each = 1 / count / (1 / count).sum()  # every prompt counts once
    rounding = 16 * float(xp.finfo(R.dtype).eps) * abs(reward).max()
    equal = (abs(R - R[0]) <= rounding).all()
    centred = xp.where(equal, 0, R - (each * R).sum())
    std = xp.sqrt((each * centred**2).sum()) + eps
    smallest = float(xp.finfo(R.dtype).tiny)  # 0 / smallest where all are equal
    return centred / xp.maximum(std, smallest)


@checked
def consistency_entropy(
    group: Index[B],
    answer: Index[B],
    *,
    dtype: Literal["float64", "float32"] = "float64",
) -> NonNegative[B]:
    """Entropy of the final answers of each answer's group, in nats; 0 where they agree."""
    return _entropy(group, answer, dtype)[0]


def _entropy(group, answer, dtype):
    """The entropy, and the number of answers of the group."""
    same_group = group[:, None] == group[None, :]
    same = (same_group & (answer[:, None] == answer[None, :])).astype(dtype)
    count = same_group.astype(dtype).sum(1)
    H = -group_mean(xp.log(same.sum(1) / count), group)[0]  # eq. copo-entropy
    return xp.maximum(H, 0), count


@checked
def local_weight(
    group: Index[B],
    answer: Index[B],
    *,
    gamma: NonNegativeFloat = 20.0,
    threshold: FiniteFloat = 1.5,
    unit: Literal["nats", "log_group"] = "nats",
    dtype: Literal["float64", "float32"] = "float64",
) -> Prob[B]:
    """Weight of the group's own advantage: close to 1 where its answers differ, close to 0 where they agree.

    Parameters
    ----------
    gamma
        Steepness.
    threshold
        The entropy at which the weight is one half.
    unit
        In which the threshold is given: the entropy itself, or a share of its largest value.
    """
    H, count = _entropy(group, answer, dtype)
    h = threshold * xp.log(count) if unit == "log_group" else threshold
    return xp.exp(-xp.logaddexp(0, -gamma * (H - h)))  # eq. copo-weight


@checked
def copo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    group: Index[B],
    reward: Binary[B],
    answer: Index[B],
    *,
    clip: PositiveFloat = 0.2,
    gamma: NonNegativeFloat = 20.0,
    threshold: FiniteFloat = 1.5,
    unit: Literal["nats", "log_group"] = "nats",
    eps: NonNegativeFloat = 0.0,
    blend: Literal["losses", "advantages"] = "losses",
    global_if_all_wrong: bool = False,
) -> tuple[Scalar, Real[B, T]]:
    """COPO loss: GRPO's with the group's own and the global advantage, blended by how much the group agrees.

    Parameters
    ----------
    advantage
        The group's own, as of `trref.tokens.grpo.group_advantage`.
    blend
        What is blended: the two losses, or the two advantages.
    global_if_all_wrong
        Groups without a right answer have the global advantage alone.
    """
    dtype = "float32" if log_prob.dtype == "float32" else "float64"
    local = local_weight.unchecked(
        group, answer, gamma=gamma, threshold=threshold, unit=unit, dtype=dtype
    )[:, None]
    if global_if_all_wrong:
        right = prompt_reward.unchecked(reward, group)[:, None]
        local = xp.where(right == 0, 0, local)  # eq. copo-all-wrong
    A = per_token(advantage)
    A_global = global_advantage.unchecked(reward, group, eps=eps)[:, None]
    w = seq_mean(mask)
    if blend == "advantages":
        blended = local * A + (1 - local) * A_global
        term, derivative = clip_surrogate(log_prob, old_log_prob, blended, clip, clip)
        return -(w * term).sum(), -w * derivative  # eq. copo-blended
    own, d_own = clip_surrogate(log_prob, old_log_prob, A, clip, clip)
    other, d_other = clip_surrogate(log_prob, old_log_prob, A_global, clip, clip)
    # eq. copo-objective
    J = (w * (local * own + (1 - local) * other)).sum()
    dJ = w * (local * d_own + (1 - local) * d_other)
    return -J, -dJ
