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

**Where implementations differ.** With y left among the anchors, push and pull partly cancel. Where the anchors are
improbable under the reference, :math:`\beta/Z` explodes; here the pull is left out where Z is below ``min_mass``.

**Provenance.** Partly: anchors, ratio and defaults by a detailed public note on the paper. Reconstructed: how clipping
and rectified ratio combine, and the smallest mass. Gradient and identities are derived and checked. Not to be confused
with anchored *preference* optimisation.

Wang et al., *Anchored Policy Optimization: Mitigating Exploration Collapse Via Support-Constrained Rectification*,
2026, arXiv:2602.05717.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.deviations import apo as deviations
from trref.tokens.interfaces import full_distribution
from trref.tokens.terms import clip_surrogate, logit_gradient, near, token_weights

__all__ = ["anchor_ratio", "apo", "safe_manifold", "support_coverage"]

ROWS = full_distribution("ref_logits")
SUPPORT = full_distribution("ref_logits", without=("old_logits", "actions", "advantage"))
CLIPPINGS = ("push", "all")


def safe_manifold(ref_logits, K):
    """Building block, unchecked: 1 (…, V) on the reference's K likeliest tokens; of equal ones, the first."""
    rank = xp.argsort(xp.argsort(-ref_logits, axis=-1, kind="stable"), axis=-1, kind="stable")
    return (rank < K).astype(ref_logits.dtype)


def anchor_ratio(p, ref_p, anchors, min_mass):
    """Building block, unchecked: the anchors' ratio (…), and its gradient (…, V) with respect to the logits of p.

    Parameters
    ----------
    p, ref_p : array (…, V)
        Probabilities.
    anchors : array (…, V), 0 or 1
    min_mass : float
        Both are 0 where the reference gives the anchors less.
    """
    Z = (anchors * ref_p).sum(-1)
    scale = xp.where(Z >= min_mass, 1 / xp.maximum(Z, min_mass), 0)
    M = (anchors * p).sum(-1)
    # eq. apo-anchor-ratio
    ratio = scale * M
    return ratio, scale[..., None] * p * (anchors - M[..., None])


def apo(
    logits,
    old_logits,
    actions,
    advantage,
    mask,
    ref_logits,
    *,
    K=8,
    push=1.05,
    pull=0.1,
    clip_low=0.2,
    clip_high=0.2,
    clipping="push",
    min_mass=0.01,
):
    """APO loss: GRPO's with a rectified ratio on negative advantages.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of the current and the sampling policy.
    actions : array (B, T), integer below V
        The sampled tokens.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    ref_logits : array (B, T, V)
        Of the frozen reference.
    K : int
        Size of the support, in [1, inf).
    push, pull : float
        λ and β, in [0, inf).
    clip_low, clip_high : float
        Ratios earn between 1 - clip_low and 1 + clip_high; in (0, inf).
    clipping : {"push", "all"}
        Clip the push alone, or the rectified ratio.
    min_mass : float
        No pull where the reference gives the anchors less, in (0, 1].

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T, V)
        With respect to `logits`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, actions out of range, log-probabilities of current and sampling
        policy more than 30 apart, numbers out of range, an unknown `clipping`.
    """
    validate.integer("[1, inf)", K=K)
    validate.interval("[0, inf)", push=push, pull=pull)
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high)
    validate.choice(CLIPPINGS, clipping=clipping)
    validate.interval("(0, 1]", min_mass=min_mass)
    _, flags = validate.deferred(ROWS.inputs, logits, old_logits, actions, advantage, mask, ref_logits)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known, *near(logits, old_logits))

    log_p, log_old, ref_p = log_softmax(logits), log_softmax(old_logits), xp.exp(log_softmax(ref_logits))
    sampled = one_hot(actions, logits.shape[-1], logits.dtype)
    log_prob, old_log_prob = (log_p * sampled).sum(-1), (log_old * sampled).sum(-1)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    negative = (A < 0).astype(A.dtype)
    anchors = safe_manifold(ref_logits, K) * (1 - sampled)  # eq. apo-anchors
    r_anc, d_anc = anchor_ratio(xp.exp(log_p), ref_p, anchors, min_mass)
    lam, beta = 1 + (push - 1) * negative, pull * negative

    if clipping == "push":
        term, derivative = clip_surrogate(log_prob, old_log_prob, A, clip_low, clip_high)
        term, derivative, d_pull = lam * term - beta * r_anc * A, lam * derivative, -beta * A  # eq. apo-objective
    else:
        # eq. apo-clip-all
        ratio = xp.exp(log_prob - old_log_prob)
        rectified = lam * ratio - beta * r_anc  # eq. apo-rectified
        unclipped, clipped = rectified * A, xp.clip(rectified, 1 - clip_low, 1 + clip_high) * A
        moves = (unclipped <= clipped) * A
        term, derivative, d_pull = xp.minimum(unclipped, clipped), moves * lam * ratio, -beta * moves

    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()
    gradient = logit_gradient(logits, actions, w * derivative) + (w * d_pull)[..., None] * d_anc  # eq. apo-gradient
    return -J, -gradient


def support_coverage(logits, mask, ref_logits, *, K=8):
    """Mean over tokens of the policy's probability of the reference's support.

    Parameters
    ----------
    logits : array (B, T, V)
    mask : array (B, T), 0 or 1
    ref_logits : array (B, T, V)
    K : int
        Size of the support, in [1, inf).

    Returns
    -------
    scalar array
        0 if there are no tokens.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, K below 1.
    """
    validate.inputs(SUPPORT.inputs, logits, mask, ref_logits)
    validate.integer("[1, inf)", K=K)
    p = xp.exp(log_softmax(logits))
    inside = (p * safe_manifold(ref_logits, K)).sum(-1)
    return (token_weights(mask, "token_mean") * inside).sum()  # eq. apo-coverage


def _coverage_by_loops(logits, mask, ref_logits, *, K=8):
    covered = []
    for index, m in zip(xp.ndindex(mask.shape), mask.ravel(), strict=True):
        if m:
            p = xp.exp(log_softmax(logits[index]))
            order = sorted(range(len(p)), key=lambda k: (-float(ref_logits[index][k]), k))
            covered.append(sum(float(p[k]) for k in order[:K]))
    return sum(covered) / max(len(covered), 1)


METHOD = Method(
    key="wang2026anchored",
    provenance={
        "partly": ("anchors", "anchor-ratio", "rectified", "gradient", "coverage"),
        "reconstructed": ("objective", "clip-all"),
    },
    functions=(
        Objective(
            f=apo,
            interface=ROWS,
            wrt="logits",
            settings={
                "default": {},
                "two anchors": {"K": 2, "pull": 0.5},
                "the rectified ratio clipped": {"K": 3, "clipping": "all"},
                "probe": {
                    "K": 3,
                    "push": 1.4,
                    "pull": 0.3,
                    "clip_low": 0.15,
                    "clip_high": 0.35,
                    "clipping": "all",
                    "min_mass": 0.3,
                },
            },
            deviations=(deviations.SAMPLED_TOKEN_ANCHORED,),
        ),
        Estimator(
            f=support_coverage,
            interface=SUPPORT,
            settings={"default": {}, "probe": {"K": 2}},
            brute_force=_coverage_by_loops,
        ),
    ),
)
