r"""RLOO: REINFORCE whose baseline is the mean reward of the other answers.

The cheapest baseline that does not depend on the answer itself is the mean reward of the other answers to the prompt:

.. math::
    :label: rloo-advantage

    \hat A_i = r_i - \frac1{G-1} \sum_{j \ne i} r_j = \frac G{G-1}\,(r_i - \bar r_g)

Only differences of rewards matter: with :math:`S_i = \nabla\log\pi(y_i)`,

.. math::

    \frac1G \sum_i \hat A_i S_i = \frac1{G(G-1)} \sum_{i<j} (r_i - r_j)(S_i - S_j),

for two answers a pairwise loss. A penalty for leaving the reference is charged to the reward, before the baseline, with
log-probabilities at the time of sampling:

.. math::
    :label: rloo-charge

    r_i - \beta \sum_t m_{i,t}\, (\log\pi_{i,t} - \log\pi^{ref}_{i,t})

The paper's loss is REINFORCE with the sum over tokens (:mod:`trref.tokens.reinforce`). For a few steps on one batch
TRL clips the ratio of the whole answer,

.. math::
    :label: rloo-objective

    J = \frac1B \sum_i \min\big\{ R_i \hat A_i,\; \mathrm{clip}(R_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i \big\},
    \qquad R_i = \exp\Big(\sum_t m_{i,t} (\log\pi_{i,t} - \log\pi^{old}_{i,t})\Big)

.. math::
    :label: rloo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}B\, R_i \hat A_i\;
    \mathbb 1\big[R_i \hat A_i \le \mathrm{clip}(R_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i\big]

a product, not a geometric mean: long answers leave the interval at once. An answer without tokens contributes nothing,
though it counts in B. A group of one, and equal rewards, give an advantage of exactly 0.

===============================  ========================
:math:`\epsilon_l,\ \epsilon_h`  `clip_low`, `clip_high`
:math:`\beta`                    `kl_weight`
===============================  ========================

**Where implementations differ.** verl gives a group of one its raw reward, and by default feeds the advantage to the
token mean of clipped token terms, which is another estimator. TRL may divide advantages by their deviation over the
batch.

**Provenance.** Confirmed: by the code of TRL and verl. The identity of pairs is derived and checked.

Ahmadian et al., *Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs*,
2024, arXiv:2402.14740.
"""

from trref.backend import xp
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
from trref.tokens.grpo import group_advantage
from trref.tokens.terms import clip_surrogate, seq_mean


@checked
def leave_one_out(reward: Real[B], group: Index[B]) -> Real[B]:
    """Reward minus the mean of the other answers to the prompt."""
    # eq. rloo-advantage
    return group_advantage.unchecked(
        reward, group, std="none", baseline="leave_one_out"
    )


@checked
def charged_reward(
    reward: Real[B],
    log_prob: LogProb[B, T],
    ref_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    kl_weight: NonNegativeFloat = 0.05,
) -> Real[B]:
    """Reward less the weighted log-ratio of the answer to the reference.

    Parameters
    ----------
    log_prob
        At the time of sampling.
    """
    # eq. rloo-charge
    return reward - kl_weight * (mask * (log_prob - ref_log_prob)).sum(1)


LARGEST = 80.0  # log of an answer's ratio, so that its exponential exists in float32


def _bounded(log_prob, old_log_prob, mask, **_):
    """An answer more than exp(80) times as likely as before."""
    return [
        (
            lambda: (((log_prob - old_log_prob) * mask).sum(1) <= LARGEST).all(),
            f"log_prob must make no answer more than exp({LARGEST:g}) times as likely",
        )
    ]


@checked(also=_bounded)
def rloo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B],
    mask: Mask[B, T],
    *,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """RLOO loss; the ratio that is clipped is that of the whole answer."""
    log_R = ((log_prob - old_log_prob) * mask).sum(1, keepdims=True)
    term, derivative = clip_surrogate(
        log_R, xp.zeros_like(log_R), advantage, clip_low, clip_high
    )
    J = (seq_mean(mask) * term).sum()  # eq. rloo-objective
    return -J, -mask * derivative / len(mask)  # eq. rloo-gradient
