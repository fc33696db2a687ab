"""What methods on the Stiefel manifold share: names of metrics, and what agents on a graph have in common."""

import math
from typing import Literal, NamedTuple

from trref.backend import linalg, xp
from trref.signature import A, N, Orthonormal, P, Real

Metric = Literal["euclidean", "canonical"]


def angles_known(z, step=None, **_):
    """A step of a norm above 1e10 (float32: 1e3): rotations are known to the norm times the rounding unit."""
    name, step = ("z", z) if step is None else ("step", step)
    longest = 1e10 if step.dtype.itemsize == 8 else 1e3
    message = f"{name} must have a norm of at most 1e10 (float32: 1e3)"
    return [(lambda: xp.vdot(step, step) <= longest**2, message)]


def span(x, z):
    """Return an orthonormal basis of the columns of frames x and of z, and x in that basis."""
    Q = linalg.qr(xp.concatenate([x, z], -1))[0]
    return Q, Q.mT @ x


class DecentralisedResult(NamedTuple):
    """Induced mean; frames and directions of the agents; then, from the start on, at the mean: losses and norms of the
    Riemannian gradient, and the consensus errors."""

    x: Orthonormal[N, P]
    agents: Orthonormal[A, N, P]
    directions: Real[A, N, P]
    losses: list[float]
    gradient_norms: list[float]
    consensus_errors: list[float]
    iterations: int
    converged: bool


def doubly_stochastic(weights, **_):
    """Weights that are not symmetric and non-negative, with rows that sum to 1."""
    allowed = max(1e-6, math.sqrt(float(xp.finfo(weights.dtype).eps)))
    test = lambda: (  # noqa: E731
        (abs(weights - weights.T) <= allowed).all()
        & (weights >= -allowed).all()
        & (abs(weights.sum(1) - 1) <= len(weights) * allowed).all()
    )
    return [(test, "weights must be symmetric and doubly stochastic")]


def mix(weights, v):
    """Average v (agents, …) over the agents: an average for each row of the weights."""
    means = weights @ v.reshape(len(v), -1)
    return means.reshape(len(weights), *v.shape[1:])
