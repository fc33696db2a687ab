"""What is known of `trref.tokens.luspo`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import (
    equal_lengths,
    fresh,
    of_one_token,
    one_advantage,
)
from trref.tokens.luspo import luspo
from trref.tokens.terms import clip_surrogate


def token_ratios(
    log_prob, old_log_prob, advantage, mask, *, clip_low=2e-3, clip_high=2.5e-3
):
    terms = clip_surrogate(log_prob, old_log_prob, advantage, clip_low, clip_high)
    return weighted(mask / len(mask), *terms)


def over_the_padded_width(
    log_prob, old_log_prob, advantage, mask, *, clip_low=2e-3, clip_high=2.5e-3
):
    terms = clip_surrogate(log_prob, old_log_prob, advantage, clip_low, clip_high)
    each = mask.sum(1, keepdims=True) / mask.size
    return weighted(each + xp.zeros_like(mask), *terms)


def over_the_mean_length(
    log_prob, old_log_prob, advantage, mask, *, clip_low=2e-3, clip_high=2.5e-3
):
    clips = {"clip_low": clip_low, "clip_high": clip_high}
    value, gradient = luspo.unchecked(log_prob, old_log_prob, advantage, mask, **clips)
    mean_length = xp.maximum(mask.sum(), 1) / len(mask)
    return value / mean_length, gradient / mean_length


TOKEN_RATIOS = Deviation(
    "the ratio of each token",
    token_ratios,
    seen_in="TRL 1.16.0 trl/trainer/grpo_trainer.py, loss_type='luspo' under its default importance_sampling_level",
    computes="the mean over answers of the sum of clipped token terms: Dr. GRPO with a constant of 1",
    documented=True,
)
OVER_THE_PADDED_WIDTH = Deviation(
    "the ratio of each token, averaged over the padded width",
    over_the_padded_width,
    seen_in="Liger-Kernel, early 2026, its loss_type 'luspo' under importance_sampling_level='token'",
    computes="token terms times the answer's length, averaged over all positions of the batch, padding included",
)
OVER_THE_MEAN_LENGTH = Deviation(
    "divided by the batch's mean length",
    over_the_mean_length,
    seen_in="TRL 1.16.0 trl/trainer/grpo_trainer.py, importance_sampling_level='sequence' under loss_type='dapo'",
    computes="the mean over all tokens of their answers' terms, which for answers of one length is GSPO",
    documented=True,
)


def length_in_the_advantage(inputs):
    """GSPO's advantages are multiplied by the lengths"""
    inputs = one_advantage(inputs)
    length = inputs["mask"].sum(1)
    return inputs, {**inputs, "advantage": length * inputs["advantage"]}


def times_the_length(inputs):
    """times the length"""
    return inputs["mask"].shape[1]


WIDE = {"clip_low": 0.24, "clip_high": 0.24}  # no edge lies on these bounds
SAME = {"clip_low": 2e-3, "clip_high": 2.5e-3}
METHOD = Method(
    key="liu2026length",
    provenance="partly",
    functions=(
        Objective(
            f=luspo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "wide": {"clip_low": 0.2, "clip_high": 0.25},
                "probe": {"clip_low": 0.15, "clip_high": 0.35},
            },
            limits=(
                Limit("gspo.gspo", {}, SAME, where=length_in_the_advantage),
                Limit(
                    "gspo.gspo",
                    {},
                    SAME,
                    where=equal_lengths,
                    factor=times_the_length,
                ),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=of_one_token),
                Limit("reinforce.reinforce", {}, where=fresh, gradient_only=True),
                Limit("dr_grpo.dr_grpo", {}, {"max_length": 1}, where=fresh),
            ),
            deviations=(TOKEN_RATIOS, OVER_THE_PADDED_WIDTH, OVER_THE_MEAN_LENGTH),
        ),
    ),
)
