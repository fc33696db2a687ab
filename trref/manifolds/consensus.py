r"""Consensus on the Stiefel manifold: averaging over neighbours, then projecting back.

Agents on a connected graph hold one frame :math:`x_i \in \mathrm{St}(d,r)` each and want to agree. They average over
their neighbours with symmetric, doubly stochastic weights, for which two agents need to know nothing but their degrees:

.. math::
    :label: consensus-metropolis

    W_{ij} = \frac{1}{1 + \max(\deg_i, \deg_j)} \text{ on edges}, \qquad W_{ii} = 1 - \sum_{j \ne i} W_{ij} .

An average of frames is no frame. The projection :math:`\mathcal P(Z) = UV^\top` (the polar factor) leads back; with
:math:`t` rounds of averaging and a step along a direction :math:`\eta_i`

.. math::
    :label: consensus-step

    x_i^+ = \mathcal P\Big( \sum_j [W^t]_{ij}\, x_j + \alpha\, \eta_i \Big) .

The frame that is nearest to all of them together is the induced mean, and the distance from it the consensus error:

.. math::
    :label: consensus-mean

    \bar x = \mathcal P\Big( \frac1n \sum_i x_i \Big)

.. math::
    :label: consensus-error

    e(x) = \sqrt{ \frac1n \sum_i \|x_i - \bar x\|^2 } .

Frames that span the same subspace are equally good for principal components; the distance of two spans is

.. math::
    :label: consensus-subspace-distance

    d_s(x, y) = \min_{Q^\top Q = I} \|x - yQ\|, \qquad Q = \mathcal P(y^\top x) .

Averaging alone (:math:`\eta = 0`) contracts. Let :math:`\sigma_2` be the second largest singular value of :math:`W` and
let the Euclidean mean :math:`\hat x` be within :math:`\gamma/2` of :math:`\bar x`, :math:`0 < \gamma < 1`. For enough
rounds (:math:`t \ge \log_{\sigma_2}(1-\gamma)`, and a second bound that keeps the agents near)

.. math:: \|\mathbf x^+ - \bar{\mathbf x}^+\| \le \frac{\sigma_2^t}{1 - \gamma}\, \|\mathbf x - \bar{\mathbf x}\| .

**Where implementations differ.** Other methods (:mod:`trref.manifolds.drdgd`) retract along the tangent part of the
consensus direction. Averages of frames that differ by a rotation shrink, also in one subspace: agents need a common
start.

**Provenance.** Confirmed: step, mean and theorem in arXiv:2308.10547v1; the weights, which the paper names, in material
on Xiao, Boyd and Lall.

Chen, Ye, Wang, Huang, Dai, Tsang and Liu, *Decentralized Riemannian Conjugate Gradient Method on the Stiefel Manifold*,
2023, arXiv:2308.10547; Xiao, Boyd and Lall, *Distributed Average Consensus with Time-Varying Metropolis Weights*, 2006.
"""

import math

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Estimator, Input, Limit, Method, Transform
from trref.manifolds._decentralised import AGENTS_STEP, FRAMES
from trref.manifolds.interfaces import PAIR, off_manifold
from trref.manifolds.stiefel_retraction import checked_polar_factors, polar_adjoint, polar_differential, polar_factors
from trref.problems import graphs

__all__ = [
    "consensus_error",
    "consensus_step",
    "consensus_step_jvp",
    "consensus_step_vjp",
    "induced_mean",
    "metropolis_weights",
    "subspace_distance",
]

GRAPH = {"adjacency": Input("A A", "mask")}


def metropolis_weights(adjacency):
    """Symmetric, doubly stochastic weights of an undirected graph.

    Parameters
    ----------
    adjacency : array (agents, agents)
        Zeros and ones, symmetric, with an empty diagonal.

    Returns
    -------
    array (agents, agents)
        For a connected graph the eigenvalues are 1, once, and others between -1 and 1.

    Raises
    ------
    ValueError
        Not a symmetric array of zeros and ones, edges from an agent to itself.
    """
    _, flags = validate.deferred(GRAPH, adjacency)
    flags.append((lambda: (adjacency == adjacency.T).all(), "adjacency must be symmetric"))
    flags.append((lambda: (xp.diagonal(adjacency) == 0).all(), "adjacency must have an empty diagonal"))
    validate.require(*flags)
    degree = adjacency.sum(0)
    W = adjacency / (1 + xp.maximum(degree[:, None], degree))  # eq. consensus-metropolis
    return W + xp.diag(1 - W.sum(1))


def _metropolis_by_hand(adjacency):
    n = len(adjacency)
    degree = [sum(float(a) for a in row) for row in adjacency]
    W = [[float(adjacency[i, j]) / (1 + max(degree[i], degree[j])) for j in range(n)] for i in range(n)]
    return [[1 - sum(row) if i == j else w for j, w in enumerate(row)] for i, row in enumerate(W)]


def doubly_stochastic(W):
    """The flag for `validate.require` that weights are symmetric, non-negative, with rows that sum to 1."""
    allowed = max(1e-6, math.sqrt(float(xp.finfo(W.dtype).eps)))
    test = lambda: (  # noqa: E731
        (abs(W - W.T) <= allowed).all() & (W >= -allowed).all() & (abs(W.sum(1) - 1) <= len(W) * allowed).all()
    )
    return test, "weights must be symmetric and doubly stochastic"


def mix(weights, v):
    """Average v (agents, …) over the agents; unchecked."""
    return (weights @ v.reshape(len(v), -1)).reshape(v.shape)


