"""Maps from points to outputs, ``map(x (N, D)) -> (N, M)``, that pull cotangents back: ``map.vjp(x, cotangent)``.

`Directed` reads one along a direction of outputs, a value a row, as attacks take it; `Composed` is a function of its
outputs at one point. For directional_attacks.
"""

import dataclasses
from typing import Any

from trref.backend import xp
from trref.nn import mlp

__all__ = ["Composed", "Directed", "LinearMap", "Network", "SquaredDistance"]


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """``A x`` for A (M, D)."""

    A: Any

    def __call__(self, x):
        """Return the outputs (N, M)."""
        if x.shape[1:] != self.A.shape[1:]:
            raise ValueError(f"x must have shape (N, {self.A.shape[1]}), not {x.shape}")
        return x @ self.A.T

    def vjp(self, x, cotangent):
        """Return the gradients (N, D) of ``sum(cotangent * map(x))``."""
        return cotangent @ self.A


@dataclasses.dataclass(frozen=True)
class Network:
    """A multilayer perceptron with fixed parameters theta (P,)."""

    theta: Any
    sizes: tuple[int, ...]
    activation: str = "tanh"

    def __call__(self, x):
        """Return the outputs (N, M)."""
        return mlp.forward(self.theta, x, self.sizes, self.activation)[0]

    def vjp(self, x, cotangent):
        """Return the gradients (N, D) of ``sum(cotangent * map(x))``."""
        _, cache = mlp.forward(self.theta, x, self.sizes, self.activation)
        return mlp.input_gradient(cache, cotangent)


@dataclasses.dataclass(frozen=True)
class Directed:
    """The outputs along directions (N, M): ``score_and_grad(x) -> (values (N), gradients (N, D))``."""

    network: Any
    direction: Any

    def __call__(self, x):
        """Return values and gradients."""
        values = (self.direction * self.network(x)).sum(1)
        return values, self.network.vjp(x, self.direction)


@dataclasses.dataclass(frozen=True)
class SquaredDistance:
    """``-‖y - goal‖²`` of outputs y (M,): what is to be maximised."""

    goal: Any

    def __call__(self, y):
        """Return value and gradient."""
        return -((y - self.goal) ** 2).sum(), -2 * (y - self.goal)


@dataclasses.dataclass(frozen=True)
class Composed:
    """The value of a function of a map's outputs, at one point x (D,)."""

    network: Any
    objective: Any

    def __call__(self, x):
        """Return the value."""
        return xp.asarray(self.objective(self.network(x[None])[0])[0])
