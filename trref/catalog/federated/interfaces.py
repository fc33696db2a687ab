"""Where the examples of what clients send to a server come from."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["MESSAGES"]


def _example(rng, size):
    """A few clients near the server's parameters, each at a distance of its own, one of them far away."""
    K, P = int(rng.integers(2, 7)), size
    theta = rng.standard_normal(P)
    spread = rng.choice((0.01, 0.1, 1.0), (K, 1))
    spread[-1] = 10.0
    return {
        "thetas": theta + spread * rng.standard_normal((K, P)),
        "theta": theta,
        "counts": rng.integers(1, 500, K).astype(float),
    }


def _clients(*rows, counts):
    return {
        "thetas": xp.array(rows),
        "theta": xp.array([0.5, -1.0]),
        "counts": xp.array(counts),
    }


MESSAGES = Interface(
    "messages",
    example=_example,
    edges={
        "one client": lambda: _clients([0.3, 2.0], counts=[7.0]),
        "all equal": lambda: _clients([0.3, 2.0], [0.3, 2.0], counts=[1.0, 30.0]),
        "one stayed where it was": lambda: _clients(
            [0.5, -1.0], [1.0, 1.0], [0.7, -0.2], counts=[3.0, 5.0, 2.0]
        ),
        "one exploded": lambda: _clients(
            [0.4, -1.1], [1e6, -1e6], [0.6, -0.9], counts=[100.0, 1.0, 50.0]
        ),
    },
)
"""``f(thetas (K, P), theta (P), counts (K))``: what K clients made of the server's parameters."""
