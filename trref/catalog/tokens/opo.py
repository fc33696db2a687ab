"""What is known of `trref.tokens.opo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import equal_lengths
from trref.tokens.opo import opo_advantage
from trref.tokens.terms import group_mean


def _by_loops(reward, group, mask, *, baseline="all"):
    length, found = mask.sum(1).tolist(), []
    for i, g in enumerate(group):
        inside = [
            j
            for j in range(len(reward))
            if group[j] == g and (j != i or baseline == "all")
        ]
        total = sum(length[j] for j in inside)
        gaps = [length[j] * float(reward[i] - reward[j]) for j in inside]
        found.append(sum(gaps) / total if total else 0.0)
    return found


def group_of_one_raw(reward, group, mask, *, baseline="all"):
    count = group_mean(reward, group)[1]
    ours = opo_advantage.unchecked(reward, group, mask, baseline=baseline)
    return xp.where(count == 1, reward, ours)


GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_opo_outcome_advantage",
    computes="a baseline of 0 for a prompt with one answer",
)
METHOD = Method(
    key="hao2025onpolicy",
    provenance={"confirmed": ("advantage",), "reconstructed": ("leave-one-out",)},
    functions=(
        Estimator(
            f=opo_advantage,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"baseline": "leave_one_out"}},
            limits=(
                Limit("dr_grpo.centred_advantage", {}, where=equal_lengths),
                Limit(
                    "rloo.leave_one_out",
                    {"baseline": "leave_one_out"},
                    where=equal_lengths,
                ),
            ),
            deviations=(GROUP_OF_ONE_RAW,),
            brute_force=_by_loops,
        ),
    ),
)
