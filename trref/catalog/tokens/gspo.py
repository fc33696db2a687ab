"""What is known of `trref.tokens.gspo`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms, weighted
from trref.catalog.tokens.places import OVER_ANSWERS, fresh, of_one_token, one_advantage
from trref.tokens.gspo import gspo
from trref.tokens.terms import per_token, seq_mean, token_mean


def _mean_log_ratio(log_prob, old_log_prob, mask):
    return ((log_prob - old_log_prob) * mask).sum(1, keepdims=True) / xp.maximum(
        mask.sum(1, keepdims=True), 1
    )


def _of_answers(weight, term, derivative, mask, per_token):
    """Loss of weighted terms; the coefficient of a log-ratio (B, 1) is shared by the tokens: d ratio = per_token."""
    return -(weight * term).sum(), -mask * per_token * (weight * derivative).sum(
        1, keepdims=True
    )


def _sequence_clamp(
    log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4
):
    d = _mean_log_ratio(log_prob, old_log_prob, mask)
    term, derivative = clipped_terms(
        xp.minimum(d, 10.0), advantage, clip_low, clip_high
    )
    return weighted(seq_mean(mask), term, derivative * (d <= 10))


def _easy_r1(log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4):
    d = _mean_log_ratio(log_prob, old_log_prob, mask)
    free = abs(d) <= 20
    term, derivative = clipped_terms(
        xp.clip(d, -20.0, 20.0), advantage, clip_low, clip_high
    )
    A = per_token(advantage)
    lower = (A < 0) & (term < 3 * A)
    derivative = derivative * free * ~lower
    n = xp.maximum(mask.sum(1, keepdims=True), 1)
    return _of_answers(
        seq_mean(mask), xp.where(lower, 3 * A, term), derivative, mask, 1 / n
    )


def _sequence_sum(
    log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4
):
    d = ((log_prob - old_log_prob) * mask).sum(1, keepdims=True)
    return _of_answers(
        seq_mean(mask), *clipped_terms(d, advantage, clip_low, clip_high), mask, 1.0
    )


def _sequence_token_mean(
    log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4
):
    d, length = (
        _mean_log_ratio(log_prob, old_log_prob, mask),
        xp.maximum(mask.sum(1, keepdims=True), 1),
    )
    return _of_answers(
        token_mean(mask),
        *clipped_terms(d, advantage, clip_low, clip_high),
        mask,
        1 / length,
    )


SEQUENCE_CLAMP = Deviation(
    "log-ratio of the answer clamped at 10",
    _sequence_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_gspo",
    computes="the ratio of a log-ratio of at most 10, without gradient beyond; each token's coefficient is its own",
)


DUAL_CLIP = Deviation(
    "dual clip at 3 and the answer's log-ratio clamped to ±20",
    _easy_r1,
    seen_in="EasyR1 verl/trainer/core_algos.py, compute_policy_loss with loss_type='gspo' and loss_avg_mode='seq'",
    computes="for negative advantages no less than 3 times the advantage",
)


SEQUENCE_SUM = Deviation(
    "ratio of the whole answer, not normalised by its length",
    _sequence_sum,
    seen_in="a common slip in re-implementations; neither TRL nor verl has it",
    computes="the product of the token ratios in the place of their geometric mean",
)


SEQUENCE_TOKEN_MEAN = Deviation(
    "answers weighted by their lengths",
    _sequence_token_mean,
    seen_in="TRL trl/trainer/grpo_trainer.py, importance_sampling_level='sequence' under its default loss_type='dapo';"
    " AReaL 1.0.4 areal/utils/functional/functional.py, ppo_actor_loss_fn with importance_sampling_level='sequence'",
    computes="the mean over all tokens of their answers' terms: a long answer counts more",
    documented=True,
)


def _equal_ratios(inputs):
    """the tokens of an answer share ratio and advantage"""
    d = inputs["log_prob"] - inputs["old_log_prob"]
    return one_advantage({**inputs, "log_prob": inputs["old_log_prob"] + d[:, :1]})


WIDE = {
    "clip_low": 0.24,
    "clip_high": 0.24,
}  # no edge lies on these bounds, where means round


METHOD = Method(
    key="zheng2025group",
    provenance="confirmed",
    functions=(
        Objective(
            f=gspo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "wide": {"clip_low": 0.2, "clip_high": 0.28},
                "probe": {"clip_low": 0.15, "clip_high": 0.35},
            },
            limits=(
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=of_one_token),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=_equal_ratios),
                Limit("grpo.grpo", {}, where=fresh),
                Limit(
                    "gspo_token.gspo_token",
                    {},
                    {"clip_low": 3e-4, "clip_high": 4e-4},
                    where=one_advantage,
                ),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_ANSWERS,
                    where=fresh,
                    gradient_only=True,
                ),
            ),
            deviations=(
                SEQUENCE_CLAMP,
                DUAL_CLIP,
                SEQUENCE_SUM,
                SEQUENCE_TOKEN_MEAN,
            ),
        ),
    ),
)
