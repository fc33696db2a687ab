"""Equations on a grid: residuals of all values together, with the products that implicit differentiation needs.

An equation takes the values u (M) at the points of its grid and gives rows of residuals (E): ``residual(u)``,
``jvp(u, V)`` for V (M) or (M, N), ``vjp(u, r)`` and ``curvature(u, r, V)``, the second derivatives of the sum of all
rows, weighted by r, times V.

For hard_constraint_moe.
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import xp

__all__ = ["DiffusionSorption", "PolynomialEquation", "reaction_diffusion", "sorption"]


def _fits(u, points):
    if u.shape[0] != points:
        raise ValueError(
            f"the values must have shape ({points},), as the equation's grid has, not {tuple(u.shape)}"
        )


def _column(a, V):
    return a if V.ndim == 1 else a[:, None]


@dataclasses.dataclass(frozen=True)
class PolynomialEquation:
    """``linear u + quadratic u² + cubic u³ + source``: matrices (E, M) on powers of the values, and a vector (E)."""

    linear: Any
    quadratic: Any
    cubic: Any
    source: Any

    def residual(self, u):
        """Return the rows (E)."""
        _fits(u, self.linear.shape[1])
        return self.linear @ u + self.quadratic @ u**2 + self.cubic @ u**3 + self.source

    def jvp(self, u, V):
        """Return the rows' derivatives along V."""
        _fits(u, self.linear.shape[1])
        first, second = _column(2 * u, V) * V, _column(3 * u**2, V) * V
        return self.linear @ V + self.quadratic @ first + self.cubic @ second

    def vjp(self, u, r):
        """Return the gradient of ``r · residual(u)``."""
        _fits(u, self.linear.shape[1])
        return (
            self.linear.T @ r
            + 2 * u * (self.quadratic.T @ r)
            + 3 * u**2 * (self.cubic.T @ r)
        )

    def curvature(self, u, r, V):
        """Return the second derivatives of ``r · residual(u)``, times V."""
        _fits(u, self.linear.shape[1])
        return _column(2 * (self.quadratic.T @ r) + 6 * u * (self.cubic.T @ r), V) * V


def _periodic(points):
    """Second differences on a circle of length 1."""
    D = -2 * np.eye(points)
    D += np.roll(np.eye(points), 1, 1) + np.roll(np.eye(points), -1, 1)
    return D * points**2


def _in_time(steps, dt):
    """Central first differences, one-sided at the ends."""
    D = (np.eye(steps, k=1) - np.eye(steps, k=-1)) / (2 * dt)
    D[0, :3], D[-1, -3:] = (
        np.array([-3, 4, -1]) / (2 * dt),
        np.array([1, -4, 3]) / (2 * dt),
    )
    return D


def reaction_diffusion(points=64, steps=33, *, nu=1e-3, end=0.5, weight=10.0):
    """``u_t = nu u_xx + r(x) u (1 - u)`` on a circle, its initial values as weighted rows, and the grid (host).

    Returns
    -------
    equation : PolynomialEquation
        Values are numbered with x fastest; the first rows are those of the grid, the last those of the start.
    x, t : array (M,)
        Where the values lie.
    start : array (points,)
    """
    x, t = np.arange(points) / points, np.linspace(0, end, steps)
    rate = np.tile(2 + 1.5 * np.sin(6 * np.pi * x), steps)
    start = 0.3 + 0.2 * np.sin(2 * np.pi * x) + 0.15 * np.cos(8 * np.pi * x)
    linear = np.kron(_in_time(steps, t[1]), np.eye(points))
    linear -= nu * np.kron(np.eye(steps), _periodic(points)) + np.diag(rate)
    first = weight * np.eye(points, points * steps)
    nothing = np.zeros_like(first)
    equation = PolynomialEquation(
        np.concatenate([linear, first]),
        np.concatenate([np.diag(rate), nothing]),
        np.zeros((points * (steps + 1), points * steps)),
        np.concatenate([np.zeros(points * steps), -weight * start]),
    )
    return equation, np.tile(x, steps), np.repeat(t, points), start


