"""What is known of `trref.datasampling.influence_scores`."""

import math
import statistics

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.datasampling.influence_scores import (
    drawn,
    gradient_variances,
    influence,
    linear_probabilities,
    normalised,
    null_log_probs,
    overlap,
    pointwise_information,
    self_influence,
    softmax_probabilities,
)


def _gradients(rng, size):
    C, D = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    scale = rng.choice((0.1, 1.0, 10.0))
    return {"gradients": scale * rng.standard_normal((C, size, D))}


def _spread(gradients, *, scale="printed"):
    """Half the mean squared difference of all pairs of checkpoints."""
    C, N, D = gradients.shape
    scores = []
    for i in range(N):
        total = 0.0
        for j in range(D):
            g = gradients[:, i, j].tolist()
            total += math.fsum((a - b) ** 2 for a in g for b in g) / (2 * C) / D
        scores.append(total / (math.sqrt(C) if scale == "printed" else C))
    return xp.array(scores)


def _root(gradients, *, scale="printed"):
    factor = len(gradients) ** 0.5 if scale == "printed" else 1.0
    return factor * gradients.std(0).mean(1)


def _scores(rng, size):
    return {
        "scores": rng.choice((0.3, 1.0, 5.0)) * rng.standard_normal(size),
        "group": rng.integers(0, int(rng.integers(1, 5)), size),
    }


def _class_by_class(scores, group=None):
    group = [0] * len(scores) if group is None else group.tolist()
    values, result = scores.tolist(), []
    for i, c in enumerate(group):
        own = [v for v, g in zip(values, group, strict=True) if g == c]
        spread = statistics.pstdev(own) if max(own) > min(own) else 0.0
        result.append((values[i] - statistics.fmean(own)) / spread if spread else 0.0)
    return xp.array(result)


def _one_class(inputs):
    """there is one class"""
    group = xp.full(len(inputs["scores"]), 3)
    return {**inputs, "group": group}, {**inputs, "group": None}


def _two_sets(rng, size):
    C, M, P = (int(rng.integers(1, 5)) for _ in range(3))
    return {
        "gradients": rng.standard_normal((C, M, P)),
        "other_gradients": rng.standard_normal((C, size, P)),
        "lrs": xp.exp(rng.uniform(-3, 0, C)),
    }


def _pair_by_pair(gradients, other_gradients, lrs):
    C, M, P = gradients.shape
    result = xp.zeros((M, other_gradients.shape[1]))
    for m in range(M):
        for n in range(other_gradients.shape[1]):
            terms = [
                float(lrs[c] * gradients[c, m, p] * other_gradients[c, n, p])
                for c in range(C)
                for p in range(P)
            ]
            result[m, n] = math.fsum(terms)
    return result


def _one_set(rng, size):
    inputs = _two_sets(rng, size)
    return {"gradients": inputs["other_gradients"], "lrs": inputs["lrs"]}


def _own(gradients, lrs):
    return xp.diag(_pair_by_pair(gradients, gradients, lrs)).copy()


def _one_example(inputs):
    """there is one example"""
    own = {"gradients": inputs["gradients"][:, :1], "lrs": inputs["lrs"]}
    return own, {**own, "other_gradients": own["gradients"]}


def _likelihoods(rng, size):
    return {
        "log_prob": -rng.exponential(rng.choice((0.1, 1.0, 5.0)), size),
        "null_log_prob": -rng.exponential(1.0, size),
    }


def _bits(log_prob, null_log_prob):
    pairs = zip(log_prob.tolist(), null_log_prob.tolist(), strict=True)
    return xp.array([math.log2(math.exp(a)) - math.log2(math.exp(b)) for a, b in pairs])


def _frequencies(labels, *, dtype="float64"):
    y = labels.tolist()
    return xp.array([math.log(y.count(c) / len(y)) for c in y], dtype=dtype)


def _exponential(scores):
    total = [math.fsum(math.exp(b - a) for b in scores.tolist()) for a in scores]
    return 1 / xp.array(total)


def _linear(scores, *, floor=0.05):
    low, high = min(scores.tolist()), max(scores.tolist())
    if low == high:
        return xp.full(len(scores), 1 / len(scores))
    weights = [floor + (1 - floor) * (v - low) / (high - low) for v in scores.tolist()]
    return xp.array([w / math.fsum(weights) for w in weights])


def _lottery(rng, size):
    return {
        "weights": xp.exp(rng.uniform(-3, 3, size)),
        "uniform": (rng.permutation(size) + rng.uniform(0.2, 0.8, size)) / size,
    }


def _race(weights, uniform, *, share=0.5):
    """The first to arrive: compared pair by pair."""
    time = [
        math.log(1 / u) / w
        for w, u in zip(weights.tolist(), uniform.tolist(), strict=True)
    ]
    m = max(round(share * len(time)), 1)
    before = lambda i: sum((t, j) < (time[i], i) for j, t in enumerate(time))  # noqa: E731
    return xp.array([float(before(i) < m) for i in range(len(time))])


def _subsets(rng, size):
    first, second = (rng.random((2, size)) < rng.random()).astype(float)
    return {"first": first, "second": second}


