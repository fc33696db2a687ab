r"""Decentralised Riemannian gradients on the Stiefel manifold: DRDGD, and DRGTA with tracked gradients.

Each of :math:`n` agents on a graph knows one function :math:`f_i` and holds one frame :math:`x_i`; together they
minimise :math:`\frac1n \sum_i f_i(x)` over frames. Averaging over neighbours leaves the manifold. DRDGD stays on it: it
takes what is tangent of the way to the neighbours' average, with :math:`t` rounds of averaging by symmetric, doubly
stochastic weights :math:`W` (the frame itself has no tangent part, and may be subtracted or not),

.. math::
    :label: drdgd-consensus

    c_{i,k} = P_{x_{i,k}}\Big( \sum_j [W^t]_{ij}\, x_{j,k} \Big)
    = P_{x_{i,k}}\Big( \sum_j [W^t]_{ij}\, x_{j,k} - x_{i,k} \Big) ,

adds a step against the local gradient, and retracts. With :math:`R_x(\xi)` the polar factor of :math:`x + \xi` and
:math:`v` the direction,

.. math::
    :label: drdgd-step

    x_{i,k+1} = R_{x_{i,k}}\big( \alpha\, c_{i,k} - \beta_k\, v_{i,k} \big), \qquad
    v_{i,k} = \mathrm{grad} f_i(x_{i,k}) .

Local gradients do not vanish at the common minimum. So a constant step leaves an error that grows with it, and
:math:`\beta_k = \beta / \sqrt{k + 1}` is slow. DRGTA lets every agent track the mean of all gradients,

.. math::
    :label: drdgd-tracking

    y_{i,k+1} = \sum_j [W^t]_{ij}\, y_{j,k} + \mathrm{grad} f_i(x_{i,k+1}) - \mathrm{grad} f_i(x_{i,k}), \qquad
    y_{i,0} = \mathrm{grad} f_i(x_{i,0}), \qquad v_{i,k} = P_{x_{i,k}}(y_{i,k}) .

Since the weights are doubly stochastic, :math:`\sum_i y_{i,k} = \sum_i \mathrm{grad} f_i(x_{i,k})` at every iteration:
differences of the agents cancel, and a constant step is enough for exact convergence.

**Where implementations differ.** The retraction here is the polar one, as in the authors' code; others serve too. That
code also draws the gradients from samples, which is the paper's DRSGD. Tracked gradients of neighbours are averaged in
the surrounding space, without transport, and projected when used. DPRGD (:mod:`trref.manifolds.drcgd`) projects the
average itself to the manifold instead of a step along its tangent part.

**Provenance.** Confirmed in the authors' code, with full gradients (algs/decentralized_RGD.py and
decentralized_RGD_tracking.py of chenshixiang/Decentralized_Riemannian_gradient_descent_on_Stiefel_manifold); the paper
itself was not read.

Chen, Garcia, Hong and Shahrampour, *Decentralized Riemannian Gradient Descent on the Stiefel Manifold*, 2021,
arXiv:2102.07091.
"""

import itertools
from collections.abc import Callable

from trref.backend import xp
from trref.manifolds.gossip import Step, follow, local_gradients, together
from trref.manifolds.stiefel import tangent_part
from trref.manifolds.stiefel_retraction import polar_factors
from trref.manifolds.terms import DecentralisedResult, doubly_stochastic
from trref.signature import (
    A,
    N,
    NonNegativeFloat,
    OpenFraction,
    Orthonormal,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)


@checked(also=doubly_stochastic)
def drdgd(
    loss_and_grad: Callable,
    x0: Orthonormal[N, P],
    weights: Real[A, A],
    *,
    lr: PositiveFloat = 0.1,
    consensus_lr: PositiveFloat = 1.0,
    decay: NonNegativeFloat = 0.0,
    rounds: PositiveInt = 1,
    tol: OpenFraction = 0.01,
    max_iter: PositiveInt = 200,
) -> DecentralisedResult:
    """Minimise a sum of functions, one an agent, by decentralised Riemannian gradients.

    Parameters
    ----------
    loss_and_grad
        Here it acts on a frame an agent and gives a loss and a Euclidean gradient an agent.
    x0
        The common start.
    weights
        Shares of the averages over neighbours: symmetric and doubly stochastic, as from
        `trref.manifolds.drcgd_consensus.metropolis_weights`.
    rounds
        Rounds of averaging an iteration.
    consensus_lr
        Share of the way to the neighbours' average.
    decay
        The step of iteration k is ``lr / (k + 1)**decay``: 0 for a constant step, 0.5 in the paper's analysis.
    tol
        Ends when the consensus error is at most `tol`, and the norm of the Riemannian gradient at the induced mean at
        most `tol` times that of the Euclidean gradient at the start.

    Returns
    -------
    DecentralisedResult
        The directions are the negative local gradients.
    """
    x, network = together(x0, weights, rounds)
    steps = gradient_steps(
        loss_and_grad,
        x,
        network,
        lr=lr,
        consensus_lr=consensus_lr,
        decay=decay,
        tracking=False,
    )
    return follow(steps, loss_and_grad, network, tol=tol, max_iter=max_iter)


@checked(also=doubly_stochastic)
def drgta(
    loss_and_grad: Callable,
    x0: Orthonormal[N, P],
    weights: Real[A, A],
    *,
    lr: PositiveFloat = 0.1,
    consensus_lr: PositiveFloat = 1.0,
    decay: NonNegativeFloat = 0.0,
    rounds: PositiveInt = 1,
    tol: OpenFraction = 0.01,
    max_iter: PositiveInt = 200,
) -> DecentralisedResult:
    """Minimise a sum of functions, one an agent, by decentralised Riemannian gradients that track their mean.

    A constant step is enough here.

    Returns
    -------
    DecentralisedResult
        The directions are the negative tangent parts of the tracked gradients.
    """
    x, network = together(x0, weights, rounds)
    steps = gradient_steps(
        loss_and_grad,
        x,
        network,
        lr=lr,
        consensus_lr=consensus_lr,
        decay=decay,
        tracking=True,
    )
    return follow(steps, loss_and_grad, network, tol=tol, max_iter=max_iter)


def gradient_steps(
    loss_and_grad,
    x,
    network,
    *,
    lr,
    consensus_lr,
    decay,
    tracking,
    y=None,
    done=0,
):
    """Yield the start and every step after it, from frames (agents, d, r) that are here.

    To go on after `done` steps, `y` is what the last of them carried.
    """
    g = local_gradients(loss_and_grad, x)
    y, v = (g, g) if y is None else (y, tangent_part(x, y))
    yield Step(x, -v, xp.ones_like(v[:, 0]), y)
    for k in itertools.count(done):
        beta = lr / (k + 1) ** decay
        c = tangent_part(x, network.mix(x))  # eq. drdgd-consensus
        x, s, _ = polar_factors(x + consensus_lr * c - beta * v)  # eq. drdgd-step
        previous, g = g, local_gradients(loss_and_grad, x)
        y = network.mix(y) + g - previous if tracking else g  # eq. drdgd-tracking
        v = tangent_part(x, y)
        yield Step(x, -v, s, y)
