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

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.nn.heads import log_softmax

__all__ = ["difficulty", "mle_loss", "value_function"]

CORRECT = {"correct": Input("N V", "prob")}
LABELLED = {"log_prob": Input("N"), "reward": Input("N", "mask"), "difficulty": Input("N", "positive")}
ENUMERATED = {"logits": Input("N V"), "right": Input("N V", "mask"), "difficulty": Input("N", "positive")}
BELOW = "difficulty must be above the probability of every wrong answer"


def difficulty(correct):
    """Difficulty of each question, from the probability of each of its answers to be right.

    Parameters
    ----------
    correct : array (N, V), in [0, 1]
        One answer at least must have a positive probability.

    Returns
    -------
    array (N,)

    Raises
    ------
    ValueError
        A wrong shape, values outside [0, 1], a question without a possible answer.
    """
    _, flags = validate.deferred(CORRECT, correct)
    tiny = 1e-30
    validate.require(
        *flags, (lambda: (correct.sum(1) > tiny).all(), "correct must be positive for one answer at least")
    )
    return 1 / correct.sum(1)  # eq. lens-likelihood-difficulty


def mle_loss(log_prob, reward, difficulty):
    """Negative log-likelihood of the labels of N answers.

    Parameters
    ----------
    log_prob : array (N,)
        Log-probability of each answer.
    reward : array (N,), 0 or 1
        Whether it is right.
    difficulty : array (N,)
        D of its question, above the probability of the answer if that is wrong.

    Returns
    -------
    loss : scalar array
    gradient : array (N,)
        With respect to `log_prob`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, a difficulty that is too small.
    """
    sizes, flags = validate.deferred(LABELLED, log_prob, reward, difficulty)

    def below():
        return ((reward == 1) | (xp.exp(log_prob) < difficulty * (1 - 1e-6))).all()

    validate.require(*flags, (below, BELOW))
    z = xp.exp(xp.where(reward == 1, -math.inf, log_prob)) / difficulty  # 0 for right answers
    loss = -(reward * log_prob + xp.log1p(-z)).sum() / sizes["N"]  # eq. lens-likelihood-loss
    calibrated = reward - z / (1 - z)
    return loss, -calibrated / sizes["N"]  # eq. lens-likelihood-gradient


def value_function(logits, right, difficulty):
    """What the likelihood's gradient ascends on-policy, exactly; the mean over N questions, negative.

    Parameters
    ----------
    logits : array (N, V)
        Of the V possible answers.
    right : array (N, V), 0 or 1
    difficulty : array (N,)
        D, above the probability of every wrong answer.

    Returns
    -------
    loss : scalar array
        -J, to minimise.
    gradient : array (N, V)
        With respect to `logits`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, a difficulty that is too small.
    """
    sizes, flags = validate.deferred(ENUMERATED, logits, right, difficulty)

    def below():
        return ((right == 1) | (xp.exp(log_softmax(logits)) < difficulty[:, None] * (1 - 1e-6))).all()

    validate.require(*flags, (below, BELOW))
    p, D = xp.exp(log_softmax(logits)), difficulty[:, None]
    z = xp.where(right == 1, 0, p / D)
    penalty = -D * (xp.log1p(-z) + z)
    calibrated = right - z / (1 - z)
    J = (p * right - penalty).sum() / sizes["N"]  # eq. lens-likelihood-value
    dJ = p * (calibrated - (p * calibrated).sum(1, keepdims=True)) / sizes["N"]  # eq. lens-likelihood-value-gradient
    return -J, -dJ


def _difficulty_by_loop(correct):
    return [1 / sum(row) for row in correct.tolist()]


def _correct(rng, size):
    return {"correct": 0.98 * rng.random((size, 5)) * (rng.random((size, 5)) < 0.6) + 0.01}


def _labelled(rng, size):
    log_prob = -rng.exponential(2.0, size) - 0.05
    room = 1 + rng.exponential(float(rng.choice((0.3, 2.0))), size)
    return {
        "log_prob": log_prob,
        "reward": (rng.random(size) < 0.5).astype(float),
        "difficulty": xp.exp(log_prob) * (0.1 + room),
    }


def _enumerated(rng, size):
    logits = float(rng.choice((0.3, 1.0, 3.0))) * rng.standard_normal((size, 5))
    most = xp.exp(log_softmax(logits)).max(1)
    return {
        "logits": logits,
        "right": (rng.random((size, 5)) < 0.4).astype(float),
        "difficulty": most * (1.1 + rng.random(size)),
    }


def _labels(log_prob, reward, difficulty):
    return {n: xp.array(v) for n, v in (("log_prob", log_prob), ("reward", reward), ("difficulty", difficulty))}


def _table(right, D):
    logits = xp.array([[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]])
    return {"logits": logits, "right": xp.array(right, dtype=float), "difficulty": xp.array(D)}


def _as_rewards(inputs):
    """REINFORCE's advantage is the calibrated reward"""
    log_prob, reward, pi = inputs["log_prob"], inputs["reward"], xp.exp(inputs["log_prob"])
    calibrated = xp.where(reward == 1, 1.0, -pi / xp.where(reward == 1, 1.0, inputs["difficulty"] - pi))
    return inputs, {"log_prob": log_prob[:, None], "advantage": calibrated, "mask": xp.ones_like(log_prob)[:, None]}


METHOD = Method(
    key="feng2025lens",
    provenance="confirmed",
    functions=(
        Estimator(f=difficulty, inputs=CORRECT, example=_correct, brute_force=_difficulty_by_loop),
        Objective(
            f=mle_loss,
            inputs=LABELLED,
            example=_labelled,
            edges={
                "all right": lambda: _labels([-1.0, -0.5], [1.0, 1.0], [0.1, 2.0]),
                "all wrong": lambda: _labels([-1.0, -0.5, -9.0], [0.0, 0.0, 0.0], [0.4, 2.0, 1e-3]),
                "certain": lambda: _labels([0.0, 0.0], [1.0, 0.0], [1.0, 1.5]),
                "one answer": lambda: _labels([-2.0], [0.0], [0.3]),
            },
            wrt="log_prob",
            limits=(Limit("reinforce.reinforce", {}, where=_as_rewards, gradient_only=True),),
        ),
        Objective(
            f=value_function,
            inputs=ENUMERATED,
            example=_enumerated,
            edges={
                "all right": lambda: _table([[1, 1, 1], [1, 1, 1]], [0.3, 1.0]),
                "all wrong": lambda: _table([[0, 0, 0], [0, 0, 0]], [0.7, 1.0]),
                "easy and hard": lambda: _table([[1, 0, 0], [0, 1, 0]], [0.6, 50.0]),
            },
            wrt="logits",
        ),
    ),
)
