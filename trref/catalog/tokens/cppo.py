"""What is known of `trref.tokens.cppo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE, with_edges
from trref.catalog.tokens.pieces import clamped_log_ratio, weighted
from trref.catalog.tokens.places import (
    REINFORCE_OVER_TOKENS,
    measured_by_the_token,
    of_one_token,
    of_three_tokens,
)
from trref.tokens.cppo import (
    cppo,
    cppo_binary,
    cppo_mask,
    dynamic_budget,
    position_weight,
    prefix_threshold,
)
from trref.tokens.terms import per_token, token_mean


def _prefix_masked(log_prob, old_log_prob, advantage, mask, weight, spent, threshold):
    d, A = log_prob - old_log_prob, per_token(advantage)
    keep = (xp.sign(A) * xp.sign(d) <= 0) | (spent <= threshold)
    term = keep * (xp.exp(d) * A)
    return weighted(weight, term, term)


def _falling(mask, w_min):
    before = xp.cumsum(mask, axis=1) - mask
    return mask * (
        1 - (1 - w_min) * before / xp.maximum(mask.sum(1, keepdims=True) - 1, 1)
    )


def _before(x):
    return xp.cumsum(x, axis=1) - x


def _tighter_later(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    divergence,
    *,
    radius=0.15,
    mean_radius=0.015,
    w_min=0.8,
):
    w = _falling(mask, w_min)
    w = mask / xp.where(w > 0, w, 1)
    c = xp.minimum(radius, radius + mean_radius * _before(w) - _before(w * divergence))
    return _prefix_masked(
        log_prob, old_log_prob, advantage, mask, token_mean(mask), w * divergence, c
    )


def _kept_tokens_only(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    divergence,
    *,
    radius=0.15,
    mean_radius=0.015,
    w_min=0.8,
):
    w, A, d = (
        _falling(mask, w_min),
        per_token(advantage) + 0 * mask,
        log_prob - old_log_prob,
    )
    S, W, term = xp.zeros_like(mask[:, 0]), xp.zeros_like(mask[:, 0]), []
    for t in range(mask.shape[1]):
        spent, room = (
            w[:, t] * divergence[:, t],
            radius + xp.minimum(0, mean_radius * W - S),
        )
        keep = mask[:, t] * (
            (xp.sign(A[:, t]) * xp.sign(d[:, t]) <= 0) | (spent <= room)
        )
        S, W = S + keep * spent, W + keep * w[:, t]
        term.append(keep * (xp.exp(d[:, t]) * A[:, t]))
    term = xp.stack(term, 1)
    return weighted(token_mean(mask), term, term)


def _always_dynamic(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    *,
    radius=0.15,
    mean_radius=0.015,
    w_min=0.8,
):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    D, w, n = (
        mask * abs(xp.exp(log_prob) - xp.exp(old_log_prob)),
        _falling(mask, w_min),
        mask.sum(1, keepdims=True),
    )
    place, last = 0.9 * xp.maximum(n - 1, 0), mask.shape[1] - 1
    low = xp.minimum(xp.floor(place) + last + 1 - n, last)
    ends = [
        xp.take_along_axis(xp.sort(D, axis=1), i.astype("int64"), 1)
        for i in (low, xp.minimum(low + 1, last))
    ]
    decile = ends[0] + (place - xp.floor(place)) * (ends[1] - ends[0])
    c = xp.minimum(
        radius,
        radius
        + xp.clip(decile, mean_radius, 2 * mean_radius) * _before(w)
        - _before(w * D),
    )
    loss, gradient = _prefix_masked(
        old_log_prob + d, old_log_prob, advantage, mask, token_mean(mask), w * D, c
    )
    return loss, gradient * free


TIGHTER_LATER = Deviation(
    "an allowance that shrinks along the answer",
    _tighter_later,
    seen_in="the description of CPPO in Tencent-Hunyuan/UniRL; its code does as the paper",
    computes="divergences divided by the weight in the place of multiplied, so that late tokens are held tighter",
)
KEPT_TOKENS_ONLY = Deviation(
    "masked tokens spend nothing",
    _kept_tokens_only,
    seen_in="a slip that the algorithm invites; UniRL sums over all tokens",
    computes="sums over the tokens that keep their gradient",
)
ALWAYS_DYNAMIC = Deviation(
    "a budget of each answer, log-ratios clamped to ±20",
    _always_dynamic,
    seen_in="Tencent-Hunyuan/UniRL unirl/algorithms/cppo.py",
    computes="always the dynamic budget, and ratios of clamped log-ratios, without gradient beyond ±20",
    documented=True,
)


def _weight_by_position(mask, *, w_min=0.8):
    result = xp.zeros_like(mask)
    for b, row in enumerate(mask.tolist()):
        tokens = [t for t, m in enumerate(row) if m]
        for i, t in enumerate(tokens):
            result[b, t] = (
                1.0 if len(tokens) == 1 else 1 - (1 - w_min) * i / (len(tokens) - 1)
            )
    return result


def _budget_by_quantile(mask, divergence, *, smallest=0.02):
    rows = [d[m > 0] for m, d in zip(mask, divergence, strict=True)]
    decile = [float(xp.quantile(d, 0.9)) if len(d) else 0.0 for d in rows]
    return xp.array([min(max(q, smallest), 2 * smallest) for q in decile])


def _threshold_by_loop(
    mask, divergence, *, radius=0.15, mean_radius=0.015, w_min=0.8, budget="fixed"
):
    w, c = _weight_by_position(mask, w_min=w_min), xp.zeros_like(mask)
    budgets = _budget_by_quantile(mask, divergence, smallest=mean_radius).tolist()
    for b in range(mask.shape[0]):
        S = W = 0.0
        for t in range(mask.shape[1]):
            c[b, t] = min(
                radius,
                radius + (mean_radius if budget == "fixed" else budgets[b]) * W - S,
            )
            S, W = S + float(w[b, t] * divergence[b, t]), W + float(w[b, t])
    return c


def _mask_by_loop(
    log_prob, old_log_prob, advantage, mask, divergence, *, w_min=0.8, **hyper
):
    c = _threshold_by_loop(mask, divergence, w_min=w_min, **hyper)
    w, A = (
        _weight_by_position(mask, w_min=w_min),
        advantage.reshape(len(mask), -1) + 0 * mask,
    )
    keep = xp.zeros_like(mask)
    for b, t in xp.ndindex(*mask.shape):
        returns = A[b, t] * (xp.exp(log_prob[b, t] - old_log_prob[b, t]) - 1) <= 0
        keep[b, t] = mask[b, t] and (returns or w[b, t] * divergence[b, t] <= c[b, t])
    return keep


def _on_policy():
    """Elsewhere a ratio of 1 is a jump."""
    return {**TOKEN_OBJECTIVE.edges["on-policy"](), "divergence": xp.zeros((4, 3))}


def _twelve_tokens():
    """The decile lies between the tenth and the eleventh of twelve divergences, away from the largest."""
    divergence = xp.array([[0.025, 0.2, 0.03] + [0.001] * 9])
    return {"mask": xp.ones_like(divergence), "divergence": divergence}


PROBE = {"radius": 0.07, "mean_radius": 0.03, "w_min": 0.45, "budget": "dynamic"}
SETTINGS = {
    "default": {},
    "dynamic budget": {"mean_radius": 0.02, "budget": "dynamic"},
    "Kullback-Leibler": {"radius": 0.1, "mean_radius": 0.002},
    "probe": PROBE,
}
DRIFT = with_edges(
    TOKEN_OBJECTIVE, *TOKEN_OBJECTIVE.edges, **{"twelve tokens": _twelve_tokens}
)
WITHOUT_A_JUMP = with_edges(
    TOKEN_OBJECTIVE, *TOKEN_OBJECTIVE.edges, **{"on-policy": _on_policy}
)
EVERYTHING, NO_CLIP = {"radius": 1e15}, {"clip_low": 1e14, "clip_high": 1e14}
ONE_THRESHOLD = {"mean_radius": 1e9, "w_min": 1.0}
METHOD = Method(
    key="mao2026cppo",
    provenance="confirmed",
    functions=(
        Estimator(
            f=position_weight,
            interface=TOKEN_OBJECTIVE,
            settings={"default": {}, "probe": {"w_min": 0.45}},
            brute_force=_weight_by_position,
        ),
        Estimator(
            f=dynamic_budget,
            interface=DRIFT,
            settings={"default": {}, "probe": {"smallest": 0.07}},
            brute_force=_budget_by_quantile,
        ),
        Estimator(
            f=prefix_threshold,
            interface=DRIFT,
            settings=SETTINGS,
            brute_force=_threshold_by_loop,
        ),
        Estimator(
            f=cppo_mask,
            interface=TOKEN_OBJECTIVE,
            settings=SETTINGS,
            brute_force=_mask_by_loop,
        ),
        Objective(
            f=cppo,
            interface=WITHOUT_A_JUMP,
            wrt="log_prob",
            settings={"default": {}, "probe": PROBE},
            limits=(
                Limit("dapo.dapo_over_batch", EVERYTHING, NO_CLIP),
                Limit("cppo.cppo_binary", {}, where=measured_by_the_token),
                Limit(
                    "drpo.dppo_measured",
                    ONE_THRESHOLD,
                    {"max_length": 3, "bound": 1e14},
                    where=of_three_tokens,
                ),
                Limit(
                    "drpo.dppo_measured",
                    {},
                    {"max_length": 1, "bound": 1e14},
                    where=of_one_token,
                ),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(TIGHTER_LATER, KEPT_TOKENS_ONLY),
        ),
        Objective(
            f=cppo_binary,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": PROBE},
            limits=(
                Limit("dapo.dapo_over_batch", EVERYTHING, NO_CLIP),
                Limit(
                    "drpo.dppo",
                    ONE_THRESHOLD,
                    {"max_length": 3, "bound": 1e14},
                    where=of_three_tokens,
                ),
                Limit(
                    "drpo.dppo",
                    {},
                    {"max_length": 1, "bound": 1e14},
                    where=of_one_token,
                ),
                REINFORCE_OVER_TOKENS,
            ),
            deviations=(ALWAYS_DYNAMIC,),
        ),
    ),
)
