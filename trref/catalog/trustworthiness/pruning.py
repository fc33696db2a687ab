"""What is known of `trref.trustworthiness.pruning`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.trustworthiness.quantisation import damped, only, passed_on, square
from trref.trustworthiness.pruning import (
    Removal,
    magnitude_mask,
    remove_weight,
    sparsegpt,
    wanda_mask,
)


def _first_of(scores, count):
    """Which stay, after the `count` smallest go, the first of equal ones first."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    gone = set(order[:count])
    return [0.0 if i in gone else 1.0 for i in range(len(scores))]


def _runs(scores, pruned, run):
    return [
        [
            x
            for i in range(0, len(row), run)
            for x in _first_of(row[i : i + run], pruned)
        ]
        for row in scores
    ]


def _by_size(W, *, sparsity=0.5, pruned=0, run=4):
    scores = np.abs(W).tolist()
    if pruned:
        return xp.array(_runs(scores, pruned, run))
    flat = [x for row in scores for x in row]
    return xp.array(_first_of(flat, int(sparsity * len(flat)))).reshape(W.shape)


def _by_wanda(W, X, *, sparsity=0.5, pruned=0, run=4):
    lengths = [math.sqrt(math.fsum(x * x for x in row)) for row in X.tolist()]
    scores = [
        [abs(w) * n for w, n in zip(row, lengths, strict=True)] for row in W.tolist()
    ]
    if pruned:
        return xp.array(_runs(scores, pruned, run))
    return xp.array([_first_of(row, int(sparsity * len(row))) for row in scores])


def _one_more(W, *, sparsity=0.5, pruned=0, run=4):
    if pruned:
        return magnitude_mask(W, pruned=pruned, run=run)
    size = abs(W).reshape(-1)
    level = xp.sort(size)[min(int(sparsity * size.size), size.size - 1)]
    return (abs(W) > level).astype(W.dtype)


def _removal(w, H):
    """By least squares on the weights that stay."""
    L, K = np.linalg.cholesky(np.array(H)).T, len(w)
    changes = np.zeros((K, K))
    for p in range(K):
        stay = [i for i in range(K) if i != p]
        changes[p, p] = -w[p]
        if stay:
            right = L[:, p] * w[p]
            changes[p, stay] = np.linalg.lstsq(L[:, stay], right, rcond=None)[0]
    return Removal(changes, np.einsum("pi,ij,pj->p", changes, H, changes))


def _sequential(W, H, *, sparsity=0.5, pruned=0, run=4, block=128, damping=0.01):
    """Column by column, the ones that are left by least squares; scores from inverses of what is left of H."""
    W, H = damped(W, H, damping)
    width = run if pruned else block
    corner = [np.linalg.inv(H[j:, j:])[0, 0] for j in range(len(H))]
    for j in range(len(H)):
        if j % width == 0:
            at = range(j, min(j + width, len(H)))
            scores = [[row[i] ** 2 / corner[i] for i in at] for row in W]
            if pruned:
                kept = np.array([_first_of(row, pruned) for row in scores])
            else:
                flat = [x for row in scores for x in row]
                kept = np.array(_first_of(flat, int(sparsity * len(flat))))
                kept = kept.reshape(len(W), -1)
        W = passed_on(W, H, j, W[:, j] * kept[:, j % width])
    return W


def _one_more_of_each(W, H, *, sparsity=0.5, pruned=0, run=4, block=128, damping=0.01):
    if pruned:
        return sparsegpt(
            W,
            H,
            sparsity=sparsity,
            pruned=pruned,
            run=run,
            block=block,
            damping=damping,
        )
    W, H = damped(W, H, damping)
    corner = [np.linalg.inv(H[j:, j:])[0, 0] for j in range(len(H))]
    for j in range(len(H)):
        if j % block == 0:
            at = slice(j, j + block)
            scores = W[:, at] ** 2 / np.array(corner[at])
            place = min(int(sparsity * scores.size), scores.size - 1)
            kept = scores > np.sort(scores.ravel())[place]
        W = passed_on(W, H, j, W[:, j] * kept[:, j % block])
    return W


