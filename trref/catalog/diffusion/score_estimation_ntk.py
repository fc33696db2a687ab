"""What is known of `trref.diffusion.score_estimation_ntk`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Transform
from trref.diffusion.score_estimation_ntk import (
    Errors,
    error_split,
    parametric_score,
    score_loss,
    truncate,
)


def _rows(rng, size):
    shape = (size, int(rng.integers(1, 4)))
    x0, alpha = rng.standard_normal(shape), rng.uniform(0.1, 0.95, size)
    h = 1 - alpha[:, None] ** 2
    x = alpha[:, None] * x0 + xp.sqrt(h) * rng.standard_normal(shape)
    return {
        "prediction": x0 + 0.3 * rng.standard_normal(shape),
        "score": (alpha[:, None] * x0 - x) / h + 0.5 * rng.standard_normal(shape),
        "x0": x0,
        "x": x,
        "alpha": alpha,
    }


def _edge(alpha):
    x0 = xp.array([[1.0, -0.5], [0.25, 2.0]])
    return {
        "prediction": x0 / 2,
        "score": -x0,
        "x0": x0,
        "x": x0[::-1] + 0.5,
        "alpha": xp.array(alpha),
    }


EDGES = {
    "almost no noise and almost no signal": [1 - 2.0**-10, 2.0**-10],
    "equal levels": [0.5, 0.5],
}


def _of(*names):
    pick = lambda values: {name: values[name] for name in names}  # noqa: E731
    return {
        "example": lambda rng, size: pick(_rows(rng, size)),
        "edges": {
            name: lambda alpha=alpha: pick(_edge(alpha))
            for name, alpha in EDGES.items()
        },
    }


def _pushed(prediction, x, alpha, tangent=None, cotangent=None):
    """Affine: a scale a row, the same for jvp and vjp."""
    moved = tangent if cotangent is None else cotangent
    return (alpha / (1 - alpha**2))[:, None] * moved


def _one_level(inputs):
    """one level of noise for all rows"""
    return {**inputs, "alpha": 0 * inputs["alpha"] + 0.8}


def _noise_weight(score, x0, x, alpha):
    """Weighted by h: the error of the noise."""
    error = score + (x - alpha[:, None] * x0) / (1 - alpha**2)[:, None]
    weight = (1 - alpha**2)[:, None]
    return (weight * error * error).sum() / len(x), 2 * weight * error / len(x)


# ---- the split


def _split(rng, size):
    N, Q, D = size, int(rng.integers(1, 6)), int(rng.integers(1, 4))
    A = rng.standard_normal((N, N + 2)) / math.sqrt(N)
    at_data = [rng.standard_normal((N, D)) for _ in range(3)]
    at_queries = [rng.standard_normal((Q, D)) for _ in range(3)]
    return {
        "predicted": at_queries[0],
        "kernel": A @ A.T + 0.05 * xp.eye(N),
        "query_kernel": rng.standard_normal((Q, N)) / math.sqrt(N),
        **dict(zip(("Y", "target", "fit"), at_data, strict=True)),
        "query_target": at_queries[1],
        "query_fit": at_queries[2],
    }


def _clean():
    kernel, f = xp.array([[2.0, 0.5], [0.5, 1.0]]), xp.array([[1.0], [-1.0]])
    return {
        "predicted": f / 2,
        "kernel": kernel,
        "query_kernel": kernel,
        "Y": f,
        "target": f,
        "fit": f,
        "query_target": f,
        "query_fit": f,
    }


def split_by_steps(
    predicted,
    kernel,
    query_kernel,
    Y,
    target,
    fit,
    query_target,
    query_fit,
    *,
    lr=0.01,
    steps=100,
):
    """Brute force: three descents, step by step, and the differences as they are named."""
    ends = []
    for labels in (Y, fit + (Y - target)):
        c = xp.zeros_like(Y)
        for _ in range(steps):
            c = c + lr * (labels - kernel @ c)
        ends.append(query_kernel @ c)
    return Errors(
        predicted - ends[0],
        ends[0] - ends[1],
        ends[1] - query_fit,
        query_fit - query_target,
    )


REFUSED = {
    "no noise": {"alpha": 1.0},
    "no signal": {"alpha": 1e-9},
}


METHOD = Method(
    key="han2024neural",
    provenance={
        "partly": ("score", "loss", "split"),
        "reconstructed": ("truncate",),
    },
    functions=(
        Transform(
            f=parametric_score,
            **_of("prediction", "x", "alpha"),
            wrt="prediction",
            jvp=_pushed,
            vjp=_pushed,
            limits=(
                Limit(
                    "score_matching.convert_prediction",
                    {},
                    {"given": "data", "wanted": "score", "alpha": 0.8, "sigma": 0.6},
                    where=_one_level,
                ),
            ),
            refused=REFUSED,
        ),
        Objective(
            f=score_loss,
            **_of("score", "x0", "x", "alpha"),
            wrt="score",
            deviations=(
                Deviation(
                    "the weight of the noise's error",
                    _noise_weight,
                    seen_in="trainers that predict the noise, as DDPM's",
                    computes="the same squares with the weight h, not h² / alpha²",
                    documented=True,
                ),
            ),
            refused=REFUSED,
        ),
        Transform(
            f=truncate,
            example=lambda rng, size: {
                "prediction": 1.5 * rng.standard_normal((size, int(rng.integers(1, 4))))
            },
            edges={
                "inside, on and outside the ball": lambda: {
                    "prediction": xp.array([[0.3, 0.4], [0.6, 0.8], [-6.0, 8.0]])
                },
                "nothing": lambda: {"prediction": xp.zeros((1, 3))},
            },
            wrt="prediction",
            idempotent=True,
            settings={"default": {}, "probe": {"radius": 0.4}},
        ),
        Estimator(
            f=error_split,
            example=_split,
            edges={"a fit without error": _clean},
            settings={
                "default": {},
                "no step": {"steps": 0},
                "probe": {"lr": 0.05, "steps": 30},
            },
            sizes=(4, 8, 16),
            brute_force=split_by_steps,
        ),
    ),
)
