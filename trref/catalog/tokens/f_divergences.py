"""What is known of `trref.tokens.f_divergences`."""

from trref.catalog import Method, Objective
from trref.catalog.tokens.interfaces import (
    FULL_DISTRIBUTION,
    TOKEN_OBJECTIVE,
    with_edges,
)
from trref.tokens.f_divergences import DIVERGENCES, divergence, divergence_from_samples

# at the minimum rounding is all
ROWS = with_edges(
    FULL_DISTRIBUTION,
    "a row without tokens",
    "certain and all but impossible tokens",
    "two tokens to choose from",
    "one response of one token",
)
SAMPLES = with_edges(
    TOKEN_OBJECTIVE,
    "on the clip bounds",
    "on-policy",
    "a row without tokens",
    "one token",
    "far off policy",
    "certain and all but impossible tokens",
)


def _each(*others):
    """A setting for every divergence but the default and `others`."""
    return {
        kind: {"kind": kind}
        for kind in DIVERGENCES
        if kind not in ("reverse_kl", *others)
    }


METHOD = Method(
    key="csiszar1967information",
    provenance="confirmed",
    functions=(
        Objective(
            f=divergence,
            interface=ROWS,
            wrt="logits",
            settings={"default": {}, **_each("neyman"), "probe": {"kind": "neyman"}},
            refused={
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Objective(
            f=divergence_from_samples,
            interface=SAMPLES,
            wrt="log_prob",
            settings={
                "default": {},
                **_each("pearson"),
                "textbook forward_kl": {"kind": "forward_kl", "form": "textbook"},
                "textbook hellinger": {"kind": "hellinger", "form": "textbook"},
                "textbook reverse_kl": {"form": "textbook"},
                "probe": {"kind": "pearson", "form": "textbook"},
            },
        ),
    ),
)
