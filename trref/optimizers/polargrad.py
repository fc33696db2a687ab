r"""PolarGrad: Muon's direction, and a length that vanishes with the gradient.

Muon's steps have one length, whatever the gradient's. Steepest descent in the spectral norm has another one, the sum of
the singular values: with the polar decomposition :math:`G = UH`,

.. math::
    :label: polargrad-steepest

    \arg\min_D\ \langle G, D \rangle + \tfrac12 \|D\|_2^2 = -\nu\, U, \qquad \nu = \|G\|_* = \langle G, U \rangle .

The step then becomes 0 at a minimum, and a constant rate converges, where Muon keeps circling:

.. math::
    :label: polargrad-step

    M_t = \mu\, M_{t-1} + (1 - \mu)\, G_t, \quad M_t = U_t H_t, \qquad
    X_t = (1 - \eta\lambda)\, X_{t-1} - \eta\, \langle M_t, U_t \rangle\, U_t .

The other order averages the polar factors:

.. math::
    :label: polargrad-first

    G_t = U_t H_t, \quad M_t = \mu\, M_{t-1} + (1 - \mu)\, U_t, \qquad
    X_t = (1 - \eta\lambda)\, X_{t-1} - \eta\, \langle G_t, U_t \rangle\, M_t .

For gradients of rank r whose Lipschitz constant in the Frobenius norm is L, a step at the rate :math:`1/(Lr)` gains
:math:`\nu^2/(2Lr)` or more, and if f is :math:`\mu`-strongly convex the gap falls by at least

.. math::
    :label: polargrad-rate

    f_{t+1} - f^* \le \max\bigl\{0,\, 1 - \max\bigl( \tfrac{\mu}{Lr},\ \tfrac{\mu}{L \kappa_G^2} \bigr) \bigr\}\,
    (f_t - f^*), \qquad \kappa_G = \sigma_1 / \sigma_r ,

the *gradient's* condition number: that is what polar methods precondition, as Adam does curvature. A gradient of rank
one gives gradient descent, one whose singular values are equal r times its step. Scaling the loss scales the step;
turning the gradient on either side turns it. Zero gradients, and singular values that are zero up to rounding, do not
move. The first axis of an array counts rows, the others together columns.

===============  ==============
:math:`\eta`     `lr`
:math:`\mu`      `momentum`, and in the rate strong convexity
:math:`\lambda`  `weight_decay`
===============  ==============

**Where implementations differ.** The authors' class takes two steps of QDWH from a lower bound of 1.2e-7 by default:
singular values then lie between about ½ and 1, and the inner product is less than the nuclear norm. Its
Newton-Schulz iteration has 2.031 where all others have 2.0315.

**Provenance.** Both orders, decay and defaults are confirmed in the authors' code (timlautk/polargrad); gain and rates
are derived here, and checked. Their form in the paper is from memory.

Lau, Long and Su, *PolarGrad: A Class of Matrix-Gradient Optimizers from a Unifying Preconditioning Perspective*, 2025,
arXiv:2505.21799.
"""

from typing import Literal

from trref.backend import linalg, xp
from trref.optimizers.muon import MuonState
from trref.optimizers.polar_decomposition import newton_schulz, polar_factor
from trref.signature import (
    Arrays,
    Decay,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

Factor = Literal["svd", "muon", "quintic", "polar_express"]


def init(params: Arrays) -> MuonState:
    """Return the state before the first step, of either order: average zero."""
    return MuonState([xp.zeros_like(p) for p in params])


@checked
def steepest_descent_step(g: Real[M, N]) -> Real[M, N]:
    """The step of steepest descent in the spectral norm.

    Parameters
    ----------
    g
        The gradient.
    """
    U = polar_factor.unchecked(g)
    return -(g * U).sum() * U  # eq. polargrad-steepest


@checked
def gradient_condition(g: Real[M, N]) -> Scalar:
    """The largest singular value over the smallest that is not zero; 1 for a gradient of zero."""
    s = linalg.svd(g, compute_uv=False)
    rounding = max(g.shape) * float(xp.finfo(g.dtype).eps)
    least = xp.where(s > rounding * s[0], s, s[0]).min()
    return xp.asarray(xp.where(least > 0, s[0] / xp.where(least > 0, least, 1), 1))


@checked
def certified_decrease(
    g: Real[M, N], *, lipschitz: PositiveFloat, convexity: NonNegativeFloat = 0.0
) -> Scalar:
    """The share of the gap that is left at most after a step at the rate of one over Lipschitz constant and rank.

    Parameters
    ----------
    lipschitz
        Of the gradient, in the Frobenius norm.
    convexity
        Strong convexity, at most the Lipschitz constant.
    """
    if convexity > lipschitz:
        raise ValueError("convexity must be at most lipschitz")
    s = linalg.svd(g, compute_uv=False)
    rounding = max(g.shape) * float(xp.finfo(g.dtype).eps)
    rank = xp.maximum((s > rounding * s[0]).sum(), 1).astype(g.dtype)
    # eq. polargrad-rate
    condition = gradient_condition.unchecked(g)
    gain = xp.maximum(1 / rank, 1 / condition**2)
    return xp.asarray(1 - convexity / lipschitz * gain)


def _factor(x, factor, steps, eps):
    """The polar factor of an array, taken for a matrix."""
    rows = x.reshape(len(x), x.size // len(x))
    if factor == "svd":
        return polar_factor.unchecked(rows).reshape(x.shape)
    U = newton_schulz.unchecked(rows, coefficients=factor, steps=steps, eps=eps)
    return U.reshape(x.shape)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: MuonState,
    *,
    lr: PositiveFloat = 0.02,
    momentum: Decay = 0.95,
    weight_decay: NonNegativeFloat = 0.0,
    factor: Factor = "svd",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
) -> tuple[Arrays, MuonState]:
    """Take one step of PolarGrad, momentum first.

    Parameters
    ----------
    lr
        In the units of gradient descent's, not of Muon's.
    momentum
        Decay of the average.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    factor
        The exact polar factor, or the coefficients of the Newton-Schulz iteration.
    steps
        Of the iteration.
    eps
        Added to the norm by which the iteration divides first.

    Returns
    -------
    params
    state
    """
    # eq. polargrad-step
    new, keep = 1 - momentum, 1 - lr * weight_decay
    m = [momentum * a + new * g for a, g in zip(state.m, grads, strict=True)]
    U = [_factor(a, factor, steps, eps) for a in m]
    tensors = zip(params, m, U, strict=True)
    return [keep * p - lr * (a * u).sum() * u for p, a, u in tensors], MuonState(m)


@checked
def polar_first_update(
    params: Arrays,
    grads: Arrays,
    state: MuonState,
    *,
    lr: PositiveFloat = 0.02,
    momentum: Decay = 0.95,
    weight_decay: NonNegativeFloat = 0.0,
    factor: Factor = "svd",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
) -> tuple[Arrays, MuonState]:
    """Take one step of PolarGrad, polar factors first.

    Returns
    -------
    params
    state
    """
    # eq. polargrad-first
    new, keep = 1 - momentum, 1 - lr * weight_decay
    U = [_factor(g, factor, steps, eps) for g in grads]
    m = [momentum * a + new * u for a, u in zip(state.m, U, strict=True)]
    tensors = zip(params, grads, U, m, strict=True)
    return [keep * p - lr * (g * u).sum() * a for p, g, u, a in tensors], MuonState(m)
