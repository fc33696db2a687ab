"""Cart-pole and pendulum for many environments at once, step for step those of Gymnasium.

States are arrays (N, …) of the active backend. A step never resets anything: past termination the dynamics go on, and
the caller decides what to do with ``terminated``. Time limits (500 and 200 steps) are the caller's too.
"""

import math
from typing import Any, NamedTuple

from trref.backend import xp

__all__ = [
    "Step",
    "cartpole_reset",
    "cartpole_step",
    "pendulum_observation",
    "pendulum_reset",
    "pendulum_step",
]

CARTPOLE_LIMIT = 500
PENDULUM_LIMIT = 200


class Step(NamedTuple):
    """The next state (N, d), the reward (N,) and whether the state is terminal (N,), as 0 or 1."""

    state: Any
    reward: Any
    terminated: Any


def cartpole_reset(rng, n):
    """Draw start states (n, 4): position, velocity, angle, angular velocity, uniform in ±0.05."""
    return xp.asarray(rng.uniform(-0.05, 0.05, (n, 4)))


def cartpole_step(state, action):
    """Push the cart to the left (action 0) or right (1) for 0.02 s: explicit Euler, as ``CartPole-v1``.

    Parameters
    ----------
    state : array (N, 4)
    action : integer array (N,)

    Returns
    -------
    Step
        Terminal outside ±2.4 m or ±12°; the reward is 1.
    """
    gravity, cart_mass, pole_mass, half_length, push, tau = (
        9.8,
        1.0,
        0.1,
        0.5,
        10.0,
        0.02,
    )
    x, x_dot, theta, theta_dot = state.T
    force = xp.where(action == 1, push, -push).astype(state.dtype)
    sin, cos = xp.sin(theta), xp.cos(theta)
    total = cart_mass + pole_mass
    temp = (force + pole_mass * half_length * theta_dot**2 * sin) / total
    theta_acc = (gravity * sin - cos * temp) / (
        half_length * (4 / 3 - pole_mass * cos**2 / total)
    )
    x_acc = temp - pole_mass * half_length * theta_acc * cos / total
    state = xp.stack(
        [
            x + tau * x_dot,
            x_dot + tau * x_acc,
            theta + tau * theta_dot,
            theta_dot + tau * theta_acc,
        ],
        1,
    )
    out = (abs(state[:, 0]) > 2.4) | (abs(state[:, 2]) > 12 * 2 * math.pi / 360)
    return Step(state, xp.ones(len(state), dtype=state.dtype), out.astype(state.dtype))


def pendulum_reset(rng, n):
    """Draw start states (n, 2): angle uniform in ±π, angular velocity in ±1."""
    return xp.asarray(rng.uniform(-1, 1, (n, 2)) * (math.pi, 1.0))


def pendulum_observation(state):
    """Return ``(cos angle, sin angle, angular velocity)``, (N, 3)."""
    theta, theta_dot = state.T
    return xp.stack([xp.cos(theta), xp.sin(theta), theta_dot], 1)


def pendulum_step(state, torque):
    """Turn the pendulum for 0.05 s with a torque (N,), limited to ±2: as ``Pendulum-v1``.

    Returns
    -------
    Step
        Never terminal; the reward is minus squared angle, velocity and torque, weighted 1, 0.1 and 0.001.
    """
    gravity, mass, length, dt = 10.0, 1.0, 1.0, 0.05
    theta, theta_dot = state.T
    u = xp.clip(torque, -2.0, 2.0)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    cost = angle**2 + 0.1 * theta_dot**2 + 0.001 * u**2
    acceleration = (
        3 * gravity / (2 * length) * xp.sin(theta) + 3 / (mass * length**2) * u
    )
    theta_dot = xp.clip(theta_dot + acceleration * dt, -8.0, 8.0)
    return Step(
        xp.stack([theta + theta_dot * dt, theta_dot], 1), -cost, xp.zeros_like(cost)
    )
