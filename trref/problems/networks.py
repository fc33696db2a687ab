"""A network on fixed data, as a callable of the flat parameter vector: its loss, or its mean output.

Several networks of one kind, theta (S, P), are computed together: losses (S,) and gradients (S, P).
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp
from trref.nn import heads, losses, mlp, per_sample

__all__ = [
    "ClassifierLoss",
    "MeanOutput",
    "RegressionLoss",
    "curvature",
    "random_classifier",
]


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
        return mlp.gauss_newton_product(
            cache, v, lambda u: losses.softmax_cross_entropy_hessian(logits, u)
        )

    def each(self, theta):
        """Return each sample's loss (N,) and its gradient (N, P), as `trref.problems.samples` has it."""
        logits, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        log_prob, d_logits = heads.categorical_log_prob(logits, self.labels)
        return -log_prob, per_sample.gradients(cache, -d_logits)

    def logits(self, theta):
        """Return the logits (N, K)."""
        return mlp.forward(theta, self.X, self.sizes, self.activation)[0]

    def logits_vjp(self, theta, cotangent):
        """Return the gradient (P,) of ``sum(cotangent * logits)``."""
        return mlp.gradient(
            mlp.forward(theta, self.X, self.sizes, self.activation)[1], cotangent
        )

    def predict(self, theta, X):
        """Return the most probable class of each row of X."""
        return mlp.forward(theta, X, self.sizes, self.activation)[0].argmax(-1)

    def on(self, rows):
        """Return the loss on a subset of the data: a slice or an integer array of row numbers."""
        return dataclasses.replace(self, X=self.X[rows], labels=self.labels[rows])

    def at(self, X):
        """Return the loss at other inputs with the same labels: noised ones (tram), attacked ones (robust training)."""
        return dataclasses.replace(self, X=X)

    def __len__(self):
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class RegressionLoss:
    """Half the squared error of a multilayer perceptron, mean over rows: ``loss(theta) -> (value, gradient)``.

    For the surrogate of ignite and the deep linear networks of weight_conditioning.

    Parameters
    ----------
    X : array (N, D)
    y : array (N, K)
    sizes : tuple of int
        Widths from D to K.
    activation : str
        See `trref.nn.activations`.
    """

    X: Any
    y: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __call__(self, theta):
        """Return the loss and its gradient with respect to theta."""
        output, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        value, d_output = losses.squared_error(output, self.y)
        return value, mlp.gradient(cache, d_output)

    def hessian_product(self, theta, v):
        """Multiply the Hessian at theta by v."""
        output, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        _, d_output = losses.squared_error(output, self.y)
        return mlp.hessian_product(
            cache, v, d_output, lambda u: losses.squared_error_hessian(output, u)
        )

    def predict(self, theta, X):
        """Return the outputs (N, K) at rows of X."""
        return mlp.forward(theta, X, self.sizes, self.activation)[0]

    def input_gradient(self, theta, X):
        """Return the gradient (N, D) of each row's first output by that row: for the ascent to a design in ignite."""
        output, cache = mlp.forward(theta, X, self.sizes, self.activation)
        first = (xp.arange(self.sizes[-1]) == 0).astype(output.dtype)
        return mlp.input_gradient(cache, xp.zeros_like(output) + first)

    def on(self, rows):
        """Return the loss on a subset of the data: a slice or an integer array of row numbers."""
        return dataclasses.replace(self, X=self.X[rows], y=self.y[rows])

    def __len__(self):
        return len(self.y)


@dataclasses.dataclass(frozen=True)
class MeanOutput:
    """Mean of a multilayer perceptron's only output over rows: ``mean(theta) -> (value, gradient)``.

    For ignite, which bounds its sharpness, and gam, as an example of a callable with curvature.

    Parameters
    ----------
    X : array (N, D)
    sizes : tuple of int
        Widths from D to 1.
    activation : str
        See `trref.nn.activations`.
    """

    X: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __post_init__(self):
        if self.sizes[-1] != 1:
            raise ValueError(f"sizes must end in 1, not {tuple(self.sizes)}")

    def __call__(self, theta):
        """Return the mean output and its gradient with respect to theta."""
        output, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        share = xp.ones_like(output) / len(self.X)
        return (share * output).sum((-2, -1)), mlp.gradient(cache, share)

    def hessian_product(self, theta, v):
        """Multiply the Hessian at theta by v."""
        output, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        return mlp.hessian_product(
            cache, v, xp.ones_like(output) / len(self.X), xp.zeros_like
        )

    def on(self, rows):
        """Return the mean over a subset of the rows: a slice or an integer array of row numbers."""
        return dataclasses.replace(self, X=self.X[rows])

    def __len__(self):
        return len(self.X)


def random_classifier(rng, *, points, dims=3, classes=3, hidden=4, activation="tanh"):
    """Return a `ClassifierLoss` on random points with labels from a noisy linear rule, on the host."""
    X = rng.standard_normal((points, dims))
    labels = (
        X @ rng.standard_normal((dims, classes))
        + 0.5 * rng.standard_normal((points, classes))
    ).argmax(1)
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
    v = xp.asarray(
        np.random.default_rng(0).standard_normal(theta.size), dtype=theta.dtype
    )
    estimate = 0.0
    for _ in range(iterations):
        v = v / xp.sqrt((v * v).sum())
        w = loss.hessian_product(theta, v)
        previous, estimate = estimate, float((v * w).sum())
        if abs(estimate - previous) <= rtol * abs(estimate):
            break
        v = w
    return estimate
