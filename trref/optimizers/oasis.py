r"""OASIS: the Hessian's diagonal for a scale, and a step length from how the gradient changed.

Products of the Hessian with random signs z show its diagonal without bias,

.. math::
    :label: oasis-hutchinson

    \mathbb E\, [z \odot \nabla^2 F(w)\, z] = \mathrm{diag}\, \nabla^2 F(w), \qquad z_i = \pm 1 ,

with the variance :math:`\sum_{j \ne i} H_{ij}^2` of entry i, and none where the Hessian is diagonal. The average over
steps begins at an estimate from many products, and keeps its sign;

.. math::
    :label: oasis-average

    D_k = \beta_2 D_{k-1} + (1 - \beta_2)\, z_k \odot \nabla^2 F(w_k)\, z_k ,

only what the step divides by is made positive:

.. math::
    :label: oasis-truncate

    \hat D_k = \max\{ |D_k|, \alpha \} .

The step length is as large as the change of the gradient allows, in the scaled norm
:math:`\|x\|^2_{\hat D} = x^\top \hat D x` and its dual :math:`\|g\|^{*2}_{\hat D} = g^\top \hat D^{-1} g`, and grows
only slowly:

.. math::
    :label: oasis-rate

    \eta_k = \min\Bigl\{ \sqrt{1 + \theta_{k-1}}\; \eta_{k-1},\;
    \frac{\|w_k - w_{k-1}\|_{\hat D_k}}{2\, \|\nabla F(w_k) - \nabla F(w_{k-1})\|^*_{\hat D_k}} \Bigr\}, \qquad
    \theta_k = \frac{\eta_k}{\eta_{k-1}}, \quad \theta_0 = \infty .

.. math::
    :label: oasis-step

    w_{k+1} = w_k - \eta_k\, \hat D_k^{-1} \nabla F(w_k)

The first step has the length that is given. With :math:`\hat D = I` this is adaptive gradient descent; for a diagonal
quadratic whose diagonal is known the second branch is ½, whatever the scales, and the error halves at each step. Where
the point or the gradient has not changed the rate stays as it was. With minibatches both gradients in the second branch
must be those of one batch: put that of today's batch, at the parameters before, into the state. The step itself is
kept, not the parameters before: a difference of parameters would lose digits.

For networks there is a form with a fixed rate, momentum and decoupled decay:

.. math::
    :label: oasis-fixed

    m_k = \beta_1 m_{k-1} + (1 - \beta_1)\, \nabla F(w_k), \qquad
    w_{k+1} = (1 - \eta\lambda)\, w_k - \eta\, \hat D_k^{-1} m_k .

========================  ====================================
:math:`z \odot H z`       `curvature`
:math:`\eta_0`, the rate  `lr`
:math:`\theta`            `growth`
:math:`\hat D`            `scale`
:math:`w_k - w_{k-1}`     `move`; of the gradient: `change`
:math:`\beta_1`           `momentum`
:math:`\lambda`           `weight_decay`
========================  ====================================

**Where implementations differ.** Public code stores the modulus of the average, which for negative curvature averages
estimates of both signs away. Another class of this name keeps the rate fixed.

**Provenance.** Partly: direction, truncation, the rate and its start are confirmed by two independent public
implementations written from the paper, the average that keeps its sign by one of them; the form with momentum is from
memory.

Jahani, Rusakov, Shi, Richtárik, Mahoney and Takáč, *Doubly Adaptive Scaled Algorithm for Machine Learning Using
Second-Order Information*, 2021, arXiv:2109.05198.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.problems.protocols import CurvedLoss
from trref.signature import (
    Arrays,
    Decay,
    M,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class OasisState(NamedTuple):
    """Number of steps; the averaged diagonal; the last rate, its growth, step and gradient.

    At a fixed rate the average of the gradients takes the place of the last one, and rate, growth and moves stay.
    """

    step: int
    D: Arrays
    rate: Scalar
    growth: Scalar
    moves: Arrays
    grads: Arrays


def init(params: Arrays) -> OasisState:
    """Return the state before the first step, of either rule."""
    D, moves, grads = ([xp.zeros_like(p) for p in params] for _ in range(3))
    one = xp.ones((), dtype=params[0].dtype)
    return OasisState(0, D, one, one, moves, grads)


@checked
def hutchinson_diagonal(
    loss_and_grad: CurvedLoss, theta: Real[P], z: Real[M, P]
) -> Real[P]:
    """Estimate the diagonal of the Hessian by products with random signs.

    Parameters
    ----------
    loss_and_grad
        With ``hessian_product(theta, v)``, such as `trref.problems.convex.Logistic`.
    z
        Signs, 1 or -1, a row a product.
    """
    name, H = "loss_and_grad.hessian_product", loss_and_grad.hessian_product
    product = lambda v: validate.returned(name, H(theta, v), v.shape, finite=True)  # noqa: E731
    # eq. oasis-hutchinson
    products = (row * product(row) for row in z)
    return sum(products, xp.zeros_like(theta)) / len(z)


@checked
def truncate(D: Real[P], *, alpha: PositiveFloat = 1e-5) -> Positive[P]:
    """Make a diagonal positive.

    Parameters
    ----------
    D
        The averaged diagonal.
    alpha
        The least entry of the scale.
    """
    return xp.maximum(abs(D), alpha)  # eq. oasis-truncate


def _rate(moves, changes, scales, rate, growth):
    """The next rate from lists of arrays; without a growth only the second branch counts."""
    # eq. oasis-rate
    moved = sum((s * a * a).sum() for s, a in zip(scales, moves, strict=True))
    changed = sum((a * a / s).sum() for s, a in zip(scales, changes, strict=True))
    seen = (moved > 0) & (changed > 0)
    flat = xp.sqrt(moved) / (2 * xp.sqrt(xp.where(seen, changed, 1)))
    if growth is not None:
        flat = xp.minimum(flat, xp.sqrt(1 + growth) * rate)
    return xp.where(seen, flat, rate)


@checked
def adaptive_rate(
    move: Real[P],
    change: Real[P],
    scale: Positive[P],
    *,
    lr: PositiveFloat = 1e-3,
    growth: PositiveFloat | None = None,
) -> Scalar:
    """Return the next rate.

    Parameters
    ----------
    move
        How the parameters changed in the last step.
    change
        How the gradient changed with them.
    scale
        The truncated diagonal.
    lr
        The rate before.
    growth
        By how much that had grown; infinite if None.
    """
    before = xp.asarray(lr, dtype=move.dtype)
    grown = None if growth is None else xp.asarray(growth, dtype=move.dtype)
    return xp.asarray(_rate([move], [change], [scale], before, grown))


def _averaged(state, curvature, beta2):
    """The average, which begins at the first estimate."""
    # eq. oasis-average
    if not state.step:
        return curvature
    pairs = zip(state.D, curvature, strict=True)
    return [beta2 * a + (1 - beta2) * b for a, b in pairs]


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: OasisState,
    *,
    curvature: Arrays,
    lr: PositiveFloat = 1e-3,
    beta2: Decay = 0.999,
    alpha: PositiveFloat = 1e-5,
) -> tuple[Arrays, OasisState]:
    """Take one step of OASIS.

    Parameters
    ----------
    curvature
        An estimate of the diagonal, in the first step from many products.
    lr
        Rate of the first step.
    beta2
        Decay of the averaged diagonal.

    Returns
    -------
    params
    state
    """
    D = _averaged(state, curvature, beta2)
    scales = [truncate.unchecked(d, alpha=alpha) for d in D]
    if not state.step:
        rate = growth = xp.zeros_like(state.rate) + lr
    else:
        changes = [g - a for g, a in zip(grads, state.grads, strict=True)]
        before = state.growth if state.step > 1 else None
        rate = _rate(state.moves, changes, scales, state.rate, before)
        growth = rate / state.rate

    # eq. oasis-step
    moves = [-rate * g / s for g, s in zip(grads, scales, strict=True)]
    params = [p + move for p, move in zip(params, moves, strict=True)]
    D, grads = ([x.copy() for x in each] for each in (D, grads))
    return params, OasisState(state.step + 1, D, rate, growth, moves, grads)


@checked
def fixed_update(
    params: Arrays,
    grads: Arrays,
    state: OasisState,
    *,
    curvature: Arrays,
    lr: PositiveFloat = 0.1,
    momentum: Decay = 0.9,
    beta2: Decay = 0.999,
    alpha: PositiveFloat = 1e-5,
    weight_decay: NonNegativeFloat = 0.0,
) -> tuple[Arrays, OasisState]:
    """Take one step at a fixed rate, with momentum.

    Parameters
    ----------
    momentum
        Decay of the averaged gradient.
    weight_decay
        Rate at which weights shrink, relative to the step size.

    Returns
    -------
    params
    state
    """
    D = _averaged(state, curvature, beta2)
    scales = [truncate.unchecked(d, alpha=alpha) for d in D]
    # eq. oasis-fixed
    new, keep = 1 - momentum, 1 - lr * weight_decay
    m = [momentum * a + new * g for a, g in zip(state.grads, grads, strict=True)]
    tensors = zip(params, m, scales, strict=True)
    moved = [keep * p - lr * a / s for p, a, s in tensors]
    return moved, state._replace(step=state.step + 1, D=[d.copy() for d in D], grads=m)
