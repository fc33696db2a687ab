r"""ReMax: the baseline is the reward of the greedy answer.

A group of answers costs as many generations. ReMax takes one more generation instead: the greedy answer :math:`\hat y`
under the policy that sampled. Its reward does not depend on the sampled answer, so the estimator is unbiased. With
rewards of tokens, such as a charge for leaving the reference and a reward at the end, each token gets what follows it:

.. math::
    :label: remax-advantage

    \hat A_{i,t} = m_{i,t} \Big( \sum_{s \ge t} m_{i,s}\, r_{i,s} - r(\hat y_i) \Big)

and the loss is REINFORCE with the sum over tokens. With a reward at the end alone all tokens have the advantage
:math:`r_i - r(\hat y_i)`: an answer counts as good if it beats the greedy one. How much variance that saves hangs on
one answer. Where the greedy answer is wrong, its baseline of 0 saves nothing.

=====================  ===============
:math:`r_{i,s}`        `token_reward`
:math:`r(\hat y_i)`    `greedy_reward`
=====================  ===============

**Where implementations differ.** The authors' trainer gives each token only its own charge beside the difference at the
end, so that a token pays nothing for what it leads to.

**Provenance.** Confirmed: by verl's code. Partly: what the authors' trainer does, from notes on it. That the estimator
is unbiased is checked by enumeration.

Li et al., *ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language Models*,
2023, arXiv:2310.10505.
"""

from trref.backend import xp
from trref.signature import B, Mask, Real, T, checked


@checked
def remax_advantage(
    token_reward: Real[B, T], greedy_reward: Real[B], mask: Mask[B, T]
) -> Real[B, T]:
    """Rewards from each token on, less the reward of the greedy answer; 0 where the mask is 0.

    Parameters
    ----------
    token_reward
        Reward of each token; that of the answer stands at its last one.
    greedy_reward
        Reward of the greedy answer to the same prompt.
    """
    valid = mask * token_reward
    to_go = valid.sum(1, keepdims=True) - xp.cumsum(valid, 1) + valid
    return mask * (to_go - greedy_reward[:, None])  # eq. remax-advantage
