"""What is known of `trref.trustworthiness.question_attention`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Transform
from trref.nn import flat
from trref.trustworthiness.question_attention import (
    attention_maps,
    layout,
    question_attention,
    question_attention_vjp,
)

SIZES = {"heads": 2, "hidden": 3, "layers": 3, "width": 3}
ONE_HEAD = {**SIZES, "heads": 1}


def _weights(rng, dim, vision, tokens):
    """Gains near 1, all else of the size of a well-scaled network, nothing equal to anything."""
    shapes = layout(
        dim=dim,
        vision=vision,
        tokens=tokens,
        **{n: SIZES[n] for n in ("hidden", "layers", "width")},
    )
    parts = []
    for name, shape in shapes.items():
        part = rng.standard_normal(shape) / math.sqrt(shape[0] or 1)
        parts.append(1 + 0.3 * part if name.endswith("gain") else part)
    return flat.join(parts)


def _images(rng, size):
    """Some patches are padding, never the first."""
    R, L, P = (int(n) for n in rng.integers(2, 4, 3))
    D, V = int(rng.choice((2, 4))), int(rng.integers(3, 5))
    mask = (rng.random((size, P)) < 0.7).astype(float)
    mask[:, 0] = 1.0
    return {
        "queries": rng.standard_normal((R, D)),
        "patches": rng.standard_normal((size, P, V)),
        "theta": _weights(rng, D, V, L),
        "question": rng.standard_normal((size, L, D)),
        "mask": mask,
    }


def _edge(*, question=True, mask=None, patches=None, seed=0):
    import numpy as np

    rng = np.random.default_rng(seed)
    tokens = 2 if question else 0
    return {
        "queries": rng.standard_normal((2, 4)),
        "patches": rng.standard_normal((2, 3, 3)) if patches is None else patches,
        "theta": _weights(rng, 4, 3, tokens),
        "question": rng.standard_normal((2, 2, 4)) if question else None,
        "mask": mask,
    }


IMAGES = Interface(
    "images and questions",
    example=_images,
    edges={
        "no question": lambda: _edge(question=False),
        "nothing is padding": lambda: _edge(),
        "zero patches are padding": lambda: _edge(
            patches=xp.array([[[1.0, -0.5, 2.0]] + [[0.0] * 3] * 2] * 2),
            mask=xp.array([[1.0, 0.0, 0.0]] * 2),
        ),
        "one patch": lambda: _edge(
            patches=xp.array([[[1.0, -0.5, 2.0]], [[0.3, 0.1, -0.4]]])
        ),
    },
)
"""``f(queries (R, D), patches (N, P, V), theta (Q), question (N, L, D), mask (N, P), …)``."""


def _unmasked(queries, patches, theta, question, mask, *, heads, hidden, layers, width):
    if mask is not None:
        patches = patches * mask[..., None]
    return question_attention(
        queries,
        patches,
        theta,
        question,
        heads=heads,
        hidden=hidden,
        layers=layers,
        width=width,
    )


def _norm(row, gain, bias, eps=1e-12):
    mean = math.fsum(row) / len(row)
    variance = math.fsum((v - mean) ** 2 for v in row) / len(row)
    scale = math.sqrt(variance + eps)
    return [g * (v - mean) / scale + b for v, g, b in zip(row, gain, bias, strict=True)]


def _affine(row, W, b):
    return [
        math.fsum(row[i] * W[i][j] for i in range(len(row))) + b[j]
        for j in range(len(b))
    ]


def _softmax(scores):
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def _look(rows, read, w, name, heads, keep):
    """Attention of each head, as [head][query][key], and the rows that are read."""
    q = [_affine(r, w[f"{name}.W_query"], w[f"{name}.b_query"]) for r in rows]
    k = [_affine(r, w[f"{name}.W_key"], w[f"{name}.b_key"]) for r in read]
    v = [_affine(r, w[f"{name}.W_value"], w[f"{name}.b_value"]) for r in read]
    d = len(q[0]) // heads
    maps, mixed = [], [[] for _ in rows]
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        attention = []
        for t, asks in enumerate(q):
            kept = [s for s in range(len(read)) if keep[s]]
            scores = [
                math.fsum(a * b for a, b in zip(asks[part], k[s][part], strict=True))
                / math.sqrt(d)
                for s in kept
            ]
            weights = [0.0] * len(read)
            for s, weight in zip(kept, _softmax(scores), strict=True):
                weights[s] = weight
            attention.append(weights)
            mixed[t] += [
                math.fsum(weights[s] * v[s][j] for s in range(len(read)))
                for j in range(h * d, (h + 1) * d)
            ]
        maps.append(attention)
    out = [_affine(m, w[f"{name}.W_out"], w[f"{name}.b_out"]) for m in mixed]
    return maps, out


def _first_maps(
    queries, patches, theta, question, mask, *, heads, hidden, layers, width
):
    sizes = {"hidden": hidden, "layers": layers, "width": width}
    return _looks(queries, patches, theta, question, mask, heads, sizes, 1e-12)


def _wide_epsilon(
    queries, patches, theta, question, mask, *, heads, hidden, layers, width
):
    sizes = {"hidden": hidden, "layers": layers, "width": width}
    return _looks(queries, patches, theta, question, mask, heads, sizes, 1e-5)


def _looks(queries, patches, theta, question, mask, heads, sizes, eps):
    """Number by number, up to the first look at the image, whose norm has an epsilon of its own."""
    N, P, V = patches.shape
    tokens = 0 if question is None else question.shape[1]
    shapes = layout(
        dim=queries.shape[1],
        vision=V,
        tokens=tokens,
        **sizes,
    )
    parts = flat.split(theta, list(shapes.values()))
    w = {name: part.tolist() for name, part in zip(shapes, parts, strict=True)}
    result = []
    for i in range(N):
        rows = queries.tolist()
        for t in range(tokens):
            token = question[i, t].tolist()
            rows.append([a + b for a, b in zip(token, w["position"][t], strict=True)])
        rows = [_norm(r, w["embedding.gain"], w["embedding.bias"]) for r in rows]
        _, read = _look(rows, rows, w, "0.self", heads, [1] * len(rows))
        rows = [
            _norm(
                [a + b for a, b in zip(r, o, strict=True)],
                w["0.self.gain"],
                w["0.self.bias"],
            )
            for r, o in zip(rows, read, strict=True)
        ]
        image = [
            _norm(p, w["vision.gain"], w["vision.bias"], eps)
            for p in patches[i].tolist()
        ]
        keep = [1] * P if mask is None else mask[i].tolist()
        maps, _ = _look(rows[: len(queries)], image, w, "0.cross", heads, keep)
        result.append(maps)
    return xp.array(result)


def _nothing_masked(inputs):
    """no patch is padding"""
    mask = inputs["mask"]
    if mask is None:
        return inputs
    return {**inputs, "mask": xp.ones_like(mask)}, {**inputs, "mask": None}


REFUSED = {
    "heads that do not divide": {"heads": 3},
    "parameters of no network": {"theta": lambda theta: theta[:-1]},
    "large parameters": {"theta": 2e3},
    "an image without patches": {"mask": 0},
}


METHOD = Method(
    key="yan2025trust",
    provenance={
        "confirmed": (
            "norm",
            "heads",
            "embedded",
            "self",
            "cross",
            "feed",
            "output",
        ),
        "reconstructed": ("gradient",),
    },
    functions=(
        Transform(
            f=question_attention,
            interface=IMAGES,
            wrt="queries",
            vjp=lambda *, cotangent, **given: (
                question_attention_vjp(cotangent=cotangent, **given).queries
            ),
            settings={"default": ONE_HEAD, "probe": SIZES},
            sizes=(2, 5),
            limits=(
                Limit(
                    to="question_attention.question_attention",
                    hyper=SIZES,
                    to_hyper=SIZES,
                    where=_nothing_masked,
                ),
            ),
            deviations=(
                Deviation(
                    "padding is read",
                    _unmasked,
                    seen_in="YanZehong/TRUST-VL, llava/model/trustvl_arch.py",
                    computes="padded patches as zero vectors under a mask of ones",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=attention_maps,
            interface=IMAGES,
            settings={"default": ONE_HEAD, "probe": SIZES},
            sizes=(2, 5),
            brute_force=_first_maps,
            deviations=(
                Deviation(
                    "a wide epsilon",
                    _wide_epsilon,
                    seen_in="YanZehong/TRUST-VL, llava/model/multimodal_projector/builder.py",
                    computes="1e-5 in the place of 1e-12 in the norm of the patches",
                ),
            ),
            refused=REFUSED,
        ),
    ),
)
