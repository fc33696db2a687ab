"""Where the examples of agents on a graph come from, and what the theory promises of their methods."""

import math

from trref.backend import xp
from trref.catalog import Interface
from trref.catalog.manifolds.interfaces import (
    off_manifold,
    random_frame,
    random_near,
    small_frame,
)
from trref.manifolds.stiefel import tangent_part
from trref.problems.frames import AgentsPCA

__all__ = ["AGENTS_STEP", "AGREEMENT", "DECENTRALISED", "DESCENT", "FRAMES", "REFUSED"]


def _agents(rng, size):
    return {
        "x": random_near(
            rng, small_frame(rng, size), int(rng.integers(2, 5)) if size > 1 else 1
        )
    }


FRAMES = Interface(
    "frames",
    example=_agents,
    edges={
        "all equal": lambda: {"x": xp.stack([xp.eye(3)[:, :2]] * 3)},
        "one agent": lambda: {"x": xp.eye(3)[None]},
        "opposite turns": lambda: {"x": xp.array([[[0.6], [0.8]], [[0.6], [-0.8]]])},
    },
)
"""``induced_mean(x)``: a frame of each agent."""


def _agents_step(rng, size):
    x = _agents(rng, size)["x"]
    weights = (xp.eye(len(x)) + 1 / len(x)) / 2
    return {
        "x": x,
        "weights": weights,
        "direction": rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal(x.shape),
    }


AGENTS_STEP = Interface(
    "agents_step",
    example=_agents_step,
    edges={
        "no direction": lambda: {
            "x": xp.stack([xp.eye(3)[:, :2]] * 2),
            "weights": xp.full((2, 2), 0.5),
            "direction": xp.zeros((2, 3, 2)),
        },
        "one agent": lambda: {
            "x": xp.eye(3)[None, :, :1],
            "weights": xp.eye(1),
            "direction": xp.ones((1, 3, 1)),
        },
    },
)
"""``consensus_step(x, weights, direction)``: frames, averaging weights, and a direction of each agent."""


def _covariances(*rows):
    return AgentsPCA(xp.stack([xp.diag(xp.array(row)) for row in rows]))


def _task(rng, size):
    """Principal components of nearly equal covariances, with a gap behind the r-th eigenvalue."""
    agents, r = (3, 2) if size > 1 else (1, 1)
    noise = 1e-3 / size * rng.standard_normal((agents, size, size))
    C = (
        xp.diag(xp.where(xp.arange(size) < r, 1.0, 0.2))
        + noise
        + xp.swapaxes(noise, 1, 2)
    )
    C[0] *= agents == 1 or rng.random() < 0.5  # an agent without data has no gradient
    return {
        "loss_and_grad": AgentsPCA(rng.choice((3.0, 5.0)) * C),
        "x0": random_frame(rng, size, r),
        "weights": xp.full((agents, agents), 1 / agents),
    }


