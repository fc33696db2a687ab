r"""Rewards from an imperfect verifier: invert the channel, or re-weight the score.

What differs from GRPO: the reward, before any baseline, and no division by the group's deviation. The verifier is a
noisy binary channel: it accepts a wrong answer with probability :math:`\rho_0` and rejects a right one with
:math:`\rho_1` (:mod:`trref.tokens.noisy_rlvr_verifier`): the reward :math:`\tilde r` that it shows has mean
:math:`\rho_0 + \mathcal J r`, :math:`\mathcal J = 1 - \rho_0 - \rho_1 > 0`. The **backward** correction inverts it and
is unbiased, with variance :math:`q(1-q)/\mathcal J^2`, :math:`q = \mathbb E[\tilde r|r]`:

.. math::
    :label: noisy-rlvr-backward

    \hat r = \frac{\tilde r - \rho_0}{\mathcal J}, \qquad \mathbb E[\hat r \mid r] = r

The **forward** correction weights the score with numbers that need the rate of false negatives alone,
:math:`\rho_1` for an accepted answer and :math:`\rho_1 - 1` for a rejected one:

.. math::
    :label: noisy-rlvr-forward

    w(\tilde r) = \tilde r - (1 - \rho_1), \qquad \mathbb E[w \mid r] = -\mathcal J\,(1 - r)

With :math:`s = \hat r`, :math:`w` or, naively, :math:`\tilde r`, the update over n answers is

.. math::
    :label: noisy-rlvr-advantage

    \hat A_i = s_i - b_i, \qquad b_i = 0, \quad \frac1{G_i - 1} \sum_{j \ne i,\, g(j) = g(i)} s_j
    \quad\text{or}\quad \bar s_{g(i)}

.. math::
    :label: noisy-rlvr-gradient

    J = \frac1n \sum_i \hat A_i \sum_t m_{i,t} \log\pi_{i,t}, \qquad
    \mathbb E[\nabla J] = \nabla \mathbb E[r] \text{ (backward)},\quad
    \mathcal J\, \nabla \mathbb E[r] \text{ (forward, naive)}

without a baseline, and below the mean of the *other* answers of the group, whose number is :math:`G_i - 1` (a group of
one has no advantage then). The mean of all counts the answer itself and scales the update by :math:`1 - 1/G_i`. So with
rates that are the same everywhere the *naive* update has the clean direction, too: the three differ in scale, variance
and baseline. Forward **is** naive, with the baseline :math:`1 - \rho_1`; below the mean of the group both are one, and
backward is that divided by :math:`\mathcal J`. All three are increasing affine functions of :math:`\tilde r`:
standardised within a group they are identical, and GRPO sees none of the corrections. Where rates differ from prompt
to prompt, naive and forward weight a prompt by its :math:`\mathcal J`, and backward does not. The rates are arrays for
that reason.

The theorem is about known rates of prompts. Where an answer's own rates :math:`\rho_0(y), \rho_1(y)` are others than
those assumed, its corrected reward has the mean :math:`r + \varepsilon(y)`, forward :math:`\mathcal J` times that less
a constant, and the update ascends both:

.. math::
    :label: noisy-rlvr-residual

    \varepsilon(y) = \frac{(1 - r)\,(\rho_0(y) - \rho_0) - r\,(\rho_1(y) - \rho_1)}{\mathcal J}, \qquad
    \mathbb E[\nabla J] = \nabla \mathbb E[r] + \nabla \mathbb E[\varepsilon] \text{ (backward)}

which is unbiased only if :math:`\varepsilon` is the same for all answers to a prompt. A wrong answer that is always
accepted stays a hack under each correction.

==============================  ============================
:math:`\rho_0,\; \rho_1`        `rho0`, `rho1`
:math:`\rho_0(y),\; \rho_1(y)`  `actual_rho0`, `actual_rho1`
:math:`\tilde r`                `reward`
==============================  ============================

**Where implementations differ.** No public code was found. GRPO's division by the group's deviation, after the
correction, undoes it; by public notes version 4 has the other answers' mean as baseline and at most a fixed or moving
scale for that reason, and agrees with a clipped surrogate only at the old policy.

**Provenance.** Confirmed: the two corrections, and the direct coefficients with the other answers' mean, by public
summaries of the paper and a public audit of version 4. The expectations, the equality of naive and forward, and the
form of the residual, whose existence version 4 states, are derived and checked here.

Cai et al., *Reinforcement Learning with Verifiable yet Noisy Rewards under Imperfect Verifiers*, 2025,
arXiv:2510.00915.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Decay,
    Index,
    LogProb,
    Mask,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import better_than_chance

Correction = Literal["backward", "forward", "naive"]
Baseline = Literal["none", "leave_one_out", "group_mean"]


@checked(also=better_than_chance)
def backward_reward(
    reward: Binary[B], rho0: Prob[B], rho1: Prob[B], *, floor: Decay = 0.0
) -> Real[B]:
    """Reward with the true one as its mean.

    Parameters
    ----------
    reward
        What the verifier showed.
    rho0
        Probability that a wrong answer is accepted.
    rho1
        Probability that a right answer is rejected.
    floor
        Least divisor: against estimated rates that are too large. It leaves a bias where it acts.
    """
    # eq. noisy-rlvr-backward
    return (reward - rho0) / xp.maximum(1 - rho0 - rho1, floor)


@checked
def forward_weight(reward: Binary[B], rho1: Prob[B]) -> Real[B]:
    """Weight of the score: rho1 of an accepted answer, rho1 - 1 of a rejected one."""
    return reward - (1 - rho1)  # eq. noisy-rlvr-forward


@checked(also=better_than_chance)
def residual_reward(
    reward: Binary[B],
    actual_rho0: Prob[B],
    actual_rho1: Prob[B],
    rho0: Prob[B],
    rho1: Prob[B],
) -> Real[B]:
    """What the mean of an answer's corrected reward is off by, where its rates are not those assumed.

    Parameters
    ----------
    reward
        The true one.
    actual_rho0
        Probability that this answer is accepted, were it wrong.
    actual_rho1
        Probability that this answer is rejected, were it right.
    """
    # eq. noisy-rlvr-residual
    off = (1 - reward) * (actual_rho0 - rho0) - reward * (actual_rho1 - rho1)
    return off / (1 - rho0 - rho1)


@checked(also=better_than_chance)
def corrected_advantage(
    reward: Binary[B],
    group: Index[B],
    rho0: Prob[B],
    rho1: Prob[B],
    *,
    correction: Correction = "backward",
    baseline: Baseline = "none",
) -> Real[B]:
    """Corrected rewards, less a baseline; never divided by a deviation.

    Parameters
    ----------
    correction
        Which of the three rewards.
    baseline
        The mean of the group's other answers, or of the whole group. With either, and one
        rate for the group, forward is naive.
    """
    if correction == "backward":
        s = (reward - rho0) / (1 - rho0 - rho1)
    else:
        s = reward - (1 - rho1) if correction == "forward" else reward
    if baseline == "none":
        return xp.array(s)
    # as a mean of differences, which is exactly 0 for equal scores
    same = (group[:, None] == group[None, :]).astype(s.dtype)
    number = same.sum(1)
    if baseline == "leave_one_out":
        number = xp.maximum(number - 1, 1)
    # eq. noisy-rlvr-advantage
    return (same * (s[:, None] - s[None, :])).sum(1) / number


@checked(also=better_than_chance)
def corrected_gradient(
    log_prob: LogProb[B, T],
    mask: Mask[B, T],
    reward: Binary[B],
    group: Index[B],
    rho0: Prob[B],
    rho1: Prob[B],
    *,
    correction: Correction = "backward",
    baseline: Baseline = "none",
) -> tuple[Scalar, Real[B, T]]:
    """Score-function loss of corrected rewards: REINFORCE on whole answers.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    A = corrected_advantage.unchecked(
        reward, group, rho0, rho1, correction=correction, baseline=baseline
    )
    # eq. noisy-rlvr-gradient
    dJ = mask * A[:, None] / len(mask)
    J = (dJ * log_prob).sum()
    return -J, -dJ
