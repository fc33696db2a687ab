"""What is known of `trref.trustworthiness.quantisation`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.trustworthiness.quantisation import (
    Scaled,
    awq,
    clip_range,
    gptq,
    layer_error,
    round_to_grid,
)


def layer(rng, size):
    """Weights, other weights, and correlated inputs of `size` samples: low rank plus noise."""
    M, K = int(rng.integers(2, 5)), int(rng.choice((4, 8)))
    X = rng.standard_normal((K, 2)) @ rng.standard_normal((2, size + 8))
    X = X + 0.3 * rng.standard_normal(X.shape)
    W = rng.choice((0.1, 3.0)) * rng.standard_normal((M, K))
    other = W + 0.1 * rng.standard_normal((M, K))
    return {"W": W, "other": other, "X": X, "H": X @ X.T}


def _edge(W, X):
    X = xp.array(X)
    return {"W": xp.array(W), "other": xp.array(W) / 2 + 0.3, "X": X, "H": X @ X.T}


INPUTS = [[1.0, -2.0, 0.5], [0.25, 1.0, 3.0], [2.0, 0.1, -1.0], [0.5, 0.3, 0.7]]
EDGES = {
    "a dead input": lambda: _edge(
        [[0.31, -0.72, 0.45, 0.93], [0.11, 0.27, -0.52, 0.68]],
        [INPUTS[0], [0.0] * 3, *INPUTS[2:]],
    ),
    "one output": lambda: _edge([[0.31, -0.72, 0.45, 0.93]], INPUTS),
    "a row of zeros": lambda: _edge([[0.0] * 4, [0.11, 0.27, -0.52, 0.68]], INPUTS),
    "negative weights": lambda: _edge([[-0.31, -0.72, -0.45, -0.93]], INPUTS),
    "positive weights": lambda: _edge([[0.61, 0.72, 0.45, 0.93]], INPUTS),
    "one heavy input": lambda: _edge(
        [[0.31, -0.72, 0.45, 0.93], [0.11, 0.27, -0.52, 0.68]],
        [[100.0, -200.0, 50.0], *INPUTS[1:]],
    ),
}


def only(*names):
    """The arguments that are named."""

    def example(rng, size):
        made = layer(rng, size)
        return {n: made[n] for n in names}

    return {
        "example": example,
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def square(rng, size):
    """Weights of `size` inputs, an even number or one, and the products of these."""
    K = size if size % 2 == 0 else 2 * size
    X = rng.standard_normal((K, 2)) @ rng.standard_normal((2, 40))
    X = X + 0.3 * rng.standard_normal(X.shape)
    M = int(rng.integers(2, 5))
    return {"W": rng.choice((0.1, 3.0)) * rng.standard_normal((M, K)), "H": X @ X.T}


def _levels(w, bits, symmetric=False):
    low, high = min(*w, 0.0), max(*w, 0.0)
    step = (high - low) / (2**bits - 1) or 1.0
    if symmetric:
        step = max(high, -low) / max(2 ** (bits - 1) - 1, 1) or 1.0
    zero = 2 ** (bits - 1) if symmetric else round(-low / step)
    return step, zero


def _to_level(x, step, zero, bits):
    return step * (min(max(round(x / step) + zero, 0), 2**bits - 1) - zero)


def _rows(W, bits, group, symmetric=False):
    result = []
    for row in W.tolist():
        size, out = group or len(row), []
        for at in range(0, len(row), size):
            part = row[at : at + size]
            grid = _levels(part, bits, symmetric)
            out += [_to_level(x, *grid, bits) for x in part]
        result.append(out)
    return xp.array(result)


def _nearest(W, *, bits=4, group=0, levels="from 0"):
    return _rows(W, bits, group, levels == "symmetric")


def _half_steps(W, *, bits=4, group=0, levels="from 0"):
    """GPTQ's symmetric levels."""
    if levels == "from 0":
        return round_to_grid(W, bits=bits, group=group)
    parts = W.reshape(len(W), -1, group or W.shape[1])
    step = 2 * abs(parts).max(-1, keepdims=True) / (2**bits - 1)
    step = xp.where(step > 0, step, 1)
    level = xp.round(parts / step) + 2 ** (bits - 1)
    level = xp.clip(level, 0, 2**bits - 1)
    return (step * (level - 2 ** (bits - 1))).reshape(W.shape)


