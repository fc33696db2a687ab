"""What public code computes in the place of the equations of `trref.tokens.cppo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clamped_log_ratio, column, token_mean, weighted

__all__ = ["ALWAYS_DYNAMIC", "KEPT_TOKENS_ONLY", "TIGHTER_LATER"]


def _prefix_masked(log_prob, old_log_prob, advantage, mask, weight, spent, threshold):
    d, A = log_prob - old_log_prob, column(advantage)
    keep = (xp.sign(A) * xp.sign(d) <= 0) | (spent <= threshold)
    term = keep * (xp.exp(d) * A)
    return weighted(weight, term, term)


def _falling(mask, w_min):
    before = xp.cumsum(mask, axis=1) - mask
    return mask * (1 - (1 - w_min) * before / xp.maximum(mask.sum(1, keepdims=True) - 1, 1))


def _before(x):
    return xp.cumsum(x, axis=1) - x


def _tighter_later(log_prob, old_log_prob, advantage, mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8):
    w = _falling(mask, w_min)
    w = mask / xp.where(w > 0, w, 1)
    c = xp.minimum(delta, delta + delta_b * _before(w) - _before(w * divergence))
    return _prefix_masked(log_prob, old_log_prob, advantage, mask, token_mean(mask), w * divergence, c)


def _kept_tokens_only(log_prob, old_log_prob, advantage, mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8):
    w, A, d = _falling(mask, w_min), column(advantage) + 0 * mask, log_prob - old_log_prob
    S, W, term = xp.zeros_like(mask[:, 0]), xp.zeros_like(mask[:, 0]), []
    for t in range(mask.shape[1]):
        spent, room = w[:, t] * divergence[:, t], delta + xp.minimum(0, delta_b * W - S)
        keep = mask[:, t] * ((xp.sign(A[:, t]) * xp.sign(d[:, t]) <= 0) | (spent <= room))
        S, W = S + keep * spent, W + keep * w[:, t]
        term.append(keep * (xp.exp(d[:, t]) * A[:, t]))
    term = xp.stack(term, 1)
    return weighted(token_mean(mask), term, term)


def _always_dynamic(log_prob, old_log_prob, advantage, mask, *, delta=0.15, delta_b=0.015, w_min=0.8):
    d, free = clamped_log_ratio(log_prob, old_log_prob)
    D, w, n = mask * abs(xp.exp(log_prob) - xp.exp(old_log_prob)), _falling(mask, w_min), mask.sum(1, keepdims=True)
    place, last = 0.9 * xp.maximum(n - 1, 0), mask.shape[1] - 1
    low = xp.minimum(xp.floor(place) + last + 1 - n, last)
    ends = [xp.take_along_axis(xp.sort(D, axis=1), i.astype("int64"), 1) for i in (low, xp.minimum(low + 1, last))]
    decile = ends[0] + (place - xp.floor(place)) * (ends[1] - ends[0])
    c = xp.minimum(delta, delta + xp.clip(decile, delta_b, 2 * delta_b) * _before(w) - _before(w * D))
    loss, gradient = _prefix_masked(old_log_prob + d, old_log_prob, advantage, mask, token_mean(mask), w * D, c)
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
