"""Functions of inputs: a value and a gradient a row, ``score_and_grad(x (N, D)) -> (values (N), gradients (N, D))``.

What attacks climb and attributions explain. A network's also has ``logits(x)`` (N, K) and ``jvp(x, tangent)``, the
derivative of the logits (N, K) when each row moves along its row of the tangent.

For pgd, regional_adversarial_training, level_set_traversal and directional_attacks; smoothgrad, attribution_protection
(integrated gradients) and influence_scores; robust_continual (forward Jacobians).
"""

import dataclasses
from typing import Any

from trref.backend import xp
from trref.nn import heads, mlp

__all__ = ["LinearScore", "QuadraticScore", "ReluScore", "RowLoss", "RowScore"]


class _Network:
    """A perceptron with fixed parameters, read row by row."""

    def logits(self, x):
        """Return the outputs (N, K)."""
        return mlp.forward(self.theta, x, self.sizes, self.activation)[0]

    def jvp(self, x, tangent):
        """Return the derivative (N, K) of the outputs along a tangent of x (N, D)."""
        _, cache = mlp.forward(self.theta, x, self.sizes, self.activation)
        return mlp.jvp(cache, xp.zeros_like(self.theta), tangent)

    def on(self, rows):
        """Return the same network for some of the rows: a slice or an integer array."""
        return dataclasses.replace(self, labels=self.labels[rows])

    def __len__(self):
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class RowLoss(_Network):
    """The cross-entropy of each row with its label: what an attack raises.

    Parameters
    ----------
    theta : array (P,)
    labels : integer array (N,)
    sizes : tuple of int
    activation : str
        See `trref.nn.activations`.
    """

    theta: Any
    labels: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __call__(self, x):
        """Return the losses (N,) and their gradients by x (N, D)."""
        _require_rows(x, len(self))
        logits, cache = mlp.forward(self.theta, x, self.sizes, self.activation)
        log_prob, d_logits = heads.categorical_log_prob(logits, self.labels)
        return -log_prob, mlp.input_gradient(cache, -d_logits)


@dataclasses.dataclass(frozen=True)
class RowScore(_Network):
    """The logit of each row's class in `labels`: what an attribution explains. Parameters as of `RowLoss`."""

    theta: Any
    labels: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __call__(self, x):
        """Return the logits (N,) and their gradients by x (N, D)."""
        _require_rows(x, len(self))
        logits, cache = mlp.forward(self.theta, x, self.sizes, self.activation)
        e = heads.one_hot(self.labels, self.sizes[-1], logits.dtype)
        return (e * logits).sum(1), mlp.input_gradient(cache, e)


@dataclasses.dataclass(frozen=True)
class LinearScore:
    """``wᵀx + b`` for w (D,): one step of an attack is optimal, and all attributions agree."""

    w: Any
    b: float = 0.0

    def __call__(self, x):
        """Return the scores (N,) and their gradients (N, D)."""
        _require_columns(x, len(self.w))
        return x @ self.w + self.b, xp.zeros_like(x) + self.w


@dataclasses.dataclass(frozen=True)
class QuadraticScore:
    """``-(x - c)ᵀA(x - c)/2`` for symmetric A (D, D) and c (D,): for positive A a hill with its top at c."""

    A: Any
    c: Any

    def __call__(self, x):
        """Return the scores (N,) and their gradients (N, D)."""
        _require_columns(x, len(self.c))
        gradient = -(x - self.c) @ self.A
        return (gradient * (x - self.c)).sum(1) / 2, gradient


@dataclasses.dataclass(frozen=True)
class ReluScore:
    """``Σ_j w_j max(u_jᵀx + b_j, 0)`` for U (H, D), b and w (H,): one hidden layer, with kinks."""

    U: Any
    b: Any
    w: Any

    def __call__(self, x):
        """Return the scores (N,) and their gradients (N, D), on a kink those of the inactive side."""
        _require_columns(x, self.U.shape[1])
        a = x @ self.U.T + self.b
        active = (a > 0) * self.w
        return (a * active).sum(1), active @ self.U


def _require_rows(x, N):
    if len(x) != N:
        raise ValueError(f"x must have shape ({N}, D), not {tuple(x.shape)}")


def _require_columns(x, D):
    if x.ndim != 2 or x.shape[1] != D:
        raise ValueError(f"x must have shape (N, {D}), not {tuple(x.shape)}")
