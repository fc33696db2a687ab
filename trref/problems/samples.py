"""Losses that are means over samples, and know each sample's own gradient.

``samples(theta) -> (mean, gradient (P))`` is a loss like any other. Besides there are ``samples.each(theta)``, the
losses (N,) and gradients (N, P) one a sample, ``samples.each_product(theta, V)``, each sample's Hessian times its row
of V (N, P), ``samples.hessian_product(theta, v)``, the Hessian of the mean times v, ``samples.on(rows)``, the loss of
some of the samples, and ``len(samples)``. `trref.problems.networks.ClassifierLoss` has ``each``, ``on`` and a length.

For sgd_generalization and dynamical_stability (moments of the gradients), diff2 and fsgld (clients), prospect
(reweighting), trust_region_continual (Fisher matrices), target_surrogates, mats.
"""

import dataclasses
from typing import Any

from trref.backend import special, xp
from trref.nn.heads import log_softmax, one_hot

__all__ = ["LinearSamples", "LogisticSamples", "QuadraticSamples", "SoftmaxSamples"]


class _Linear:
    """A loss of the outputs ``X W`` (N, K), theta = W (D, K) row by row, and the penalty ``l2/2 ‖theta‖²``.

    A subclass gives ``_losses(Z) -> (losses (N), derivatives (N, K))`` and ``_bend(Z, U)``, each row's Hessian times U.
    """

    def _outputs(self, theta):
        shape = self.X.shape[1], self.outputs
        if theta.shape != (shape[0] * shape[1],):
            raise ValueError(
                f"theta must have shape ({shape[0] * shape[1]},), not {tuple(theta.shape)}"
            )
        return self.X @ theta.reshape(shape)

    def _penalty(self, theta):
        return self.l2 / 2 * (theta * theta).sum()

    def __call__(self, theta):
        """Return the mean loss and its gradient (P,)."""
        losses, slopes = self._losses(self._outputs(theta))
        gradient = (self.X.T @ slopes).ravel() / len(self) + self.l2 * theta
        return losses.mean() + self._penalty(theta), gradient

    def each(self, theta):
        """Return each sample's loss (N,) and gradient (N, P)."""
        losses, slopes = self._losses(self._outputs(theta))
        return losses + self._penalty(theta), self._rows(slopes) + self.l2 * theta

    def _rows(self, slopes):
        return (self.X[:, :, None] * slopes[:, None]).reshape(len(self), -1)

    def each_product(self, theta, V):
        """Return each sample's Hessian times its row of V (N, P)."""
        U = (self.X[:, :, None] * V.reshape(len(self), -1, self.outputs)).sum(1)
        return self._rows(self._bend(self._outputs(theta), U)) + self.l2 * V

    def hessian_product(self, theta, v):
        """Return the Hessian of the mean times v (P,)."""
        bent = self._bend(self._outputs(theta), self._outputs(v))
        return (self.X.T @ bent).ravel() / len(self) + self.l2 * v

    def __len__(self):
        return len(self.X)


@dataclasses.dataclass(frozen=True)
class LinearSamples(_Linear):
    """``(x_iᵀθ - y_i)²/2 + l2/2 ‖θ‖²`` for X (N, P) and y (N,)."""

    X: Any
    y: Any
    l2: float = 0.0

    outputs = 1

    def _losses(self, Z):
        r = Z - self.y[:, None]
        return (r * r).sum(1) / 2, r

    def _bend(self, Z, U):
        return U

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return dataclasses.replace(self, X=self.X[rows], y=self.y[rows])


@dataclasses.dataclass(frozen=True)
class LogisticSamples(_Linear):
    """``log(1 + exp(-y_i x_iᵀθ)) + l2/2 ‖θ‖²`` for X (N, P) and labels y (N,) of ±1."""

    X: Any
    y: Any
    l2: float = 0.0

    outputs = 1

    def _losses(self, Z):
        y = self.y[:, None]
        losses = xp.logaddexp(xp.zeros_like(Z), -y * Z)
        return losses.sum(1), -y * special.expit(-y * Z)

    def _bend(self, Z, U):
        return special.expit(Z) * special.expit(-Z) * U

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return dataclasses.replace(self, X=self.X[rows], y=self.y[rows])


@dataclasses.dataclass(frozen=True)
class SoftmaxSamples(_Linear):
    """Cross-entropy of ``softmax(x_i W)`` and ``l2/2 ‖W‖²``: X (N, D), labels (N,) below `classes`, P = D classes."""

    X: Any
    labels: Any
    classes: int
    l2: float = 0.0

    @property
    def outputs(self):
        """Columns of W."""
        return self.classes

    def _losses(self, Z):
        log_p = log_softmax(Z)
        e = one_hot(self.labels, self.classes, Z.dtype)
        return -(e * log_p).sum(1), xp.exp(log_p) - e

    def _bend(self, Z, U):
        p = xp.exp(log_softmax(Z))
        return p * (U - (p * U).sum(1, keepdims=True))

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return dataclasses.replace(self, X=self.X[rows], labels=self.labels[rows])


@dataclasses.dataclass(frozen=True)
class QuadraticSamples:
    """``Σ_j a_ij θ_j²/2 - b_ij θ_j`` for a, b (N, P): a diagonal quadratic a sample, so that all moments are sums."""

    a: Any
    b: Any

    def __call__(self, theta):
        """Return the mean loss and its gradient (P,)."""
        losses, gradients = self.each(theta)
        return losses.mean(), gradients.mean(0)

    def each(self, theta):
        """Return each sample's loss (N,) and gradient (N, P)."""
        if theta.shape != self.a.shape[1:]:
            raise ValueError(
                f"theta must have shape {tuple(self.a.shape[1:])}, not {tuple(theta.shape)}"
            )
        gradients = self.a * theta - self.b
        return (theta * (gradients - self.b)).sum(1) / 2, gradients

    def each_product(self, theta, V):
        """Return each sample's Hessian times its row of V (N, P)."""
        return self.a * V

    def hessian_product(self, theta, v):
        """Return the Hessian of the mean times v (P,)."""
        return self.a.mean(0) * v

    def on(self, rows):
        """Return the loss of some rows: a slice or an integer array."""
        return dataclasses.replace(self, a=self.a[rows], b=self.b[rows])

    def __len__(self):
        return len(self.a)
