r"""Ordinary differential equations :math:`y' = f(t, y, \theta)`, their solution by Runge and Kutta, and its adjoint.

A field has ``field(t, y, theta)`` for points y (..., D), and ``field.vjp(t, y, theta, cotangent)``, the derivatives of
``sum(cotangent * field(t, y, theta))`` by y and theta. The classical method of order four takes one step from each time
to the next; `rk4_vjp` is the exact derivative of what it computes, not of the solution that it approximates.

For distributional_gradient_matching (data, and predictions from a learned field), symplectic_adjoint and adjoint_dpm
(the exact discrete gradient that they are held against), trqam.
"""

import dataclasses

from trref.backend import xp

__all__ = ["LinearField", "LotkaVolterra", "rk4", "rk4_vjp"]


@dataclasses.dataclass(frozen=True)
class LotkaVolterra:
    """Prey and predator: ``(a y₁ - b y₁y₂, -c y₂ + d y₁y₂)`` with theta = (a, b, c, d)."""

    def __call__(self, t, y, theta):
        """Return the derivative (..., 2) at y (..., 2)."""
        _require("theta", theta, 4)
        _require("y", y, 2)
        meetings = y[..., 0] * y[..., 1]
        return xp.stack(
            [
                theta[0] * y[..., 0] - theta[1] * meetings,
                theta[3] * meetings - theta[2] * y[..., 1],
            ],
            -1,
        )

    def vjp(self, t, y, theta, cotangent):
        """Return the derivatives of ``sum(cotangent * field)`` by y (..., 2) and theta (4,)."""
        u, v = cotangent[..., 0], cotangent[..., 1]
        prey, predator = y[..., 0], y[..., 1]
        met = theta[3] * v - theta[1] * u
        d_y = xp.stack([theta[0] * u + met * predator, met * prey - theta[2] * v], -1)
        terms = (u * prey, -u * prey * predator, -v * predator, v * prey * predator)
        return d_y, xp.stack([term.sum() for term in terms])


@dataclasses.dataclass(frozen=True)
class LinearField:
    """``A y`` with theta = A (D, D), row by row: its solution is ``expm(t A) y``."""

    dims: int

    def __call__(self, t, y, theta):
        """Return the derivative (..., D) at y (..., D)."""
        _require("theta", theta, self.dims**2)
        _require("y", y, self.dims)
        return y @ theta.reshape(self.dims, self.dims).T

    def vjp(self, t, y, theta, cotangent):
        """Return the derivatives of ``sum(cotangent * field)`` by y (..., D) and theta (D²,)."""
        A = theta.reshape(self.dims, self.dims)
        outer = cotangent[..., :, None] * y[..., None, :]
        return cotangent @ A, outer.reshape(-1, self.dims**2).sum(0)


def rk4(field, y0, theta, times):
    """Solve from ``times[0]`` on.

    Parameters
    ----------
    field : callable
    y0 : array (..., D)
    theta : array (P,)
    times : sequence of float
        T + 1 host numbers, increasing or decreasing.

    Returns
    -------
    array (T + 1, ..., D)
    """
    path = [y0]
    for k in range(len(times) - 1):
        path.append(
            _stages(field, path[-1], theta, times[k], times[k + 1] - times[k])[-1]
        )
    return xp.stack(path)


SHARES = (0.0, 0.5, 0.5, 1.0)  # of the step at which each stage is taken
WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def _stages(field, y, theta, t, h):
    """Return the four points at which the field is asked, and the next point."""
    points, total, slope = [], y, None
    for share, weight in zip(SHARES, WEIGHTS, strict=True):
        points.append(y if slope is None else y + share * h * slope)
        slope = field(t + share * h, points[-1], theta)
        total = total + weight * h * slope
    return [*points, total]


def rk4_vjp(field, y0, theta, times, cotangent):
    """Return the derivatives of ``sum(cotangent * rk4(field, y0, theta, times))`` by y0 and theta.

    Parameters
    ----------
    field, y0, theta, times
        As in `rk4`.
    cotangent : array (T + 1, ..., D)
    """
    path, d_theta = rk4(field, y0, theta, times), xp.zeros_like(theta)
    d_y = cotangent[-1]
    for k in range(len(times) - 2, -1, -1):
        t, h = times[k], times[k + 1] - times[k]
        points = _stages(field, path[k], theta, t, h)[:-1]
        # backwards through the stages: a slope counts in the sum and in the next stage's point
        d_here, d_next_point, next_share = d_y, xp.zeros_like(d_y), 0.0
        for share, weight, point in zip(
            SHARES[::-1], WEIGHTS[::-1], points[::-1], strict=True
        ):
            d_slope = h * (weight * d_y + next_share * d_next_point)
            d_next_point, through = field.vjp(t + share * h, point, theta, d_slope)
            d_here, d_theta, next_share = (
                d_here + d_next_point,
                d_theta + through,
                share,
            )
        d_y = d_here + cotangent[k]
    return d_y, d_theta


def _require(name, array, length):
    if array.shape[-1:] != (length,):
        raise ValueError(
            f"{name} must have a last axis of length {length}, not shape {tuple(array.shape)}"
        )
