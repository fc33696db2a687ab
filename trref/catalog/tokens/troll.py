"""What is known of `trref.tokens.troll`."""

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION
from trref.catalog.tokens.pieces import normalised
from trref.tokens.terms import per_token, token_mean
from trref.tokens.troll import troll
from trref.tokens.troll_projection import project_kl


def _projected(log_p, log_q, radius):
    """log of the projection and the share of the new policy in it, by bisection."""
    u, low = log_p - log_q, xp.zeros_like(log_p[..., :1])
    high = low + 1

    def inside(share):
        s = normalised(log_q + share * u)
        return (xp.exp(s) * (s - log_q)).sum(-1, keepdims=True) <= radius

    whole = inside(high)
    for _ in range(50):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = xp.where(within, middle, low), xp.where(within, high, middle)
    share = xp.where(whole, 1, low)
    return normalised(log_q + share * u), share


def _troll_variant(
    logits, old_logits, actions, advantage, mask, radius, kl_weight, through
):
    log_p, log_q = normalised(logits), normalised(old_logits)
    log_pi, share = _projected(log_p, log_q, radius)
    e, p, gap = (
        (actions[..., None] == xp.arange(logits.shape[-1])).astype(logits.dtype),
        xp.exp(log_p),
        log_p - log_pi,
    )
    ratio, kl = xp.exp(((log_pi - log_q) * e).sum(-1)), (p * gap).sum(-1)
    w, A = token_mean(mask), per_token(advantage)
    v = share * (e - xp.exp(log_pi)) if through else e - p
    dJ = (ratio * A)[..., None] * v - kl_weight * p * (gap - kl[..., None])
    first = ratio * A * (1 if through else (log_p * e).sum(-1))
    return -(w * (first - kl_weight * kl)).sum(), -w[..., None] * dJ


def _multiplier_constant(
    logits, old_logits, actions, advantage, mask, *, radius=0.05, kl_weight=1.0
):
    return _troll_variant(
        logits, old_logits, actions, advantage, mask, radius, kl_weight, through=True
    )


def _projected_ratio_detached(
    logits, old_logits, actions, advantage, mask, *, radius=0.05, kl_weight=1.0
):
    return _troll_variant(
        logits, old_logits, actions, advantage, mask, radius, kl_weight, through=False
    )


MULTIPLIER_CONSTANT = Deviation(
    "no gradient through the multiplier",
    _multiplier_constant,
    seen_in="a common shortcut in re-implementations",
    computes="the gradient of a projection whose multiplier does not move: it has a part along old-to-new",
)


PROJECTED_RATIO_DETACHED = Deviation(
    "the projected ratio, held constant, times the raw log-probability",
    _projected_ratio_detached,
    seen_in="the TRPL loss of a prime-rl fork",
    computes="the policy gradient with projected ratios as weights, none of it through the projection",
    documented=True,
)


def _on_policy(inputs):
    """the policies are equal"""
    return {**inputs, "logits": inputs["old_logits"]}


METHOD = Method(
    key="becker2025troll",
    provenance={"confirmed": ("objective",), "reconstructed": ("parts",)},
    functions=(
        Objective(
            f=troll,
            interface=FULL_DISTRIBUTION,
            wrt="logits",
            stopped={"projection": project_kl},
            settings={"default": {}, "probe": {"radius": 0.3, "kl_weight": 0.4}},
            limits=(
                Limit(
                    "tre.tre", {"radius": 100.0}, {"clip": 1e14, "entropy_weight": 0.0}
                ),
                Limit("tre.tre", {}, {"entropy_weight": 0.0}, where=_on_policy),
            ),
            deviations=(MULTIPLIER_CONSTANT, PROJECTED_RATIO_DETACHED),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
    ),
)
