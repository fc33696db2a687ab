"""Finite Markov decision processes in which everything is known exactly."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trref.backend import linalg, xp

__all__ = ["Evaluation", "TabularMDP", "random_mdp"]


class Evaluation(NamedTuple):
    """What a policy is worth, exactly.

    Value (S,), advantage (S, A), discounted visits (S,), which sum to 1/(1 - gamma), and the expected return.
    """

    value: Any
    advantage: Any
    visits: Any
    expected_return: Any


@dataclasses.dataclass(frozen=True)
class TabularMDP:
    """States 0 … S-1, actions 0 … A-1; ``mdp(policy) -> Evaluation`` for a table of probabilities (S, A).

    Parameters
    ----------
    transition : array (S, A, S)
        Probabilities of the next state; the last axis sums to 1.
    reward : array (S, A)
        Expected reward.
    start : array (S,)
        Probabilities of the first state.
    gamma : float
        Discount, in (0, 1).
    """

    transition: Any
    reward: Any
    start: Any
    gamma: float

    def __post_init__(self):
        S, A = self.reward.shape
        if self.transition.shape != (S, A, S) or self.start.shape != (S,):
            raise ValueError(f"transition and start must have shapes ({S}, {A}, {S}) and ({S},), as reward has")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma must lie in (0, 1), not {self.gamma}")

    def __call__(self, policy):
        """Evaluate a policy by solving two linear systems."""
        if policy.shape != self.reward.shape:
            raise ValueError(f"policy must have shape {tuple(self.reward.shape)}, not {tuple(policy.shape)}")
        if policy.dtype != self.reward.dtype:
            raise TypeError(f"policy is {policy.dtype}, but the mdp is {self.reward.dtype}: give all one dtype")
        P = (policy[:, :, None] * self.transition).sum(1)
        system = xp.eye(len(P), dtype=P.dtype) - self.gamma * P
        value = linalg.solve(system, (policy * self.reward).sum(1))
        visits = linalg.solve(system.T, self.start)
        q = self.reward + self.gamma * (self.transition * value).sum(2)
        return Evaluation(value, q - (policy * q).sum(1, keepdims=True), visits, (self.start * value).sum())


def random_mdp(rng, *, states, actions, gamma=0.9, scale=1.0, concentration=0.5):
    """Draw transitions from a Dirichlet distribution and rewards from a Gaussian (host).

    Parameters
    ----------
    rng : numpy.random.Generator
    states, actions : int
    gamma : float
    scale : float
        Standard deviation of the rewards.
    concentration : float
        Of the Dirichlet distribution: small values make nearly deterministic transitions.

    Returns
    -------
    TabularMDP
    """
    transition = rng.dirichlet(np.full(states, concentration), size=(states, actions))
    reward = scale * rng.standard_normal((states, actions))
    return TabularMDP(transition, reward, np.full(states, 1 / states), gamma)
