"""What is known of `trref.preferences.cpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.preferences.interfaces import PREFERENCE_PAIR, WITHOUT_TOKENS
from trref.catalog.preferences.places import of_one_token
from trref.preferences.cpo import arpo, arpo_penalty, cpo
from trref.preferences.terms import PairGradient, of_pairs


def hinge(
    chosen_log_prob,
    rejected_log_prob,
    chosen_length,
    *,
    beta=0.1,
    likelihood_weight=1.0,
):
    h = beta * (chosen_log_prob - rejected_log_prob)
    loss, (d_chosen, d_rejected) = of_pairs(
        xp.maximum(1 - h, 0), beta * xp.where(h < 1, -1.0, 0.0)
    )
    tokens = chosen_length.sum()
    loss = loss - likelihood_weight * chosen_log_prob.sum() / tokens
    return loss, PairGradient(d_chosen - likelihood_weight / tokens, d_rejected)


def _one_by_one(
    chosen_log_prob,
    rejected_log_prob,
    chosen_length,
    rejected_length,
    *,
    scale=0.9,
    rate=0.4,
):
    found = []
    for w, l, n, m in zip(
        chosen_log_prob, rejected_log_prob, chosen_length, rejected_length, strict=True
    ):
        power = rate * abs(w / n - l / m)
        found.append(1.0 if power > 500 else min(scale * math.exp(power) - 1, 1.0))
    return xp.array(found)


PAIR = ("chosen_log_prob", "rejected_log_prob")

METHOD = Method(
    key="xu2024contrastive",
    provenance={
        "confirmed": ("loss", "likelihood", "gradient", "penalty"),
        "partly": ("arpo",),
    },
    functions=(
        Objective(
            f=cpo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={
                "default": {},
                "likelihood of a token": {"likelihood": "answer_mean"},
                "likelihood of all tokens": {"likelihood": "batch_mean"},
                "conservative": {"label_smoothing": 0.1},
                "probe": {
                    "beta": 0.35,
                    "likelihood_weight": 0.7,
                    "likelihood": "batch_mean",
                    "label_smoothing": 0.2,
                },
            },
            limits=(
                Limit("dpo.reference_free", {"likelihood_weight": 0.0}),
                Limit(
                    "simpo.simpo",
                    {"likelihood_weight": 0.0, "beta": 2.0},
                    {"gamma": 0.0},
                    where=of_one_token,
                ),
            ),
            deviations=(
                Deviation(
                    "hinge",
                    hinge,
                    seen_in='TRL 1.16.0 trl/experimental/cpo/cpo_trainer.py, loss_type "hinge"',
                    computes="the hinge of the same contrast, with the likelihood's mean over all tokens",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=arpo_penalty,
            interface=PREFERENCE_PAIR,
            settings={"default": {}, "probe": {"scale": 0.7, "rate": 0.25}},
            brute_force=_one_by_one,
            refused=WITHOUT_TOKENS,
        ),
        Objective(
            f=arpo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={
                "default": {},
                "conservative": {"label_smoothing": 0.1},
                "probe": {
                    "beta": 0.35,
                    "likelihood_weight": 0.7,
                    "scale": 0.7,
                    "rate": 0.25,
                    "label_smoothing": 0.2,
                },
            },
            limits=(Limit("cpo.cpo", {"scale": 2.0}, {"likelihood": "batch_mean"}),),
        ),
    ),
)