@dataclasses.dataclass(frozen=True)
class DiffusionSorption:
    """``u_t - D u_xx / R(u)`` on the inner points, and linear rows ``other u + source`` of the borders and the start.

    ``R(u) = 1 + a (u + 1e-6)^(n - 1)``, frozen below u = 0.
    """

    by_t: Any
    by_xx: Any
    other: Any
    source: Any
    D: float = 5e-4
    a: float = (1 - 0.29) / 0.29 * 2880 * 3.5e-4 * 0.874
    n: float = 0.874

    def _speed(self, u):
        """D / R and its first and second derivative."""
        p, power = xp.maximum(u, 0) + 1e-6, self.n - 1
        R, inside = 1 + self.a * p**power, u > 0
        R1 = xp.where(inside, self.a * power * p ** (power - 1), 0)
        R2 = xp.where(inside, self.a * power * (power - 1) * p ** (power - 2), 0)
        return self.D / R, -self.D * R1 / R**2, self.D * (2 * R1**2 / R**3 - R2 / R**2)

    def residual(self, u):
        """Return the rows (E)."""
        _fits(u, self.by_t.shape[1])
        inner = self.by_t @ u - self._speed(u)[0][self._rows] * (self.by_xx @ u)
        return xp.concatenate([inner, self.other @ u + self.source])

    @property
    def _rows(self):
        """The inner points are those whose row of second differences has its largest entry, in size, there."""
        return abs(self.by_xx).argmax(1)

    def jvp(self, u, V):
        """Return the rows' derivatives along V."""
        _fits(u, self.by_t.shape[1])
        g, g1, _ = (a[self._rows] for a in self._speed(u))
        own = (
            _column(g, V) * (self.by_xx @ V)
            + _column(g1 * (self.by_xx @ u), V) * V[self._rows]
        )
        return xp.concatenate([self.by_t @ V - own, self.other @ V])

    def _spread(self, rows):
        """Values of inner rows at their points, 0 elsewhere."""
        at = (self._rows[None] == xp.arange(self.by_t.shape[1])[:, None]).astype(
            rows.dtype
        )
        return at @ rows

    def vjp(self, u, r):
        """Return the gradient of ``r · residual(u)``."""
        _fits(u, self.by_t.shape[1])
        g, g1, _ = (a[self._rows] for a in self._speed(u))
        inner, rest = r[: len(g)], r[len(g) :]
        own = self.by_xx.T @ (g * inner) + self._spread(g1 * (self.by_xx @ u) * inner)
        return self.by_t.T @ inner - own + self.other.T @ rest

    def curvature(self, u, r, V):
        """Return the second derivatives of ``r · residual(u)``, times V."""
        _fits(u, self.by_t.shape[1])
        _, g1, g2 = (a[self._rows] for a in self._speed(u))
        inner = r[: len(g1)]
        at = V[self._rows]
        across = self.by_xx.T @ (_column(g1 * inner, V) * at)
        own = _column(g1 * inner, V) * (self.by_xx @ V)
        own = own + _column(g2 * (self.by_xx @ u) * inner, V) * at
        return -across - self._spread(own)


def sorption(points=16, steps=11, *, end=100.0):
    """The equation of the paper on [0, 1], with u = 1 at the left, ``u = D u_x`` at the right, and 0 at first (host).

    Returns
    -------
    equation : DiffusionSorption
    x, t : array (M,)
        Where the values lie, x fastest.
    """
    x, t = np.linspace(0, 1, points), np.linspace(0, end, steps)
    h = x[1]
    second = np.zeros((points - 2, points))
    for i in range(points - 2):
        second[i, i : i + 3] = np.array([1, -2, 1]) / h**2
    inner, all_t = np.eye(points)[1:-1], np.eye(steps)
    left, right = np.eye(points)[:1], np.zeros((1, points))
    right[0, -3:] = -DiffusionSorption.D * np.array([1, -4, 3]) / (2 * h)
    right[0, -1] += 1
    other = np.concatenate(
        [np.kron(all_t, left), np.kron(all_t, right), np.eye(points, points * steps)]
    )
    source = np.concatenate([-np.ones(steps), np.zeros(steps + points)])
    equation = DiffusionSorption(
        np.kron(_in_time(steps, t[1]), inner), np.kron(all_t, second), other, source
    )
    return equation, np.tile(x, steps), np.repeat(t, points)
