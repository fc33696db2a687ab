"""Learning cart-pole with TRPO or PPO: many environments at once, and a value function fitted by Adam."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.experiments.training import batches
from trref.optimizers import adam
from trref.policy.gae import gae
from trref.policy.ppo import clipped_surrogate
from trref.policy.trpo import trpo_step
from trref.problems.control import CARTPOLE_LIMIT, cartpole_reset, cartpole_step
from trref.problems.policies import CategoricalPolicy, ValueNetwork

__all__ = ["Batch", "CartPoles", "Learning", "evaluate", "learn_cartpole"]

POLICY = CategoricalPolicy((4, 32, 2))
VALUE = ValueNetwork((4, 32, 1))
SCALE = (
    0.4,
    1.0,
    0.1,
    1.0,
)  # typical sizes of position, velocity, angle, angular velocity
GAMMA, LAM = 0.99, 0.95


class Batch(NamedTuple):
    """T steps of N environments: each entry (T, N), observations (T, N, 4)."""

    observation: Any
    action: Any
    reward: Any
    next_observation: Any
    terminated: Any
    truncated: Any


class Learning(NamedTuple):
    """The policy's parameters, then one number an update.

    Environment steps so far, mean return of the episodes that ended meanwhile (of the last ones, if none did), mean
    KL(old‖new) of the update on its batch, the surrogate's gain there, and for TRPO whether the step was accepted.
    """

    theta: Any
    steps: list[int]
    returns: list[float]
    divergences: list[float]
    gains: list[float]
    accepted: list[bool]


class CartPoles:
    """N cart-poles that reset themselves; an episode ends after 500 steps at the latest.

    Parameters
    ----------
    rng : numpy.random.Generator
    number : int
    """

    def __init__(self, rng, number):
        self.rng, self.number = rng, number
        self.state = cartpole_reset(rng, number)
        self.age = xp.zeros(number)

    def collect(self, theta, length):
        """Play `length` steps with a policy; return the `Batch` and the lengths of the episodes that ended."""
        rows, ages = [], []
        for _ in range(length):
            observation = observe(self.state)
            action = POLICY.sample(self.rng, POLICY(theta, observation))
            following, reward, terminated = cartpole_step(self.state, action)
            self.age = self.age + 1
            truncated = (1 - terminated) * (self.age >= CARTPOLE_LIMIT)
            ended = terminated + truncated
            rows.append(
                (observation, action, reward, observe(following), terminated, truncated)
            )
            ages.append(self.age * ended)
            fresh = cartpole_reset(self.rng, self.number)
            self.state = xp.where(ended[:, None] == 1, fresh, following)
            self.age = self.age * (1 - ended)
        ages = xp.stack(ages)
        return Batch(*(xp.stack(column) for column in zip(*rows, strict=True))), ages[
            ages > 0
        ]


def observe(state):
    """Scale the state to order 1."""
    return state / xp.asarray(SCALE)


def evaluate(theta, *, seed, episodes=100, greedy=False):
    """Return the returns (episodes,) of fresh episodes, of at most 500 steps.

    Parameters
    ----------
    theta : array (P,)
    seed : int
    episodes : int
    greedy : bool
        The most probable action instead of a sampled one.
    """
    rng = np.random.default_rng(seed)
    state, alive = cartpole_reset(rng, episodes), xp.ones(episodes)
    total = xp.zeros(episodes)
    for _ in range(CARTPOLE_LIMIT):
        z = POLICY(theta, observe(state))
        state, reward, terminated = cartpole_step(
            state, POLICY.mode(z) if greedy else POLICY.sample(rng, z)
        )
        total = total + alive * reward
        alive = alive * (1 - terminated)
    return total


def learn_cartpole(
    method,
    *,
    seed,
    steps=150_000,
    environments=32,
    length=64,
    delta=0.01,
    clip=0.2,
    progress=None,
):
    """Learn to balance.

    Parameters
    ----------
    method : {"trpo", "ppo"}
    seed : int
    steps : int
        Environment steps; the last update is the last one within them.
    environments, length : int
        A batch is this many environments and steps.
    delta : float
        TRPO's bound of the mean divergence; 0.01 in the paper.
    clip : float
        PPO's interval.
    progress : callable, optional
        Called after each update.

    Returns
    -------
    Learning
    """
    if method not in ("trpo", "ppo"):
        raise ValueError(f"method must be 'trpo' or 'ppo', not {method!r}")
    rng = np.random.default_rng(seed)
    theta, value = POLICY.init(rng), _Value(rng)
    environment, ppo_state = CartPoles(rng, environments), adam.init([theta])
    result = Learning(theta, [], [], [], [], [])
    for update in range(steps // (environments * length)):
        batch, lengths = environment.collect(theta, length)
        advantage, target = value.estimates(batch)
        states, actions = batch.observation.reshape(-1, 4), batch.action.ravel()
        advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-8)).ravel()
        if method == "trpo":
            step = trpo_step(
                POLICY,
                theta,
                states,
                actions,
                advantage,
                delta=delta,
                damping=0.01,
                subsample=4,
                shrink=0.8,
            )
            new, accepted = step.theta, step.converged
        else:
            new, ppo_state = _ppo_epochs(
                rng, theta, ppo_state, states, actions, advantage, clip
            )
            accepted = True
        divergence, gain = _compare(theta, new, states, actions, advantage)
        theta = new
        value.fit(rng, states, target.ravel())
        result.steps.append((update + 1) * environments * length)
        ended = float(lengths.mean()) if len(lengths) else result.returns[-1]
        result.returns.append(ended)
        result.divergences.append(divergence)
        result.gains.append(gain)
        result.accepted.append(accepted)
        if progress:
            progress()
    return result._replace(theta=theta)


class _Value:
    """A value function in units of 1/(1 - gamma), and its optimiser."""

    def __init__(self, rng):
        self.phi = VALUE.init(rng)
        self.state = adam.init([self.phi])

    def estimates(self, batch):
        """Advantages and targets (T, N), in those units; the value function is the one before this batch's fit."""
        shape = batch.reward.shape
        value = VALUE(self.phi, batch.observation.reshape(-1, 4)).reshape(shape)
        following = VALUE(self.phi, batch.next_observation.reshape(-1, 4)).reshape(
            shape
        )
        reward = (1 - GAMMA) * batch.reward
        advantage = gae(
            reward,
            value,
            following,
            batch.terminated,
            batch.truncated,
            gamma=GAMMA,
            lam=LAM,
        )
        return advantage, advantage + value

    def fit(self, rng, states, target, epochs=5, batch=256, lr=2e-3):
        for rows in _epochs(rng, len(states), batch, epochs):
            value, cache = VALUE.forward(self.phi, states[rows])
            gradient = VALUE.vjp(cache, 2 * (value - target[rows]) / len(rows))
            (self.phi,), self.state = adam.update(
                [self.phi], [gradient], self.state, lr=lr
            )


