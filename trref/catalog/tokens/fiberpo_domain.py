"""What is known of `trref.tokens.fiberpo_domain`."""

from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.fiberpo import UNEVEN
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS
from trref.tokens.fiberpo_domain import fiberpo_domain


def _alone(inputs):
    """one answer a prompt, one prompt a domain"""
    each = xp.arange(len(inputs["group"]))
    return {**inputs, "group": each, "domain": each}


OPEN = {"budget_up": 1e3, "budget_down": 1e3}


METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=fiberpo_domain,
            interface=UNEVEN,
            wrt="log_prob",
            settings={
                "default": {},
                "probe": {
                    "budget_up": 0.2,
                    "budget_down": 0.13,
                    "residual_clip": 0.35,
                    "group_factor": 0.7,
                    "domain_factor": 0.4,
                },
            },
            limits=(
                Limit("fiberpo.fiberpo", {}, where=_alone),
                Limit("fiberpo.fiberpo", OPEN, OPEN),
                Limit("grpo.grpo", {**OPEN, "residual_clip": 1e3}, {"clip": 1e14}),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
    ),
)
