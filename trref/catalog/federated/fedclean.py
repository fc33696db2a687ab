"""What is known of `trref.federated.fedclean`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Solver,
)
from trref.catalog.federated.interfaces import MESSAGES
from trref.federated.fedclean import (
    aggregate,
    geometric_median,
    normalised_maps,
    reconstruction_errors,
    trusted,
    vae_objective,
)


def _points(*rows):
    return lambda: {"points": xp.array(rows)}


def _stationary(result, points, rtol=1e-12, **_):
    """The sum of unit vectors from it to the points; at a point, what exceeds its multiplicity."""
    z = result.point
    far = xp.linalg.norm(points - z, axis=1)
    near = far <= 1e-13 * (1 + far.max())
    units = (points - z)[~near] / far[~near, None]
    pull = float(xp.linalg.norm(units.sum(0))) - float(near.sum())
    return {"pull of the points": max(pull, 0.0) / (1e-7 + 1e3 * rtol)}


def _inside(result, points, **_):
    """However early it stops, it lies within the points' ranges."""
    off = xp.maximum(points.min(0) - result.point, result.point - points.max(0)).max()
    return {"outside the ranges": (float(off), 1e-12)}


def _network(rng, size):
    N, H, C, L = size, *map(int, rng.integers(1, 4, 3))
    E = int(rng.choice((1, 11)))
    P = E * (2 * H + 2 * C + 3 * L + 2) + 2 * L + H
    K = int(rng.integers(1, 4))
    return {
        "theta": rng.choice((0.3, 0.8)) * rng.standard_normal(P),
        "activation": rng.random((N, H)),
        "maps": rng.random((K, N, H)),
        "condition": xp.eye(C)[rng.integers(0, C, N)],
        "noise": rng.standard_normal((N, L)),
    }


def _one():
    return {
        "theta": xp.cos(xp.arange(2.0 * 13 + 2 + 2)),
        "activation": xp.array([[0.3, 0.9]]),
        "maps": xp.array([[[0.3, 0.9]], [[0.5, 0.5]]]),
        "condition": xp.array([[1.0, 0.0]]),
        "noise": xp.array([[-0.7]]),
    }


VAE = Interface(
    "activation maps",
    example=_network,
    edges={
        "one sample": _one,
        "no noise": lambda: {**_one(), "noise": xp.zeros((1, 1))},
        "hardly any variance": lambda: {
            **_one(),
            "theta": xp.where(xp.arange(30) == 15, -200.0, _one()["theta"]),
        },
        "parameters of 0": lambda: {**_one(), "theta": xp.zeros(30)},
    },
)


def _row_by_row(theta, maps, condition, noise):
    H, C, L = maps.shape[2], condition.shape[1], noise.shape[1]
    E = (len(theta) - 2 * L - H) // (2 * H + 2 * C + 3 * L + 2)
    parts, start = [], 0
    for shape in (
        (H + C, E),
        (E,),
        (E, 2 * L),
        (2 * L,),
        (L + C, E),
        (E,),
        (E, H),
        (H,),
    ):
        size = int(xp.prod(shape))
        parts.append(theta[start : start + size].reshape(shape))
        start += size
    W1, b1, W2, b2, W3, b3, W4, b4 = parts
    result = []
    for each in maps:
        total = 0.0
        for a, c, e in zip(each, condition, noise, strict=True):
            code = xp.tanh(xp.concatenate([a, c]) @ W1 + b1) @ W2 + b2
            z = code[:L] + xp.exp(code[L:]) ** 0.5 * e
            out = xp.tanh(xp.concatenate([z, c]) @ W3 + b3) @ W4 + b4
            total += math.dist(out, a) ** 2
        result.append(total / each.size)
    return xp.array(result)


def _shifted(rng, size):
    K, N, H = int(rng.integers(2, 5)), size, int(rng.integers(1, 4))
    maps = 2 * rng.standard_normal((K, N, H))
    return {"maps": maps, "median": maps.mean(0)}


def _errors(rng, size):
    """Honest clients, whose errors have small gaps, and some that are far, in an order of their own."""
    far = rng.choice((0.0, 5.0), size)
    return {"errors": rng.permutation(rng.uniform(0.5, 1.0, size) + far)}


def _list(*errors):
    return lambda: {"errors": xp.array(errors)}


