r"""Probability smoothing policy optimisation (PSPO): mix the policy with the old one before dividing, and clip nothing.

What differs from GRPO: there is no clip. Instead the ratio is taken of a mixture, as label smoothing with the old
policy as target,

.. math::
    :label: pspo-mixture

    \tilde\pi = (1 - \alpha)\, \pi + \alpha\, \pi^{old}

.. math::
    :label: pspo-ratio

    \tilde\rho = \frac{\tilde\pi}{\pi^{old}} = (1 - \alpha)\, \rho + \alpha

.. math::
    :label: pspo-objective

    J = \sum_{i,t} w_{i,t}\, \tilde\rho_{i,t}\, \hat A_i, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} = (1 - \alpha)\, w_{i,t}\, \rho_{i,t}\, \hat A_i

with the weights of :mod:`trref.tokens.grpo`. The ratio is pulled towards 1 and is flat nowhere. It is an affine
function of the plain one, and therefore :math:`J = (1 - \alpha) J_{IS} + \alpha \sum w \hat A` with :math:`J_{IS}` the
unclipped importance-sampling objective: the gradient is exactly :math:`1 - \alpha` times that of :math:`J_{IS}`
(on-policy, of REINFORCE): a change of the step size for gradient descent, and of nothing but Adam's epsilon for Adam.
The mixture is closer to the old policy,

.. math::
    :label: pspo-contraction

    TV(\tilde\pi, \pi^{old}) = (1 - \alpha)\, TV(\pi, \pi^{old}), \quad
    \chi^2(\tilde\pi \| \pi^{old}) = (1 - \alpha)^2 \chi^2(\pi \| \pi^{old}), \quad
    KL(\tilde\pi \| \pi^{old}) \le (1 - \alpha)\, KL(\pi \| \pi^{old})

and the same for :math:`KL(\pi^{old} \| \tilde\pi)`. That bounds the mixture, which lives only inside the loss, and not
the policy, which samples.

Two extensions are in :mod:`trref.tokens.pspo_extensions`.

**Where implementations differ.** The option for TRL (``trust_region_method="pspo"``, ``smoothing_alpha=0.1``) was never
released; its documentation agrees with the equations here. The runs that the paper compares had different learning
rates.

**Provenance.** The method and its constant are confirmed by a public review that restates them and by that
documentation; the equivalence and the contraction are derived and checked here.

Dwyer et al., *It's Not You, It's Clipping: A Soft Trust-Region via Probability Smoothing for LLM RL*, 2025,
arXiv:2509.21282.
"""

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, OVER_TOKENS, on_policy
from trref.nn.heads import log_softmax
from trref.tokens.deviations import pspo as deviations
from trref.tokens.f_divergences import generator
from trref.tokens.interfaces import TOKEN_OBJECTIVE, full_distribution, token_objective
from trref.tokens.terms import near, token_weights

__all__ = ["Contraction", "contraction", "pspo", "smooth", "smoothed_policy", "smoothed_ratio"]

PAIR = token_objective(without=("advantage", "mask"))
POLICIES = full_distribution(without=("actions", "advantage", "mask"))


class Contraction(NamedTuple):
    """Distances of the mixture from the old policy, each (B, T)."""

    total_variation: Any
    chi_square: Any
    reverse_kl: Any
    forward_kl: Any


def smoothed_policy(logits, old_logits, *, alpha=0.1):
    """Mixture of the policy and the old one: a distribution.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
    alpha : float
        Share of the old policy, in [0, 1).

    Returns
    -------
    array (B, T, V)
        Probabilities.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `alpha` out of range.
    """
    validate.inputs(POLICIES.inputs, logits, old_logits)
    validate.interval("[0, 1)", alpha=alpha)
    return (1 - alpha) * xp.exp(log_softmax(logits)) + alpha * xp.exp(log_softmax(old_logits))  # eq. pspo-mixture


def contraction(logits, old_logits, *, alpha=0.1):
    """Distances of the mixture from the old policy.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
    alpha : float
        In [0, 1).

    Returns
    -------
    Contraction
        Fields total_variation, chi_square, reverse_kl (mixture ‖ old), forward_kl (old ‖ mixture).

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `alpha` out of range.
    """
    _, flags = validate.deferred(POLICIES.inputs, logits, old_logits)
    validate.require(*flags, *near(logits, old_logits))
    validate.interval("[0, 1)", alpha=alpha)
    # eq. pspo-contraction
    log_old = log_softmax(old_logits)
    log_ratio = (
        xp.log1p((1 - alpha) * xp.expm1(log_softmax(logits) - log_old)) if alpha else log_softmax(logits) - log_old
    )
    kinds = ("total_variation", "pearson", "reverse_kl", "forward_kl")
    return Contraction(*((xp.exp(log_old) * generator.unchecked(log_ratio, kind)[0]).sum(-1) for kind in kinds))


