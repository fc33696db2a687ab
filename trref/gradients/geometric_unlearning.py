r"""Geometric unlearning: forget along what no retain gradient sees.

To forget, one descends on some objective with gradient :math:`g_f` (for ascent on the forget set's loss, the negative
of its gradient). A step :math:`\Delta` leaves what is to be retained unchanged, to first order, exactly if it is
orthogonal to every retain gradient :math:`r_j`. So split the gradient by an orthonormal basis Q of their span,

.. math::
    :label: geometric-unlearning-split

    g^\parallel = Q Q^\top g_f, \qquad g^\perp = g_f - g^\parallel,

and step along the second: :math:`\Delta = -\eta\, g^\perp`. The changes to first order are

.. math::
    :label: geometric-unlearning-change

    r_j \cdot \Delta,

and :math:`-\epsilon\, g^\perp / \|g^\perp\|` is the best there is, the :math:`\Delta` of length :math:`\epsilon` with
all of these 0 that lowers the forget objective most, by :math:`\epsilon \|g^\perp\|`. The *efficiency*
:math:`\|g^\perp\| / \|g_f\|` says how much of the step is left.

If the optimiser divides by :math:`h > 0` (the *curvature*, Adam's :math:`\sqrt{\hat v} + \epsilon`), the executed step
is :math:`-\eta\, g / h`, and orthogonality is a matter of its metric: in the coordinates

.. math::
    :label: geometric-unlearning-whiten

    z = h^{-1/2} \circ g

of all gradients, the step's effect on the retain loss is :math:`-\eta\, z_r \cdot z`. Whiten, split with a basis of the
whitened retain gradients, and hand :math:`h^{1/2} \circ z^\perp` to the optimiser:

.. math::
    :label: geometric-unlearning-metric

    g \leftarrow h^{1/2} \circ (z_f - Q Q^\top z_f)

Within the span some of the forgetting helps to retain. With the gradient :math:`z_r` of the whole retain loss,

.. math::
    :label: geometric-unlearning-keep

    a = Q^\top z_f, \quad b = Q^\top z_r, \qquad z_{keep}^0 = \sum_{i:\, a_i b_i > \tau} a_i q_i, \qquad
    z_{keep} = \min\Big(1, \frac{\kappa \|z^\perp\|}{\|z_{keep}^0\|}\Big)\, z_{keep}^0,

and the candidate adds a repair of what is retained:

.. math::
    :label: geometric-unlearning-candidate

    z = \gamma\, (z^\perp + z_{keep}) + \beta\, Q Q^\top z_r

Its effect :math:`-\eta\, z_r \cdot z` is
:math:`-\eta [\gamma s \sum_{kept} a_i b_i + \beta \|Q^\top z_r\|^2 + \gamma\, z_r \cdot z^\perp]` with the cap's factor
s. The last term is 0, and the whole at most 0, only if :math:`z_r` lies in the span. Which components are kept depends
on the basis, not on its span alone: here it is that of the singular vectors, sorted. A simpler step descends on both,

.. math::
    :label: geometric-unlearning-joint

    z = \rho\, (\alpha z^\perp + \beta z_r),

with the effect :math:`-\eta \rho \beta \|z_r\|^2` if :math:`z_r` lies in the span. Last, one may ask for a *safe cone*
instead of a space, so that no retain loss rises, and some may fall:

.. math::
    :label: geometric-unlearning-cone

    \min_z \tfrac12 \|z - z_f\|^2 \text{ such that } r_j \cdot z \ge 0 \text{ for all } j; \qquad
    z = z_f + \sum_j \lambda_j r_j, \quad \lambda = \arg\min_{\lambda \ge 0} \Big\| z_f + \sum_j \lambda_j r_j \Big\|^2

With one retain gradient that is the one-sided projection of PCGrad. All of it is first-order: it bounds neither a long
step nor the loss on samples that are not among the rows. With as many independent rows as parameters, nothing is left.
Rows of 0 span nothing.

**Where implementations differ.** Versions of the authors' code whiten by :math:`1/h` in the place of
:math:`h^{-1/2}`, split in the plain metric before Adam divides, or split each weight tensor by itself, which is
stronger than asked for.

**Provenance.** Split and optimality are confirmed in the abstract; metric, sign rule, candidate and cone in notes of
the authors' repository, which call the sign rule the submitted paper's; the joint step by a reading of version 4,
without :math:`\alpha`. Seen here: the candidate's effect has the term :math:`z_r \cdot z^\perp`, which those notes
leave out, and the kept part depends on the basis.

Zhou et al., *Geometric-Disentangelment Unlearning*, 2025, arXiv:2511.17100.
"""

