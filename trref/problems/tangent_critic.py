"""A critic with its derivative along a direction of the input, and that derivative's gradient in the parameters.

For rl_augmentation (tangent propagation).
"""

import dataclasses

from trref.backend import xp
from trref.nn import mlp

__all__ = ["TangentCritic"]


@dataclasses.dataclass(frozen=True)
class TangentCritic:
    """A perceptron from inputs (N, sizes[0]) to values (N,); ``sizes[-1]`` is 1."""

    sizes: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self):
        """Length of theta."""
        return mlp.size(self.sizes)

    def value(self, theta, x):
        """Return the values (N,) and the cache for `gradient`."""
        output, cache = mlp.forward(theta, x, self.sizes, self.activation)
        return output[:, 0], cache

    def gradient(self, cache, cotangent):
        """Return the gradient (P,) of ``sum(cotangent * values)``."""
        return mlp.gradient(cache, cotangent[:, None])

    def __call__(self, theta, x, tangent):
        """Return the slopes (N,) along the tangents (N, D), and ``pull(cotangent (N,)) -> gradient (P,)`` of them."""
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        cache = mlp.forward(theta, x, self.sizes, self.activation)[1]
        still = xp.zeros_like(theta)
        slope = mlp.jvp(cache, still, tangent)[:, 0]

        def pull(cotangent):
            return mlp.hessian_product(
                cache, still, cotangent[:, None], xp.zeros_like, tangent
            )

        return slope, pull
