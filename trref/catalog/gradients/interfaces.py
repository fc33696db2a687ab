"""Where the examples of gradients come from that are to be combined: one a row, at the same parameters."""

from trref.backend import xp
from trref.catalog.record import Interface

__all__ = ["GRADIENTS"]


def _example(rng, size):
    """Two to five gradients with a part in common, which some of them follow backwards, of norms from 0.05 to 20."""
    M, P = int(rng.integers(2, 6)), size
    share = rng.choice((-0.7, 0.2, 1.0, 2.0), (M, 1))
    rows = share * rng.standard_normal(P) + rng.standard_normal((M, P))
    norms = xp.sqrt((rows**2).sum(1, keepdims=True))
    return {"gradients": rows / norms * xp.exp(rng.uniform(-3, 3, (M, 1)))}


def _rows(*rows):
    return {"gradients": xp.array(rows)}


GRADIENTS = Interface(
    "gradients",
    example=_example,
    edges={
        "one gradient": lambda: _rows([0.3, -2.0, 0.5]),
        "all equal": lambda: _rows(*[[2.0, -2.0, 2.0, 2.0]] * 3),
        "collinear, of many lengths": lambda: _rows(
            *[[s, s, -s, s] for s in (1.0, 40.0, 0.25, -2.0)]
        ),
        "opposite, then another": lambda: _rows([1.0, -2.0], [-1.0, 2.0], [3.0, 1.0]),
        "opposite, by rounding more than that": lambda: _rows(
            *[
                [8 * s, -7 * s, 5 * s, 8 * s, 8 * s, -4 * s, -7 * s, 2 * s]
                for s in (1.0, -1.0)
            ]
        ),
        "orthogonal, of disjoint supports": lambda: _rows(
            [0.7, 0.0, 0.0], [0.0, 0.1, -0.3]
        ),
        "one is 0": lambda: _rows([1.0, 2.0], [0.0, 0.0], [2.0, 1.5]),
        "the first is 0": lambda: _rows([0.0, 0.0], [1.0, 2.0], [2.0, 1.5]),
        "in one dimension": lambda: _rows([2.0], [-3.0], [1.0]),
        "short, with zeros": lambda: _rows([0.0, 1e-3, 2e-3], [1e-3, 2e-3, 0.0]),
        "one far longer than the rest": lambda: _rows(
            [0.5, 1.0, 0.2], [1e4, -3e3, 2e3], [0.3, 0.8, -0.1]
        ),
    },
)
"""``f(gradients (M, P), …)``."""
