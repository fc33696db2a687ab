"""What is known of `trref.datasampling.data_diet`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method
from trref.catalog.record import Interface
from trref.datasampling.data_diet import (
    error_norms,
    forgetting_counts,
    gradient_norms,
    keep,
    last_layer_norms,
    margins,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss


def _networks(rng, size):
    """A few networks and `size` examples of a few classes; some are nearly certain."""
    N, D, K = size, int(rng.integers(1, 4)), int(rng.integers(2, 5))
    sizes, R = (D, int(rng.integers(2, 5)), K), int(rng.integers(1, 4))
    loss = ClassifierLoss(rng.standard_normal((N, D)), rng.integers(0, K, N), sizes)
    scale = rng.choice((0.3, 1.0, 3.0))
    thetas = xp.stack([scale * mlp.init(rng, sizes) for _ in range(R)])
    return {"loss": loss, "thetas": thetas}


def _without_output_layer():
    """All probabilities are equal, and only the last layer has a gradient."""
    sizes = (2, 3, 2)
    theta = mlp.init(xp.random.default_rng(0), sizes)
    theta[9:] = 0
    X = xp.array([[1.0, -2.0], [0.0, 0.5], [0.0, 0.0]])
    loss = ClassifierLoss(X, xp.array([0, 1, 1]), sizes)
    return {"loss": loss, "thetas": theta[None]}


def _one_example():
    loss = ClassifierLoss(xp.array([[0.5]]), xp.array([1]), (1, 2))
    return {"loss": loss, "thetas": xp.array([[1.0, -2.0, 0.5, 0.0], [0.0] * 4])}


def _outputs(rng, size):
    R, N, K = int(rng.integers(1, 4)), size, int(rng.integers(2, 5))
    D = int(rng.integers(1, 4))
    scale = rng.choice((0.3, 1.0, 4.0))
    return {
        "logits": scale * rng.standard_normal((R, N, K)),
        "labels": rng.integers(0, K, N),
        "features": rng.standard_normal((R, N, D)),
    }


def _given(logits, labels, features):
    return {
        "logits": xp.array(logits),
        "labels": xp.array(labels),
        "features": xp.array(features),
    }


SCORED = Interface(
    "scored",
    example=_outputs,
    edges={
        "certain, right and wrong": lambda: _given(
            [[[0.0, 40.0], [40.0, 0.0]]], [1, 1], [[[1.0, 2.0], [0.5, -3.0]]]
        ),
        "undecided": lambda: _given([[[1.0, 1.0, 1.0]] * 2], [0, 2], [[[0.0]] * 2]),
        "one example, one network": lambda: _given([[[0.3, -0.2]]], [0], [[[2.0]]]),
        "one class, one network": lambda: _given([[[3.0]]], [0], [[[1.0]]]),
        "one class": lambda: _given([[[3.0]], [[1.0]]], [0], [[[1.0]], [[2.0]]]),
    },
)


def _gradient_by_gradient(loss, thetas):
    lengths = [0.0] * len(loss)
    for theta in thetas:
        for i in range(len(loss)):
            g = loss.on(slice(i, i + 1))(theta)[1].tolist()
            lengths[i] += math.hypot(*g) / len(thetas)
    return xp.array(lengths)


def _probabilities(z):
    top = max(z)
    e = [math.exp(v - top) for v in z]
    return [v / math.fsum(e) for v in e]


def _mean_over_runs(score):
    """``score(p, y, h)`` of one example in one run, as lists."""

    def brute_force(logits, labels, features=None, **how):
        R, N = logits.shape[:2]
        result = []
        for i in range(N):
            each = []
            for r in range(R):
                h = [] if features is None else features[r, i].tolist()
                p = _probabilities(logits[r, i].tolist())
                each.append(score(p, int(labels[i]), h, **how))
            result.append(math.fsum(each) / R)
        return xp.array(result)

    return brute_force


def _error(p, y, h, *, norm="l2"):
    e = [v - (k == y) for k, v in enumerate(p)]
    return math.hypot(*e) if norm == "l2" else math.fsum(map(abs, e))


def _last(p, y, h):
    """All entries of the last layer's gradient, one by one."""
    e = [v - (k == y) for k, v in enumerate(p)]
    return math.hypot(*[a * b for a in e for b in (*h, 1.0)])


