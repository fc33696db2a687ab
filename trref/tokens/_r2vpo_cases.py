"""Tables of actions, and their best ratios by bisection, for `trref.tokens.r2vpo`."""

from trref.backend import xp
from trref.catalog import Input

__all__ = ["EDGES", "TABLE", "optimum_by_bisection", "table"]

TABLE = {"advantage": Input("V"), "prob": Input("V", "positive")}


def optimum_by_bisection(advantage, prob, *, delta=0.02):
    """Water filling: the level at which the mean is 1, inside the slope at which the variance is delta."""
    A, p = advantage - advantage.max(), prob / prob.sum()
    spread = max(-float(A.min()), 1e-9)

    def at(slope):
        low, high = -1 / slope - spread, spread + 1 / slope
        for _ in range(70):
            level = (low + high) / 2
            ratio = xp.maximum(1 + slope * (A - level), 0)
            low, high = (level, high) if float(p @ ratio) > 1 else (low, level)
        return ratio

    low, high = 1e-9 / spread, 1e9 / spread
    for _ in range(70):
        slope = (low * high) ** 0.5
        low, high = (slope, high) if float(p @ (at(slope) - 1) ** 2) < delta else (low, slope)
    return at(slope)


def table(rng, size):
    prob = rng.dirichlet(xp.full(size, float(rng.choice((0.5, 2.0))))) + 1e-3
    return {"advantage": float(rng.choice((0.1, 1.0, 20.0))) * rng.standard_normal(size), "prob": prob / prob.sum()}


def _edge(advantage, prob):
    return {"advantage": xp.array(advantage), "prob": xp.array(prob)}


EDGES = {
    "all equal": lambda: _edge([0.3] * 5, [0.11, 0.12, 0.13, 0.14, 0.5]),
    "ties": lambda: _edge([2.0, -1.0, 2.0, 0.5], [0.1, 0.5, 0.2, 0.2]),
    "one action": lambda: _edge([-1.0], [1.0]),
    "a rare best action": lambda: _edge([9.0, 0.0, 1.0], [0.01, 0.5, 0.49]),
}
