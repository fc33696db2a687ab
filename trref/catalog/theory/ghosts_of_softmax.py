"""What is known of `trref.theory.ghosts_of_softmax`."""

import cmath
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective, Transform
from trref.theory.ghosts_of_softmax import (
    Divergences,
    Zero,
    clip_step,
    exact_radius,
    line_loss,
    log_partition_taylor,
    normalised_step,
    path_divergences,
    radius_bound,
    rival_radius,
)

CLASSES = 4


def _example(rng, size):
    """Logits of a batch, near or far from certain, and slopes that move them little or much."""
    return {
        "step": xp.asarray(rng.choice((-0.5, 0.3, 2.0))),
        "logits": rng.choice((0.3, 3.0)) * rng.standard_normal((size, CLASSES)),
        "slopes": rng.choice((0.5, 2.0)) * rng.standard_normal((size, CLASSES)),
        "labels": rng.integers(0, CLASSES, size),
        "update": rng.standard_normal(3),
    }


def _edge(logits, slopes, labels, step=1.0):
    return {
        "step": xp.asarray(step),
        "logits": xp.array(logits),
        "slopes": xp.array(slopes),
        "labels": xp.array(labels),
        "update": xp.array([3.0, -4.0]),
    }


EDGES = {
    "one sample, two classes": lambda: _edge([[0.0, 0.0]], [[1.0, -1.0]], [0]),
    "no step": lambda: _edge([[1.0, 0.0]], [[1.0, -1.0]], [1], step=0.0),
    "equal slopes in one sample": lambda: _edge(
        [[1.0, 0.0, 3.0], [2.0, 1.0, 0.0]], [[0.5] * 3, [0.0, 1.0, -2.0]], [2, 0]
    ),
    "certain and wrong": lambda: _edge(
        [[40.0, 0.0, -3.0], [0.0, 0.25, 0.5]],
        [[-1.0, 2.0, 0.0], [1.0, 0.0, 0.0]],
        [1, 0],
    ),
}