def _margin(p, y, h, *, kind="max"):
    ahead = [v - p[y] for k, v in enumerate(p) if k != y]
    return (max(ahead, default=0.0)) if kind == "max" else math.fsum(ahead)


def _correct(rng, size):
    T = int(rng.integers(1, 9))
    return {"correct": (rng.random((T, size)) < rng.random(size)).astype(float)}


def _count(correct):
    counts = []
    for column in correct.T.tolist():
        word = "".join(str(int(c)) for c in column)
        never = "1" not in word
        counts.append(float(len(word)) if never else float(word.count("10")))
    return xp.array(counts)


def _distinct(rng, size):
    return {
        "scores": rng.choice((0.1, 1.0, 20.0)) * rng.permutation(size).astype(float)
    }


def _one_by_one(scores, *, share=0.5, drop=0.0):
    """The highest is taken out again and again."""
    left, kept, values = list(range(len(scores))), [], scores.tolist()
    m = max(round(share * len(left)), 1)
    aside = min(round(drop * len(left)), len(left) - m)
    for k in range(aside + m):
        best = max(left, key=lambda i: (values[i], i))
        left.remove(best)
        kept += [best] if k >= aside else []
    return xp.array([float(i in kept) for i in range(len(values))])


def _features_are_nothing(inputs):
    """the features are 0"""
    return {**inputs, "features": xp.zeros_like(inputs["features"])}


def _two_classes(inputs):
    """there are two classes"""
    return {
        "logits": xp.concatenate([inputs["logits"][..., :1]] * 2, -1)
        * xp.array([1.0, -0.5]),
        "labels": inputs["labels"] % 2,
    }


WINDOWS = {
    "default": {},
    "a window": {"share": 0.25, "drop": 0.25},
    "all": {"share": 1.0, "drop": 0.5},
    "hardly any": {"share": 0.0},
    "probe": {"share": 0.3, "drop": 0.12},
}

NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="paul2021deep",
    provenance={
        "confirmed": ("grand", "error", "margin", "forgetting", "keep"),
        "reconstructed": ("layer",),
    },
    functions=(
        Estimator(
            f=gradient_norms,
            example=_networks,
            edges={
                "no output layer": _without_output_layer,
                "one example": _one_example,
            },
            brute_force=_gradient_by_gradient,
        ),
        Estimator(
            f=last_layer_norms,
            interface=SCORED,
            brute_force=_mean_over_runs(_last),
            limits=(
                Limit(
                    to="data_diet.error_norms", hyper={}, where=_features_are_nothing
                ),
            ),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=error_norms,
            interface=SCORED,
            settings={"default": {}, "probe": {"norm": "l1"}},
            brute_force=_mean_over_runs(_error),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=margins,
            interface=SCORED,
            settings={"default": {}, "probe": {"kind": "sum"}},
            brute_force=_mean_over_runs(_margin),
            limits=(
                Limit(
                    to="data_diet.margins",
                    hyper={},
                    to_hyper={"kind": "sum"},
                    where=_two_classes,
                ),
            ),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=forgetting_counts,
            example=_correct,
            edges={
                "never right": lambda: {"correct": xp.zeros((3, 2))},
                "one evaluation": lambda: {"correct": xp.array([[1.0, 0.0]])},
                "in turns": lambda: {"correct": xp.array([[1.0], [0.0]] * 3)},
            },
            brute_force=_count,
        ),
        Estimator(
            f=keep,
            example=_distinct,
            edges={
                "one example": lambda: {"scores": xp.array([0.3])},
                "equal scores": lambda: {"scores": xp.zeros(5)},
                "two of three are equal": lambda: {"scores": xp.array([2.0, 1.0, 2.0])},
            },
            settings=WINDOWS,
            brute_force=_one_by_one,
        ),
    ),
)
