r"""NLCG-Net: blocks of nonlinear conjugate gradients, each pulled to what a network makes of the last one's maps.

The maps of `trref.krylov.relaxometry` are fitted by a few steps of conjugate gradients by the rule of Dai and Yuan,

.. math::
    :label: nlcg-net-step

    X_{k+1} = X_k + a_k\, p_k

.. math::
    :label: nlcg-net-direction

    \beta_k = \frac{\| g_{k+1} \|^2}{p_k^\top (g_{k+1} - g_k)}, \qquad p_{k+1} = -g_{k+1} + \beta_k p_k

(again :math:`-g` where the denominator is not positive; else :math:`p_{k+1}^\top g_{k+1} = \beta_k\, p_k^\top g_k`, so
that directions descend), with the step where the slope
:math:`\varphi'(a) = \langle \nabla \Phi(X + a p), p \rangle` is 0, by the secant rule from :math:`a_0 = 0` and
:math:`a_1 = 1`,

.. math::
    :label: nlcg-net-secant

    a \leftarrow a_1 - \varphi'(a_1)\, \frac{a_1 - a_0}{\varphi'(a_1) - \varphi'(a_0)}

until :math:`|\varphi'| < 10^{-6}`, :math:`|a_1 - a_0| < 10^{-5}`, or 20 evaluations. Rates are kept from becoming
negative at each trial. A network N proposes what the next block is pulled to:

.. math::
    :label: nlcg-net-unrolled

    Z = N(X), \qquad X \leftarrow \text{a block on } \Phi(\cdot; Z), \quad U \text{ times.}

It is trained on one scan. Of the measured points some are hidden from the data term, never the block around the centre
(here that of the low frequencies, at the corners of the arrays), and the prediction is judged there, in each time over
coils and points, both parts stacked:

.. math::
    :label: nlcg-net-hidden

    \Lambda_t = \text{the } \lfloor s\, |\Omega_t| \rfloor \text{ points of } \Omega_t \text{ with the smallest uniform
    numbers}, \qquad \Theta_t = \Omega_t \setminus \Lambda_t

.. math::
    :label: nlcg-net-loss

    \ell = \sum_t \Big[ \frac12 \frac{\| \hat y_t - y_t \|_2}{\| y_t \|_2}
    + \frac12 \frac{\| \hat y_t - y_t \|_1}{\| y_t \|_1} \Big] .

Times without a point in the loss, or with data of 0 there, count nothing; where an entry is met exactly its slope is 0.

==================  =====================
:math:`U`           ``blocks``
:math:`s`           ``share``
==================  =====================

**Where implementations differ.** The authors' code adds a small number to the denominator of :math:`\beta` with a sign
that can turn it around, and its guard of the rates overwrites the direction itself, which then enters :math:`\beta`.

**Provenance.** Confirmed in the authors' code; the restart is a choice made here. The network and its training are left
out: the blocks take any callable.

Jiang, Jun, Cho, Gao, Yong and Bilgic, *NLCG-Net: A Model-Based Zero-Shot Learning Framework for Undersampled
Quantitative MRI Reconstruction*, 2024, arXiv:2401.12004.
"""

from collections.abc import Callable
from typing import NamedTuple

