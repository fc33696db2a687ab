"""Finite Markov decision processes in which everything is known exactly.

Discounted `visits` of states sum to 1/(1 - gamma); an `occupancy` of state-action pairs sums to 1.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trref import validate
from trref.backend import linalg, xp
from trref.nn.heads import log_softmax, one_hot

__all__ = [
    "Evaluation",
    "SoftValues",
    "TabularMDP",
    "corridor",
    "evaluate",
    "gridworld",
    "occupancy",
    "optimal_policy",
    "random_mdp",
    "soft_values",
]


class Evaluation(NamedTuple):
    """What a policy is worth, exactly.

    Value (S,), advantage (S, A), discounted visits (S,), which sum to 1/(1 - gamma), and the expected return.
    """

    value: Any
    advantage: Any
    visits: Any
    expected_return: Any


def evaluate(mdp, policy, name="mdp"):
    """What a decision process says that a policy (S, A) is worth.

    Parameters
    ----------
    mdp : trref.problems.protocols.DecisionProcess
    policy : array (S, A)
    name : str
        Of the argument that the process is.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        A field that is missing or has another shape, or, on the host, numbers that are not finite.
    """
    worth, (S, A) = mdp(policy), policy.shape
    shapes = {"value": (S,), "advantage": (S, A), "visits": (S,), "expected_return": ()}
    for part, shape in shapes.items():
        if not hasattr(worth, part):
            raise TypeError(
                f"{name} must return {', '.join(shapes)}, not {type(worth).__name__}"
            )
        value = getattr(worth, part)
        value = xp.asarray(value) if shape == () else value
        validate.returned(f"{name} ({part})", value, shape, finite=True)
    return worth


@dataclasses.dataclass(frozen=True)
class TabularMDP:
    """States 0 … S-1, actions 0 … A-1; ``mdp(action_prob (S, A)) -> Evaluation`` of a policy.

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
            raise ValueError(
                f"transition and start must have shapes ({S}, {A}, {S}) and ({S},), as reward has"
            )
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma must lie in (0, 1), not {self.gamma}")

    def __call__(self, action_prob):
        """Evaluate a policy by solving two linear systems."""
        if action_prob.shape != self.reward.shape:
            raise ValueError(
                f"action_prob must have shape {tuple(self.reward.shape)}, not {tuple(action_prob.shape)}"
            )
        if action_prob.dtype != self.reward.dtype:
            raise TypeError(
                f"action_prob is {action_prob.dtype}, but the mdp is {self.reward.dtype}: give all one dtype"
            )
        P = (action_prob[:, :, None] * self.transition).sum(1)
        system = xp.eye(len(P), dtype=P.dtype) - self.gamma * P
        value = linalg.solve(system, (action_prob * self.reward).sum(1))
        visits = linalg.solve(system.T, self.start)
        q = self.reward + self.gamma * (self.transition * value).sum(2)
        return Evaluation(
            value,
            q - (action_prob * q).sum(1, keepdims=True),
            visits,
            (self.start * value).sum(),
        )


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


class SoftValues(NamedTuple):
    """Values of the policy that is optimal with an entropy bonus: value (S,), q (S, A), log_action_prob (S, A)."""

    value: Any
    q: Any
    log_action_prob: Any


def soft_values(mdp, reward, temperature=1.0, *, steps=15):
    """Solve a decision process with the bonus ``temperature * entropy`` by soft policy iteration.

    ``V = temperature * logsumexp(q / temperature)``, ``q = reward + gamma P V`` and
    ``log_action_prob = (q - V) / temperature``. Each step evaluates a policy exactly and takes its soft-greedy one: the
    number of right digits doubles, so that a fixed number of steps is enough, where soft value iteration needs
    thousands; and nothing is synchronised.

    For trirl (its dual, and its trust region by ``reward + eta * log old policy``), bpo and mdpo (the exact optimum
    that training is compared with).

    Parameters
    ----------
    mdp : TabularMDP
        Its own reward is not used.
    reward : array (S, A)
    temperature : float
    steps : int
        15 leave nothing but rounding for gamma up to 0.99 and rewards up to ten times the temperature.

    Returns
    -------
    SoftValues
    """
    if reward.shape != mdp.reward.shape:
        raise ValueError(
            f"reward must have shape {tuple(mdp.reward.shape)}, not {tuple(reward.shape)}"
        )
    eye, log_action_prob = (
        xp.eye(len(reward), dtype=reward.dtype),
        log_softmax(xp.zeros_like(reward)),
    )
    for _ in range(steps):
        action_prob = xp.exp(log_action_prob)
        P = (action_prob[:, :, None] * mdp.transition).sum(1)
        gain = (action_prob * (reward - temperature * log_action_prob)).sum(1)
        value = linalg.solve(eye - mdp.gamma * P, gain)
        q = reward + mdp.gamma * (mdp.transition * value).sum(2)
        log_action_prob = log_softmax(q / temperature)
    value = (q - temperature * log_action_prob)[:, 0]
    return SoftValues(value, q, log_action_prob)