DECENTRALISED = Interface(
    "decentralised",
    example=_task,
    edges={
        "one agent": lambda: {
            "loss_and_grad": _covariances((3.0, 2.0, 0.1, 0.1)),
            "x0": xp.full((4, 1), 0.5),
            "weights": xp.eye(1),
        },
        "start at the solution": lambda: {
            "loss_and_grad": _covariances((3.0, 1.0, 0.5), (3.0, 1.2, 0.4)),
            "x0": xp.eye(3)[:, :2],
            "weights": xp.full((2, 2), 0.5),
        },
        "weak functions": lambda: {
            "loss_and_grad": _covariances((0.8, 0.02, 0.01), (0.8, 0.03, 0.01)),
            "x0": xp.array([[0.8], [0.6], [0.0]]),
            "weights": xp.full((2, 2), 0.5),
        },
        "identical functions on a path": lambda: {
            "loss_and_grad": _covariances(*[(4.0, 3.0, 0.5)] * 3),
            "x0": xp.array([[0.6, 0.0], [0.0, 1.0], [-0.8, 0.0]]),
            "weights": xp.array([[2.0, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3,
        },
    },
)
"""``solver(loss_and_grad, x0, weights) -> DecentralisedResult``; ``loss_and_grad`` acts on one frame an agent."""


def _with_weights(weights):
    given = DECENTRALISED.edges["start at the solution"]()
    return {**given, "weights": xp.array(weights)}, {}


REFUSED = {
    "weights that sum to less than 1": lambda: _with_weights([[0.5, 0.4], [0.4, 0.5]]),
    "weights that are not symmetric": lambda: _with_weights([[0.5, 0.5], [0.4, 0.6]]),
    "weights below zero": lambda: _with_weights([[1.5, -0.5], [-0.5, 1.5]]),
    "losses that are not finite": lambda: (
        {
            **DECENTRALISED.edges["start at the solution"](),
            "loss_and_grad": _covariances((math.nan, 1.0, 0.5), (3.0, 1.2, 0.4)),
        },
        {},
    ),
}
"""What agents must not be given."""


def agreement(result, loss_and_grad, x0, weights, *, tol=1e-2, **_):
    """Certificate: consensus at a stationary frame, frames on the manifold, directions tangent."""
    start, end = (
        loss_and_grad(xp.stack([frame] * len(weights)))[1].mean(0)
        for frame in (x0, result.x)
    )
    norm, scale = (
        math.sqrt(float((v * v).sum())) for v in (tangent_part(result.x, end), start)
    )
    spread = math.sqrt(float(((result.agents - result.x) ** 2).sum()) / len(weights))
    M = result.agents.mT @ result.directions
    return {
        "gradient over its target": norm / (tol * scale) if scale else norm,
        "consensus error over its target": spread / tol,
        "off the manifold": off_manifold(result.agents),
        "directions off the tangent spaces": float(abs(M + M.mT).max())
        / max(float(abs(result.directions).max()), 1.0),
    }


def descent(result, loss_and_grad, x0, weights, **hyper):
    """Certificate of gradient methods: that of `agreement`, and each direction is the agent's negative gradient."""
    g = tangent_part(result.agents, loss_and_grad(result.agents)[1])
    off = float(abs(result.directions + g).max()) / max(float(abs(g).max()), 1e-300)
    return {
        **agreement(result, loss_and_grad, x0, weights, **hyper),
        "directions off the negative gradients": off,
    }


def honest(result, loss_and_grad, x0, weights, **_):
    """However early it stops: frames on the manifold, tangent directions, and the figures of the last mean."""
    copies = xp.stack([result.x] * len(weights))
    losses, gradients = loss_and_grad(copies)
    g = tangent_part(result.x, gradients.mean(0))
    norm = math.sqrt(float((g * g).sum()))
    spread = math.sqrt(float(((result.agents - result.x) ** 2).sum()) / len(weights))
    M = result.agents.mT @ result.directions
    size = max(float(abs(result.directions).max()), 1.0)
    loss = float(losses.mean())
    return {
        "off the manifold": (off_manifold(result.agents), 1e-12),
        "directions off the tangent spaces": (float(abs(M + M.mT).max()) / size, 1e-12),
        "loss misreported": (
            abs(loss - result.losses[-1]),
            1e-12 * max(1.0, abs(loss)),
        ),
        "norm misreported": (
            abs(norm - result.gradient_norms[-1]),
            1e-12 * max(1.0, norm),
        ),
        "consensus misreported": (abs(spread - result.consensus_errors[-1]), 1e-12),
    }


FAILURES = {
    "three iterations": lambda: (
        DECENTRALISED.edges["identical functions on a path"](),
        {"max_iter": 3},
    ),
    "one iteration, from near the solution": lambda: (
        DECENTRALISED.edges["weak functions"](),
        {"max_iter": 1, "tol": 1e-6},
    ),
}

AGREEMENT = {
    "failures": FAILURES,
    "remains": honest,
    "certificate": agreement,
    "tolerances": {
        "gradient over its target": 1.001,
        "consensus error over its target": 1.001,
        "off the manifold": 1e-12,
        "directions off the tangent spaces": 1e-12,
    },
}
DESCENT = {
    **AGREEMENT,
    "certificate": descent,
    "tolerances": {
        **AGREEMENT["tolerances"],
        "directions off the negative gradients": 1e-9,
    },
}
