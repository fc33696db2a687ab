"""What methods of this family share: a loss and a gradient a sample, asked of somebody's function; probabilities."""

from trref import validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot

__all__ = ["errors", "sample_gradients"]


def sample_gradients(loss, theta, name="loss"):
    """Return the gradients (N, P) of ``loss.each(theta) -> (losses (N), gradients (N, P))``, its result checked.

    As `trref.validate.loss_and_grad` has it, values that are not finite are refused on the host.
    """
    return validate.each(loss, theta, len(loss), name)[1]


def errors(logits, labels):
    """Return ``softmax(logits) - onehot(labels)`` for logits (..., N, K)."""
    p = xp.exp(log_softmax(logits))
    return p - one_hot(labels, logits.shape[-1], logits.dtype)