def _row(rng, size):
    X = rng.standard_normal((size, size + 8))
    return {
        "w": rng.choice((0.1, 3.0)) * rng.standard_normal(size),
        "H": X @ X.T,
    }


def _one_length(inputs):
    """inputs have one length, and the matrix is one row"""
    W, X = inputs["W"][:1], inputs["X"]
    lengths = xp.sqrt((X * X).sum(1, keepdims=True))
    X = xp.where(
        lengths > 0, X / xp.where(lengths > 0, lengths, 1), 1 / X.shape[1] ** 0.5
    )
    return {"W": W, "X": X}, {"W": W}


SETTINGS = {
    "default": {},
    "2 of 4": {"pruned": 2},
    "probe": {"sparsity": 0.3, "pruned": 2, "run": 2},
    "3 of 4": {"pruned": 3},
    "three quarters": {"sparsity": 0.75},
    "1 of 2": {"pruned": 1, "run": 2},
}

REFUSED = {
    "runs that do not divide the row": {"pruned": 2, "run": 3},
    "more pruned than there is in a run": {"pruned": 5, "run": 4},
    "weights that are too large": {"W": 1e31},
}


METHOD = Method(
    key="hong2024decoding",
    provenance="confirmed",
    functions=(
        Estimator(
            f=magnitude_mask,
            brute_force=_by_size,
            settings=SETTINGS,
            example=lambda rng, size: {
                "W": rng.standard_normal((size, int(rng.choice((4, 8)))))
            },
            edges={
                **only("W")["edges"],
                "ties": lambda: {"W": xp.array([[0.5, -0.5, 0.5, 0.25]] * 2)},
            },
            deviations=(
                Deviation(
                    "one more",
                    _one_more,
                    seen_in="locuslab/wanda, lib/prune.py, prune_magnitude",
                    computes="a mask without all that are at most the sorted size at the place of the whole part",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=wanda_mask,
            brute_force=_by_wanda,
            settings=SETTINGS,
            limits=(Limit("pruning.magnitude_mask", {}, {}, where=_one_length),),
            **only("W", "X"),
            refused=REFUSED,
        ),
        Estimator(
            f=remove_weight,
            brute_force=_removal,
            example=_row,
            edges={
                "two weights": lambda: {
                    "w": xp.array([1.0, -2.0]),
                    "H": xp.array([[2.0, 1.0], [1.0, 3.0]]),
                },
                "nothing to remove": lambda: {
                    "w": xp.array([0.0, 0.5]),
                    "H": xp.array([[2.0, 1.0], [1.0, 3.0]]),
                },
            },
            refused={
                "singular": lambda: ({"w": xp.ones(2), "H": xp.ones((2, 2))}, {}),
            },
        ),
        Estimator(
            f=sparsegpt,
            brute_force=_sequential,
            settings={
                "default": {},
                "probe": {
                    "sparsity": 0.3,
                    "pruned": 2,
                    "run": 2,
                    "block": 2,
                    "damping": 0.05,
                },
                "damped": {"sparsity": 0.3, "damping": 0.05},
                "2 of 4": {"pruned": 2},
                "blocks": {"sparsity": 0.3, "block": 4},
                "1 of 2": {"pruned": 1, "run": 2},
            },
            example=lambda rng, size: square(rng, max(size, 4)),
            edges=only("W", "H")["edges"],
            sizes=(4, 8, 12),
            refused={
                "runs that do not divide the row": {"pruned": 2, "run": 3},
                "more pruned than there is in a run": {"pruned": 5, "run": 4},
                "weights that are too large": {"W": 1e31},
                "an H that is not symmetric": {"H": lambda H: H + H[:1]},
                "a negative diagonal": {"H": lambda H: -H},
            },
        ),
    ),
)
