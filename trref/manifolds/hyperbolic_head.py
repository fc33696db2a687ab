r"""Hyperbolic heads: logits that are distances to hyperplanes, in two models of one space.

Hyper++ reads actions and values off a point of hyperbolic space of curvature :math:`-c`. A feature v, with :math:`n =
\|v\|` and :math:`\hat u = v/n`, is a tangent vector at the origin, and leads to the point

.. math::
    :label: hyperbolic-head-hyperboloid

    x_0 = \frac{\cosh \sqrt c\, n}{\sqrt c}, \qquad x_{1:} = \frac{\sinh \sqrt c\, n}{\sqrt c\, n}\, v, \qquad
    -x_0^2 + \|x_{1:}\|^2 = -\frac1c

of the hyperboloid, or

.. math::
    :label: hyperbolic-head-poincare

    x = \frac{\tanh \sqrt c\, n}{\sqrt c\, n}\, v, \qquad \|x\| < \frac1{\sqrt c}

of the Poincaré ball. Both maps stretch along v and across it by other factors: with :math:`s = \sqrt c\, n`, the
ratios :math:`S = \sinh s / s` and :math:`T = \tanh s / s`, and a tangent t,

.. math::
    :label: hyperbolic-head-hyperboloid-jvp

    dx_0 = \sqrt c\, S\, v^\top t, \qquad dx_{1:} = S\, t + (\cosh s - S)\, \hat u \hat u^\top t

.. math::
    :label: hyperbolic-head-poincare-jvp

    dx = T\, t + (\cosh^{-2} s - T)\, \hat u \hat u^\top t .

A class k has a normal :math:`z_k` and an offset :math:`r_k`, without constraints, and its logit is the signed distance
to a geodesic hyperplane times the normal's length:

.. math::
    :label: hyperbolic-head-logits

    \ell_k = \frac{\|z_k\|}{\sqrt c}\, \mathrm{arsinh}\, q_k, \qquad q_k = - \sqrt c\, x_0 \sinh(\sqrt c\, r_k) +
    \sqrt c \cosh(\sqrt c\, r_k)\, \hat z_k^\top x_{1:}

on the hyperboloid, and with :math:`\lambda = 2 / (1 - c \|x\|^2)` in the ball

.. math::
    :label: hyperbolic-head-poincare-logits

    \ell_k = \frac{2 \|z_k\|}{\sqrt c}\, \mathrm{arsinh}\, q_k, \qquad q_k = (1 - \lambda) \sinh(2 \sqrt c\, r_k) +
    \sqrt c\, \lambda \cosh(2 \sqrt c\, r_k)\, \hat z_k^\top x .

They are one head: the ball's at v, z, r is twice the hyperboloid's at 2 v, z, 2 r. With flattening, c → 0, they become
:math:`z_k^\top v - r_k \|z_k\|`, once and four times. Their derivatives by the point are

.. math::
    :label: hyperbolic-head-logits-jvp

    d\ell_k = \frac{\|z_k\|}{\sqrt{1 + q_k^2}} \big( {- \sinh(\sqrt c\, r_k)}\, dx_0 + \cosh(\sqrt c\, r_k)\, \hat
    z_k^\top dx_{1:} \big)

.. math::
    :label: hyperbolic-head-poincare-logits-jvp

    d\ell_k = \frac{2 \|z_k\|}{\sqrt{c (1 + q_k^2)}} \big( {- \sinh(2 \sqrt c\, r_k)}\, d\lambda + \sqrt c \cosh(2 \sqrt
    c\, r_k)\, \hat z_k^\top (x\, d\lambda + \lambda\, dx) \big), \qquad d\lambda = c \lambda^2 x^\top dx .

The mean cross-entropy of labels y under the softmax p of the hyperboloid's logits,

.. math::
    :label: hyperbolic-head-loss

    L = - \frac1N \sum_i \log p_{i, y_i},

has the gradient :math:`g = (p - 1_y)/N` by the logits, and through these, with :math:`B = \hat z^\top \hat u`,

.. math::
    :label: hyperbolic-head-gradient

    \nabla_v \ell = \frac{\|z\|}{\sqrt{1 + q^2}} \Big[ \big( B \cosh s \cosh(\sqrt c\, r) - \sinh s \sinh(\sqrt c\, r)
    \big)\, \hat u + S \cosh(\sqrt c\, r)\, (\hat z - B \hat u) \Big]

.. math::
    :label: hyperbolic-head-parameters

    \nabla_z \ell = \frac{\mathrm{arsinh}\, q}{\sqrt c}\, \hat z + \frac{\cosh(\sqrt c\, r)}{\sqrt{1 + q^2}} \big(
    x_{1:} - (\hat z^\top x_{1:})\, \hat z \big), \qquad \partial_r \ell = \frac{\|z\| \sqrt c}{\sqrt{1 + q^2}} \big(
    \sinh(\sqrt c\, r)\, \hat z^\top x_{1:} - x_0 \cosh(\sqrt c\, r) \big)

in which the exponentials of large n cancel. :math:`\nabla_v` stays bounded, :math:`\nabla_z` grows with n: this is
what throws an optimiser's step far off, and why :mod:`trref.manifolds.hyperpp` bounds n. In the ball the two parts are
one vanishing and one exploding factor. At v = 0 the exponential maps are the identity to first order. A normal of 0 has
no direction, and is refused, as are lengths :math:`\sqrt c\, n` above 40 and offsets above :math:`20/\sqrt c`.

================  ===================
:math:`z_k`       row of ``normals``
:math:`r_k`       ``offsets``
:math:`c`         ``curvature``
================  ===================

**Where implementations differ.** The authors' code clamps q smoothly to :math:`\pm \log(2/\epsilon)` (36.7 in double
precision, 16.6 in single) before arsinh, so that no logit exceeds about 4.3 lengths of its normal; the equations have
no such bound.

**Provenance.** Confirmed by the authors' code (Probabilistic-and-Interactive-ML/hyper-rl), which takes the two logits
from Bdeir et al. (arXiv:2303.15919) and Shimizu et al. (arXiv:2006.08210). The derivatives are worked out here.

Klein et al., *Understanding and Improving Hyperbolic Deep Reinforcement Learning*, 2025, arXiv:2512.14202.
"""

