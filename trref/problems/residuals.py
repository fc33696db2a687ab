"""Smooth functions whose Hessian is a positive semi-definite part and a rest, with the parts.

Each gives value and gradient when called, and has ``hessian(x)``, ``gauss_newton(x)``, the Hessian without second
derivatives of what is within, and ``fisher(x)``, products of gradients, all (n, n). `Curvature` makes one of them a
callable of its own, or none: zeros. For gradient_normalized_smoothness.

An oracle of powers of residuals in epfml/grad-norm-smooth multiplies the second derivatives by p/‖u‖², which
differences of the gradient contradict; its approximations have no second derivatives.
"""

import dataclasses
from typing import Any

from trref.backend import xp
from trref.problems.landscapes import require_length

__all__ = ["Curvature", "LogSumExp", "PowerResiduals", "SampleMean"]


@dataclasses.dataclass(frozen=True)
class LogSumExp:
    """``mu log Σ_i exp((a_iᵀx - b_i)/mu)`` for A (m, n) and b (m,): a smooth maximum.

    With the softmax π the Hessian is ``(Aᵀ diag(π) A - ∇f ∇fᵀ)/mu``: the Gauss-Newton part errs by ‖∇f‖²/mu.
    """

    A: Any
    b: Any
    mu: float = 1.0

    def _softmax(self, x):
        require_length(x, self.A.shape[1])
        z = (self.A @ x - self.b) / self.mu
        top = z.max()
        e = xp.exp(z - top)
        return top + xp.log(e.sum()), e / e.sum()

    def __call__(self, x):
        """Return value and gradient."""
        log, p = self._softmax(x)
        return self.mu * log, self.A.T @ p

    def hessian(self, x):
        """Return the second derivatives."""
        return self.gauss_newton(x) - self.fisher(x)

    def gauss_newton(self, x):
        """Return the part with weighted rows, ``Aᵀ diag(π) A / mu``."""
        p = self._softmax(x)[1]
        return self.A.T @ (p[:, None] * self.A) / self.mu

    def fisher(self, x):
        """Return what the former is above the Hessian: ``∇f ∇fᵀ / mu``."""
        g = self(x)[1]
        return g[:, None] * g / self.mu


@dataclasses.dataclass(frozen=True)
class PowerResiduals:
    """``‖u(x)‖^p / p`` with Rosenbrock's residuals ``u = (s (x_{i+1} - x_i²), 1 - x_i)`` for x (n,), n ≥ 2.

    s is `steep`; p is at least 2, and below 4 the Hessian is not defined at the minimum, where all x are 1.
    """

    p: float = 2.0
    steep: float = 10.0

    def _residuals(self, x):
        """Residuals (2 n - 2,) and their Jacobian."""
        n = len(x)
        eye = xp.eye(n, dtype=x.dtype)
        bends = self.steep * (eye[1:] - 2 * x[:-1, None] * eye[:-1])
        u = xp.concatenate([self.steep * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
        return u, xp.concatenate([bends, -eye[:-1]])

    def __call__(self, x):
        """Return value and gradient."""
        u, J = self._residuals(x)
        square = u @ u
        value = xp.power(square, self.p / 2) / self.p
        return value, xp.power(square, self.p / 2 - 1) * (J.T @ u)

    def hessian(self, x):
        """Return the second derivatives."""
        u, _ = self._residuals(x)
        n = len(x)
        second = xp.concatenate([-2 * self.steep * u[: n - 1], xp.zeros_like(u[:1])])
        bent = xp.power(u @ u, self.p / 2 - 1) * xp.diag(second)
        return self.gauss_newton(x) + bent

    def gauss_newton(self, x):
        """Return the Hessian for residuals that are linear."""
        u, J = self._residuals(x)
        return xp.power(u @ u, self.p / 2 - 1) * (J.T @ J) + self.fisher(x)

    def fisher(self, x):
        """Return the part of rank one, ``(p - 2) ‖u‖^(p - 4) Jᵀu uᵀJ``."""
        u, J = self._residuals(x)
        g, square = J.T @ u, u @ u
        some = xp.where(square > 0, square, 1)
        weight = (self.p - 2) * xp.power(some, self.p / 2 - 2)
        return weight * (g[:, None] * g)


@dataclasses.dataclass(frozen=True)
class SampleMean:
    """A mean over samples (`trref.problems.samples`) whose Fisher matrix is ``Σ ∇f_i ∇f_iᵀ / N``."""

    samples: Any

    def __call__(self, x):
        """Return value and gradient."""
        return self.samples(x)

    def hessian(self, x):
        """Return the second derivatives."""
        columns = xp.eye(len(x), dtype=x.dtype)
        return xp.stack([self.samples.hessian_product(x, e) for e in columns])

    def gauss_newton(self, x):
        """Return the same: models are linear."""
        return self.hessian(x)

    def fisher(self, x):
        """Return the mean of products of the samples' gradients."""
        g = self.samples.each(x)[1]
        return g.T @ g / len(g)


@dataclasses.dataclass(frozen=True)
class Curvature:
    """``curvature(x) -> (n, n)``: the "hessian", "gauss_newton" or "fisher" of a problem, or "none", zeros."""

    problem: Any
    kind: str = "gauss_newton"

    def __call__(self, x):
        """Return the matrix."""
        if self.kind == "none":
            return xp.zeros((len(x), len(x)), dtype=x.dtype)
        return getattr(self.problem, self.kind)(x)
