"""What is known of `trref.preferences.rpo`."""

from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.preferences.interfaces import COMPARISON_TABLE, PREFERENCE_PAIR
from trref.catalog.preferences.places import of_one_token
from trref.preferences.rpo import (
    adversarial_value,
    dual_reward_objective,
    population_loss,
    rpo,
    rpo_per_token,
)
from trref.preferences.terms import PairGradient


def over_all_tokens(*, beta=0.5, eta=0.2, **inputs):
    loss, (d_chosen, d_rejected) = rpo_per_token(**inputs, beta=beta, eta=0.0)
    tokens = inputs["chosen_length"].sum()
    loss = loss - eta * inputs["chosen_log_prob"].sum() / tokens
    return loss, PairGradient(d_chosen - eta / tokens, d_rejected)


PAIR = ("chosen_log_prob", "rejected_log_prob")
SETTINGS = {"default": {}, "probe": {"beta": 0.35, "eta": 0.3}}

METHOD = Method(
    key="liu2024provably",
    provenance={
        "confirmed": ("loss", "gradient", "per-token"),
        "partly": ("adversary", "dual", "population"),
    },
    functions=(
        Objective(
            f=rpo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={**SETTINGS, "gemma": {"beta": 0.05}},
            limits=(Limit("dpo.dpo", {"eta": 0.0}, {"beta": 0.01}),),
        ),
        Objective(
            f=rpo_per_token,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings=SETTINGS,
            limits=(
                Limit("dpo.dpo", {"eta": 0.0}, {"beta": 0.5}),
                Limit(
                    "rpo.rpo",
                    {"eta": 0.2},
                    {"beta": 0.5, "eta": 0.4},
                    where=of_one_token,
                ),
            ),
            deviations=(
                Deviation(
                    "likelihood over all tokens of the batch",
                    over_all_tokens,
                    seen_in='TRL 1.16.0 trl/trainer/dpo_trainer.py, loss_type ["sigmoid", "sft"]',
                    computes="one mean over all chosen tokens in the place of the mean of means",
                    documented=True,
                ),
            ),
        ),
        Objective(
            f=population_loss,
            interface=COMPARISON_TABLE,
            wrt="logits",
            settings=SETTINGS,
            limits=(Limit("dpo.population_loss", {"eta": 0.0}, {"beta": 0.01}),),
        ),
        Objective(
            f=dual_reward_objective,
            interface=COMPARISON_TABLE,
            wrt="reward",
            settings=SETTINGS,
        ),
        Objective(
            f=adversarial_value,
            interface=COMPARISON_TABLE,
            wrt="reward",
            settings=SETTINGS,
        ),
    ),
)