def smoothed_ratio(log_prob, old_log_prob, *, alpha=0.1):
    """Ratio of the mixture to the old policy; never below `alpha`.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    alpha : float
        In [0, 1).

    Returns
    -------
    array (B, T)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `alpha` out of range.
    """
    validate.inputs(PAIR.inputs, log_prob, old_log_prob)
    validate.interval("[0, 1)", alpha=alpha)
    return smooth(xp.exp(log_prob - old_log_prob), alpha)


def smooth(ratio, alpha):
    """Building block, unchecked: `smoothed_ratio` of a ratio."""
    return (1 - alpha) * ratio + alpha  # eq. pspo-ratio


def pspo(log_prob, old_log_prob, advantage, mask, *, alpha=0.1, aggregation="seq_mean"):
    """PSPO loss; its gradient is 1 - alpha times that of the unclipped importance-sampling loss.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    alpha : float
        Share of the old policy, in [0, 1).
    aggregation : {"seq_mean", "token_mean"}
        The weights, as in `trref.tokens.grpo.token_weights`.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `alpha` out of range, an
        unknown aggregation.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("[0, 1)", alpha=alpha)
    validate.choice(("seq_mean", "token_mean"), aggregation=aggregation)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    ratio, w = xp.exp(log_prob - old_log_prob), token_weights(mask, aggregation)
    # eq. pspo-objective
    J = (w * (smooth(ratio, alpha) * A)).sum()
    dJ = (1 - alpha) * w * (ratio * A)

    return -J, -dJ


def _by_tokens(p, q, f):
    """f(p, q, rows of both) of every token's two distributions."""
    rows = zip(p.reshape(-1, p.shape[-1]).tolist(), q.reshape(-1, q.shape[-1]).tolist(), strict=True)
    return [f(*(_softmax(row) for row in pair)) for pair in rows]


def _softmax(z):
    weights = [math.exp(x - max(z)) for x in z]
    return [w / sum(weights) for w in weights]


def _mixture(logits, old_logits, *, alpha=0.1):
    mixed = _by_tokens(logits, old_logits, lambda p, q: [a - alpha * (a - b) for a, b in zip(p, q, strict=True)])
    return xp.array(mixed).reshape(logits.shape)


def _distances(logits, old_logits, *, alpha=0.1):
    """The first two from those of the policy itself, the other two from the mixture."""

    def distances(p, q):
        pairs = list(zip(p, q, strict=True))
        mixed = [(a - alpha * (a - b), b) for a, b in pairs]
        return (
            (1 - alpha) * sum(abs(a - b) for a, b in pairs) / 2,
            (1 - alpha) ** 2 * sum((a - b) ** 2 / b for a, b in pairs),
            sum(m * math.log(m / b) for m, b in mixed),
            sum(b * math.log(b / m) for m, b in mixed),
        )

    return xp.array(_by_tokens(logits, old_logits, distances)).T.reshape(4, *logits.shape[:2])


def _ratio_of_mixture(log_prob, old_log_prob, *, alpha=0.1):
    p, q = xp.exp(log_prob), xp.exp(old_log_prob)
    return ((1 - alpha) * p + alpha * q) / q


def _smaller_advantages(inputs):
    """GRPO's advantages are 1 - alpha times these"""
    return inputs, {**inputs, "advantage": 0.7 * inputs["advantage"]}


UNCLIPPED = {"clip_low": 1e14, "clip_high": 1e14}
PROBE = {"default": {}, "strong": {"alpha": 0.5}, "probe": {"alpha": 0.3}}
METHOD = Method(
    key="dwyer2025clipping",
    provenance={"confirmed": ("mixture", "ratio", "objective"), "reconstructed": ("contraction",)},
    functions=(
        Estimator(f=smoothed_policy, interface=POLICIES, settings=PROBE, brute_force=_mixture),
        Estimator(
            f=contraction, interface=POLICIES, settings={**PROBE, "none": {"alpha": 0.0}}, brute_force=_distances
        ),
        Estimator(f=smoothed_ratio, interface=PAIR, settings=PROBE, brute_force=_ratio_of_mixture),
        Objective(
            f=pspo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "token mean": {"aggregation": "token_mean"},
                "probe": {"alpha": 0.3, "aggregation": "token_mean"},
            },
            limits=(
                Limit(to="grpo.grpo", hyper={"alpha": 0.0}, to_hyper={"clip": 1e14}),
                Limit(to="dapo.dapo_over_batch", hyper={"alpha": 0.0, "aggregation": "token_mean"}, to_hyper=UNCLIPPED),
                Limit("grpo.grpo", {"alpha": 0.3}, {"clip": 1e14}, where=_smaller_advantages, gradient_only=True),
                Limit("reinforce.reinforce", {"alpha": 0.0}, OVER_ANSWERS, where=on_policy, gradient_only=True),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0, **OVER_TOKENS},
                    OVER_TOKENS,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
            deviations=(deviations.CLIP_KEPT, deviations.LOG_PROB_SMOOTHED),
        ),
    ),
)