def _only(*names):
    return {
        "example": lambda rng, size: {n: _example(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in EDGES.items()
        },
    }


def _spreads(slopes):
    return [max(row) - min(row) for row in slopes.tolist()]


def _rival(logits, slopes, labels):
    radii = []
    for z, a, y in zip(logits.tolist(), slopes.tolist(), labels.tolist(), strict=True):
        c = max((k for k in range(len(z)) if k != y), key=lambda k: z[k])
        if a[y] != a[c]:
            radii.append(math.hypot(z[y] - z[c], math.pi) / abs(a[y] - a[c]))
    return min(radii)


def _probabilities(z):
    top = max(z)
    weights = [math.exp(x - top) for x in z]
    return [w / math.fsum(weights) for w in weights]


def _divergences(logits, slopes, *, step=1.0):
    """From the probabilities, and the remainders' bounds from the third derivative's."""
    rows = []
    for z, a in zip(logits.tolist(), slopes.tolist(), strict=True):
        end = [x + step * s for x, s in zip(z, a, strict=True)]
        p, q = _probabilities(z), _probabilities(end)
        mean = math.fsum(u * s for u, s in zip(p, a, strict=True))
        variance = math.fsum(u * (s - mean) ** 2 for u, s in zip(p, a, strict=True))
        log_change = math.log(
            math.fsum(
                u * math.exp(step * (s - mean)) for u, s in zip(p, a, strict=True)
            )
        )
        after = math.fsum(u * (s - mean) for u, s in zip(q, a, strict=True))
        third = (max(a) - min(a)) ** 3 / (6 * math.sqrt(3))
        rows.append(
            (
                log_change,
                step * after - log_change,
                step**2 / 2 * variance,
                third * step**3 / 6,
                third * step**3 / 3,
            )
        )
    return Divergences(*xp.array(rows).T)


def _line(rng, size):
    """Slopes that are multiples of one number, so that the sum is a polynomial of an exponential."""
    K = max(size, 2)
    multiples = rng.permutation(2 * K)[:K].astype(float)
    unit = rng.choice((0.1, 1.0))
    return {
        "logits": rng.choice((0.3, 2.0)) * rng.standard_normal(K),
        "slopes": unit * multiples,
    }


LINES = {
    "two classes": lambda: {
        "logits": xp.array([1.5, 0.0]),
        "slopes": xp.array([-1.0, 2.0]),
    },
    "evenly matched": lambda: {
        "logits": xp.zeros(3),
        "slopes": xp.array([0.0, 1.0, 2.0]),
    },
    "two classes move alike": lambda: {
        "logits": xp.array([0.5, 0.0, 1.0]),
        "slopes": xp.array([1.0, 1.0, 3.0]),
    },
}


def _root(logits, slopes, **_):
    """From all roots of the polynomial in exp(h t)."""
    lowest = slopes.min()
    gaps = sorted({float(abs(a - lowest)) for a in slopes} - {0.0})
    h = gaps[0]
    while any(abs(g / h - round(g / h)) > 1e-6 for g in gaps):
        h = min(r for g in gaps if (r := abs(g - round(g / h) * h)) > 1e-6 * gaps[0])
    coefficients = np.zeros(round(gaps[-1] / h) + 1)
    for z, a in zip(logits, slopes, strict=True):
        coefficients[round((a - lowest) / h)] += math.exp(z - max(logits))
    zeros = [cmath.log(u) / h for u in np.roots(coefficients[::-1])]
    nearest = min(zeros, key=abs)
    return Zero(xp.asarray(abs(nearest)), xp.array([nearest.real, abs(nearest.imag)]))


def _taylor(logits, slopes, *, terms=8):
    """From values on a small circle, by the discrete Fourier transform: what wraps around is of the order of 1e-16."""
    radius = (
        0.1 * math.pi / (max(slopes) - min(slopes))
        if max(slopes) > min(slopes)
        else 1.0
    )
    points = 64
    angles = 2j * np.pi * np.arange(points) / points
    t = radius * np.exp(angles)
    weights = np.array(_probabilities(logits.tolist()))
    shift = float(weights @ slopes)
    moved = np.exp(t[:, None] * (np.asarray(slopes) - shift)) @ weights
    c = np.fft.fft(np.log(moved)).real / points / radius ** np.arange(points)
    c[0] += max(logits) + math.log(math.fsum(math.exp(z - max(logits)) for z in logits))
    c[1] += shift
    return c[:terms]


def _by_spread_of_logits(update, slopes, *, share=1.0, rule="clip"):
    """The packaged optimiser's rule, with the slopes where it has the logits."""
    spread = (slopes.max(1) - slopes.min(1)).mean()
    return (
        xp.minimum(xp.maximum(share * math.pi / xp.maximum(spread, 1e-12), 0.01), 1)
        * update
    )


SLOPES_ALL_EQUAL = {
    "slopes that are all equal": {"slopes": 0},
}


METHOD = Method(
    key="sao2026ghosts",
    provenance="confirmed",
    functions=(
        Objective(
            f=line_loss,
            wrt="step",
            settings={"default": {}},
            **_only("step", "logits", "slopes", "labels"),
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=normalised_step,
            brute_force=lambda slopes: max(_spreads(slopes)) / math.pi,
            **_only("slopes"),
        ),
        Estimator(
            f=radius_bound,
            brute_force=lambda slopes: min(math.pi / s for s in _spreads(slopes) if s),
            **_only("slopes"),
            refused=SLOPES_ALL_EQUAL,
        ),
        Estimator(
            f=rival_radius,
            brute_force=_rival,
            **_only("logits", "slopes", "labels"),
            refused={
                "a label that is no class": {"labels": 99},
                "slopes that are all equal": {"slopes": 0},
            },
        ),
        Transform(
            f=clip_step,
            wrt="update",
            jvp=lambda update, slopes, *, tangent, **hyper: clip_step(
                tangent, slopes, **hyper
            ),
            vjp=lambda update, slopes, *, cotangent, **hyper: clip_step(
                cotangent, slopes, **hyper
            ),
            settings={
                "default": {},
                "set": {"rule": "set"},
                "probe": {"share": 0.3, "rule": "set"},
                "half": {"share": 0.5},
            },
            deviations=(
                Deviation(
                    "mean spread, clipped",
                    _by_spread_of_logits,
                    seen_in="piyush314/ghosts-of-softmax, RhoScaledAdam (there of the logits, not of their slopes)",
                    computes="a rate times pi over the mean spread, between 0.01 and 1",
                ),
            ),
            **_only("update", "slopes"),
        ),
        Estimator(
            f=log_partition_taylor,
            example=_line,
            edges=LINES,
            settings={"default": {}, "probe": {"terms": 5}},
            brute_force=_taylor,
            tolerance=1e-7,
            sizes=(2, 4, 8),
        ),
        Estimator(
            f=path_divergences,
            brute_force=_divergences,
            settings={"default": {}, "probe": {"step": 0.4}},
            **_only("logits", "slopes"),
        ),
        Estimator(
            f=exact_radius,
            example=_line,
            edges=LINES,
            settings={"default": {}, "probe": {"starts": 20, "steps": 50}},
            brute_force=_root,
            tolerance=1e-7,
            sizes=(2, 4, 8),
            refused=SLOPES_ALL_EQUAL,
        ),
    ),
)
