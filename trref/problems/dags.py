"""Random directed acyclic graphs, data of linear structural equations, and how far two graphs are apart (host).

``W[i, j]`` is the weight of the edge from i to j: ``x_j = Σ_i W[i, j] x_i + z_j``.

For colide (noise levels are estimated with the graph) and topo (orders of the nodes are searched).
"""

import numpy as np

__all__ = ["erdos_renyi_dag", "make_acyclic", "sample_sem", "shd"]


def erdos_renyi_dag(rng, nodes, edges, *, low=0.5, high=2.0):
    """Draw a graph with exactly this number of edges, all equally likely along a random order of the nodes.

    Parameters
    ----------
    rng : numpy.random.Generator
    nodes, edges : int
    low, high : float
        Range of the weights' magnitudes; signs are random.

    Returns
    -------
    array (nodes, nodes)

    Raises
    ------
    ValueError
        More edges than pairs of nodes.
    """
    rows, columns = np.triu_indices(nodes, 1)
    if not 0 <= edges <= len(rows):
        raise ValueError(
            f"edges must lie between 0 and {len(rows)} for {nodes} nodes, not {edges}"
        )
    chosen = rng.choice(len(rows), edges, replace=False)
    order, W = rng.permutation(nodes), np.zeros((nodes, nodes))
    W[order[rows[chosen]], order[columns[chosen]]] = rng.choice(
        [-1.0, 1.0], edges
    ) * rng.uniform(low, high, edges)
    return W


def sample_sem(rng, W, points, *, scale=1.0):
    """Draw Gaussian data X (N, D) of the structural equations: ``X = Z (I - W)⁻¹``.

    Parameters
    ----------
    rng : numpy.random.Generator
    W : array (D, D)
    points : int
        N.
    scale : float or array (D,)
        Standard deviation of the noise z, of all nodes or of each.
    """
    Z = scale * rng.standard_normal((points, len(W)))
    return np.linalg.solve(np.eye(len(W)) - W.T, Z.T).T


def shd(W, other):
    """Return the structural Hamming distance: edges to add, remove or reverse; a reversed one counts once."""
    A, B = np.asarray(W) != 0, np.asarray(other) != 0
    differ = (A != B) | (A.T != B.T)
    return int(np.triu(differ, 1).sum())


def make_acyclic(W):
    """Return W without the smallest edges, taken away one by one until no cycle is left."""
    W = np.array(W)
    sizes = np.sort(abs(W[W != 0]))
    for size in sizes:
        if _acyclic(W):
            break
        W[abs(W) <= size] = 0
    return W


def _acyclic(W):
    """No walk has as many steps as there are nodes."""
    walks, edges = np.eye(len(W), dtype=bool), np.asarray(W) != 0
    for _ in range(len(W)):
        walks = walks @ edges
    return not walks.any()
