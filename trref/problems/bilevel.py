"""Problems of two levels: minimise ``upper(x, y)`` over x, where y minimises ``lower(x, y)``.

Each of ``upper`` and ``lower`` gives ``(value, gradient by x (N), gradient by y (M))``; ``constraints(x, y)`` gives
values (C), at most 0 where they hold (0, where ``equality``), and Jacobians (C, N) and (C, M). ``project(x, y)``
returns the nearest pair that keeps them, ``project_lower(y)`` the nearest y of the lower level's own set. Where the
lower level has two derivatives, ``lower_hessian`` (M, M) and ``lower_cross`` (N, M) give them.

For bilevel_penalty (a penalty for the lower level's gap, against the implicit gradient) and lv_hba (constraints that
couple the levels); parl has a lower level of this kind.
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import linalg, xp

__all__ = [
    "BalancedBilevel",
    "CoupledBilevel",
    "QuadraticBilevel",
    "RidgePenalties",
    "quadratic_bilevel",
]


def _fits(x, y, sizes):
    """Require both levels in the sizes of the problem."""
    for name, value, size in zip("xy", (x, y), sizes, strict=True):
        if value.shape != (size,):
            raise ValueError(
                f"{name} must have shape ({size},), as the problem has, not {tuple(value.shape)}"
            )


@dataclasses.dataclass(frozen=True)
class QuadraticBilevel:
    """Upper ``‖x - x_goal‖²/2 + ‖y - y_goal‖²/2``, lower ``yᵀHy/2 - yᵀ(B x + c)`` for H (M, M) ≥ 0 and B (M, N).

    H may be singular if B x + c is in its range: then the lower level has many solutions, and the nearest to y_goal is
    meant.
    """

    H: Any
    B: Any
    c: Any
    x_goal: Any
    y_goal: Any

    def upper(self, x, y):
        """Return value and gradients of the upper level."""
        _fits(x, y, (len(self.x_goal), len(self.y_goal)))
        to_x, to_y = x - self.x_goal, y - self.y_goal
        return ((to_x * to_x).sum() + (to_y * to_y).sum()) / 2, to_x, to_y

    def lower(self, x, y):
        """Return value and gradients of the lower level."""
        _fits(x, y, (len(self.x_goal), len(self.y_goal)))
        Hy, force = self.H @ y, self.B @ x + self.c
        return (y * (Hy / 2 - force)).sum(), -(self.B.T @ y), Hy - force

    def lower_hessian(self, x, y):
        """Return the second derivatives by y, (M, M)."""
        return self.H.copy()

    def lower_cross(self, x, y):
        """Return the mixed second derivatives (N, M)."""
        return -self.B.T

    def project(self, x, y):
        """There are no constraints."""
        return x, y

    def solution(self, x):
        """Return the lower level's solution nearest to y_goal, in closed form."""
        inverse = linalg.pinv(self.H)
        return self.y_goal + inverse @ (self.B @ x + self.c - self.H @ self.y_goal)

    def hypergradient(self, x):
        """Return the gradient (N,) of ``upper(x, solution(x))`` in closed form."""
        _, d_x, d_y = self.upper(x, self.solution(x))
        return d_x + self.B.T @ (linalg.pinv(self.H) @ d_y)


def quadratic_bilevel(rng, *, upper=3, lower=4, rank=None):
    """Draw a `QuadraticBilevel` with x (upper,) and y (lower,); H has this rank and eigenvalues in [½, 2] (host)."""
    rank = lower if rank is None else rank
    Q = np.linalg.qr(rng.standard_normal((lower, lower)))[0][:, :rank]
    H = (Q * rng.uniform(0.5, 2.0, rank)) @ Q.T
    B, c = Q @ rng.standard_normal((rank, upper)), Q @ rng.standard_normal(rank)
    return QuadraticBilevel(
        (H + H.T) / 2, B, c, rng.standard_normal(upper), rng.standard_normal(lower)
    )


