r"""MaxRL: divide by the group's success rate, and ascend the likelihood of being right.

With a verifier that says right or wrong, a policy has a probability p of being right. Reinforcement learning ascends p,
maximum likelihood :math:`\log p`, whose gradient :math:`\nabla p / p` gives hard prompts more weight. The logarithm is
a series in the probability of failure, with :math:`\mathrm{pass}@k = 1 - (1-p)^k`, and cut at the order T it is

.. math::
    :label: maxrl-objective

    J_T = -\sum_{k=1}^T \frac{(1-p)^k}k, \qquad
    \nabla J_T = \sum_{k=1}^T (1-p)^{k-1}\, \nabla p = \frac{1 - (1-p)^T}p\, \nabla p

:math:`T = 1` is reinforcement learning, :math:`T \to \infty` maximum likelihood. For a group of G answers to a prompt
with mean reward :math:`\bar r_g`, the mean score over the *right* answers estimates :math:`\nabla J_G` without bias:

.. math::
    :label: maxrl-weight

    w_i = \frac{r_i}{\bar r_g}, \qquad 0 \text{ where } \bar r_g = 0

With the group's mean as a baseline the change to the code of GRPO is one division,

.. math::
    :label: maxrl-advantage

    \hat A_i = \frac{r_i - \bar r_g}{\bar r_g + \varepsilon}, \qquad 0 \text{ where } \bar r_g = 0

and the expectation becomes :math:`\nabla J_{G-1}`: centring costs one order, because groups without success are left
out. At G = 2 it is plain reinforcement learning. A prompt weighs :math:`(1 - (1-p)^{G-1})/p` relative to
:math:`\nabla p`, at most G - 1; GRPO's weight is about :math:`1/\sqrt{p(1-p)}`, RLOO's 1. Rewards are 0 or 1: a mean
near 0 or below has no meaning here, and other rewards are refused.

===================  ========
:math:`\varepsilon`  `eps`
T                    `order`
===================  ========

**Where implementations differ.** The authors' code gives a single answer the mean 0 and divides by that plus 1e-6: if
it is right, its advantage is a million. SkyRL gives it its raw reward.

**Provenance.** Confirmed: the weight and the advantage by the authors' code and project page. The expectations of both
are derived and checked by enumerating all groups; that centring costs an order was found nowhere else.

Tajwar, Zeng et al., *Maximum Likelihood Reinforcement Learning*, 2026, arXiv:2602.02710.
"""

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Index,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveInt,
    Prob,
    Real,
    checked,
)
from trref.tokens.terms import group_mean


@checked
def truncated_weight(p: Prob[N], *, order: PositiveInt) -> NonNegative[N]:
    """What the gradient of p is multiplied by in that of the objective.

    Parameters
    ----------
    p
        Probability that a prompt is answered rightly.
    order
        Of the last term of the series.
    """
    # eq. maxrl-objective
    weight = xp.zeros_like(p)
    for k in range(order):
        weight = weight + (1 - p) ** k
    return weight


@checked
def maxrl_weight(reward: Binary[B], group: Index[B]) -> NonNegative[B]:
    """Weight of each answer's score: reward over the group's mean reward."""
    mean, _ = group_mean(reward, group)
    return reward / xp.where(mean > 0, mean, 1)  # eq. maxrl-weight


@checked
def maxrl_advantage(
    reward: Binary[B], group: Index[B], *, eps: NonNegativeFloat = 0.0
) -> Real[B]:
    """Reward minus the group's mean, over that mean.

    Parameters
    ----------
    eps
        Added to the mean.
    """
    mean, _ = group_mean(reward, group)
    right = mean > 0
    scale = xp.where(right, mean + eps, 1)
    return xp.where(right, reward - mean, 0) / scale  # eq. maxrl-advantage