import math
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.losses import softmax_cross_entropy
from trref.signature import D1, D, Index, K, N, Real, Scalar, checked

Curvature = Annotated[float, "[1e-6, 1e6]"]


class HeadGradient(NamedTuple):
    """Derivatives by the features and by the parameters of the head."""

    v: Real[N, D]
    normals: Real[K, D]
    offsets: Real[K]


def _within(v, curvature, **_):
    """Vectors whose hyperbolic functions would overflow."""
    farthest = 40 / math.sqrt(curvature)
    message = f"v must have rows of norm at most 40/sqrt(curvature) = {farthest:.3g}"
    return [(lambda: (_polar(v)[0] <= farthest).all(), message)]


def _polar(v):
    """Lengths (N, 1) and directions (N, D) of rows, 0 for rows of 0; squares of tiny entries would vanish."""
    largest = abs(v).max(-1, keepdims=True)
    u = v / xp.where(largest > 0, largest, 1)
    length = xp.sqrt(xp.maximum((u * u).sum(-1, keepdims=True), 1))
    return largest * length, u / length


def _sinh_over(s):
    """sinh(s) / s, and its limit at 0."""
    return xp.where(s > 0, xp.sinh(s) / xp.where(s > 0, s, 1), 1)


@checked(also=_within)
def exp_hyperboloid(v: Real[N, D], *, curvature: Curvature = 1.0) -> Real[N, D1]:
    """Point of the hyperboloid to which a tangent vector at its origin leads.

    Parameters
    ----------
    v
        Tangent vectors at the origin, which are features.
    curvature
        c: the space has the curvature -c.
    """
    return _point(v, curvature)


def _point(v, curvature):
    n, _ = _polar(v)
    s = math.sqrt(curvature) * n
    # eq. hyperbolic-head-hyperboloid
    return xp.concatenate([xp.cosh(s) / math.sqrt(curvature), _sinh_over(s) * v], -1)


@checked(also=_within)
def exp_hyperboloid_jvp(
    v: Real[N, D], tangent: Real[N, D], *, curvature: Curvature = 1.0
) -> Real[N, D1]:
    """Differential of `exp_hyperboloid` along `tangent`.

    Parameters
    ----------
    tangent
        Any vectors.
    """
    n, u = _polar(v)
    s = math.sqrt(curvature) * n
    along = (u * tangent).sum(-1, keepdims=True)
    # eq. hyperbolic-head-hyperboloid-jvp
    rest = _sinh_over(s) * tangent + (xp.cosh(s) - _sinh_over(s)) * along * u
    return xp.concatenate([xp.sinh(s) * along, rest], -1)


@checked(also=_within)
def exp_hyperboloid_vjp(
    v: Real[N, D], cotangent: Real[N, D1], *, curvature: Curvature = 1.0
) -> Real[N, D]:
    """Adjoint of `exp_hyperboloid_jvp`.

    Parameters
    ----------
    cotangent
        Any vectors.
    """
    n, u = _polar(v)
    s = math.sqrt(curvature) * n
    first, rest = cotangent[:, :1], cotangent[:, 1:]
    along = (u * rest).sum(-1, keepdims=True)
    across = _sinh_over(s) * rest + (xp.cosh(s) - _sinh_over(s)) * along * u
    return xp.sinh(s) * first * u + across


