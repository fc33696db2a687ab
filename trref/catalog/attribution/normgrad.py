"""What is known of `trref.attribution.normgrad`."""

import itertools
import math

from trref.attribution.normgrad import (
    class_sensitivity,
    combine,
    grad_cam,
    meta_parameters,
    saliency,
    weight_gradient,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.record import Interface
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss


def _activations(rng, size):
    """`size` is the number of rows of an image."""
    N, K, V = (int(rng.integers(1, 4)) for _ in range(3))
    shape = (N, K, size, V)
    return {
        "x": xp.maximum(rng.standard_normal(shape), -0.3),
        "gradient": rng.choice((0.1, 1.0)) * rng.standard_normal(shape),
    }


def _equal_everywhere():
    """As after the last convolution before a global average."""
    x = xp.abs(xp.cos(xp.arange(24.0))).reshape(1, 2, 3, 4)
    g = xp.zeros((1, 2, 3, 4)) + xp.array([0.5, -0.2])[None, :, None, None]
    return {"x": x, "gradient": g}


LAYERS = Interface(
    "activations",
    example=_activations,
    edges={
        "an equal gradient everywhere": _equal_everywhere,
        "nothing": lambda: {
            "x": xp.zeros((1, 1, 2, 2)),
            "gradient": xp.ones((1, 1, 2, 2)),
        },
        "one place": lambda: {
            "x": xp.array([[[[2.0]], [[-1.0]]]]),
            "gradient": xp.array([[[[0.5]], [[3.0]]]]),
        },
        "negative everywhere": lambda: {
            "x": -1 - xp.arange(8.0).reshape(2, 1, 2, 2),
            "gradient": xp.ones((2, 1, 2, 2)),
        },
    },
)


def _patch(x, n, k, i, j, size):
    H, W = x.shape[2:]
    r = size // 2
    return [
        float(x[n, k, a, b]) if 0 <= a < H and 0 <= b < W else 0.0
        for a in range(i - r, i + r + 1)
        for b in range(j - r, j + r + 1)
    ]


def _extracts(x, g, n, i, j, layer, size):
    K = x.shape[1]
    slope = [float(g[n, k, i, j]) for k in range(K)]
    if layer == "bias":
        return slope
    if layer == "scaling":
        return [slope[k] * float(x[n, k, i, j]) for k in range(K)]
    size = 1 if layer == "conv1x1" else size
    patches = [_patch(x, n, k, i, j, size) for k in range(K)]
    if layer == "depthwise":
        return [slope[k] * v for k in range(K) for v in patches[k]]
    return [s * v for s in slope for patch in patches for v in patch]


RULES = {
    "norm": lambda m: math.hypot(*m),
    "sum": math.fsum,
    "max": max,
    "positive": lambda m: math.hypot(*[max(v, 0) for v in m]),
}


def _place_by_place(x, gradient, *, layer="conv1x1", how="norm", size=3):
    N, _, H, W = x.shape
    result = xp.empty((N, H, W))
    for n, i, j in itertools.product(range(N), range(H), range(W)):
        m = _extracts(x, gradient, n, i, j, layer, size)
        result[n, i, j] = RULES[how](m)
    return result


def _summed(x, gradient, *, size=3):
    N, K, H, W = x.shape
    total = xp.zeros((K, K * size * size))
    for n, i, j in itertools.product(range(N), range(H), range(W)):
        patch = [v for c in range(K) for v in _patch(x, n, c, i, j, size)]
        for k in range(K):
            total[k] += float(gradient[n, k, i, j]) * xp.array(patch)
    return total


def _cam(x, gradient):
    N, K, H, W = x.shape
    result = xp.zeros((N, H, W))
    for n in range(N):
        for k in range(K):
            mean = math.fsum(gradient[n, k].ravel().tolist()) / (H * W)
            result[n] += mean * x[n, k]
    return xp.where(result > 0, result, 0)


def _one_form(x, gradient, *, layer="conv1x1", how="norm", size=3):
    return saliency(x, gradient)


def _one_by_one(inputs):
    """activations and gradient are positive"""
    return {name: xp.abs(value) for name, value in inputs.items()}


def _same_gradient(inputs):
    """the gradient is the same everywhere, and the map positive"""
    g = xp.zeros_like(inputs["x"]) + xp.abs(inputs["gradient"][:, :, :1, :1])
    return {"x": xp.abs(inputs["x"]), "gradient": g}


def _maps(rng, size):
    L, N, V = (int(rng.integers(1, 4)) for _ in range(3))
    return {
        "maps": rng.choice((0.1, 5.0)) * rng.standard_normal((L, N, size, V)),
        "weights": rng.uniform(0.2, 2.0, L),
    }


def _map_by_map(maps, weights, *, rule="mean"):
    L, N, H, W = maps.shape
    total = math.fsum(weights.tolist())
    result = xp.zeros((N, H, W)) if rule == "mean" else xp.ones((N, H, W))
    for i, n in itertools.product(range(L), range(N)):
        m = maps[i, n]
        low, high = float(m.min()), float(m.max())
        unit = (m - low) / (high - low) if high > low else 0 * m
        share = float(weights[i]) / total
        if rule == "mean":
            result[n] += share * unit
        else:
            result[n] *= unit**share
    return xp.minimum(result, 1)


def _unweighted(maps, weights, *, rule="mean"):
    exact = combine(maps, weights, rule=rule)
    if rule == "mean":
        return exact
    product = exact**0
    for each in maps:
        product = product * combine(each[None], weights[:1], rule="product")
    return product


def _two_maps(rng, size):
    N, V = (int(rng.integers(1, 4)) for _ in range(2))
    likely = rng.standard_normal((N, size, V))
    return {
        "likely": likely,
        "unlikely": likely + rng.standard_normal((N, size, V)),
    }


def _mean_ranks(values):
    below = [sum(w < v for w in values) for v in values]
    return [b + (values.count(v) - 1) / 2 for b, v in zip(below, values, strict=True)]


def _spearman(likely, unlikely):
    result = []
    for a, b in zip(likely, unlikely, strict=True):
        p, q = (_mean_ranks(m.ravel().tolist()) for m in (a, b))
        middle = (len(p) - 1) / 2
        p, q = [v - middle for v in p], [v - middle for v in q]
        lengths = math.hypot(*p) * math.hypot(*q)
        inner = math.fsum(v * w for v, w in zip(p, q, strict=True))
        result.append(inner / lengths if lengths else 0.0)
    return xp.array(result)


def _network(rng, size):
    D, K = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    sizes = (D, size, K)
    loss = ClassifierLoss(rng.random((1, D)), rng.integers(0, K, 1), sizes)
    return {"loss_and_grad": loss, "theta": mlp.init(rng, sizes)}


def _entry_by_entry(loss_and_grad, theta, *, lr=2.5e-3, towards=True):
    sign, g = -1 if towards else 1, loss_and_grad(theta)[1].tolist()
    pairs = zip(theta.tolist(), g, strict=True)
    return xp.array([t + sign * lr * s for t, s in pairs])


EVEN_SIZE = {
    "an even size": {"size": 2},
}


METHOD = Method(
    key="rebuffi2020there",
    provenance={
        "confirmed": (
            "weights",
            "extract",
            "aggregate",
            "norms",
            "grad-cam",
            "sensitivity",
            "meta",
        ),
        "partly": ("combine",),
    },
    functions=(
        Estimator(
            f=saliency,
            interface=LAYERS,
            sizes=(4, 8),
            settings={
                "default": {},
                **{
                    f"{layer} and {how}": {"layer": layer, "how": how}
                    for layer in ("conv1x1", "conv", "depthwise", "scaling", "bias")
                    for how in RULES
                },
                "probe": {"layer": "conv", "how": "positive", "size": 5},
            },
            brute_force=_place_by_place,
            limits=(
                Limit(
                    to="normgrad.grad_cam",
                    hyper={"layer": "scaling", "how": "sum"},
                    where=_same_gradient,
                ),
                Limit(
                    to="normgrad.saliency",
                    hyper={"layer": "depthwise", "size": 1},
                    to_hyper={"layer": "scaling"},
                ),
                Limit(
                    to="normgrad.saliency",
                    hyper={"layer": "scaling", "how": "positive"},
                    to_hyper={"layer": "scaling"},
                    where=_one_by_one,
                ),
            ),
            deviations=(
                Deviation(
                    "the 1x1 form",
                    _one_form,
                    seen_in="ruthcfong/TorchRay torchray/attribution/norm_grad.py, branch normgrad",
                    computes="the norm of the 1x1 extract, whatever layer is asked for",
                ),
            ),
            refused=EVEN_SIZE,
        ),
        Estimator(
            f=weight_gradient,
            interface=LAYERS,
            settings={"default": {}, "1x1": {"size": 1}, "probe": {"size": 5}},
            brute_force=_summed,
            refused=EVEN_SIZE,
        ),
        Estimator(f=grad_cam, interface=LAYERS, brute_force=_cam),
        Estimator(
            f=combine,
            example=_maps,
            edges={
                "a constant map": lambda: {
                    "maps": xp.array([[[[0.1, 0.1]]], [[[1.0, 3.0]]]]),
                    "weights": xp.array([1.0, 2.0]),
                },
                "one layer": lambda: {
                    "maps": xp.array([[[[0.0], [2.0], [1.0]]]]),
                    "weights": xp.array([0.3]),
                },
            },
            settings={"default": {}, "probe": {"rule": "product"}},
            brute_force=_map_by_map,
            deviations=(
                Deviation(
                    "no weights in the product",
                    _unweighted,
                    seen_in="srebuffi/revisiting_saliency resnet50_grid_saliency.py",
                    computes="the plain product of the maps",
                ),
            ),
        ),
        Estimator(
            f=class_sensitivity,
            example=_two_maps,
            edges={
                "a constant map": lambda: {
                    "likely": xp.zeros((1, 2, 2)),
                    "unlikely": xp.arange(4.0).reshape(1, 2, 2),
                },
                "two places": lambda: {
                    "likely": xp.array([[[0.0, 1.0]]]),
                    "unlikely": xp.array([[[2.0, 1.0]]]),
                },
                "many equal": lambda: {
                    "likely": xp.array([[[0.0, 0.0, 1.0, 2.0]]]),
                    "unlikely": xp.array([[[1.0, 0.0, 0.0, 0.0]]]),
                },
                "one place": lambda: {
                    "likely": xp.ones((1, 1, 1)),
                    "unlikely": xp.zeros((1, 1, 1)),
                },
            },
            brute_force=_spearman,
        ),
        Estimator(
            f=meta_parameters,
            example=_network,
            edges={
                "one unit": lambda: {
                    "loss_and_grad": ClassifierLoss(
                        xp.array([[0.5]]), xp.array([1]), (1, 2)
                    ),
                    "theta": xp.array([1.0, -1.0, 0.5, 0.0]),
                },
            },
            settings={
                "default": {},
                "probe": {"lr": 0.3, "towards": False},
            },
            brute_force=_entry_by_entry,
        ),
    ),
)
