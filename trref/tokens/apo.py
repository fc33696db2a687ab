r"""Anchored policy optimisation (APO): whatever a wrong token loses shall stay among tokens that the reference trusts.

Pushing a token down hands its probability to the others in proportion to what they have: the plain negative update
moves the logit of every token :math:`k \ne y` by :math:`|\hat A| \rho\, \pi_k`. Likely tokens grow, rare valid ones
starve. A divergence from the reference would hinder that, and wanted sharpening as well. APO asks for less: that
probability stays within the reference's K likeliest tokens, and it asks on wrong answers only. The anchors of a sampled
token y are

.. math::
    :label: apo-anchors

    S = \mathrm{top}_K(\pi^{ref}) \setminus \{y\}, \qquad Z = \sum_{k \in S} \pi^{ref}_k

.. math::
    :label: apo-anchor-ratio

    r^{anc} = \sum_{k \in S} \frac{\pi^{ref}_k}{Z}\, \frac{\pi_k}{\pi^{ref}_k} = \frac1Z \sum_{k \in S} \pi_k

so that only the set and its mass Z matter. Negative advantages get a rectified ratio, which pushes the token a little
harder and pulls the anchors up; positive ones are those of GRPO:

.. math::
    :label: apo-rectified

    \tilde r = \lambda \rho - \beta\, r^{anc} \ \text{ where } \hat A < 0, \qquad \tilde r = \rho \ \text{ elsewhere}

With ``clipping="push"`` only the push is clipped,

.. math::
    :label: apo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \Big( \lambda_{i,t}\, \ell_{i,t} - \beta\, r^{anc}_{i,t} \hat A_{i,t}\,
    [\hat A_{i,t} < 0] \Big), \qquad \lambda_{i,t} = \lambda \text{ where } \hat A_{i,t} < 0, \text{ else } 1

where :math:`\ell` is GRPO's clipped term; with ``clipping="all"`` the rectified ratio takes the place of the ratio in
it:

.. math::
    :label: apo-clip-all

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \min\big\{ \tilde r \hat A,\;
    \mathrm{clip}(\tilde r, 1-\epsilon_l, 1+\epsilon_h)\, \hat A \big\}_{i,t}

The gradient needs the whole row of logits. For a negative advantage, inside the clip, with
:math:`M = \sum_{k \in S} \pi_k`,

.. math::
    :label: apo-gradient

    \frac{\partial}{\partial z} \hat A \tilde r = \hat A \Big[ \lambda \rho\,(e_y - \pi)
    - \frac\beta Z\, \pi \odot (\mathbb 1_S - M) \Big]

On-policy, too, wrong answers are pushed harder than by the policy gradient. The pull is :math:`|\hat A| \beta / Z`
times the gradient of the mass on the anchors, :math:`\pi_k (1 - M)` for an anchor k: proportional to its *current*
probability. An anchor that has starved is not revived by it. How much of the policy lies within the reference's support
is

.. math::
    :label: apo-coverage

    \sum_{i,t} \frac{m_{i,t}}{\sum_j |y_j|} \sum_{k \in \mathrm{top}_K(\pi^{ref}_{i,t})} \pi_{i,t,k}

=======================  ====================================
:math:`\lambda,\ \beta`  `push`, `pull`
K                        `K`; of equal logits the first count
=======================  ====================================

**Where implementations differ.** With y left among the anchors, push and pull partly cancel. Where the anchors are
improbable under the reference, :math:`\beta/Z` explodes; here the pull is left out where Z is below ``min_mass``.

**Provenance.** Partly: anchors, ratio and defaults by a detailed public note on the paper. Reconstructed: how clipping
and rectified ratio combine, and the smallest mass. Gradient and identities are derived and checked. Not to be confused
with anchored *preference* optimisation.

Wang et al., *Anchored Policy Optimization: Mitigating Exploration Collapse Via Support-Constrained Rectification*,
2026, arXiv:2602.05717.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    B,
    Binary,
    Index,
    Lead,
    Mask,
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
    per_token,
    seq_mean,
    token_mean,
)


class AnchorRatio(NamedTuple):
    """The ratio, and its gradient in the logits of the policy."""

    ratio: Real[Lead]
    gradient: Real[Lead, V]


@checked
def safe_manifold(ref_logits: Real[Lead, V], *, K: PositiveInt = 8) -> Binary[Lead, V]:
    """1 on the reference's K likeliest tokens; of equal ones, the first.

    Parameters
    ----------
    K
        Size of the support.
    """
    order = xp.argsort(-ref_logits, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    return (rank < K).astype(ref_logits.dtype)


@checked
def anchor_ratio(
    prob: Prob[Lead, V],
    ref_prob: Prob[Lead, V],
    anchors: Binary[Lead, V],
    *,
    min_mass: Annotated[float, "(0, 1]"] = 0.01,
) -> AnchorRatio:
    """The anchors' ratio; 0 without gradient where the reference gives the anchors less than `min_mass`.

    Parameters
    ----------
    prob, ref_prob
        Of each token, under the current and the reference policy.
    anchors
        Which tokens are anchors.
    min_mass
        No pull where the reference gives the anchors less.
    """
    Z, M = (anchors * ref_prob).sum(-1), (anchors * prob).sum(-1)
    scale = xp.where(Z >= min_mass, 1 / xp.maximum(Z, min_mass), 0)
    # eq. apo-anchor-ratio
    gradient = scale[..., None] * prob * (anchors - M[..., None])
    return AnchorRatio(scale * M, gradient)


@checked(also=near_and_known)
def apo(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    ref_logits: Real[B, T, V],
    *,
    K: PositiveInt = 8,
    push: NonNegativeFloat = 1.05,
    pull: NonNegativeFloat = 0.1,
    clip_low: PositiveFloat = 0.2,
    clip_high: PositiveFloat = 0.2,
    clipping: Literal["push", "all"] = "push",
    min_mass: Annotated[float, "(0, 1]"] = 0.01,
) -> tuple[Scalar, Real[B, T, V]]:
    """APO loss: GRPO's with a rectified ratio on negative advantages.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    push, pull
        How much harder the token is pushed, and how hard the anchors are pulled.
    clipping
        Clip the push alone, or the rectified ratio.
    """
    log_p, log_old = log_softmax(logits), log_softmax(old_logits)
    sampled = one_hot(actions, logits.shape[-1], logits.dtype)
    log_prob, old_log_prob = (log_p * sampled).sum(-1), (log_old * sampled).sum(-1)
    A = per_token(advantage)
    negative = (A < 0).astype(A.dtype)
    lam, beta = 1 + (push - 1) * negative, pull * negative

    anchors = safe_manifold.unchecked(ref_logits, K=K) * (
        1 - sampled
    )  # eq. apo-anchors
    p, ref_p = xp.exp(log_p), xp.exp(log_softmax(ref_logits))
    r_anc, d_anc = anchor_ratio.unchecked(p, ref_p, anchors, min_mass=min_mass)

    if clipping == "push":
        # The push is clipped; the pull is not.
        # eq. apo-objective
        own, d_own = clip_surrogate(log_prob, old_log_prob, A, clip_low, clip_high)
        term, derivative, d_pull = lam * own - beta * r_anc * A, lam * d_own, -beta * A
    else:
        # The rectified ratio takes the place of the ratio: push and pull stop together.
        # eq. apo-clip-all
        ratio = xp.exp(log_prob - old_log_prob)
        rectified = lam * ratio - beta * r_anc  # eq. apo-rectified
        unclipped = rectified * A
        clipped = xp.clip(rectified, 1 - clip_low, 1 + clip_high) * A
        term, moves = xp.minimum(unclipped, clipped), (unclipped <= clipped) * A
        derivative, d_pull = moves * lam * ratio, -beta * moves

    w = seq_mean(mask)
    J = (w * term).sum()
    # eq. apo-gradient
    pushed = logit_gradient(logits, actions, w * derivative)
    return -J, -(pushed + (w * d_pull)[..., None] * d_anc)


@checked
def support_coverage(
    logits: Real[B, T, V],
    mask: Mask[B, T],
    ref_logits: Real[B, T, V],
    *,
    K: PositiveInt = 8,
) -> Scalar:
    """Mean over tokens of the policy's probability of the reference's support; 0 if there are no tokens."""
    inside = safe_manifold.unchecked(ref_logits, K=K) * xp.exp(log_softmax(logits))
    return (token_mean(mask) * inside.sum(-1)).sum()  # eq. apo-coverage
