"""What is known of `trref.diffusion.drifting_field_policy`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.diffusion.drifting_field_policy import (
    best_target,
    data_target,
    dfp_loss,
    drift_field,
    drift_loss,
    drift_target,
    mean_shift,
    top_positives,
)

KERNEL = {"default": {}, "wide": {"bandwidth": 2.0}, "probe": {"bandwidth": 0.3}}

# ---- examples


def _points(x, positives, negatives):
    x, positives = xp.array(x), xp.array(positives)
    return {
        "x": x,
        "positives": positives,
        "negatives": None if negatives is None else xp.array(negatives),
        "targets": positives,
        "data": positives[:1],
        "best": positives,
    }


def _example(rng, size):
    D, M, K = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(2, 5))
    spread = float(rng.choice((0.05, 0.3)))
    draw = {n: spread * rng.standard_normal((n, D)) for n in (size, M, K)}
    points = _points(draw[size], draw[M] + spread, draw[K] if M % 2 else None)
    return {**points, "data": points["x"][: 1 + size % 3] + 0.1}


SQUARE = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.2], [0.2, 0.2]]
FIELD = Interface(
    "drift",
    example=_example,
    edges={
        "one action": lambda: _points([[0.1, 0.2]], [[0.0, 0.3], [0.4, 0.0]], None),
        "actions that are equal": lambda: _points(
            [[0.1, 0.2], [0.1, 0.2], [0.3, 0.1]], [[0.2, 0.2]], None
        ),
        "the target is the policy": lambda: _points(SQUARE, SQUARE, SQUARE),
        "all kernels vanish": lambda: _points(
            [[4.0, 0.0], [0.0, -4.0]],
            [[0.0, 0.0], [0.0, 0.5]],
            [[-3.0, 0.0], [9.0, 9.0]],
        ),
        "two at the same distance": lambda: _points(
            [[0.0, 0.0], [5.0, 5.0]],
            [[1.0, 0.0], [-1.0, 0.0]],
            [[0.0, 2.0], [0.0, -2.0]],
        ),
    },
)


def _candidates(rng, size):
    # values are often equal
    q_value = (
        rng.integers(0, 4, size) if rng.random() < 0.5 else rng.standard_normal(size)
    )
    return {
        "candidates": rng.standard_normal((size, int(rng.integers(1, 4)))),
        "q_value": q_value.astype(float),
    }


# ---- brute force


def _kernels(point, targets, h):
    """Kernels relative to the largest, and displacements."""
    squares = [math.dist(point, y) ** 2 for y in targets]
    least = min(squares)
    return [math.exp(-(s - least) / (2 * h * h)) for s in squares]


def _one_by_one(x, targets, *, bandwidth=0.05):
    x, targets = x.tolist(), targets.tolist()
    result = []
    for point in x:
        k = _kernels(point, targets, bandwidth)
        total = math.fsum(k)
        result.append(
            [
                math.fsum(
                    w * (y[d] - point[d]) for w, y in zip(k, targets, strict=True)
                )
                / total
                for d in range(len(point))
            ]
        )
    return result


def _jointly(x, positives, negatives=None, *, bandwidth=0.05):
    """The paper's joint form: a sum over pairs of a positive and a negative."""
    x, positives = x.tolist(), positives.tolist()
    result = []
    for n, point in enumerate(x):
        others = x[:n] + x[n + 1 :] if negatives is None else negatives.tolist()
        others = others or [point]  # nothing repels
        a, b = (_kernels(point, targets, bandwidth) for targets in (positives, others))
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b))]
        total = math.fsum(a[i] * b[j] for i, j in pairs)
        result.append(
            [
                math.fsum(
                    a[i] * b[j] * (positives[i][d] - others[j][d]) for i, j in pairs
                )
                / total
                for d in range(len(point))
            ]
        )
    return result


def _moved(x, positives, negatives=None, *, bandwidth=0.05):
    return x + xp.array(_jointly(x, positives, negatives, bandwidth=bandwidth))


def _towards_data(x, data, *, bandwidth=0.05):
    return _moved(x, data, bandwidth=bandwidth)


def _towards_best(x, best, *, bandwidth=0.05):
    return _moved(x, best, bandwidth=bandwidth)


