"""The map of the family: which objective becomes which, and where."""

import collections
import dataclasses

import numpy as np
import pytest

from trref import catalog, checks
from trref.catalog.tokens.places import OVER_ANSWERS, OVER_TOKENS, on_policy

RECORDS = {record.name: record for record in catalog.records()}
LIMITS = [
    (record, limit)
    for record in RECORDS.values()
    for limit in record.limits
    if "tokens" in (record.family, catalog.find(limit.to).family)
]
OBJECTIVES = {name for name, r in RECORDS.items() if r.family == "tokens" and isinstance(r, catalog.Objective)}

IN_LOGITS = "its gradient is in logits"
ALONE = {
    "apo.apo": IN_LOGITS,
    "tre.tre": IN_LOGITS,
    "tre.region_bonus": "a bonus, and its gradient is in logits",
    "troll.troll": IN_LOGITS,
    "troll_sparse.troll_sparse": IN_LOGITS,
    "tre.min_entropy": "a bonus, the surprise of the likeliest token, with its gradient in logits",
    "f_divergences.divergence": "a divergence of whole distributions, with its gradient in logits",
    "reduced_divergences.top_k_divergence": "a divergence of merged distributions, with its gradient in logits",
    "reduced_divergences.binary_divergence": "a divergence of two cells, in the probability of the sampled token alone",
    "ace_regulariser.selective_regulariser": "a penalty on whole distributions, with its gradient in logits",
    "value_loss.value_loss": "a loss of the value function, with its gradient in the values",
    "lens_likelihood.value_function": "an exact mean over all answers, with its gradient in logits",
}
"""Objectives that no limit leads to from GRPO, with the reason."""


def _components(names):
    """Sets of functions that limits connect, whichever way they point."""
    near = collections.defaultdict(set)
    for record, limit in LIMITS:
        near[record.name].add(limit.to)
        near[limit.to].add(record.name)
    components, left = [], set(names)
    while left:
        found, edge = set(), [left.pop()]
        while edge:
            name = edge.pop()
            if name not in found:
                found.add(name)
                edge.extend(near[name])
        components.append(found)
        left -= found
    return components


def _identifier(pair):
    record, limit = pair
    words = [f"{record.name} becomes {limit.to}", *(f"{k}={v}" for k, v in limit.hyper.items()), limit.place]
    return " ".join(word for word in words if word)


@pytest.mark.parametrize("pair", LIMITS, ids=_identifier)
def test_a_limit(pair):
    record, limit = pair
    checks.limits(dataclasses.replace(record, limits=(limit,)))


def test_all_but_a_few_are_connected_with_grpo():
    connected = next(c for c in _components(OBJECTIVES) if "grpo.grpo" in c)
    assert OBJECTIVES - connected == set(ALONE), "a member without a limit, or one that no longer stands alone"
    assert {"reinforce.reinforce", "ppo.clipped_surrogate"} <= connected


def test_some_of_the_others_are_connected_among_themselves():
    islands = {frozenset(c) for c in _components(ALONE) if len(c) > 1}
    assert islands == {
        frozenset({"apo.apo", "tre.tre", "tre.region_bonus", "troll.troll", "troll_sparse.troll_sparse"}),
        # distillation of the whole vocabulary is such a divergence from the teacher
        frozenset({"f_divergences.divergence", "reduced_divergences.top_k_divergence", "trb.opd", "tropd.tropd"}),
    }


