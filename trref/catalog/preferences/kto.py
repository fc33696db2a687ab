"""What is known of `trref.preferences.kto`."""

import math

from trref.backend import special, xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.preferences.kto import kto, reference_point

# ---- examples and brute force


def _labels(rng, size):
    ref_log_prob = -rng.exponential(20.0, size) - 0.5
    return {
        "log_prob": ref_log_prob
        + rng.choice((0.05, 1.0, 6.0)) * rng.standard_normal(size),
        "ref_log_prob": ref_log_prob,
        "desirable": (rng.random(size) < 0.6).astype(float),
        "reference_point": xp.asarray(rng.choice((0.0, 0.3, 2.5))),
    }


def _answers(log_ratio, desirable, point):
    ref_log_prob = xp.full(len(log_ratio), -9.0)
    return {
        "log_prob": ref_log_prob + xp.array(log_ratio),
        "ref_log_prob": ref_log_prob,
        "desirable": xp.array(desirable),
        "reference_point": xp.asarray(point),
    }


PREFERENCE_LABEL = Interface(
    "preference_label",
    example=_labels,
    edges={
        "at the point of reference": lambda: _answers([0.5, 0.5], [1.0, 0.0], 0.5),
        "the policy is the reference": lambda: _answers(
            [0.0, 0.0, 0.0], [1.0, 0.0, 1.0], 0.0
        ),
        "none desirable": lambda: _answers([1.0, -2.0, 0.25], [0.0, 0.0, 0.0], 0.3),
        "all desirable": lambda: _answers([1.0, -2.0], [1.0, 1.0], 0.3),
        "a hundred nats on either side": lambda: _answers(
            [100.0, -100.0] * 2, [1.0, 1.0, 0.0, 0.0], 1.0
        ),
        "one answer": lambda: _answers([-0.75], [1.0], 0.2),
    },
)
"""Sequence log-probabilities (B) of single answers with labels, and the point of reference."""


def _mismatched(rng, size):
    ref = -rng.exponential(20.0, size)
    shift = rng.choice((-1.0, 0.3, 2.0))
    return {
        "mismatched_log_prob": ref + shift + rng.standard_normal(size),
        "mismatched_ref_log_prob": ref,
    }


def _pairs(log_prob, ref_log_prob):
    return {
        "mismatched_log_prob": xp.array(log_prob),
        "mismatched_ref_log_prob": xp.array(ref_log_prob),
    }


def _clamped_mean(mismatched_log_prob, mismatched_ref_log_prob):
    ratios = [
        p - q for p, q in zip(mismatched_log_prob, mismatched_ref_log_prob, strict=True)
    ]
    return max(0.0, math.fsum(ratios) / len(ratios))


# ---- deviations


def without_point(*, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, **inputs):
    zero = xp.zeros_like(inputs["reference_point"])
    return kto(
        **{**inputs, "reference_point": zero},
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def wrong_sign(
    log_prob,
    ref_log_prob,
    desirable,
    reference_point,
    *,
    beta=0.1,
    desirable_weight=1.0,
    undesirable_weight=1.0,
):
    s = 2 * desirable - 1
    weight = desirable_weight * desirable + undesirable_weight * (1 - desirable)
    v = beta * (s * (log_prob - ref_log_prob) - reference_point)
    slope = -weight * s * beta * special.expit(v) * special.expit(-v)
    return (weight * special.expit(-v)).sum() / len(v), slope / len(v)


def zeros_left_out(mismatched_log_prob, mismatched_ref_log_prob):
    ratio = mismatched_log_prob - mismatched_ref_log_prob
    counted = (ratio != 0).astype(ratio.dtype).sum()
    return xp.maximum(ratio.sum() / xp.maximum(counted, 1), 0)


def clamped_first(mismatched_log_prob, mismatched_ref_log_prob):
    ratio = mismatched_log_prob - mismatched_ref_log_prob
    return xp.maximum(ratio, 0).sum() / len(ratio)


METHOD = Method(
    key="ethayarajh2024kto",
    provenance="confirmed",
    functions=(
        Objective(
            f=kto,
            interface=PREFERENCE_LABEL,
            wrt="log_prob",
            settings={
                "default": {},
                "four good answers for three bad": {"undesirable_weight": 1.33},
                "probe": {
                    "beta": 0.35,
                    "desirable_weight": 1.5,
                    "undesirable_weight": 0.7,
                },
            },
            deviations=(
                Deviation(
                    "no point of reference",
                    without_point,
                    seen_in='TRL 1.16.0 trl/trainer/kto_trainer.py, loss_type "apo_zero_unpaired"',
                    computes="rewards against 0 in the place of the estimated divergence",
                    documented=True,
                ),
                Deviation(
                    "the point of reference with the wrong sign for undesirable answers",
                    wrong_sign,
                    seen_in="Edifice (Elixir), Edifice.Meta.KTO",
                    computes="-r - z in the place of z - r for undesirable answers; there z is the batch's own mean",
                ),
            ),
        ),
        Estimator(
            f=reference_point,
            example=_mismatched,
            edges={
                "the policy is the reference": lambda: _pairs(
                    [-3.0, -7.0], [-3.0, -7.0]
                ),
                "less likely than under the reference": lambda: _pairs(
                    [-5.0, -9.0], [-4.0, -9.0]
                ),
                "some untouched": lambda: _pairs(
                    [-5.0, -9.0, -4.0], [-5.0, -9.0, -7.0]
                ),
                "one answer": lambda: _pairs([-3.0], [-3.5]),
            },
            brute_force=_clamped_mean,
            deviations=(
                Deviation(
                    "untouched answers left out",
                    zeros_left_out,
                    seen_in="HALOs train/trainers.py, KTOTrainer",
                    computes="the sum divided by the number of log-ratios that are not exactly 0",
                ),
                Deviation(
                    "clamped before the mean",
                    clamped_first,
                    seen_in="trainers that clamp on each device and average afterwards, here with one answer a device",
                    computes="the mean of clamped means, which is too large",
                ),
            ),
        ),
    ),
)
