"""What is known of `trref.preferences.ipo`."""

import numpy as np

from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.preferences.interfaces import COMPARISON_TABLE, PREFERENCE_PAIR
from trref.catalog.preferences.places import (
    at_the_reference,
    of_one_token,
    reference_of_probability_one,
)
from trref.preferences.ipo import (
    ipo,
    length_normalised,
    optimal_policy,
    population_loss,
)


def without_reference(*, tau=0.1, **inputs):
    return length_normalised(**reference_of_probability_one(inputs), tau=tau)


def _by_least_squares(ref_logits, preference, *, tau=0.1):
    """Log-ratios that minimise the squared distances of all margins from the target, each as often as it wins."""
    K = len(ref_logits)
    first, second = np.divmod(np.arange(K * K), K)
    margins = np.eye(K)[first] - np.eye(K)[second]
    root = np.sqrt(preference.reshape(-1))
    ratio = np.linalg.lstsq(root[:, None] * margins, root / (2 * tau), rcond=None)[0]
    logits = ref_logits + ratio
    return logits - np.logaddexp.reduce(logits)


PAIR = ("chosen_log_prob", "rejected_log_prob")
SETTINGS = {"default": {}, "probe": {"tau": 0.35}}

METHOD = Method(
    key="azar2023general",
    provenance={
        "confirmed": ("loss", "gradient", "length-normalised"),
        "partly": ("population", "optimum"),
    },
    functions=(
        Objective(
            f=ipo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings=SETTINGS,
            limits=(
                # slopes 1 / tau and beta / 2 at a margin of 0
                Limit(
                    "dpo.dpo",
                    {"tau": 0.1},
                    {"beta": 0.1},
                    where=at_the_reference,
                    gradient_only=True,
                    factor=200.0,
                ),
            ),
        ),
        Objective(
            f=length_normalised,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings=SETTINGS,
            limits=(Limit("ipo.ipo", {}, where=of_one_token),),
            deviations=(
                Deviation(
                    "without a reference",
                    without_reference,
                    seen_in='TRL 1.16.0 trl/experimental/cpo/cpo_trainer.py, loss_type "ipo"',
                    computes="the means of log-probabilities, not of log-ratios, regressed on the target",
                    documented=True,
                ),
            ),
        ),
        Objective(
            f=population_loss,
            interface=COMPARISON_TABLE,
            wrt="logits",
            settings=SETTINGS,
        ),
        Estimator(
            f=optimal_policy,
            interface=COMPARISON_TABLE,
            settings=SETTINGS,
            brute_force=_by_least_squares,
        ),
    ),
)
