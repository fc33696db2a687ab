"""What is known of `trref.trustworthiness.dynamic_evaluation`."""

import itertools
import math
import statistics

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.trustworthiness.dynamic_evaluation import (
    Corrected,
    Dynamic,
    Interval,
    dynamic_estimate,
    judge_corrected,
    rank_stability,
    wilson_interval,
    win_probability,
)


def _redraws(rng, size):
    """Cases of different difficulty, each in two to four wordings."""
    M, V = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    chance = rng.beta(2, 1, (M, size, 1))
    return {"correct": (rng.random((M, size, V)) < chance).astype(float)}


def _one_way(correct, *, cases=100, wordings=1):
    rows = correct.tolist()
    each = [case for redraw in rows for case in redraw]
    means = [statistics.fmean(case) for case in each]
    wording = statistics.fmean(statistics.variance(case) for case in each)
    case = statistics.variance(means) - wording / len(each[0])
    by_redraw = [
        statistics.fmean(statistics.fmean(c) for c in redraw) for redraw in rows
    ]
    return Dynamic(
        statistics.fmean(by_redraw),
        statistics.variance(by_redraw),
        case,
        wording,
        (case + wording / wordings) / cases,
    )


def _rates(rng, size):
    return {
        "rate": rng.random(size),
        "counts": rng.integers(1, 400, size).astype(float),
    }


def _by_roots(rate, counts, *, level=0.95):
    """The two p at which (rate - p)² = z² p (1 - p) / N, roots of a quadratic."""
    z = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    low, high = [], []
    for p, n in zip(rate.tolist(), counts.tolist(), strict=True):
        a, b, c = 1 + z * z / n, -(2 * p + z * z / n), p * p
        root = math.sqrt(max(b * b - 4 * a * c, 0.0))
        top = (-b + root) / (2 * a)
        high.append(min(top, 1.0))
        low.append(c / a / top)
    return Interval(xp.array(low), xp.array(high))


def _wald(rate, counts, *, level=0.95):
    z = statistics.NormalDist().inv_cdf(0.5 + level / 2)
    half = z * xp.sqrt(rate * (1 - rate) / counts)
    return Interval(xp.maximum(rate - half, 0), xp.minimum(rate + half, 1))


def _solved(observed, variance, *, false_positive=0.1, false_negative=0.1):
    """The line through what a judge makes of 0 and of 1."""
    at_zero, at_one = false_positive, 1 - false_negative
    slope = at_one - at_zero
    return Corrected(
        xp.array([(p - at_zero) / slope for p in observed.tolist()]),
        xp.array([v / slope / slope for v in variance.tolist()]),
    )


def _pair_by_pair(scores):
    taus = []
    for a, b in itertools.combinations(scores.tolist(), 2):
        signs = [
            (math.copysign(x != y, x - y), math.copysign(u != v, u - v))
            for (x, u), (y, v) in itertools.combinations(zip(a, b, strict=True), 2)
        ]
        agree = sum(s * t for s, t in signs)
        untied = sum(s * s for s, _ in signs) * sum(t * t for _, t in signs)
        taus.append(agree / math.sqrt(untied) if untied else 0.0)
    return statistics.fmean(taus)


def _resampled(rng, size):
    K, N = int(rng.integers(2, 4)), int(rng.integers(5, 9))
    return {
        "correct": (rng.random((K, N)) < 0.6).astype(float),
        "rows": rng.integers(0, N, (size, int(rng.integers(4, 7)))),
    }


def _count(correct, rows):
    K = len(correct)
    table = xp.zeros((K, K))
    for sample in rows.tolist():
        hits = [sum(float(correct[k, i]) for i in sample) for k in range(K)]
        for k, j in itertools.product(range(K), repeat=2):
            table[k, j] += 1.0 if hits[k] > hits[j] else 0.5 * (hits[k] == hits[j])
    return table / len(rows)


METHOD = Method(
    key="huang2025trustgen",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=dynamic_estimate,
            example=_redraws,
            edges={
                "all right": lambda: {"correct": xp.ones((2, 3, 2))},
                "wordings decide": lambda: {
                    "correct": xp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]] * 2])
                },
                "cases decide": lambda: {
                    "correct": xp.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0]] * 2])
                },
            },
            settings={"default": {}, "probe": {"cases": 30, "wordings": 4}},
            brute_force=_one_way,
            refused={
                "one redraw": lambda: ({"correct": xp.ones((1, 3, 2))}, {}),
                "one wording": lambda: ({"correct": xp.ones((2, 3, 1))}, {}),
            },
        ),
        Estimator(
            f=wilson_interval,
            example=_rates,
            edges={
                "none right, all right": lambda: {
                    "rate": xp.array([0.0, 1.0, 1.0]),
                    "counts": xp.array([10.0, 10.0, 1.0]),
                },
                "one of two": lambda: {
                    "rate": xp.array([0.5]),
                    "counts": xp.array([2.0]),
                },
            },
            settings={"default": {}, "probe": {"level": 0.8}},
            brute_force=_by_roots,
            deviations=(
                Deviation(
                    "the normal interval",
                    _wald,
                    seen_in="statsmodels.stats.proportion.proportion_confint, by its default",
                    computes="the rate plus and minus z standard errors, which is a point where all answers are right",
                ),
            ),
        ),
        Estimator(
            f=judge_corrected,
            example=lambda rng, size: {
                "observed": rng.random(size),
                "variance": 0.01 * rng.random(size),
            },
            edges={
                "beyond what a judge can see": lambda: {
                    "observed": xp.array([0.0, 1.0]),
                    "variance": xp.array([0.0, 0.25]),
                },
                "one": lambda: {
                    "observed": xp.array([0.5]),
                    "variance": xp.array([0.01]),
                },
            },
            settings={
                "default": {},
                "a judge that says the opposite": {
                    "false_positive": 0.9,
                    "false_negative": 0.8,
                },
                "probe": {"false_positive": 0.05, "false_negative": 0.2},
            },
            brute_force=_solved,
            refused={
                "a coin": lambda: (
                    {"observed": xp.ones(1), "variance": xp.ones(1)},
                    {"false_positive": 0.3, "false_negative": 0.7},
                )
            },
        ),
        Estimator(
            f=rank_stability,
            example=lambda rng, size: {
                "scores": xp.round(
                    5 * rng.standard_normal((size + 1, int(rng.integers(3, 7))))
                )
            },
            edges={
                "equal models": lambda: {"scores": xp.array([[1.0, 1.0], [1.0, 2.0]])},
                "the other way round": lambda: {
                    "scores": xp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
                },
                "one model": lambda: {"scores": xp.array([[1.0], [2.0]])},
                "two of three redraws agree": lambda: {
                    "scores": xp.array([[1.0, 2.0], [3.0, 4.0], [2.0, 1.0]])
                },
            },
            brute_force=_pair_by_pair,
            refused={"one redraw": lambda: ({"scores": xp.ones((1, 3))}, {})},
        ),
        Estimator(
            f=win_probability,
            example=_resampled,
            edges={
                "equal models": lambda: {
                    "correct": xp.array([[1.0, 0.0], [0.0, 1.0]]),
                    "rows": xp.array([[0, 1], [1, 0]]),
                },
                "one item, one resample": lambda: {
                    "correct": xp.array([[1.0], [0.0], [0.0]]),
                    "rows": xp.array([[0]]),
                },
            },
            brute_force=_count,
            refused={
                "an item that there is not": {"rows": 99},
            },
        ),
    ),
)
