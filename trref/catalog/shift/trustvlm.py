"""What is known of `trref.shift.trustvlm`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.record import Interface
from trref.catalog.shift.interfaces import CONFIDENCE
from trref.shift.trustvlm import (
    Risk,
    Trust,
    auroc,
    false_positive_rate,
    prototypes,
    risk_coverage,
    trust_scores,
    voted_scores,
    zero_shot_logits,
)


def _pairs_of_embeddings(rng, size):
    C, D = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    return {
        "image": rng.choice((0.1, 10.0)) * rng.standard_normal((size, D)),
        "text": rng.standard_normal((C, D)),
    }


def _cosine(a, b):
    lengths = math.hypot(*a), math.hypot(*b)
    if not all(lengths):
        return 0.0
    return math.fsum(x / lengths[0] * y / lengths[1] for x, y in zip(a, b, strict=True))


def _cosines(image, text, *, scale=100.0):
    return xp.array(
        [[scale * _cosine(v, t) for t in text.tolist()] for v in image.tolist()]
    )


def _few_images(rng, size):
    E = int(rng.integers(2, 5))
    return {
        "features": rng.standard_normal((size, E)) + 2 * rng.standard_normal(E),
        "labels": rng.integers(0, 3, size),
    }


def _mean_by_mean(features, labels, *, classes):
    result = []
    for c in range(classes):
        own = [
            f for f, y in zip(features.tolist(), labels.tolist(), strict=True) if y == c
        ]
        mean = [math.fsum(v) / len(own) for v in zip(*own, strict=True)]
        length = math.hypot(*mean)
        zero = [0.0] * features.shape[1]
        result.append([v / length for v in mean] if length else zero)
    return xp.array(result)


def _two_embeddings(rng, size):
    C, E = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    centre = rng.standard_normal((C, E))
    return {
        "logits": rng.choice((0.5, 3.0)) * rng.standard_normal((size, C)),
        "features": rng.standard_normal((size, E)) + 1,
        "prototypes": centre / xp.sqrt((centre**2).sum(1, keepdims=True)),
    }


def _given(logits, features, prototypes):
    return {
        "logits": xp.array(logits),
        "features": xp.array(features),
        "prototypes": xp.array(prototypes),
    }


TWO_VIEWS = Interface(
    "two views",
    example=_two_embeddings,
    edges={
        "equal logits": lambda: _given(
            [[1.0, 1.0]], [[0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]
        ),
        "no features, a class without images": lambda: _given(
            [[1.0, 0.0, -1.0], [-300.0, 0.0, 300.0]],
            [[0.0, 0.0], [1.0, 1.0]],
            [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]],
        ),
        "one class": lambda: _given([[0.3]], [[-1.0, 0.0]], [[1.0, 0.0]]),
    },
)


def _softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / math.fsum(e) for v in e]


def _one_by_one(logits, features, prototypes, *, alpha=1.0, temperature=1.0):
    best, score = [], []
    for z, f in zip(logits.tolist(), features.tolist(), strict=True):
        c = z.index(max(z))
        p = _softmax([v / temperature for v in z])
        best.append(c)
        score.append(max(p) + alpha * _cosine(f, prototypes[c].tolist()))
    return Trust(xp.array(best), xp.array(score))


def _vote_by_vote(logits, features, prototypes, *, alpha=1.0, temperature=0.01):
    best, score = [], []
    for z, f in zip(logits.tolist(), features.tolist(), strict=True):
        cosine = [_cosine(f, m) for m in prototypes.tolist()]
        votes = _softmax([v / temperature for v in cosine])
        P = [p + alpha * q for p, q in zip(_softmax(z), votes, strict=True)]
        c = P.index(max(P))
        best.append(c)
        score.append(P[c] + alpha * cosine[c])
    return Trust(xp.array(best), xp.array(score))


def _all_orders(confidence, correct):
    """Tie by tie, the mean over all orders of its answers, where these are few."""
    values = sorted(set(confidence.tolist()), reverse=True)
    errors, total = [], 0.0
    for value in values:
        tie = [
            1 - float(c)
            for v, c in zip(confidence.tolist(), correct.tolist(), strict=True)
            if v == value
        ]
        orders = list(itertools.permutations(tie)) if len(tie) < 6 else [tie]
        for k in range(1, len(tie) + 1):
            errors.append(total + math.fsum(sum(o[:k]) for o in orders) / len(orders))
        total += math.fsum(tie)
    N = len(errors)
    risk = [e / (k + 1) for k, e in enumerate(errors)]
    r, area = total / N, math.fsum(risk) / N
    perfect = r + (1 - r) * math.log(1 - r) if r < 1 else 1.0
    return Risk(xp.array(risk), area, area - perfect)


def _in_the_order_of_files(confidence, correct):
    order = xp.argsort(-confidence, kind="stable")
    exact = risk_coverage(confidence, correct)
    risk = xp.cumsum(1 - correct[order]) / xp.arange(1, len(order) + 1)
    return Risk(risk, risk.mean(), exact.excess + risk.mean() - exact.area)


def _every_pair(confidence, correct):
    right = [v for v, c in zip(confidence.tolist(), correct.tolist(), strict=True) if c]
    wrong = [
        v for v, c in zip(confidence.tolist(), correct.tolist(), strict=True) if not c
    ]
    if not right or not wrong:
        return 0.5
    won = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    return math.fsum(won) / len(won)


def _every_threshold(confidence, correct, *, accepted=0.95):
    right = [v for v, c in zip(confidence.tolist(), correct.tolist(), strict=True) if c]
    wrong = [
        v for v, c in zip(confidence.tolist(), correct.tolist(), strict=True) if not c
    ]
    if not right or not wrong:
        return 0.0
    for threshold in sorted(confidence.tolist(), reverse=True):
        if sum(v >= threshold for v in right) >= accepted * len(right) - 1e-9:
            return sum(v >= threshold for v in wrong) / len(wrong)
    raise AssertionError("the lowest threshold accepts all")


def _nearest_point(confidence, correct, *, accepted=0.95):
    right = max(float(correct.sum()), 1.0)
    wrong = max(float((1 - correct).sum()), 1.0)
    best = None
    for threshold in sorted(confidence.tolist(), reverse=True):
        passed = confidence >= threshold
        share = float((passed * correct).sum()) / right
        rate = float((passed * (1 - correct)).sum()) / wrong
        if best is None or abs(share - accepted) < best[0]:
            best = abs(share - accepted), rate
    return best[1]


METHOD = Method(
    key="dong2025trust",
    provenance="confirmed",
    functions=(
        Estimator(
            f=zero_shot_logits,
            example=_pairs_of_embeddings,
            edges={
                "nothing to see": lambda: {
                    "image": xp.zeros((1, 2)),
                    "text": xp.array([[1.0, 1.0]]),
                },
                "the class itself": lambda: {
                    "image": xp.array([[0.0, 3.0], [-2.0, 0.0]]),
                    "text": xp.array([[0.0, 1.0], [1.0, 0.0]]),
                },
            },
            settings={"default": {}, "probe": {"scale": 7.0}},
            brute_force=_cosines,
        ),
        Estimator(
            f=prototypes,
            example=_few_images,
            edges={
                "one image": lambda: {
                    "features": xp.array([[3.0, 4.0]]),
                    "labels": xp.array([1]),
                },
                "short vectors": lambda: {
                    "features": xp.array([[0.1, 0.2], [0.3, -0.1]]),
                    "labels": xp.array([1, 1]),
                },
                "a mean of 0": lambda: {
                    "features": xp.array([[1.0, 2.0], [-1.0, -2.0], [2.0, 0.5]]),
                    "labels": xp.array([0, 0, 2]),
                },
            },
            settings={"default": {"classes": 3}, "probe": {"classes": 4}},
            brute_force=_mean_by_mean,
            refused={
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=trust_scores,
            interface=TWO_VIEWS,
            settings={
                "default": {},
                "text alone": {"alpha": 0.0},
                "probe": {"alpha": 0.3, "temperature": 2.5},
            },
            brute_force=_one_by_one,
        ),
        Estimator(
            f=voted_scores,
            interface=TWO_VIEWS,
            settings={
                "default": {},
                "soft votes": {"temperature": 0.5},
                "probe": {"alpha": 0.3, "temperature": 0.2},
            },
            brute_force=_vote_by_vote,
            limits=(
                Limit(
                    to="trustvlm.trust_scores",
                    hyper={"alpha": 0.0},
                    to_hyper={"alpha": 0.0},
                ),
            ),
        ),
        Estimator(
            f=risk_coverage,
            interface=CONFIDENCE,
            brute_force=_all_orders,
            deviations=(
                Deviation(
                    "the order of files",
                    _in_the_order_of_files,
                    seen_in="EPFL-IMOS/TrustVLM TrustVLM.py",
                    computes="the risk with ties in the order in which they come",
                ),
            ),
        ),
        Estimator(f=auroc, interface=CONFIDENCE, brute_force=_every_pair),
        Estimator(
            f=false_positive_rate,
            interface=CONFIDENCE,
            settings={
                "default": {},
                "all of them": {"accepted": 1.0},
                "none of them": {"accepted": 0.0},
                "probe": {"accepted": 0.56},
            },
            brute_force=_every_threshold,
            deviations=(
                Deviation(
                    "the nearest point",
                    _nearest_point,
                    seen_in="EPFL-IMOS/TrustVLM TrustVLM.py",
                    computes="the rate at the share nearest to 0.95, below or above",
                ),
            ),
        ),
    ),
)
