"""Where the examples of samplers and of guidance come from."""

import math

from trref.backend import xp
from trref.catalog.record import Interface
from trref.diffusion.flow_grpo import flow_sde_step, step_log_prob
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import BumpReward, QuadraticReward

__all__ = [
    "CHAIN",
    "FLOW_POLICY",
    "GUIDED",
    "STEP",
    "flow_steps",
    "no_advantage",
    "no_noise",
    "waves",
]


def _step_example(rng, size):
    D = int(rng.integers(1, 5))
    names = ("x", "noise", "z", "x0")
    given = {name: rng.standard_normal((size, D)) for name in names}
    return {**given, "v": rng.uniform(-1.1, 1.1, (size, D))}


def _rows(x, noise, z, x0):
    return {"x": x, "noise": noise, "z": z, "x0": x0, "v": xp.cos(3 * z)}


def _opposed():
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return _rows(rows, -rows, 10 * rows, 0.25 * rows)


def _one_row():
    rows = xp.cos(xp.arange(64.0).reshape(4, 1, 16) ** 2)
    return _rows(*rows)


STEP = Interface(
    "step",
    example=_step_example,
    edges={
        "noise against the signal": _opposed,
        "one row of sixteen numbers": _one_row,
        "nothing at all": lambda: _rows(*xp.zeros((4, 3, 2))),
    },
)
"""Noisy points x (N, D), the noise estimated in them, fresh noise z, an estimate x0 of the data that need not belong to
the noise, and a place v between the variances of a step, mostly between -1 and 1."""


def _guided(conditional, gap, buffer=0.0):
    conditional, gap = xp.array(conditional), xp.array(gap)
    return {
        "conditional": conditional,
        "unconditional": conditional - gap,
        "buffer": buffer * xp.array(gap[:, ::-1]),
        "x": 2 * conditional - gap**2,
    }


def _guided_example(rng, size):
    """Predictions around which the gap is small, like them, or large; the momentum has the size of the gap."""
    shape = (size, int(rng.choice((2, 3, 5))))
    scale = float(rng.choice((0.2, 1.0, 12.0)))
    conditional = rng.standard_normal(shape) + 0.5
    return {
        "conditional": conditional,
        "unconditional": conditional - scale * rng.standard_normal(shape),
        "buffer": scale * rng.standard_normal(shape),
        "x": conditional + rng.standard_normal(shape),
    }


GUIDED = Interface(
    "guided",
    example=_guided_example,
    edges={
        "equal predictions": lambda: _guided(
            [[1.0, -2.0], [0.5, 0.25]], xp.zeros((2, 2))
        ),
        "the gap along the prediction": lambda: _guided(
            [[2.0, 0.0], [0.0, -0.5]], [[3.0, 0.0], [0.0, 1.0]]
        ),
        "the gap across the prediction": lambda: _guided(
            [[1.0, 2.0], [0.0, 3.0]], [[-2.0, 1.0], [4.0, 0.0]], 0.5
        ),
        "a gap of 15 exactly, and above": lambda: _guided(
            [[1.0, 2.0], [-1.0, 0.5]], [[9.0, 12.0], [18.0, 24.0]]
        ),
        "no condition": lambda: _guided([[1.0, -1.0]], [[1.0, -1.0]]),
        "one sample of sixteen entries": lambda: _guided(
            [xp.cos(xp.arange(16.0))], [2 * xp.sin(1 + xp.arange(16.0) ** 2)], 0.75
        ),
    },
)
"""``f(conditional (N D), unconditional (N D), …) -> (N D)``: predictions with and without a condition."""


# ---- steps of a flow with noise


def flow_steps(*, x, old_velocity, velocity, z, u, next_u, advantage):
    """Steps that an old policy took with noise z at the default noise level: all that trainers of flows want.

    The reference is halfway from the old policy to no motion.
    """
    times = {"u": xp.asarray(u, dtype=float), "next_u": xp.asarray(next_u, dtype=float)}
    next_x = flow_sde_step(x, old_velocity, z, **times)
    return {
        "x": x,
        "next_x": next_x,
        "z": z,
        "velocity": velocity,
        "old_velocity": old_velocity,
        "ref_velocity": old_velocity / 2,
        "old_log_prob": step_log_prob(x, next_x, old_velocity, **times),
        "advantage": xp.asarray(advantage, dtype=float),
        **times,
    }


def _flow_example(rng, size):
    D, grid = int(rng.choice((1, 2, 3, 16))), int(rng.integers(3, 11))
    k = rng.integers(0, grid, size)
    x, z, old_velocity, away = rng.standard_normal((4, size, D))
    return flow_steps(
        x=x,
        z=z,
        old_velocity=old_velocity,
        velocity=old_velocity + float(rng.choice((1e-4, 1e-2, 0.4))) * away,
        u=1 - k / grid,
        next_u=1 - (k + 1) / grid,
        advantage=rng.standard_normal(size),
    )


