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
there. With every token kept this is TROLL.

**Where implementations differ.** Without the second term of the gradient the logits are taken for log-probabilities. A
public re-implementation chooses S by the old policy alone and has the others in one bucket: a coarser divergence.

**Provenance.** Partly: the rule of S, K and the mass by the authors' project page, the union and the sampled token by a
reading of the released code, the default probability by a public port (the TRPL loss of a prime-rl fork). The gradient
is derived here and checked.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Interface, Limit, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.interfaces import FULL_DISTRIBUTION, full_distribution
from trref.tokens.kl_projection import project_rows
from trref.tokens.terms import near, token_weights
from trref.tokens.troll import row_terms

__all__ = ["sparse_projection", "sparsify", "support", "troll_sparse"]

KEEP = {**FULL_DISTRIBUTION.inputs, "keep": Input("B T V", "mask")}
WITH_TARGET = {**KEEP, "projection": Input("B T V", optional=True)}

SUPPORT = full_distribution(without=("advantage", "mask"))


def support(logits, old_logits, actions, *, K=64, mass=1 - 1e-5):
    """Which tokens to keep: the top ones of either policy, and the sampled one.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
    actions : array (B, T), integer below V
    K : int
        At most so many of each policy, at least 1; of equal ones, the first.
    mass : float
        No more than reach this probability, in (0, 1].

    Returns
    -------
    array (B, T, V), 0 or 1

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, actions, `K` or `mass` out of range.
    """
    _, flags = validate.deferred(SUPPORT.inputs, logits, old_logits, actions)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known)
    validate.integer("[1, inf)", K=K)
    validate.interval("(0, 1]", mass=mass)
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


def sparsify(log_p, keep, floor):
    """Building block, unchecked: one default probability for all tokens that are not kept, normalised."""
    return log_softmax(xp.where(keep > 0, log_p, math.log(floor)))  # eq. troll-sparse-rows


def sparse_projection(logits, old_logits, keep, *, radius=0.05, floor=1e-12):
    """Building block, unchecked: log-probabilities (B, T, V) of the projections of the sparse rows."""
    log_p, log_q = (sparsify(log_softmax(z), keep, floor) for z in (logits, old_logits))
    return project_rows(log_p, log_q, radius).log_prob


def troll_sparse(
    logits, old_logits, actions, advantage, mask, keep, *, radius=0.05, alpha=1.0, floor=1e-12, projection=None
):
    """TROLL loss of sparse rows: the mean over all tokens.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of the current and the sampling policy.
    actions : array (B, T), integer below V
        The tokens.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
    keep : array (B, T, V), 0 or 1
        As of `support`: data, 1 on the sampled tokens at least.
    radius : float
        Of the trust region, in nats, in (0, inf).
    alpha : float
        Weight of the pull to the projection, in [0, inf).
    floor : float
        Probability of a token that is not kept, in (0, 1).
    projection : array (B, T, V), optional
        Log-probabilities that the policy is pulled to, held constant; those of `sparse_projection` if not given.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T, V)
        With respect to `logits`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, a sampled token not kept,
        actions or numbers out of range.
    """
    _, flags = validate.deferred(WITH_TARGET, logits, old_logits, actions, advantage, mask, keep, projection)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    sampled = (lambda: ((keep * e).sum(-1) >= mask).all(), "keep must be 1 on the sampled tokens")
    validate.require(*flags, known, *near(logits, old_logits), sampled)
    validate.interval("(0, inf)", radius=radius)
    validate.interval("[0, inf)", alpha=alpha)
    validate.interval("(0, 1)", floor=floor)
    log_p = log_softmax(logits)
    rows = sparsify(log_p, keep, floor), sparsify(log_softmax(old_logits), keep, floor)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    terms, derivative = row_terms(*rows, e, A, radius, alpha, projection)
    g = keep * derivative
    dJ = g - xp.exp(log_p) * g.sum(-1, keepdims=True)  # eq. troll-sparse-gradient
    w = token_weights(mask, "token_mean")
    return -(w * terms).sum(), -w[..., None] * dJ


def _support_by_counting(logits, old_logits, actions, *, K=64, mass=1 - 1e-5):
    keep = one_hot(actions, logits.shape[-1], logits.dtype)
    for z in (logits, old_logits):
        p = xp.exp(log_softmax(z))
        for b in range(p.shape[0]):
            for t in range(p.shape[1]):
                total = 0.0
                for k in sorted(range(p.shape[2]), key=lambda k: -z[b, t, k])[:K]:
                    if total < mass:
                        keep[b, t, k] = 1.0
                    total += float(p[b, t, k])
    return keep


def _with_support(batch):
    """Three tokens of either policy at most, so that some are left out."""
    return {**batch, "keep": support(*(batch[n] for n in SUPPORT.inputs), K=3, mass=0.8)}


def _every_token_kept(inputs):
    """every token is kept"""
    return {**inputs, "keep": xp.ones_like(inputs["keep"])}


SPARSE = Interface(
    "full_distribution with keep",
    KEEP,
    lambda rng, size: _with_support(FULL_DISTRIBUTION.example(rng, size)),
    {name: lambda make=make: _with_support(make()) for name, make in FULL_DISTRIBUTION.edges.items()},
)
METHOD = Method(
    key="becker2025troll",
    provenance={"partly": ("support", "rows"), "reconstructed": ("gradient",)},
    functions=(
        Estimator(
            f=support,
            interface=SUPPORT,
            settings={"default": {}, "probe": {"K": 3, "mass": 0.8}},
            brute_force=_support_by_counting,
        ),
        Objective(
            f=troll_sparse,
            interface=SPARSE,
            wrt="logits",
            stopped={"projection": sparse_projection},
            settings={"default": {}, "probe": {"radius": 0.3, "alpha": 0.4, "floor": 1e-3}},
            limits=(Limit("troll.troll", {}, where=_every_token_kept),),
        ),
    ),
)
