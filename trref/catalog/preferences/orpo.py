"""What is known of `trref.preferences.orpo`."""

from trref.backend import special, xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.preferences.interfaces import PREFERENCE_PAIR, WITHOUT_TOKENS
from trref.catalog.preferences.places import of_one_token
from trref.preferences.orpo import odds_ratio_loss, orpo
from trref.preferences.terms import PairGradient, softplus


def improbable(inputs):
    """every token is all but impossible"""
    down = {
        side: inputs[f"{side}_log_prob"] - 45 * inputs[f"{side}_length"]
        for side in ("chosen", "rejected")
    }
    return {**inputs, **{f"{side}_log_prob": x for side, x in down.items()}}


def over_all_tokens(*, odds_weight=0.1, **inputs):
    odds, (d_chosen, d_rejected) = odds_ratio_loss(**inputs)
    tokens = inputs["chosen_length"].sum()
    loss = odds_weight * odds - inputs["chosen_log_prob"].sum() / tokens
    return loss, PairGradient(
        odds_weight * d_chosen - 1 / tokens, odds_weight * d_rejected
    )


def without_likelihood(*, odds_weight=0.1, **inputs):
    odds, (d_chosen, d_rejected) = odds_ratio_loss(**inputs)
    return odds_weight * odds, PairGradient(
        odds_weight * d_chosen, odds_weight * d_rejected
    )


def odds_of_sums(*, odds_weight=0.1, **inputs):
    odds, (d_chosen, d_rejected) = odds_ratio_loss(**of_one_token(inputs))
    B, length = len(d_chosen), inputs["chosen_length"]
    loss = odds_weight * odds - (inputs["chosen_log_prob"] / length).sum() / B
    return loss, PairGradient(
        odds_weight * d_chosen - 1 / (B * length), odds_weight * d_rejected
    )


def shifted_complement(
    chosen_log_prob,
    rejected_log_prob,
    chosen_length,
    rejected_length,
    *,
    odds_weight=0.1,
):
    B = len(chosen_log_prob)
    a_w, a_l = chosen_log_prob / chosen_length, rejected_log_prob / rejected_length
    rest_w, rest_l = 1.0001 - xp.exp(a_w), 1.0001 - xp.exp(a_l)
    o = a_w - xp.log(rest_w) - a_l + xp.log(rest_l)
    slope = -odds_weight * special.expit(-o)
    d_w, d_l = (
        slope * (1 + xp.exp(a_w) / rest_w) - 1,
        -slope * (1 + xp.exp(a_l) / rest_l),
    )
    loss = (odds_weight * softplus(-o) - a_w).sum() / B
    return loss, PairGradient(d_w / (B * chosen_length), d_l / (B * rejected_length))


PAIR = ("chosen_log_prob", "rejected_log_prob")


def _certain():
    log_prob, length = xp.array([-1.0, 0.0]), xp.array([1.0, 2.0])
    inputs = {"chosen_log_prob": log_prob, "rejected_log_prob": log_prob - 1.0}
    return {**inputs, "chosen_length": length, "rejected_length": length}, {}


METHOD = Method(
    key="hong2024orpo",
    provenance="confirmed",
    functions=(
        Objective(
            f=odds_ratio_loss,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            limits=(
                Limit("simpo.simpo", {}, {"beta": 1.0, "gamma": 0.0}, where=improbable),
            ),
            refused={"a certain answer": _certain, **WITHOUT_TOKENS},
        ),
        Objective(
            f=orpo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={
                "default": {},
                "likelihood alone": {"odds_weight": 0.0},
                "probe": {"odds_weight": 0.35},
            },
            refused={"a certain answer": _certain, **WITHOUT_TOKENS},
            deviations=(
                Deviation(
                    "likelihood over all tokens of the batch",
                    over_all_tokens,
                    seen_in="xfactlab/orpo src/orpo_trainer.py, TRL 1.16.0 trl/experimental/orpo/orpo_trainer.py",
                    computes="one mean over all tokens (in TRL the prompt's, too) in the place of the mean of means",
                ),
                Deviation(
                    "without the likelihood",
                    without_likelihood,
                    seen_in="turbo-alignment before pull request 24, mlx-lm-lora (issue 65)",
                    computes="the odds ratio's loss alone",
                ),
                Deviation(
                    "odds of the whole answers",
                    odds_of_sums,
                    seen_in="a slip in re-implementations; none of the public implementations read has it",
                    computes="the odds of sums of log-probabilities, which are those of a probability near 0",
                ),
                Deviation(
                    "1.0001 - P",
                    shifted_complement,
                    seen_in="ColossalAI applications/ColossalChat/coati/models/loss.py, OddsRatioLoss",
                    computes="log(1.0001 - P) in the place of log(1 - P); there of single tokens",
                ),
            ),
        ),
    ),
)
