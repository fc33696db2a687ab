r"""SCAD and MCP: penalties that shrink small coefficients to 0 and leave large ones alone.

The l1 norm finds which coefficients are 0, and shrinks all others by the same amount. Two penalties begin like it and
level off. The smoothly clipped absolute deviation is

.. math::
    :label: nonconvex-penalties-scad

    p(b) = \begin{cases} \lambda |b| & |b| \le \lambda \\ \dfrac{2 a \lambda |b| - b^2 - \lambda^2}{2 (a - 1)} & \lambda
    < |b| \le a \lambda \\ \dfrac{\lambda^2 (a + 1)}2 & |b| > a \lambda , \end{cases}

the minimax concave penalty

.. math::
    :label: nonconvex-penalties-mcp

    p(b) = \begin{cases} \lambda |b| - \dfrac{b^2}{2 \gamma} & |b| \le \gamma \lambda \\ \dfrac{\gamma \lambda^2}2 &
    |b| > \gamma \lambda . \end{cases}

Both are the l1 norm and a concave part, :math:`p(b) = \lambda |b| + q(b)`, whose derivative is continuous,

.. math::
    :label: nonconvex-penalties-scad-slope

    q'(b) = -\operatorname{sgn}(b)\, \min\Big\{ \frac{(|b| - \lambda)_+}{a - 1},\ \lambda \Big\}

for SCAD, and for MCP

.. math::
    :label: nonconvex-penalties-mcp-slope

    q'(b) = -\operatorname{sgn}(b)\, \min\Big\{ \frac{|b|}\gamma,\ \lambda \Big\} ,

and so is q the integral of a ramp and a constant:

.. math::
    :label: nonconvex-penalties-concave

    q(b) = \int_0^{|b|} q'(u)\, du .

q can be counted with the smooth loss, and only the l1 norm is left for the proximal map

.. math::
    :label: nonconvex-penalties-soft

    \operatorname{soft}(z, t) = \operatorname{sgn}(z)\, (|z| - t)_+ .

The proximal maps :math:`\arg\min_u \tfrac12 (u - z)^2 + t\, p(u)` of the whole penalties are, for :math:`t < a - 1`,

.. math::
    :label: nonconvex-penalties-prox-scad

    \begin{cases} \operatorname{soft}(z, t \lambda) & |z| \le (1 + t) \lambda \\ \dfrac{(a - 1) z -
    \operatorname{sgn}(z)\, t a \lambda}{a - 1 - t} & (1 + t) \lambda < |z| \le a \lambda \\ z & |z| > a \lambda ,
    \end{cases}

and for :math:`t < \gamma`

.. math::
    :label: nonconvex-penalties-prox-mcp

    \begin{cases} \dfrac{\operatorname{soft}(z, t \lambda)}{1 - t / \gamma} & |z| \le \gamma \lambda \\ z & |z| > \gamma
    \lambda . \end{cases}

For larger t the problem has several minimisers, and these formulas are wrong. At a bound both branches agree. For
:math:`a, \gamma \to \infty` all is the l1 norm.

===============  ==================
:math:`\lambda`  `penalty_weight`
:math:`t`        `lr`
===============  ==================

**Where implementations differ.** The authors' package leaves the first coefficient, the intercept, without a penalty;
here that is said by a mask where there is a loss (`trref.statistics.accelerated_gradient`). A later tree of the same
code has the concave part's derivative with the wrong sign: of all of it for MCP, of the ramp alone for SCAD.

**Provenance.** Penalties and derivatives are confirmed in the authors' package (nonconvexAG 1.1.6), the proximal maps
are the classical ones, compared with minimisation over candidates.

Yang, *Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data*, thesis, McGill University,
2025, arXiv:2509.08155.
"""

from typing import Annotated