def _error(W, other, X):
    off = np.asarray(other) - np.asarray(W)
    return float(np.trace(off @ (X @ X.T) @ off.T))


def damped(W, H, damping):
    """Weights without dead inputs', and the damped H."""
    H, W = np.array(H), np.array(W)
    dead = np.diag(H) == 0
    W[:, dead] = 0
    H[dead, dead] = 1
    return W, H + damping * np.mean(np.diag(H)) * np.eye(len(H))


def passed_on(W, H, j, q):
    """Weights after column j has become q: the columns behind it by least squares in the error."""
    behind = np.arange(j + 1, len(H))
    W, off = W.copy(), q - W[:, j]
    W[:, j] = q
    if len(behind):
        W[:, behind] -= np.outer(
            off, np.linalg.solve(H[np.ix_(behind, behind)], H[behind, j])
        )
    return W


def _column_by_column(W, H, *, bits=4, group=0, order="given", damping=0.01):
    """The columns that are left minimise the error each time."""
    ranks = np.argsort(-np.diag(H), kind="stable")
    if order == "given":
        ranks = np.arange(len(H))
    grids = [_levels(row, bits) for row in np.asarray(W)[:, ranks].tolist()]
    W, H = damped(np.asarray(W)[:, ranks], np.asarray(H)[np.ix_(ranks, ranks)], damping)
    if not group:
        grids = [_levels(row, bits) for row in W.tolist()]
    for j in range(len(H)):
        if group and j % group == 0:
            grids = [_levels(row, bits) for row in W[:, j : j + group].tolist()]
        q = [_to_level(x, *grid, bits) for x, grid in zip(W[:, j], grids, strict=True)]
        W = passed_on(W, H, j, np.array(q))
    result = np.empty_like(W)
    result[:, ranks] = W
    return result


def _levels_of_the_dead(W, H, *, bits=4, group=0, order="given", damping=0.01):
    """Levels of the rows as they are given, dead inputs' weights included."""
    how = {"bits": bits, "order": order, "damping": damping}
    if group:
        return gptq(W, H, group=group, **how)
    ranks = np.argsort(-np.diag(H), kind="stable")
    if order == "given":
        ranks = np.arange(len(H))
    W, H = np.asarray(W)[:, ranks], np.asarray(H)[np.ix_(ranks, ranks)]
    grids = [_levels(row, bits) for row in W.tolist()]
    W, H = damped(W, H, damping)
    for j in range(len(H)):
        q = [_to_level(x, *grid, bits) for x, grid in zip(W[:, j], grids, strict=True)]
        W = passed_on(W, H, j, np.array(q))
    result = np.empty_like(W)
    result[:, ranks] = W
    return result


def _twenty(W, X, *, bits=4, group=0):
    size = [math.fsum(map(abs, row)) / len(row) for row in X.tolist()]
    best = (math.inf, None, None)
    for i in range(20):
        t = [max(s ** (i / 20), 1e-4) for s in size]
        t = np.array(t) / math.sqrt(max(t) * min(t))
        rounded = _rows(W * t, bits, group) / t
        best = min(best, (_error(W, rounded, X), i / 20, rounded), key=lambda x: x[0])
    return Scaled(best[2], xp.asarray(best[1]))


def _ranges(W, X, *, bits=4, group=0):
    result = np.array(W)
    size = group or W.shape[1]
    for m, at in itertools.product(range(len(W)), range(0, W.shape[1], size)):
        part, inputs = np.array(W[m, at : at + size]), X[at : at + size]
        tries = []
        for i in range(10):
            top = (1 - i / 20) * max(abs(part))
            clipped = [min(max(x, -top), top) for x in part.tolist()]
            rounded = _rows(np.array([clipped]), bits, 0)[0]
            off = (rounded - part) @ inputs
            tries.append((float(off @ off), i, rounded))
        result[m, at : at + size] = min(tries, key=lambda x: x[:2])[2]
    return result


