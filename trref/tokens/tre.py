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

**Where implementations differ.** The authors' TRE-P looks at the 256 likeliest tokens only; the mass-preserving step is
commented out. With K = 2 and V = 150,000 the factor is 17: c compares with no coefficient of an unscaled entropy.

**Provenance.** Confirmed by the authors' code, the paper's text was not read; the gradients, the leak and its remedy
are derived here and checked.

Huang et al., *TRE: Encouraging Exploration in the Trust Region*, 2026, arXiv:2602.03635.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens import _tre_cases as cases
from trref.tokens.deviations import tre as deviations
from trref.tokens.interfaces import FULL_DISTRIBUTION, full_distribution
from trref.tokens.terms import clip_surrogate, logit_gradient, near, token_weights

__all__ = ["mass_preserving", "min_entropy", "region", "region_bonus", "region_entropy", "tail_mass_drift", "tre"]

BONUS = full_distribution(without=("old_logits", "actions", "advantage"))
RULES = ("top_k", "top_p", "all")


def _check(rule, K, P):
    validate.choice(RULES, rule=rule)
    validate.integer("[1, inf)", K=K)
    validate.interval("(0, 1]", P=P)


def region(logits, rule, K, P):
    """Building block, unchecked: 1 (…, V) on the plausible tokens of each row, at least one, else 0."""
    if rule == "all":
        return xp.ones_like(logits)
    # eq. tre-region
    order = xp.argsort(-logits, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    if rule == "top_k":
        return (rank < K).astype(logits.dtype)
    p = xp.take_along_axis(xp.exp(log_softmax(logits)), order, -1)
    from_here_on = xp.cumsum(p[..., ::-1], axis=-1)[..., ::-1]  # 1 less what comes before, exact for rare tokens
    return xp.take_along_axis((from_here_on > 1 - P).astype(logits.dtype), rank, -1)


def region_entropy(logits, keep):
    """Building block, unchecked: entropy (…) inside the set (…, V), its gradient, and the probabilities inside it."""
    # eq. tre-entropy
    shifted = logits - logits.max(-1, keepdims=True)  # the likeliest token is in every region
    e = keep * xp.exp(shifted)
    Z = e.sum(-1, keepdims=True)
    q, log_q = e / Z, shifted - xp.log(Z)
    H = -(q * log_q).sum(-1)
    return H, -q * (log_q + H[..., None]), q


def _scaled(logits, keep):
    H, dH, _ = region_entropy(logits, keep)
    scale = math.log(logits.shape[-1]) / xp.log(xp.maximum(keep.sum(-1), 2))  # of a set of one token H is 0
    return scale * H, scale[..., None] * dH  # eq. tre-scaled


def mass_preserving(gradient, q):
    """Building block, unchecked: a gradient inside the set without its component along q: the set keeps its mass."""
    along = (gradient * q).sum(-1, keepdims=True) / (q * q).sum(-1, keepdims=True)
    return gradient - along * q  # eq. tre-mass-preserving


def region_bonus(logits, mask, *, rule="top_k", K=2, P=0.99):
    """Minus the mean over all tokens of the scaled entropy inside the region: the bonus alone, as a loss.

    Parameters
    ----------
    logits : array (B, T, V)
    mask : array (B, T), 0 or 1
    rule : {"top_k", "top_p", "all"}
        The region: the K likeliest tokens, the likeliest up to the mass P, or the whole vocabulary.
    K : int
        At least 1.
    P : float
        In (0, 1].

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T, V)
        With respect to `logits`, the region held constant; exactly 0 outside it and where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, an unknown rule, `K` or `P` out of range.
    """
    validate.inputs(BONUS.inputs, logits, mask)
    _check(rule, K, P)
    H, dH = _scaled(logits, region(logits, rule, K, P))
    w = token_weights(mask, "token_mean")
    return -(w * H).sum(), -w[..., None] * dH


def tre(logits, old_logits, actions, advantage, mask, *, clip=0.2, coefficient=1e-3, rule="top_k", K=2, P=0.99):
    """TRE loss: the clipped objective with the bonus, averaged over all tokens.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of the current and the sampling policy.
    actions : array (B, T), integer below V
        The tokens.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`, or of a critic.
    mask : array (B, T), 0 or 1
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf).
    coefficient : float
        c, in [0, inf).
    rule, K, P
        As in `region_bonus`.

    Returns
    -------
    loss, gradient
        As of `region_bonus`.

    Raises
    ------
    ValueError
        As `region_bonus`; log-probabilities more than 30 apart, actions or numbers out of range.
    """
    _, flags = validate.deferred(FULL_DISTRIBUTION.inputs, logits, old_logits, actions, advantage, mask)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known, *near(logits, old_logits))
    validate.interval("(0, inf)", clip=clip)
    validate.interval("[0, inf)", coefficient=coefficient)
    _check(rule, K, P)
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    log_prob, old_log_prob = ((log_softmax(z) * e).sum(-1) for z in (logits, old_logits))
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    H, dH = _scaled(logits, region(logits, rule, K, P))
    w = token_weights(mask, "token_mean")
    J = (w * (term + coefficient * H)).sum()  # eq. tre-objective
    return -J, -logit_gradient(logits, actions, w * derivative) - coefficient * w[..., None] * dH


