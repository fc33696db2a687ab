"""What is known of `trref.attribution.attribution_protection`."""

import itertools
import math

from trref.attribution.attribution_protection import (
    Layer,
    activation_agreement,
    attack_objective,
    cosine_penalty,
    expected_kendall,
    igr_penalty,
    integrated_gradients,
    kendall,
    top_overlap,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.adversarial.interfaces import ROWS
from trref.catalog.record import Interface


def _way(make):
    """The inputs of an attack, and a start for the way."""

    def arguments(*args):
        given = make(*args)
        x = given["x"]
        waves = xp.cos(1 + 3 * xp.arange(float(x.size))).reshape(x.shape)
        return {
            "score_and_grad": given["score_and_grad"],
            "x": x,
            "baseline": 0.3 * waves,
        }

    return arguments


def _from_the_start():
    given = _way(ROWS.edges["equal rows"])()
    return {**given, "baseline": xp.array(given["x"])}


def _point_by_point(score_and_grad, x, baseline, *, points=20):
    result = xp.zeros(x.shape)
    for k in range(points):
        way = xp.array(x)
        for i, j in itertools.product(*map(range, x.shape)):
            share = (2 * k + 1) / (2 * points)
            way[i, j] = (1 - share) * baseline[i, j] + share * x[i, j]
        result += score_and_grad(way)[1] * (x - baseline) / points
    return result


def _with_ends(score_and_grad, x, baseline, *, points=20):
    shares = xp.linspace(0, 1, points) if points > 1 else [1.0]
    way = [score_and_grad(baseline + a * (x - baseline))[1] for a in shares]
    return (x - baseline) * sum(way) / points


def _trapezoids(score_and_grad, x, baseline, *, points=20):
    shares = xp.linspace(0, 1, points) if points > 1 else [1.0]
    weights = [1.0] * points
    weights[0], weights[-1] = 0.5, 0.5
    way = [score_and_grad(baseline + a * (x - baseline))[1] for a in shares]
    return (
        (x - baseline) * sum(c * g for c, g in zip(weights, way, strict=True)) / points
    )


def _attributions(rng, size):
    D = int(rng.integers(2, 6))
    a = rng.standard_normal((size, D))
    b = a + rng.choice((0.3, 2.0)) * rng.standard_normal((size, D))
    return {"a": a, "b": b, "first": a, "second": rng.choice((0.1, 5.0)) * b}


def _given(a, b):
    a, b = xp.array(a), xp.array(b)
    return {"a": a, "b": b, "first": a, "second": b}


MAPS = Interface(
    "attributions",
    example=_attributions,
    edges={
        "ties": lambda: _given(
            [[1.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 3.0]],
            [[0.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]],
        ),
        "nothing": lambda: _given([[0.0, 0.0]], [[1.0, 2.0]]),
        "one entry": lambda: _given([[2.0]], [[-0.5]]),
        "at right angles": lambda: _given([[1.0, 0.0]], [[0.0, 2.0]]),
    },
)


def _pair_by_pair(a, b, *, kind="tau-b"):
    sign = lambda v: (v > 0) - (v < 0)  # noqa: E731
    result = []
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        pairs = list(itertools.combinations(range(len(p)), 2))
        s = [sign(p[i] - p[j]) for i, j in pairs]
        t = [sign(q[i] - q[j]) for i, j in pairs]
        total = sum(u * v for u, v in zip(s, t, strict=True))
        count = len(pairs)
        if kind == "tau-b":
            count = math.sqrt(sum(map(abs, s)) * sum(map(abs, t)))
        result.append(total / count if count else 0.0)
    return xp.array(result)


def _shared(a, b, *, k=10):
    result = []
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        n = min(k, len(p))
        top = [
            set(sorted(range(len(v)), key=lambda i, v=v: (-v[i], i))[:n])
            for v in (p, q)
        ]
        result.append(len(top[0] & top[1]) / n)
    return xp.array(result)


def _network(rng, size):
    """`size` is the number of rows; no attribution near 0."""
    H, D, K = int(rng.integers(2, 5)), int(rng.integers(2, 4)), int(rng.integers(1, 4))
    x = rng.uniform(0.3, 1.0, (size, D))
    return {
        "U": rng.standard_normal((H, D)),
        "bias": rng.standard_normal(H),
        "head": rng.standard_normal((K, H)),
        "x": x,
        "moved": x + 0.2 * rng.uniform(-1, 1, x.shape),
        "labels": rng.integers(0, K, size),
    }


def _small(x, moved):
    x = xp.array(x)
    return {
        "U": xp.array([[1.0, -2.0], [0.5, 1.5]]),
        "bias": xp.array([0.2, -0.3]),
        "head": xp.array([[1.0, -1.0], [0.3, 0.8]]),
        "x": x,
        "moved": xp.array(moved),
        "labels": xp.arange(len(x)) % 2,
    }


LAYER = Interface(
    "hidden_layer",
    example=_network,
    edges={
        "one row": lambda: _small([[0.4, 0.7]], [[0.5, 0.6]]),
        "an input of 0": lambda: _small(
            [[0.0, 0.0], [0.5, 0.2]], [[0.1, 0.2], [0.4, 0.3]]
        ),
        "far away": lambda: _small([[6.0, 2.0]], [[5.0, 4.0]]),
    },
)


def _detached(U, bias, head, x, moved, labels, *, points=8):
    """Only the way of the attacked input is differentiated."""
    value, _ = igr_penalty(U, bias, head, x, moved, labels, points=points)
    w, alphas = head[labels], (xp.arange(points) + 0.5) / points
    slope = [1 / (1 + xp.exp(-(a * moved @ U.T + bias))) for a in alphas]
    clean = [1 / (1 + xp.exp(-(a * x @ U.T + bias))) for a in alphas]
    g, h = (z * (sum(w * p for p in ps) @ U) for z, ps in ((x, clean), (moved, slope)))
    _, by = cosine_penalty(g / points, h / points)
    q = by.second * moved / points
    turn = [w * p * (1 - p) * (q @ U.T) for p in slope]
    dU = sum((w * p).T @ q for p in slope)
    dU = dU + sum(t.T @ (a * moved) for t, a in zip(turn, alphas, strict=True))
    each = sum(slope) * (q @ U.T)
    one_hot = (labels[:, None] == xp.arange(len(head))).astype(x.dtype)
    return value, Layer(dU, sum(t.sum(0) for t in turn), one_hot.T @ each)


def _sides(U, bias, x, moved):
    side = lambda z: [  # noqa: E731
        math.fsum(u * v for u, v in zip(row, z, strict=True)) + float(b) > 0
        for row, b in zip(U.tolist(), bias, strict=True)
    ]
    result = []
    for p, q in zip(x.tolist(), moved.tolist(), strict=True):
        agree = [s == t for s, t in zip(side(p), side(q), strict=True)]
        result.append(sum(agree) / len(agree))
    return xp.array(result)


def _without_ties(inputs):
    """no entries are equal"""
    rows = xp.arange(inputs["a"].size).reshape(inputs["a"].shape)
    return {"a": inputs["a"] + 1e3 * rows, "b": inputs["b"] - 1e3 * xp.sin(7.0 * rows)}


NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="wang2022exploiting",
    provenance={
        "confirmed": ("integrated", "kendall", "overlap"),
        "partly": ("cosine", "attack", "arcsine", "agreement"),
        "reconstructed": ("penalty", "attack-gradient"),
    },
    functions=(
        Estimator(
            f=integrated_gradients,
            example=_way(ROWS.example),
            edges={
                **{name: _way(make) for name, make in ROWS.edges.items()},
                "no way to go": _from_the_start,
            },
            settings={
                "default": {},
                "one point": {"points": 1},
                "probe": {"points": 7},
            },
            brute_force=_point_by_point,
            deviations=(
                Deviation(
                    "both ends",
                    _with_ends,
                    seen_in="PAIR-code/saliency saliency/core/integrated_gradients.py",
                    computes="the mean over points that include both ends",
                ),
                Deviation(
                    "trapezoids",
                    _trapezoids,
                    seen_in="pytorch/captum attr/_utils/approximation_methods.py, riemann_trapezoid",
                    computes="weights of 1/m with halved ends, which do not sum to 1",
                ),
            ),
        ),
        Estimator(
            f=kendall,
            interface=MAPS,
            settings={"default": {}, "probe": {"kind": "tau-a"}},
            brute_force=_pair_by_pair,
            limits=(
                Limit(
                    to="attribution_protection.kendall",
                    hyper={"kind": "tau-b"},
                    to_hyper={"kind": "tau-a"},
                    where=_without_ties,
                ),
            ),
        ),
        Estimator(
            f=top_overlap,
            interface=MAPS,
            settings={"default": {}, "the largest": {"k": 1}, "probe": {"k": 2}},
            brute_force=_shared,
        ),
        Estimator(
            f=expected_kendall,
            example=lambda rng, size: {"rho": rng.uniform(-1, 1, size)},
            edges={"at the ends": lambda: {"rho": xp.array([-1.0, 0.0, 1.0])}},
            brute_force=lambda rho: xp.array(
                [1 - 2 / math.pi * math.acos(v) for v in rho.tolist()]
            ),
            refused={
                "a correlation beyond 1": {"rho": 1.5},
            },
        ),
        Objective(
            f=cosine_penalty,
            wrt=("first", "second"),
            example=lambda rng, size: {
                n: v for n, v in _attributions(rng, size).items() if len(n) > 1
            },
            edges={
                "at right angles": lambda: {
                    "first": xp.array([[1.0, 0.0]]),
                    "second": xp.array([[0.0, 2.0]]),
                },
                "opposite": lambda: {
                    "first": xp.array([[1.0, 2.0], [0.5, 0.1]]),
                    "second": xp.array([[-2.0, -4.0], [0.2, 0.9]]),
                },
            },
        ),
        Objective(
            f=igr_penalty,
            wrt=("U", "bias", "head"),
            interface=LAYER,
            sizes=(2, 4),
            seeds=(0, 2),
            settings={
                "default": {},
                "one point": {"points": 1},
                "probe": {"points": 3},
            },
            deviations=(
                Deviation(
                    "the clean attribution held constant",
                    _detached,
                    seen_in="DinasAba/IGR_tool src/losses.py",
                    computes="the same value with the gradient of one end",
                ),
            ),
            refused=NO_SUCH_CLASS,
        ),
        Objective(
            f=attack_objective,
            sizes=(2, 8),
            wrt="moved",
            interface=LAYER,
            settings={
                "default": {},
                "whatever the class": {"loss_weight": 0.0},
                "probe": {"points": 3, "loss_weight": 0.3},
            },
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=activation_agreement,
            interface=LAYER,
            brute_force=_sides,
        ),
    ),
)
