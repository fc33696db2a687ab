r"""FISMO: Muon in the metric of a Kronecker-factored Fisher matrix.

Muon treats all singular directions alike. FISMO measures the step by left and right factors :math:`P, Q` of a Fisher
matrix :math:`F \approx Q \otimes P`, so that directions are equalised in part only. The best step in a ball of that
metric is

.. math::
    :label: fismo-step

    \arg\min_{\|P^{1/2} D\, Q^{1/2}\|_2 \le \eta} \langle G, D \rangle
    = -\eta\, P^{-1/2}\, \mathrm{polar}(\tilde G)\, Q^{-1/2}, \qquad \tilde G = P^{-1/2} G\, Q^{-1/2},

with the value :math:`-\eta \|\tilde G\|_*`. For gradients :math:`G_i` of m × n the factors fit best where

.. math::
    :label: fismo-objective

    J(P, Q) = \frac1K \sum_i \mathrm{tr}\bigl( P^{-1} G_i\, Q^{-1} G_i^\top \bigr) + n \log |\det P| + m \log |\det Q|

is smallest; its derivatives are

.. math::
    :label: fismo-gradient

    \frac{\partial J}{\partial P} = n P^{-\top} - P^{-\top} A^\top P^{-\top}, \quad
    A = \frac1K \sum_i G_i\, Q^{-1} G_i^\top

and likewise :math:`m Q^{-\top} - Q^{-\top} B^\top Q^{-\top}` with :math:`B = \frac1K \sum_i G_i^\top P^{-1} G_i`. They
vanish at

.. math::
    :label: fismo-stationary

    P = \frac1n A, \qquad Q = \frac1m B ,

to which :math:`\frac{\mu\, \mathrm{tr}(Q^{-1})}{n} I` and :math:`\frac{\mu\, \mathrm{tr}(P^{-1})}{m} I` come if the
identity times :math:`\mu` is added to the Fisher matrix. The algorithm takes averages with *another* damping, one
gradient at a time, the left factor first,

.. math::
    :label: fismo-left

    \tilde P = \gamma P + (1 - \gamma) \Bigl( \frac1n\, G\, Q^{-1} G^\top + \mu\, \frac{\mathrm{tr} P}{m}\, I \Bigr),
    \qquad P \leftarrow \frac{m}{\mathrm{tr} \tilde P}\, \tilde P ,

and then the right one, with the *new* P,

.. math::
    :label: fismo-right

    \tilde Q = \gamma Q + (1 - \gamma) \Bigl( \frac1m\, G^\top P^{-1} G + \mu\, \frac{\mathrm{tr} Q}{n}\, I \Bigr),
    \qquad Q \leftarrow \frac{n}{\mathrm{tr} \tilde Q}\, \tilde Q .

Momentum is kept in the whitened frame, which changes at every step:

.. math::
    :label: fismo-update

    M_t = \beta\, M_{t-1} + (1 - \beta)\, \tilde G_t, \qquad
    W_t = W_{t-1} - \eta\, P^{-1/2}\, \mathrm{polar}(M_t)\, Q^{-1/2} .

As both traces are fixed, the damping is :math:`\mu I`: absolute, not relative to the gradient. So the scale of the loss
matters: for tiny gradients P and Q stay near the identity, and FISMO is Muon; for large ones nothing is damped. With
:math:`\gamma = 1` it is Muon with the exact factor, whatever the gradients. Zero gradients do not move anything. The
first axis of an array counts rows, the others together columns.

===================  ==================
:math:`P, Q`         `left`, `right`
:math:`\eta`         `lr`
:math:`\beta`        `momentum`
:math:`\mu`          `damping`
===================  ==================

**Where implementations differ.** None is known: no code of the authors is public.

**Provenance.** Confirmed: the algorithm, the step in the Fisher metric and the stationary factors, by two independent
public write-ups that agree. The defaults are ours; those of the paper were not found.

Xu, Yan and Zhang, *FISMO: Fisher-Structured Momentum-Orthogonalized Optimizer*, 2026, arXiv:2601.21750.
"""

import math
from typing import NamedTuple