def _spread(errors, *, share=0.3, majority=False):
    e = errors.tolist()
    order, kept = sorted(range(len(e)), key=e.__getitem__), set()
    for i, k in enumerate(order):
        wide = i > 0 and e[k] - e[order[i - 1]] > share * (max(e) - min(e))
        if wide and not (majority and i <= len(e) // 2):
            break
        kept.add(k)
    return xp.array([float(k in kept) for k in range(len(e))])


def _with_errors(arguments, rng=None):
    K = len(arguments["counts"])
    errors = (
        rng.permutation(_errors(rng, K)["errors"])
        if rng
        else xp.arange(1.0, K + 1) ** 2
    )
    return {**arguments, "errors": errors}


ROUNDS = dataclasses.replace(
    MESSAGES,
    name="messages with errors",
    example=lambda rng, size: _with_errors(MESSAGES.example(rng, size), rng),
    edges={
        n: lambda make=make: _with_errors(make()) for n, make in MESSAGES.edges.items()
    },
)


def _mean_of_trusted(thetas, counts, errors, *, share=0.3, majority=False):
    kept = _spread(errors, share=share, majority=majority) > 0
    rows, n = thetas[kept], counts[kept]
    return sum(c * row for c, row in zip(n, rows, strict=True)) / n.sum()


def _by_the_code(theta, activation, condition, noise, *, beta):
    value, gradient = vae_objective(
        theta, activation, condition, noise, beta=activation.size / 4
    )
    return value, gradient


SETTINGS = {
    "default": {},
    "all": {"share": 1.0},
    "at least a majority": {"share": 0.01, "majority": True},
    "equal errors alone": {"share": 0.0},
    "probe": {"share": 0.1, "majority": True},
}

NO_AUTOENCODER = {
    "parameters of no autoencoder": {"theta": lambda theta: theta[:-1]},
}


METHOD = Method(
    key="benghali2025fedclean",
    provenance={
        "confirmed": ("normalise", "vae", "error", "trust", "aggregate"),
        "partly": ("median",),
        "reconstructed": ("vae-gradient",),
    },
    functions=(
        Solver(
            f=geometric_median,
            example=lambda rng, size: {
                "points": rng.standard_normal((int(rng.integers(3, 7)), size))
                * rng.choice((0.1, 10.0))
                + 3
            },
            edges={
                "one point": _points([1.0, -2.0]),
                "two points": _points([1.0, -2.0], [3.0, 0.0]),
                "all equal": _points([1.0, -2.0], [1.0, -2.0], [1.0, -2.0]),
                "on a line": _points([0.0], [1.0], [5.0]),
                "a corner is wide": _points([0.0, 0.0], [1.0, 0.1], [-1.0, 0.1]),
                "a triangle": _points([0.0, 0.0], [1.0, 0.0], [0.3, 0.8]),
                "one exploded": _points(
                    [0.0, 0.0], [1.0, 0.0], [0.3, 0.8], [1e6, -1e6]
                ),
                "the mean is a point": _points(
                    [0.0, 0.0], [8.0, 0.0], [-2.0, 1.0], [-2.0, -1.0], [-4.0, 0.0]
                ),
                "one counts twice": _points(
                    [0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.3, 0.8]
                ),
            },
            settings={"default": {}, "probe": {"rtol": 1e-6, "max_iter": 700}},
            certificate=_stationary,
            tolerances={"pull of the points": 1.0},
            prescribed=False,
            remains=_inside,
            failures={
                "two steps": lambda: (
                    _points([0.0, 0.0], [1.0, 0.0], [0.3, 0.8])(),
                    {"max_iter": 2},
                )
            },
        ),
        Estimator(
            f=normalised_maps,
            example=_shifted,
            edges={
                "the median itself": lambda: {
                    "maps": xp.array([[[1.0, -2.0]]]),
                    "median": xp.array([[1.0, -2.0]]),
                },
                "saturated": lambda: {
                    "maps": xp.array([[[30.0, -30.0]]]),
                    "median": xp.zeros((1, 2)),
                },
            },
            brute_force=lambda maps, median: xp.stack(
                [(1 + xp.tanh((each - median) / 2)) / 2 for each in maps]
            ),
        ),
        Objective(
            f=vae_objective,
            interface=VAE,
            wrt="theta",
            settings={
                "default": {"beta": 0.1},
                "reconstruction alone": {"beta": 0.0},
                "probe": {"beta": 3.0},
            },
            deviations=(
                Deviation(
                    "the divergence is summed",
                    _by_the_code,
                    seen_in="BGhali-Latim/FedCLEAN_ Models/autoencoders.py",
                    computes="a weight of the divergence of n h / 4, whatever beta",
                ),
            ),
            refused=NO_AUTOENCODER,
        ),
        Estimator(
            f=reconstruction_errors,
            interface=VAE,
            brute_force=_row_by_row,
            refused=NO_AUTOENCODER,
        ),
        Estimator(
            f=trusted,
            example=_errors,
            edges={
                "one client": _list(2.0),
                "all equal": _list(1.0, 1.0, 1.0),
                "a gap exactly as wide": _list(0.0, 3.0, 6.0, 10.0),
                "most are beyond the gap": _list(9.0, 1.0, 9.5, 8.0, 8.5),
                "two and two": _list(5.0, 1.0, 5.25, 1.5),
            },
            settings=SETTINGS,
            brute_force=_spread,
        ),
        Estimator(
            f=aggregate,
            interface=ROUNDS,
            settings=SETTINGS,
            brute_force=_mean_of_trusted,
            limits=(Limit(to="fedavg.average", hyper={"share": 1.0}),),
        ),
    ),
)
