"""What is known of `trref.distillation.rlad`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.distillation.interfaces import TAUGHT
from trref.distillation.rlad import (
    Active,
    active_share,
    log_ratio,
    rlad,
    rlad_with_kl,
    vetoed,
)


def _exchanged(
    log_prob,
    old_log_prob,
    teacher_log_prob,
    advantage,
    mask,
    *,
    old_share=0.5,
    teacher_clip=1.0,
    clip_low=0.2,
    clip_high=0.28,
):
    return rlad(
        log_prob,
        old_log_prob,
        teacher_log_prob,
        advantage,
        mask,
        old_share=1 - old_share,
        teacher_clip=teacher_clip,
        clip_low=clip_low,
        clip_high=clip_high,
    )


def _without_clamp(
    log_prob,
    old_log_prob,
    teacher_log_prob,
    advantage,
    mask,
    *,
    old_share=0.5,
    teacher_clip=1.0,
    clip_low=0.2,
    clip_high=0.28,
):
    return rlad(
        log_prob,
        old_log_prob,
        teacher_log_prob,
        advantage,
        mask,
        old_share=old_share,
        teacher_clip=1e14,
        clip_low=clip_low,
        clip_high=clip_high,
    )


EXCHANGED = Deviation(
    "the exponents exchanged",
    _exchanged,
    seen_in="section 4.1 of the paper (arXiv v2), which calls alpha = 0 GRPO, against its own formula",
    computes="the share of the old policy as the teacher's",
)
WITHOUT_CLAMP = Deviation(
    "the ratio to the teacher is not clamped",
    _without_clamp,
    seen_in="the main text's formula (arXiv v2), before appendix B clamps it",
    computes="ratios as large as the teacher finds a token absurd",
)


def _teacher_is_old(inputs):
    """the teacher is the old policy"""
    return {**inputs, "teacher_log_prob": inputs["old_log_prob"]}


def _to_the_mixture(inputs):
    """the other's old policy is the even mixture of old policy and teacher"""
    mixture = (inputs["old_log_prob"] + inputs["teacher_log_prob"]) / 2
    return inputs, {**inputs, "old_log_prob": mixture}


def _penalised_by_the_teacher(inputs):
    """the reference is the teacher: KDRL"""
    return {**inputs, "ref_log_prob": inputs["teacher_log_prob"]}


def _scalars(array):
    return [[float(x) for x in row] for row in array.tolist()]


def _tokens(advantage, mask, *log_probs):
    """One token at a time where the mask is 1: its place, its advantage, its log-probabilities."""
    for i, row in enumerate(mask.tolist()):
        for t, here in enumerate(row):
            A = float(advantage[i] if advantage.ndim == 1 else advantage[i, t])
            if here:
                yield (i, t), A, *(float(x[i, t]) for x in log_probs)


def _ratio(new, old, teacher, share, clamp):
    return math.exp(
        share * (new - old) + (1 - share) * max(-clamp, min(clamp, new - teacher))
    )


def _log_ratios(
    log_prob, old_log_prob, teacher_log_prob, *, old_share=0.5, teacher_clip=1.0
):
    rows = map(_scalars, (log_prob, old_log_prob, teacher_log_prob))
    return [
        [
            math.log(_ratio(*three, old_share, teacher_clip))
            for three in zip(*row, strict=True)
        ]
        for row in zip(*rows, strict=True)
    ]


def _vetoed_by_ratios(
    old_log_prob,
    teacher_log_prob,
    advantage,
    mask,
    *,
    old_share=0.5,
    teacher_clip=1.0,
    clip_low=0.2,
    clip_high=0.28,
):
    """Where the clipped term of the first step is flat: by its ratio."""
    result = xp.zeros(mask.shape)
    for at, A, old, teacher in _tokens(advantage, mask, old_log_prob, teacher_log_prob):
        r = _ratio(old, old, teacher, old_share, teacher_clip)
        result[at] = (A > 0 and r > 1 + clip_high) or (A < 0 and r < 1 - clip_low)
    return result


def _active_by_counting(
    log_prob,
    old_log_prob,
    teacher_log_prob,
    advantage,
    mask,
    *,
    old_share=0.5,
    teacher_clip=1.0,
    clip_low=0.2,
    clip_high=0.28,
):
    found = {(up, liked): [] for up in (True, False) for liked in (True, False)}
    three = log_prob, old_log_prob, teacher_log_prob
    for _, A, new, old, teacher in _tokens(advantage, mask, *three):
        r = _ratio(new, old, teacher, old_share, teacher_clip)
        stopped = (A > 0 and r > 1 + clip_high) or (A < 0 and r < 1 - clip_low)
        if A:
            found[A > 0, teacher > old].append(not stopped)
    return Active(*(sum(each) / max(len(each), 1) for each in found.values()))


RATIO = {
    "default": {},
    "probe": {"old_share": 0.35, "teacher_clip": 0.6},
    "the teacher alone": {"old_share": 0.0},
}
CLIPPED = {
    "default": {},
    "without a clamp": {"teacher_clip": 1e14},
    "a tight clamp": {"teacher_clip": 0.4},
    "the teacher alone": {"old_share": 0.0},
    "hardly any teacher": {"old_share": 0.9, "clip_high": 0.2},
    "probe": {
        "old_share": 0.35,
        "teacher_clip": 0.6,
        "clip_low": 0.15,
        "clip_high": 0.35,
    },
}
EVEN = {"clip_low": 0.2, "clip_high": 0.2}
METHOD = Method(
    key="zhang2026reinforcement",
    provenance={
        "confirmed": ("ratio", "objective", "with-kl"),
        "reconstructed": ("gradient", "veto", "active"),
    },
    functions=(
        Objective(
            f=rlad,
            interface=TAUGHT,
            wrt="log_prob",
            settings=CLIPPED,
            limits=(
                Limit("grpo.grpo", {**EVEN, "old_share": 1.0}),
                Limit(
                    "grpo.grpo", {**EVEN, "teacher_clip": 1e14}, where=_teacher_is_old
                ),
                Limit(
                    "grpo.grpo", {**EVEN, "teacher_clip": 1e14}, where=_to_the_mixture
                ),
            ),
            deviations=(EXCHANGED, WITHOUT_CLAMP),
        ),
        Objective(
            f=rlad_with_kl,
            interface=TAUGHT,
            wrt="log_prob",
            settings={
                **CLIPPED,
                "probe": {**CLIPPED["probe"], "kl_weight": 0.3, "estimator": "k2"},
                "k1": {"estimator": "k1"},
            },
            limits=(
                Limit("rlad.rlad", {"kl_weight": 0.0}),
                Limit(
                    "kl_estimators.grpo_with_kl",
                    {**EVEN, "old_share": 1.0},
                    where=_penalised_by_the_teacher,
                ),
            ),
        ),
        Estimator(
            f=log_ratio,
            interface=TAUGHT,
            settings=RATIO,
            brute_force=_log_ratios,
        ),
        Estimator(
            f=vetoed,
            interface=TAUGHT,
            # the tight clamp lets the teacher forbid a push down, and no push up
            settings={**CLIPPED, "a tight clamp": {"teacher_clip": 0.46}},
            brute_force=_vetoed_by_ratios,
            # any clamp beyond both bounds
            limits=(Limit("rlad.vetoed", {"teacher_clip": 1e14}),),
        ),
        Estimator(
            f=active_share,
            interface=TAUGHT,
            settings=CLIPPED,
            brute_force=_active_by_counting,
        ),
    ),
)