@dataclasses.dataclass(frozen=True)
class CoupledBilevel:
    """Upper ``‖x - goal‖²/2 + ‖y - goal‖²/2``, lower ``‖y - 2x‖²/2`` under ``x + y ≤ limit``, x and y (N,).

    With one unknown, goal 2 and limit 3 the solution is x = y = 1.5, with multiplier 1.5 and upper value ¼; the lower
    level's solution ``min(2x, limit - x)`` has a kink at x = 1. With a floor y is at least that.
    """

    goal: float = 2.0
    limit: float = 3.0
    floor: float | None = None
    equality: bool = False

    def upper(self, x, y):
        """Return value and gradients of the upper level."""
        _fits(x, y, (len(x),) * 2)
        to_x, to_y = x - self.goal, y - self.goal
        return ((to_x * to_x).sum() + (to_y * to_y).sum()) / 2, to_x, to_y

    def lower(self, x, y):
        """Return value and gradients of the lower level."""
        _fits(x, y, (len(x),) * 2)
        r = y - 2 * x
        return (r * r).sum() / 2, -2 * r, r

    def constraints(self, x, y):
        """Return values (N,) and Jacobians (N, N) by x and by y."""
        _fits(x, y, (len(x),) * 2)
        eye = xp.eye(len(x), dtype=x.dtype)
        return x + y - self.limit, eye, eye.copy()

    def project(self, x, y):
        """Return the nearest pair with ``x + y ≤ limit``, and y above the floor."""
        _fits(x, y, (len(x),) * 2)
        excess = xp.maximum(x + y - self.limit, 0) / 2
        if self.floor is None:
            return x - excess, y - excess
        low = y - excess < self.floor  # then the nearest pair is on the floor
        return (
            xp.where(low, xp.minimum(x, self.limit - self.floor), x - excess),
            xp.where(low, self.floor, y - excess),
        )

    def project_lower(self, y):
        """Return the nearest y above the floor."""
        return y.copy() if self.floor is None else xp.maximum(y, self.floor)

    def solution(self, x):
        """Return the lower level's solution."""
        y = xp.minimum(2 * x, self.limit - x)
        return y if self.floor is None else xp.maximum(y, self.floor)


@dataclasses.dataclass(frozen=True)
class BalancedBilevel:
    """Upper ``‖x - b‖²/2 + ‖a - 1‖²/2``, lower ``‖a‖²/2 - xᵀa + Σ b`` under ``Σ (x + a + b) = 0``, y = (a, b), x (N,).

    Only the sum of b is the lower level's to choose: its solutions are many. Of each, ``a = x + 1`` with multiplier -1;
    the solution is x = -0.3, a = 0.7, b = -0.4 in each entry.
    """

    equality: bool = True

    def upper(self, x, y):
        """Return value and gradients of the upper level."""
        _fits(x, y, (len(x), 2 * len(x)))
        a, b = y[: len(x)], y[len(x) :]
        value = (((x - b) ** 2).sum() + ((a - 1) ** 2).sum()) / 2
        return value, x - b, xp.concatenate([a - 1, b - x])

    def lower(self, x, y):
        """Return value and gradients of the lower level."""
        _fits(x, y, (len(x), 2 * len(x)))
        a, b = y[: len(x)], y[len(x) :]
        value = (a * a).sum() / 2 - (x * a).sum() + b.sum()
        return value, -a, xp.concatenate([a - x, xp.ones_like(b)])

    def constraints(self, x, y):
        """Return the value (1,), which is to be 0, and Jacobians (1, N) and (1, 2N)."""
        _fits(x, y, (len(x), 2 * len(x)))
        total = xp.concatenate([x, y]).sum()
        return total[None], xp.ones_like(x)[None], xp.ones_like(y)[None]

    def project(self, x, y):
        """Return the nearest pair of sum 0."""
        _fits(x, y, (len(x), 2 * len(x)))
        mean = xp.concatenate([x, y]).mean()
        return x - mean, y - mean

    def project_lower(self, y):
        """Return y: the lower level has no set of its own."""
        return y.copy()


@dataclasses.dataclass(frozen=True)
class RidgePenalties:
    """Penalties of ridge regression, one a feature, tuned on held-out data: x their logarithms (D,), y weights (D,).

    Lower ``‖A y - b‖²/(2n) + Σ exp(x_j) y_j²/2`` on the training data, upper ``‖A' y - b'‖²/(2n')`` on the others.
    """

    A: Any
    b: Any
    A_valid: Any
    b_valid: Any

    def upper(self, x, y):
        """Return value and gradients of the validation loss."""
        _fits(x, y, (self.A.shape[1],) * 2)
        r = self.A_valid @ y - self.b_valid
        return (
            (r * r).sum() / (2 * len(r)),
            xp.zeros_like(x),
            self.A_valid.T @ r / len(r),
        )

    def lower(self, x, y):
        """Return value and gradients of the penalised training loss."""
        _fits(x, y, (self.A.shape[1],) * 2)
        r, penalty = self.A @ y - self.b, xp.exp(x) * y
        value = (r * r).sum() / (2 * len(r)) + (penalty * y).sum() / 2
        return value, penalty * y / 2, self.A.T @ r / len(r) + penalty

    def lower_hessian(self, x, y):
        """Return the second derivatives by y, (D, D)."""
        return self.A.T @ self.A / len(self.b) + xp.diag(xp.exp(x))

    def lower_cross(self, x, y):
        """Return the mixed second derivatives (D, D)."""
        return xp.diag(xp.exp(x) * y)

    def project(self, x, y):
        """There are no constraints."""
        return x, y

    def solution(self, x):
        """Return the ridge weights."""
        return linalg.solve(
            self.lower_hessian(x, None), self.A.T @ self.b / len(self.b)
        )