def occupancy(mdp, action_prob):
    """Return the discounted occupancy (S, A) of a policy (S, A): it sums to 1.

    For trirl and odice (densities of expert and data) and counterpol, whose reference visits are ``occupancy.sum(1)``.
    """
    return (1 - mdp.gamma) * mdp(action_prob).visits[:, None] * action_prob


def optimal_policy(mdp):
    """Return an optimal policy (S, A) of zeros and ones, by policy iteration; of equal actions the first.

    The best that any method can reach: in the tutorials of mdpo, bpo, carl and odice.
    """
    S, A = mdp.reward.shape
    actions = xp.zeros(S, dtype=int)
    for _ in range(A * S + 1):
        action_prob = one_hot(actions, A, mdp.reward.dtype)
        advantage = mdp(action_prob).advantage
        better = advantage.max(1) > 1e-10 * (
            1 + abs(advantage).max()
        )  # of no more than rounding nothing is made
        if not bool(better.any()):
            break
        actions = xp.where(better, advantage.argmax(1), actions)
    return action_prob


def gridworld(
    rows, columns, *, goal, start=(0, 0), walls=(), slip=0.0, reward=1.0, gamma=0.95
):
    """Return a grid of cells on which actions move up, down, left and right (host).

    State ``row * columns + column``. A move into a wall or out of the grid stays where it is. The move into the goal
    earns `reward`, and there it ends: the goal leads to itself and earns nothing.

    For odice (a corridor is a grid with walls) and counterpol (which cells change their action).

    Parameters
    ----------
    rows, columns : int
    goal, start : tuple of int
        Row and column.
    walls : sequence of tuple of int
    slip : float
        Probability that the move goes in one of the four directions at random.
    reward : float
    gamma : float

    Returns
    -------
    TabularMDP
    """
    S, at = rows * columns, lambda cell: cell[0] * columns + cell[1]
    moves, blocked = ((-1, 0), (1, 0), (0, -1), (0, 1)), {tuple(cell) for cell in walls}
    if (
        not all(0 <= r < rows and 0 <= c < columns for r, c in (goal, start, *blocked))
        or {goal, start} & blocked
    ):
        raise ValueError(
            "goal, start and walls must be cells of the grid, and neither goal nor start a wall"
        )
    transition = np.zeros((S, 4, S))
    for r, c in np.ndindex(rows, columns):
        for a, (down, right) in enumerate(moves):
            to = (r + down, c + right)
            inside = 0 <= to[0] < rows and 0 <= to[1] < columns and to not in blocked
            transition[at((r, c)), a, at(to if inside else (r, c))] = 1.0
    transition = (1 - slip) * transition + slip * transition.mean(1, keepdims=True)
    transition[at(goal)] = np.eye(S)[at(goal)]
    earned = reward * transition[:, :, at(goal)]
    earned[at(goal)] = 0.0
    return TabularMDP(transition, earned, np.eye(S)[at(start)], gamma)


def corridor(
    cells=10, *, hazard=5, crash=0.1, moved=1.0, stopped=0.3, crashed=-1.0, gamma=0.99
):
    """Return a corridor along which one may go (action 0) or stop (action 1), with absorbing ends (host).

    States 0 … cells-1, then the goal, then the crash; both lead to themselves and earn nothing. Going earns `moved`;
    from the cell `hazard` it crashes with probability `crash` and earns `crashed` instead.

    For carl, whose additive rewards make stopping optimal and whose progress does not, and for parl and bpo, as a
    process with a local optimum.

    Returns
    -------
    TabularMDP
    """
    S, goal, end = cells + 2, cells, cells + 1
    transition = np.zeros((S, 2, S))
    here = np.arange(cells)
    transition[here, 0, here + 1] = transition[here, 1, here] = transition[
        goal, :, goal
    ] = transition[end, :, end] = 1
    transition[hazard, 0, hazard + 1], transition[hazard, 0, end] = 1 - crash, crash
    reward = np.zeros((S, 2))
    reward[:cells] = moved, stopped
    reward[hazard, 0] = (1 - crash) * moved + crash * crashed
    return TabularMDP(transition, reward, np.eye(S)[0], gamma)
