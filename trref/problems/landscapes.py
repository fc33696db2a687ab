"""Functions of one and two variables on which update rules are drawn, as callables: ``f(x) -> (value, gradient)``.

With `trref.problems.convex.Rosenbrock` for diffgrad (the three of one variable), induced_metric (Beale, quartic) and
adamomentum.
"""

import dataclasses

from trref.backend import xp

__all__ = ["Beale", "Corner", "Plateau", "Quartic", "Waves", "require_length"]


@dataclasses.dataclass(frozen=True)
class Corner:
    """diffGrad's F1: ``(x + 0.3)²`` for x ≤ 0, else ``(x - 0.2)² + 0.05``; the minimum is at -0.3. x is (1,)."""

    def __call__(self, x):
        """Return value and gradient."""
        require_length(x, 1)
        left = x <= 0
        value = xp.where(left, (x + 0.3) ** 2, (x - 0.2) ** 2 + 0.05)
        return value[0], xp.where(left, 2 * x + 0.6, 2 * x - 0.4)


@dataclasses.dataclass(frozen=True)
class Waves:
    """diffGrad's F2: ``x³ + x sin 8x + 0.85``, for x ≤ -0.9 the line ``-40 x - 35.15``. x is (1,).

    The line ends 0.015 above the waves. The gradient is the true one; the authors' notebook has ``x cos 8x`` for
    ``8 x cos 8x``.
    """

    def __call__(self, x):
        """Return value and gradient."""
        require_length(x, 1)
        line, wave = x <= -0.9, x**3 + x * xp.sin(8 * x) + 0.85
        slope = 3 * x**2 + xp.sin(8 * x) + 8 * x * xp.cos(8 * x)
        return xp.where(line, -40 * x - 35.15, wave)[0], xp.where(
            line, -40.0, slope
        ).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """diffGrad's F3: ``x²`` from ±½ on, ``0.75 - |x|`` down to ±0.4, then ``7/8 |x|``. x is (1,)."""

    def __call__(self, x):
        """Return value and gradient; at 0 that of the left side."""
        require_length(x, 1)
        side, r = xp.where(x > 0, 1.0, -1.0).astype(x.dtype), abs(x)
        value = xp.where(r >= 0.5, x * x, xp.where(r > 0.4, 0.75 - r, 7 / 8 * r))
        return value[0], xp.where(
            r >= 0.5, 2 * x, side * xp.where(r > 0.4, -1.0, 7 / 8).astype(x.dtype)
        )


@dataclasses.dataclass(frozen=True)
class Beale:
    """``(1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²``; the minimum is 0 at (3, ½)."""

    def __call__(self, point):
        """Return value and gradient."""
        require_length(point, 2)
        x, y = point[0], point[1]
        power = xp.stack([y, y**2, y**3])
        slope = xp.stack([xp.ones_like(y), 2 * y, 3 * y**2])
        constant = xp.asarray([1.5, 2.25, 2.625], dtype=point.dtype)
        r = constant - x + x * power
        return (r * r).sum(), 2 * xp.stack(
            [(r * (power - 1)).sum(), (r * x * slope).sum()]
        )


@dataclasses.dataclass(frozen=True)
class Quartic:
    """``Σ x_i⁴``: the minimum is flat."""

    def __call__(self, x):
        """Return value and gradient."""
        return (x**4).sum(), 4 * x**3


def require_length(x, n):
    if x.shape != (n,):
        raise ValueError(f"x must have shape ({n},), not {tuple(x.shape)}")
