"""What is known of `trref.gradients.cg2a`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method
from trref.catalog.gradients.interfaces import GRADIENTS
from trref.gradients.cg2a import (
    Diagnostics,
    agreement_weights,
    diagnostics,
    direction,
    rescaled,
    soft_surgery,
)


def _length(g):
    return math.hypot(*g)


def _cosine(g, h):
    if not (_length(g) and _length(h)):
        return 0.0
    return math.fsum(
        a / _length(g) * (b / _length(h)) for a, b in zip(g, h, strict=True)
    )


def _pairs(gradients):
    """Loops over pairs and coordinates."""
    rows = gradients.tolist()
    n = len(rows)
    cosines = [[_cosine(g, h) for h in rows] for g in rows]
    conflicts = [cosines[i][j] < 0 for i in range(n) for j in range(i)]
    signs = [[(x > 0) - (x < 0) for x in row] for row in rows]
    agreement = [abs(sum(column)) / n for column in zip(*signs, strict=True)]
    share = sum(conflicts) / len(conflicts) if conflicts else 0.0
    fields = [_length(g) for g in rows], cosines, share, agreement
    return Diagnostics(*map(xp.array, fields))


def _weights(gradients, *, normalise=True):
    rows = gradients.tolist()
    dot = lambda g, h: math.fsum(a * b for a, b in zip(g, h, strict=True))  # noqa: E731
    product = _cosine if normalise else dot
    a = [math.fsum(product(g, h) for h in rows) for g in rows]
    a = [max(x, 0.0) for x in a] if normalise else a
    total = math.fsum(map(abs, a))
    return xp.array([x / total if total > 1e-15 else 1 / len(rows) for x in a])


def _lengths(gradients):
    rows, w = gradients.tolist(), _weights(gradients).tolist()
    total = math.fsum(map(_length, rows))
    scale = [w * total / (_length(g) or 1.0) for w, g in zip(w, rows, strict=True)]
    return xp.array([[s * x for x in g] for s, g in zip(scale, rows, strict=True)])


def _by_coordinate(gradients, *, tau=1.0):
    result = []
    for column in gradients.T.tolist():
        u, total = math.fsum(column), math.fsum(map(abs, column))
        result.append((abs(u) / total) ** tau * u / len(column) if total else 0.0)
    return xp.array(result)


def _averaged(inputs):
    """gradients averaged like clients with equal counts"""
    rows = inputs["gradients"]
    return {"gradients": rows}, {"thetas": rows, "counts": xp.ones_like(rows[:, 0])}


EXPONENTS = {
    "default": {},
    "the mean": {"tau": 0.0},
    "nearly hard": {"tau": 20.0},
    "probe": {"tau": 2.5},
}

METHOD = Method(
    key="liu2023improving",
    provenance="reconstructed",
    functions=(
        Estimator(f=diagnostics, interface=GRADIENTS, brute_force=_pairs),
        Estimator(
            f=agreement_weights,
            interface=GRADIENTS,
            settings={
                "default": {},
                "by length as well": {"normalise": False},
                "probe": {"normalise": False},
            },
            brute_force=_weights,
        ),
        Estimator(f=rescaled, interface=GRADIENTS, brute_force=_lengths),
        Estimator(
            f=soft_surgery,
            interface=GRADIENTS,
            settings=EXPONENTS,
            brute_force=_by_coordinate,
            limits=(Limit(to="fedavg.average", hyper={"tau": 0.0}, where=_averaged),),
        ),
        Estimator(
            f=direction,
            interface=GRADIENTS,
            settings=EXPONENTS,
            brute_force=lambda gradients, tau=1.0: _by_coordinate(
                _lengths(gradients), tau=tau
            ),
        ),
    ),
)
