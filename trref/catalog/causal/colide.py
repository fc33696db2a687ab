"""What is known of `trref.causal.colide`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Solver,
)
from trref.causal.colide import (
    colide,
    log_det,
    noise_each,
    noise_equal,
    penalised_score,
    score_each,
    score_equal,
    to_dag,
)
from trref.problems.dags import erdos_renyi_dag, make_acyclic, sample_sem


def _data(rng, points, nodes):
    W = erdos_renyi_dag(rng, nodes, nodes)
    X = sample_sem(rng, W, points, scale=rng.choice((0.3, 1.0, 3.0)))
    return xp.array(X - X.mean(0))


def _weights(rng, nodes):
    """Within the barrier, near to its bound or not."""
    W = rng.standard_normal((nodes, nodes))
    W *= rng.choice((0.3, 0.6)) / np.sqrt(abs(np.linalg.eigvals(W * W)).max())
    return xp.array(W)


def _example(rng, size):
    nodes = int(rng.integers(3, 6))
    return {
        "W": _weights(rng, nodes),
        "X": _data(rng, size, nodes),
        "sigma": xp.array(np.exp(rng.uniform(-1, 1, nodes))),
    }


def _edge(W, X):
    return {
        "W": xp.array(W),
        "X": xp.array(X),
        "sigma": None,
    }


CHAIN = [[0.0, 0.0, 0.7], [-2.0, 0.0, 3.0], [0.0, 0.0, 0.0]]
ROWS = [[1.0, -2.0, 0.5], [0.5, 1.0, 2.0], [-1.5, 1.0, -2.5]]

GRAPH = Interface(
    name="graph",
    example=_example,
    edges={
        "no edges": lambda: _edge(np.zeros((3, 3)), ROWS),
        "acyclic, in another order": lambda: _edge(CHAIN, ROWS),
        "one node": lambda: _edge([[0.5]], [[1.0], [-1.0]]),
        "a node that is explained exactly": lambda: _edge(
            [[0.0, 2.0], [0.0, 0.0]], [[1.0, 2.0], [-1.0, -2.0], [0.5, 1.0]]
        ),
        "a cycle near the bound": lambda: _edge(
            [[0.0, 0.9, 0.0], [0.8, 0.1, 0.0], [0.0, -0.5, 0.0]], ROWS
        ),
    },
)


def no_edges_and_equal_norms(inputs):
    """W is 0 and the columns have equal norms."""
    X = inputs["X"]
    norms = xp.sqrt((X * X).sum(0))
    return {"W": xp.zeros_like(inputs["W"]), "X": X / xp.where(norms > 0, norms, 1)}


def _squares(W, X):
    """Mean squares of the residuals, entry by entry."""
    W, X = W.tolist(), X.tolist()
    nodes = range(len(W))
    return [
        math.fsum((x[j] - math.fsum(x[i] * W[i][j] for i in nodes)) ** 2 for x in X)
        / len(X)
        for j in nodes
    ]


def _all(W, X, *, floor=1e-3):
    v = _squares(W, X)
    return max(math.sqrt(math.fsum(v) / len(v)), floor)


def _each(W, X, *, floor=1e-3):
    return np.array([max(math.sqrt(v), floor) for v in _squares(W, X)])


def _least_squares(W, X, *, sigma=None, floor=1e-3):
    return score_equal(W, X, sigma=1.0)


def _equal_without_floor(W, X, *, floor=1e-3):
    return noise_equal(W, X, floor=1e-300)


def _each_without_floor(W, X, *, floor=1e-3):
    return xp.maximum(noise_each(W, X, floor=1e-30), 1e-30)


NO_FLOOR = {
    "seen_in": "SAMiatto/colide, model.py, 2024",
    "computes": "the noise without a floor, which a node that is explained exactly takes to 0",
}

CYCLES = {
    "three nodes": [[0.1, 0.9, 0.0], [0.5, 0.0, -2.0], [0.4, 0.0, 0.3]],
    "acyclic already": CHAIN,
    "all below the threshold": [[0.1, 0.2], [-0.2, 0.1]],
    "two of one size in a cycle": [[0.0, 0.5, 0.0], [-0.5, 0.0, 0.7], [0.0, 0.0, 0.0]],
    "a loop of one": [[2.0]],
    "a loop, and a node alone": [[2.0, 0.0], [0.0, 0.0]],
    "at the threshold": [[0.0, 0.3], [0.0, 0.0]],
    "a long cycle": np.roll(np.diag([0.4, 0.5, 0.6, 0.7, 0.8]), 1, 1).tolist(),
}


def _by_hand(W, *, threshold=0.3):
    return make_acyclic(np.where(abs(W) >= threshold, W, 0))


def _is_acyclic(W):
    """No order of the nodes is needed: in some order all edges go forward."""
    edges = np.asarray(W) != 0
    return any(
        not np.tril(edges[np.ix_(order, order)]).any()
        for order in itertools.permutations(range(len(edges)))
    )


def _certificate(result, X, *, noise="equal", threshold=0.3, floor=1e-3, **hyper):
    """A graph that is acyclic and what the weights give, noise that the weights give, and an objective that fell."""
    X = X.astype(result.weights.dtype)  # the precision that it was found in
    X = X - X.mean(0)
    if noise == "each":
        sigma = noise_each(result.weights, X, floor=floor)
    elif noise == "equal":
        sigma = noise_equal(result.weights, X, floor=floor)
    else:
        sigma = 1.0
    stages = hyper.get("stages", 4)
    score, _ = penalised_score(
        result.weights,
        X,
        noise=noise,
        floor=floor,
        mu=10.0 ** (1 - stages),
        s=1.1 - 0.1 * stages,
        l1_weight=hyper.get("l1_weight", 0.05),
    )
    return {
        "cycles": float(not _is_acyclic(result.W)),
        "graph": float(
            abs(result.W - to_dag(result.weights, threshold=threshold)).max()
        ),
        "noise": float(abs(result.noise / sigma - 1).max()),
        "last objective": abs(float(score) / result.objectives[-1] - 1),
    }


FAST = {"lr": 0.05, "max_iter": 100, "check_every": 10, "rtol": 0.05}


METHOD = Method(
    key="saboksayr2024colide",
    provenance="confirmed",
    functions=(
        Estimator(
            f=noise_equal,
            interface=GRAPH,
            settings={"default": {}, "probe": {"floor": 0.7}},
            brute_force=_all,
            deviations=(Deviation("no floor", _equal_without_floor, **NO_FLOOR),),
        ),
        Estimator(
            f=noise_each,
            interface=GRAPH,
            settings={"default": {}, "probe": {"floor": 0.7}},
            brute_force=_each,
            deviations=(Deviation("no floor", _each_without_floor, **NO_FLOOR),),
        ),
        Objective(
            f=score_equal,
            wrt="W",
            interface=GRAPH,
            settings={
                "default": {},
                "a high floor": {"floor": 0.7},
                "probe": {"sigma": 1.7, "floor": 0.7},
            },
            deviations=(
                Deviation(
                    "least squares",
                    _least_squares,
                    seen_in="kevinsbello/dagma, src/dagma/linear.py, 1.1",
                    computes="the score with a noise of 1, whatever the data",
                    documented=True,
                ),
            ),
        ),
        Objective(
            f=score_each,
            wrt="W",
            interface=GRAPH,
            settings={"default": {}, "probe": {"floor": 0.7}},
            limits=(Limit("colide.score_equal", {}, where=no_edges_and_equal_norms),),
        ),
        Objective(
            f=log_det,
            wrt="W",
            sizes=(4, 8),
            example=lambda rng, size: {"W": _weights(rng, size)},
            edges={
                name: lambda make=make: {"W": make()["W"]}
                for name, make in GRAPH.edges.items()
            },
            settings={"default": {}, "probe": {"s": 1.3}},
            refused={
                "a cycle outside": lambda: (
                    {"W": xp.array([[0.0, 1.1], [1.0, 0.0]])},
                    {},
                ),
                "a loop on the bound": lambda: ({"W": xp.array([[1.0]])}, {}),
            },
        ),
        Objective(
            f=penalised_score,
            wrt="W",
            interface=GRAPH,
            settings={
                "default": {},
                "each": {"noise": "each"},
                "fixed": {"noise": "fixed"},
                "probe": {
                    "noise": "each",
                    "mu": 0.3,
                    "s": 1.2,
                    "l1_weight": 0.4,
                    "floor": 0.7,
                },
                "probe of equal noise": {
                    "mu": 0.3,
                    "s": 1.2,
                    "l1_weight": 0.4,
                    "floor": 0.7,
                },
            },
            refused={
                "a cycle outside": lambda: (
                    {
                        "W": xp.array([[0.0, 1.1], [1.0, 0.0]]),
                        "X": xp.ones((3, 2)),
                    },
                    {},
                ),
            },
        ),
        Estimator(
            f=to_dag,
            sizes=(3, 6),
            example=lambda rng, size: {"W": rng.standard_normal((size, size))},
            edges={name: lambda W=W: {"W": xp.array(W)} for name, W in CYCLES.items()},
            settings={"default": {}, "probe": {"threshold": 0.6}},
            brute_force=_by_hand,
        ),
        Solver(
            f=colide,
            sizes=(6, 12),
            seeds=(0,),
            example=lambda rng, size: {"X": _data(rng, size, 3)},
            edges={
                "one row": lambda: {"X": xp.array([[1.0, 2.0]])},
                "one node": lambda: {"X": xp.array([[1.0], [2.0], [4.0]])},
            },
            settings={
                "default": FAST,
                "probe": FAST
                | {
                    "noise": "each",
                    "l1_weight": 0.2,
                    "stages": 2,
                    "threshold": 0.2,
                    "floor": 0.05,
                },
                # after one step W∘W has a radius of 3·0.565² = 0.958, between two stages
                "large steps": FAST | {"noise": "fixed", "stages": 3, "lr": 0.565},
            },
            certificate=_certificate,
            tolerances={
                "cycles": 0.0,
                "graph": 1e-12,
                "noise": 1e-12,
                "last objective": 1e-9,
            },
            failures={
                "five steps": lambda: (
                    {"X": xp.array(ROWS)},
                    {"max_iter": 5, "rtol": 1e-9},
                ),
            },
        ),
    ),
)
