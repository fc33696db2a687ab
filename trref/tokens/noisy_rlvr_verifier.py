r"""An imperfect verifier: a noisy binary channel, and how to measure it.

What differs from a reward that is taken at its word: the verifier accepts a wrong answer with probability
:math:`\rho_0` and rejects a right one with :math:`\rho_1`; of the true reward :math:`r` it shows :math:`\tilde r`,

.. math::
    :label: noisy-rlvr-verifier-channel

    P(\tilde r = 1 \mid r = 0) = \rho_0, \qquad P(\tilde r = 0 \mid r = 1) = \rho_1

.. math::
    :label: noisy-rlvr-verifier-mean

    \mathbb E[\tilde r \mid r] = \rho_0 + \mathcal J\, r, \qquad \mathcal J = 1 - \rho_0 - \rho_1 > 0

What training makes of it is in :mod:`trref.tokens.noisy_rlvr`. Appeals measure the rates: a better verifier checks some
answers anew, a share :math:`f` of the rejected and :math:`g` of the accepted ones turns out right, and with :math:`N_-`
rejected and :math:`N_+` accepted

.. math::
    :label: noisy-rlvr-verifier-appeals

    \hat\rho_1 = \frac{f N_-}{g N_+ + f N_-}, \qquad \hat\rho_0 = \frac{(1-g) N_+}{(1-g) N_+ + (1-f) N_-}

Only the rejected need be checked where false positives can be neglected: then :math:`g = 1`. Where each answer was
drawn for an appeal with a probability :math:`a_i` of its own, counts of Horvitz and Thompson take the place of
:math:`f N_-, (1-f) N_-` and so on: with :math:`c_i = 1` for the appealed, of the right ones among the rejected

.. math::
    :label: noisy-rlvr-verifier-counts

    \mathbb E\Big[ \sum_{\tilde r_i = 0} c_i\, \frac{r_i}{a_i} \Big] = \sum_{\tilde r_i = 0} r_i

The share of right ones among no answers counts as 0 for the rejected and 1 for the accepted. The estimates are smoothed
over batches, with momentum :math:`\mu`, and kept away from 1:

.. math::
    :label: noisy-rlvr-verifier-average

    \hat\rho \leftarrow \mu\,\hat\rho_{before} + (1 - \mu)\,\min\{\hat\rho, 0.99\}

=====================  ======================================================
:math:`\tilde r,\; r`  `reward`, `truth`; the channel takes the true `reward`
:math:`c,\; a`         `appealed`, `appeal_prob`
:math:`\mu`            `momentum`
=====================  ======================================================

If accepted answers are not audited though there are false positives, :math:`\hat\rho_1` comes out too small.

**Where implementations differ.** No public code was found.

**Provenance.** Partly: the channel and the appeals by the abstract of the paper, the counts with probabilities by a
public audit of version 4; the formulas with shares are Bayes' rule, the moving average and its bound are customary
choices.

Cai et al., *Reinforcement Learning with Verifiable yet Noisy Rewards under Imperfect Verifiers*, 2025,
arXiv:2510.00915.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Binary,
    Decay,
    Prob,
    Rng,
    Scalar,
    checked,
)
from trref.tokens.terms import better_than_chance


class Rates(NamedTuple):
    """Estimated rates of the verifier's errors, in [0, 0.99]."""

    false_positive: Scalar
    false_negative: Scalar


@checked(also=better_than_chance)
def noisy_verifier(
    rng: Rng, reward: Binary[B], rho0: Prob[B], rho1: Prob[B]
) -> Binary[B]:
    """Observe true rewards through the channel.

    Parameters
    ----------
    reward
        The true ones.
    rho0
        Probability that a wrong answer is accepted.
    rho1
        Probability that a right answer is rejected.
    """
    u = xp.asarray(rng.random(len(reward))).astype(reward.dtype)
    accept = xp.where(reward == 1, 1 - rho1, rho0)
    return (u < accept).astype(reward.dtype)  # eq. noisy-rlvr-verifier-channel


@checked(also=better_than_chance)
def channel_mean(reward: Binary[B], rho0: Prob[B], rho1: Prob[B]) -> Prob[B]:
    """Probability that an answer is accepted, given its true reward."""
    return rho0 + (1 - rho0 - rho1) * reward  # eq. noisy-rlvr-verifier-mean


def _probabilities(appealed, appeal_prob, previous, **_):
    """Appeals of probability 0, previous rates that are no pair of numbers in [0, 1]."""
    flags = []
    if appeal_prob is not None:
        drawn = "appeal_prob must be positive where appealed is 1"
        flags.append((lambda: ((appealed == 0) | (appeal_prob > 0)).all(), drawn))
    if previous is not None:
        if len(previous) != 2:
            raise TypeError("previous must be a pair of rates")
        within = "previous must lie in [0, 1]"
        flags += [(lambda r=r: (r >= 0) & (r <= 1), within) for r in previous]
    return flags


@checked(also=_probabilities)
def estimate_rates(
    reward: Binary[B],
    truth: Binary[B],
    appealed: Binary[B],
    appeal_prob: Prob[B] | None = None,
    *,
    audit_accepted: bool = False,
    previous: tuple | None = None,
    momentum: Decay = 0.9,
) -> Rates:
    """Rates of a verifier's errors from answers that a better verifier has checked anew.

    Parameters
    ----------
    reward
        What the verifier said.
    truth
        What the better one says; looked at only where `appealed` is 1.
    appealed
        Whether the answer was checked anew: drawn at random.
    appeal_prob
        The probability with which it was drawn; if None, all of one kind had the same.
    audit_accepted
        Whether accepted answers are checked, too; otherwise false positives count as none.
    previous
        The `Rates` so far; there is no averaging if None.
    momentum
        Weight of `previous`.
    """

    def right_and_wrong(among, if_none):
        """How many of these answers are right, and how many are wrong."""
        drawn = among * appealed
        if appeal_prob is not None:
            # eq. noisy-rlvr-verifier-counts
            weight = drawn / xp.where(drawn > 0, appeal_prob, 1)
            return (weight * truth).sum(), (weight * (1 - truth)).sum()
        number, right = drawn.sum(), (drawn * truth).sum()
        share = xp.where(number > 0, right / xp.maximum(number, 1), if_none)
        share = share.astype(truth.dtype)
        return share * among.sum(), (1 - share) * among.sum()

    right_rejected, wrong_rejected = right_and_wrong(1 - reward, if_none=0.0)
    right_accepted = reward.sum()
    wrong_accepted = xp.zeros_like(right_accepted)
    if audit_accepted:
        right_accepted, wrong_accepted = right_and_wrong(reward, if_none=1.0)
    # eq. noisy-rlvr-verifier-appeals
    false_negative = _fraction(right_rejected, right_accepted)
    false_positive = _fraction(wrong_accepted, wrong_rejected)

    # eq. noisy-rlvr-verifier-average
    rates = Rates(xp.minimum(false_positive, 0.99), xp.minimum(false_negative, 0.99))
    if previous is None:
        return rates
    both = zip(previous, rates, strict=True)
    return Rates(*(momentum * old + (1 - momentum) * new for old, new in both))


def _fraction(part, rest):
    whole = part + rest
    return part / xp.where(whole > 0, whole, 1)
