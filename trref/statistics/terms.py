"""What methods for sparse estimates share: a smooth loss with a penalty, split into a smooth part and an l1 norm."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.statistics.nonconvex_penalties import mcp_concave, scad_concave, soft

Penalty = Literal["mcp", "scad", "l1"]


class Penalised(NamedTuple):
    """A loss, a penalty, and the entries that bear it: `penalized` is 1 there, and may be one number for all."""

    loss_and_grad: Callable
    penalized: Any
    penalty: Penalty
    weight: float
    a: float
    gamma: float

    def smooth(self, x):
        """The loss with the concave part of the penalty: value and gradient."""
        value, gradient = validate.loss_and_grad(self.loss_and_grad, x, finite=True)
        if self.penalty == "l1":
            return value, gradient
        how, bent = {"penalty_weight": self.weight}, x * self.penalized
        if self.penalty == "scad":
            q, slope = scad_concave.unchecked(bent, a=self.a, **how)
        else:
            q, slope = mcp_concave.unchecked(bent, gamma=self.gamma, **how)
        return value + q, gradient + slope

    def whole(self, x, smooth):
        """The objective, from the value of its smooth part."""
        return smooth + self.weight * abs(x * self.penalized).sum()

    def step(self, x, gradient, lr):
        """A gradient step, and the proximal map of the l1 norm."""
        threshold = lr * self.weight * self.penalized
        return soft.unchecked(x - lr * gradient, threshold=threshold)

    def step_size(self, smoothness):
        """0.99 over a Lipschitz constant of the smooth part's gradient."""
        bend = {"scad": 1 / (self.a - 1), "mcp": 1 / self.gamma, "l1": 0.0}
        return 0.99 / max(smoothness, bend[self.penalty])


def penalised(loss_and_grad, penalized, penalty, weight, a, gamma):
    """The problem, in which no mask means that all entries bear the penalty."""
    mask = 1.0 if penalized is None else penalized
    return Penalised(loss_and_grad, mask, penalty, weight, a, gamma)


def moved(x, y):
    """Euclidean distance, on the device."""
    return linalg.norm(xp.asarray(x - y))
