"""A network's loss on fixed data, as a callable of the flat parameter vector."""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp
from trref.nn import losses, mlp

__all__ = ["ClassifierLoss", "curvature", "random_classifier"]


@dataclasses.dataclass(frozen=True)
class ClassifierLoss:
    """Softmax cross-entropy of a multilayer perceptron: ``loss(theta) -> (value, gradient)``.

    Parameters
    ----------
    X : array (N, D)
    labels : integer array (N,)
    sizes : tuple of int
        Widths from D to the number of classes.
    activation : str
        See `trref.nn.activations`.
    """

    X: Any
    labels: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __call__(self, theta):
        """Return the mean loss and its gradient with respect to theta."""
        logits, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        value, d_logits = losses.softmax_cross_entropy(logits, self.labels)
        return value, mlp.gradient(cache, d_logits)

    def hessian_product(self, theta, v):
        """Multiply the Hessian at theta by v."""
        logits, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        _, d_logits = losses.softmax_cross_entropy(logits, self.labels)
        curvature = lambda u: losses.softmax_cross_entropy_hessian(logits, u)  # noqa: E731
        return mlp.hessian_product(cache, v, d_logits, curvature)

    def gauss_newton_product(self, theta, v):
        """Multiply the Gauss-Newton matrix at theta by v."""
        logits, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        return mlp.gauss_newton_product(cache, v, lambda u: losses.softmax_cross_entropy_hessian(logits, u))

    def predict(self, theta, X):
        """Return the most probable class of each row of X."""
        return mlp.forward(theta, X, self.sizes, self.activation)[0].argmax(1)

    def on(self, rows):
        """Return the loss on a subset of the data: a slice or an integer array of row numbers."""
        return dataclasses.replace(self, X=self.X[rows], labels=self.labels[rows])


def random_classifier(rng, *, points, dims=3, classes=3, hidden=4, activation="tanh"):
    """Return a `ClassifierLoss` on random points with labels from a noisy linear rule, on the host."""
    X = rng.standard_normal((points, dims))
    labels = (X @ rng.standard_normal((dims, classes)) + 0.5 * rng.standard_normal((points, classes))).argmax(1)
    return ClassifierLoss(X, labels, (dims, hidden, classes), activation)


def curvature(loss, theta, *, iterations=100, rtol=1e-4):
    """Return the Hessian's eigenvalue of largest magnitude at theta, by power iteration on Hessian products.

    Parameters
    ----------
    loss : object with a method ``hessian_product(theta, v)``
    theta : array (P,)
    iterations : int
    rtol : float
        Stops when the estimate moves by less.

    Returns
    -------
    float
    """
    v = xp.asarray(np.random.default_rng(0).standard_normal(theta.size), dtype=theta.dtype)
    estimate = 0.0
    for _ in range(iterations):
        v = v / xp.sqrt((v * v).sum())
        w = loss.hessian_product(theta, v)
        previous, estimate = estimate, float((v * w).sum())
        if abs(estimate - previous) <= rtol * abs(estimate):
            break
        v = w
    return estimate
