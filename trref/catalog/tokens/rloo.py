"""What is known of `trref.tokens.rloo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import clipped_terms, weighted
from trref.catalog.tokens.places import of_one_token, on_policy
from trref.tokens.rloo import charged_reward, leave_one_out, rloo
from trref.tokens.terms import group_mean, token_mean


def _others_by_loops(reward, group):
    found = []
    for i, g in enumerate(group):
        others = [
            float(r) for j, r in enumerate(reward) if group[j] == g and j != i
        ] or [float(reward[i])]
        gaps = [float(reward[i]) - r for r in others]
        found.append(sum(gaps) / len(gaps))
    return found


def _charge_by_loops(reward, log_prob, ref_log_prob, mask, *, kl_weight=0.05):
    found = []
    for i, r in enumerate(reward.tolist()):
        rows = (x[i].tolist() for x in (log_prob, ref_log_prob, mask))
        for new, ref, valid in zip(*rows, strict=True):
            r -= kl_weight * valid * (new - ref)
        found.append(r)
    return found


def group_of_one_raw(reward, group):
    count = group_mean(reward, group)[1]
    return xp.where(count == 1, reward, leave_one_out(reward, group))


def standardised(reward, group):
    A = leave_one_out.unchecked(reward, group)
    n = len(A)
    deviation = xp.sqrt(((A - A.sum() / n) ** 2).sum() / max(n - 1, 1))
    return (A - A.sum() / n) / (deviation + 1e-4)


def token_mean_of_token_terms(
    log_prob, old_log_prob, advantage, mask, *, clip_low=0.2, clip_high=0.2
):
    terms = clipped_terms(log_prob - old_log_prob, advantage, clip_low, clip_high)
    return weighted(token_mean(mask), *terms)


GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_rloo_outcome_advantage (not ..._vectorized_...)",
    computes="a baseline of 0 for a prompt with one answer",
)
STANDARDISED = Deviation(
    "divided by the deviation over the batch",
    standardised,
    seen_in="TRL 1.16.0 trl/trainer/rloo_trainer.py with normalize_advantages (off by default)",
    computes="advantages less their mean, over their sample deviation plus 1e-4",
    documented=True,
)
TOKEN_MEAN_OF_TOKEN_TERMS = Deviation(
    "token ratios, mean over all tokens",
    token_mean_of_token_terms,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, its default loss under adv_estimator=rloo",
    computes="the clipped terms of tokens, averaged over the batch's tokens: another estimator, fresh or not",
    documented=True,
)


def one_group_of_four(inputs):
    """all groups have four answers"""
    four = xp.arange(4 * max(len(inputs["reward"]) // 4, 1))
    return {
        "reward": inputs["reward"][four % len(inputs["reward"])],
        "group": four // 4,
    }


WIDE = {"clip_low": 0.24, "clip_high": 0.24}  # no edge lies on these bounds
METHOD = Method(
    key="ahmadian2024back",
    provenance="confirmed",
    functions=(
        Estimator(
            f=leave_one_out,
            interface=GROUP_REWARD,
            limits=(
                Limit(
                    "grpo.group_advantage",
                    {},
                    {"std": "none", "baseline": "leave_one_out"},
                ),
                Limit(
                    "dr_grpo.centred_advantage",
                    {},
                    where=one_group_of_four,
                    factor=4 / 3,
                ),
            ),
            deviations=(GROUP_OF_ONE_RAW, STANDARDISED),
            brute_force=_others_by_loops,
        ),
        Estimator(
            f=charged_reward,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"kl_weight": 0.3}},
            brute_force=_charge_by_loops,
        ),
        Objective(
            f=rloo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip_low": 0.15, "clip_high": 0.35}},
            limits=(
                Limit("gspo.gspo", WIDE, WIDE, where=of_one_token),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=of_one_token),
                Limit("reinforce.reinforce", {}, where=on_policy, gradient_only=True),
            ),
            deviations=(TOKEN_MEAN_OF_TOKEN_TERMS,),
            refused={
                "an answer far likelier than before": {
                    "log_prob": lambda log_prob: log_prob + 25,
                    "mask": 1,
                },
            },
        ),
    ),
)
