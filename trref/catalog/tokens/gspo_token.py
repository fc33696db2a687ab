"""What is known of `trref.tokens.gspo_token`."""

from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.gspo import SEQUENCE_CLAMP
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import (
    REINFORCE_OVER_ANSWERS,
    of_one_token,
    on_policy,
    one_advantage,
)
from trref.tokens.gspo import gspo, mean_log_ratio
from trref.tokens.gspo_token import gspo_token
from trref.tokens.terms import clip_surrogate, token_mean


def _held(log_prob):
    return log_prob.copy()


def gradient_through_the_ratio(
    log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4
):
    clips = {"clip_low": clip_low, "clip_high": clip_high}
    return gspo.unchecked(log_prob, old_log_prob, advantage, mask, **clips)


def over_all_tokens(
    log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4
):
    log_s = mean_log_ratio.unchecked(log_prob, old_log_prob, mask)[:, None]
    terms = clip_surrogate(log_s, 0 * log_s, advantage, clip_low, clip_high)
    return weighted(token_mean(mask), *terms)


GRADIENT_THROUGH_THE_RATIO = Deviation(
    "the gradient goes through the answer's ratio",
    gradient_through_the_ratio,
    seen_in="TRL 1.16.0 trl/trainer/grpo_trainer.py, importance_sampling_level='sequence' under loss_type='grpo'",
    computes="GSPO: each token gets the mean of the coefficients of its answer",
    documented=True,
)
OVER_ALL_TOKENS = Deviation(
    "mean over all tokens",
    over_all_tokens,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_gspo under its default loss_agg_mode",
    computes="the same terms, averaged over tokens in the place of answers: long answers count more",
    documented=True,
)
WIDE = {"clip_low": 0.24, "clip_high": 0.24}  # no edge lies on these bounds
SAME = {"clip_low": 3e-4, "clip_high": 4e-4}
METHOD = Method(
    key="zheng2025group",
    provenance="confirmed",
    functions=(
        Objective(
            f=gspo_token,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"log_ratio": mean_log_ratio, "held_log_prob": _held},
            settings={
                "default": {},
                "wide": {"clip_low": 0.2, "clip_high": 0.28},
                "probe": {"clip_low": 0.15, "clip_high": 0.35},
            },
            limits=(
                Limit("gspo.gspo", {}, SAME, where=one_advantage),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=of_one_token),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=on_policy),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(SEQUENCE_CLAMP, GRADIENT_THROUGH_THE_RATIO, OVER_ALL_TOKENS),
        ),
    ),
)