def _ppo_epochs(
    rng, theta, state, states, actions, advantage, clip, epochs=8, batch=256, lr=1.5e-3
):
    old = POLICY.log_prob(POLICY(theta, states), actions)[0]
    for rows in _epochs(rng, len(states), batch, epochs):
        z, cache = POLICY.forward(theta, states[rows])
        log_prob, d_log_prob = POLICY.log_prob(z, actions[rows])
        _, gradient = clipped_surrogate(log_prob, old[rows], advantage[rows], clip=clip)
        gradient = POLICY.vjp(cache, gradient[:, None] * d_log_prob)
        (theta,), state = adam.update([theta], [gradient], state, lr=lr)
    return theta, state


def _epochs(rng, points, batch, epochs):
    """Row numbers of minibatches, each point once an epoch."""
    steps = epochs * -(-points // batch)
    return (
        xp.asarray(rows)
        for rows in itertools.islice(batches(rng, points, batch), steps)
    )


def _compare(theta, new, states, actions, advantage):
    """Return the mean KL(old‖new) on a batch, and the surrogate's gain."""
    z_old, z = POLICY(theta, states), POLICY(new, states)
    log_ratio = POLICY.log_prob(z, actions)[0] - POLICY.log_prob(z_old, actions)[0]
    return float(POLICY.kl(z_old, z)[0].mean()), float(
        (xp.expm1(log_ratio) * advantage).mean()
    )