def _jaccard(first, second):
    a, b = ({i for i, m in enumerate(x.tolist()) if m} for x in (first, second))
    return len(a & b) / len(a | b) if a | b else 1.0


EQUAL = {
    "one score": lambda: {"scores": xp.array([0.7])},
    "equal scores": lambda: {"scores": xp.full(3, 0.1)},
}

METHOD = Method(
    key="anand2023influence",
    provenance={
        "confirmed": (
            "vog",
            "normalised",
            "tracin",
            "self",
            "pvi",
            "null",
            "softmax",
            "linear",
        ),
        "reconstructed": ("draw", "overlap"),
    },
    functions=(
        Estimator(
            f=gradient_variances,
            example=_gradients,
            edges={
                "nothing changes": lambda: {"gradients": xp.full((3, 2, 2), 0.1)},
                "one checkpoint": lambda: {"gradients": xp.array([[[1.0, -2.0]]])},
            },
            settings={"default": {}, "probe": {"scale": "variance"}},
            brute_force=_spread,
            deviations=(
                Deviation(
                    "roots",
                    _root,
                    seen_in="the original definition of VoG (Agarwal et al., 2022)",
                    computes="the standard deviation of each entry, averaged over entries",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=normalised,
            example=_scores,
            edges={
                "equal scores within a class": lambda: {
                    "scores": xp.array([0.1, 0.1, 0.1, 2.0, 1.0]),
                    "group": xp.array([4, 4, 4, 0, 0]),
                },
                "large equal scores": lambda: {
                    "scores": xp.array([0.1, 0.1, 0.1, 0.0, 1e-6]) * 2**23,
                    "group": xp.array([0, 0, 0, 1, 1]),
                },
                "one example": lambda: {
                    "scores": xp.array([3.0]),
                    "group": xp.array([1]),
                },
                "no classes": lambda: {
                    "scores": xp.array([1.0, 2.0, 4.0]),
                    "group": None,
                },
            },
            brute_force=_class_by_class,
            limits=(
                Limit(to="influence_scores.normalised", hyper={}, where=_one_class),
            ),
        ),
        Estimator(
            f=influence,
            example=_two_sets,
            edges={
                "one pair": lambda: {
                    "gradients": xp.array([[[1.0, -2.0]]]),
                    "other_gradients": xp.array([[[0.5, 1.0]]]),
                    "lrs": xp.array([0.1]),
                },
            },
            brute_force=_pair_by_pair,
        ),
        Estimator(
            f=self_influence,
            example=_one_set,
            edges={
                "no gradient": lambda: {
                    "gradients": xp.zeros((2, 1, 3)),
                    "lrs": xp.array([0.1, 0.2]),
                },
            },
            brute_force=_own,
            limits=(
                Limit(to="influence_scores.influence", hyper={}, where=_one_example),
            ),
        ),
        Estimator(
            f=pointwise_information,
            example=_likelihoods,
            edges={
                "nothing learnt": lambda: {
                    "log_prob": xp.array([-1.0]),
                    "null_log_prob": xp.array([-1.0]),
                },
            },
            brute_force=_bits,
        ),
        Estimator(
            f=null_log_probs,
            example=lambda rng, size: {"labels": rng.integers(0, 4, size)},
            edges={"one example": lambda: {"labels": xp.array([7])}},
            settings={"default": {}, "probe": {"dtype": "float32"}},
            brute_force=_frequencies,
        ),
        Estimator(
            f=softmax_probabilities,
            example=lambda rng, size: {"scores": _scores(rng, size)["scores"]},
            edges={
                **EQUAL,
                "far apart": lambda: {"scores": xp.array([400.0, -200.0, 401.0])},
            },
            brute_force=_exponential,
        ),
        Estimator(
            f=linear_probabilities,
            example=lambda rng, size: {"scores": _scores(rng, size)["scores"]},
            edges=EQUAL,
            settings={
                "default": {},
                "no floor": {"floor": 0.0},
                "all alike": {"floor": 1.0},
                "probe": {"floor": 0.3},
            },
            brute_force=_linear,
        ),
        Estimator(
            f=drawn,
            example=_lottery,
            edges={
                "one example": lambda: {
                    "weights": xp.array([2.0]),
                    "uniform": xp.array([1.0]),
                },
                "at the same time": lambda: {
                    "weights": xp.ones(3),
                    "uniform": xp.full(3, 0.5),
                },
            },
            settings={
                "default": {},
                "hardly any": {"share": 0.0},
                "probe": {"share": 0.3},
            },
            brute_force=_race,
            refused={
                "a draw above 1": {"uniform": 1.5},
            },
        ),
        Estimator(
            f=overlap,
            example=_subsets,
            edges={
                "both empty": lambda: {"first": xp.zeros(2), "second": xp.zeros(2)},
                "apart": lambda: {
                    "first": xp.array([1.0, 0.0]),
                    "second": xp.array([0.0, 1.0]),
                },
                "one member in all": lambda: {
                    "first": xp.array([1.0, 0.0]),
                    "second": xp.zeros(2),
                },
                "the same": lambda: {"first": xp.ones(1), "second": xp.ones(1)},
            },
            brute_force=_jaccard,
        ),
    ),
)
