"""What public code computes in the place of the equations of `trref.tokens.pspo`."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.catalog.tokens.pieces import column, seq_mean, weighted

__all__ = ["CLIP_KEPT", "LOG_PROB_SMOOTHED"]


def _clip_kept(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    ratio, A = xp.exp(log_prob - old_log_prob), column(advantage)
    smoothed = (1 - alpha) * ratio + alpha
    unclipped, clipped = smoothed * A, xp.clip(smoothed, 0.8, 1.2) * A
    derivative = (1 - alpha) * ratio * A * (unclipped <= clipped)
    return weighted(seq_mean(mask), xp.minimum(unclipped, clipped), derivative)


def _log_prob_smoothed(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    term = xp.exp((1 - alpha) * (log_prob - old_log_prob)) * column(advantage)
    return weighted(seq_mean(mask), term, (1 - alpha) * term)


CLIP_KEPT = Deviation(
    "the clip at 0.2 is kept",
    _clip_kept,
    seen_in="a slip to expect where the ratio of a clipped loss is replaced; not seen in public code",
    computes="the smoothed ratio under GRPO's clip: a wider clip of the plain ratio",
)
LOG_PROB_SMOOTHED = Deviation(
    "log-probabilities are mixed in the place of probabilities",
    _log_prob_smoothed,
    seen_in="a slip to expect; not seen in public code",
    computes="the ratio to the power 1 - alpha, which is not a mixture: the gradient's direction changes",
)
