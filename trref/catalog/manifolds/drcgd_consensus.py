"""What is known of `trref.manifolds.drcgd_consensus`."""

import math

from trref.backend import linalg, xp
from trref.catalog import Estimator, Limit, Method, Transform
from trref.catalog.manifolds.agents import AGENTS_STEP, FRAMES
from trref.catalog.manifolds.interfaces import PAIR, off_manifold
from trref.manifolds.drcgd_consensus import (
    consensus_error,
    consensus_step,
    consensus_step_jvp,
    consensus_step_vjp,
    induced_mean,
    metropolis_weights,
    subspace_distance,
)
from trref.problems import graphs


def _metropolis_by_hand(adjacency):
    n = len(adjacency)
    degree = [sum(float(a) for a in row) for row in adjacency]
    W = [
        [float(adjacency[i, j]) / (1 + max(degree[i], degree[j])) for j in range(n)]
        for i in range(n)
    ]
    return [
        [1 - sum(row) if i == j else w for j, w in enumerate(row)]
        for i, row in enumerate(W)
    ]


def _induced_mean_by_square_root(x):
    mean = x.mean(0)
    eigenvalues, V = linalg.eigh(mean.T @ mean)
    return mean @ (V / xp.sqrt(eigenvalues)) @ V.T


def _consensus_error_by_hand(x):
    mean = _induced_mean_by_square_root(x)
    return math.sqrt(sum(float(((xi - mean) ** 2).sum()) for xi in x) / len(x))


def _subspace_distance_by_angles(x, y):
    cosines = xp.clip(linalg.svd(x.mT @ y, compute_uv=False), 0, 1)
    return xp.sqrt(2 * (1 - cosines).sum(-1))


def _graph(rng, size):
    return {
        "adjacency": graphs.erdos_renyi(
            rng, size, float(rng.choice((0.4, 0.9))) if size < 10 else 0.2
        )
    }


def _alone(inputs):
    """one agent"""
    x, direction = inputs["x"][:1], inputs["direction"][:1]
    return {"x": x, "weights": xp.eye(1), "direction": direction, "z": 0.1 * direction}


MEAN_OF_0 = {
    "frames whose mean is 0": {
        "x": lambda x: x[:1] * [[[1.0]], [[-1.0]], [[1.0]], [[-1.0]]]
    },
}


METHOD = Method(
    key="chen2023decentralized",
    provenance={
        "confirmed": ("step", "mean", "error", "subspace-distance"),
        "partly": ("metropolis",),
    },
    functions=(
        Estimator(
            f=metropolis_weights,
            example=_graph,
            edges={
                "ring": lambda: {"adjacency": graphs.ring(5)},
                "star": lambda: {
                    "adjacency": xp.array(
                        [[0.0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
                    )
                },
                "no edges": lambda: {"adjacency": xp.zeros((3, 3))},
            },
            brute_force=_metropolis_by_hand,
            refused={
                "a loop": lambda: ({"adjacency": xp.eye(2)}, {}),
                "an edge one way": lambda: (
                    {"adjacency": xp.array([[0.0, 1.0], [0.0, 0.0]])},
                    {},
                ),
            },
        ),
        Transform(
            f=consensus_step,
            interface=AGENTS_STEP,
            settings={"default": {}, "probe": {"lr": 0.3, "rounds": 3}},
            wrt="direction",
            jvp=consensus_step_jvp,
            vjp=consensus_step_vjp,
            feasible=off_manifold,
            limits=(Limit("stiefel_retraction.retract_polar", {}, where=_alone),),
            refused={
                "weights that do not sum to 1": {"weights": 1.0},
            },
        ),
        Estimator(
            f=induced_mean,
            interface=FRAMES,
            brute_force=_induced_mean_by_square_root,
            refused=MEAN_OF_0,
        ),
        Estimator(
            f=consensus_error,
            interface=FRAMES,
            brute_force=_consensus_error_by_hand,
            refused=MEAN_OF_0,
        ),
        Estimator(
            f=subspace_distance,
            interface=PAIR,
            brute_force=_subspace_distance_by_angles,
        ),
    ),
)
