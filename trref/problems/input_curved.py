"""Losses of a network that also know their gradients by the input, and how these change with the parameters.

For robust_continual, whose defence makes the loss flat in the input.
"""

import dataclasses
from typing import Any, Protocol

from trref.backend import xp
from trref.nn import heads, losses, mlp
from trref.problems.networks import ClassifierLoss

__all__ = ["InputCurved", "InputCurvedClassifier"]


class InputCurved(Protocol):
    """A mean loss with gradients by the inputs, one a sample."""

    def __call__(self, theta) -> Any:
        """The mean loss and its gradient by theta."""

    def input_gradients(self, theta) -> Any:
        """Each sample's gradient (N, D) of its own loss by its input."""

    def input_product(self, theta, tangent) -> Any:
        """The derivative (P,) of ``sum(tangent * input_gradients(theta))`` by theta."""

    def __len__(self) -> int:
        """The number of samples."""


@dataclasses.dataclass(frozen=True)
class InputCurvedClassifier(ClassifierLoss):
    """`trref.problems.networks.ClassifierLoss` with both; its activation must be smooth."""

    def _pass(self, theta):
        logits, cache = mlp.forward(theta, self.X, self.sizes, self.activation)
        _, slope = heads.categorical_log_prob(logits, self.labels)
        return logits, cache, -slope

    def input_gradients(self, theta):
        """Return each sample's gradient (N, D) of its own loss by its input."""
        _, cache, slope = self._pass(theta)
        return mlp.input_gradient(cache, slope)

    def input_product(self, theta, tangent):
        """Return the derivative (P,) of ``sum(tangent * input_gradients(theta))`` by theta."""
        logits, cache, slope = self._pass(theta)
        N = len(self)
        bend = lambda u: N * losses.softmax_cross_entropy_hessian(logits, u)  # noqa: E731
        return mlp.hessian_product(cache, xp.zeros_like(theta), slope, bend, tangent)
