"""What is known of `trref.diffusion.two_layer`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.diffusion.two_layer import (
    Network,
    features,
    network,
    squared_loss,
    zero_start,
)


def _example(rng, size):
    """Samples and units, few or many of either, and a bias."""
    M, P, D = (
        int(rng.choice((1, 3, 8))),
        int(rng.integers(1, 5)),
        int(rng.integers(1, 4)),
    )
    Z = rng.standard_normal((size, P))
    Z[:, -1] = 1.0
    return {
        "W": rng.standard_normal((M, P)),
        "a": rng.choice((-1.0, 1.0), (M, D)),
        "Z": Z,
        "Y": float(rng.choice((0.1, 1.0, 10.0))) * rng.standard_normal((size, D)),
    }


def _edge(W, Z):
    W, Z = xp.array(W), xp.array(Z)
    a = xp.where((xp.arange(2 * len(W)).reshape(len(W), 2) % 3) > 0, 1.0, -1.0)
    return {"W": W, "a": a, "Z": Z, "Y": xp.ones((len(Z), 2)) / 4}


WIDE = Interface(
    "two_layer",
    example=_example,
    edges={
        "units at their kinks": lambda: _edge(
            [[1.0, -1.0], [0.0, 2.0]], [[1.0, 1.0], [3.0, 0.0]]
        ),
        "all units off": lambda: _edge(
            [[-1.0, 0.0], [-2.0, 1.0], [-0.5, -0.5]], [[1.0, 0.5]]
        ),
        "an input of zero": lambda: _edge([[1.0, 2.0]], [[0.0, 0.0], [1.0, 0.0]]),
        "a unit twice": lambda: _edge(
            [[1.0, 0.5], [1.0, 0.5]], [[1.0, -1.0], [0.3, 1.0]]
        ),
    },
)
"""``f(W (M P), a (M D), Z (N P), …)``."""


def network_by_units(W, a, Z):
    """Brute force: unit by unit."""
    result = xp.zeros((len(Z), a.shape[1]))
    for w, signs in zip(W.tolist(), a.tolist(), strict=True):
        for n, z in enumerate(Z.tolist()):
            rise = max(sum(p * q for p, q in zip(w, z, strict=True)), 0.0)
            for i, sign in enumerate(signs):
                result[n, i] += sign * rise / len(W) ** 0.5
    return result


def doubled_by_units(W, a):
    W, a = W.tolist(), a.tolist()
    return Network(
        xp.array([*W, *W]), xp.array([*a, *([-s for s in row] for row in a)])
    )


def _points(rng, size):
    D = int(rng.integers(1, 4))
    return {"x": rng.standard_normal((size, D)), "t": rng.random(size)}


def features_by_rows(x, t, *, t_min=0.05):
    return xp.array(
        [[*row, u - t_min, 1.0] for row, u in zip(x.tolist(), t.tolist(), strict=True)]
    )


def _mean_loss(W, a, Z, Y):
    loss, gradient = squared_loss(W, a, Z, Y)
    return loss / len(Z), gradient / len(Z)


METHOD = Method(
    key="han2024neural",
    provenance={
        "partly": ("network", "loss", "gradient"),
        "reconstructed": ("start",),
    },
    functions=(
        Estimator(
            f=features,
            example=_points,
            edges={"the first time": lambda: {"x": xp.ones((1, 2)), "t": xp.zeros(1)}},
            settings={"default": {}, "probe": {"t_min": 0.2}},
            brute_force=features_by_rows,
        ),
        Estimator(
            f=zero_start,
            interface=WIDE,
            sizes=(1, 4),
            brute_force=doubled_by_units,
            example=lambda rng, size: {
                "W": rng.standard_normal((size, int(rng.integers(1, 5)))),
                "a": rng.choice((-1.0, 1.0), (size, int(rng.integers(1, 4)))),
            },
        ),
        Estimator(f=network, interface=WIDE, brute_force=network_by_units),
        Objective(
            f=squared_loss,
            interface=WIDE,
            wrt="W",
            deviations=(
                Deviation(
                    "the mean over samples",
                    _mean_loss,
                    seen_in="trainers that call mse_loss or take the mean of a batch, as most do",
                    computes="a loss and a gradient smaller by the number of samples",
                ),
            ),
        ),
    ),
)
