"""Functions of eigenvalues as callables, applied entry by entry."""

import dataclasses
from typing import Any

from trref.backend import xp

__all__ = ["Exponential", "Logarithm", "Polynomial"]


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """``f(t) = c_0 + c_1 t + c_2 t² + …`` for coefficients c (K,)."""

    coefficients: Any

    def __call__(self, t):
        value = xp.zeros_like(t)
        for k in range(len(self.coefficients) - 1, -1, -1):
            value = value * t + self.coefficients[k]
        return value


@dataclasses.dataclass(frozen=True)
class Logarithm:
    """``f(t) = log t`` for t > 0."""

    def __call__(self, t):
        return xp.log(t)


@dataclasses.dataclass(frozen=True)
class Exponential:
    """``f(t) = exp(rate t)``."""

    rate: float = 1.0

    def __call__(self, t):
        return xp.exp(self.rate * t)
