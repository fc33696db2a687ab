r"""TRE: an entropy bonus over the plausible tokens alone.

Over a huge vocabulary the usual entropy bonus mostly pays for moving mass into thousands of invalid tokens, and over
long answers that leak multiplies up. TRE takes the entropy over a small set S of likely tokens, normalised inside:

.. math::
    :label: tre-region

    S_K = \{\text{the } K \text{ largest logits}\}, \qquad
    S_P = \Big\{ j : \sum_{k \text{ before } j} p_k < P \Big\}

in falling order of probability, so that the token that crosses P is in; ties go to the lower index. S is constant.

.. math::
    :label: tre-entropy

    q = \mathrm{softmax}(z_S), \qquad H_S = -\sum_{k \in S} q_k \log q_k, \qquad
    \frac{\partial H_S}{\partial z_k} = -q_k (\log q_k + H_S) \text{ on } S, \quad 0 \text{ elsewhere}

scaled to the range :math:`[0, \log V]` of the full entropy, with 0 for a set of one token:

.. math::
    :label: tre-scaled

    \tilde H = H_S \cdot \frac{\log V}{\log |S|}

.. math::
    :label: tre-objective

    J = \frac1{\sum_j |y_j|} \sum_{i,t} m_{i,t} \big[ \ell_{i,t} + c\, \tilde H_{i,t} \big]

with the clipped term :math:`\ell` of :mod:`trref.tokens.grpo`. Outside S the bonus has no gradient at all; inside it
has one on-policy, too. Yet it leaks, because shrinking the largest logit shrinks the set: ascent on :math:`H_S` moves
its mass :math:`M` at the rate

.. math::
    :label: tre-drift

    \dot M = \Big\langle \frac{\partial M}{\partial z}, \frac{\partial H_S}{\partial z} \Big\rangle
    = -M (1 - M)\, \mathrm{Cov}_q(q, \log q) \le 0

which taking out the component along q prevents:

.. math::
    :label: tre-mass-preserving

    g \leftarrow g - \frac{\langle g, q \rangle}{\langle q, q \rangle}\, q

For K = 1 the released code has the min-entropy

.. math::
    :label: tre-min-entropy

    H_\infty = -\log \max_k p_k

=========  ============================
:math:`c`  `entropy_weight`
:math:`S`  `region`, as 0 and 1: `keep`
=========  ============================

**Where implementations differ.** The authors' TRE-P looks at the 256 likeliest tokens only; the mass-preserving step is
commented out. With K = 2 and V = 150,000 the factor is 17: c compares with no coefficient of an unscaled entropy.

**Provenance.** Confirmed by the authors' code, the paper's text was not read; the gradients, the leak and its remedy
are derived here and checked.

Huang et al., *TRE: Encouraging Exploration in the Trust Region*, 2026, arXiv:2602.03635.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    B,
    Index,
    Lead,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import (
    clip_surrogate,
    logit_gradient,
    near_and_known,
    token_mean,
)

Rule = Literal["top_k", "top_p", "all"]
Mass = Annotated[float, "(0, 1]"]


@checked
def region(logits: Real[Lead, V], rule: Rule, K: PositiveInt, P: Mass) -> Mask[Lead, V]:
    """1 on the plausible tokens of each row, at least one.

    Parameters
    ----------
    rule
        The K likeliest tokens, the likeliest up to the mass P, or the whole vocabulary.
    K
        How many tokens ``"top_k"`` keeps.
    P
        The mass that ``"top_p"`` keeps.
    """
    if rule == "all":
        return xp.ones_like(logits)
    # eq. tre-region
    order = xp.argsort(-logits, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    if rule == "top_k":
        return (rank < K).astype(logits.dtype)
    # what is left from a token on is 1 less what comes before, exact for rare tokens
    p = xp.take_along_axis(xp.exp(log_softmax(logits)), order, -1)
    left = xp.cumsum(p[..., ::-1], axis=-1)[..., ::-1]
    return xp.take_along_axis((left > 1 - P).astype(logits.dtype), rank, -1)


@checked
def region_entropy(
    logits: Real[Lead, V], keep: Mask[Lead, V]
) -> tuple[Real[Lead], Real[Lead, V], Prob[Lead, V]]:
    """Entropy inside the region, its gradient, and the probabilities inside.

    Parameters
    ----------
    keep
        1 on the region, with the likeliest token in it.

    Returns
    -------
    H
    dH
    q
    """
    # eq. tre-entropy
    shifted = logits - logits.max(-1, keepdims=True)
    e = keep * xp.exp(shifted)
    Z = e.sum(-1, keepdims=True)
    q, log_q = e / Z, shifted - xp.log(Z)
    H = -(q * log_q).sum(-1)
    return H, -q * (log_q + H[..., None]), q


def _scaled(logits, rule, K, P):
    """The scaled entropy inside the region, which is held constant, and its gradient."""
    keep = region.unchecked(logits, rule, K, P)
    H, dH, _ = region_entropy.unchecked(logits, keep)
    # a set of one token counts as two: its entropy is 0
    scale = math.log(logits.shape[-1]) / xp.log(xp.maximum(keep.sum(-1), 2))
    return scale * H, scale[..., None] * dH  # eq. tre-scaled


@checked
def mass_preserving(gradient: Real[Lead, V], q: NonNegative[Lead, V]) -> Real[Lead, V]:
    """A gradient inside the region without its component along q: the region keeps its mass.

    Parameters
    ----------
    gradient
        Such as dH of `region_entropy`.
    q
        Probabilities inside the region, 0 elsewhere.
    """
    along = (gradient * q).sum(-1, keepdims=True) / (q * q).sum(-1, keepdims=True)
    return gradient - along * q  # eq. tre-mass-preserving


@checked
def region_bonus(
    logits: Real[B, T, V],
    mask: Mask[B, T],
    *,
    rule: Rule = "top_k",
    K: PositiveInt = 2,
    P: Mass = 0.99,
) -> tuple[Scalar, Real[B, T, V]]:
    """Minus the mean over all tokens of the scaled entropy inside the region: the bonus alone, as a loss.

    Returns
    -------
    loss
    gradient
        The region is held constant: exactly 0 outside it.
    """
    H, dH = _scaled(logits, rule, K, P)
    w = token_mean(mask)
    return -(w * H).sum(), -w[..., None] * dH


@checked(also=near_and_known)
def tre(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
    entropy_weight: NonNegativeFloat = 1e-3,
    rule: Rule = "top_k",
    K: PositiveInt = 2,
    P: Mass = 0.99,
) -> tuple[Scalar, Real[B, T, V]]:
    """TRE loss: the clipped objective with the bonus, averaged over all tokens.

    Parameters
    ----------
    entropy_weight
        Weight of the bonus.
    """
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    log_prob, old_log_prob = (
        (log_softmax(z) * e).sum(-1) for z in (logits, old_logits)
    )
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    H, dH = _scaled(logits, rule, K, P)
    w = token_mean(mask)
    J = (w * (term + entropy_weight * H)).sum()  # eq. tre-objective
    dJ = logit_gradient(logits, actions, w * derivative)
    return -J, -dJ - entropy_weight * w[..., None] * dH


@checked
def min_entropy(
    logits: Real[B, T, V], mask: Mask[B, T]
) -> tuple[Scalar, Real[B, T, V]]:
    """Minus the mean min-entropy: the bonus that the released code takes for K = 1."""
    log_p, w = log_softmax(logits), token_mean(mask)
    best = one_hot(log_p.argmax(-1), logits.shape[-1], logits.dtype)
    # eq. tre-min-entropy
    return (w * log_p.max(-1)).sum(), w[..., None] * (best - xp.exp(log_p))


@checked
def tail_mass_drift(
    logits: Real[N, V], *, rule: Rule = "top_k", K: PositiveInt = 2, P: Mass = 0.99
) -> Real[N]:
    """Rate at which ascent on the entropy inside the region changes the region's mass: never upwards."""
    keep, p = region.unchecked(logits, rule, K, P), xp.exp(log_softmax(logits))
    _, dH, q = region_entropy.unchecked(logits, keep)
    covariance = -(dH * q).sum(-1)  # the mean of q (log q + H)
    M, tail = (keep * p).sum(-1), ((1 - keep) * p).sum(-1)
    return -M * tail * covariance  # eq. tre-drift
