r"""Attribution protection (IGR): training that keeps the direction of attributions under attack.

An attack may change which parts of an input a network is said to look at, and leave its answer alone. What is judged
then is the *order* of the parts. Training cannot differentiate an order, but it can keep a direction.

**Integrated gradients** attribute a score f to the entries of x, by the mean gradient on the way from a baseline
:math:`x_0`, at m midpoints :math:`\alpha_k = (k - \frac12) / m`:

.. math::
    :label: attribution-protection-integrated

    \text{IG}(x) = (x - x_0) \circ \frac1m \sum_{k=1}^m \nabla f\big(x_0 + \alpha_k (x - x_0)\big).

They sum to :math:`f(x) - f(x_0)` up to the error of the midpoint rule, :math:`O(m^{-2})`. Two attributions a and b are
compared by Kendall's correlation, over pairs of their D entries,

.. math::
    :label: attribution-protection-kendall

    \tau = \frac{\sum_{i<j} \text{sign}(a_i - a_j)\, \text{sign}(b_i - b_j)}{n}, \qquad n = \frac{D (D - 1)}{2},

(`tau-a`), or with n replaced by the root of the numbers of pairs that are not tied in a, and in b (`tau-b`), and by how
many of their k largest entries they share:

.. math::
    :label: attribution-protection-overlap

    \frac1k\, |\text{top}_k(a) \cap \text{top}_k(b)|

For pairs :math:`(a_i, b_i)` from a normal law with correlation :math:`\rho`,

.. math::
    :label: attribution-protection-arcsine

    \mathbb E\, \tau = \frac2\pi \arcsin \rho,

which rises with the cosine of a and b, if they have mean 0. So the penalty is

.. math::
    :label: attribution-protection-cosine

    R = 1 - c, \qquad c = \frac{g^\top h}{\|g\|\, \|h\|}, \qquad
    \frac{\partial R}{\partial g} = -\frac{\hat h - c\, \hat g}{\|g\|},

a length being free, of the attributions :math:`g` of x and :math:`h` of an attacked :math:`\tilde x`, both of the true
class, weighed by :math:`\lambda` and added to the loss at :math:`\tilde x`. For one hidden layer,
:math:`f(x) = w^\top \varsigma(U x + b)` with the softplus :math:`\varsigma`, its gradient by the parameters is, with
:math:`q = \frac{\partial R}{\partial \text{IG}(z)} \circ (z - x_0) / m` for either end z, points :math:`x_k` on its
way and their pre-activations :math:`a_k`,

.. math::
    :label: attribution-protection-penalty

    \frac{\partial R}{\partial w} = \sum_k \varsigma'(a_k) \circ U q, \quad
    \frac{\partial R}{\partial b} = \sum_k w \circ \varsigma''(a_k) \circ U q, \quad
    \frac{\partial R}{\partial U} = \sum_k (w \circ \varsigma'(a_k))\, q^\top
    + (w \circ \varsigma''(a_k) \circ U q)\, x_k^\top,

the sum of both ends. An attack on attributions raises R and keeps the class,

.. math::
    :label: attribution-protection-attack

    A(\tilde x) = R - \omega\, \ell(\tilde x),

where :math:`\ell` is the cross-entropy, by signed steps; of the first part the gradient is, with the mean gradient
:math:`\bar g` on the way of :math:`\tilde x` and :math:`h = \partial R / \partial \text{IG}(\tilde x)`,

.. math::
    :label: attribution-protection-attack-gradient

    h \circ \bar g + \sum_k \alpha_k\, U^\top \big[w \circ \varsigma''(a_k) \circ U q\big].

Units that keep their sign have the same slope; their share is

.. math::
    :label: attribution-protection-agreement

    \frac1H\, |\{j : a_j(x) > 0 \iff a_j(\tilde x) > 0\}|.

An attribution of 0 has no direction: there R is 1, with gradient 0. Of equal entries the earlier is the larger. All
entries tied: tau-b is 0.

=====================  ==================
:math:`\tilde x`       `moved`
:math:`m`              `points`
:math:`\omega`         `loss_weight`
=====================  ==================

**Where implementations differ.** A replication holds the attribution of x constant (`detach_clean`): the same value,
half of the gradient. PAIR's library averages m points that include both ends; Captum's trapezoids have weights that sum
to :math:`(m - 1) / m`.

**Provenance.** Partly: the penalty, where it stands in the loss, the attack and its settings are confirmed by an
independent replication that cites the paper's sections. The arcsine law is standard for normal pairs; the paper's own
theorem could not be read. All gradients are derived and checked here.

Wang and Kong, *Exploiting the Relationship Between Kendall's Rank Correlation and Cosine Similarity for Attribution
Protection*, 2022, arXiv:2205.07279.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import special, xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    D,
    H,
    Index,
    K,
    N,
    NonNegativeFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class Pair(NamedTuple):
    """Derivatives by both attributions."""

    first: Real[N, D]
    second: Real[N, D]


class Layer(NamedTuple):
    """Derivatives by the parameters of one hidden layer."""

    U: Real[H, D]
    bias: Real[H]
    head: Real[K, H]


@checked
def integrated_gradients(
    score_and_grad: Callable,
    x: Real[N, D],
    baseline: Real[N, D],
    *,
    points: PositiveInt = 20,
) -> Real[N, D]:
    """Attributions of each row's score to its entries.

    Parameters
    ----------
    score_and_grad
        ``score_and_grad(x) -> (values (N,), gradients (N, D))``, the score of each row's class, such as
        `trref.problems.rows.RowScore`.
    x
        Inputs, one a row.
    baseline
        Where each way begins: 0 in the paper.
    points
        Of the midpoint rule.
    """
    total = xp.zeros_like(x)
    for alpha in _midpoints(points):
        total = (
            total + validate.rows(score_and_grad, baseline + alpha * (x - baseline))[1]
        )
    return (x - baseline) * total / points  # eq. attribution-protection-integrated


def _midpoints(points):
    return [(k + 0.5) / points for k in range(points)]


@checked
def kendall(
    a: Real[N, D], b: Real[N, D], *, kind: Literal["tau-a", "tau-b"] = "tau-b"
) -> Real[N]:
    """Kendall's correlation of the rows of two arrays.

    Parameters
    ----------
    a, b
        Attributions.
    kind
        Whether ties are taken off the number of pairs (`tau-b`).
    """
    s, t = (xp.sign(v[:, :, None] - v[:, None]) for v in (a, b))
    D = a.shape[1]
    count = xp.full(len(a), D * (D - 1), dtype=a.dtype)
    if kind == "tau-b":
        count = xp.sqrt(abs(s).sum((1, 2)) * abs(t).sum((1, 2)))
    # eq. attribution-protection-kendall
    return (s * t).sum((1, 2)) / xp.where(count > 0, count, 1)


@checked
def top_overlap(a: Real[N, D], b: Real[N, D], *, k: PositiveInt = 10) -> Prob[N]:
    """The share of the largest entries that two attributions have in common.

    Parameters
    ----------
    k
        How many entries; all, if there are fewer.
    """
    k = min(k, a.shape[1])
    top = []
    for v in (a, b):
        order = xp.argsort(-v, axis=1, kind="stable")
        top.append(xp.argsort(order, axis=1, kind="stable") < k)
    both = (top[0] & top[1]).astype(a.dtype)
    return both.sum(1) / k  # eq. attribution-protection-overlap


def _correlation(rho, **_):
    """A correlation beyond 1."""
    return [(lambda: abs(rho).max() <= 1, "rho must lie in [-1, 1]")]


@checked(also=_correlation)
def expected_kendall(rho: Real[N]) -> Real[N]:
    """What Kendall's correlation is on average, of pairs from a normal law.

    Parameters
    ----------
    rho
        The correlation of the law.
    """
    # eq. attribution-protection-arcsine
    return 2 / math.pi * xp.arctan2(rho, xp.sqrt((1 - rho) * (1 + rho)))


def _unit(v):
    """Rows of length 1, and the lengths; 0 stays."""
    length = xp.sqrt((v * v).sum(1, keepdims=True))
    return v / xp.where(length > 0, length, 1), length


def _penalty(g, h):
    """R of each row, and its derivative by h."""
    (g, _), (h, n) = _unit(g), _unit(h)
    c = (g * h).sum(1, keepdims=True)
    # eq. attribution-protection-cosine
    value = 1 - c
    dh = xp.where(n > 0, (c * h - g) / xp.where(n > 0, n, 1), 0)

    return value[:, 0], dh


@checked
def cosine_penalty(first: Real[N, D], second: Real[N, D]) -> tuple[Scalar, Pair]:
    """One minus the cosine of two attributions, the mean over rows.

    Parameters
    ----------
    first, second
        Attributions of the two inputs.

    Returns
    -------
    loss
    gradient
        With respect to `first` and `second`.
    """
    (value, dh), (_, dg) = _penalty(first, second), _penalty(second, first)
    N = len(first)
    return value.mean(), Pair(dg / N, dh / N)


def _ways(U, bias, w, z, points):
    """Of one end z from a baseline of 0: its attribution, and points, slopes and bends of the units on the way."""
    way = xp.stack([alpha * z for alpha in _midpoints(points)])
    p = special.expit(way @ U.T + bias)
    attribution = z * ((w * p) @ U).mean(0)
    return attribution, way, p, p * (1 - p)


def _classes(head, labels, **_):
    """A label without a row of the head."""
    return [validate.labels(labels, len(head))]


@checked(also=_classes)
def igr_penalty(
    U: Real[H, D],
    bias: Real[H],
    head: Real[K, H],
    x: Real[N, D],
    moved: Real[N, D],
    labels: Index[N],
    *,
    points: PositiveInt = 8,
) -> tuple[Scalar, Layer]:
    """The penalty for one hidden layer of softplus units and a baseline of 0, the mean over rows.

    Parameters
    ----------
    U, bias
        The hidden layer.
    head
        What each class has of it.
    x
        Inputs.
    moved
        The attacked inputs, constants.
    labels
        Of the inputs: whose score is attributed.

    Returns
    -------
    loss
    gradient
        With respect to `U`, `bias` and `head`.
    """
    e = one_hot(labels, len(head), x.dtype)
    w, N = e @ head, len(x)
    ends = [_ways(U, bias, w, z, points) for z in (x, moved)]
    first, second = ends[0][0], ends[1][0]
    (value, dh), (_, dg) = _penalty(first, second), _penalty(second, first)
    dU, db, dw = xp.zeros_like(U), xp.zeros_like(bias), xp.zeros_like(w)
    # eq. attribution-protection-penalty
    for z, d, (_, way, p, bend) in zip((x, moved), (dg, dh), ends, strict=True):
        q = d * z / (points * N)
        Uq = q @ U.T
        turned = w * bend * Uq
        dw = dw + (p * Uq).sum(0)
        db = db + turned.sum((0, 1))
        dU = dU + (w * p).sum(0).T @ q + xp.einsum("knh,knd->hd", turned, way)

    return value.mean(), Layer(dU, db, e.T @ dw)


@checked(also=_classes)
def attack_objective(
    moved: Real[N, D],
    U: Real[H, D],
    bias: Real[H],
    head: Real[K, H],
    x: Real[N, D],
    labels: Index[N],
    *,
    points: PositiveInt = 8,
    loss_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, Real[N, D]]:
    """What an attack on attributions raises, summed over rows.

    Parameters
    ----------
    loss_weight
        Of the cross-entropy, which keeps the class.

    Returns
    -------
    value
    gradient
        With respect to `moved`.
    """
    e = one_hot(labels, len(head), x.dtype)
    w = e @ head
    clean = _ways(U, bias, w, x, points)[0]
    attribution, _, p, bend = _ways(U, bias, w, moved, points)
    R, h = _penalty(clean, attribution)
    a = moved @ U.T + bias
    log_p = log_softmax(xp.logaddexp(a, xp.zeros_like(a)) @ head.T)
    # eq. attribution-protection-attack
    value = (R + loss_weight * (e * log_p).sum(1)).sum()
    Uq = (h * moved / points) @ U.T
    alpha = xp.asarray(_midpoints(points), dtype=x.dtype)[:, None, None]
    # eq. attribution-protection-attack-gradient
    gradient = h * ((w * p) @ U).mean(0) + ((alpha * w * bend * Uq) @ U).sum(0)
    slope = (e - xp.exp(log_p)) @ head * special.expit(a)
    return value, gradient + loss_weight * slope @ U


@checked
def activation_agreement(
    U: Real[H, D], bias: Real[H], x: Real[N, D], moved: Real[N, D]
) -> Prob[N]:
    """The share of hidden units that are on the same side for both inputs."""
    same = (x @ U.T + bias > 0) == (moved @ U.T + bias > 0)
    return same.astype(x.dtype).mean(1)  # eq. attribution-protection-agreement
