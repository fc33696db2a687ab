"""What methods on the Stiefel manifold share: names of metrics, and what agents on a graph have in common."""

import math
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import A, N, Orthonormal, P, Real

Metric = Literal["euclidean", "canonical"]


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
    """Average v (agents, …) over the agents."""
    return (weights @ v.reshape(len(v), -1)).reshape(v.shape)
