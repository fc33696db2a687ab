"""What is known of `trref.shift.conjnorm`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Transform
from trref.catalog.record import Interface
from trref.shift.conjnorm import (
    bregman,
    class_means,
    conjnorm_score,
    duality_map,
    energy,
    log_density,
    log_partition,
    mahalanobis,
    max_softmax,
    normalised,
)


def _away_from_0(rng, shape):
    """Entries of both signs, none near 0, where the map has no derivative."""
    return rng.choice((-1.0, 1.0), shape) * rng.uniform(0.3, 1.5, shape)


def _features(rng, size):
    K, D = int(rng.integers(1, min(size, 4) + 1)), int(rng.integers(2, 5))
    labels = xp.concatenate([xp.arange(K), rng.integers(0, K, size - K)])
    centres = _away_from_0(rng, (K, D))
    return {
        "z": rng.choice((0.5, 1.0)) * _away_from_0(rng, (size, D)),
        "features": centres[labels] + 0.3 * rng.standard_normal((size, D)),
        "labels": labels,
        "means": centres,
        "log_partition": rng.standard_normal(K),
    }


def _given(z, features, labels, means, log_partition):
    given = {
        "z": z,
        "features": features,
        "labels": labels,
        "means": means,
        "log_partition": log_partition,
    }
    return {name: xp.array(value) for name, value in given.items()}


DENSITY = Interface(
    "densities",
    example=_features,
    edges={
        "features at their means": lambda: _given(
            [[0.5, -0.2]],
            [[0.5, -1.0]] * 2,
            [0, 1],
            [[0.5, -1.0]] * 2,
            [0.0, 0.0],
        ),
        "one class of one feature": lambda: _given(
            [[0.5], [-0.7]], [[0.6]], [0], [[0.6]], [1.0]
        ),
        "a mean of 0": lambda: _given(
            [[0.5, 0.8]],
            [[0.3, 0.3], [1.0, -1.0]],
            [1, 0],
            [[0.0, 0.0], [0.6, 0.8]],
            [0.0, 2.0],
        ),
        "far from all means": lambda: _given(
            [[30.0, -20.0]],
            [[3.0, -2.0], [0.1, 9.0]],
            [1, 0],
            [[1.0, 0.2], [-0.4, 1.0]],
            [0.0, 1.0],
        ),
    },
)


def _length(x, q):
    top = max(map(abs, x))
    if not top:
        return 0.0
    return top * math.fsum((abs(v) / top) ** q for v in x) ** (1 / q)


def _dual(x, q):
    length = _length(x, q)
    if not length:
        return [0.0] * len(x)
    return [
        math.copysign(abs(v) ** (q - 1) / length ** (q - 2), v) if v else 0.0 for v in x
    ]


def _map_jvp(x, tangent, *, q=1.5):
    length = (abs(x) ** q).sum(1, keepdims=True) ** (1 / q)
    unit = x / length
    a = xp.sign(unit) * abs(unit) ** (q - 1)
    along = (a * tangent).sum(1, keepdims=True)
    return (q - 1) * abs(unit) ** (q - 2) * tangent + (2 - q) * a * along


def _divergences(z, means, *, p=2.5):
    """By the definition: phi(z) - phi(mu) - (z - mu) . grad phi(mu)."""
    q, result = p / (p - 1), xp.empty((len(z), len(means)))
    for i, a in enumerate(z.tolist()):
        for k, m in enumerate(means.tolist()):
            slope = math.fsum(
                (x - y) * e for x, y, e in zip(a, m, _dual(m, q), strict=True)
            )
            result[i, k] = (_length(a, q) ** 2 - _length(m, q) ** 2) / 2 - slope
    return xp.maximum(result, 0)


def _means(features, labels, *, classes, p=2.5):
    result = []
    for c in range(classes):
        own = [
            f for f, y in zip(features.tolist(), labels.tolist(), strict=True) if y == c
        ]
        mean = [math.fsum(v) / len(own) for v in zip(*own, strict=True)]
        length = _length(mean, p) if own else 0
        result.append(
            [v / length for v in mean] if length else [0.0] * features.shape[1]
        )
    return xp.array(result)


def _rows_of_norm_1(z, *, p=2.5):
    rows = [(row, _length(row, p)) for row in z.tolist()]
    return xp.array([[v / n if n else 0.0 for v in row] for row, n in rows])


def _class_scores(z, means, p, temperature):
    q = p / (p - 1)
    duals = [_dual(m, q) for m in means.tolist()]
    inner = lambda a, b: math.fsum(x * y for x, y in zip(a, b, strict=True))  # noqa: E731
    return [
        [(inner(a, e) - _length(a, q) ** 2 / 2) / temperature for e in duals]
        for a in z.tolist()
    ]


def _log_sum(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def _normalisers(features, labels, means, *, p=2.5, temperature=0.08, samples="own"):
    s = _class_scores(features, means, p, temperature)
    return xp.array(
        [
            _log_sum(
                [
                    row[k]
                    for row, y in zip(s, labels, strict=True)
                    if samples == "all" or y == k
                ]
            )
            for k in range(len(means))
        ]
    )


def _densities(z, means, log_partition, *, p=2.5, temperature=0.08):
    each = _class_scores(z, means, p, temperature)
    phi = log_partition.tolist()
    return xp.array(
        [_log_sum([s - f for s, f in zip(row, phi, strict=True)]) for row in each]
    )


def _all_samples(features, labels, means, *, p=2.5, temperature=0.08, samples="own"):
    how = {"p": p, "temperature": temperature}
    return log_partition(features, labels, means, **how, samples="all")


def _with_floor(features, labels, means, *, p=2.5, temperature=0.08, samples="own"):
    """Exponentiated, and 1e-15 added; what underflows is -34.5."""
    how = {"p": p, "temperature": temperature, "samples": samples}
    exact = log_partition(features, labels, means, **how)
    return xp.log(xp.exp(xp.minimum(exact, 700)) + 1e-15)


def _distances(z, features, labels, means, *, damping=1e-3):
    within = xp.stack([f - means[y] for f, y in zip(features, labels, strict=True)])
    cov = sum(xp.outer(w, w) for w in within) / len(within)
    mean = sum(cov[d, d] for d in range(len(cov))) / len(cov)
    cov = cov + damping * (mean if mean else 1.0) * xp.eye(len(cov))
    result = []
    for a in z:
        result.append(-min(float((a - m) @ xp.linalg.solve(cov, a - m)) for m in means))
    return xp.array(result)


def _logits(rng, size):
    return {"logits": 3 * rng.standard_normal((size, int(rng.integers(1, 5))))}


OUTPUTS = {
    "equal logits": lambda: {"logits": xp.ones((1, 3))},
    "one class": lambda: {"logits": xp.array([[0.7], [-2.0]])},
    "certain": lambda: {"logits": xp.array([[300.0, -300.0], [0.0, 900.0]])},
}


def _probabilities(logits):
    return xp.array([math.exp(max(z) - _log_sum(z)) for z in logits.tolist()])


def _energies(logits, *, temperature=1.0):
    return xp.array(
        [temperature * _log_sum([v / temperature for v in z]) for z in logits.tolist()]
    )


def _one_class(inputs):
    """all features are of one class"""
    labels = xp.zeros_like(inputs["labels"])
    return {**inputs, "labels": labels, "means": inputs["means"][:1]}


EXPONENTS = {
    "default": {},
    "Euclidean": {"p": 2.0},
    "probe": {"p": 1.5, "temperature": 0.3},
}

METHOD = Method(
    key="peng2024conjnorm",
    provenance={
        "confirmed": (
            "map",
            "divergence",
            "class",
            "partition",
            "score",
            "normalise",
            "baselines",
        ),
        "reconstructed": ("gradient",),
    },
    functions=(
        Transform(
            f=duality_map,
            wrt="x",
            example=lambda rng, size: {
                "x": _away_from_0(rng, (size, int(rng.integers(1, 5))))
            },
            edges={
                "one number": lambda: {"x": xp.array([[-2.0]])},
                "small": lambda: {"x": xp.array([[1e-3, -2e-3]])},
            },
            settings={
                "default": {},
                "Euclidean": {"q": 2.0},
                "probe": {"q": 3.5},
            },
            jvp=_map_jvp,
        ),
        Estimator(
            f=bregman,
            interface=DENSITY,
            settings={"default": {}, "Euclidean": {"p": 2.0}, "probe": {"p": 1.5}},
            brute_force=_divergences,
        ),
        Estimator(
            f=class_means,
            interface=DENSITY,
            settings={
                "default": {"classes": 5},
                "probe": {"classes": 4, "p": 1.5},
            },
            brute_force=_means,
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=normalised,
            interface=DENSITY,
            settings={"default": {}, "probe": {"p": 1.5}},
            brute_force=_rows_of_norm_1,
        ),
        Estimator(
            f=log_partition,
            interface=DENSITY,
            settings={
                **EXPONENTS,
                "all samples": {"samples": "all"},
                "probe": {"p": 1.5, "temperature": 0.3, "samples": "all"},
            },
            brute_force=_normalisers,
            limits=(
                Limit(
                    to="conjnorm.log_partition",
                    hyper={"samples": "own"},
                    to_hyper={"samples": "all"},
                    where=_one_class,
                ),
            ),
            deviations=(
                Deviation(
                    "all samples",
                    _all_samples,
                    seen_in="60pen9/ConjNorm run_cifar100_densenet.py",
                    computes="every class's normaliser from the features of all classes",
                ),
                Deviation(
                    "a floor of 1e-15",
                    _with_floor,
                    seen_in="the scripts of 60pen9/ConjNorm",
                    computes="the logarithm of the sum and 1e-15",
                ),
            ),
            refused={
                "a label without a mean": {"labels": 99},
                "a mean without a label": {"labels": 0},
            },
        ),
        Objective(
            f=conjnorm_score,
            wrt="z",
            interface=DENSITY,
            settings=EXPONENTS,
        ),
        Estimator(
            f=log_density,
            interface=DENSITY,
            settings=EXPONENTS,
            brute_force=_densities,
        ),
        Estimator(
            f=max_softmax, example=_logits, edges=OUTPUTS, brute_force=_probabilities
        ),
        Estimator(
            f=energy,
            example=_logits,
            edges=OUTPUTS,
            settings={"default": {}, "probe": {"temperature": 2.5}},
            brute_force=_energies,
        ),
        Estimator(
            f=mahalanobis,
            interface=DENSITY,
            settings={"default": {}, "probe": {"damping": 0.2}},
            brute_force=_distances,
            refused={
                "a label without a mean": {"labels": 99},
            },
        ),
    ),
)