def consensus_step(x, weights, direction, *, step_size=0.1, rounds=1):
    """Average the frames over the neighbours, add a step, project back.

    Parameters
    ----------
    x : array (agents, d, r)
        A frame an agent.
    weights : array (agents, agents)
        Symmetric and doubly stochastic.
    direction : array (agents, d, r)
        Of each agent; zeros for consensus alone.
    step_size : float
        In (0, inf).
    rounds : int
        Rounds of averaging, at least 1.

    Returns
    -------
    array (agents, d, r)
        A frame an agent.

    Raises
    ------
    ValueError
        Frames off the manifold, other weights, values that are not finite, a sum without full rank.
    """
    return _step_factors(x, weights, direction, step_size, rounds)[0]


def _step_factors(x, weights, direction, step_size, rounds):
    _, flags = validate.deferred(AGENTS_STEP.inputs, x, weights, direction)
    validate.interval("(0, inf)", step_size=step_size)
    validate.integer("[1, inf)", rounds=rounds)
    flags.append(doubly_stochastic(weights))
    # the flags name what is out of bounds; until then it must not overflow
    x, weights = (xp.where(abs(v) <= 2, v, 0) for v in (x, weights))
    Z = mix(linalg.matrix_power(weights, rounds), x) + step_size * direction  # eq. consensus-step
    return checked_polar_factors(Z, flags, "x + direction must keep full rank")


def consensus_step_jvp(x, weights, direction, tangent, *, step_size=0.1, rounds=1):
    """Differential of the step by the directions."""
    return polar_differential(*_step_factors(x, weights, direction, step_size, rounds), step_size * tangent)


def consensus_step_vjp(x, weights, direction, cotangent, *, step_size=0.1, rounds=1):
    """Adjoint of `consensus_step_jvp`."""
    return step_size * polar_adjoint(*_step_factors(x, weights, direction, step_size, rounds), cotangent)


def induced_mean(x):
    """Return the frame nearest to all agents' frames together.

    Parameters
    ----------
    x : array (agents, d, r)

    Returns
    -------
    array (d, r)

    Raises
    ------
    ValueError
        Frames off the manifold, values that are not finite, frames so far apart that their mean lacks full rank.
    """
    _, flags = validate.deferred(FRAMES.inputs, x)
    return checked_polar_factors(x.mean(0), flags, "x must have a mean of full rank")[0]  # eq. consensus-mean


def _induced_mean_by_square_root(x):
    mean = x.mean(0)
    eigenvalues, V = linalg.eigh(mean.T @ mean)
    return mean @ (V / xp.sqrt(eigenvalues)) @ V.T


def consensus_error(x):
    """Root mean square distance of the agents' frames from their induced mean.

    Parameters
    ----------
    x : array (agents, d, r)

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Frames off the manifold, values that are not finite, frames so far apart that their mean lacks full rank.
    """
    return distance_from(x, induced_mean(x))


def distance_from(x, mean):
    """Root mean square distance of frames from a frame; unchecked."""
    return xp.sqrt(((x - mean) ** 2).sum() / len(x))  # eq. consensus-error


def _consensus_error_by_hand(x):
    mean = _induced_mean_by_square_root(x)
    return math.sqrt(sum(float(((xi - mean) ** 2).sum()) for xi in x) / len(x))


def subspace_distance(x, y):
    """Distance of x from the nearest rotation of y within its span.

    Parameters
    ----------
    x, y : arrays (…, d, r)
        Orthonormal columns.

    Returns
    -------
    array (…)
        ``min ‖x - y Q‖`` over orthogonal Q.

    Raises
    ------
    ValueError
        Frames off the manifold, shapes that differ, values that are not finite.
    """
    validate.inputs(PAIR.inputs, x, y)
    Q, _, _ = polar_factors(y.mT @ x)
    return xp.sqrt(((x - y @ Q) ** 2).sum((-2, -1)))  # eq. consensus-subspace-distance


def _subspace_distance_by_angles(x, y):
    cosines = xp.clip(linalg.svd(x.mT @ y, compute_uv=False), 0, 1)
    return xp.sqrt(2 * (1 - cosines).sum(-1))


def _graph(rng, size):
    return {"adjacency": graphs.erdos_renyi(rng, size, float(rng.choice((0.4, 0.9))) if size < 10 else 0.2)}


def _alone(inputs):
    """one agent"""
    x, direction = inputs["x"][:1], inputs["direction"][:1]
    return {"x": x, "weights": xp.eye(1), "direction": direction, "z": 0.1 * direction}


METHOD = Method(
    key="chen2023decentralized",
    provenance={"confirmed": ("step", "mean", "error", "subspace-distance"), "partly": ("metropolis",)},
    functions=(
        Estimator(
            f=metropolis_weights,
            inputs=GRAPH,
            example=_graph,
            edges={
                "ring": lambda: {"adjacency": graphs.ring(5)},
                "star": lambda: {"adjacency": xp.array([[0.0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])},
                "no edges": lambda: {"adjacency": xp.zeros((3, 3))},
            },
            brute_force=_metropolis_by_hand,
        ),
        Transform(
            f=consensus_step,
            interface=AGENTS_STEP,
            settings={"default": {}, "probe": {"step_size": 0.3, "rounds": 3}},
            wrt="direction",
            jvp=consensus_step_jvp,
            vjp=consensus_step_vjp,
            feasible=off_manifold,
            limits=(Limit("stiefel_retraction.retract_polar", {}, where=_alone),),
        ),
        Estimator(f=induced_mean, interface=FRAMES, brute_force=_induced_mean_by_square_root),
        Estimator(f=consensus_error, interface=FRAMES, brute_force=_consensus_error_by_hand),
        Estimator(f=subspace_distance, interface=PAIR, brute_force=_subspace_distance_by_angles),
    ),
)
