r"""The likelihood behind LENS: a policy as a model of "this answer is right", fitted to right and wrong answers.

Let :math:`p^*(a)` be the probability that answer a is right. Up to the difficulty of the question,

.. math::
    :label: lens-likelihood-difficulty

    D = \Big[ \sum_a p^*(a) \Big]^{-1}

the policy :math:`\pi^* = D\, p^*` says so; conversely a policy is the model :math:`p = \pi / D`, and right and wrong
answers fit it by maximum likelihood:

.. math::
    :label: lens-likelihood-loss

    L = -\frac1N \sum_i \Big[ r_i \log \pi_i + (1 - r_i) \log\Big( 1 - \frac{\pi_i}{D_i} \Big) \Big]

.. math::
    :label: lens-likelihood-gradient

    \frac{\partial L}{\partial \log\pi_i} = -\frac1N\, \tilde r_i, \qquad
    \tilde r_i = r_i - (1 - r_i)\, \frac{\pi_i}{D_i - \pi_i}

This is a policy gradient with a reward that punishes confident mistakes. On-policy it is the exact gradient of

.. math::
    :label: lens-likelihood-value

    J = \mathbb E_\pi[r] - \mathbb E_\pi\big[ \omega(\pi / D)\, (1 - r) \big], \qquad
    \omega(z) = \frac1z \log\frac1{1 - z} - 1

.. math::
    :label: lens-likelihood-value-gradient

    \frac{\partial J}{\partial z} = \mathbb E_\pi[ \tilde r\, \nabla \log\pi ]
    = \pi \odot (\tilde r - \langle \pi, \tilde r \rangle)

because :math:`(z\,\omega(z))' = z/(1 - z)`. For D without bound it is the mean reward, and REINFORCE. Everything asks
for :math:`\pi < D` on wrong answers.

**Where implementations differ.** In practice (:mod:`trref.tokens.lens`) probabilities are those of the sampling policy,
normalised by the length, D is estimated and at least twice the largest of them, and the penalty is divided by the size
of the group: the exact theory no longer applies literally.

**Provenance.** Confirmed: by the paper's text (theorems 1 and 2); the gradients are checked by differences.

Feng et al., *Don't Waste Mistakes: Leveraging Negative RL-Groups via Confidence Reweighting*, 2025, arXiv:2510.08696.
"""

import math

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    Binary,
    N,
    Positive,
    Prob,
    Real,
    Scalar,
    V,
    checked,
)

BELOW = "difficulty must be above the probability of every wrong answer"


def _possible(correct):
    """A question without a possible answer."""
    return [
        (
            lambda: (correct.sum(1) > 1e-30).all(),
            "correct must be positive for one answer at least",
        )
    ]


@checked(also=_possible)
def difficulty(correct: Prob[N, V]) -> Positive[N]:
    """Difficulty of each question.

    Parameters
    ----------
    correct
        Probability of each answer to be right.
    """
    return 1 / correct.sum(1)  # eq. lens-likelihood-difficulty


def _below(prob, reward, difficulty):
    return ((reward == 1) | (prob < difficulty * (1 - 1e-6))).all()


def _hard_enough(log_prob, reward, difficulty):
    """A difficulty that is too small for a wrong answer."""
    return [(lambda: _below(xp.exp(log_prob), reward, difficulty), BELOW)]


@checked(also=_hard_enough)
def mle_loss(
    log_prob: Real[N], reward: Binary[N], difficulty: Positive[N]
) -> tuple[Scalar, Real[N]]:
    """Negative log-likelihood of the labels of N answers.

    Parameters
    ----------
    difficulty
        D of the question, above the probability of each of its wrong answers.
    """
    N = len(log_prob)
    # z is 0 for right answers
    z = xp.exp(xp.where(reward == 1, -math.inf, log_prob)) / difficulty
    # eq. lens-likelihood-loss
    loss = -(reward * log_prob + xp.log1p(-z)).sum() / N
    calibrated = reward - z / (1 - z)
    return loss, -calibrated / N  # eq. lens-likelihood-gradient


def _hard_enough_for_all(logits, right, difficulty):
    """A difficulty that is too small for a wrong answer."""
    return [
        (
            lambda: _below(xp.exp(log_softmax(logits)), right, difficulty[:, None]),
            BELOW,
        )
    ]


@checked(also=_hard_enough_for_all)
def value_function(
    logits: Real[N, V], right: Binary[N, V], difficulty: Positive[N]
) -> tuple[Scalar, Real[N, V]]:
    """What the likelihood's gradient ascends on-policy, exactly: minus the mean over N questions.

    Parameters
    ----------
    logits
        Of the V possible answers.
    right
        Whether the answer is right.
    """
    N = len(logits)
    p, D = xp.exp(log_softmax(logits)), difficulty[:, None]
    z = xp.where(right == 1, 0, p / D)
    penalty = -D * (xp.log1p(-z) + z)
    J = (p * right - penalty).sum() / N  # eq. lens-likelihood-value
    calibrated = right - z / (1 - z)
    # eq. lens-likelihood-value-gradient
    dJ = p * (calibrated - (p * calibrated).sum(1, keepdims=True)) / N
    return -J, -dJ
