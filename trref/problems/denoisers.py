"""Small networks of a point and a noise time, and exact models that a network corrects.

A model with parameters has ``forward(theta, x, t) -> (output (N, D), cache)`` and ``vjp(cache, cotangent) -> (d_theta
(P), d_x (N, D))``; `WithParameters` makes a plain ``model(x, t)`` of it.

For alignprop, rocm and trqam (fine-tuning), adjoint_dpm (gradients through a sampler), grpo_guard, sage_grpo and gardo
(policies), drifting_field_policy and diff_instruct_star (one-step generators).
"""

import dataclasses
import math
from typing import Any

from trref import validate
from trref.backend import xp
from trref.nn import mlp

__all__ = ["AskedNetwork", "Residual", "TimeNetwork", "WithParameters"]


@dataclasses.dataclass(frozen=True)
class TimeNetwork:
    """A perceptron of x (N, D) and the features ``t, cos πt, sin πt`` of noise times t (N,), with outputs (N, D).

    Parameters
    ----------
    dims : int
        D.
    hidden : tuple of int
        Widths of the hidden layers.
    activation : str
        See `trref.nn.activations`; a smooth one where derivatives by x are used.
    """

    dims: int = 2
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"

    @property
    def sizes(self):
        """Widths of the perceptron."""
        return (self.dims + 3, *self.hidden, self.dims)

    @property
    def size(self):
        """Length of theta."""
        return mlp.size(self.sizes)

    def init(self, rng, *, dtype="float64"):
        """Draw parameters of a network whose output is 0: the last layer starts there, and learns at once."""
        theta = mlp.init(rng, self.sizes, dtype=dtype)
        last = mlp.size(self.sizes[-2:])
        return xp.concatenate([theta[:-last], xp.zeros_like(theta[-last:])])

    def forward(self, theta, x, t):
        """Return outputs (N, D) and the cache for `vjp`."""
        if x.ndim != 2 or x.shape[1] != self.dims or t.shape != (len(x),):
            raise ValueError(
                f"x and t must have shapes (N, {self.dims}) and (N,), not {x.shape} and {t.shape}"
            )
        features = xp.stack([t, xp.cos(math.pi * t), xp.sin(math.pi * t)], 1)
        return mlp.forward(
            theta, xp.concatenate([x, features], 1), self.sizes, self.activation
        )

    def vjp(self, cache, cotangent):
        """Return the derivatives of ``sum(cotangent * output)`` by theta (P,) and x (N, D)."""
        d_theta, d_input = mlp.vjp(cache, cotangent)
        return d_theta, d_input[:, : self.dims]


@dataclasses.dataclass(frozen=True)
class Residual:
    """``base(x, t) + network(theta, x, t)``: with a network that starts at 0 it starts as the exact model.

    Parameters
    ----------
    base : callable with ``vjp``
        Such as `trref.problems.mixtures.MixtureNoise`.
    network : TimeNetwork
    """

    base: Any
    network: TimeNetwork

    @property
    def size(self):
        """Length of theta."""
        return self.network.size

    def init(self, rng, *, dtype="float64"):
        """Draw the network's parameters."""
        return self.network.init(rng, dtype=dtype)

    def forward(self, theta, x, t):
        """Return outputs (N, D) and the cache for `vjp`."""
        output, cache = self.network.forward(theta, x, t)
        return self.base(x, t) + output, (cache, x, t)

    def vjp(self, cache, cotangent):
        """Return the derivatives of ``sum(cotangent * output)`` by theta (P,) and x (N, D)."""
        inner, x, t = cache
        d_theta, d_x = self.network.vjp(inner, cotangent)
        return d_theta, d_x + self.base.vjp(x, t, cotangent)


@dataclasses.dataclass(frozen=True)
class WithParameters:
    """A model with its parameters filled in: ``model(x, t)``, with ``model.vjp(x, t, cotangent)`` by x.

    Parameters
    ----------
    network : TimeNetwork or Residual
    theta : array (P,)
    """

    network: Any
    theta: Any

    def __call__(self, x, t):
        """Return the output (N, D)."""
        return self.network.forward(self.theta, x, t)[0]

    def vjp(self, x, t, cotangent):
        """Return the derivative (N, D) of ``sum(cotangent * model(x, t))`` by x."""
        return self.network.vjp(self.network.forward(self.theta, x, t)[1], cotangent)[1]


class AskedNetwork:
    """A model with parameters of which every answer is looked at: a wrong one is an error with the argument's name.

    Parameters
    ----------
    name : str
        Of the argument.
    network : trref.problems.protocols.DenoisingNetwork
    """

    def __init__(self, name, network):
        self.name, self.network = name, network

    def _answers(self, method, value, *like):
        """Require a pair: an array like the first of `like`, and one like the second if there is one."""
        name = f"{self.name}.{method}"
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeError(f"{name} must return a pair, not {type(value).__name__}")
        for answer, wanted in zip(value, like, strict=False):
            validate.returned(name, answer, wanted.shape, finite=True)
            if answer.dtype != wanted.dtype:
                raise TypeError(
                    f"{name} returns {answer.dtype} for {wanted.dtype} arguments: give it data of one dtype"
                )
        return value

    def forward(self, theta, x, t):
        """Return outputs (N, D) and the cache for `vjp`; all rows are at the host or device number t."""
        times = xp.zeros_like(x[:, 0]) + t
        output, cache = self._answers(
            "forward", self.network.forward(theta, x, times), x
        )
        return output, (cache, theta, x)

    def vjp(self, cache, cotangent):
        """Return the derivatives of ``sum(cotangent * output)`` by theta (P,) and x (N, D)."""
        inner, theta, x = cache
        return self._answers("vjp", self.network.vjp(inner, cotangent), theta, x)
