r"""What the losses of preferences have in common: gradients of pairs, the logistic loss, comparisons in a table.

Everything here is unchecked: the losses have checked their arguments. The equations stand in
:mod:`trref.preferences.dpo`, where these pieces come from.
"""

from typing import NamedTuple

from trref.backend import special, xp
from trref.signature import B, Real


class PairGradient(NamedTuple):
    """Derivatives with respect to the log-probabilities of the chosen and of the rejected answers."""

    chosen_log_prob: Real[B]
    rejected_log_prob: Real[B]


def counted(chosen_length, rejected_length, **_):
    """Lengths that are next to nothing: no numbers of tokens, and means over them overflow."""
    words = "must be a number of tokens, 0.001 or more"
    return [
        (lambda: chosen_length.min() >= 1e-3, f"chosen_length {words}"),
        (lambda: rejected_length.min() >= 1e-3, f"rejected_length {words}"),
    ]


def softplus(x):
    """``log(1 + exp(x))``, without overflow."""
    return xp.logaddexp(0, x)


def log_ratio_margin(
    chosen_log_prob, rejected_log_prob, ref_chosen_log_prob, ref_rejected_log_prob
):
    """How much the log-ratio of the chosen answer exceeds that of the rejected one."""
    chosen = chosen_log_prob - ref_chosen_log_prob
    return chosen - (rejected_log_prob - ref_rejected_log_prob)  # eq. dpo-margin


def logistic_loss(h, label_smoothing):
    """The loss of each margin, and its derivative: ``label_smoothing`` of the labels count as flipped."""
    kept, flipped = 1 - label_smoothing, label_smoothing
    # eq. dpo-conservative
    loss = kept * softplus(-h) + flipped * softplus(h)
    slope = flipped * special.expit(h) - kept * special.expit(-h)
    return loss, slope


def of_pairs(loss, slope):
    """The mean over pairs of a loss of margins, and the gradient: the margin is a difference."""
    B = len(loss)
    # eq. dpo-gradient
    return loss.sum() / B, PairGradient(slope / B, -slope / B)


def table_gradient(C):
    """The derivative by the logits of a table, where C (K, K) is that by the margins of the row over the column.

    It sums to zero over the answers, so that the softmax's normaliser has no part in it.
    """
    return C.sum(1) - C.sum(0)
