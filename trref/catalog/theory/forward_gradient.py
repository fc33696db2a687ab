"""What is known of `trref.theory.forward_gradient`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Transform
from trref.theory.forward_gradient import (
    LayerUpdate,
    activity_signal,
    cosine_square,
    directional,
    expected_square,
    project,
    weight_update,
)


def _pair(rng, size):
    """A target, and a guess that is better or worse, and of any length and sign."""
    target = rng.standard_normal(size)
    guess = rng.choice((-2.0, 0.05, 1.0)) * (
        rng.choice((0.0, 0.5)) * target + rng.standard_normal(size)
    )
    return {"target": target, "guess": guess}


PAIRS = {
    "guess is the target": lambda: {
        "target": xp.array([1.0, -2.0]),
        "guess": xp.array([1.0, -2.0]),
    },
    "orthogonal": lambda: {
        "target": xp.array([1.0, 2.0]),
        "guess": xp.array([-2.0, 1.0]),
    },
    "no guess": lambda: {"target": xp.array([1.0, 2.0]), "guess": xp.zeros(2)},
    "no target": lambda: {"target": xp.zeros(2), "guess": xp.array([1.0, 2.0])},
}


def _layer(rng, size):
    D, H = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    target = rng.standard_normal((size, H))
    guess = rng.choice((0.1, 1.0)) * (0.3 * target + rng.standard_normal((size, H)))
    return {
        "inputs": rng.standard_normal((size, D)),
        "target": target,
        "guess": guess,
    }


def _one_layer(inputs, target, guess):
    return {
        "inputs": xp.array(inputs),
        "target": xp.array(target),
        "guess": xp.array(guess),
    }


LAYERS = {
    "one sample": lambda: _one_layer([[2.0, -1.0]], [[1.0, 3.0]], [[0.5, 1.0]]),
    "inputs of 0": lambda: _one_layer([[0.0], [1.0]], [[1.0], [2.0]], [[1.0], [-1.0]]),
    "a guess of 0": lambda: _one_layer([[1.0], [1.0]], [[1.0], [2.0]], [[0.0], [1.0]]),
    "guesses that cancel": lambda: _one_layer(
        [[1.0], [1.0]], [[1.0, 1.0], [2.0, 0.0]], [[1.0, 2.0], [-1.0, -2.0]]
    ),
    "opposite targets": lambda: _one_layer(
        [[1.0, 2.0]] * 2, [[1.0], [-0.5]], [[2.0], [0.5]]
    ),
}


def _signals(make):
    """The arguments of a layer without its inputs."""
    arguments = make()
    return {name: arguments[name] for name in ("target", "guess")}


def _along(target, guess):
    """The multiple of the guess that is nearest to the target."""
    size = math.fsum(x * x for x in guess)
    share = math.fsum(a * b for a, b in zip(target, guess, strict=True))
    return [share / size * x if size else 0.0 for x in guess]


def _rows(target, guess):
    pairs = zip(target.tolist(), guess.tolist(), strict=True)
    return xp.array([_along(a, b) for a, b in pairs])


def _cosine_square(target, guess):
    a, b = target.tolist(), guess.tolist()
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    sizes = math.fsum(x * x for x in a) * math.fsum(y * y for y in b)
    return product**2 / sizes if sizes else 0.0


def _sample_by_sample(inputs, target, guess, *, of="samples"):
    """From the matrices themselves."""
    each = [
        [(np.outer(x, d).ravel(), d) for x, d in zip(inputs, signal, strict=True)]
        for signal in (target, guess)
    ]
    if of == "batch":
        each = [[[sum(part) for part in zip(*rows, strict=True)]] for rows in each]
    total = [0.0, 0.0]
    for g, G in zip(*each, strict=True):
        for i in range(2):
            total[i] = total[i] + xp.array(_along(list(g[i]), list(G[i])))
    shape = inputs.shape[1], target.shape[1]
    return LayerUpdate(total[0].reshape(shape), total[1])


def _directions(rng, size):
    scale = rng.choice((0.1, 2.0))
    return {
        "target": scale * rng.standard_normal(3),
        "directions": rng.standard_normal((size, 3)),
    }


def _one_by_one(target, directions):
    total = xp.zeros(len(target))
    for u in directions:
        total += math.fsum(a * b for a, b in zip(target, u, strict=True)) * u
    return total / len(directions)


def _expected_square(target, *, directions=1, law="normal"):
    """For one direction from all of a small set with the law's moments up to the fourth; k of them share the noise."""
    nodes = (
        ((-1.0, 1 / 2), (1.0, 1 / 2))
        if law == "signs"
        else ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
    )
    # the entries are independent: E (g·u)² |u|², term by term, from the moments of one and of two of them
    g, total = target.tolist(), 0.0
    moment = {p: math.fsum(w * x**p for x, w in nodes) for p in range(5)}
    for i, j, k in itertools.product(range(len(g)), repeat=3):
        powers = [0] * len(g)
        for index in (i, j, k, k):
            powers[index] += 1
        total += g[i] * g[j] * math.prod(moment[p] for p in powers)
    size = math.fsum(x * x for x in g)
    return size + (total - size) / directions


