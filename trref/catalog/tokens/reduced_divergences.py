"""What is known of `trref.tokens.reduced_divergences`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import (
    FULL_DISTRIBUTION,
    TOKEN_OBJECTIVE,
    with_edges,
)
from trref.tokens.f_divergences import DIVERGENCES, textbook_generator
from trref.tokens.reduced_divergences import binary_divergence, top_k_divergence
from trref.tokens.terms import token_mean


def _inside_the_logarithm(log_prob, old_log_prob, mask, *, kind="total_variation"):
    p, q, eps, w = xp.exp(log_prob), xp.exp(old_log_prob), 1e-8, token_mean(mask)
    token, d_token = textbook_generator(log_prob - old_log_prob, kind)
    others, d_others = textbook_generator(xp.log((1 - p + eps) / (1 - q + eps)), kind)
    derivative = p * (d_token - d_others * (1 - q) / (1 - q + eps))
    return (w * (q * token + (1 - q) * others)).sum(), w * derivative


INSIDE_THE_LOGARITHM = Deviation(
    "1e-8 added to the probability of any other token",
    _inside_the_logarithm,
    seen_in="verl verl/trainer/ppo/core_algos.py, policy loss 'dppo_kl' (kind='forward_kl')",
    computes="log((1 - q + 1e-8) / (1 - p + 1e-8)) in the place of the logarithm of the quotient",
)

EACH = {
    kind: {"kind": kind}
    for kind in DIVERGENCES
    if kind not in ("total_variation", "forward_kl")
}


def _certain():
    """Surer than 1e-7, and near it, from a policy that was not."""
    log_prob, old = (
        xp.array([[0.0, -1e-9, -1e-8, -0.25]]),
        xp.array([[-0.25, -0.5, -1.0, -1e-9]]),
    )
    return {
        **TOKEN_OBJECTIVE.edges["on-policy"](),
        "log_prob": log_prob,
        "old_log_prob": old,
        "mask": xp.ones((1, 4)),
    }


SAMPLES = with_edges(
    TOKEN_OBJECTIVE,
    "on the clip bounds",
    "on-policy",
    "a row without tokens",
    "one token",
    "far off policy",
    **{"certain tokens": _certain},
)
# at the minimum rounding is all
ROWS = with_edges(
    FULL_DISTRIBUTION,
    "a row without tokens",
    "certain and all but impossible tokens",
    "two tokens to choose from",
    "one response of one token",
)

METHOD = Method(
    key="csiszar1967information",
    provenance="confirmed",
    functions=(
        Objective(
            f=binary_divergence,
            interface=SAMPLES,
            wrt="log_prob",
            settings={"default": {}, **EACH, "probe": {"kind": "forward_kl"}},
            deviations=(INSIDE_THE_LOGARITHM,),
        ),
        Objective(
            f=top_k_divergence,
            interface=ROWS,
            wrt="logits",
            settings={
                "default": {},
                "K = 2": {"K": 2},
                **{f"{kind}, K = 2": {"K": 2, **hyper} for kind, hyper in EACH.items()},
                "probe": {"K": 3, "kind": "forward_kl"},
            },
            limits=tuple(
                Limit(
                    to="f_divergences.divergence",
                    hyper={"K": 1000, "kind": kind},
                    to_hyper={"kind": kind},
                )
                for kind in DIVERGENCES
            ),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
    ),
)
