"""What is known of `trref.tokens.a3po`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, call
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms, weighted
from trref.catalog.tokens.places import OVER_TOKENS
from trref.tokens.a3po import a3po, decoupled, proximal_approximation
from trref.tokens.terms import per_token, token_mean


def _weight_absent(
    log_prob, old_log_prob, advantage, mask, behavior_log_prob, *, clip=0.2
):
    return weighted(
        token_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, clip, clip)
    )


def _anchor_differentiated(
    log_prob, advantage, mask, behavior_log_prob, version, *, current_version, clip=0.2
):
    d, age = (
        log_prob - behavior_log_prob,
        current_version - version.astype(log_prob.dtype),
    )
    alpha = xp.where(age >= 1, 1 - 1 / xp.maximum(age, 1), 0)
    term, derivative = clipped_terms((1 - alpha) * d, advantage, clip, clip)
    w, clipped = (
        xp.exp(alpha * d),
        term < xp.exp((1 - alpha) * d) * per_token(advantage),
    )
    return weighted(
        token_mean(mask), w * term, xp.where(clipped, alpha * w * term, w * derivative)
    )


WEIGHT_ABSENT = Deviation(
    "clipped around the proximal policy without the weight",
    _weight_absent,
    seen_in="AReaL 1.0.4 areal/utils/functional/functional.py, ppo_actor_loss_fn without rejection_sampling",
    computes="the clipped ratio to the proximal policy, as if that policy had sampled the tokens",
)
ANCHOR_DIFFERENTIATED = Deviation(
    "the interpolated anchor is differentiated",
    _anchor_differentiated,
    seen_in="a common slip in re-implementations; AReaL detaches it",
    computes="a gradient for clipped tokens, too; that of all others is the same",
)


def proximal_by_loops(
    log_prob, behavior_log_prob, version, *, current_version, interpolation="loglinear"
):
    v = current_version
    alpha = xp.array(
        [
            [(v - 1 - b) / (v - b) if b < v else 0.0 for b in row]
            for row in version.tolist()
        ]
    )
    p, b = xp.exp(log_prob), xp.exp(behavior_log_prob)
    return {
        "loglinear": alpha * log_prob + (1 - alpha) * behavior_log_prob,
        "linear": xp.log(alpha * p + (1 - alpha) * b),
        "rollout": behavior_log_prob,
    }[interpolation]


def all_equal(inputs):
    """all policies are equal"""
    sampled = inputs["behavior_log_prob"]
    return {**inputs, "log_prob": sampled, "old_log_prob": sampled}


def sampled_by_the_old_policy(inputs):
    """the old policy sampled"""
    return {**inputs, "behavior_log_prob": inputs["old_log_prob"]}


def around_the_sampling_policy(inputs):
    """PPO's old policy is the sampling one"""
    return {**inputs, "old_log_prob": inputs["behavior_log_prob"]}


def _of_the_last_version(inputs):
    """the last version sampled, PPO's old policy"""
    return {
        **around_the_sampling_policy(inputs),
        "version": xp.full_like(inputs["version"], 5),
    }


def _around_the_interpolation(inputs):
    """the proximal policy is the interpolated one"""
    return {**inputs, "old_log_prob": call(proximal_approximation, inputs, NOW)}


NOW = {"current_version": 6}
PPO = {"clip_low": 0.2, "clip_high": 0.2}
MASKED, CLAMPED = {"weight_cap": 1.1}, {"weight_cap": 1.3, "over_cap": "clamp"}
METHOD = Method(
    key="li2025a3po",
    provenance="confirmed",
    functions=(
        Estimator(
            f=proximal_approximation,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": NOW,
                "probability": {**NOW, "interpolation": "linear"},
                "just sampled": {"current_version": 3},
                "probe": {"current_version": 3, "interpolation": "rollout"},
            },
            brute_force=proximal_by_loops,
        ),
        Objective(
            f=decoupled,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "masked": MASKED,
                "probe": {"clip": 0.35, **CLAMPED},
            },
            limits=(
                Limit("dapo.dapo_over_batch", {}, PPO, where=sampled_by_the_old_policy),
                Limit(
                    "reinforce.reinforce",
                    {},
                    OVER_TOKENS,
                    where=all_equal,
                    gradient_only=True,
                ),
            ),
            deviations=(WEIGHT_ABSENT,),
        ),
        Objective(
            f=a3po,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            stopped={"proximal_log_prob": proximal_approximation},
            settings={
                "default": NOW,
                "probability": {**NOW, "interpolation": "linear"},
                "just sampled": {"current_version": 3},
                "masked": {**NOW, **MASKED},
                "probe": {
                    "current_version": 4,
                    "clip": 0.35,
                    "interpolation": "rollout",
                    **CLAMPED,
                },
            },
            limits=(
                Limit("a3po.decoupled", NOW, where=_around_the_interpolation),
                Limit("dapo.dapo_over_batch", NOW, PPO, where=_of_the_last_version),
                Limit(
                    "dapo.dapo_over_batch",
                    {"interpolation": "rollout"},
                    PPO,
                    where=around_the_sampling_policy,
                ),
                Limit(
                    "reinforce.reinforce",
                    NOW,
                    OVER_TOKENS,
                    where=all_equal,
                    gradient_only=True,
                ),
            ),
            deviations=(ANCHOR_DIFFERENTIATED,),
        ),
    ),
)
