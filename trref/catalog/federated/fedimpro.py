"""What is known of `trref.federated.fedimpro`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.federated.fedimpro import (
    Statistics,
    client_statistics,
    conditional_distance,
    drawn_features,
    gradient_variance,
    joint_loss,
    linear_margin,
    pooled_statistics,
    server_statistics,
)


def _network(rng, size):
    N, M = size, int(rng.integers(1, 6))
    D, H, L, K = map(int, rng.integers(1, 5, 4))
    scale = rng.choice((0.3, 1.0))
    shapes = {
        "W1": (D, H),
        "b1": (H,),
        "W2": (H, L),
        "b2": (L,),
        "W3": (L, K),
        "b3": (K,),
    }
    return {
        **{name: scale * rng.standard_normal(shape) for name, shape in shapes.items()},
        "X": rng.standard_normal((N, D)),
        "labels": rng.integers(0, K, N),
        "sampled": rng.standard_normal((M, H)),
        "sampled_labels": rng.integers(0, K, M),
    }


def _one_row():
    return {
        "W1": xp.array([[1.0, -0.5]]),
        "b1": xp.array([0.1, 0.2]),
        "W2": xp.array([[0.5], [2.0]]),
        "b2": xp.array([-0.3]),
        "W3": xp.array([[1.0, -1.0]]),
        "b3": xp.zeros(2),
        "X": xp.array([[0.7]]),
        "labels": xp.array([1]),
        "sampled": xp.array([[0.3, -0.9]]),
        "sampled_labels": xp.array([0]),
    }


def _classes(rng, size):
    """Batches with classes that some lack, statistics before them, and those of clients."""
    N, K, H, S = size, *map(int, rng.integers(1, 5, 3))
    return {
        "means": rng.standard_normal((K, H)),
        "variances": rng.exponential(1.0, (K, H)),
        "features": 2 * rng.standard_normal((N, H)) + 1,
        "labels": rng.integers(0, K, N) // 2 * 2 % K,
        "noise": rng.standard_normal((N, H)),
        "counts": rng.integers(0, 9, (S, K)).astype(float),
        "client_means": 3 * rng.standard_normal((S, K, H)),
        "client_variances": rng.exponential(1.0, (S, K, H)),
    }


def _few():
    return {
        "means": xp.array([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]]),
        "variances": xp.array([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]]),
        "features": xp.array([[0.5, 4.0], [1.5, 2.0], [-1.0, 0.0]]),
        "labels": xp.array([0, 0, 2]),
        "noise": xp.array([[1.0, -1.0], [0.5, 0.0], [-2.0, 1.0]]),
        "counts": xp.array([[2.0, 0.0, 1.0], [4.0, 0.0, 0.0]]),
        "client_means": xp.arange(12.0).reshape(2, 3, 2),
        "client_variances": xp.arange(12.0)[::-1].reshape(2, 3, 2).copy(),
    }


CLASSES = Interface(
    "features of classes",
    example=_classes,
    edges={
        "a class that nobody has": _few,
        "shares for counts": lambda: {**_few(), "counts": _few()["counts"] / 10},
        "one client": lambda: {
            **_few(),
            "counts": xp.array([[1.0, 2.0, 3.0]]),
            "client_means": xp.ones((1, 3, 2)),
            "client_variances": xp.zeros((1, 3, 2)),
        },
    },
)


def _by_class(means, variances, features, labels, *, beta):
    new = means.copy(), variances.copy()
    for k in range(len(means)):
        rows = features[labels == k]
        if len(rows):
            new[0][k] = beta * means[k] + (1 - beta) * rows.mean(0)
            new[1][k] = beta * variances[k] + (1 - beta) * rows.var(0)
    return Statistics(*new)


def _by_clients(means, variances, client_means, client_variances, *, beta):
    result = []
    for old, new in ((means, client_means), (variances, client_variances)):
        result.append(beta * old + (1 - beta) * sum(new) / len(new))
    return Statistics(*result)


def _together(counts, client_means, client_variances):
    """By second moments."""
    K, H = client_means.shape[1:]
    means, variances = xp.zeros((K, H)), xp.zeros((K, H))
    for k in range(K):
        n = math.fsum(counts[:, k])
        for h in range(H if n else 0):
            m, v = client_means[:, k, h], client_variances[:, k, h]
            means[k, h] = math.fsum(counts[:, k] * m) / n
            variances[k, h] = (
                math.fsum(counts[:, k] * (v + m * m)) / n - means[k, h] ** 2
            )
    return Statistics(means, variances)


def _deviations_averaged(counts, client_means, client_variances):
    told = pooled_statistics(counts, client_means, client_variances)
    total = counts.sum(0)
    w = (counts / xp.where(total > 0, total, 1))[..., None]
    return told._replace(variances=(w * xp.sqrt(client_variances)).sum(0) ** 2)


def _capped(means, variances, labels, noise):
    return drawn_features(means, xp.minimum(variances, 0.01), labels, noise)


def _line(rng, size):
    D = int(rng.integers(1, 5))
    return {
        "w": rng.choice((0.1, 10.0)) * rng.standard_normal(D),
        "b": xp.asarray(0.5 * rng.standard_normal()),
        "X": rng.standard_normal((size, D)),
        "y": rng.choice([-1.0, 1.0], size),
    }


def _two_sets(rng, size):
    K = int(rng.integers(1, 3))
    A, B = max(size, K), K + int(rng.integers(0, 8))
    return {
        "x": rng.choice((0.2, 3.0)) * rng.standard_normal(A),
        "labels": xp.arange(A) % K,
        "other": 1 + rng.standard_normal(B),
        "other_labels": xp.arange(B) % K,
    }


def _sets(x, labels, other, other_labels):
    lists = {"x": x, "labels": labels, "other": other, "other_labels": other_labels}
    return lambda: {name: xp.array(values) for name, values in lists.items()}


def _matched(x, labels, other, other_labels):
    """Each class's numbers repeated until both have as many, sorted and paired."""
    total = 0.0
    for k in set(labels.tolist()):
        a, b = x[labels == k].tolist(), other[other_labels == k].tolist()
        pairs = zip(sorted(a * len(b)), sorted(b * len(a)), strict=True)
        distance = math.fsum(abs(p - q) for p, q in pairs) / len(a) / len(b)
        total += distance * (len(a) / len(x) + len(b) / len(other)) / 2
    return xp.asarray(total)


