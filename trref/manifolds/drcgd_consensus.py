r"""Consensus on the Stiefel manifold: averaging over neighbours, then projecting back.

Agents on a connected graph hold one frame :math:`x_i \in \mathrm{St}(d,r)` each and want to agree. They average over
their neighbours with symmetric, doubly stochastic weights, for which two agents need to know nothing but their degrees:

.. math::
    :label: drcgd-consensus-metropolis

    W_{ij} = \frac{1}{1 + \max(\deg_i, \deg_j)} \text{ on edges}, \qquad W_{ii} = 1 - \sum_{j \ne i} W_{ij} .

An average of frames is no frame. The projection :math:`\mathcal P(Z) = UV^\top` (the polar factor) leads back; with
:math:`t` rounds of averaging and a step along a direction :math:`\eta_i`

.. math::
    :label: drcgd-consensus-step

    x_i^+ = \mathcal P\Big( \sum_j [W^t]_{ij}\, x_j + \alpha\, \eta_i \Big) .

The frame that is nearest to all of them together is the induced mean, and the distance from it the consensus error:

.. math::
    :label: drcgd-consensus-mean

    \bar x = \mathcal P\Big( \frac1n \sum_i x_i \Big)

.. math::
    :label: drcgd-consensus-error

    e(x) = \sqrt{ \frac1n \sum_i \|x_i - \bar x\|^2 } .

Frames that span the same subspace are equally good for principal components; the distance of two spans is

.. math::
    :label: drcgd-consensus-subspace-distance

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

from trref.backend import linalg, xp
from trref.manifolds.stiefel_retraction import (
    polar_adjoint,
    polar_differential,
    polar_factors,
    polar_of_full_rank,
)
from trref.manifolds.terms import doubly_stochastic, mix
from trref.signature import (
    A,
    Lead,
    Mask,
    N,
    NonNegative,
    Orthonormal,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


def _undirected(adjacency, **_):
    """An adjacency that is not symmetric, or has loops."""
    return [
        (lambda: (adjacency == adjacency.T).all(), "adjacency must be symmetric"),
        (
            lambda: (xp.diagonal(adjacency) == 0).all(),
            "adjacency must have an empty diagonal",
        ),
    ]


@checked(also=_undirected)
def metropolis_weights(adjacency: Mask[A, A]) -> NonNegative[A, A]:
    """Symmetric, doubly stochastic weights of an undirected graph.

    For a connected graph the eigenvalues are 1, once, and others between -1 and 1.

    Parameters
    ----------
    adjacency
        1 for each pair of neighbours.
    """
    degree = adjacency.sum(0)
    # eq. drcgd-consensus-metropolis
    W = adjacency / (1 + xp.maximum(degree[:, None], degree))
    return W + xp.diag(1 - W.sum(1))


def _sum(x, weights, direction, lr, rounds):
    """What is projected back: the average over the neighbours, and a step."""
    # eq. drcgd-consensus-step
    return mix(linalg.matrix_power(weights, rounds), x) + lr * direction


def _step_is_defined(x, weights, direction, lr, rounds, **_):
    """Weights that are not symmetric and doubly stochastic; a direction that leaves a sum without full rank."""
    # others flags name what is out of bounds; until then it must not overflow
    x, bounded = (xp.where(abs(v) <= 2, v, 0) for v in (x, weights))
    Z = _sum(x, bounded, direction, lr, rounds)
    rank = polar_of_full_rank(Z, "x + direction must keep full rank")
    return doubly_stochastic(weights) + rank


@checked(also=_step_is_defined)
def consensus_step(
    x: Orthonormal[A, N, P],
    weights: Real[A, A],
    direction: Real[A, N, P],
    *,
    lr: PositiveFloat = 0.1,
    rounds: PositiveInt = 1,
) -> Orthonormal[A, N, P]:
    """Average the frames over the neighbours, add a step, project back.

    Parameters
    ----------
    x
        A frame an agent.
    weights
        Symmetric and doubly stochastic.
    direction
        That of each agent; zeros for consensus alone.
    rounds
        Rounds of averaging.
    """
    return polar_factors(_sum(x, weights, direction, lr, rounds))[0]


@checked(also=_step_is_defined)
def consensus_step_jvp(
    x: Orthonormal[A, N, P],
    weights: Real[A, A],
    direction: Real[A, N, P],
    tangent: Real[A, N, P],
    *,
    lr: PositiveFloat = 0.1,
    rounds: PositiveInt = 1,
) -> Real[A, N, P]:
    """Differential of the step by the directions.

    Parameters
    ----------
    tangent
        Any matrix an agent.
    """
    factors = polar_factors(_sum(x, weights, direction, lr, rounds))
    return polar_differential(*factors, lr * tangent)


@checked(also=_step_is_defined)
def consensus_step_vjp(
    x: Orthonormal[A, N, P],
    weights: Real[A, A],
    direction: Real[A, N, P],
    cotangent: Real[A, N, P],
    *,
    lr: PositiveFloat = 0.1,
    rounds: PositiveInt = 1,
) -> Real[A, N, P]:
    """Adjoint of `consensus_step_jvp`.

    Parameters
    ----------
    cotangent
        Any matrix an agent.
    """
    factors = polar_factors(_sum(x, weights, direction, lr, rounds))
    return lr * polar_adjoint(*factors, cotangent)


def _mean_is_defined(x, **_):
    """Frames so far apart that their mean lacks full rank."""
    return polar_of_full_rank(x.mean(0), "x must have a mean of full rank")


@checked(also=_mean_is_defined)
def induced_mean(x: Orthonormal[A, N, P]) -> Orthonormal[N, P]:
    """Return the frame nearest to all agents' frames together."""
    return polar_factors(x.mean(0))[0]  # eq. drcgd-consensus-mean


@checked(also=_mean_is_defined)
def consensus_error(x: Orthonormal[A, N, P]) -> Scalar:
    """Root mean square distance of the agents' frames from their induced mean."""
    return distance_from(x, induced_mean.unchecked(x))


def distance_from(x, mean):
    """Root mean square distance of frames from a frame; unchecked."""
    return xp.sqrt(((x - mean) ** 2).sum() / len(x))  # eq. drcgd-consensus-error


@checked
def subspace_distance(
    x: Orthonormal[Lead, N, P], y: Orthonormal[Lead, N, P]
) -> NonNegative[Lead]:
    """Distance of x from the nearest rotation of y within its span: ``min ‖x - y Q‖`` over orthogonal Q.

    Parameters
    ----------
    y
        Another frame.
    """
    Q, _, _ = polar_factors(y.mT @ x)
    # eq. drcgd-consensus-subspace-distance
    return xp.sqrt(((x - y @ Q) ** 2).sum((-2, -1)))
