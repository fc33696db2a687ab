"""What is known of `trref.adversarial.elasticface`."""

import math

from trref.adversarial.elasticface import (
    Gradient,
    elastic_margins,
    elastic_objective,
    margin_objective,
    target_cosines,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.record import Interface


def _example(rng, size):
    """Embeddings around their centres, no cosine near 1 or -1."""
    K, D = int(rng.integers(1, 5)), int(rng.integers(3, 6))
    w = rng.standard_normal((K, D))
    labels = rng.integers(0, K, size)
    w_unit = w / xp.sqrt((w**2).sum(1, keepdims=True))
    away = rng.standard_normal((size, D))
    away -= (away * w_unit[labels]).sum(1, keepdims=True) * w_unit[labels]
    away /= xp.sqrt((away**2).sum(1, keepdims=True))
    angle = rng.uniform(0.3, 2.5, (size, 1))
    x = xp.cos(angle) * w_unit[labels] + xp.sin(angle) * away
    return {
        "embeddings": rng.choice((0.3, 1.0, 5.0)) * x,
        "centres": w,
        "labels": labels,
        "margins": rng.uniform(0.1, 0.6, size),
        "noise": rng.standard_normal(size),
    }


def _given(embeddings, centres, labels, margins):
    m = xp.array(margins)
    return {
        "embeddings": xp.array(embeddings),
        "centres": xp.array(centres),
        "labels": xp.array(labels),
        "margins": m,
        "noise": xp.cos(1 + 3 * xp.arange(float(len(m)))),
    }


FACES = Interface(
    "faces",
    example=_example,
    edges={
        "beyond pi": lambda: _given(
            [[-1.0, 0.3], [1.0, 0.5]],
            [[1.0, 0.0], [0.0, 2.0]],
            [0, 1],
            [0.8, 0.1],
        ),
        "one class": lambda: _given([[0.6, 0.8]], [[1.0, 0.0]], [0], [0.5]),
        "equal cosines": lambda: _given(
            [[1.0, 1.0]] * 3, [[1.0, 0.0], [0.0, 1.0]], [0, 1, 0], [0.1, 0.1, 0.1]
        ),
        "no margin": lambda: _given(
            [[1.0, 2.0]], [[2.0, 1.0], [-1.0, 1.0]], [1], [0.0]
        ),
    },
)


def _each_cosine(embeddings, centres, labels):
    return xp.array(
        [
            math.fsum(a * b for a, b in zip(x, centres[y].tolist(), strict=True))
            / math.hypot(*x)
            / math.hypot(*centres[y].tolist())
            for x, y in zip(embeddings.tolist(), labels.tolist(), strict=True)
        ]
    )


def _one_after_the_other(cosines, noise, *, mean=0.5, std=0.05, matched=False):
    """The nearest takes the smallest that is left."""
    margins = [mean + std * v for v in noise.tolist()]
    if matched:
        left = sorted(margins)
        order = sorted(range(len(left)), key=lambda i: (-float(cosines[i]), i))
        for i in order:
            margins[i] = left.pop(0)
    return xp.array(margins)


def _released_index(cosines, noise, *, mean=0.5, std=0.05, matched=False):
    margins = mean + std * noise
    if not matched:
        return margins
    return xp.sort(margins)[xp.argsort(-cosines, kind="stable")]


def _released(
    embeddings,
    centres,
    labels,
    noise,
    *,
    scale=64.0,
    kind="arc",
    mean=0.5,
    std=0.05,
    matched=False,
):
    c = target_cosines(embeddings, centres, labels)
    margins = _released_index(c, noise, mean=mean, std=std, matched=matched)
    return margin_objective(
        embeddings, centres, labels, margins, scale=scale, kind=kind
    )


def _straight_through(
    embeddings, centres, labels, margins, *, scale=64.0, kind="arc", guard=False
):
    """The gradient by the logits, as if these were s times the cosines."""
    value, _ = margin_objective(
        embeddings, centres, labels, margins, scale=scale, kind=kind, guard=guard
    )
    # a margin of the cosine that gives the same logit has that gradient
    c = target_cosines(embeddings, centres, labels)
    if kind == "arc":
        moved = xp.cos(xp.arccos(c) + margins)
        if guard:
            beyond = xp.arccos(c) + margins > math.pi
            moved = xp.where(beyond, c - margins * xp.sin(margins), moved)
        margins = c - moved
    _, gradient = margin_objective(
        embeddings, centres, labels, margins, scale=scale, kind="cos"
    )
    return value, Gradient(*gradient)


def _fixed(inputs):
    """all draws are the mean"""
    shared = {n: inputs[n] for n in ("embeddings", "centres", "labels")}
    zero = xp.zeros_like(inputs["noise"])
    return {**shared, "noise": zero}, {**shared, "margins": zero + 0.5}


def _without_margins(inputs):
    """the margins are 0"""
    return {**inputs, "margins": xp.zeros_like(inputs["margins"])}


def _zero_row():
    given = _given([[0.0, 0.0]], [[1.0, 0.0]], [0], [0.5])
    return {n: given[n] for n in ("embeddings", "centres", "labels")}, {}


REFUSED = {
    "a vector of length 0": {"embeddings": 0},
    "a centre of length 0": {"centres": 0},
    "a label without a centre": {"labels": 99},
}


METHOD = Method(
    key="boutros2021elasticface",
    provenance={
        "confirmed": ("cosine", "arc", "cos", "loss", "draw"),
        "partly": ("match",),
        "reconstructed": ("gradient",),
    },
    functions=(
        Estimator(
            f=target_cosines,
            interface=FACES,
            brute_force=_each_cosine,
            refused={"a row of 0": _zero_row},
        ),
        Objective(
            f=margin_objective,
            wrt=("embeddings", "centres"),
            interface=FACES,
            settings={
                "default": {"scale": 8.0},
                "as in the papers": {"scale": 64.0},
                "CosFace": {"scale": 8.0, "kind": "cos"},
                "guarded": {"scale": 8.0, "guard": True},
                "probe": {"scale": 5.0, "kind": "cos", "guard": True},
            },
            limits=(
                Limit(
                    to="elasticface.margin_objective",
                    hyper={"scale": 8.0},
                    to_hyper={"scale": 8.0, "kind": "cos"},
                    where=_without_margins,
                ),
            ),
            deviations=(
                Deviation(
                    "straight through",
                    _straight_through,
                    seen_in="deepinsight/insightface recognition/arcface_torch/losses.py",
                    computes="the gradient with s in the place of the slope of the angle's logit",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=elastic_margins,
            example=lambda rng, size: {
                "cosines": rng.permutation(size) / size,
                "noise": rng.standard_normal(size),
            },
            edges={
                "equal cosines": lambda: {
                    "cosines": xp.zeros(3),
                    "noise": xp.array([1.0, -1.0, 0.5]),
                },
                "one sample": lambda: {
                    "cosines": xp.array([0.5]),
                    "noise": xp.array([2.0]),
                },
            },
            settings={
                "default": {},
                "matched": {"matched": True},
                "probe": {"mean": 0.35, "std": 0.2, "matched": True},
            },
            brute_force=_one_after_the_other,
            deviations=(
                Deviation(
                    "the inverse order",
                    _released_index,
                    seen_in="fdbtrs/ElasticFace utils/losses.py",
                    computes="the margin whose number is the sample at that place of the order",
                ),
            ),
        ),
        Objective(
            f=elastic_objective,
            wrt=("embeddings", "centres"),
            interface=FACES,
            settings={
                "default": {"scale": 8.0},
                "CosFace": {"scale": 8.0, "kind": "cos", "mean": 0.35},
                "probe": {
                    "scale": 5.0,
                    "kind": "cos",
                    "mean": 0.3,
                    "std": 0.15,
                    "matched": True,
                },
            },
            limits=(
                Limit(
                    to="elasticface.margin_objective",
                    hyper={"scale": 8.0},
                    to_hyper={"scale": 8.0},
                    where=_fixed,
                ),
            ),
            deviations=(
                Deviation(
                    "the inverse order",
                    _released,
                    seen_in="fdbtrs/ElasticFace utils/losses.py",
                    computes="margins in the inverse of the stated order",
                ),
            ),
            refused=REFUSED,
        ),
    ),
)
