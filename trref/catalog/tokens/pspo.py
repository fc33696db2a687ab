"""What is known of `trref.tokens.pspo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import (
    FULL_DISTRIBUTION,
    TOKEN_OBJECTIVE,
    with_edges,
)
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import (
    OVER_ANSWERS,
    OVER_TOKENS,
    of_one_token,
    on_policy,
)
from trref.tokens.pspo import (
    contraction,
    pspo,
    pspo_clipped,
    pspo_sequence,
    smoothed_policy,
    smoothed_ratio,
)
from trref.tokens.terms import per_token, seq_mean


def _clip_kept(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    return pspo_clipped(log_prob, old_log_prob, advantage, mask, alpha=alpha)


def _log_prob_smoothed(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    term = xp.exp((1 - alpha) * (log_prob - old_log_prob)) * per_token(advantage)
    return weighted(seq_mean(mask), term, (1 - alpha) * term)


CLIP_KEPT = Deviation(
    "the clip at 0.2 is kept",
    _clip_kept,
    seen_in="a slip to expect where the ratio of a clipped loss is replaced; not seen in public code",
    computes="the smoothed ratio under GRPO's clip: a wider clip of the plain ratio",
)


LOG_PROB_SMOOTHED = Deviation(
    "log-probabilities are mixed in the place of probabilities",
    _log_prob_smoothed,
    seen_in="a slip to expect; not seen in public code",
    computes="the ratio to the power 1 - alpha, which is not a mixture: the gradient's direction changes",
)


def _by_tokens(p, q, f):
    """f(p, q, rows of both) of every token's two distributions."""
    rows = zip(
        p.reshape(-1, p.shape[-1]).tolist(),
        q.reshape(-1, q.shape[-1]).tolist(),
        strict=True,
    )
    return [f(*(_softmax(row) for row in pair)) for pair in rows]


def _softmax(z):
    weights = [math.exp(x - max(z)) for x in z]
    return [w / sum(weights) for w in weights]


def _mixture(logits, old_logits, *, alpha=0.1):
    mixed = _by_tokens(
        logits,
        old_logits,
        lambda p, q: [a - alpha * (a - b) for a, b in zip(p, q, strict=True)],
    )
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

    return xp.array(_by_tokens(logits, old_logits, distances)).T.reshape(
        4, *logits.shape[:2]
    )


def _ratio_of_mixture(log_prob, old_log_prob, *, alpha=0.1):
    p, q = xp.exp(log_prob), xp.exp(old_log_prob)
    return ((1 - alpha) * p + alpha * q) / q


def _smaller_advantages(inputs):
    """GRPO's advantages are 1 - alpha times these"""
    return inputs, {**inputs, "advantage": 0.7 * inputs["advantage"]}


UNCLIPPED = {"clip_low": 1e14, "clip_high": 1e14}


PROBE = {"default": {}, "strong": {"alpha": 0.5}, "probe": {"alpha": 0.3}}


# far off policy a product of ratios explodes
MODERATE = with_edges(
    TOKEN_OBJECTIVE,
    *(name for name in TOKEN_OBJECTIVE.edges if name != "far off policy"),
)
METHOD = Method(
    key="dwyer2025clipping",
    provenance={
        "confirmed": ("mixture", "ratio", "objective"),
        "reconstructed": ("contraction", "sequence", "clip"),
    },
    functions=(
        Estimator(
            f=smoothed_policy,
            interface=FULL_DISTRIBUTION,
            settings=PROBE,
            brute_force=_mixture,
        ),
        Estimator(
            f=contraction,
            interface=FULL_DISTRIBUTION,
            settings={**PROBE, "none": {"alpha": 0.0}},
            brute_force=_distances,
            refused={
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Estimator(
            f=smoothed_ratio,
            interface=TOKEN_OBJECTIVE,
            settings=PROBE,
            brute_force=_ratio_of_mixture,
        ),
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
                Limit(
                    to="dapo.dapo_over_batch",
                    hyper={"alpha": 0.0, "aggregation": "token_mean"},
                    to_hyper=UNCLIPPED,
                ),
                Limit(
                    "grpo.grpo",
                    {"alpha": 0.3},
                    {"clip": 1e14},
                    where=_smaller_advantages,
                    gradient_only=True,
                ),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0},
                    OVER_ANSWERS,
                    where=on_policy,
                    gradient_only=True,
                ),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0, **OVER_TOKENS},
                    OVER_TOKENS,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
            deviations=(CLIP_KEPT, LOG_PROB_SMOOTHED),
        ),
        Objective(
            f=pspo_sequence,
            interface=MODERATE,
            wrt="log_prob",
            settings={
                "default": {},
                "unsmoothed": {"alpha": 0.0},
                "probe": {"alpha": 0.3},
            },
            limits=(
                Limit("pspo.pspo", {}, where=of_one_token),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0},
                    {},
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
            refused={
                "an answer far likelier than before": {
                    "log_prob": lambda log_prob: log_prob + 25,
                    "mask": 1,
                },
            },
        ),
        Objective(
            f=pspo_clipped,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"alpha": 0.3, "clip": 0.35}},
            limits=(
                Limit("grpo.grpo", {"alpha": 0.0, "clip": 0.2}),
                Limit("pspo.pspo", {"clip": 1e14}),
                Limit(
                    "reinforce.reinforce",
                    {"alpha": 0.0},
                    OVER_ANSWERS,
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
        ),
    ),
)