def _by_sorting(candidates, q_value, *, count=4):
    order = sorted(range(len(q_value)), key=lambda i: -float(q_value[i]))
    return candidates[xp.array(order[:count])]


# ---- limits


def _one_action(inputs):
    """one action alone"""
    one = inputs | {"x": inputs["x"][:1], "negatives": None}
    return one, {"x": one["x"], "targets": one["positives"]}


def _only_data(inputs):
    """the positives are the data"""
    return inputs | {"positives": inputs["data"], "negatives": None}


# ---- deviations


def _released(x, positives, negatives=None, *, bandwidth=0.05):
    """One temperature, of `bandwidth`; every action and every target has the weight 1."""
    own, D = negatives is None, x.shape[1]
    away = x if own else negatives
    targets = xp.concatenate([away, positives])
    square = ((x[:, None] - targets) ** 2).sum(2)
    distance = xp.sqrt(xp.maximum(square, 1e-8))
    scale = distance.mean()
    unit = max(float(scale) / math.sqrt(D), 1e-3)
    normed = distance / max(float(scale), 1e-3)
    if own:
        normed = normed + 100 * xp.concatenate(
            [xp.eye(len(x)), xp.zeros((len(x), len(positives)))], 1
        ).astype(x.dtype)
    logits = -normed / bandwidth

    def softmax(axis):
        e = xp.exp(logits - logits.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    affinity = xp.sqrt(xp.maximum(softmax(1) * softmax(0), 1e-6))
    repel, attract = affinity[:, : len(away)], affinity[:, len(away) :]
    weights = xp.concatenate(
        [
            -repel * attract.sum(1, keepdims=True),
            attract * repel.sum(1, keepdims=True),
        ],
        1,
    )
    force = (weights @ targets - weights.sum(1, keepdims=True) * x) / unit
    force = force / xp.sqrt(xp.maximum((force**2).mean(), 1e-8))
    return (force**2).mean(), -2 * force / (force.size * unit)


RELEASED = Deviation(
    "distances, two softmaxes, a normalised force",
    _released,
    seen_in="KAIST-Visual-AI-Group/DFP utils/drift_loss.py",
    computes="exp(-d/R) of scaled distances, the root of the softmaxes over targets and over actions with a floor, a"
    " force divided by its root mean square, and a mean over entries",
)


METHOD = Method(
    key="koo2026drifting",
    provenance="confirmed",
    functions=(
        Objective(
            f=dfp_loss,
            interface=FIELD,
            wrt="x",
            stopped={"towards_data": data_target, "towards_best": best_target},
            settings={
                "default": {},
                "data alone": {"best_weight": 0.0},
                "probe": {"bandwidth": 0.3, "best_weight": 0.7},
            },
            limits=(
                Limit(
                    "drifting_field_policy.drift_loss",
                    {"best_weight": 0.0},
                    where=_only_data,
                ),
            ),
        ),
        Objective(
            f=drift_loss,
            interface=FIELD,
            wrt="x",
            stopped={"target": drift_target},
            settings=KERNEL,
            deviations=(RELEASED,),
        ),
        Estimator(
            f=mean_shift, interface=FIELD, settings=KERNEL, brute_force=_one_by_one
        ),
        Estimator(
            f=drift_field,
            interface=FIELD,
            settings=KERNEL,
            brute_force=_jointly,
            limits=(Limit("drifting_field_policy.mean_shift", {}, where=_one_action),),
        ),
        Estimator(f=drift_target, interface=FIELD, settings=KERNEL, brute_force=_moved),
        Estimator(
            f=data_target, interface=FIELD, settings=KERNEL, brute_force=_towards_data
        ),
        Estimator(
            f=best_target, interface=FIELD, settings=KERNEL, brute_force=_towards_best
        ),
        Estimator(
            f=top_positives,
            example=_candidates,
            edges={
                "all equal": lambda: {
                    "candidates": xp.array([[1.0, 2.0], [3.0, 4.0]]),
                    "q_value": xp.array([0.5, 0.5]),
                },
            },
            settings={"default": {}, "the best": {"count": 1}, "probe": {"count": 3}},
            brute_force=_by_sorting,
        ),
    ),
)
