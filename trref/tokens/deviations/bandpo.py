"""What public code computes in the place of the equations of `trref.tokens.bandpo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import clipped_terms, column, seq_mean, weighted

__all__ = ["BAND_AT_THE_ENDS", "BAND_RELAXED", "BAND_WITH_DUAL_CLIP"]


def _operator_band(old_log_prob, delta, ball, cap):
    """The authors' operator, without its relaxation: bisection where they bisect, limits where they override."""
    p = xp.exp(xp.clip(old_log_prob, -700.0 if old_log_prob.dtype.itemsize == 8 else -85.0, 0.0))
    inner = xp.clip(p, 1e-12, 1 - 1e-7)
    if ball == "forward_kl":

        def inside(r):
            terms = [xp.maximum(u, 1e-12) for u in (r, (1 - r * inner) / (1 - inner))]
            value = [-xp.log(u) + u - 1 for u in terms]
            return inner * value[0] + (1 - inner) * value[1] <= delta

        lower, upper = (_bisect(inside, xp.ones_like(p), end) for end in (xp.zeros_like(p), 1 / inner))
        at_one = math.exp(-min(delta, 80.0))
    else:
        step = delta / inner if ball == "total_variation" else xp.sqrt(delta * (1 - inner) / inner)
        lower, upper = xp.maximum(1 - step, 0), xp.minimum(1 + step, 1 / inner)
        at_one = max(1 - delta, 0.0) if ball == "total_variation" else 1.0
    near_one, near_zero = p > 1 - 1e-6, p < 1e-6
    upper = xp.where(near_zero, 1 / xp.maximum(p, 1e-12), xp.where(near_one, 1, upper))
    lower = xp.where(near_zero, 0, xp.where(near_one, at_one, lower))
    return lower.astype(p.dtype), xp.clip(upper, 1, cap).astype(p.dtype)


def _bisect(inside, start, end):
    """From `start`, which is inside, towards `end`: the end itself if that is inside, too."""
    saturated, low, high = inside(end), start, end
    for _ in range(60):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = xp.where(within, middle, low), xp.where(within, high, middle)
    return xp.where(saturated, end, low)


def _band_at_the_ends(old_log_prob, *, delta=0.05, ball="forward_kl", cap=100.0):
    return _operator_band(old_log_prob, delta, ball, cap)


def _band_relaxed(
    log_prob, old_log_prob, advantage, mask, *, delta=0.05, ball="forward_kl", cap=100.0, relax=(0.2, 0.28)
):
    lower, upper = _operator_band(old_log_prob, delta, ball, cap)
    lower, upper = xp.minimum(lower, 1 - relax[0]), xp.maximum(upper, 1 + relax[1])
    return weighted(seq_mean(mask), *clipped_terms(log_prob - old_log_prob, advantage, 1 - lower, upper - 1))


def _band_with_dual_clip(log_prob, old_log_prob, advantage, mask, *, delta=0.05, ball="forward_kl"):
    lower, upper = _operator_band(old_log_prob, delta, ball, 10.0)
    term, derivative = clipped_terms(log_prob - old_log_prob, advantage, 1 - lower, upper - 1)
    A = column(advantage)
    bounded = (A < 0) & (term < 10 * A)
    return weighted(seq_mean(mask), xp.where(bounded, 10 * A, term), xp.where(bounded, 0, derivative))


BAND_AT_THE_ENDS = Deviation(
    "limits in the place of the roots for p below 1e-6 and above 1 - 1e-6",
    _band_at_the_ends,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py and solver.py",
    computes="the bounds' limits near p = 0 and 1, and 1/p for the KL bound where 1 - p is below delta/27",
)
BAND_RELAXED = Deviation(
    "the band joined with [0.8, 1.28]",
    _band_relaxed,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py, does_relax_high_p_bound=True by default",
    computes="bounds that are nowhere tighter than clip-higher's",
    documented=True,
)
BAND_WITH_DUAL_CLIP = Deviation(
    "capped at 10, with a dual clip at 10",
    _band_with_dual_clip,
    seen_in="OpenMOSS/BandPO, the run scripts of the main experiments",
    computes="for negative advantages no less than 10 times the advantage, and no upper bound above 10",
    documented=True,
)
