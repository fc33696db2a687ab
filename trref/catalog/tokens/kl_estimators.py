"""What is known of `trref.tokens.kl_estimators`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import (
    OVER_ANSWERS,
    OVER_TOKENS,
    at_the_reference,
    on_policy,
)
from trref.tokens.kl_estimators import (
    grpo_with_kl,
    kl_in_loss,
    kl_in_reward,
    kl_off_policy,
    reward_charge,
)
from trref.tokens.terms import token_mean


def _k3(log_prob, ref_log_prob):
    d = ref_log_prob - log_prob
    return xp.exp(d) - d - 1, 1 - xp.exp(d)


def _k3_clamp(log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    free = abs(d) <= 20
    d = xp.clip(d, -20.0, 20.0)
    k = xp.exp(d) - d - 1
    free = free & (k <= 10)
    w = token_mean(mask)
    return (w * xp.minimum(k, 10.0)).sum(), w * (1 - xp.exp(d)) * free


def _all_clamped(log_prob, mask, ref_log_prob, *, estimator="k3"):
    d = ref_log_prob - log_prob
    safe = xp.minimum(d, 10.0)
    k, dk = {
        "k1": (-d, xp.ones_like(d)),
        "k2": (d**2 / 2, -d),
        "k3": (xp.exp(safe) - safe - 1, 1 - xp.exp(safe)),
    }[estimator]
    w = token_mean(mask)
    return (w * xp.clip(k, -10.0, 10.0)).sum(), w * dk * (abs(k) <= 10)


def _k3_straight_through(log_prob, mask, ref_log_prob):
    w = token_mean(mask)
    return (w * xp.minimum(_k3(log_prob, ref_log_prob)[0], 10.0)).sum(), w * (
        log_prob - ref_log_prob
    )


def _absolute(log_prob, mask, ref_log_prob):
    d, w = log_prob - ref_log_prob, token_mean(mask)
    return (w * abs(d)).sum(), w * xp.sign(d)


def _uncorrected_k3(log_prob, old_log_prob, mask, ref_log_prob):
    k, dk = _k3(log_prob, ref_log_prob)
    w = token_mean(mask)
    return (w * k).sum(), w * dk


K3_CLAMP = Deviation(
    "k3 clamped to ±10",
    _k3_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty_forward 'low_var_kl' and 'k3'; EasyR1 compute_kl,"
    " SkyRL 0.4.0 and ROLL compute_approx_kl",
    computes="no more than 10 a token, without gradient beyond",
)


ALL_CLAMPED = Deviation(
    "every estimate clamped to ±10",
    _all_clamped,
    seen_in="OpenRLHF 0.11.2 openrlhf/models/utils.py, compute_approx_kl (in float32)",
    computes="no more than ±10 a token, by any estimate, without gradient beyond",
)


K3_STRAIGHT_THROUGH = Deviation(
    "value of k3, gradient of k2",
    _k3_straight_through,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty 'k3+'",
    computes="the non-negative value of k3, at most 10 a token, with the gradient that is right on policy",
    documented=True,
)


ABSOLUTE = Deviation(
    "absolute log-ratio",
    _absolute,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, kl_penalty_forward 'abs'; SkyRL 0.4.0 compute_approx_kl",
    computes="the distance of the log-probabilities, whose mean is no divergence",
    documented=True,
)


UNCORRECTED_K3 = Deviation(
    "k3 without the ratio",
    _uncorrected_k3,
    seen_in="TRL trl/trainer/grpo_trainer.py without use_bias_correction_kl",
    computes="plain k3 on tokens of the old policy, whose mean is neither the divergence nor its gradient",
    documented=True,
)


def _from_the_old_policy(inputs):
    """the reference is the old policy"""
    return {**inputs, "ref_log_prob": inputs["old_log_prob"]}


def _all_equal(inputs):
    """all policies are equal"""
    return on_policy(_from_the_old_policy(inputs))


def _charged(inputs):
    """REINFORCE's advantage is minus the estimate"""
    return {
        **inputs,
        "advantage": -reward_charge(inputs["log_prob"], inputs["ref_log_prob"]),
    }


EACH = {k: {"estimator": k} for k in ("k1", "k2", "k3")}


METHOD = Method(
    key="schulman2020approximating",
    provenance="confirmed",
    functions=(
        Objective(
            f=kl_in_loss,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "k1": EACH["k1"],
                "k2": EACH["k2"],
                "probe": EACH["k2"],
            },
            limits=(
                Limit(
                    "kl_estimators.kl_in_reward",
                    EACH["k2"],
                    EACH["k1"],
                    gradient_only=True,
                ),
            ),
            deviations=(K3_CLAMP, ALL_CLAMPED, K3_STRAIGHT_THROUGH, ABSOLUTE),
        ),
        Objective(
            f=kl_in_reward,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"charge": reward_charge},
            settings={
                "default": {},
                "k2": EACH["k2"],
                "k3": EACH["k3"],
                "probe": EACH["k3"],
            },
            limits=(Limit("reinforce.reinforce", {}, OVER_TOKENS, where=_charged),),
        ),
        Objective(
            f=kl_off_policy,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            limits=(
                Limit(
                    "f_divergences.divergence_from_samples",
                    {},
                    where=_from_the_old_policy,
                ),
                Limit(
                    "kl_estimators.kl_in_loss",
                    {},
                    EACH["k2"],
                    where=on_policy,
                    gradient_only=True,
                ),
            ),
            deviations=(UNCORRECTED_K3,),
        ),
        Objective(
            f=grpo_with_kl,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "k1": EACH["k1"],
                "k2": EACH["k2"],
                "probe": {"clip": 0.35, "kl_weight": 0.3, "estimator": "k2"},
            },
            limits=(
                Limit("grpo.grpo", {"kl_weight": 0.0}),
                *(
                    Limit("grpo.grpo", EACH[k], where=at_the_reference)
                    for k in ("k2", "k3")
                ),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_ANSWERS,
                    where=_all_equal,
                    gradient_only=True,
                ),
            ),
        ),
    ),
)
