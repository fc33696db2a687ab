"""Examples and hard cases of `trref.tokens.trusted_direction`."""

from trref.backend import linalg, xp

__all__ = ["EDGES", "PAIRS", "example", "pair"]


def example(rng, size):
    """A change of well-separated singular values, tall or wide, and a gradient."""
    M, N = (size, max(size // 2, 2)) if rng.random() < 0.5 else (max(size // 2, 2), size)
    k = min(M, N)
    U, V = (linalg.qr(rng.standard_normal((n, k)))[0] for n in (M, N))
    scale = float(rng.choice((0.01, 1.0, 30.0)))
    return {"gradient": rng.standard_normal((M, N)), "delta": scale * (U * 0.7 ** xp.arange(k)) @ V.T}


def _edge(gradient, delta):
    return {"gradient": xp.array(gradient, dtype=float), "delta": xp.array(delta, dtype=float)}


EDGES = {
    "one direction": lambda: _edge([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], [[2.0, 4.0], [0.0, 0.0], [-1.0, -2.0]]),
    "one row": lambda: _edge([[1.0, -2.0, 0.5]], [[0.0, 3.0, 4.0]]),
    "one number": lambda: _edge([[2.0]], [[-3.0]]),
    "a small gradient": lambda: _edge([[0.01, 0.02, -0.01], [0.03, 0.0, 0.01]], [[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    "a tiny change": lambda: _edge([[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]], [[3e-20, 0.0, 1e-20], [0.0, 1e-20, 0.0]]),
    "a direction of little weight": lambda: _edge([[1.0, 2.0], [3.0, -1.0]], [[1.0, 0.0], [0.0, 1.2e-6]]),
    "nothing has moved": lambda: _edge([[1.0, 2.0], [3.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]),
    "a gradient of 0": lambda: _edge([[0.0] * 3] * 2, [[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
}


def pair(rng, size):
    first = example(rng, size)["delta"]
    return {"delta": first, "other": first + abs(first).max() * rng.standard_normal(first.shape)}


def _two(delta, other):
    return {"delta": xp.array(delta, dtype=float), "other": xp.array(other, dtype=float)}


PAIRS = {
    "one direction": lambda: _two([[2.0, 4.0], [0.0, 0.0], [-1.0, -2.0]], [[1.0, 0.0], [0.5, 2.0], [0.0, 1.0]]),
    "the same change": lambda: _two([[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [[6.0, 0.0, 2.0], [0.0, 2.0, 0.0]]),
    "nothing in common": lambda: _two([[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 1.0]]),
    "one row": lambda: _two([[1.0, 2.0]], [[0.0, -1.0]]),
    "a tiny change": lambda: _two([[3e-20, 0.0, 1e-20], [0.0, 1e-20, 0.0]], [[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]]),
    "a direction of little weight": lambda: _two([[1.0, 0.0], [0.0, 1.2e-6]], [[1.0, 1.0], [0.0, 2.0]]),
    "nothing has moved": lambda: _two([[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [3.0, 1.0]]),
}
