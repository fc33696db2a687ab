r"""A perceptron with two heads: :math:`h = \phi(\text{body}(x))`, and two networks that read it.

For sdat and trustworthy_erm (class and domain), the autoencoder of fedclean (mean and log variance of the code) and
actor and critic that share a body. The parameters lie in one vector: body, first head, second head. Several networks,
theta (S, P), are computed together, as in `trref.nn.mlp`.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.nn import activations, mlp

__all__ = ["Cache", "Sizes", "forward", "init", "size", "vjp"]


class Sizes(NamedTuple):
    """Widths: of the body, from the input to the features; of each head, from its first layer after them to its output.

    ``Sizes((2, 32, 16), (2,), (32, 1))`` is 2-32-16 with the heads 16-2 and 16-32-1.
    """

    body: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def networks(self):
        """Widths of the three perceptrons, inputs included."""
        return self.body, (self.body[-1], *self.first), (self.body[-1], *self.second)


class Cache(NamedTuple):
    """What a forward pass leaves: the caches of body, first and second head, and the features (N, body[-1])."""

    body: mlp.Cache
    first: mlp.Cache
    second: mlp.Cache
    features: object


def size(sizes):
    """Return the length of theta."""
    return sum(mlp.size(widths) for widths in sizes.networks)


def init(rng, sizes, *, scale=1.0, dtype="float64"):
    """Draw parameters, as `trref.nn.mlp.init` does."""
    return xp.concatenate(
        [mlp.init(rng, widths, scale=scale, dtype=dtype) for widths in sizes.networks]
    )


def forward(theta, X, sizes, activation="tanh"):
    """Return the outputs of both heads, (N, first[-1]) and (N, second[-1]), and the `Cache`.

    Raises
    ------
    ValueError
        `theta` or `X` has another shape than `sizes` ask for.
    """
    if theta.shape[-1:] != (size(sizes),):
        raise ValueError(
            f"theta must have shape ({size(sizes)},) for {sizes}, not {tuple(theta.shape)}"
        )
    body, first, second = sizes.networks
    start, middle = mlp.size(body), mlp.size(body) + mlp.size(first)
    a, in_body = mlp.forward(theta[..., :start], X, body, activation)
    h = activations.get(activation).value(a)
    one, in_first = mlp.forward(theta[..., start:middle], h, first, activation)
    two, in_second = mlp.forward(theta[..., middle:], h, second, activation)
    return one, two, Cache(in_body, in_first, in_second, h)


def vjp(cache, first, second):
    """Return the derivative of ``sum(first * output 1) + sum(second * output 2)`` by theta, (P,)."""
    d_first, from_first = mlp.vjp(cache.first, first)
    d_second, from_second = mlp.vjp(cache.second, second)
    slope = activations.get(cache.body.activation).first(
        cache.body.pre_activations[-1], cache.features
    )
    d_body = mlp.gradient(cache.body, (from_first + from_second) * slope)
    return xp.concatenate([d_body, d_first, d_second], axis=-1)