import warnings
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.signature import (
    FiniteFloat,
    M,
    NonNegative,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)

Tolerance = Annotated[float, "(0, 1)"]


class Split(NamedTuple):
    """The two parts of a gradient."""

    normal: Real[P]
    """Orthogonal to all retain gradients."""
    tangential: Real[P]
    """In their span."""


@checked
def split(
    gradient: Real[P],
    retain: Real[M, P],
    *,
    rank: PositiveInt | None = None,
    tol: Tolerance = 1e-6,
) -> Split:
    """A gradient's parts outside and inside of the span of others.

    Parameters
    ----------
    gradient
        Of the forget objective, which is descended.
    retain
        Gradients of what is to be retained, one a row.
    rank
        How many of the leading singular vectors make the basis; all if None.
    tol
        Those are left out whose singular value is at most this share of the largest.
    """
    Q = _basis(retain, rank, tol)
    tangential = Q.T @ (Q @ gradient)  # eq. geometric-unlearning-split
    return Split(gradient - tangential, tangential)


def _basis(rows, rank, tol):
    """Orthonormal rows; zeros in the place of what is left out."""
    _, s, Q = xp.linalg.svd(rows, full_matrices=False)
    Q = Q * (s > tol * s[0])[:, None]
    return Q if rank is None else Q[:rank]


@checked
def first_order_change(direction: Real[P], retain: Real[M, P]) -> Real[M]:
    """How much a step downhill along a direction changes each retain loss, per unit.

    Parameters
    ----------
    direction
        What is descended along.
    """
    return -(retain @ direction)  # eq. geometric-unlearning-change


@checked
def normal_direction(
    gradient: Real[P],
    retain: Real[M, P],
    *,
    rank: PositiveInt | None = None,
    tol: Tolerance = 1e-6,
) -> Real[P]:
    """The part of a gradient that no retain gradient sees."""
    return split.unchecked(gradient, retain, rank=rank, tol=tol).normal


@checked
def whiten(retain: Real[M, P], curvature: Positive[P]) -> Real[M, P]:
    """Gradients in coordinates in which the optimiser's metric is Euclidean.

    Parameters
    ----------
    curvature
        What the optimiser divides by.
    """
    return retain / xp.sqrt(curvature)  # eq. geometric-unlearning-whiten


@checked
def metric_direction(
    gradient: Real[P],
    retain: Real[M, P],
    curvature: Positive[P],
    *,
    rank: PositiveInt | None = None,
    tol: Tolerance = 1e-6,
) -> Real[P]:
    """The gradient to hand to an optimiser that divides by a curvature."""
    rows = whiten.unchecked(retain, curvature)
    z = whiten.unchecked(gradient[None], curvature)[0]
    normal = split.unchecked(z, rows, rank=rank, tol=tol).normal
    return xp.sqrt(curvature) * normal  # eq. geometric-unlearning-metric


