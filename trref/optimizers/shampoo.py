r"""Shampoo: one small preconditioner a side of a matrix.

AdaGrad with a full matrix would divide by the root of a matrix of all pairs of weights. Shampoo keeps one matrix a
side,

.. math::
    :label: shampoo-statistics

    L_t = L_{t-1} + G_t G_t^\top, \qquad R_t = R_{t-1} + G_t^\top G_t, \qquad L_0 = R_0 = \varepsilon I,

and multiplies by the inverse fourth root on each side, so that the two roots together are a square root:

.. math::
    :label: shampoo-step

    W_t = W_{t-1} - \eta\, D_t, \qquad D_t = L_t^{-1/4}\, G_t\, R_t^{-1/4} .

The Kronecker product :math:`L^{1/2} \otimes R^{1/2}` bounds the full matrix from above, up to the rank. An array of k
axes has k statistics, each of its unfolding, and the exponent :math:`-1/(2k)` in each; a vector has full AdaGrad. The
exponent is :math:`-1/(sk)` here, with s = 2 (`root`).

The first step is the polar factor of the gradient, as Muon's is, but for :math:`\varepsilon`. Rotations of either side
are followed; gradients of another size change nothing, up to :math:`\varepsilon`; steps of gradients of one size fall
as :math:`1/\sqrt t`, for the statistics are sums. With a decay :math:`\beta < 1` they are averages, corrected for their
start,

.. math::
    :label: shampoo-averages

    L_t = \beta L_{t-1} + (1 - \beta)\, G_t G_t^\top, \qquad \hat L_t = \frac{L_t}{1 - \beta^t} .

Roots are renewed every f steps (`every`). With *grafting* the step takes its length from the gradient and its direction
from Shampoo:

.. math::
    :label: shampoo-grafting

    W_t = W_{t-1} - \eta\, \frac{\|G_t\|}{\|D_t\|}\, D_t .

Zero gradients move nothing.

====================  ==========
:math:`\eta`          `lr`
:math:`\varepsilon`   `eps`
:math:`\beta`         `beta2`
====================  ==========

**Where implementations differ.** moskomule/shampoo.pytorch, and pytorch_optimizer before its version 4, take
:math:`-1/k` for the exponent, and the statistics of the second side of the gradient that the first one has
preconditioned already. Distributed Shampoo cuts large sides into blocks.

**Provenance.** Confirmed: the form for matrices and the exponent by pytorch_optimizer 4.1, with which this one agrees,
and by Distributed Shampoo; the averages and grafting as the latter has them, in part. The paper's text was not read
again.

Gupta, Koren and Singer, *Shampoo: Preconditioned Stochastic Tensor Optimization*, 2018, arXiv:1802.09568.
"""

from typing import NamedTuple

from trref.backend import linalg, xp
from trref.signature import Arrays, Fraction, PositiveFloat, PositiveInt, checked


class ShampooState(NamedTuple):
    """Number of steps taken, and of each array the statistics of its axes, and those that the roots are of."""

    step: int
    statistics: list
    used: list


def init(params: Arrays) -> ShampooState:
    """Return the state before the first step: no gradient seen."""
    like = [xp.zeros_like(p) for p in params]
    sides = [[xp.zeros((n, n), dtype=p.dtype) for n in p.shape] for p in like]
    return ShampooState(0, sides, [list(side) for side in sides])


def _unfolded(G, axis):
    return xp.moveaxis(G, axis, 0).reshape(G.shape[axis], -1)


def inverse_root(H, power):
    """H to the power of minus `power`, of a positive definite matrix; rounding counts as the least it can be.

    The root of zero is zero: an average that forgets everything has only zero gradients there.
    """
    values, Q = linalg.eigh(H)
    least = xp.finfo(H.dtype).eps * values[-1]
    values = xp.where(values[-1] > 0, xp.maximum(values, least), xp.inf)
    return (Q * values**-power) @ Q.T


def _preconditioned(G, roots):
    for axis, root in enumerate(roots):
        G = xp.moveaxis(xp.tensordot(root, G, axes=(1, axis)), 0, axis)
    return G


def _with_axes(params, **_):
    """A parameter that is a number without an axis."""
    for i, p in enumerate(params):
        if p.ndim == 0:
            raise ValueError(f"params[{i}] must have an axis; give one number as [x]")
    return []


@checked(also=_with_axes)
def update(
    params: Arrays,
    grads: Arrays,
    state: ShampooState,
    *,
    lr: PositiveFloat = 1e-3,
    eps: PositiveFloat = 1e-6,
    beta2: Fraction = 1.0,
    root: PositiveFloat = 2.0,
    every: PositiveInt = 1,
    graft: bool = False,
) -> tuple[Arrays, ShampooState]:
    """Take one step of Shampoo.

    Parameters
    ----------
    eps
        Multiple of the identity that the statistics hold from the start.
    beta2
        Decay of the statistics; 1 for sums.
    root
        An array of k axes is preconditioned by the power of -1/(root · k) on each.
    every
        Steps between new roots; the first step makes some.
    graft
        Whether a step is as long as the gradient.

    Returns
    -------
    params
    state
    """
    t = state.step + 1
    share, corrected = (1.0, 1.0) if beta2 == 1 else (1 - beta2, 1 - beta2**t)
    # eq. shampoo-statistics, shampoo-averages
    statistics = []
    for sides, G in zip(state.statistics, grads, strict=True):
        squares = [(U := _unfolded(G, axis)) @ U.T for axis in range(G.ndim)]
        pairs = zip(sides, squares, strict=True)
        statistics.append([beta2 * H + share * S for H, S in pairs])

    used = state.used
    if state.step % every == 0:
        floor = eps * beta2**t / corrected
        used = [
            [H / corrected + floor * xp.eye(len(H), dtype=H.dtype) for H in sides]
            for sides in statistics
        ]

    # eq. shampoo-step
    powers = [1 / (root * G.ndim) for G in grads]
    steps = [
        _preconditioned(G, [inverse_root(H, power) for H in sides])
        for G, power, sides in zip(grads, powers, used, strict=True)
    ]

    if graft:
        # eq. shampoo-grafting
        lengths = [xp.sqrt((G * G).sum()) for G in grads]
        own = [xp.sqrt((D * D).sum()) for D in steps]
        pairs = zip(lengths, own, steps, strict=True)
        steps = [a / xp.where(b > 0, b, 1) * D for a, b, D in pairs]

    params = [p - lr * D for p, D in zip(params, steps, strict=True)]
    return params, ShampooState(t, statistics, used)