from trref.backend import linalg, xp
from trref.optimizers.polar_decomposition import polar_factor
from trref.signature import (
    Arrays,
    Decay,
    Fraction,
    K,
    M,
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class FismoState(NamedTuple):
    """The factors of each array, taken for a matrix, and the whitened momentum."""

    left: list
    right: list
    m: Arrays


class FactorGradient(NamedTuple):
    """Derivatives by both factors."""

    left: Real[M, M]
    right: Real[N, N]


def init(params: Arrays) -> FismoState:
    """Return the state before the first step: factors one, momentum zero."""
    m = [xp.zeros_like(p) for p in params]
    sizes = [(math.prod(a.shape[:1]), math.prod(a.shape[1:])) for a in m]
    left, right = (
        [xp.eye(size[k], dtype=a.dtype) for size, a in zip(sizes, m, strict=True)]
        for k in (0, 1)
    )
    return FismoState(left, right, m)


def _spectrum(a):
    """Eigenvalues, also where a check has still to name what is not finite."""
    return linalg.eigvalsh(xp.where(xp.isfinite(a), a, 0))


def _definite(left, right, **_):
    """Factors that are not symmetric, or not positive definite up to rounding."""
    found = []
    for name, a in (("left", left), ("right", right)):
        eps = float(xp.finfo(a.dtype).eps)
        even = lambda a=a: (abs(a - a.mT) <= 1e-5 * abs(a).max()).all()  # noqa: E731
        above = lambda a=a, eps=eps: _spectrum(a)[0] > eps * abs(a).max()  # noqa: E731
        found += [(even, f"{name} must be symmetric")]
        found += [(above, f"{name} must be positive definite")]
    return found


def _inverse_root(P):
    """The inverse of the square root of a positive definite matrix."""
    values, V = linalg.eigh(P)
    return (V / xp.sqrt(values)) @ V.mT


@checked(also=_definite)
def fisher_step(g: Real[M, N], left: Real[M, M], right: Real[N, N]) -> Real[M, N]:
    """The best step in the unit ball of the Fisher metric.

    Parameters
    ----------
    g
        The gradient.
    left, right
        The factors, positive definite.
    """
    # eq. fismo-step
    P, Q = _inverse_root(left), _inverse_root(right)
    return -P @ polar_factor.unchecked(P @ g @ Q) @ Q


@checked
def factor_objective(
    left: Real[M, M], right: Real[N, N], gradients: Real[K, M, N]
) -> tuple[Scalar, FactorGradient]:
    """How badly the factors fit.

    Parameters
    ----------
    left, right
        The factors, invertible.
    gradients
        A sample of them.
    """
    K, m, n = gradients.shape
    P, Q = linalg.inv(left), linalg.inv(right)
    A = (gradients @ Q @ gradients.mT).sum(0) / K
    B = (gradients.mT @ P @ gradients).sum(0) / K
    # eq. fismo-objective
    sizes = n * linalg.slogdet(left)[1] + m * linalg.slogdet(right)[1]
    J = (P * A.T).sum() + sizes
    # eq. fismo-gradient
    dP = n * P.T - P.T @ A.T @ P.T
    dQ = m * Q.T - Q.T @ B.T @ Q.T
    return J, FactorGradient(dP, dQ)


@checked
def stationary_left(
    right: Real[N, N], gradients: Real[K, M, N], *, damping: NonNegativeFloat = 0.0
) -> Real[M, M]:
    """The best left factor for a right one.

    Parameters
    ----------
    damping
        Added to the Fisher matrix, times the identity.
    """
    K, m, n = gradients.shape
    inverse = linalg.inv(right)
    # eq. fismo-stationary
    A = (gradients @ inverse @ gradients.mT).sum(0) / K
    return (A + damping * xp.trace(inverse) * xp.eye(m, dtype=A.dtype)) / n


@checked
def stationary_right(
    left: Real[M, M], gradients: Real[K, M, N], *, damping: NonNegativeFloat = 0.0
) -> Real[N, N]:
    """The best right factor for a left one."""
    return stationary_left.unchecked(left, gradients.mT, damping=damping)


@checked(also=_definite)
def update_left(
    left: Real[M, M],
    right: Real[N, N],
    g: Real[M, N],
    *,
    gamma: Fraction = 0.95,
    damping: PositiveFloat = 0.1,
) -> Real[M, M]:
    """The left factor after a gradient.

    Parameters
    ----------
    gamma
        How much of the old factor is kept.
    damping
        Multiple of the identity that is mixed in, relative to the factor's mean eigenvalue.
    """
    m, n = g.shape
    # eq. fismo-left
    seen = g @ linalg.solve(right, g.mT) / n
    new = seen + damping * xp.trace(left) / m * xp.eye(m, dtype=g.dtype)
    mixed = gamma * left + (1 - gamma) * new
    scaled = m / xp.trace(mixed) * mixed
    return (scaled + scaled.mT) / 2


@checked(also=_definite)
def update_right(
    left: Real[M, M],
    right: Real[N, N],
    g: Real[M, N],
    *,
    gamma: Fraction = 0.95,
    damping: PositiveFloat = 0.1,
) -> Real[N, N]:
    """The right factor after a gradient, with the left one as it is then."""
    # eq. fismo-right
    return update_left.unchecked(right, left, g.mT, gamma=gamma, damping=damping)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: FismoState,
    *,
    lr: PositiveFloat = 0.02,
    momentum: Decay = 0.95,
    gamma: Fraction = 0.95,
    damping: PositiveFloat = 0.1,
) -> tuple[Arrays, FismoState]:
    """Take one step of FISMO.

    Parameters
    ----------
    momentum
        Decay of the whitened average.

    Returns
    -------
    params
    state
    """
    how = {"gamma": gamma, "damping": damping}
    moved, left, right, averages = [], [], [], []
    for p, g, P, Q, m in zip(params, grads, *state, strict=True):
        rows, m = (x.reshape(len(x), x.size // len(x)) for x in (g, m))
        P = update_left.unchecked(P, Q, rows, **how)
        Q = update_right.unchecked(P, Q, rows, **how)
        # eq. fismo-update
        P_root, Q_root = _inverse_root(P), _inverse_root(Q)
        m = momentum * m + (1 - momentum) * P_root @ rows @ Q_root
        step = P_root @ polar_factor.unchecked(m) @ Q_root
        moved.append(p - lr * step.reshape(p.shape))
        left, right = [*left, P], [*right, Q]
        averages.append(m.reshape(p.shape))
    return moved, FismoState(left, right, averages)