@checked
def candidate(
    gradient: Real[P],
    retain: Real[M, P],
    retain_gradient: Real[P],
    *,
    kappa: NonNegativeFloat = 0.5,
    tau: FiniteFloat = 0.0,
    gamma: NonNegativeFloat = 1.0,
    beta: NonNegativeFloat = 0.0,
    rank: PositiveInt | None = None,
    tol: Tolerance = 1e-6,
) -> Real[P]:
    """The normal part, what else helps to retain, and a repair, all whitened.

    Parameters
    ----------
    retain_gradient
        Of the whole retain loss.
    kappa
        The kept part is at most this many times as long as the normal part.
    tau
        A component is kept if its effects on both agree by more than this.
    gamma
        Weight of forgetting.
    beta
        Weight of the repair.
    """
    Q = _basis(retain, rank, tol)
    # eq. geometric-unlearning-keep
    a, b = Q @ gradient, Q @ retain_gradient
    normal = gradient - Q.T @ a
    kept = Q.T @ xp.where(a * b > tau, a, 0)
    room, length = kappa * _norm(normal), _norm(kept)
    kept = xp.where(length > room, room / xp.where(length > 0, length, 1), 1) * kept

    # eq. geometric-unlearning-candidate
    return gamma * (normal + kept) + beta * (Q.T @ b)


def _norm(v):
    return xp.sqrt((v * v).sum())


@checked
def joint_step(
    gradient: Real[P],
    retain: Real[M, P],
    retain_gradient: Real[P],
    *,
    rho: PositiveFloat = 1.0,
    alpha: NonNegativeFloat = 1.0,
    beta: NonNegativeFloat = 1.0,
    rank: PositiveInt | None = None,
    tol: Tolerance = 1e-6,
) -> Real[P]:
    """Forget along the normal part and descend on the retain loss, all whitened.

    Parameters
    ----------
    rho
        Factor of the whole.
    alpha
        Weight of forgetting.
    beta
        Weight of the retain gradient.
    """
    normal = split.unchecked(gradient, retain, rank=rank, tol=tol).normal
    # eq. geometric-unlearning-joint
    return rho * (alpha * normal + beta * retain_gradient)


class SafeDirection(NamedTuple):
    """The direction nearest to a gradient along which no retain loss rises."""

    direction: Real[P]
    multipliers: NonNegative[M]
    """Of each retain gradient: the direction is the gradient and their sum."""
    moves: list[float]
    """The longest move of each sweep, relative to the gradient."""
    iterations: int
    converged: bool


@checked
def safe_cone(
    gradient: Real[P],
    retain: Real[M, P],
    *,
    rtol: PositiveFloat = 1e-10,
    max_iter: PositiveInt = 2000,
) -> SafeDirection:
    """Project a gradient on the cone of directions along which no retain loss rises.

    Each sweep goes through the rows, and gives each the multiplier that is best while
    the others stay (Hildreth's method).

    Parameters
    ----------
    rtol
        Ends when no row moves the direction by more than this share of the gradient.
    max_iter
        Counts sweeps.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    squares = (retain * retain).sum(1)
    squares = xp.where(squares > 0, squares, 1)
    rtol = max(rtol, 10 * float(xp.finfo(gradient.dtype).eps))
    size = xp.maximum(_norm(gradient), xp.finfo(gradient.dtype).tiny)
    z, weights, moves = gradient.copy(), list(xp.zeros_like(squares)), []
    while len(moves) < max_iter and (not moves or moves[-1] > rtol):
        longest = xp.zeros_like(size)
        # eq. geometric-unlearning-cone
        for j, r in enumerate(retain):
            weight = xp.maximum(weights[j] - (r @ z) / squares[j], 0)
            step = (weight - weights[j]) * r
            z, weights[j] = z + step, weight
            longest = xp.maximum(longest, _norm(step))

        moves.append(float(longest / size))
    converged = moves[-1] <= rtol
    if not converged:
        message = (
            f"safe_cone stopped after {len(moves)} sweeps, the last of which moved the"
            f" direction by {moves[-1]:.2e}, more than {rtol:.1e}"
        )
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return SafeDirection(z, xp.stack(weights), moves, len(moves), converged)
