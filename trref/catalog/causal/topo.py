"""What is known of `trref.causal.topo`."""

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
from trref.causal.topo import (
    acyclicity,
    augmented_lagrangian,
    candidates,
    logistic_score,
    order_of,
    score,
    solve_order,
    topo,
    walks,
)
from trref.problems.dags import erdos_renyi_dag, sample_sem


def _moments(rng, nodes):
    """Second moments of data from a graph with noises of one size."""
    W = erdos_renyi_dag(rng, nodes, nodes * (nodes - 1) // 3)
    X = sample_sem(rng, W, 20 * nodes, scale=rng.choice((0.3, 1.0, 3.0)))
    return X.T @ X / len(X)


def _example(rng, size):
    nodes = min(size, 7)
    dag = erdos_renyi_dag(rng, nodes, nodes * (nodes - 1) // 3, low=0.2)
    W = rng.standard_normal((nodes, nodes)) * rng.choice((0.3, 1.0))
    return {
        "W": xp.array(W),
        "dag": xp.array(dag),
        "S": xp.array(_moments(rng, nodes)),
        "order": xp.array(rng.permutation(nodes)),
    }


def _edge(W, order, dag=None, S=None):
    d = len(order)
    S = np.eye(d) + 0.5 * np.ones((d, d)) if S is None else S
    return {
        "W": xp.array(W, dtype=float),
        "dag": xp.array(W if dag is None else dag, dtype=float),
        "S": xp.array(S, dtype=float),
        "order": xp.array(order),
    }


CHAIN = [[0.0, 0.0, 0.7], [-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
FULL = np.triu([[0.5, -1.5, 2.0, 0.8]] * 4, 1)
EDGES = {
    "no edges": lambda: _edge(np.zeros((3, 3)), [2, 0, 1]),
    "a chain, in another order": lambda: _edge(CHAIN, [2, 1, 0]),
    "all edges": lambda: _edge(FULL, [3, 2, 1, 0]),
    "one node": lambda: _edge([[0.0]], [0], S=[[2.0]]),
    "two nodes": lambda: _edge([[0.0, 3.0], [0.0, 0.0]], [1, 0]),
}
CYCLIC = {
    "a loop": lambda: _edge([[0.5]], [0], [[0.0]], [[2.0]]),
    "a cycle of two": lambda: _edge(
        [[0.0, -0.8], [1.2, 0.0]], [0, 1], np.zeros((2, 2))
    ),
    "a strong cycle": lambda: _edge([[0.0, 1.5], [1.5, 0.9]], [0, 1], np.zeros((2, 2))),
    "a weak cycle": lambda: _edge(
        np.roll(1e-3 * np.eye(4), 1, 1), [0, 1, 2, 3], np.zeros((4, 4))
    ),
}
GRAPH = Interface(name="causal order", example=_example, edges=EDGES | CYCLIC)


def _dag(arguments, inputs):
    return arguments | {"W": arguments["dag"]}


def _strong(weights):
    """A chain of strong edges; sums over walks are above what is told apart."""
    d = len(weights) + 1
    return lambda: _edge(np.diag(weights, 1), list(range(d))[::-1])


DAG = Interface(
    name="causal order without cycles",
    example=_example,
    edges=EDGES
    | {
        "strong edges": _strong([1e8, 1e8]),
        "two ways": lambda: _edge(
            [[0, 1, 2, 0], [0, 0, 0, 3], [0, 0, 0, -1], [0, 0, 0, 0]], [3, 1, 2, 0]
        ),
    },
    fit=_dag,
)


def from_such_data(inputs):
    """X has the second moments S and sigma is 1."""
    values, vectors = np.linalg.eigh(inputs["S"])
    X = (vectors * np.sqrt(np.maximum(values, 0))).T * math.sqrt(len(values))
    return inputs, {"W": inputs["W"], "X": xp.asarray(X)}


def _exponential_by_terms(W):
    term, total = np.eye(len(W)), np.eye(len(W))
    for k in range(1, 200):
        term = term @ (W * W) / k
        total = total + term
    return total


def _without_the_factor(W, *, kind="exponential"):
    h, gradient = acyclicity(W, kind=kind)
    if kind == "polynomial":
        return h, gradient
    return h, 2 * xp.asarray(_exponential_by_terms(W)).T


def _all_walks(W, start):
    """Each walk from a node as (end, steps, product of magnitudes)."""
    found, ends = [], [(start, 0, 1.0)]
    while ends:
        node, steps, weight = ends.pop()
        found.append((node, steps, weight))
        ends += [
            (k, steps + 1, weight * abs(w)) for k, w in enumerate(W[node]) if w != 0
        ]
    return found


def _sums(W, *, kind="log_det"):
    W, d = np.asarray(W).tolist(), len(W)
    factor = {
        "exponential": lambda k: 1 / math.factorial(k),
        "polynomial": lambda k: math.comb(d - 1, k) / d**k,
        "log_det": lambda k: 1.0,
    }[kind]
    G = np.zeros((d, d))
    for j in range(d):
        for i, steps, weight in _all_walks(W, j):
            G[i, j] += factor(steps) * weight
    return np.minimum(G, 1e15)


def _by_ancestors(W):
    W, d = np.asarray(W).tolist(), len(W)
    reached = [{end for end, _, _ in _all_walks(W, j)} for j in range(d)]
    return np.array(sorted(range(d), key=lambda i: sum(i in r for r in reached)))


def _by_regressions(S, order):
    W = np.zeros_like(S)
    for k in range(1, len(order)):
        before, j = order[:k], order[k]
        W[before, j] = np.linalg.solve(S[np.ix_(before, before)], S[before, j])
    return W


def _by_list(W, S, order, *, size=10, slope=0.0, kind="log_det"):
    order, d = list(order), len(W)
    G, slopes = _sums(W, kind=kind), S @ (np.eye(d) - W)
    pairs = [(i, j) for k, i in enumerate(order) for j in order[:k]]
    mask = np.zeros((d, d))
    if pairs:
        bound = sorted(G[pair] for pair in pairs)[min(size, len(pairs)) - 1]
        for pair in pairs:
            mask[pair] = G[pair] <= bound * (1 + 1e-12) and abs(slopes[pair]) >= slope
    return mask


def _half_trace(S, W):
    R = np.eye(len(S)) - W
    return np.trace(R.T @ S @ R) / 2


def _certificate(result, S, order, *, small=10, rtol=1e-6, **hyper):
    """Regressions in an order of all nodes, a score that falls, and no candidate that would lower it."""
    S, best = np.asarray(S, dtype=float), np.asarray(result.order)
    W, scores = np.asarray(result.W, dtype=float), np.array(result.scores)
    regressed = _by_regressions(S, best)
    least = np.inf
    pairs = np.argwhere(candidates(regressed, S, best, size=small))
    for i, j in pairs:
        swapped = best.copy()
        swapped[best == i], swapped[best == j] = j, i
        least = min(least, _half_trace(S, _by_regressions(S, swapped)))
    looks = result.iterations + 1 + hyper.get("large_searches", 1)
    return {
        "orders beyond all swaps": max(
            0.0, result.evaluations - 1 - looks * len(S) * (len(S) - 1) / 2
        ),
        "nodes missing": float(len(S) - len(set(best.tolist()))),
        "weights": float(abs(W - regressed).max() / max(1, abs(regressed).max())),
        "score": float(abs(scores[-1] / _half_trace(S, regressed) - 1)),
        "rise": float(np.maximum(np.diff(scores), 0).sum()),
        "a candidate improves, over rtol": max(
            0.0, (scores[-1] - least) / scores[-1] / rtol
        ),
    }


TOLERANCES = {
    "orders beyond all swaps": 0.0,
    "nodes missing": 0.0,
    "weights": 1e-9,
    "score": 1e-9,
    "rise": 0.0,
    "a candidate improves, over rtol": 1.01,
}


def _unfinished(result, **inputs):
    figures = _certificate(result, **inputs)
    return {
        name: (figures[name], bound)
        for name, bound in TOLERANCES.items()
        if name != "a candidate improves, over rtol"
    }


def _chain_backwards():
    """Five nodes in a chain, and the order from its end."""
    W = np.diag([1.5, 1.5, 1.5, 1.5], 1)
    inverse = np.linalg.inv(np.eye(5) - W)
    return {"S": xp.array(inverse.T @ inverse), "order": xp.arange(4, -1, -1)}


KINDS = {"default": {}, "polynomial": {"kind": "polynomial"}}
WALKS = KINDS | {"exponential": {"kind": "exponential"}}
METHOD = Method(
    key="deng2023optimizing",
    provenance={
        "confirmed": (
            "score",
            "logistic",
            "exponential",
            "polynomial",
            "walks",
            "order",
            "candidates",
            "swap",
        ),
        "reconstructed": ("notears",),
    },
    functions=(
        Objective(
            f=score,
            wrt="W",
            interface=GRAPH,
            sizes=(3, 6),
            limits=(
                Limit(
                    "colide.score_equal",
                    {},
                    {"sigma": 1.0},
                    where=from_such_data,
                    gradient_only=True,
                ),
            ),
            refused={
                "moments that are not symmetric": {"S": lambda S: S + S[:1]},
            },
        ),
        Objective(
            f=logistic_score,
            wrt="W",
            example=lambda rng, size: {
                "W": rng.standard_normal((3 + size % 3,) * 2),
                "X": (rng.random((size, 3 + size % 3)) < 0.5).astype(float),
            },
            edges={
                "no edges": lambda: {"W": xp.zeros((2, 2)), "X": xp.eye(2)},
                "one row of zeros": lambda: {
                    "W": xp.ones((2, 2)),
                    "X": xp.zeros((1, 2)),
                },
                "far from 0": lambda: {
                    "W": xp.array([[30.0, -30.0], [500.0, -500.0]]),
                    "X": xp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
                },
            },
        ),
        Objective(
            f=acyclicity,
            wrt="W",
            interface=GRAPH,
            sizes=(3, 6),
            settings=KINDS | {"probe": {"kind": "polynomial"}},
            deviations=(
                Deviation(
                    "no factor W",
                    _without_the_factor,
                    seen_in="Duntrain/TOPO, Topo_utils.py, h_func",
                    computes="twice the gradient by the squares in the place of that by the weights",
                ),
            ),
            refused={
                "weights too strong": lambda: (
                    {"W": xp.array([[0.0, 8.0], [0.0, 0.0]])},
                    {},
                ),
            },
        ),
        Objective(
            f=augmented_lagrangian,
            wrt="W",
            interface=GRAPH,
            sizes=(3, 6),
            settings={
                "default": {},
                "probe": {
                    "l1_weight": 0.3,
                    "h_weight": 2.5,
                    "multiplier": -1.7,
                    "kind": "polynomial",
                },
            },
            limits=(
                Limit(
                    "topo.score", {"l1_weight": 0.0, "h_weight": 0.0, "multiplier": 0.0}
                ),
            ),
            refused={
                "a matrix that is too large": {"W": 1e3},
                "moments that are not symmetric": {"S": lambda S: S + S[:1]},
            },
        ),
        Estimator(
            f=walks,
            interface=DAG,
            sizes=(3, 6),
            settings=WALKS | {"probe": {"kind": "polynomial"}},
            brute_force=_sums,
            refused={
                "a cycle of three": lambda: (
                    {"W": xp.roll(xp.eye(3), 1, 1)},
                    {},
                ),
                "a loop": lambda: ({"W": xp.array([[0.5]])}, {}),
            },
        ),
        Estimator(
            f=order_of,
            interface=DAG,
            sizes=(3, 6),
            brute_force=_by_ancestors,
            refused={
                "a cycle": {"W": 1},
            },
        ),
        Estimator(
            f=solve_order,
            interface=DAG,
            sizes=(3, 6),
            brute_force=_by_regressions,
            refused={
                "a node twice": lambda: (
                    {"S": xp.eye(2), "order": xp.array([1, 1])},
                    {},
                ),
                "not symmetric": lambda: (
                    {
                        "S": xp.array([[1.0, 0.5], [0.0, 1.0]]),
                        "order": xp.array([0, 1]),
                    },
                    {},
                ),
                "not definite": lambda: (
                    {"S": xp.ones((2, 2)), "order": xp.array([0, 1])},
                    {},
                ),
            },
        ),
        Estimator(
            f=candidates,
            interface=DAG,
            sizes=(3, 6),
            settings=WALKS
            | {
                "two": {"size": 2},
                "steep ones": {"slope": 0.4},
                "probe": {"size": 3, "slope": 0.3, "kind": "exponential"},
            },
            brute_force=_by_list,
            refused={
                "a cycle": {"W": 1},
                "moments that are not symmetric": {"S": lambda S: S + S[:1]},
                "a node missing in the order": {"order": 0},
            },
        ),
        Solver(
            f=topo,
            interface=GRAPH,
            sizes=(3, 6),
            settings={
                "default": {},
                "disjoint": {"accept": "disjoint", "small": 3},
                "never many": {"large_searches": 0, "small": 2},
                "probe": {
                    "small": 2,
                    "large": 7,
                    "large_searches": 2,
                    "accept": "disjoint",
                    "rtol": 1e-4,
                    "max_iter": 50,
                },
            },
            certificate=_certificate,
            tolerances=TOLERANCES,
            failures={
                "one step": lambda: (_chain_backwards(), {"max_iter": 1}),
            },
            remains=_unfinished,
            refused={
                "moments that are not definite": {"S": lambda S: -S},
                "a node missing in the order": {"order": 0},
            },
        ),
    ),
)
