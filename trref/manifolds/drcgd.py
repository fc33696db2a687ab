r"""Decentralised Riemannian conjugate gradients on the Stiefel manifold (DRCGD).

Each of :math:`n` agents on a graph knows one function :math:`f_i` and holds one frame :math:`x_i`. Together they solve

.. math::
    :label: drcgd-problem

    \min \frac1n \sum_i f_i(x_i) \quad \text{subject to} \quad x_1 = \dots = x_n \in \mathrm{St}(d, r) .

An agent averages its neighbours' frames, adds its own conjugate direction, and projects the sum back to the manifold:

.. math::
    :label: drcgd-step

    x_{i,k+1} = \mathcal P\Big( \sum_j [W^t]_{ij}\, x_{j,k} + \alpha_k\, \eta_{i,k} \Big), \qquad
    \eta_{i,0} = -\mathrm{grad} f_i(x_{i,0}) .

Its direction averages the neighbours' directions, projected on its new tangent space, which plays the part of a vector
transport; the multiple is that of Fletcher and Reeves:

.. math::
    :label: drcgd-beta

    \beta_{i,k+1} = \frac{\|\mathrm{grad} f_i(x_{i,k+1})\|^2}{\|\mathrm{grad} f_i(x_{i,k})\|^2}

.. math::
    :label: drcgd-direction

    \eta_{i,k+1} = -\mathrm{grad} f_i(x_{i,k+1}) + \beta_{i,k+1}\,
    P_{x_{i,k+1}}\Big( \sum_j [W^t]_{ij}\, \eta_{j,k} \Big) .

Without the second term it is the projected gradient method DPRGD,

.. math::
    :label: drcgd-dprgd

    \eta_{i,k} = -\mathrm{grad} f_i(x_{i,k}) .

The analysis asks for Wolfe steps of every agent and :math:`\alpha_k = O(1/\sqrt k)`; the paper's experiments use a
constant step, and then nothing of the analysis is checked. Without a line search the directions swing for a long time
even if all :math:`f_i` are equal. Where they differ, local gradients do not vanish at the common optimum, so
:math:`\beta_i \to 1`, the recurrence is a heavy ball without friction, and it swings forever. Two safeguards, not in
the paper, help: a cap :math:`\beta_i \le b`, which restores convergence, and, less, a restart of agents that hardly
descend,

.. math::
    :label: drcgd-safeguards

    \beta_{i} \leftarrow \min(\beta_i, b), \qquad
    \eta_i \leftarrow -\mathrm{grad} f_i(x_i) \;\text{ where }\;
    \langle \eta_i, \mathrm{grad} f_i(x_i) \rangle \ge -\rho\, \|\mathrm{grad} f_i(x_i)\|^2 .

**Where implementations differ.** No public code of the authors was found. With a constant step and differing functions
an error of consensus remains that grows with the step. The related DRDGD (:mod:`trref.manifolds.drdgd`) retracts a step
along the tangent part of the consensus direction. Multiples of the Polak-Ribière kind are nearly 0 for small fixed
steps, which is DPRGD again.

**Provenance.** Confirmed: the full text of arXiv:2308.10547v1 (its equations 16 to 18); DPRGD, which the paper compares
with, as its special case. The safeguards are this package's.

Chen, Ye, Wang, Huang, Dai, Tsang and Liu, *Decentralized Riemannian Conjugate Gradient Method on the Stiefel Manifold*,
2023, arXiv:2308.10547.
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
def drcgd(
    loss_and_grad: Callable,
    x0: Orthonormal[N, P],
    weights: Real[A, A],
    *,
    lr: PositiveFloat = 0.1,
    decay: NonNegativeFloat = 0.0,
    rounds: PositiveInt = 1,
    beta_cap: NonNegativeFloat | None = None,
    restart: NonNegativeFloat | None = None,
    tol: OpenFraction = 0.01,
    max_iter: PositiveInt = 200,
) -> DecentralisedResult:
    """Minimise a sum of functions, one an agent, by decentralised conjugate gradients.

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
    decay
        The step of iteration k is ``lr / (k + 1)**decay``: 0 in the paper's experiments, 0.5 in its analysis.
    beta_cap
        Largest multiple of the last direction; None for the paper's method, 0 for DPRGD.
    restart
        Restarts agents whose direction descends less than this, relative to their gradient. None for the paper's
        method.
    tol
        Ends when the consensus error is at most `tol`, and the norm of the Riemannian gradient at the induced mean at
        most `tol` times that of the Euclidean gradient at the start.
    """
    x, network = together(x0, weights, rounds)
    steps = conjugate_steps(
        loss_and_grad,
        x,
        network,
        lr=lr,
        decay=decay,
        beta_cap=beta_cap,
        restart=restart,
    )
    # eq. drcgd-problem
    return follow(steps, loss_and_grad, network, tol=tol, max_iter=max_iter)


def conjugate_steps(
    loss_and_grad,
    x,
    network,
    *,
    lr,
    decay,
    beta_cap=None,
    restart=None,
    eta=None,
    done=0,
):
    """Yield the start and every step after it, from frames (agents, d, r) that are here.

    To go on after `done` steps, `eta` is what the last of them carried.
    """
    g = local_gradients(loss_and_grad, x)
    squares = (g * g).sum((-2, -1))
    eta = -g if eta is None else eta
    yield Step(x, eta, xp.ones_like(squares), eta)
    for k in itertools.count(done):
        alpha = lr / (k + 1) ** decay
        x, s, _ = polar_factors(network.mix(x) + alpha * eta)  # eq. drcgd-step
        g = local_gradients(loss_and_grad, x)
        previous, squares = squares, (g * g).sum((-2, -1))

        # eq. drcgd-beta
        beta = xp.where(previous > 0, squares / xp.where(previous > 0, previous, 1), 0)

        if beta_cap is not None:
            beta = xp.minimum(beta, beta_cap)  # eq. drcgd-safeguards
        carried = tangent_part(x, network.mix(eta))
        eta = -g + beta[:, None, None] * carried  # eq. drcgd-direction
        if restart is not None:
            lazy = (eta * g).sum((-2, -1)) >= -restart * squares  # eq. drcgd-safeguards
            eta = xp.where(lazy[:, None, None], -g, eta)
        yield Step(x, eta, s, eta)


@checked(also=doubly_stochastic)
def dprgd(
    loss_and_grad: Callable,
    x0: Orthonormal[N, P],
    weights: Real[A, A],
    *,
    lr: PositiveFloat = 0.1,
    decay: NonNegativeFloat = 0.0,
    rounds: PositiveInt = 1,
    tol: OpenFraction = 0.01,
    max_iter: PositiveInt = 200,
) -> DecentralisedResult:
    """Minimise a sum of functions, one an agent, by decentralised projected Riemannian gradients."""
    x, network = together(x0, weights, rounds)
    # eq. drcgd-dprgd
    steps = conjugate_steps(loss_and_grad, x, network, lr=lr, decay=decay, beta_cap=0.0)
    return follow(steps, loss_and_grad, network, tol=tol, max_iter=max_iter)