def _normalised(target, directions):
    """Each direction's projection, of which the mean is shorter by the number of parameters."""
    lengths = (directions**2).sum(1)
    shares = directions @ target / xp.where(lengths > 0, lengths, 1)
    return shares @ directions / len(directions)


def _one_row(inputs):
    """a batch of one"""
    return {name: array[:1] for name, array in inputs.items()}


METHOD = Method(
    key="fournier2023can",
    provenance={
        "confirmed": ("directional", "project", "activity", "each", "batch"),
        "reconstructed": ("square", "error"),
    },
    functions=(
        Transform(
            f=directional,
            wrt="target",
            jvp=lambda target, directions, *, tangent: directional(tangent, directions),
            vjp=lambda target, directions, *, cotangent: directional(
                cotangent, directions
            ),
            example=_directions,
            edges={
                "all coordinates": lambda: {
                    "target": xp.array([1.0, -2.0, 3.0]),
                    "directions": xp.eye(3),
                },
                "one that is orthogonal": lambda: {
                    "target": xp.array([1.0, 1.0]),
                    "directions": xp.array([[1.0, -1.0]]),
                },
            },
            deviations=(
                Deviation(
                    "normalised random directions",
                    _normalised,
                    seen_in="streethagore/ForwardLocalGradient, the generic trainer",
                    computes="projections onto the directions: in the mean the gradient over the number of parameters",
                ),
            ),
        ),
        Estimator(
            f=expected_square,
            example=lambda rng, size: {
                "target": rng.choice((0.1, 2.0)) * rng.standard_normal(size)
            },
            edges={"one parameter": lambda: {"target": xp.array([-2.0])}},
            settings={
                "default": {},
                "signs": {"law": "signs"},
                "probe": {"directions": 3, "law": "signs"},
                "five normal": {"directions": 5},
            },
            brute_force=_expected_square,
            sizes=(4, 8, 16),
        ),
        Transform(
            f=project,
            wrt="target",
            jvp=lambda target, guess, *, tangent: project(tangent, guess),
            vjp=lambda target, guess, *, cotangent: project(cotangent, guess),
            idempotent=True,
            example=_pair,
            edges=PAIRS,
        ),
        Estimator(
            f=cosine_square,
            example=_pair,
            edges=PAIRS,
            brute_force=_cosine_square,
        ),
        Transform(
            f=activity_signal,
            wrt="target",
            jvp=lambda target, guess, *, tangent: activity_signal(tangent, guess),
            vjp=lambda target, guess, *, cotangent: activity_signal(cotangent, guess),
            idempotent=True,
            example=lambda rng, size: _signals(lambda: _layer(rng, size)),
            edges={
                name: lambda make=make: _signals(make) for name, make in LAYERS.items()
            },
        ),
        Estimator(
            f=weight_update,
            example=_layer,
            edges=LAYERS,
            settings={"default": {}, "probe": {"of": "batch"}},
            brute_force=_sample_by_sample,
            limits=(
                Limit(
                    to="forward_gradient.weight_update",
                    hyper={},
                    to_hyper={"of": "batch"},
                    where=_one_row,
                ),
            ),
        ),
    ),
)