NAMED = {
    "GRPO of one token is PPO": ("grpo.grpo", "ppo.clipped_surrogate", False),
    "DAPO with one interval, on equal lengths": ("dapo.dapo_over_batch", "grpo.grpo", False),
    "Dr. GRPO on equal lengths": ("dr_grpo.dr_grpo", "grpo.grpo", False),
    "GSPO of one token": ("gspo.gspo", "grpo.grpo", False),
    "dual clip with a remote bound": ("dual_clip.dual_clip", "grpo.grpo", False),
    "CPPO without a budget": ("cppo.cppo_binary", "drpo.dppo", False),
    "CPPO without a budget, on a measured divergence": ("cppo.cppo", "drpo.dppo_measured", False),
    "SPO without a penalty": ("drpo.spo", "dr_grpo.dr_grpo", False),
    "SPO is R2VPO with a multiplier that follows the advantage": ("drpo.spo", "r2vpo.r2vpo", False),
    "A-3PO on fresh samples is PPO": ("a3po.a3po", "dapo.dapo_over_batch", False),
    "FiberPO without residuals": ("fiberpo.fiberpo", "gspo.gspo", False),
    "FiberPO-Domain with one prompt a domain": ("fiberpo_domain.fiberpo_domain", "fiberpo.fiberpo", False),
    "PSPO without smoothing": ("pspo.pspo", "grpo.grpo", False),
    "the penalty k2 in the loss is k1 in the reward": ("kl_estimators.kl_in_loss", "kl_estimators.kl_in_reward", True),
    "the correction of noisy rewards is REINFORCE": ("noisy_rlvr.corrected_gradient", "reinforce.reinforce", False),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_reduction_that_a_paper_names(name):
    start, end, gradient_only = NAMED[name]
    found = [limit for limit in RECORDS[start].limits if limit.to == end]
    assert any(limit.gradient_only is gradient_only for limit in found), f"{start} should become {end}"


FIRST_ORDER = """
    a3po.a3po a3po.decoupled ace.ace fiberpo_censoring.apc bandpo.bandpo copo.copo cppo.cppo cppo.cppo_binary dapo.dapo
    dapo.dapo_over_batch dr_grpo.dr_grpo drpo.dppo drpo.dppo_measured drpo.drpo drpo.spo dual_clip.dual_clip
    dual_clip.two_sided_clip etr.etr fiberpo.fiberpo fiberpo_domain.fiberpo_domain gspo.gspo gtpo.gtpo grpo.grpo
    kl_estimators.grpo_with_kl lens.lens maspo.maspo maspo.maspo_differentiated pspo.pspo pspo.pspo_clipped
    pspo.pspo_sequence r2vpo.r2vpo r2vpo.r2vpo_sequence covariance_clip.kl_cov gmpo.gmpo gspo_token.gspo_token
    luspo.luspo rloo.rloo rollout_correction.rollout_corrected sapo.sapo
""".split()
OTHERS = {
    "cispo.cispo": "on-policy it is REINFORCE in value, too",
    "covariance_clip.clip_cov": "it leaves tokens out on-policy, too",
    "lite_ppo.lite_ppo": "it makes its advantages of rewards; with these given it is dapo.dapo_over_batch",
    "vespo.vespo": "on-policy it is REINFORCE in value, too",
}


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_on_policy_members_are_reinforce_to_first_order(name):
    limits = [limit for limit in RECORDS[name].limits if limit.to == "reinforce.reinforce" and limit.gradient_only]
    assert limits, f"{name} should become REINFORCE on-policy"


def test_nobody_else_weighs_a_ratio():
    """Whatever takes an old policy and an advantage is REINFORCE on-policy, in log-probabilities, or in logits."""
    ratios = {n for n in OBJECTIVES if {"log_prob", "old_log_prob"} <= set(RECORDS[n].inputs)}
    rewarded = {n for n in ratios if {"advantage", "reward"} & set(RECORDS[n].inputs)}
    assert rewarded | {"a3po.a3po", "fiberpo_censoring.apc"} == {*FIRST_ORDER, *OTHERS}


def _behind(inputs):
    """the old policy is the current one, the sampling one is not"""
    return {**inputs, "old_log_prob": inputs["log_prob"]}


def _at_reference(inputs):
    """all policies are equal"""
    return on_policy({**inputs, "ref_log_prob": inputs["old_log_prob"]})


def _of_tokens(inputs):
    """the policies are equal, and each token has an advantage"""
    growth = 1.0 + np.arange(inputs["mask"].shape[1])
    return on_policy({**inputs, "advantage": inputs["advantage"].reshape(len(inputs["mask"]), -1) * growth})


NOT_REINFORCE = {
    "GRPO off-policy": ("grpo.grpo", {}, OVER_ANSWERS, None),
    "GRPO over tokens": ("grpo.grpo", {}, OVER_TOKENS, on_policy),
    "GSPO with advantages of tokens": ("gspo.gspo", {}, OVER_ANSWERS, _of_tokens),
    "PSPO, smoothed": ("pspo.pspo", {"alpha": 0.1}, OVER_ANSWERS, on_policy),
    "ACE with the advantages of GRPO": ("ace.ace", {}, OVER_ANSWERS, on_policy),
    "COPO with the advantages of GRPO": ("copo.copo", {}, OVER_ANSWERS, on_policy),
    "GTPO with the advantages of GRPO": ("gtpo.gtpo", {}, OVER_ANSWERS, on_policy),
    "decoupled PPO on stale samples": ("a3po.decoupled", {}, OVER_TOKENS, _behind),
    "GRPO with a distant reference": ("kl_estimators.grpo_with_kl", {}, OVER_ANSWERS, on_policy),
    "GRPO with k1 at the reference": ("kl_estimators.grpo_with_kl", {"estimator": "k1"}, OVER_ANSWERS, _at_reference),
}


@pytest.mark.parametrize("name", NOT_REINFORCE)
def test_where_it_is_not_reinforce(name):
    start, hyper, average, where = NOT_REINFORCE[name]
    limit = catalog.Limit("reinforce.reinforce", hyper, average, where=where, gradient_only=True)
    with pytest.raises(checks.ContractError, match="not reinforce"):
        checks.limits(dataclasses.replace(RECORDS[start], limits=(limit,)))
