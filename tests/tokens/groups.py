"""A bandit small enough that the mean over all groups of answers can be computed."""

import itertools

import numpy as np
from scipy.special import softmax

__all__ = ["expected_gradient"]


def expected_gradient(advantage, reward, logits, G):
    """The mean over all groups of G answers of (1/G) Σ advantage · ∇log p, and the gradient of the mean reward.

    ``advantage(chosen) -> (G,)`` for the answers of a group, by their numbers.
    """
    p, mean = softmax(logits), np.zeros(len(logits))
    score = np.eye(len(logits)) - p
    for chosen in itertools.product(range(len(logits)), repeat=G):
        chosen = np.array(chosen)
        mean += np.prod(p[chosen]) * (advantage(chosen) @ score[chosen]) / G
    return mean, (p * reward) @ score
