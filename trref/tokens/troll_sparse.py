r"""TROLL on the likely tokens of each row: what makes projections affordable at a large vocabulary.

A row of 150,000 probabilities has most of its mass on a few. TROLL (:mod:`trref.tokens.troll`) therefore keeps the top
tokens of p and of q, of each as few as reach a mass of :math:`1 - 10^{-5}` and at most K, and the sampled one; five to
ten are the rule:

.. math::
    :label: troll-sparse-support

    S = S_K(p) \cup S_K(q) \cup \{y\}

All others share one default probability, and the row is normalised anew:

.. math::
    :label: troll-sparse-rows

    p^S = \mathrm{softmax}(s), \qquad s_k = \log p_k \;\text{ for } k \in S, \qquad s_k = \log 10^{-12} \;\text{ else}

The objective is TROLL's with :math:`p^S` and :math:`q^S` in the place of p and q. S is constant. A gradient :math:`g`
in s reaches the logits of p by

.. math::
    :label: troll-sparse-gradient

    \frac{\partial J}{\partial z} = \mathbb 1_S \odot g - p \sum_{k \in S} g_k

The rows are normalised, so the objective does not see how much mass there is outside S, and next to no gradient leads
there. With every token kept this is TROLL. Of equally likely tokens the first is kept. :math:`10^{-12}` is `floor`.

**Where implementations differ.** Without the second term of the gradient the logits are taken for log-probabilities. A
public re-implementation chooses S by the old policy alone and has the others in one bucket: a coarser divergence.

**Provenance.** Partly: the rule of S, K and the mass by the authors' project page, the union and the sampled token by a
reading of the released code, the default probability by a public port (the TRPL loss of a prime-rl fork). The gradient
is derived here and checked.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

import math
from typing import Annotated

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    B,
    Index,
    Lead,
    LogProb,
    Mask,
    NonNegativeFloat,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import known, near_and_known, token_mean
from trref.tokens.troll import row_terms
from trref.tokens.troll_projection import project_rows


@checked(also=known)
def support(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    *,
    K: PositiveInt = 64,
    mass: Annotated[float, "(0, 1]"] = 1 - 1e-5,
) -> Mask[B, T, V]:
    """Which tokens to keep: the top ones of either policy, and the sampled one.

    Parameters
    ----------
    K
        At most so many of each policy.
    mass
        No more than reach this probability.
    """
    keep = one_hot(actions, logits.shape[-1], logits.dtype)
    # eq. troll-sparse-support
    for z in (logits, old_logits):
        p = xp.exp(log_softmax(z))
        order = xp.argsort(-z, axis=-1, kind="stable")
        rank = xp.argsort(order, axis=-1, kind="stable")
        ranked = xp.take_along_axis(p, order, -1)
        before = xp.take_along_axis(xp.cumsum(ranked, axis=-1) - ranked, rank, -1)
        keep = xp.maximum(keep, ((before < mass) & (rank < K)).astype(keep.dtype))

    return keep


@checked
def sparsify(
    log_p: LogProb[Lead, V], keep: Mask[Lead, V], floor: OpenFraction
) -> LogProb[Lead, V]:
    """Give all tokens that are not kept one default probability, and normalise.

    Parameters
    ----------
    log_p
        Log-probabilities of all tokens.
    keep
        1 on the tokens that are kept, as of `support`: data.
    floor
        Probability of a token that is not kept.
    """
    # eq. troll-sparse-rows
    return log_softmax(xp.where(keep > 0, log_p, math.log(floor)))


def _sparse_rows(logits, old_logits, keep, floor):
    rows = (log_softmax(logits), log_softmax(old_logits))
    return [sparsify.unchecked(row, keep, floor) for row in rows]


@checked
def sparse_projection(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    keep: Mask[B, T, V],
    *,
    radius: PositiveFloat = 0.05,
    floor: OpenFraction = 1e-12,
) -> LogProb[B, T, V]:
    """Log-probabilities of the projections of the sparse rows."""
    log_p, log_q = _sparse_rows(logits, old_logits, keep, floor)
    return project_rows.unchecked(log_p, log_q, radius).log_prob


def _sampled_kept(logits, old_logits, actions, mask, keep, **_):
    """Actions that are no tokens, log-probabilities of one token more than 30 apart, a sampled token not kept."""
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    sampled = (
        lambda: ((keep * e).sum(-1) >= mask).all(),
        "keep must be 1 on the sampled tokens",
    )
    return [*near_and_known(logits, old_logits, actions), sampled]


@checked(also=_sampled_kept)
def troll_sparse(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    keep: Mask[B, T, V],
    *,
    radius: PositiveFloat = 0.05,
    kl_weight: NonNegativeFloat = 1.0,
    floor: OpenFraction = 1e-12,
    projection: Real[B, T, V] | None = None,
) -> tuple[Scalar, Real[B, T, V]]:
    """TROLL loss of sparse rows: the mean over all tokens.

    Parameters
    ----------
    keep
        1 on the sampled tokens at least.
    projection
        Log-probabilities that the policy is pulled to, held constant; those of `sparse_projection` if None.
    """
    log_p, log_q = _sparse_rows(logits, old_logits, keep, floor)
    terms, derivative = row_terms.unchecked(
        log_p,
        log_q,
        one_hot(actions, logits.shape[-1], logits.dtype),
        advantage,
        projection,
        radius=radius,
        kl_weight=kl_weight,
    )
    g, p = keep * derivative, xp.exp(log_softmax(logits))
    dJ = g - p * g.sum(-1, keepdims=True)  # eq. troll-sparse-gradient
    w = token_mean(mask)
    return -(w * terms).sum(), -w[..., None] * dJ