from trref.backend import xp
from trref.krylov.nonlinear_cg import direction_parameter
from trref.krylov.relaxometry import AtBound, Kind, keep_positive, kspace_objective
from trref.krylov.terms import floats
from trref.signature import (
    C,
    Fraction,
    H,
    Mask,
    N,
    NonNegativeFloat,
    NonNegativeInt,
    P,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.validate import loss_and_grad as asked
from trref.validate import returned

TRIALS, FLAT, SHORT = 20, 1e-6, 1e-5


class Block(NamedTuple):
    """Where the steps end, and the value before each of them and after the last one."""

    x: Real[N]
    values: Real[T]


class Split(NamedTuple):
    """What the data term sees, and what the loss does."""

    seen: Mask[T, H, V]
    hidden: Mask[T, H, V]


class PredictionGradient(NamedTuple):
    """Slopes by both parts of the prediction."""

    predicted_re: Real[T, C, H, V]
    predicted_im: Real[T, C, H, V]


@checked
def nlcg_block(
    loss_and_grad: Callable,
    x0: Real[N],
    rates: Mask[N] | None = None,
    *,
    steps: PositiveInt = 10,
    at_bound: AtBound = "stop",
) -> Block:
    """Steps of conjugate gradients.

    Parameters
    ----------
    x0
        Start.
    rates
        1 at entries that must not become negative.
    at_bound
        What these do at 0: stop there, or stay where they were.
    """
    x = x0.copy()
    value, g = asked(loss_and_grad, x, finite=True)
    values, p = [value], -g
    for _ in range(steps):
        a = _secant(loss_and_grad, x, p, g, rates, at_bound)
        x = x + a * _guarded(p, x, rates, a, at_bound)  # eq. nlcg-net-step
        value, new = asked(loss_and_grad, x, finite=True)
        values.append(value)
        # eq. nlcg-net-direction
        beta = 0.0
        if floats(p @ (new - g))[0] > 0:
            beta = direction_parameter.unchecked(new, g, p, rule="DY")
        p, g = -new + beta * p, new
    return Block(x, xp.stack([xp.asarray(v, dtype=x.dtype) for v in values]))


def _guarded(p, x, rates, a, at_bound):
    if rates is None:
        return p
    return keep_positive.unchecked(p, x, rates, step=a, at_bound=at_bound)


def _secant(loss_and_grad, x, p, g, rates, at_bound):
    """The step at which the slope along p is 0."""
    before, last, a = 0.0, floats(p @ g)[0], 1.0
    for _ in range(TRIALS):
        q = _guarded(p, x, rates, a, at_bound)
        (here,) = floats(asked(loss_and_grad, x + a * q, finite=True)[1] @ q)
        if abs(here) < FLAT or abs(a - before) < SHORT or here == last:
            break
        # eq. nlcg-net-secant
        before, last, a = a, here, a - here * (a - before) / (here - last)
    return a


@checked
def unrolled(
    maps: Real[P],
    kspace_re: Real[T, C, H, V],
    kspace_im: Real[T, C, H, V],
    coils_re: Real[C, H, V],
    coils_im: Real[C, H, V],
    mask: Mask[T, H, V],
    times: Real[T],
    network: Callable,
    *,
    kind: Kind = "decay",
    weight: NonNegativeFloat = 0.05,
    blocks: PositiveInt = 6,
    steps: PositiveInt = 10,
    at_bound: AtBound = "stay",
) -> Real[P]:
    """Maps after some blocks, each pulled to the network's output for the last maps.

    Parameters
    ----------
    maps
        Where it begins: parts of the magnetisation, and rates, three images, flat.
    kspace_re, kspace_im
        What the coils measured.
    coils_re, coils_im
        Sensitivities of the coils.
    mask
        1 where it was measured.
    times
        Times of the measurements.
    network
        ``network(maps) -> maps``.
    kind
        Decay, or recovery after an inversion.
    weight
        Of the pull.
    blocks
        How many.
    steps
        In each block.
    """
    size = len(maps) // 3
    rates = (xp.arange(len(maps)) >= 2 * size).astype(maps.dtype)
    data = kspace_re, kspace_im, coils_re, coils_im, mask, times
    for _ in range(blocks):
        Z = returned("network", network(maps), maps.shape, finite=True)

        def objective(X, Z=Z):
            return kspace_objective.unchecked(X, *data, Z, kind=kind, weight=weight)

        block = nlcg_block.unchecked(
            objective, maps, rates, steps=steps, at_bound=at_bound
        )
        maps = block.x  # eq. nlcg-net-unrolled
    return maps


@checked
def hide(
    mask: Mask[T, H, V],
    uniform: Prob[T, H, V],
    *,
    share: Fraction = 0.4,
    centre: NonNegativeInt = 2,
) -> Split:
    """Hide some of what was measured.

    Parameters
    ----------
    uniform
        Random numbers.
    share
        Of the measured points that is hidden, at each time.
    centre
        Frequencies below it, in rows and columns, are never hidden: 2 for a block of 4 × 4.
    """
    T, H, V = mask.shape
    rows, columns = (xp.arange(n) for n in (H, V))
    low = [(k < centre) | (k >= n - centre) for k, n in ((rows, H), (columns, V))]
    free = (mask > 0) & ~(low[0][:, None] & low[1])
    uniform = xp.where(free, uniform, 2).reshape(T, -1)
    rank = xp.argsort(xp.argsort(uniform, axis=1, kind="stable"), axis=1, kind="stable")
    count = xp.floor(share * mask.sum((1, 2)))[:, None]
    # eq. nlcg-net-hidden
    hidden = (free & (rank < count).reshape(mask.shape)).astype(mask.dtype)
    return Split(mask - hidden, hidden)


@checked
def zero_shot_loss(
    predicted_re: Real[T, C, H, V],
    predicted_im: Real[T, C, H, V],
    kspace_re: Real[T, C, H, V],
    kspace_im: Real[T, C, H, V],
    mask: Mask[T, H, V],
) -> tuple[Scalar, PredictionGradient]:
    """How far a prediction is from what was hidden.

    Parameters
    ----------
    predicted_re, predicted_im
        What the maps would give.
    mask
        1 at the points of the loss.
    """
    on = mask[:, None]
    e = xp.stack([on * (predicted_re - kspace_re), on * (predicted_im - kspace_im)])
    y = xp.stack([on * kspace_re, on * kspace_im])
    over = (0, 2, 3, 4)
    two, one = xp.sqrt((e * e).sum(over)), abs(e).sum(over)
    sizes = xp.sqrt((y * y).sum(over)), abs(y).sum(over)
    inverse = [xp.where(s > 0, 0.5 / xp.where(s > 0, s, 1), 0) for s in sizes]
    value = (inverse[0] * two + inverse[1] * one).sum()  # eq. nlcg-net-loss

    by_two = (inverse[0] / xp.where(two > 0, two, 1))[:, None, None, None]
    gradient = by_two * e + inverse[1][:, None, None, None] * xp.sign(e)
    return value, PredictionGradient(gradient[0], gradient[1])
