r"""ReCAP: a network that adapts to new data is made sure in a region, not at a point.

Minimising the entropy of one test sample pulls its neighbours in conflicting directions. So let the feature z be the
middle of a region, a Gaussian :math:`z' \sim \mathcal N(z, \tau \Sigma)` with :math:`\Sigma = \text{diag}(\sigma^2)`,

.. math::
    :label: recap-region

    \sigma^2_d = \text{Var}_i\, z_{id} \quad \text{over source features.}

A frozen head has rows :math:`a_i`, logits :math:`l = A z + b` and :math:`p = \text{softmax}(l)`. Two things should be
small, the mean entropy of the region and its disagreement with the middle,

.. math::
    :label: recap-sampled

    B = \mathbb E\, H(p(z')), \qquad V = \mathbb E\, \text{KL}(p(z) \| p(z')),

and both have closed forms from above that need no samples. With
:math:`v_{ij} = (a_i - a_j)^\top \Sigma (a_i - a_j)` and :math:`e_{ij} = e^{\tau v_{ij} / 2}`, the moment of
:math:`e^{l'_j - l'_i}` relative to the middle,

.. math::
    :label: recap-height

    h_i = \log \frac{\sum_j e_{ij}\, p_j}{p_i} \ge \mathbb E[-\log p_i(z')].

*Regional instability* is

.. math::
    :label: recap-instability

    L_{RI} = \sum_i p_i \log \sum_j e_{ij}\, p_j \ge V, \qquad
    \frac{\partial L_{RI}}{\partial l} = p \circ (G - p^\top G), \quad
    G_k = \log \sum_j e_{kj} p_j + \sum_i \frac{p_i e_{ik}}{\sum_j e_{ij} p_j},

and *regional entropy*, with a ratio of expectations q for the mean prediction,

.. math::
    :label: recap-entropy

    L_{RE} = \sum_i q_i h_i, \qquad q = \text{softmax}(l + n), \quad n_i = \tfrac\tau2\, a_i^\top \Sigma\, a_i,

.. math::
    :label: recap-entropy-gradient

    \frac{\partial L_{RE}}{\partial l} = q \circ (h - q^\top h) - q + r^\top q, \qquad
    r_{ik} = \frac{e_{ik}\, p_k}{\sum_j e_{ij} p_j}.

The head and :math:`\Sigma` are constants. Shifting all rows by one vector changes nothing but n; with
`centre` rows are taken relative to :math:`\bar a = \sum_j p_j a_j`, which then moves with z:

.. math::
    :label: recap-centre

    \frac{\partial n_i}{\partial l_k} = -\tau\, p_k\, (a_i - \bar a)^\top \Sigma\, (a_k - \bar a).

**Bounds.** :math:`L_{RE}` itself is none: where features, head and region are large, B may be greater. With the true
mean predictions :math:`m_i = \mathbb E\, p_i(z')` for q it is one,

.. math::
    :label: recap-averaged

    \sum_i m_i h_i \ge B,

for :math:`p_i` and :math:`-\log p_i` move in opposite directions. Another bound without samples follows from
:math:`\mathbb E\, p_i(z') \le u_i = p_i\, e^{\frac\tau2 (a_i - \bar a)^\top \Sigma (a_i - \bar a)}`:

.. math::
    :label: recap-bound

    -\sum_i u_i \log \frac{u_i}{\sum_j u_j} \ge B.

For :math:`\tau = 0` all of them are the entropy at z, what *Tent* minimises:

.. math::
    :label: recap-point

    H(p) = -\sum_i p_i \log p_i, \qquad \frac{\partial H}{\partial l_k} = -p_k (\log p_k + H)

**The objective.** The mean over the samples that are sure enough, those with :math:`L_{RE} < \theta`,
:math:`\theta = 0.8 \log C`, each with a weight that is greater for surer ones,

.. math::
    :label: recap-weight

    \alpha = \min(e^{\theta - L_{RE}}, 3),

.. math::
    :label: recap-objective

    L = \frac{1}{|S|} \sum_{i \in S} \alpha_i\, (L_{RE,i} + \lambda L_{RI,i}),

both constant for the gradient. If nobody is sure enough it is 0. Only parameters below the head move.

=====================  =====================
:math:`A, b`           `head, bias`
:math:`\sigma^2`       `variance`
:math:`\theta/\log C`  `threshold`
:math:`\lambda`        `instability_weight`
=====================  =====================

**Where implementations differ.** The authors' code has in :math:`e_{ij}` ten times :math:`\tau \Sigma`, and
:math:`n_i = 5 \cdot 10^{-4} \|a_i\|^2` (`mode` ``"released"``). Its version for Tent has neither selection nor weights.

**Provenance.** The two losses, the weight, the selection and their constants are confirmed in the authors' code, as
follow-up projects reproduce it; the region and the two quantities are from summaries of the paper. The reading of q,
the bounds, `centre` and all gradients are this module's, proved and checked here. The code's second filter (shuffled
patches) and its reset are left out.

Hu, Zhang, Dong and co-authors, *Beyond Entropy: Region Confidence Proxy for Wild Test-Time Adaptation*, 2025,
arXiv:2505.20704.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.nn.heads import categorical_entropy, log_softmax
from trref.signature import (
    D,
    FiniteFloat,
    K,
    M,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    R,
    Real,
    Scalar,
    Simplex,
    checked,
)

Mode = Literal["general", "released"]


class Sampled(NamedTuple):
    """Mean entropy and mean divergence over a region, a row each."""

    entropy: NonNegative[N]
    divergence: Real[N]


@checked
def region_variances(features: Real[M, D]) -> NonNegative[D]:
    """The variance of each feature.

    Parameters
    ----------
    features
        Of source data, before the last layer.
    """
    moved = features - features[0]  # exactly 0 where all are equal
    return ((moved - moved.mean(0)) ** 2).mean(0)  # eq. recap-region


@checked
def sampled_confidence(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    noise: Real[R, N, D],
    *,
    tau: NonNegativeFloat = 1.2,
) -> Sampled:
    """Mean entropy of a region and mean divergence from its middle, from samples.

    Parameters
    ----------
    features
        Of test inputs: the middles of the regions.
    head
        Weights of the last layer, a row a class.
    bias
        Of the last layer.
    variance
        Of each feature.
    noise
        R draws from the standard normal law for each feature.
    tau
        Size of the region.
    """
    log_p = log_softmax(features @ head.T + bias)
    near = features + xp.sqrt(tau * variance) * noise
    log_near = log_softmax(near @ head.T + bias)
    # eq. recap-sampled
    B = -(xp.exp(log_near) * log_near).sum(-1).mean(0)
    V = (xp.exp(log_p) * (log_p - log_near)).sum(-1).mean(0)

    return Sampled(B, V)


@checked
def entropy_objective(logits: Real[N, K]) -> tuple[Scalar, Real[N, K]]:
    """The entropy of all rows together (Tent).

    Parameters
    ----------
    logits
        Of the classes.
    """
    H, gradient = categorical_entropy(logits)  # eq. recap-point
    return H.sum(), gradient


def _moments(head, variance, tau):
    """Logarithms of e_ij (K, K): half of tau v_ij."""
    off = head[:, None] - head
    return tau / 2 * (off * off * variance).sum(-1)


def _width(tau, mode):
    """Of the region in these moments."""
    return 10 * tau if mode == "released" else tau


def _log_sum(terms):
    """Over the last axis."""
    top = terms.max(-1, keepdims=True)
    return top[..., 0] + xp.log(xp.exp(terms - top).sum(-1))


def _log_means(log_p, E):
    """log sum_j e_ij p_j for each row and i; exactly 0 where all e are 1."""
    return _log_sum(log_p[:, None] + E) - _log_sum(log_p)[:, None]


def _shares(log_p, E, log_means):
    """r_ik (N, K, K)."""
    return xp.exp(log_p[:, None] + E - log_means[..., None])


def _entropies(logits, log_p, log_means, n):
    """L_RE of each row, with q and h."""
    q = xp.exp(log_softmax(logits + n))
    h = log_means - log_p  # eq. recap-height
    return (q * h).sum(-1), q, h  # eq. recap-entropy


def _entropy_slope(value, q, h, r):
    """By the logits."""
    # eq. recap-entropy-gradient
    return q * (h - value[:, None]) - q + xp.einsum("nik,ni->nk", r, q)


def _metric(variance, tau, mode):
    """n is half of the squares of rows in this metric."""
    return tau * variance if mode == "general" else xp.full_like(variance, 1e-3)


def _through_mean(off, metric, weights, p):
    """Minus the derivative by the logits of half the squares of `off`, rows relative to their mean under p."""
    along = (weights[..., None] * off).sum(1) * metric
    return p * (off * along[:, None]).sum(-1)


@checked
def region_entropy(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
    mode: Mode = "general",
    centre: bool = False,
) -> tuple[Scalar, Real[N, D]]:
    """The regional entropy of all rows together.

    Parameters
    ----------
    mode
        The constants of the equations, or those of the authors' code.
    centre
        Take rows of the head relative to their mean under the prediction.

    Returns
    -------
    loss
    gradient
        With respect to `features`.
    """
    logits = features @ head.T + bias
    log_p, E = log_softmax(logits), _moments(head, variance, _width(tau, mode))
    p, log_means = xp.exp(log_p), _log_means(log_p, E)
    rows = head - (p @ head)[:, None] if centre else head[None]
    metric = _metric(variance, tau, mode)
    n = (rows * rows * metric).sum(-1) / 2
    value, q, h = _entropies(logits, log_p, log_means, n)
    slope = _entropy_slope(value, q, h, _shares(log_p, E, log_means))
    if centre:
        pull = q * (h - value[:, None])
        slope = slope - _through_mean(rows, metric, pull, p)  # eq. recap-centre
    return value.sum(), slope @ head


def _instabilities(log_p, E, log_means):
    """L_RI of each row, and its gradient by the logits."""
    p, r = xp.exp(log_p), _shares(log_p, E, log_means)
    # eq. recap-instability
    value = (p * log_means).sum(-1)
    slope = p * (log_means - value[:, None])
    slope = slope + xp.einsum("ni,nik->nk", p, r - p[:, None])

    return value, slope


@checked
def region_instability(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
    mode: Mode = "general",
) -> tuple[Scalar, Real[N, D]]:
    """The regional instability of all rows together.

    Returns
    -------
    loss
    gradient
        With respect to `features`.
    """
    log_p = log_softmax(features @ head.T + bias)
    E = _moments(head, variance, _width(tau, mode))
    value, slope = _instabilities(log_p, E, _log_means(log_p, E))
    return value.sum(), slope @ head


@checked
def averaged_bound(
    mean_prob: Simplex[N, K],
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
) -> NonNegative[N]:
    """A bound of each row's mean entropy, from the mean predictions of its region.

    Parameters
    ----------
    mean_prob
        Mean probabilities over the region.
    """
    log_p = log_softmax(features @ head.T + bias)
    h = _log_means(log_p, _moments(head, variance, tau)) - log_p
    return (mean_prob * h).sum(-1)  # eq. recap-averaged


@checked
def entropy_bound(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
) -> tuple[Scalar, Real[N, D]]:
    """A bound of the mean entropy of all rows together, without samples.

    Returns
    -------
    loss
    gradient
        With respect to `features`.
    """
    log_p = log_softmax(features @ head.T + bias)
    p = xp.exp(log_p)
    off = head - (p @ head)[:, None]
    log_u = log_p + tau / 2 * (off * off * variance).sum(-1)
    u, r = xp.exp(log_u), -log_softmax(log_u)
    value = (u * r).sum(-1)  # eq. recap-bound
    pull = u * r
    slope = pull - p * value[:, None]
    slope = slope - _through_mean(off, tau * variance, pull, p)
    return value.sum(), slope @ head


@checked
def sample_weights(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
    threshold: FiniteFloat = 0.8,
    cap: PositiveFloat = 3.0,
    mode: Mode = "general",
) -> NonNegative[N]:
    """What each row has in the objective: 0 where it is not sure enough.

    Parameters
    ----------
    threshold
        Of the regional entropy, as a share of the logarithm of the number of classes.
    cap
        The largest weight, before the mean.
    """
    logits = features @ head.T + bias
    log_p = log_softmax(logits)
    log_means = _log_means(log_p, _moments(head, variance, _width(tau, mode)))
    n = (head * head * _metric(variance, tau, mode)).sum(-1) / 2
    value, _, _ = _entropies(logits, log_p, log_means, n)
    limit = threshold * math.log(len(head))
    # eq. recap-weight
    alpha = xp.exp(xp.minimum(limit - value, math.log(cap)))

    sure = (value < limit).astype(value.dtype)
    return sure * alpha / xp.maximum(sure.sum(), 1)


@checked
def recap_objective(
    features: Real[N, D],
    head: Real[K, D],
    bias: Real[K],
    variance: NonNegative[D],
    *,
    tau: NonNegativeFloat = 1.2,
    instability_weight: NonNegativeFloat = 0.5,
    threshold: FiniteFloat = 0.8,
    cap: PositiveFloat = 3.0,
    mode: Mode = "general",
    weights: NonNegative[N] | None = None,
) -> tuple[Scalar, Real[N, D]]:
    """The weighted mean of regional entropy and instability.

    Parameters
    ----------
    instability_weight
        Of the instability.
    weights
        From `sample_weights`, held constant; computed if None.

    Returns
    -------
    loss
    gradient
        With respect to `features`.
    """
    if weights is None:
        how = {"tau": tau, "threshold": threshold, "cap": cap, "mode": mode}
        weights = sample_weights.unchecked(features, head, bias, variance, **how)
    logits = features @ head.T + bias
    log_p, E = log_softmax(logits), _moments(head, variance, _width(tau, mode))
    log_means = _log_means(log_p, E)
    n = (head * head * _metric(variance, tau, mode)).sum(-1) / 2
    entropy, q, h = _entropies(logits, log_p, log_means, n)
    by_entropy = _entropy_slope(entropy, q, h, _shares(log_p, E, log_means))
    instability, by_instability = _instabilities(log_p, E, log_means)
    # eq. recap-objective
    value = (weights * (entropy + instability_weight * instability)).sum()
    slope = weights[:, None] * (by_entropy + instability_weight * by_instability)

    return value, slope @ head