@checked(also=_within)
def exp_poincare(v: Real[N, D], *, curvature: Curvature = 1.0) -> Real[N, D]:
    """Point of the Poincaré ball to which a tangent vector at its centre leads."""
    s = math.sqrt(curvature) * _polar(v)[0]
    return _tanh_over(s) * v  # eq. hyperbolic-head-poincare


def _tanh_over(s):
    """tanh(s) / s, and its limit at 0."""
    return xp.where(s > 0, xp.tanh(s) / xp.where(s > 0, s, 1), 1)


@checked(also=_within)
def exp_poincare_jvp(
    v: Real[N, D], tangent: Real[N, D], *, curvature: Curvature = 1.0
) -> Real[N, D]:
    """Differential of `exp_poincare` along `tangent`, which is symmetric: it is its own adjoint.

    Parameters
    ----------
    tangent
        Any vectors.
    """
    n, u = _polar(v)
    s = math.sqrt(curvature) * n
    along = (u * tangent).sum(-1, keepdims=True)
    # eq. hyperbolic-head-poincare-jvp
    return _tanh_over(s) * tangent + (xp.cosh(s) ** -2 - _tanh_over(s)) * along * u


def _has_planes(normals, offsets, curvature, **_):
    """Normals that are 0; offsets whose hyperbolic functions would overflow."""
    farthest = 20 / math.sqrt(curvature)
    message = f"offsets must be at most 20/sqrt(curvature) = {farthest:.3g} in size"
    return [
        (lambda: (abs(normals).max(1) > 0).all(), "normals must not have a row of 0"),
        (lambda: (abs(offsets) <= farthest).all(), message),
    ]


@checked(also=_has_planes)
def hyperboloid_logits(
    x: Real[N, D1],
    normals: Real[K, D],
    offsets: Real[K],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, K]:
    """Logits of points of the hyperboloid.

    Parameters
    ----------
    x
        Points; for what is no point the formula is the same.
    normals
        A row a class; its direction is that of the plane, its length multiplies the distance.
    offsets
        Signed distances of the planes from the origin.
    curvature
        c: the space has the curvature -c.
    """
    length, q, _, _ = _planes(x, normals, offsets, curvature)
    return length / math.sqrt(curvature) * xp.arcsinh(q)


def _planes(x, normals, offsets, curvature):
    """Lengths of the normals, q, and the derivatives of q/√c by the first and by the other coordinates."""
    root = math.sqrt(curvature)
    length, direction = _polar(normals)
    first, rest = -xp.sinh(root * offsets), xp.cosh(root * offsets)
    # eq. hyperbolic-head-logits
    q = root * (x[:, :1] * first + (x[:, 1:] @ direction.T) * rest)
    return length[:, 0], q, first, rest[:, None] * direction


@checked(also=_has_planes)
def hyperboloid_logits_jvp(
    x: Real[N, D1],
    normals: Real[K, D],
    offsets: Real[K],
    tangent: Real[N, D1],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, K]:
    """Differential of `hyperboloid_logits` along `tangent`.

    Parameters
    ----------
    tangent
        Any vectors, tangent to the hyperboloid or not.
    """
    length, q, first, rest = _planes(x, normals, offsets, curvature)
    # eq. hyperbolic-head-logits-jvp
    moved = tangent[:, :1] * first + tangent[:, 1:] @ rest.T
    return length / xp.hypot(q, xp.ones_like(q)) * moved


@checked(also=_has_planes)
def hyperboloid_logits_vjp(
    x: Real[N, D1],
    normals: Real[K, D],
    offsets: Real[K],
    cotangent: Real[N, K],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, D1]:
    """Adjoint of `hyperboloid_logits_jvp`.

    Parameters
    ----------
    cotangent
        Any matrix.
    """
    length, q, first, rest = _planes(x, normals, offsets, curvature)
    g = length / xp.hypot(q, xp.ones_like(q)) * cotangent
    return xp.concatenate([(g @ first)[:, None], g @ rest], -1)


def _in_the_ball(x, normals, offsets, curvature, **_):
    """Points outside the ball; normals that are 0; offsets whose hyperbolic functions would overflow."""
    inside = lambda: (math.sqrt(curvature) * _polar(x)[0] < 1).all()  # noqa: E731
    return [
        (inside, "x must be of norm below 1/sqrt(curvature)"),
        *_has_planes(normals, offsets, curvature),
    ]


