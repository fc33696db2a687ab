"""What is known of `trref.gradients.selective_gradient_masking`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
)
from trref.gradients.selective_gradient_masking import (
    ablate,
    block,
    calibrate,
    held_activation,
    held_parameters,
    masked_objective,
    routed_objective,
)


def _network(rng, size):
    """A network with one to five hidden units, some of them reserved, on some rows."""
    N, D, H, K = size, *map(int, rng.integers(1, 6, 2)), int(rng.integers(2, 5))
    scale = rng.choice((0.3, 1.0, 3.0))
    return {
        "theta": scale * rng.standard_normal(D * H + H + H * K + K),
        "X": rng.standard_normal((N, D)),
        "labels": rng.integers(0, K, N),
        "reserved": (rng.random(H) < 0.5).astype(float),
    }


def _small(reserved, rows=3, classes=2):
    H = len(reserved)
    return {
        "theta": xp.cos(xp.arange(2.0 * H + H + H * classes + classes)),
        "X": xp.sin(1 + xp.arange(2.0 * rows)).reshape(rows, 2),
        "labels": xp.arange(rows) % classes,
        "reserved": xp.array(reserved),
    }


NETWORK = Interface(
    "network with reserved units",
    example=_network,
    edges={
        "no unit is reserved": lambda: _small([0.0, 0.0]),
        "all units are": lambda: _small([1.0, 1.0, 1.0]),
        "one row": lambda: _small([1.0, 0.0], rows=1),
        "one class": lambda: _small([1.0, 0.0, 0.0], classes=1),
        "the parameters are 0": lambda: {
            **_small([1.0, 0.0]),
            "theta": xp.zeros(12),
        },
    },
)


def _units(reserved, *, inputs, classes):
    """Entry by entry, from what stands where in W1, b1, W2, b2."""
    H, result = len(reserved), []
    for _ in range(inputs):
        result += reserved.tolist()
    result += reserved.tolist()
    for j in range(H):
        result += [float(reserved[j])] * classes
    return xp.array(result + [0.0] * classes)


def _halves(rng, size):
    own = (rng.random(size) < 0.4).astype(float)
    return {"theta": 3 * rng.standard_normal(size), "block": own}


def _some(theta, own):
    return lambda: {"theta": xp.array(theta), "block": xp.array(own)}


def _output(rng, size):
    K = int(rng.integers(1, 5))
    return {
        "bias": rng.standard_normal(K),
        "logits": 2 * rng.standard_normal((size, K)),
        "labels": rng.integers(0, K, size),
        "weight": rng.choice((0.0, 1.0, 100.0), size) + 0.5 * (xp.arange(size) == 0),
    }


def _first_layer(theta, X, labels, reserved):
    H, rows = len(reserved), []
    W = [theta[i * H : (i + 1) * H] for i in range(X.shape[1])]
    for x in X:
        rows.append(
            sum(v * w for v, w in zip(x, W, strict=True)) + theta[len(W) * H :][:H]
        )
    return xp.stack(rows)


def _after_the_pass(theta, X, labels, reserved, *, mode="default", held=None):
    if mode != "retain":
        return masked_objective(theta, X, labels, reserved, mode=mode, held=held)
    value, gradient = masked_objective(theta, X, labels, reserved)
    K = (len(theta) - len(reserved) * (X.shape[1] + 1)) // (len(reserved) + 1)
    own = block(reserved, inputs=X.shape[1], classes=K)
    return value, (1 - own) * gradient


def _none(inputs):
    """no unit is reserved"""
    return {**inputs, "reserved": xp.zeros_like(inputs["reserved"])}


def _all(inputs):
    """all units are reserved"""
    return {**inputs, "reserved": xp.ones_like(inputs["reserved"])}


REFUSED = {
    "parameters of no network": {"theta": lambda theta: theta[:-1]},
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="shilov2025beyond",
    provenance="confirmed",
    functions=(
        Estimator(
            f=block,
            example=lambda rng, size: {
                "reserved": (rng.random(size) < 0.5).astype(float)
            },
            edges={"one unit": lambda: {"reserved": xp.array([1.0])}},
            settings={
                "default": {"inputs": 2, "classes": 3},
                "probe": {"inputs": 3, "classes": 2},
            },
            brute_force=_units,
        ),
        Estimator(
            f=held_parameters,
            example=lambda rng, size: {"theta": rng.standard_normal(size)},
            edges={"one": lambda: {"theta": xp.array([2.0])}},
            brute_force=lambda theta: theta,
        ),
        Objective(
            f=masked_objective,
            interface=NETWORK,
            wrt="theta",
            stopped={"held": held_parameters},
            settings={
                "default": {},
                "forget": {"mode": "forget"},
                "retain": {"mode": "retain"},
                "activation masking": {"mode": "reserved alone"},
                "probe": {"mode": "forget"},
            },
            limits=(
                Limit(
                    to="selective_gradient_masking.masked_objective",
                    hyper={"mode": "retain"},
                    where=_none,
                ),
                Limit(
                    to="selective_gradient_masking.masked_objective",
                    hyper={"mode": "reserved alone"},
                    where=_all,
                ),
            ),
            deviations=(
                Deviation(
                    "zeroed after the pass",
                    _after_the_pass,
                    seen_in="safety-research/selective-gradient-masking README.md",
                    computes="retain data through all units, with the block's gradients zeroed afterwards",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=held_activation,
            interface=NETWORK,
            brute_force=_first_layer,
            refused=REFUSED,
        ),
        Objective(
            f=routed_objective,
            interface=NETWORK,
            wrt="theta",
            stopped={"held": held_activation},
            limits=(
                Limit(
                    to="selective_gradient_masking.masked_objective",
                    hyper={},
                    where=_all,
                ),
            ),
            refused=REFUSED,
        ),
        Transform(
            f=ablate,
            example=_halves,
            edges={
                "nothing": _some([1.0, -2.0], [0.0, 0.0]),
                "everything": _some([1.0, -2.0], [1.0, 1.0]),
                "one": _some([3.0], [1.0]),
            },
            wrt="theta",
            idempotent=True,
            jvp=lambda theta, block, tangent: ablate(tangent, block),
            vjp=lambda theta, block, cotangent: ablate(cotangent, block),
            feasible=lambda result, theta, block: float(abs(block * result).max()),
        ),
        Objective(
            f=calibrate,
            example=_output,
            edges={
                "one sample": lambda: {
                    "bias": xp.array([0.0, 1.0]),
                    "logits": xp.array([[2.0, 0.5]]),
                    "labels": xp.array([1]),
                    "weight": xp.array([3.0]),
                },
            },
            wrt="bias",
            refused={
                "no weight": lambda: (
                    {
                        "bias": xp.zeros(2),
                        "logits": xp.ones((1, 2)),
                        "labels": xp.array([0]),
                        "weight": xp.zeros(1),
                    },
                    {},
                )
            },
        ),
    ),
)
