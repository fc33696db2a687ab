"""Poisson's equation in one dimension, and a network of stencils on several scales that maps residuals to directions.

The network is linear: on each level two 1-D convolutions (zeros beyond the ends) of the residual, which on the way down
is smoothed and averaged in pairs; on the way up values are repeated and smoothed. It is not symmetric.

For deep_conjugate_direction.
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp
from trref.nn.conv import conv2d, conv2d_vjp

__all__ = ["Identity", "Poisson", "Saturated", "StencilNetwork", "stencil_network"]


@dataclasses.dataclass(frozen=True)
class Poisson:
    """``2 x_i - x_{i-1} - x_{i+1}`` with zeros beyond the ends."""

    def __call__(self, x):
        """Return the product (N,)."""
        zero = xp.zeros_like(x[:1])
        padded = xp.concatenate([zero, x, zero])
        return 2 * x - padded[:-2] - padded[2:]


@dataclasses.dataclass(frozen=True)
class Identity:
    """Each vector is its own image."""

    def __call__(self, x):
        """Return the vector."""
        return x.copy()


@dataclasses.dataclass(frozen=True)
class Saturated:
    """``x_i / (level + |x_i|)``: what it gives depends on the length of its input."""

    level: float = 0.1

    def __call__(self, x):
        """Return the entries, saturated."""
        return x / (self.level + abs(x))


@dataclasses.dataclass(frozen=True)
class StencilNetwork:
    """A network with parameters ``first`` and ``last``, each (L, C, W): levels, channels, odd width of a stencil."""

    first: Any
    last: Any

    def __call__(self, r):
        """Return the output (N,) for an input (N,), N a multiple of 2^(L - 1)."""
        return self.forward(r[None])[0][0]

    def forward(self, r):
        """Return outputs (B, N) for inputs (B, N), and the cache for `vjp`."""
        levels, _, width = self.first.shape
        if r.shape[-1] % 2 ** (levels - 1):
            raise ValueError(
                f"r must have a multiple of {2 ** (levels - 1)} entries, not {r.shape[-1]}"
            )
        coarse, outs, cache, pad = r, [], [], width // 2
        for l in range(levels):
            if l:
                coarse = _smooth(coarse).reshape(len(r), -1, 2).mean(-1)
            image = _padded(coarse[:, None, None], pad)
            h = _convolve(image, self.first[l][:, None])
            hidden = _padded(h, pad)
            outs.append(_convolve(hidden, self.last[l][None])[:, 0, 0])
            cache.append((image, hidden))
        total = outs.pop()
        while outs:
            total = outs.pop() + _smooth(xp.repeat(total, 2, axis=1))
        return total, cache

    def vjp(self, cache, cotangent):
        """Return the derivatives of ``sum(cotangent * output)`` by first and last."""
        pad, d_first, d_last, back = self.first.shape[2] // 2, [], [], cotangent
        for l, (image, hidden) in enumerate(cache):
            if l:
                back = _smooth(back).reshape(len(back), -1, 2).sum(-1)
            d_hidden, d_w = _convolve_vjp(
                hidden, self.last[l][None], back[:, None, None]
            )
            d_last.append(d_w[0])
            inner = d_hidden[..., pad : d_hidden.shape[-1] - pad]
            d_first.append(_convolve_vjp(image, self.first[l][:, None], inner)[1][:, 0])
        return xp.stack(d_first), xp.stack(d_last)


def _smooth(x):
    """Means of neighbours with weights ¼, ½, ¼: its own adjoint."""
    wide = _padded(x, 1)
    return (wide[..., :-2] + 2 * x + wide[..., 2:]) / 4


def _padded(x, pad):
    zeros = xp.zeros((*x.shape[:-1], pad), dtype=x.dtype)
    return xp.concatenate([zeros, x, zeros], -1)


def _convolve(x, weight):
    """Images of height 1, (B, C, 1, N), by stencils (F, C, W)."""
    bias = xp.zeros(len(weight), dtype=x.dtype)
    return conv2d(x, weight[:, :, None], bias)


def _convolve_vjp(x, weight, cotangent):
    d_x, d_weight, _ = conv2d_vjp(x, weight[:, :, None], cotangent)
    return d_x, d_weight[:, :, 0]


def stencil_network(rng, *, levels=4, channels=4, width=3, scale=0.3):
    """Draw a `StencilNetwork` near the identity on each level, four times as large on each coarser one (host).

    Half of the channels pass r, half pass -r, and the last stencils turn it back.
    """
    first, last = scale * rng.standard_normal((2, levels, channels, width))
    signs = np.array([(-1.0) ** c for c in range(channels)])
    first[:, :, width // 2] += signs
    last[:, :, width // 2] += signs / channels
    last *= 4.0 ** np.arange(levels)[:, None, None]
    return StencilNetwork(xp.asarray(first), xp.asarray(last))
