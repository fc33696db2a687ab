"""What is known of `trref.manifolds.histogram_loss`."""

import itertools
import math

from trref.backend import special, xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.manifolds.histogram_loss import (
    histogram_loss,
    histogram_targets,
    histogram_value,
)


def _example(rng, size):
    K = int(rng.choice((1, 2, 7, 51)))
    return {
        "logits": rng.choice((0.1, 3.0)) * rng.standard_normal((size, K)),
        "value_target": rng.choice((0.1, 3.0, 10.0)) * rng.uniform(-1.1, 1.1, size),
    }


def _edge(value_target, logits=((0.0, 1.0, -2.0, 0.5),)):
    return {"logits": xp.array(logits), "value_target": xp.array(value_target)}


EDGES = {
    "on an edge of bins": lambda: _edge([0.0]),
    "at both ends of the range": lambda: _edge([-10.0, 10.0], [[0.0, 1.0, 0.5]] * 2),
    "beyond the range": lambda: _edge([10.5, -12.0], [[1.0, 0.0, 2.0, 0.5, 3.0]] * 2),
    "one bin": lambda: _edge([3.0], [[2.0]]),
    "certain and wrong": lambda: _edge([-8.0], [[-60.0, 0.0, 60.0]]),
}


def _only(*names):
    return {
        "example": lambda rng, size: {n: _example(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def _mass(value_target, *, bins=51, low=-10.0, high=10.0, ratio=0.75):
    """Bin by bin, from error functions of the nearer tail."""
    width, rows = (high - low) / bins, []
    for t in value_target.tolist():
        t = min(max(t, low), high)
        z = [
            (low + j * width - t) / (ratio * width * math.sqrt(2))
            for j in range(bins + 1)
        ]
        parts = [
            math.erfc(a) - math.erfc(b) if a > 0 else math.erfc(-b) - math.erfc(-a)
            for a, b in itertools.pairwise(z)
        ]
        rows.append([p / math.fsum(parts) for p in parts])
    return xp.array(rows)


def _mean(logits, *, low=-10.0, high=10.0):
    values = []
    for z in logits.tolist():
        weights = [math.exp(x - max(z)) for x in z]
        centres = [
            low + (high - low) * (2 * j + 1) / (2 * len(z)) for j in range(len(z))
        ]
        total = math.fsum(w * c for w, c in zip(weights, centres, strict=True))
        values.append(total / math.fsum(weights))
    return xp.array(values)


def _not_clamped(value_target, *, bins=51, low=-10.0, high=10.0, ratio=0.75):
    width = (high - low) / bins
    edges = low + width * xp.arange(bins + 1, dtype=value_target.dtype)
    below = special.ndtr((edges - value_target[:, None]) / (ratio * width))
    total = below[:, -1:] - below[:, :1]
    return (below[:, 1:] - below[:, :-1]) / xp.where(total > 0, total, 1)


def _loss_of_not_clamped(logits, value_target, *, low=-10.0, high=10.0, ratio=0.75):
    N, K = logits.shape
    p = _not_clamped(value_target, bins=K, low=low, high=high, ratio=ratio)
    log_q = logits - logits.max(1, keepdims=True)
    log_q = log_q - xp.log(xp.exp(log_q).sum(1, keepdims=True))
    return -(p * log_q).sum() / N, (xp.exp(log_q) * p.sum(1, keepdims=True) - p) / N


def _listing(f):
    return Deviation(
        "targets not clamped",
        f,
        seen_in="Farebrother et al., Stop Regressing, arXiv:2403.03950, the listing of HLGaussLoss",
        computes="what is left of the mass of a target beyond the range, over that (0 where it has 0/0)",
    )


EMPTY_RANGE = {
    "an empty range": {"low": 1.0, "high": -1.0},
}


METHOD = Method(
    key="klein2025understanding",
    provenance="confirmed",
    functions=(
        Estimator(
            f=histogram_targets,
            brute_force=_mass,
            settings={
                "default": {},
                "probe": {"bins": 20, "low": -4.0, "high": 3.0, "ratio": 0.5},
                "few bins": {"bins": 3},
            },
            deviations=(_listing(_not_clamped),),
            **_only("value_target"),
            refused=EMPTY_RANGE,
        ),
        Objective(
            f=histogram_loss,
            wrt="logits",
            settings={
                "default": {},
                "probe": {"low": -4.0, "high": 3.0, "ratio": 0.5},
            },
            deviations=(_listing(_loss_of_not_clamped),),
            **_only("logits", "value_target"),
            refused=EMPTY_RANGE,
        ),
        Estimator(
            f=histogram_value,
            brute_force=_mean,
            settings={"default": {}, "probe": {"low": -4.0, "high": 3.0}},
            **_only("logits"),
            refused=EMPTY_RANGE,
        ),
    ),
)
