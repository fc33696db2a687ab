"""What methods of this family share: a loss and a gradient a domain, asked of somebody's function."""

from trref import backend, validate
from trref.backend import xp

__all__ = ["domain_gradients", "domains_there_are"]


def domain_gradients(losses_and_grads, theta):
    """Return the losses (E,) and gradients (E, P) that ``losses_and_grads(theta)`` returns, checked.

    As `trref.validate.loss_and_grad` has it, values that are not finite are refused on the host.
    """
    result, E = losses_and_grads(theta), len(losses_and_grads)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"losses_and_grads must return a tuple (losses, gradients), not {type(result).__name__}"
        )
    shapes = {"losses": (E,), "gradients": (E, *theta.shape)}
    for (what, shape), array in zip(shapes.items(), result, strict=True):
        validate.array(f"the {what} that losses_and_grads returns", array)
        if array.shape != shape:
            raise ValueError(
                f"losses_and_grads must return {what} of shape {shape}, not {tuple(array.shape)}"
            )
        if array.dtype != theta.dtype:
            raise TypeError(
                f"losses_and_grads returns {array.dtype} {what} at {theta.dtype} points: give it data of one dtype"
            )
        if backend.backend_name() == "numpy" and not xp.isfinite(array).all():
            raise ValueError("losses_and_grads must return finite values")
    return result


def domains_there_are(losses_and_grads, order, **_):
    """A domain that there is not."""
    E = len(losses_and_grads)
    return [(lambda: (order < E).all(), f"order must be less than {E}, the domains")]