def _flow_edge(
    *, away=0.3, u=(0.6, 0.5, 0.4, 0.3), step=0.1, advantage=(1, -2, 0.5, -1)
):
    N, u = len(u), xp.array(u)
    old_velocity = xp.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.0, -0.5]])
    ahead = xp.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 0.5], [0.5, 1.0]])
    return flow_steps(
        x=xp.array([[1.0, -2.0], [0.5, 0.0], [-1.5, 0.75], [0.25, 1.0]])[:N],
        z=xp.array([[0.5, -1.0], [-1.0, -1.5], [1.0, -0.25], [-0.5, 2.0]])[:N],
        old_velocity=old_velocity[:N],
        velocity=(old_velocity + away * ahead)[:N],
        u=u,
        next_u=xp.maximum(u - step, 0),
        advantage=advantage[:N],
    )


def _sixteen_dimensions():
    ramp = xp.linspace(-1.0, 1.0, 16)[None]
    return flow_steps(
        x=ramp,
        z=ramp[:, ::-1] * 2,
        old_velocity=ramp**2,
        velocity=ramp**2 + 0.5 * ramp,
        u=[0.999],
        next_u=[0.95],
        advantage=[0.7],
    )


FLOW_POLICY = Interface(
    "flow_policy",
    example=_flow_example,
    edges={
        "on-policy": lambda: _flow_edge(away=0.0),
        "far apart": lambda: _flow_edge(away=1.0),
        "no advantages": lambda: _flow_edge(advantage=(0, 0, 0, 0)),
        "the first step and the last": lambda: _flow_edge(u=(1.0, 0.1)),
        "one long step": lambda: _flow_edge(u=(1.0,), step=0.9),
        "sixteen dimensions, nearly at the start": _sixteen_dimensions,
    },
)
"""Steps of a flow with noise: ``x, next_x, z, velocity, old_velocity, ref_velocity (N, D)``, ``old_log_prob, advantage,
u, next_u (N)``, drawn at a noise level of 0.7."""


def _chain(network, theta, x, z, times, kept, reward, last=None):
    """A chain of the variance-preserving schedule, which may end at another level."""
    alpha_bar = vp_schedule(times)[0] ** 2
    if last is not None:
        alpha_bar[-1] = last
    return {
        "model": network,
        "theta": theta,
        "x": x,
        "z": z,
        "times": times,
        "alpha_bar": alpha_bar,
        "kept": kept,
        "reward": reward,
    }


def _chain_example(rng, size):
    """Two to five steps of a small network, some of them kept; the rewards' values surround 0."""
    D, steps = int(rng.choice((1, 2, 3))), int(rng.integers(2, 6))
    network = TimeNetwork(D, (int(rng.integers(3, 6)),))
    theta = float(rng.choice((0.3, 1.0))) * rng.standard_normal(network.size)
    reward = BumpReward(
        QuadraticReward(rng.standard_normal(D), 0.2), rng.standard_normal(D), 3.0, 1.0
    )
    kept = (xp.arange(steps) >= rng.integers(1, steps)).astype(float)
    return _chain(
        network,
        theta,
        rng.standard_normal((size, D)),
        rng.standard_normal((steps, size, D)),
        xp.linspace(0.75, 0.3, steps + 1) ** 2,
        kept,
        reward,
    )


def _waves(*shape):
    return xp.cos(1.0 + 2.0 * xp.arange(float(xp.prod(xp.array(shape))))).reshape(shape)


def _plane_chain(kept, last=None, residual=False):
    network, steps = TimeNetwork(2, (4,)), len(kept)
    theta = _waves(network.size)
    return _chain(
        Residual(MixtureNoise(three_components()), network) if residual else network,
        theta,
        _waves(3, 2),
        _waves(steps, 3, 2) ** 2,
        xp.linspace(0.7, 0.2, steps + 1) ** 2,
        xp.array(kept),
        QuadraticReward(xp.array([0.5, -1.0])),
        last,
    )


def _wide_chain():
    network = TimeNetwork(16, (2,))
    return _chain(
        network,
        _waves(network.size) / 2,
        _waves(1, 16),
        _waves(1, 1, 16),
        xp.array([0.8, 0.3]),
        xp.ones(1),
        QuadraticReward(xp.zeros(16), 0.05),
    )


CHAIN = Interface(
    "chain",
    example=_chain_example,
    edges={
        "all steps kept": lambda: _plane_chain([1.0] * 4),
        "the last step kept": lambda: _plane_chain([0.0, 0.0, 1.0]),
        "no step kept": lambda: _plane_chain([0.0, 0.0]),
        "a step in the middle dropped": lambda: _plane_chain([1.0, 0.0, 1.0, 1.0, 0.0]),
        "to the data itself": lambda: _plane_chain([0.0, 1.0, 1.0], last=1.0),
        "an exact model and a correction": lambda: _plane_chain(
            [1.0, 1.0], residual=True
        ),
        "one point in sixteen dimensions": _wide_chain,
    },
)


def waves(*shape):
    """Numbers of both signs that nothing drew, for edges."""
    return xp.cos(1.0 + 2.0 * xp.arange(float(math.prod(shape)))).reshape(shape)


def no_noise(inputs):
    """no noise is drawn"""
    return inputs | {"z": xp.zeros_like(inputs["z"])}


def no_advantage(inputs):
    """nothing has an advantage"""
    return inputs | {"advantage": 0 * inputs["advantage"]}
