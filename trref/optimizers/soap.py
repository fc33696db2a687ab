r"""SOAP: Adam in the eigenbasis of Shampoo.

Shampoo's statistics of the two sides of a matrix have eigenvectors, and in their basis it is a method that scales each
entry by itself. SOAP runs Adam there. The gradient is turned, Adam's second moment is kept in the turned coordinates,
and the step is turned back:

.. math::
    :label: soap-rotation

    G' = Q_L^\top G\, Q_R

.. math::
    :label: soap-moments

    M_t = \beta_1 M_{t-1} + (1 - \beta_1)\, G_t, \qquad V_t = \beta_2 V_{t-1} + (1 - \beta_2)\, G'_t \odot G'_t

.. math::
    :label: soap-step

    W \leftarrow W - \eta\, \frac{\sqrt{1 - \beta_2^k}}{1 - \beta_1^k}\,
    Q_L\, \frac{Q_L^\top M_t Q_R}{\sqrt{V_t} + \varepsilon}\, Q_R^\top, \qquad W \leftarrow (1 - \eta \lambda)\, W,

where the decay acts on the new weights. The momentum stays in the original coordinates. Then come the statistics,

.. math::
    :label: soap-statistics

    L \leftarrow \beta_s L + (1 - \beta_s)\, G G^\top, \qquad R \leftarrow \beta_s R + (1 - \beta_s)\, G^\top G,

so that a step uses the basis of the gradients before it. The first call takes no step: it makes the bases, eigenvectors
of :math:`L = (1 - \beta_s) G G^\top` and its like, in falling order, and k counts the calls after it. Every f steps
each basis is put in the order of its falling Rayleigh quotients, the second moment with it, and renewed by one step of
orthogonal iteration:

.. math::
    :label: soap-basis

    Q \leftarrow \mathrm{order}\big(Q,\ \mathrm{diag}(Q^\top L Q)\big), \qquad Q \leftarrow \mathrm{qr}(L Q) .

Signs and order of eigenvectors do not matter: :math:`V` is even in them, and the turn back undoes the rest. Where
eigenvalues are equal the method depends on the choice that the solver makes. An array of k axes has a basis for each of
them; vectors and axes longer than `max_dim` keep their own, and a vector is treated as Adam would, one call late and
with an epsilon that is not corrected. Rotations of either side are followed. Zero gradients move nothing but by the
decay.

=======================  ==============
:math:`\eta`             `lr`
:math:`\beta_s`          `shampoo_beta`
:math:`\varepsilon`      `eps`
:math:`\lambda`          `weight_decay`
f                        `every`
=======================  ==============

**Where implementations differ.** NVIDIA's Emerging-Optimizers at first did not skip the first call, and turned today's
gradient by a basis that has seen it already; the paper's algorithm and its authors' code do not. Leaving the second
moment in its old order was found in a review of the same code.

**Provenance.** Confirmed by the authors' code (nikhilvyas/SOAP, a1e5535) as pytorch_optimizer 4.1 has it, with which
this one agrees to the precision of its eigenvectors, which are of single precision.

Vyas et al., *SOAP: Improving and Stabilizing Shampoo using Adam*, 2024, arXiv:2409.11321.
"""

import math
from typing import NamedTuple

from trref.backend import linalg, xp
from trref.signature import (
    Arrays,
    Decay,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    checked,
)


class SoapState(NamedTuple):
    """Number of calls, the moments, and of each axis of each array the statistics and the basis, 0 × 0 for none."""

    calls: int
    m: Arrays
    v: Arrays
    statistics: list
    bases: list


def init(params: Arrays) -> SoapState:
    """Return the state before the first call: moments zero, no bases yet."""
    m, v = ([xp.zeros_like(p) for p in params] for _ in range(2))
    return SoapState(0, m, v, [], [])


def turned(G, bases, back=False):
    """The array in the bases of its axes, or from them back; an axis without one stays."""
    for axis, Q in enumerate(bases):
        if len(Q):
            G = xp.moveaxis(xp.tensordot(Q, G, axes=(int(back), axis)), 0, axis)
    return G


def _squares(G, max_dim):
    """``G_i G_iᵀ`` of each unfolding; 0 × 0 for what keeps its own basis."""
    sides = []
    for axis, n in enumerate(G.shape):
        U = xp.moveaxis(G, axis, 0).reshape(n, -1)
        U = U if G.ndim > 1 and n <= max_dim else U[:0]
        sides.append(U @ U.T)
    return sides


def _eigenbasis(H):
    return xp.array(linalg.eigh(H)[1][:, ::-1]) if len(H) else H


def _renewed(V, bases, statistics):
    """Second moment and bases after one step of orthogonal iteration."""
    renewed = []
    # eq. soap-basis
    for axis, (Q, H) in enumerate(zip(bases, statistics, strict=True)):
        if len(Q):
            order = xp.argsort(-(Q * (H @ Q)).sum(0))
            V = xp.take(V, order, axis=axis)
            Q = linalg.qr(H @ Q[:, order])[0]
        renewed.append(Q)

    return V, renewed


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: SoapState,
    *,
    lr: PositiveFloat = 3e-3,
    beta1: Decay = 0.95,
    beta2: Decay = 0.95,
    shampoo_beta: Decay = 0.95,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.01,
    every: PositiveInt = 10,
    max_dim: PositiveInt = 10000,
) -> tuple[Arrays, SoapState]:
    """Take one step of SOAP; the first call makes the bases and takes none.

    Parameters
    ----------
    beta1, beta2
        Decay of the moments.
    shampoo_beta
        Decay of the statistics.
    eps
        Added to the root.
    weight_decay
        Rate at which the new weights shrink, relative to the step size.
    every
        Steps between renewals of the bases.
    max_dim
        Longest axis that has a basis.

    Returns
    -------
    params
    state
    """
    squares = [_squares(G, max_dim) for G in grads]
    if state.calls == 0:
        statistics = [[(1 - shampoo_beta) * S for S in sides] for sides in squares]
        bases = [[_eigenbasis(H) for H in sides] for sides in statistics]
        same = [xp.array(p) for p in params]
        return same, SoapState(1, state.m, state.v, statistics, bases)

    k, bases = state.calls, state.bases
    # eq. soap-rotation
    views = [turned(G, Q) for G, Q in zip(grads, bases, strict=True)]

    # eq. soap-moments
    m = [beta1 * a + (1 - beta1) * G for a, G in zip(state.m, grads, strict=True)]
    v = [beta2 * b + (1 - beta2) * G * G for b, G in zip(state.v, views, strict=True)]

    # eq. soap-step
    rate = lr * math.sqrt(1 - beta2**k) / (1 - beta1**k)
    steps = []
    for a, b, Q in zip(m, v, bases, strict=True):
        steps.append(turned(turned(a, Q) / (xp.sqrt(b) + eps), Q, back=True))
    moved = [p - rate * step for p, step in zip(params, steps, strict=True)]
    params = [(1 - lr * weight_decay) * p for p in moved]

    # eq. soap-statistics
    statistics = []
    for old, new in zip(state.statistics, squares, strict=True):
        pairs = zip(old, new, strict=True)
        statistics.append([shampoo_beta * H + (1 - shampoo_beta) * S for H, S in pairs])

    if k % every == 0:
        each = [_renewed(*all3) for all3 in zip(v, bases, statistics, strict=True)]
        v, bases = [b for b, _ in each], [Q for _, Q in each]

    return params, SoapState(k + 1, m, v, statistics, bases)
