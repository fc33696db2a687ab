"""What is known of `trref.manifolds.hyperpp`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Method, Transform
from trref.manifolds.hyperpp import (
    bounded_features,
    bounded_features_jvp,
    bounded_features_vjp,
)


def _example(rng, size):
    D = int(rng.integers(2, 7))
    return {
        "features": rng.choice((0.03, 1.0, 30.0)) * rng.standard_normal((size, D)),
        "gate_weight": rng.choice((0.5, 5.0)) * rng.standard_normal(D),
        "gate_bias": xp.asarray(rng.choice((-2.0, 0.5, 3.0))),
    }


def _edge(features, gate_weight, gate_bias):
    return {
        "features": xp.array(features),
        "gate_weight": xp.array(gate_weight),
        "gate_bias": xp.asarray(gate_bias),
    }


def _dim(features, gate_weight, gate_bias, *, curvature=1.0, alpha=0.95, eps=2**-23):
    mean_square = (features**2).mean(1, keepdims=True)
    return xp.tanh(features / xp.sqrt(mean_square + eps)) / features.shape[1] ** 0.5


def _eps_of_layers(
    features, gate_weight, gate_bias, *, curvature=1.0, alpha=0.95, eps=2**-23
):
    return bounded_features(
        features, gate_weight, gate_bias, curvature=curvature, alpha=alpha, eps=1e-6
    )


def _too_long(result, features, gate_weight, gate_bias):
    """Beyond the bound of the default settings, which is the largest of those on record."""
    bound = math.tanh(1) * math.atanh(0.95)
    return max(float(xp.sqrt((result**2).sum(1)).max()) / bound - 1, 0.0)


METHOD = Method(
    key="klein2025understanding",
    provenance="confirmed",
    functions=(
        Transform(
            f=bounded_features,
            wrt="features",
            jvp=bounded_features_jvp,
            vjp=bounded_features_vjp,
            feasible=_too_long,
            example=_example,
            edges={
                "a row of zeros": lambda: _edge(
                    [[0.0, 0.0], [1.0, -2.0]], [1.0, 0.5], 0.5
                ),
                "one dimension": lambda: _edge([[0.0005], [-0.001]], [2.0], -0.5),
                "at the bound": lambda: _edge([[2.0, -2.0, 2.0, 2.0]], [0.0] * 4, 40.0),
                "next to nothing": lambda: _edge(
                    [[0.003, -0.001, 0.002]], [1.0, 0.0, -1.0], 0.0
                ),
            },
            settings={
                "default": {},
                "probe": {"curvature": 2.0, "alpha": 0.8, "eps": 1e-3},
            },
            deviations=(
                Deviation(
                    "no learned scaling",
                    _dim,
                    seen_in="Probabilistic-and-Interactive-ML/hyper-rl, networks.py, feature_scaling: dim",
                    computes="u itself, which is at most tanh 1 long",
                    documented=True,
                ),
                Deviation(
                    "epsilon of 1e-6",
                    _eps_of_layers,
                    seen_in="Keras, RMSNormalization, and transformers, LlamaRMSNorm, by default",
                    computes="the root of the mean square plus 1e-6",
                ),
            ),
        ),
    ),
)
