"""Small networks of which low-rank adapters are trained, and nothing else. For alignprop and lora."""

import dataclasses
from typing import Any

from trref.backend import xp
from trref.diffusion.lora import lora_gradients, lora_weights
from trref.nn import flat, mlp

__all__ = ["Adapted"]


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A `trref.problems.denoisers.TimeNetwork` whose weight matrices carry adapters; biases stay as they are.


    Parameters
    ----------
    network : trref.problems.denoisers.TimeNetwork
    theta : array (P,)
        Of the network, held constant.
    rank : int
    alpha, strength : float
        As of `trref.diffusion.lora.lora_weights`.
    """

    network: Any
    theta: Any
    rank: int = 2
    alpha: float = 1.0
    strength: float = 1.0

    @property
    def shapes(self):
        """Shapes of A and B, layer by layer."""
        return [
            shape
            for W, _ in mlp.unpack(self.theta, self.network.sizes)
            for shape in ((self.rank, W.shape[0]), (W.shape[1], self.rank))
        ]

    def init(self, rng):
        """Draw A from a normal law of variance 1/inputs; B is 0."""
        parts = [
            xp.asarray(rng.standard_normal(s)) / s[1] ** 0.5
            if k % 2 == 0
            else xp.zeros(s)
            for k, s in enumerate(self.shapes)
        ]
        return flat.join(parts).astype(self.theta.dtype)

    def _factors(self, factors):
        parts = flat.split(factors, self.shapes)
        return list(zip(parts[::2], parts[1::2], strict=True))

    def merged(self, factors):
        """Return the network's parameters (P,) with the adapters in."""
        how = {"alpha": self.alpha, "strength": self.strength}
        layers = mlp.unpack(self.theta, self.network.sizes)
        pieces = []
        for (W, b), (A, B) in zip(layers, self._factors(factors), strict=True):
            pieces += [lora_weights(xp.array(W.T), A, B, **how).T, b]
        return flat.join(pieces)

    def forward(self, factors, x, t):
        """Return outputs (N, D) and the cache for `vjp`."""
        output, cache = self.network.forward(self.merged(factors), x, t)
        return output, (cache, factors)

    def vjp(self, cache, cotangent):
        """Return the derivatives of ``sum(cotangent * output)`` by the factors and by x."""
        inner, factors = cache
        d_theta, d_x = self.network.vjp(inner, cotangent)
        how = {"alpha": self.alpha, "strength": self.strength}
        layers = mlp.unpack(d_theta, self.network.sizes)
        pieces = []
        for (d_W, _), (A, B) in zip(layers, self._factors(factors), strict=True):
            pieces += lora_gradients(xp.array(d_W.T), A, B, **how)
        return flat.join(pieces), d_x
