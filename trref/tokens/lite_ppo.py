r"""Lite PPO: the group's mean, the batch's deviation, PPO's clip, and a mean over all tokens.

Of the many tricks around GRPO two are kept. A group's mean is a good baseline, because it belongs to the prompt. A
group's deviation is a poor scale: where nearly all answers are right, or nearly all wrong, it is tiny and blows up the
few exceptions. The deviation of the whole batch does not know the prompt, and is steady:

.. math::
    :label: lite-ppo-advantage

    \hat A_i = \frac{r_i - \bar r_{g(i)}}{\sqrt{\frac{1}{B-1} \sum_j (r_j - \bar r)^2} + \varepsilon}

with :math:`\bar r` the mean over the batch. The other trick is the average: each token of the batch counts alike,
whichever answer it stands in,

.. math::
    :label: lite-ppo-objective

    J = \frac{1}{\sum_j |y_j|} \sum_{i,t} m_{i,t} \min\big\{ \rho_{i,t} \hat A_i,\;
    \mathrm{clip}(\rho_{i,t}, 1-\epsilon, 1+\epsilon)\, \hat A_i \big\}, \qquad
    \rho_{i,t} = \exp(\log\pi_{i,t} - \log\pi^{old}_{i,t})

.. math::
    :label: lite-ppo-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = \frac{m_{i,t}}{\sum_j |y_j|}\, \rho_{i,t} \hat A_i\;
    \mathbb 1\big[\rho_{i,t} \hat A_i \le \mathrm{clip}(\rho_{i,t}, 1-\epsilon, 1+\epsilon)\, \hat A_i\big] .

There is no critic, no penalty on the divergence, no filter of long answers. The loss is
:func:`trref.tokens.dapo.dapo_over_batch` with equal bounds; the advantage is :func:`trref.tokens.grpo.group_advantage`
with the batch's deviation, Dr. GRPO's up to one number for the batch. So no prompt counts more because its answers are
nearly alike: the advantages of a group with a share p of right answers sum, in size, to :math:`2 n p (1 - p)` over the
deviation, where GRPO has :math:`2 n \sqrt{p (1 - p)}`. With one prompt it is GRPO's advantage.

Where all rewards of a group are equal its advantages are exactly 0. A batch of one answer has the advantage 0.

====================  ======
:math:`\epsilon`      `clip`
:math:`\varepsilon`   `eps`
====================  ======

**Where implementations differ.** AReaL takes the deviation about the groups' means, not about the batch's, so that
differences between prompts do not count in it: for answers of one length that is the baseline form of REINFORCE++. The
settings that ROLL documents for Lite PPO average over answers first, as GRPO does; the option for tokens beside them is
read by no code.

**Provenance.** Confirmed: by the code of ROLL, the authors' framework, by TRL with ``scale_rewards="batch"`` and
``loss_type="dapo"``, which it documents as this method, and by summaries of the paper, whose own text was not read. The
codes add :math:`10^{-6}` and :math:`10^{-4}` to the deviation. What it is in other words is derived and checked.

Liu et al., *Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning*, 2025, arXiv:2508.08221.
"""

from trref.signature import (
    B,
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
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.grpo import group_advantage


@checked
def lite_ppo_advantage(
    reward: Real[B], group: Index[B], *, eps: NonNegativeFloat = 1e-6
) -> Real[B]:
    """Rewards less their group's mean, over the deviation of the batch.

    Parameters
    ----------
    eps
        Added to the deviation.
    """
    # eq. lite-ppo-advantage
    return group_advantage.unchecked(reward, group, std="batch", eps=eps)


@checked
def lite_ppo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    reward: Real[B],
    group: Index[B],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
    eps: NonNegativeFloat = 1e-6,
) -> tuple[Scalar, Real[B, T]]:
    """Lite PPO loss, from rewards."""
    advantage = lite_ppo_advantage.unchecked(reward, group, eps=eps)
    # eq. lite-ppo-objective
    # eq. lite-ppo-gradient
    return dapo_over_batch.unchecked(
        log_prob, old_log_prob, advantage, mask, clip_low=clip, clip_high=clip
    )
