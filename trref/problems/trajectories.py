"""All trajectories of a small decision process as a table, so that expectations over them are sums.

For parl (both levels are expectations over trajectories and pairs of them) and for the brute force of bpo, mdpo and
counterpol on processes of two or three states.
"""

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Trajectories", "all_trajectories"]


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """M trajectories of H steps: states and actions (M, H), and what the process contributes to their probability.

    Parameters
    ----------
    states, actions : integer array (M, H)
    chance : array (M,)
        Probability of the first state times those of all transitions.
    gamma : float
    """

    states: Any
    actions: Any
    chance: Any
    gamma: float

    def probabilities(self, action_prob):
        """Return the probability (M,) of each trajectory under a policy's action_prob (S, A); they sum to 1."""
        return self.chance * action_prob[self.states, self.actions].prod(1)

    def returns(self, reward, *, discounted=True):
        """Return the sum (M,) of each trajectory's rewards, for a reward (S, A), discounted or not."""
        earned = reward[self.states, self.actions]
        total, weight = 0.0, 1.0
        for h in range(earned.shape[1]):
            total = total + weight * earned[:, h]
            weight *= self.gamma if discounted else 1.0
        return total


def all_trajectories(mdp, horizon):
    """Return all trajectories of a decision process that can occur (host).

    Parameters
    ----------
    mdp : trref.problems.mdp.TabularMDP
    horizon : int
        H. There are up to (S A)^H trajectories.

    Returns
    -------
    Trajectories
    """
    S, A = mdp.reward.shape
    states, actions = np.divmod(np.arange(S * A)[:, None], A)
    chance = mdp.start[states[:, 0]]
    for _ in range(horizon - 1):
        onward = mdp.transition[states[:, -1], actions[:, -1]]
        row, state, action = (a.ravel() for a in np.mgrid[: len(states), :S, :A])
        chance = chance[row] * onward[row, state]
        states = np.concatenate([states[row], state[:, None]], 1)
        actions = np.concatenate([actions[row], action[:, None]], 1)
    possible = chance > 0
    return Trajectories(
        states[possible], actions[possible], chance[possible], mdp.gamma
    )
