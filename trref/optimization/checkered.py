r"""Checkered regression: classes by the parity of several linear decisions.

A product of hyperbolic tangents makes a checkerboard. With m decisions :math:`z_k`, each a coin that fails with
probability :math:`\sigma(-z_k)`, the probability of an even number of failures is

.. math::
    :label: checkered-even

    \Xi_m(z) = \frac12 \Big( 1 + \prod_k \tanh \frac{z_k}2 \Big),

class 0; an odd number is class 1. One decision is logistic regression, two are a smooth exclusive or,
:math:`1 - \Xi_2(a, b) = \sigma(a) \sigma(-b) + \sigma(-a) \sigma(b)`. With :math:`z = Wx` the loss
:math:`-\log \Xi_m` is sum-log-concave in W (:mod:`trref.optimization.sum_log_concave`): a sum over all ways to be even,
each a product of logistic functions. Its derivative needs the probability without decision k,

.. math::
    :label: checkered-even-gradient

    -\frac{\partial \log \Xi_m}{\partial z_k} =
    \sigma(z_k) \Big( 1 - \frac{\Xi_{m-1}(z_{-k})}{\Xi_m(z)} \Big), \qquad \Xi_0 = 1 .

For c classes each decision is a softmax of its own, the class is the sum of the m outcomes modulo c, and its
probability the circular convolution of the m distributions,

.. math::
    :label: checkered-classes

    \Xi_{m,y}(Z) = \sum_{j_1 + \dots + j_m = y \,(c)} \prod_k \sigma_{j_k}(Z_k) .

Given the class, decision k had the outcome j with probability

.. math::
    :label: checkered-weights

    w_{kj} = \frac{\sigma_j(Z_k)\, \Xi_{m-1,\, y-j}(Z_{-k})}{\Xi_{m,y}(Z)},

and so the gradient of :math:`-\log \Xi_{m,y}` is

.. math::
    :label: checkered-gradient

    \sigma(Z_k) - w_k .

With the weights of another point :math:`Z'` it is the cross-gradient seen from there: the gradient of the convex
function

.. math::
    :label: checkered-cross

    \sum_k \Big( \log \sum_j e^{Z_{kj}} - \sum_j w_{kj}(Z')\, Z_{kj} \Big) .

Losses are means over rows. All is computed with logarithms of probabilities, so that none vanishes; the convolutions
without decision k from those of the decisions before it and after it. At Z = 0 the gradient is 0 for two decisions or
more: start elsewhere.

**Where implementations differ.** By Fourier transforms, as the paper has it, a convolution costs
:math:`c \log c` a decision, but probabilities below 1e-16 are rounding and must be clipped.

**Provenance.** Confirmed in the paper; the short form of the gradient in the author's notes.

Achab, *Beyond Log-Concavity: Theory and Algorithm for Sum-Log-Concave Optimization*, 2023, arXiv:2309.15298.
"""

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    Binary,
    C,
    Index,
    M,
    N,
    Prob,
    Real,
    Scalar,
    checked,
)


def _together(log_p, log_q):
    """Logs of the distribution of the sum of two outcomes, modulo their number."""
    C, total = log_p.shape[-1], log_p + log_q[:, :1]
    for j in range(1, C):
        moved = xp.concatenate([log_p[:, C - j :], log_p[:, : C - j]], -1)
        total = xp.logaddexp(total, moved + log_q[:, j : j + 1])
    return total


def _convolved(log_s):
    """Logs of the distributions (N, C) of the sum of all decisions (N, M, C), and of all but each one (N, M, C)."""
    # eq. checkered-classes
    _N, M, C = log_s.shape
    never = xp.where(xp.arange(C) > 0, -xp.inf, 0.0).astype(log_s.dtype)
    start = xp.zeros_like(log_s[:, 0]) + never
    before, after = [start], [start]
    for k in range(M):
        before.append(_together(before[-1], log_s[:, k]))
        after.append(_together(after[-1], log_s[:, M - 1 - k]))

    others = [_together(before[k], after[M - 1 - k]) for k in range(M)]
    return before[-1], xp.stack(others, 1)


def _given(Z, labels):
    """Log-probabilities of the classes seen, softmaxes, and the weights of outcomes given the class."""
    log_s = log_softmax(Z)
    whole, others = _convolved(log_s)
    C = Z.shape[-1]
    seen = one_hot(labels, C, Z.dtype)
    log_p = xp.where(seen > 0, whole, 0).sum(-1)
    # the outcome of the others must be y - j
    wanted = (labels[:, None] - xp.arange(C)) % C
    rest = xp.take_along_axis(
        others, xp.broadcast_to(wanted[:, None], others.shape), -1
    )
    w = xp.exp(log_s + rest - log_p[:, None, None])  # eq. checkered-weights
    return log_p, xp.exp(log_s), w


@checked
def checkoid_loss(z: Real[N, M], labels: Binary[N]) -> tuple[Scalar, Real[N, M]]:
    """Minus the mean log-probability of labels that are parities.

    Parameters
    ----------
    z
        The decisions, one a column.
    labels
        0 for an even number of failures.

    Returns
    -------
    loss
    gradient
        With respect to `z`.
    """
    Z = xp.stack([z, xp.zeros_like(z)], -1)
    log_p, s, w = _given(Z, labels.astype(int))
    loss = -log_p.mean()  # eq. checkered-even
    return loss, (s - w)[..., 0] / len(z)  # eq. checkered-even-gradient


def _classes(Z, labels, **_):
    """Labels beyond the number of outcomes."""
    return [validate.labels(labels, Z.shape[-1])]


@checked(also=_classes)
def multiclass_checkoid_loss(
    Z: Real[N, M, C], labels: Index[N]
) -> tuple[Scalar, Real[N, M, C]]:
    """Minus the mean log-probability of labels that are sums of outcomes.

    Parameters
    ----------
    Z
        Logits of the outcomes of each decision.

    Returns
    -------
    loss
    gradient
        With respect to `Z`.
    """
    log_p, s, w = _given(Z, labels)
    return -log_p.mean(), (s - w) / len(Z)  # eq. checkered-gradient


@checked(also=_classes)
def outcome_weights(Z: Real[N, M, C], labels: Index[N]) -> Prob[N, M, C]:
    """The probabilities of outcomes of each decision, given the class."""
    return xp.minimum(_given(Z, labels)[2], 1)


@checked
def cross_checkoid_loss(
    Z: Real[N, M, C], weights: Prob[N, M, C]
) -> tuple[Scalar, Real[N, M, C]]:
    """The convex function whose gradient is the cross-gradient.

    Parameters
    ----------
    weights
        Of outcomes given the classes, at the point from which is seen.

    Returns
    -------
    loss
    gradient
        With respect to `Z`.
    """
    log_s = log_softmax(Z)
    # eq. checkered-cross
    normaliser = (Z - log_s)[..., 0]
    loss = (normaliser - (weights * Z).sum(-1)).sum() / len(Z)
    return loss, (xp.exp(log_s) - weights) / len(Z)
