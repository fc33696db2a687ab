"""Connected undirected graphs as adjacency matrices of zeros and ones (host)."""

import numpy as np

__all__ = ["complete", "erdos_renyi", "path", "ring"]


def path(nodes):
    """Return the adjacency (nodes, nodes) of a path."""
    return np.eye(nodes, k=1) + np.eye(nodes, k=-1)


def ring(nodes):
    """Return the adjacency of a ring; of one or two nodes it is a path."""
    adjacency = path(nodes)
    if nodes > 2:
        adjacency[0, -1] = adjacency[-1, 0] = 1.0
    return adjacency


def complete(nodes):
    """Return the adjacency of the complete graph."""
    return np.ones((nodes, nodes)) - np.eye(nodes)


def erdos_renyi(rng, nodes, probability, *, tries=1000):
    """Return the adjacency of a connected random graph: each edge is there with the given probability.

    Draws until the graph is connected.

    Parameters
    ----------
    rng : numpy.random.Generator
    nodes : int
    probability : float
    tries : int

    Raises
    ------
    ValueError
        None of `tries` graphs was connected.
    """
    for _ in range(tries):
        upper = np.triu(rng.random((nodes, nodes)) < probability, 1).astype(float)
        adjacency = upper + upper.T
        if (np.linalg.matrix_power(np.eye(nodes) + adjacency, nodes) > 0).all():
            return adjacency
    raise ValueError(
        f"probability {probability} gave no connected graph of {nodes} nodes in {tries} tries"
    )
