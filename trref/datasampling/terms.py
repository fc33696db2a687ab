"""What methods of this family share: a loss and a gradient a sample, asked of somebody's function; probabilities."""

from trref import backend, validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot

__all__ = ["errors", "sample_gradients"]


def sample_gradients(loss, theta, name="loss"):
    """Return the gradients (N, P) of ``loss.each(theta) -> (losses (N), gradients (N, P))``, its result checked.

    As `trref.validate.loss_and_grad` has it, values that are not finite are refused on the host.
    """
    result = loss.each(theta)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name}.each must return a tuple (losses, gradients), not {type(result).__name__}"
        )
    shapes = ((len(loss),), (len(loss), len(theta)))
    for what, value, shape in zip(("losses", "gradients"), result, shapes, strict=True):
        validate.array(f"the {what} that {name}.each returns", value)
        if value.shape != shape:
            raise ValueError(
                f"{name}.each must return {what} of shape {shape}, not {tuple(value.shape)}"
            )
        if value.dtype != theta.dtype:
            raise TypeError(
                f"{name}.each returns {value.dtype} {what} at {theta.dtype} parameters: give it data of one dtype"
            )
        if backend.backend_name() == "numpy" and not xp.isfinite(value).all():
            raise ValueError(f"{name}.each must return finite values")
    return result[1]


def errors(logits, labels):
    """Return ``softmax(logits) - onehot(labels)`` for logits (..., N, K)."""
    p = xp.exp(log_softmax(logits))
    return p - one_hot(labels, logits.shape[-1], logits.dtype)
