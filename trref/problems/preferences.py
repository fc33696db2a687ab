"""Answers to prompts, of which pairs are compared by the law of Bradley and Terry.

For dpo and tr_dpo (a table of logits, where the optimal policy is known), rpo (answers that share features, some never
compared), trpa (prompts with levels of answers).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trref.backend import special, to_host, xp
from trref.nn.heads import log_softmax

__all__ = ["AnswerPolicy", "Comparisons", "PreferenceBandit"]


class Comparisons(NamedTuple):
    """N comparisons: prompt, chosen and rejected answer, integer arrays (N,)."""

    prompt: Any
    chosen: Any
    rejected: Any


@dataclasses.dataclass(frozen=True)
class PreferenceBandit:
    """M prompts with K answers each, worth reward (M, K); a beats b with probability ``σ(reward_a - reward_b)``."""

    reward: Any

    def preference(self):
        """Return the probabilities (M, K, K) that the answer of the row beats that of the column."""
        return special.expit(self.reward[:, :, None] - self.reward[:, None])

    def expected_reward(self, action_prob):
        """Return the mean over prompts of a policy's expected reward; action_prob is (M, K)."""
        return (action_prob * self.reward).sum(1).mean()

    def compare(self, rng, draws, *, law=None):
        """Draw comparisons of two different answers to a random prompt.

        Parameters
        ----------
        rng : numpy.random.Generator
        draws : int
            N.
        law : array (M, K), optional
            Probabilities with which answers come up; 0 for those that are never compared. Uniform if not given.

        Returns
        -------
        Comparisons
            Arrays of the active backend.
        """
        reward = to_host(self.reward)
        M, K = reward.shape
        law = np.full((M, K), 1 / K) if law is None else to_host(law)
        prompt = rng.integers(0, M, draws)
        # the two largest of log p + Gumbel noise: two draws without replacement
        keys = np.log(np.maximum(law, 1e-300))[prompt] + rng.gumbel(size=(draws, K))
        a, b = np.argsort(keys, 1)[:, :-3:-1].T
        wins = rng.random(draws) < 1 / (
            1 + np.exp(reward[prompt, b] - reward[prompt, a])
        )
        pair = np.where(wins, a, b), np.where(wins, b, a)
        return Comparisons(*(xp.asarray(column) for column in (prompt, *pair)))


@dataclasses.dataclass(frozen=True)
class AnswerPolicy:
    """Logits ``features theta``: features (M, K, F), theta (F,). With features of `table` each answer has its own.

    Parameters
    ----------
    features : array (M, K, F)
    """

    features: Any

    @classmethod
    def table(cls, prompts, answers):
        """Return the policy with a logit of its own for every answer to every prompt, F = M K."""
        return cls(xp.eye(prompts * answers).reshape(prompts, answers, -1))

    @property
    def size(self):
        """Length of theta."""
        return self.features.shape[2]

    def log_prob(self, theta):
        """Return the log-probabilities (M, K) of all answers."""
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        return log_softmax(self.features @ theta)

    def log_prob_vjp(self, theta, cotangent):
        """Return the gradient (F,) of ``sum(cotangent * log_prob)``, cotangent (M, K)."""
        p = xp.exp(self.log_prob(theta))
        slope = cotangent - p * cotangent.sum(1, keepdims=True)
        return (slope[:, :, None] * self.features).sum((0, 1))
