"""What is known of `trref.preferences.simpo`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.preferences.interfaces import PREFERENCE_PAIR
from trref.catalog.preferences.places import of_one_token, reference_of_probability_one
from trref.preferences.simpo import simpo
from trref.preferences.terms import PairGradient, of_pairs


def margin_times_beta(*, beta=2.0, gamma=0.5, label_smoothing=0.0, **inputs):
    return simpo(
        **inputs, beta=beta, gamma=beta * gamma, label_smoothing=label_smoothing
    )


def with_likelihood(*, beta=2.0, gamma=0.5, label_smoothing=0.0, **inputs):
    loss, (d_chosen, d_rejected) = simpo(
        **inputs, beta=beta, gamma=gamma, label_smoothing=label_smoothing
    )
    tokens = inputs["chosen_length"].sum()
    return loss - inputs["chosen_log_prob"].sum() / tokens, PairGradient(
        d_chosen - 1 / tokens, d_rejected
    )


def hinge(
    chosen_log_prob,
    rejected_log_prob,
    chosen_length,
    rejected_length,
    *,
    beta=2.0,
    gamma=0.5,
):
    z = (
        beta * (chosen_log_prob / chosen_length - rejected_log_prob / rejected_length)
        - gamma
    )
    loss, (d_chosen, d_rejected) = of_pairs(
        xp.maximum(1 - z, 0), beta * xp.where(z < 1, -1.0, 0.0)
    )
    return loss, PairGradient(d_chosen / chosen_length, d_rejected / rejected_length)


METHOD = Method(
    key="meng2024simpo",
    provenance="confirmed",
    functions=(
        Objective(
            f=simpo,
            interface=PREFERENCE_PAIR,
            wrt=("chosen_log_prob", "rejected_log_prob"),
            settings={
                "default": {},
                "without a margin": {"gamma": 0.0},
                "conservative": {"label_smoothing": 0.1},
                "probe": {"beta": 3.5, "gamma": 1.2, "label_smoothing": 0.2},
            },
            limits=(
                Limit(
                    "dpo.length_normalised",
                    {"gamma": 0.0},
                    where=reference_of_probability_one,
                ),
                Limit(
                    "dpo.reference_free",
                    {"beta": 0.1, "gamma": 0.0},
                    where=of_one_token,
                ),
            ),
            deviations=(
                Deviation(
                    "the margin is multiplied by beta",
                    margin_times_beta,
                    seen_in="princeton-nlp/SimPO scripts/simpo_trainer.py, open-instruct open_instruct/dpo_utils.py, "
                    "HALOs train/trainers.py",
                    computes="the number for the margin is the ratio gamma / beta",
                    documented=True,
                ),
                Deviation(
                    "with the likelihood of the chosen answers",
                    with_likelihood,
                    seen_in="TRL 1.16.0 trl/experimental/cpo/cpo_trainer.py with its default cpo_alpha of 1",
                    computes="SimPO plus the mean over all chosen tokens of minus the log-probability",
                    documented=True,
                ),
                Deviation(
                    "hinge",
                    hinge,
                    seen_in='princeton-nlp/SimPO scripts/simpo_trainer.py, loss_type "hinge"',
                    computes="the hinge of the same margin in the place of the logistic loss",
                    documented=True,
                ),
            ),
        ),
    ),
)
