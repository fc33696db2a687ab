"""What is known of `trref.trustworthiness.trust_vl`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.nn import flat
from trref.trustworthiness.trust_vl import detector_loss, detector_shapes, macro_f1

SIZES = {
    "dim": 4,
    "queries": 3,
    "tokens": 2,
    "kinds": 3,
    "hidden": 3,
    "layers": 3,
    "width": 3,
    "classes": 2,
}


def _weights(rng, vision):
    """Vectors of unlike size; gains are anything, too."""
    shapes = detector_shapes(vision=vision, **SIZES)
    parts = [0.6 * rng.standard_normal(shape) for shape in shapes]
    return flat.join(parts)


def _items(rng, size):
    P, V = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    mask = (rng.random((size, P)) < 0.7).astype(float)
    mask[:, 0] = 1.0
    return {
        "theta": _weights(rng, V),
        "patches": rng.standard_normal((size, P, V)),
        "kind": rng.integers(0, 3, size),
        "labels": rng.integers(0, 2, size),
        "mask": mask,
    }


def _edge(kind, labels, mask=None):
    import numpy as np

    rng = np.random.default_rng(1)
    return {
        "theta": _weights(rng, 3),
        "patches": rng.standard_normal((len(kind), 2, 3)),
        "kind": xp.array(kind),
        "labels": xp.array(labels),
        "mask": mask,
    }


def _verdicts(rng, size):
    labels = rng.integers(0, 3, size)
    right = rng.random(size) < 0.7
    return {
        "predicted": xp.where(right, labels, rng.integers(0, 3, size)),
        "labels": labels,
    }


def _by_class(predicted, labels, *, classes, dtype="float64", absent=True):
    scores = []
    pairs = list(zip(predicted.tolist(), labels.tolist(), strict=True))
    for c in range(classes):
        hits = sum(p == y == c for p, y in pairs)
        total = sum(p == c for p, _ in pairs) + sum(y == c for _, y in pairs)
        if total or absent:
            scores.append(2 * hits / total if total else 0.0)
    return xp.asarray(math.fsum(scores) / len(scores), dtype=dtype)


def _present(predicted, labels, *, classes, dtype="float64"):
    return _by_class(predicted, labels, classes=classes, dtype=dtype, absent=False)


METHOD = Method(
    key="yan2025trust",
    provenance={
        "partly": ("head", "loss", "f1"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=detector_loss,
            wrt="theta",
            example=_items,
            edges={
                "a kind each, padding": lambda: _edge(
                    [0, 1, 2], [0, 1, 1], xp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
                ),
                "one item": lambda: _edge([2], [1]),
            },
            settings={
                "default": {**SIZES, "heads": 1},
                "probe": {**SIZES, "heads": 2},
            },
            sizes=(2, 3),
            seeds=(1,),
            refused={
                "heads that do not divide": {"heads": 3},
                "parameters of no network": {"theta": lambda theta: theta[:-1]},
                "large parameters": {"theta": 2e3},
                "an image without patches": {"mask": 0},
                "a kind that there is not": {"kind": 99},
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=macro_f1,
            example=_verdicts,
            edges={
                "all right": lambda: {
                    "predicted": xp.array([0, 1, 2, 0]),
                    "labels": xp.array([0, 1, 2, 0]),
                },
                "a class is absent": lambda: {
                    "predicted": xp.array([0, 1, 1]),
                    "labels": xp.array([0, 0, 1]),
                },
                "one, wrong": lambda: {
                    "predicted": xp.array([1]),
                    "labels": xp.array([0]),
                },
            },
            settings={"default": {"classes": 3}, "probe": {"classes": 4}},
            brute_force=_by_class,
            deviations=(
                Deviation(
                    "classes that are there",
                    _present,
                    seen_in="scikit-learn, sklearn.metrics.f1_score with average='macro' and without labels",
                    computes="the mean over classes that occur or are predicted",
                ),
            ),
            refused={
                "a verdict that there is not": {"predicted": 99},
                "a label that is no class": {"labels": 99},
            },
        ),
    ),
)