@checked(also=_in_the_ball)
def poincare_logits(
    x: Real[N, D],
    normals: Real[K, D],
    offsets: Real[K],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, K]:
    """Logits of points of the Poincaré ball.

    Parameters
    ----------
    x
        Points.
    """
    length, q, _, _, _ = _ball_planes(x, normals, offsets, curvature)
    return 2 * length / math.sqrt(curvature) * xp.arcsinh(q)


def _ball_planes(x, normals, offsets, curvature):
    """Lengths of the normals, q, the conformal factor, and the derivatives of q by it and by x at a fixed factor."""
    root = math.sqrt(curvature)
    length, direction = _polar(normals)
    s = root * _polar(x)[0]
    factor = 2 / ((1 - s) * (1 + s))
    down, up = xp.sinh(2 * root * offsets), root * xp.cosh(2 * root * offsets)
    by_factor = up * (x @ direction.T) - down
    q = down + factor * by_factor  # eq. hyperbolic-head-poincare-logits
    return length[:, 0], q, factor, by_factor, up[:, None] * direction


@checked(also=_in_the_ball)
def poincare_logits_jvp(
    x: Real[N, D],
    normals: Real[K, D],
    offsets: Real[K],
    tangent: Real[N, D],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, K]:
    """Differential of `poincare_logits` along `tangent`.

    Parameters
    ----------
    tangent
        Any vectors.
    """
    length, q, factor, by_factor, rest = _ball_planes(x, normals, offsets, curvature)
    scale = 2 * length / math.sqrt(curvature) / xp.hypot(q, xp.ones_like(q))
    # eq. hyperbolic-head-poincare-logits-jvp
    d_factor = curvature * factor**2 * (x * tangent).sum(-1, keepdims=True)
    return scale * (by_factor * d_factor + factor * (tangent @ rest.T))


@checked(also=_in_the_ball)
def poincare_logits_vjp(
    x: Real[N, D],
    normals: Real[K, D],
    offsets: Real[K],
    cotangent: Real[N, K],
    *,
    curvature: Curvature = 1.0,
) -> Real[N, D]:
    """Adjoint of `poincare_logits_jvp`.

    Parameters
    ----------
    cotangent
        Any matrix.
    """
    length, q, factor, by_factor, rest = _ball_planes(x, normals, offsets, curvature)
    scale = 2 * length / math.sqrt(curvature) / xp.hypot(q, xp.ones_like(q))
    g = scale * cotangent
    through = (g * by_factor).sum(-1, keepdims=True)
    return curvature * factor**2 * through * x + factor * (g @ rest)


def _head(v, normals, offsets, labels, curvature):
    """Vectors or offsets whose hyperbolic functions would overflow; normals that are 0; labels that are no class."""
    return [
        *_within(v, curvature),
        *_has_planes(normals, offsets, curvature),
        validate.labels(labels, len(normals)),
    ]


@checked(also=_head)
def hyperbolic_cross_entropy(
    v: Real[N, D],
    normals: Real[K, D],
    offsets: Real[K],
    labels: Index[N],
    *,
    curvature: Curvature = 1.0,
) -> tuple[Scalar, HeadGradient]:
    """Mean cross-entropy of the hyperboloid's logits at the points to which features lead.

    Parameters
    ----------
    v
        Features: tangent vectors at the origin.
    """
    root = math.sqrt(curvature)
    x = _point(v, curvature)
    length, q, first, _ = _planes(x, normals, offsets, curvature)
    # eq. hyperbolic-head-loss
    loss, g = softmax_cross_entropy(length / root * xp.arcsinh(q), labels)

    n, u = _polar(v)
    z = _polar(normals)[1]
    s, B, slope = root * n, u @ z.T, 1 / xp.hypot(q, xp.ones_like(q))
    up, weight = xp.cosh(root * offsets), g * length * slope
    # eq. hyperbolic-head-gradient
    across = _sinh_over(s) * up
    along = (xp.cosh(s) * up - across) * B + xp.sinh(s) * first
    d_v = (weight * along).sum(-1, keepdims=True) * u + (weight * across) @ z

    # eq. hyperbolic-head-parameters
    tilt = g * slope * up
    in_z = (g * xp.arcsinh(q) / root - tilt * (x[:, 1:] @ z.T)).sum(0)
    d_normals = in_z[:, None] * z + tilt.T @ x[:, 1:]
    turned = first * (x[:, 1:] @ z.T) + x[:, :1] * up
    d_offsets = -root * (weight * turned).sum(0)
    return loss, HeadGradient(d_v, d_normals, d_offsets)