def min_entropy(logits, mask):
    """Minus the mean min-entropy: the bonus that the released code takes for K = 1.

    Parameters
    ----------
    logits : array (B, T, V)
    mask : array (B, T), 0 or 1

    Returns
    -------
    loss : scalar array
    gradient : array (B, T, V)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    validate.inputs(BONUS.inputs, logits, mask)
    log_p, w = log_softmax(logits), token_weights(mask, "token_mean")
    best = one_hot(log_p.argmax(-1), logits.shape[-1], logits.dtype)
    return (w * log_p.max(-1)).sum(), w[..., None] * (best - xp.exp(log_p))  # eq. tre-min-entropy


def tail_mass_drift(logits, *, rule="top_k", K=2, P=0.99):
    """Rate at which ascent on the entropy inside the region changes the region's mass: never upwards.

    Parameters
    ----------
    logits : array (N, V)
    rule, K, P
        As in `region_bonus`.

    Returns
    -------
    array (N,)

    Raises
    ------
    ValueError
        A wrong shape, values that are not finite, an unknown rule, `K` or `P` out of range.
    """
    validate.inputs(LOGITS, logits)
    _check(rule, K, P)
    keep, p = region(logits, rule, K, P), xp.exp(log_softmax(logits))
    _, dH, q = region_entropy(logits, keep)
    covariance = -(dH * q).sum(-1)  # the mean of q (log q + H)
    return -(keep * p).sum(-1) * ((1 - keep) * p).sum(-1) * covariance  # eq. tre-drift


LOGITS = {"logits": Input("N V")}
PROBE = {"rule": "top_p", "K": 3, "P": 0.8}
SETTINGS = {"default": {}, "top_p": {"rule": "top_p"}, "all": {"rule": "all"}, "probe": PROBE}
METHOD = Method(
    key="huang2026tre",
    provenance={
        "confirmed": ("region", "entropy", "scaled", "objective", "min-entropy"),
        "reconstructed": ("drift", "mass-preserving"),
    },
    functions=(
        Objective(
            f=region_bonus,
            interface=BONUS,
            edges=cases.large(BONUS.edges),
            wrt="logits",
            settings={**SETTINGS, "K = 1": {"K": 1}},
            limits=(
                Limit("tre.region_bonus", {"K": 1000}, {"rule": "all"}),
                Limit("tre.region_bonus", {"rule": "top_p", "P": 1.0}, {"rule": "all"}),
            ),
            deviations=(deviations.MIN_ENTROPY_FOR_ONE,),
        ),
        Objective(
            f=tre,
            interface=FULL_DISTRIBUTION,
            edges=cases.large(FULL_DISTRIBUTION.edges),
            wrt="logits",
            settings={"default": {}, "all": {"rule": "all"}, "probe": {"clip": 0.35, "coefficient": 0.3, **PROBE}},
            limits=(
                Limit("tre.region_bonus", {"coefficient": 1.0}, where=cases.without_advantage),
                Limit("apo.apo", {"coefficient": 0.0}, {"push": 1.0, "pull": 0.0}, where=cases.of_one_length),
            ),
        ),
        Objective(f=min_entropy, interface=BONUS, wrt="logits"),
        Estimator(
            f=tail_mass_drift,
            inputs=LOGITS,
            example=cases.rows,
            edges=cases.ROWS,
            settings=SETTINGS,
            brute_force=cases.drift_by_loops,
        ),
    ),
)
