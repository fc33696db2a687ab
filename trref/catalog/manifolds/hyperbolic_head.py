"""What is known of `trref.manifolds.hyperbolic_head`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Limit, Method, Objective, Transform
from trref.manifolds.hyperbolic_head import (
    exp_hyperboloid,
    exp_hyperboloid_jvp,
    exp_hyperboloid_vjp,
    exp_poincare,
    exp_poincare_jvp,
    hyperbolic_cross_entropy,
    hyperboloid_logits,
    hyperboloid_logits_jvp,
    hyperboloid_logits_vjp,
    poincare_logits,
    poincare_logits_jvp,
    poincare_logits_vjp,
)


def _example(rng, size):
    """Features near the origin or far from it, planes through it or beside it."""
    D, K = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    directions = rng.standard_normal((size, D))
    directions /= xp.sqrt((directions**2).sum(1, keepdims=True))
    lengths = rng.choice((0.1, 1.0, 4.0)) * rng.uniform(0.5, 1.5, (size, 1))
    return {
        "v": lengths * directions,
        "normals": rng.choice((0.3, 2.0)) * rng.standard_normal((K, D)),
        "offsets": rng.choice((0.0, 0.5)) * rng.standard_normal(K),
        "labels": rng.integers(0, K, size),
    }


def _edge(v, normals=((1.0, 0.0), (-1.0, 1.0)), offsets=(0.2, -0.5), labels=None):
    labels = [0] * len(v) if labels is None else labels
    return {
        "v": xp.array(v),
        "normals": xp.array(normals),
        "offsets": xp.array(offsets),
        "labels": xp.array(labels),
    }


EDGES = {
    "at the origin": lambda: _edge([[0.0, 0.0], [0.3, -0.4], [0.0, 0.5]]),
    "one dimension, on the plane": lambda: _edge(
        [[0.5], [-0.25]], normals=[[2.0], [-1.0]], offsets=[0.5, 0.25]
    ),
    "a plane seen from both sides": lambda: _edge(
        [[0.75, -0.5]], normals=[[1.0, 2.0], [-1.0, -2.0]], offsets=[0.5, -0.5]
    ),
    "tiny features": lambda: _edge([[1e-180, -2e-180]]),
    "three classes, one row": lambda: _edge(
        [[1.5, 0.5]],
        normals=[[1.0, 0.0], [0.0, 3.0], [-0.5, -0.5]],
        offsets=[0.0, 1.0, -1.0],
        labels=[2],
    ),
}
EDGES["planes far out"] = lambda: _edge(
    [[1.0, 2.0], [-0.5, 0.1]], offsets=[3.0, -2.5], labels=[1, 0]
)
FAR = {
    "far out": lambda: _edge([[20.0, -10.0], [0.0, 25.0]], labels=[1, 0]),
}


def _only(*names, point=None, far=True):
    """The arguments that are named; `point` leads from features to what a head takes."""

    def chosen(made):
        if point:
            made = {"x": point(made["v"]), **made}
        return {n: made[n] for n in names}

    return {
        "example": lambda rng, size: chosen(_example(rng, size)),
        "edges": {
            n: lambda make=make: chosen(make())
            for n, make in {**EDGES, **(FAR if far else {})}.items()
        },
    }


def _halved(inputs):
    """the other point lies twice as far along the same feature, and the offsets are doubled"""
    x = inputs["x"]
    r = xp.sqrt((x**2).sum(1, keepdims=True))
    v = xp.where(r > 0, xp.arctanh(r) / xp.where(r > 0, r, 1), 1) * x
    other = {"x": exp_hyperboloid(2 * v), "normals": inputs["normals"]}
    return inputs, {**other, "offsets": 2 * inputs["offsets"]}


def _clamped(q):
    """Softly to ± log(2/eps), with a sharpness of 50."""
    top = math.log(2 / float(xp.finfo(q.dtype).eps))
    soft = lambda x: xp.logaddexp(50 * x, 0 * x) / 50  # noqa: E731
    q = xp.where(q > top, top - soft(top - q), q)
    return xp.where(q < -top, -top + soft(q + top), q)


def _clamp(times, f):
    """The logits of `f`, whose largest factor is `times`, with a clamped argument of arsinh."""

    def clamped(x, normals, offsets, *, curvature=1.0):
        root = math.sqrt(curvature)
        length = times * xp.sqrt((normals**2).sum(1)) / root
        logits = f(x, normals, offsets, curvature=curvature)
        return length * xp.arcsinh(_clamped(xp.sinh(logits / length)))

    return Deviation(
        "q clamped",
        clamped,
        seen_in="Probabilistic-and-Interactive-ML/hyper-rl, hyperbolic_math nn_layers/helpers.py",
        computes="arsinh of q clamped smoothly to ±36.7 (in single precision ±16.6)",
    )


SETTINGS = {"default": {}, "probe": {"curvature": 0.5}}

VECTORS_TOO_LONG = {
    "vectors that are too long": {"v": 100.0},
}


METHOD = Method(
    key="klein2025understanding",
    provenance="confirmed",
    functions=(
        Transform(
            f=exp_hyperboloid,
            wrt="v",
            jvp=exp_hyperboloid_jvp,
            vjp=exp_hyperboloid_vjp,
            settings=SETTINGS,
            **_only("v"),
            refused=VECTORS_TOO_LONG,
        ),
        Transform(
            f=exp_poincare,
            wrt="v",
            jvp=exp_poincare_jvp,
            vjp=lambda v, *, cotangent, **hyper: exp_poincare_jvp(
                v, cotangent, **hyper
            ),
            settings=SETTINGS,
            **_only("v", far=False),
            refused=VECTORS_TOO_LONG,
        ),
        Transform(
            f=hyperboloid_logits,
            wrt="x",
            jvp=hyperboloid_logits_jvp,
            vjp=hyperboloid_logits_vjp,
            settings=SETTINGS,
            deviations=(_clamp(1, hyperboloid_logits),),
            **_only("x", "normals", "offsets", point=exp_hyperboloid),
            refused={
                "normals of length 0": {"normals": 0},
                "offsets that are too large": {"offsets": 100.0},
            },
        ),
        Transform(
            f=poincare_logits,
            wrt="x",
            jvp=poincare_logits_jvp,
            vjp=poincare_logits_vjp,
            settings=SETTINGS,
            limits=(
                Limit(
                    "hyperbolic_head.hyperboloid_logits",
                    {},
                    where=_halved,
                    factor=2.0,
                ),
            ),
            deviations=(_clamp(2, poincare_logits),),
            **_only(
                "x",
                "normals",
                "offsets",
                point=lambda v: exp_poincare(v / 4),
                far=False,
            ),
            refused={
                "a point outside the ball": {"x": 2.0},
                "normals of length 0": {"normals": 0},
                "offsets that are too large": {"offsets": 100.0},
            },
        ),
        Objective(
            f=hyperbolic_cross_entropy,
            wrt=("v", "normals", "offsets"),
            settings=SETTINGS,
            **_only("v", "normals", "offsets", "labels"),
            refused={
                "vectors that are too long": {"v": 100.0},
                "normals of length 0": {"normals": 0},
                "offsets that are too large": {"offsets": 100.0},
                "a label that is no class": {"labels": 99},
            },
        ),
    ),
)
