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

import math
import warnings
from collections.abc import Callable

from trref import validate
from trref.backend import linalg, xp
from trref.manifolds.drcgd_consensus import distance_from
from trref.manifolds.stiefel import tangent_part
from trref.manifolds.stiefel_retraction import polar_factors
from trref.manifolds.terms import DecentralisedResult, doubly_stochastic, mix
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
    Wt = linalg.matrix_power(weights, rounds)
    x = xp.stack([x0] * len(weights))
    g = tangent_part(x, local(loss_and_grad, x)[1])
    eta, squares = -g, (g * g).sum((-2, -1))
    mean, loss, norm, error, scale = measure(loss_and_grad, x, xp.ones_like(x0))
    losses, norms, errors = [loss], [norm], [error]
    while (norms[-1] > tol * scale or errors[-1] > tol) and len(losses) <= max_iter:
        alpha = lr / len(losses) ** decay
        x, s, _ = polar_factors(mix(Wt, x) + alpha * eta)  # eq. drcgd-step
        g = tangent_part(x, local(loss_and_grad, x)[1])
        previous, squares = squares, (g * g).sum((-2, -1))

        # eq. drcgd-beta
        beta = xp.where(previous > 0, squares / xp.where(previous > 0, previous, 1), 0)

        if beta_cap is not None:
            beta = xp.minimum(beta, beta_cap)  # eq. drcgd-safeguards
        carried = tangent_part(x, mix(Wt, eta))
        eta = -g + beta[:, None, None] * carried  # eq. drcgd-direction
        if restart is not None:
            lazy = (eta * g).sum((-2, -1)) >= -restart * squares  # eq. drcgd-safeguards
            eta = xp.where(lazy[:, None, None], -g, eta)

        mean, loss, norm, error, _ = measure(loss_and_grad, x, s)
        losses.append(loss)
        norms.append(norm)
        errors.append(error)

    iterations, converged = (
        len(losses) - 1,
        norms[-1] <= tol * scale and errors[-1] <= tol,
    )
    if not converged:
        message = f"stopped after {iterations} iterations: consensus error {errors[-1]:.2e}, gradient {norms[-1]:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return DecentralisedResult(
        mean, x, eta, losses, norms, errors, iterations, converged
    )


def local(loss_and_grad, x):
    """The local losses and gradients, of the right shapes."""
    result = loss_and_grad(x)
    if not (isinstance(result, tuple) and len(result) == 2):
        kind = type(result).__name__
        raise TypeError(f"loss_and_grad must return losses and gradients, not {kind}")
    losses, gradients = result
    validate.array("the losses that loss_and_grad returns", losses)
    validate.array("the gradients that loss_and_grad returns", gradients)
    if (
        tuple(losses.shape) != x.shape[:1]
        or gradients.shape != x.shape
        or gradients.dtype != x.dtype
    ):
        raise ValueError(
            f"loss_and_grad must return {len(x)} losses and {x.dtype} gradients of shape {x.shape}"
        )
    return losses, gradients


def measure(loss_and_grad, x, s):
    """Return the induced mean, and there, on the host: loss, norm of the Riemannian gradient, consensus error, and the
    norm of the Euclidean gradient; `s` are the singular values of what was projected last."""
    mean, spread, _ = polar_factors(x.mean(0))
    losses, gradients = local(loss_and_grad, xp.broadcast_to(mean, x.shape))
    G = gradients.mean(0)  # eq. drcgd-problem
    g = tangent_part(mean, G)
    rank = xp.minimum(s.min() / s.max(), spread.min())
    numbers = xp.stack(
        [losses.mean(), (g * g).sum(), (G * G).sum(), distance_from(x, mean), rank]
    ).tolist()
    loss, gg, GG, error, rank = numbers
    if not math.isfinite(loss + GG):
        raise ValueError("loss_and_grad must give finite values")
    if rank <= x.shape[-2] * float(xp.finfo(x.dtype).eps):
        raise ValueError("lr is too long: a sum of frame and step lost its rank")
    return mean, loss, math.sqrt(gg), error, math.sqrt(GG)


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
    # eq. drcgd-dprgd
    return drcgd.unchecked(
        loss_and_grad,
        x0,
        weights,
        lr=lr,
        decay=decay,
        rounds=rounds,
        beta_cap=0.0,
        tol=tol,
        max_iter=max_iter,
    )