from trref.backend import xp
from trref.signature import (
    N,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Bend = Annotated[float, "(2, inf)"]


@checked
def scad(b: Real[N], *, penalty_weight: PositiveFloat = 1.0, a: Bend = 3.7) -> Real[N]:
    """The smoothly clipped absolute deviation of each entry.

    Parameters
    ----------
    b
        Coefficients.
    penalty_weight
        The penalty's slope at 0.
    a
        In units of the weight, where the penalty is level.
    """
    w, size = penalty_weight, abs(b)
    # eq. nonconvex-penalties-scad
    middle = (2 * a * w * size - size**2 - w**2) / (2 * (a - 1))
    level = w**2 * (a + 1) / 2
    return xp.where(size <= w, w * size, xp.where(size <= a * w, middle, level))


@checked
def mcp(
    b: Real[N], *, penalty_weight: PositiveFloat = 1.0, gamma: PositiveFloat = 2.0
) -> Real[N]:
    """The minimax concave penalty of each entry.

    Parameters
    ----------
    gamma
        In units of the weight, where the penalty is level.
    """
    w, size = penalty_weight, abs(b)
    # eq. nonconvex-penalties-mcp
    bent, level = w * size - size**2 / (2 * gamma), gamma * w**2 / 2
    return xp.where(size <= gamma * w, bent, level)


@checked
def scad_concave(
    b: Real[N], *, penalty_weight: PositiveFloat = 1.0, a: Bend = 3.7
) -> tuple[Scalar, Real[N]]:
    """What SCAD is more than the l1 norm, summed.

    Returns
    -------
    value
    gradient
        With respect to `b`.
    """
    w, size = penalty_weight, abs(b)
    ramp = xp.clip(size - w, 0, (a - 1) * w)
    beyond = xp.maximum(size - a * w, 0)
    # eq. nonconvex-penalties-concave
    value = -(ramp**2 / (2 * (a - 1)) + w * beyond).sum()
    return value, -xp.sign(b) * ramp / (a - 1)  # eq. nonconvex-penalties-scad-slope


@checked
def mcp_concave(
    b: Real[N], *, penalty_weight: PositiveFloat = 1.0, gamma: PositiveFloat = 2.0
) -> tuple[Scalar, Real[N]]:
    """What MCP is more than the l1 norm, summed.

    Returns
    -------
    value
    gradient
        With respect to `b`.
    """
    w, size = penalty_weight, abs(b)
    ramp = xp.minimum(size, gamma * w)
    # eq. nonconvex-penalties-concave
    value = -(ramp**2 / (2 * gamma) + w * (size - ramp)).sum()
    return value, -xp.sign(b) * ramp / gamma  # eq. nonconvex-penalties-mcp-slope


@checked
def soft(z: Real[N], *, threshold: NonNegativeFloat = 1.0) -> Real[N]:
    """Shrink each entry toward 0, and no further.

    Parameters
    ----------
    z
        Any point.
    threshold
        By how much.
    """
    # eq. nonconvex-penalties-soft
    return xp.sign(z) * xp.maximum(abs(z) - threshold, 0)


def _one_minimiser(lr, a, **_):
    """A step of a - 1 or more."""
    if lr >= a - 1:
        raise ValueError(f"lr must be less than a - 1 = {a - 1:g}, not {lr:g}")
    return []


@checked(also=_one_minimiser)
def prox_scad(
    z: Real[N],
    *,
    lr: PositiveFloat = 1.0,
    penalty_weight: PositiveFloat = 1.0,
    a: Bend = 3.7,
) -> Real[N]:
    """The point at which half the squared distance and SCAD together are least.

    Parameters
    ----------
    lr
        How much the penalty counts beside the distance.
    """
    t, w, size = lr, penalty_weight, abs(z)
    # eq. nonconvex-penalties-prox-scad
    small = soft.unchecked(z, threshold=t * w)
    middle = ((a - 1) * z - xp.sign(z) * t * a * w) / (a - 1 - t)
    return xp.where(size <= (1 + t) * w, small, xp.where(size <= a * w, middle, z))


def _one_minimum(lr, gamma, **_):
    """A step of gamma or more."""
    if lr >= gamma:
        raise ValueError(f"lr must be less than gamma = {gamma:g}, not {lr:g}")
    return []


@checked(also=_one_minimum)
def prox_mcp(
    z: Real[N],
    *,
    lr: PositiveFloat = 1.0,
    penalty_weight: PositiveFloat = 1.0,
    gamma: PositiveFloat = 2.0,
) -> Real[N]:
    """The point at which half the squared distance and MCP together are least.

    Parameters
    ----------
    lr
        How much the penalty counts beside the distance.
    """
    # eq. nonconvex-penalties-prox-mcp
    small = soft.unchecked(z, threshold=lr * penalty_weight) / (1 - lr / gamma)
    return xp.where(abs(z) <= gamma * penalty_weight, small, z)