def _around_the_mean(gradients, counts):
    n = counts.sum()
    mean = sum(c * g for c, g in zip(counts, gradients, strict=True)) / n
    squares = [
        c * float((g - mean) @ (g - mean))
        for c, g in zip(counts, gradients, strict=True)
    ]
    return xp.asarray(math.fsum(squares) / n)


NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="tang2024fedimpro",
    provenance="confirmed",
    functions=(
        Objective(
            f=joint_loss,
            example=_network,
            edges={"one of each": _one_row},
            sizes=(4, 16),
            wrt=("W1", "b1", "W2", "b2", "W3", "b3"),
            settings={
                "default": {},
                "all rows alike": {"weighting": "joint"},
                "probe": {"weighting": "joint"},
            },
            refused={
                "a label that is no class": {"labels": 99},
                "a sampled label that is no class": {"sampled_labels": 99},
            },
        ),
        Estimator(
            f=client_statistics,
            interface=CLASSES,
            settings={
                "default": {"beta": 0.5},
                "the batch's": {"beta": 0.0},
                "probe": {"beta": 0.7},
            },
            brute_force=_by_class,
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=server_statistics,
            example=lambda rng, size: {
                "means": rng.standard_normal((2, 3)),
                "variances": rng.exponential(1.0, (2, 3)),
                "client_means": rng.standard_normal((size, 2, 3)),
                "client_variances": rng.exponential(1.0, (size, 2, 3)),
            },
            edges={
                "two clients": lambda: {
                    n: _few()[n]
                    for n in ("means", "variances", "client_means", "client_variances")
                }
            },
            settings={"default": {"beta": 0.5}, "probe": {"beta": 0.7}},
            brute_force=_by_clients,
        ),
        Estimator(
            f=pooled_statistics,
            example=lambda rng, size: {
                "counts": rng.integers(0, 9, (size, 2)).astype(float),
                "client_means": 3 * rng.standard_normal((size, 2, 3)),
                "client_variances": rng.exponential(1.0, (size, 2, 3)),
            },
            edges={
                name: lambda make=make: {
                    n: make()[n] for n in ("counts", "client_means", "client_variances")
                }
                for name, make in CLASSES.edges.items()
                if name != "one client"
            },
            brute_force=_together,
            deviations=(
                Deviation(
                    "standard deviations averaged",
                    _deviations_averaged,
                    seen_in="wizard1203/FedImpro trainers/FeatureSynthesisModels/GaussianSynthesisLabel.py",
                    computes="the mean of the clients' standard deviations, without what lies between their means",
                ),
            ),
        ),
        Estimator(
            f=drawn_features,
            interface=CLASSES,
            brute_force=lambda means, variances, labels, noise: xp.stack(
                [
                    means[k] + variances[k] ** 0.5 * z
                    for k, z in zip(labels.tolist(), noise, strict=True)
                ]
            ),
            deviations=(
                Deviation(
                    "a capped standard deviation",
                    _capped,
                    seen_in="wizard1203/FedImpro configs/default.py, noise_std = 0.1",
                    computes="features with a standard deviation of at most 0.1",
                ),
            ),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=linear_margin,
            example=_line,
            edges={
                "one sample, wrong": lambda: {
                    "w": xp.array([2.0]),
                    "b": xp.asarray(-1.0),
                    "X": xp.array([[0.2]]),
                    "y": xp.array([1.0]),
                }
            },
            brute_force=lambda w, b, X, y: xp.asarray(
                math.fsum(
                    max(0.0, s * (math.fsum(w * x) + float(b))) / math.hypot(*w)
                    for x, s in zip(X, y, strict=True)
                )
                / len(X)
            ),
            refused={
                "no model": lambda: (
                    {
                        "w": xp.zeros(1),
                        "b": xp.asarray(1.0),
                        "X": xp.ones((1, 1)),
                        "y": xp.ones(1),
                    },
                    {},
                ),
                "classes 0 and 1": lambda: (
                    {
                        "w": xp.ones(1),
                        "b": xp.asarray(1.0),
                        "X": xp.ones((2, 1)),
                        "y": xp.array([0.0, 1.0]),
                    },
                    {},
                ),
            },
        ),
        Estimator(
            f=conditional_distance,
            example=_two_sets,
            edges={
                "one sample each": _sets([1.0], [0], [3.0], [0]),
                "the same": _sets([1.0, 2.0], [0, 1], [1.0, 2.0], [0, 1]),
                "classes of unequal shares": _sets(
                    [0.0, 1.0, 5.0], [0, 0, 1], [2.0, 4.0, 4.5, 6.0], [0, 1, 1, 1]
                ),
            },
            brute_force=_matched,
            refused={
                "another class": lambda: (_sets([1.0], [0], [3.0], [1])(), {}),
            },
        ),
        Estimator(
            f=gradient_variance,
            example=lambda rng, size: {
                "gradients": rng.standard_normal((3, size)) + rng.standard_normal(size),
                "counts": rng.integers(1, 50, 3).astype(float),
            },
            edges={
                "one client": lambda: {
                    "gradients": xp.array([[1.0, 2.0]]),
                    "counts": xp.array([4.0]),
                },
                "two at odds": lambda: {
                    "gradients": xp.array([[1.0], [-1.0]]),
                    "counts": xp.array([3.0, 1.0]),
                },
            },
            brute_force=_around_the_mean,
        ),
    ),
)
