"""What methods of this family share: a loss and a gradient a domain, asked of somebody's function, and softmax heads.

A head is one matrix theta (D, K) on features (E, N, D) of E domains, with cross-entropy on labels (E, N).
"""

from typing import NamedTuple

from trref import backend, validate
from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import D, E, K, N, Real

__all__ = [
    "HeadGradient",
    "bend",
    "classes_there_are",
    "cross_entropies",
    "domain_gradients",
    "domains_there_are",
    "excess",
    "probabilities",
    "pull",
]


class HeadGradient(NamedTuple):
    """Derivatives by the head and by the features."""

    theta: Real[D, K]
    features: Real[E, N, D]


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


def classes_there_are(theta, labels, **_):
    """A class that there is not."""
    return [validate.labels(labels, theta.shape[1])]


def probabilities(theta, features):
    """Return each row's probabilities of the classes, (E, N, K)."""
    return xp.exp(log_softmax(features @ theta))


def excess(P, labels):
    """Return what probabilities exceed the labels by: the derivatives of the cross-entropies by the logits."""
    return P - one_hot(labels, P.shape[-1], P.dtype)


def cross_entropies(theta, features, labels):
    """Return the loss of each row, (E, N)."""
    log_p = log_softmax(features @ theta)
    return -(one_hot(labels, log_p.shape[-1], log_p.dtype) * log_p).sum(2)


def bend(P, A):
    """Return each row's ``(diag p - p pᵀ) a``, the derivative of a softmax with probabilities P along A."""
    return P * (A - (P * A).sum(-1, keepdims=True))


def pull(features, slopes):
    """Return the mean over rows of the outer products of features and slopes, (E, D, K)."""
    return xp.swapaxes(features, 1, 2) @ slopes / features.shape[1]