def _without_zero(W, X, *, bits=4, group=0):
    """AWQ with its own levels, which need not hold 0."""
    size, best = abs(X).mean(1), None
    for i in range(20):
        t = xp.maximum(size ** (i / 20), 1e-4)
        t = t / xp.sqrt(t.max() * t.min())
        parts = (W * t).reshape(len(W), -1, group or W.shape[1])
        low, high = parts.min(-1, keepdims=True), parts.max(-1, keepdims=True)
        top = 2**bits - 1
        step = xp.maximum((high - low) / top, 1e-5)
        zero = xp.clip(-xp.round(low / step), 0, top)
        level = xp.clip(xp.round(parts / step) + zero, 0, top)
        rounded = (step * (level - zero)).reshape(W.shape) / t
        off = (rounded - W) @ X
        error = float((off * off).sum())
        if best is None or error < best[0]:
            best = (error, i / 20, rounded)
    return Scaled(best[2], xp.asarray(best[1], dtype=W.dtype))


def _uncorrelated(inputs):
    """inputs are not correlated"""
    H = inputs["H"]
    alive = xp.where(H.diagonal() > 0, H.diagonal(), 1.0)
    return {"W": inputs["W"], "H": xp.diag(alive)}, {"W": inputs["W"]}


SETTINGS = {
    "default": {},
    "probe": {"bits": 3, "group": 2},
    "two bits": {"bits": 2},
}

REFUSED = {
    "groups that do not divide the row": {"group": 3},
    "weights that are too large": {"W": 1e31},
}


METHOD = Method(
    key="hong2024decoding",
    provenance={
        "confirmed": ("grid", "gptq", "scales", "awq", "clip"),
        "reconstructed": ("error",),
    },
    functions=(
        Estimator(
            f=round_to_grid,
            brute_force=_nearest,
            settings={
                **SETTINGS,
                "symmetric": {"levels": "symmetric"},
                "symmetric, two bits": {"bits": 2, "levels": "symmetric"},
                "probe": {"bits": 3, "group": 2, "levels": "symmetric"},
            },
            example=lambda rng, size: {
                "W": rng.choice((0.1, 3.0))
                * rng.standard_normal((size, int(rng.choice((4, 8)))))
            },
            edges={
                **only("W")["edges"],
                "ties at both ends": lambda: {"W": xp.array([[1.5, -1.5, 0.4, 0.6]])},
            },
            deviations=(
                Deviation(
                    "half steps",
                    _half_steps,
                    seen_in="IST-DASLab/gptq, quant.py, sym",
                    computes="a symmetric step of twice the largest weight over the number of steps",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(f=layer_error, brute_force=_error, **only("W", "other", "X")),
        Estimator(
            f=gptq,
            brute_force=_column_by_column,
            settings={
                **SETTINGS,
                "by activation": {"order": "by activation"},
                "probe": {
                    "bits": 3,
                    "group": 2,
                    "order": "by activation",
                    "damping": 0.05,
                },
            },
            limits=(Limit("quantisation.round_to_grid", {}, {}, where=_uncorrelated),),
            example=square,
            edges=only("W", "H")["edges"],
            sizes=(4, 8, 12),
            deviations=(
                Deviation(
                    "levels of dead inputs, too",
                    _levels_of_the_dead,
                    seen_in="IST-DASLab/gptq, gptq.py, fasterquant",
                    computes="the levels of rows whose weights of dead inputs are not 0 yet",
                ),
            ),
            refused={
                "groups that do not divide the row": {"group": 3},
                "weights that are too large": {"W": 1e31},
                "an H that is not symmetric": {"H": lambda H: H + H[:1]},
                "a negative diagonal": {"H": lambda H: -H},
            },
        ),
        Estimator(
            f=awq,
            brute_force=_twenty,
            settings=SETTINGS,
            deviations=(
                Deviation(
                    "levels without 0",
                    _without_zero,
                    seen_in="mit-han-lab/llm-awq, awq/quantize/quantizer.py",
                    computes="levels from the smallest to the largest weight, and a zero point clipped to them",
                ),
            ),
            **only("W", "X"),
            refused=REFUSED,
        ),
        Estimator(
            f=clip_range,
            brute_force=_ranges,
            settings=SETTINGS,
            **only("W", "X"),
            refused=REFUSED,
        ),
    ),
)
