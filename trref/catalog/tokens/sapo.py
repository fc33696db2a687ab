"""What is known of `trref.tokens.sapo`."""

from trref.backend import special, xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import weighted
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, on_policy
from trref.tokens.gspo import mean_log_ratio
from trref.tokens.sapo import sapo
from trref.tokens.terms import per_token, seq_mean, token_mean


def _gated(log_ratio, A, tau_pos, tau_neg):
    """The gated term and its derivative by the log-ratio."""
    tau, ratio = xp.where(A > 0, tau_pos, tau_neg), xp.exp(log_ratio)
    x = tau * (ratio - 1)
    slope = 4 * special.expit(x) * special.expit(-x)
    return 4 / tau * special.expit(x) * A, ratio * slope * A


def over_all_tokens(
    log_prob, old_log_prob, advantage, mask, *, tau_pos=1.0, tau_neg=1.05
):
    terms = _gated(log_prob - old_log_prob, per_token(advantage), tau_pos, tau_neg)
    return weighted(token_mean(mask), *terms)


def ratio_of_the_answer(
    log_prob, old_log_prob, advantage, mask, *, tau_pos=1.0, tau_neg=1.05
):
    log_s = mean_log_ratio.unchecked(log_prob, old_log_prob, mask)[:, None]
    term, derivative = _gated(log_s, per_token(advantage), tau_pos, tau_neg)
    w, share = seq_mean(mask), mask / xp.maximum(mask.sum(1, keepdims=True), 1)
    shared = share * (w * derivative).sum(1, keepdims=True)
    return -(w * term).sum(), -shared


def without_the_scale(
    log_prob, old_log_prob, advantage, mask, *, tau_pos=1.0, tau_neg=1.05
):
    A = per_token(advantage)
    scale = xp.where(A > 0, tau_pos, tau_neg) / 4
    terms = _gated(log_prob - old_log_prob, A, tau_pos, tau_neg)
    return weighted(scale * seq_mean(mask), *terms)


OVER_ALL_TOKENS = Deviation(
    "mean over all tokens",
    over_all_tokens,
    seen_in="AReaL 1.0.4 areal/utils/functional/functional.py, sapo_loss_fn",
    computes="the same terms, averaged over tokens in the place of answers",
)
RATIO_OF_THE_ANSWER = Deviation(
    "the gate of the answer's ratio",
    ratio_of_the_answer,
    seen_in="TRL 1.16.0 trl/trainer/grpo_trainer.py, loss_type='sapo' with importance_sampling_level='sequence'",
    computes="the gate of the geometric mean of the token ratios",
)
WITHOUT_THE_SCALE = Deviation(
    "the gate without 4/τ",
    without_the_scale,
    seen_in="ms-swift, its documentation of loss types; its code has the factor",
    computes="a sigmoid whose slope on-policy is τ/4 in the place of 1",
)


def moderate_ratios(inputs):
    """ratios between 1/20 and 20"""
    moved = xp.clip(inputs["log_prob"] - inputs["old_log_prob"], -3, 3)
    return {**inputs, "log_prob": inputs["old_log_prob"] + moved}


METHOD = Method(
    key="gao2025soft",
    provenance="confirmed",
    functions=(
        Objective(
            f=sapo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "narrow": {"tau_pos": 5.0, "tau_neg": 10.0},
                "probe": {"tau_pos": 0.7, "tau_neg": 2.5},
            },
            limits=(
                Limit(
                    "grpo.grpo",
                    {"tau_pos": 1e-7, "tau_neg": 1e-7},
                    {"clip": 1e14},
                    where=moderate_ratios,
                    gradient_only=True,
                ),
                Limit("grpo.grpo", {}, where=on_policy, gradient_only=True),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(OVER_ALL_TOKENS, RATIO_OF_THE_ANSWER, WITHOUT_THE_SCALE),
        ),
    ),
)
