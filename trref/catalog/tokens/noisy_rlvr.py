"""What is known of `trref.tokens.noisy_rlvr`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.noisy_rlvr_verifier import NOISY
from trref.tokens.grpo import group_advantage
from trref.tokens.noisy_rlvr import (
    backward_reward,
    corrected_advantage,
    corrected_gradient,
    forward_weight,
    residual_reward,
)


def _standardised_after_correction(reward, group, rho0, rho1, *, correction="backward"):
    corrected = corrected_advantage(reward, group, rho0, rho1, correction=correction)
    return group_advantage(corrected, group, eps=1e-4)


STANDARDISED_AFTER_CORRECTION = Deviation(
    "standardised within the group after the correction",
    _standardised_after_correction,
    seen_in="GRPO's advantage of corrected rewards; a public note on the paper's fourth version warns of it",
    computes="advantages without scale or level, in which no correction of a group's rates is left",
)


def _by_inverting(reward, rho0, rho1, *, floor=0.0):
    """The rewards of a rejected and an accepted answer that have the true reward as mean, by Cramer's rule."""
    result = []
    for shown, fp, fn in zip(
        reward.tolist(), rho0.tolist(), rho1.tolist(), strict=True
    ):
        # (1 - fp) x + fp y = 0 and fn x + (1 - fn) y = 1
        determinant = max((1 - fp) * (1 - fn) - fp * fn, floor)
        result.append((1 - fp) / determinant if shown else -fp / determinant)
    return result


def _over_the_channel(reward, actual_rho0, actual_rho1, rho0, rho1):
    """The mean of the corrected reward over what is shown, less the true one."""
    result = []
    for i, r in enumerate(reward.tolist()):
        accepted = 1 - actual_rho1[i] if r else actual_rho0[i]
        rejected, shown = (
            _by_inverting(xp.array([x]), rho0[i : i + 1], rho1[i : i + 1])[0]
            for x in (0.0, 1.0)
        )
        result.append(accepted * shown + (1 - accepted) * rejected - r)
    return result


def _by_table(reward, rho1):
    return [
        fn if shown else fn - 1
        for shown, fn in zip(reward.tolist(), rho1.tolist(), strict=True)
    ]


def _by_loops(reward, group, rho0, rho1, *, correction="backward", baseline="none"):
    s = {
        "backward": lambda: _by_inverting(reward, rho0, rho1),
        "forward": lambda: _by_table(reward, rho1),
        "naive": reward.tolist,
    }[correction]()
    if baseline == "none":
        return s
    members = {
        g: [x for x, h in zip(s, group.tolist(), strict=True) if h == g]
        for g in group.tolist()
    }
    if baseline == "leave_one_out":
        each = [
            (x, len(members[g]) - 1, sum(members[g]) - x)
            for x, g in zip(s, group.tolist(), strict=True)
        ]
        return [x - rest / others if others else 0.0 for x, others, rest in each]
    return [
        x - sum(members[g]) / len(members[g])
        for x, g in zip(s, group.tolist(), strict=True)
    ]


def _without_errors(inputs):
    """the verifier makes no errors"""
    return {
        **inputs,
        "rho0": xp.zeros_like(inputs["rho0"]),
        "rho1": xp.zeros_like(inputs["rho1"]),
    }


def _one_verifier(inputs):
    """the same rates for all answers"""
    return {
        **inputs,
        "rho0": xp.full_like(inputs["rho0"], 0.1),
        "rho1": xp.full_like(inputs["rho1"], 0.3),
    }


def _corrected(inputs):
    """REINFORCE's advantage is the corrected reward"""
    return {
        **inputs,
        "advantage": backward_reward(
            *(inputs[name] for name in ("reward", "rho0", "rho1"))
        ),
    }


EACH = {
    "default": {},
    "forward": {"correction": "forward"},
    "naive": {"correction": "naive"},
    "below the group's mean": {"baseline": "group_mean"},
    "below the others' mean": {"baseline": "leave_one_out"},
    "probe": {"correction": "forward", "baseline": "leave_one_out"},
}


WORSE_THAN_CHANCE = {
    "a verifier worse than chance": {"rho0": 0.6, "rho1": 0.6},
}


METHOD = Method(
    key="cai2025reinforcement",
    provenance={
        "confirmed": ("backward", "forward", "advantage", "gradient"),
        "reconstructed": ("residual",),
    },
    functions=(
        Estimator(
            f=backward_reward,
            interface=NOISY,
            settings={
                "default": {},
                "bounded": {"floor": 0.1},
                "probe": {"floor": 0.6},
            },
            brute_force=_by_inverting,
            refused=WORSE_THAN_CHANCE,
        ),
        Estimator(
            f=residual_reward,
            interface=NOISY,
            brute_force=_over_the_channel,
            refused=WORSE_THAN_CHANCE,
        ),
        Estimator(f=forward_weight, interface=NOISY, brute_force=_by_table),
        Estimator(
            f=corrected_advantage,
            interface=NOISY,
            settings=EACH,
            limits=(
                Limit(
                    "dr_grpo.centred_advantage",
                    {"correction": "naive", "baseline": "group_mean"},
                ),
                Limit(
                    "dr_grpo.centred_advantage",
                    {"baseline": "group_mean"},
                    where=_without_errors,
                ),
                Limit(
                    "dr_grpo.centred_advantage",
                    {"correction": "forward", "baseline": "group_mean"},
                    where=_one_verifier,
                ),
                Limit(
                    "grpo.group_advantage",
                    {"correction": "naive", "baseline": "leave_one_out"},
                    {"std": "none", "baseline": "leave_one_out"},
                ),
                Limit("noisy_rlvr.backward_reward", {}),
                Limit("noisy_rlvr.forward_weight", {"correction": "forward"}),
            ),
            deviations=(STANDARDISED_AFTER_CORRECTION,),
            brute_force=_by_loops,
            refused=WORSE_THAN_CHANCE,
        ),
        Objective(
            f=corrected_gradient,
            interface=NOISY,
            wrt="log_prob",
            settings={
                name: EACH[name]
                for name in (
                    "default",
                    "forward",
                    "naive",
                    "below the group's mean",
                    "probe",
                )
            },
            limits=(Limit("reinforce.reinforce", {}, where=_corrected),),
            refused=WORSE_THAN_CHANCE,
        ),
    ),
)
