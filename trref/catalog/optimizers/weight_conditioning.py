"""What is known of `trref.optimizers.weight_conditioning`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Transform
from trref.optimizers.weight_conditioning import (
    condition_number,
    conditioned_linear,
    conditioned_linear_jvp,
    conditioned_linear_vjp,
    equilibrate,
    equilibrate_both,
    equilibrate_both_jvp,
    equilibrate_both_vjp,
    equilibrate_columns,
    equilibrate_columns_jvp,
    equilibrate_columns_vjp,
    equilibrate_jvp,
    equilibrate_vjp,
    row_scale,
    scale_rows,
    scale_rows_jvp,
    scale_rows_vjp,
)


def _example(rng, size):
    m, n, k = size, 2 + size % 3, 1 + size // 4 % 2
    rows = 10.0 ** rng.uniform(-1, 1, (m, 1))
    return {
        "w": rows * rng.standard_normal((m, n)),
        "scale": rng.standard_normal(m),
        "x": rng.standard_normal((k, n)),
        "b": rng.standard_normal(m),
    }


def _with(rows):
    def make():
        w = xp.array(rows)
        m, n = w.shape
        waves = xp.cos(xp.arange(float(m)))
        return {"w": w, "scale": waves, "x": xp.ones((2, n)), "b": 1 - waves}

    return make


WEIGHTS = Interface(
    "weights",
    example=_example,
    edges={
        "one row": _with([[3.0, -4.0]]),
        "one column": _with([[3.0], [-4.0]]),
        "one number": _with([[0.5]]),
        "rows of length one": _with([[0.6, 0.8], [-1.0, 0.0]]),
        "short rows": _with([[0.03, 0.04], [3.0, -0.1], [-0.1, 0.05]]),
    },
)
"""``f(w (M, N), …)`` of raw weights, with what a layer has beside them."""


def _largest_entry(w, *, eps=1e-12):
    return w / xp.maximum(abs(w).max(1, keepdims=True), eps)


LARGEST_ENTRY = Deviation(
    "largest entry",
    _largest_entry,
    seen_in="LAPACK, dgeequ",
    computes="rows whose largest entry is one, not their Euclidean length",
)


def _at_its_own_scale(inputs):
    """The scale is that of the weights"""
    return {"w": inputs["w"], "scale": row_scale(inputs["w"])}, {"w": inputs["w"]}


def _no_longer_than_one(result, **_):
    return float(xp.maximum(xp.sqrt((result**2).sum(1)).max() - 1, 0))


def _scale_by_loops(w, *, eps=1e-12):
    lengths = [math.sqrt(math.fsum(a * a for a in row)) for row in w.tolist()]
    return xp.asarray([1 / max(length, eps) for length in lengths])


def _by_gram(w):
    """From the largest eigenvalues of the smaller Gram matrix and of its inverse."""
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    both = [float(xp.linalg.eigvalsh(g).max()) for g in (gram, xp.linalg.inv(gram))]
    return xp.asarray(math.sqrt(both[0] * both[1]))


FLOOR = {"default": {}, "probe": {"eps": 0.3}}

METHOD = Method(
    key="saratchandran2024weight",
    provenance={
        "confirmed": ("rows", "condition", "columns"),
        "partly": ("layer", "gradient", "stopped"),
    },
    functions=(
        Transform(
            f=equilibrate,
            interface=WEIGHTS,
            wrt="w",
            settings=FLOOR,
            jvp=equilibrate_jvp,
            vjp=equilibrate_vjp,
            feasible=_no_longer_than_one,
            deviations=(LARGEST_ENTRY,),
        ),
        Transform(
            f=scale_rows,
            interface=WEIGHTS,
            wrt="w",
            jvp=scale_rows_jvp,
            vjp=scale_rows_vjp,
            limits=(
                Limit("weight_conditioning.equilibrate", {}, where=_at_its_own_scale),
            ),
        ),
        Transform(
            f=equilibrate_columns,
            interface=WEIGHTS,
            wrt="w",
            settings=FLOOR,
            jvp=equilibrate_columns_jvp,
            vjp=equilibrate_columns_vjp,
        ),
        Transform(
            f=equilibrate_both,
            interface=WEIGHTS,
            wrt="w",
            settings=FLOOR,
            jvp=equilibrate_both_jvp,
            vjp=equilibrate_both_vjp,
            # of one number or one row the result is constant, piece by piece
            edges={
                name: (lambda make=make: {"w": make()["w"]})
                for name, make in WEIGHTS.edges.items()
                if name not in ("one number", "one row", "one column")
            },
        ),
        Transform(
            f=conditioned_linear,
            interface=WEIGHTS,
            wrt="w",
            settings=FLOOR,
            jvp=conditioned_linear_jvp,
            vjp=conditioned_linear_vjp,
        ),
        Estimator(
            f=row_scale,
            interface=WEIGHTS,
            settings=FLOOR,
            brute_force=_scale_by_loops,
        ),
        Estimator(
            f=condition_number,
            interface=WEIGHTS,
            brute_force=_by_gram,
            refused={
                "not of full rank": lambda: (
                    {"w": xp.array([[1.0, 2.0], [2.0, 4.0]])},
                    {},
                ),
                "zero": lambda: ({"w": xp.zeros((2, 3))}, {}),
                "not of full rank, up to rounding": lambda: (
                    {"w": xp.array([[1e6, 0.0], [0.0, 3.3e-10]])},
                    {},
                ),
            },
        ),
    ),
)
