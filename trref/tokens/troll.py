r"""TROLL: project each token's distribution onto a KL ball, and differentiate through the projection.

What differs from GRPO: no clip. Where the new distribution :math:`p` of a token is further than :math:`\varepsilon`
from the old one :math:`q`, the ratio is that of its projection :math:`\tilde\pi` onto the ball
:math:`KL(\cdot \| q) \le \varepsilon` (:mod:`trref.tokens.kl_projection`), and the gradient goes through the
projection. A second term pulls the raw policy to its own projection, which is held constant:

.. math::
    :label: troll-objective

    J = \frac1{\sum |y_j|} \sum_{i,t} m_{i,t} \Big[ \frac{\tilde\pi(y)}{q(y)}\, \hat A
    - \alpha\, KL\big(p \,\|\, \mathrm{sg}[\tilde\pi]\big) \Big]

.. math::
    :label: troll-parts

    v = \frac{\tilde\pi(y)}{q(y)} \hat A\, (e_y - \tilde\pi), \qquad
    \frac{\partial KL(p \| \mathrm{sg}[\tilde\pi])}{\partial z}
    = p \odot \Big( \log \frac p{\tilde\pi} - KL(p \| \tilde\pi) \Big)

At scale only a support is kept: the top tokens of p and of q until their mass reaches :math:`1 - 10^{-5}` or K are
taken, and the sampled one. All others share one default log-probability:

.. math::
    :label: troll-support

    S = S_K(p) \cup S_K(q) \cup \{y\}, \qquad \log p_k \leftarrow \log 10^{-12} \;\text{ for } k \notin S,
    \text{ renormalised}

**Where implementations differ.** A public port (the TRPL loss of a prime-rl fork) detaches the projected ratio and
takes the gradient of the raw log-probability. Holding :math:`\eta` constant drops the second term of the gradient, and
is biased. A public note exchanges old and new in the projection: then :math:`\eta \to \infty` gives the new policy. The
projection is continuous at the ball's surface, its gradient is not.

**Provenance.** Confirmed by the authors' project page: projection, root, objective, defaults, support. The closed-form
gradient is derived here (the page mentions one without printing it) and checked; the default of the support is the
port's.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.deviations import troll as deviations
from trref.tokens.f_divergences import near
from trref.tokens.grpo import token_weights
from trref.tokens.interfaces import FULL_DISTRIBUTION, full_distribution
from trref.tokens.kl_projection import project_kl, project_rows, pull_back

__all__ = ["sparsify", "support", "troll"]

SUPPORT = full_distribution(without=("advantage", "mask"))


def troll(logits, old_logits, actions, advantage, mask, *, radius=0.05, alpha=1.0, projection=None):
    """TROLL loss: the mean over all tokens.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of the current and the sampling policy.
    actions : array (B, T), integer below V
        The tokens.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
    radius : float
        Of the trust region, in nats, in (0, inf).
    alpha : float
        Weight of the pull to the projection, in [0, inf).
    projection : array (B, T, V), optional
        Log-probabilities that the policy is pulled to, held constant; those of `project_kl` if not given.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T, V)
        With respect to `logits`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, actions or numbers out of
        range.
    """
    _, flags = validate.deferred(FULL_DISTRIBUTION.inputs, logits, old_logits, actions, advantage, mask)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known, near(logits, old_logits))
    validate.interval("(0, inf)", radius=radius)
    validate.interval("[0, inf)", alpha=alpha)
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    projected = project_rows(log_p, log_q, radius)
    target = projected.log_prob if projection is None else projection
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    w, e = token_weights(mask, "token_mean"), one_hot(actions, logits.shape[-1], logits.dtype)

    ratio = xp.exp(((projected.log_prob - log_q) * e).sum(-1))
    p, gap = xp.exp(log_p), log_p - target
    kl = (p * gap).sum(-1)
    J = (w * (ratio * A - alpha * kl)).sum()  # eq. troll-objective

    # eq. troll-parts
    v = (ratio * A)[..., None] * (e - xp.exp(projected.log_prob))
    dJ = pull_back(log_p, log_q, projected, v) - alpha * p * (gap - kl[..., None])

    return -J, -w[..., None] * dJ


def support(logits, old_logits, actions, *, K=64, mass=1 - 1e-5):
    """Which tokens to keep: the top ones of either policy, and the sampled one.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
    actions : array (B, T), integer below V
    K : int
        At most so many of each policy, at least 1.
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
    # eq. troll-support
    for z in (logits, old_logits):
        p = xp.exp(log_softmax(z))
        order = xp.argsort(-p, axis=-1)
        ranked = xp.take_along_axis(p, order, -1)
        top = (xp.cumsum(ranked, axis=-1) - ranked < mass) & (xp.arange(p.shape[-1]) < K)
        keep = xp.maximum(keep, xp.take_along_axis(top, xp.argsort(order, axis=-1), -1).astype(keep.dtype))

    return keep


def sparsify(log_p, keep, *, floor=1e-12):
    """Building block, unchecked: one default log-probability for all tokens that are not kept, renormalised."""
    return log_softmax(xp.where(keep > 0, log_p, math.log(floor)))


def _support_by_counting(logits, old_logits, actions, *, K=64, mass=1 - 1e-5):
    keep = one_hot(actions, logits.shape[-1], logits.dtype)
    for z in (logits, old_logits):
        p = xp.exp(log_softmax(z))
        for b in range(p.shape[0]):
            for t in range(p.shape[1]):
                total = 0.0
                for k in sorted(range(p.shape[2]), key=lambda k: -p[b, t, k])[:K]:
                    if total < mass:
                        keep[b, t, k] = 1.0
                    total += float(p[b, t, k])
    return keep


METHOD = Method(
    title="TROLL: Trust Regions improve Reinforcement Learning for Large Language Models",
    key="becker2025troll",
    arxiv="2510.03817",
    provenance={"confirmed": ("objective",), "partly": ("support",), "reconstructed": ("parts",)},
    functions=(
        Objective(
            f=troll,
            interface=FULL_DISTRIBUTION,
            wrt="logits",
            stopped={"projection": project_kl},
            settings={"default": {}, "probe": {"radius": 0.3, "alpha": 0.4}},
            deviations=(deviations.MULTIPLIER_CONSTANT, deviations.PROJECTED_RATIO_DETACHED),
        ),
        Estimator(
            f=support,
            interface=SUPPORT,
            settings={"default": {}, "probe": {"K": 3, "mass": 0.8}},
            brute_force=_support_by_counting,
        ),
    ),
)
