"""What is known of `trref.trustworthiness.orchestrator_trust`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.trustworthiness.orchestrator_trust import (
    Answers,
    Orchestrated,
    Vote,
    needs_reevaluation,
    optimal_weights,
    orchestrate,
    reevaluated,
    retrieval_vote,
    trust_weights,
    weighted_vote,
)


def _agents(rng, size):
    """Two to four agents that agree on most items, and similar cases that often say the same."""
    A, C = int(rng.integers(2, 5)), 3
    truth = rng.integers(0, C, size)
    predicted = xp.where(
        rng.random((A, size)) < 0.8, truth, rng.integers(0, C, (A, size))
    )
    shares = rng.random((2, size, C)) + 2 * (truth[:, None] == xp.arange(C))
    shares = shares / shares.sum(-1, keepdims=True)
    return {
        "predicted": predicted,
        "confidence": rng.uniform(0.3, 1.0, (A, size)),
        "weights": rng.uniform(0.02, 1.0, A),
        "shares": shares[0],
        "retrieval": shares[1],
        "again": (rng.random(size) < 0.5).astype(float),
    }


def _edge(predicted, confidence, weights, retrieval):
    predicted, retrieval = xp.array(predicted), xp.array(retrieval)
    n = predicted.shape[1]
    return {
        "predicted": predicted,
        "confidence": xp.array(confidence),
        "weights": xp.array(weights),
        "shares": xp.array([[0.75, 0.25, 0.0], [0.125, 0.625, 0.25]])[:n],
        "retrieval": retrieval,
        "again": xp.ones(n),
    }


AGENTS = Interface(
    "agents",
    example=_agents,
    edges={
        "they agree, and so do the cases": lambda: _edge(
            [[0, 1], [0, 1]],
            [[0.9, 0.8], [0.7, 0.95]],
            [0.8, 0.5],
            [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1]],
        ),
        "the cases contradict": lambda: _edge(
            [[0, 1], [0, 1]],
            [[0.9, 0.8], [0.7, 0.95]],
            [0.3, 0.2],
            [[0.0, 0.1, 0.9], [0.2, 0.7, 0.1]],
        ),
        "a tie": lambda: _edge(
            [[2], [1]], [[0.5], [0.5]], [0.5, 0.5], [[0.25, 0.25, 0.5]]
        ),
        "the second of three disagrees": lambda: _edge(
            [[1], [0], [1]],
            [[0.9], [0.1], [0.9]],
            [0.9, 0.8, 0.7],
            [[0.1, 0.8, 0.1]],
        ),
        "nobody has weight": lambda: _edge(
            [[1], [2]], [[0.9], [0.3]], [0.0, 0.0], [[0.0, 0.0, 1.0]]
        ),
        "nobody is sure of anything": lambda: _edge(
            [[1], [2]], [[0.0], [0.0]], [0.4, 0.6], [[0.5, 0.3, 0.2]]
        ),
        "fully trusted": lambda: _edge(
            [[1], [1]], [[1.0], [0.9]], [1.0, 1.0], [[0.2, 0.5, 0.3]]
        ),
        "one is not trusted": lambda: _edge(
            [[0], [0]], [[0.7], [0.9]], [0.07, 0.9], [[0.6, 0.3, 0.1]]
        ),
        "a vote of little": lambda: _edge(
            [[0, 1], [0, 1], [0, 2]],
            [[0.8, 0.55], [0.8, 0.1], [0.9, 0.5]],
            [0.9, 0.8, 0.9],
            [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]],
        ),
        "one agent": lambda: _edge([[2]], [[0.6]], [0.3], [[0.1, 0.2, 0.7]]),
        "two classes": lambda: {
            **_edge([[1], [0]], [[0.6], [0.9]], [0.3, 0.4], [[0.2, 0.8]]),
            "shares": xp.array([[0.6, 0.4]]),
        },
        "one class": lambda: {
            **_edge([[0], [0]], [[0.6], [0.7]], [0.3, 0.4], [[1.0]]),
            "shares": xp.ones((1, 1)),
        },
    },
)
"""``f(predicted (A, N), confidence (A, N), weights (A), …)`` with the shares of three classes, or one."""


def _table(scores):
    """Shares of rows of numbers, or zeros."""
    rows = []
    for row in scores:
        total = math.fsum(row)
        rows.append([s / total if total > 0 else 0.0 for s in row])
    return rows


def _first(row):
    return row.index(max(row))


def _count(predicted, confidence, weights, *, classes):
    A, N = predicted.shape
    scores = [[0.0] * classes for _ in range(N)]
    for a in range(A):
        for i in range(N):
            scores[i][int(predicted[a, i])] += float(weights[a] * confidence[a, i])
    rows = _table(scores)
    return Vote(
        xp.array([_first(row) for row in rows]),
        xp.array([max(row) for row in rows]),
        xp.array(rows),
    )


def _earned(error, overconfidence, correlation, *, floor=0.05):
    each = zip(
        error.tolist(), overconfidence.tolist(), correlation.tolist(), strict=True
    )
    return xp.array([max(floor, (1 - e) * (1 - o) * (1 + c) / 2) for e, o, c in each])


def _calibrations(rng, size):
    return {
        "error": rng.random(size),
        "overconfidence": rng.random(size),
        "correlation": rng.uniform(-1, 1, size),
    }


def _neighbours(rng, size):
    M, D = int(rng.integers(12, 20)), int(rng.integers(2, 6))
    centre = rng.choice((0.0, 1.5))
    return {
        "query": rng.choice((0.01, 20.0)) * (rng.standard_normal((size, D)) + centre),
        "bank": rng.standard_normal((M, D)) + centre,
        "labels": rng.integers(0, 4, M),
    }


def _bank(query, bank, labels):
    return {
        "query": xp.array(query),
        "bank": xp.array(bank),
        "labels": xp.array(labels),
    }


def _cosines(query, bank):
    for q in query.tolist():
        lengths = math.hypot(*q)
        row = []
        for b in bank.tolist():
            length = lengths * math.hypot(*b)
            dot = math.fsum(x * y for x, y in zip(q, b, strict=True))
            row.append(dot / length if length > 0 else 0.0)
        yield row


def _case_by_case(query, bank, labels, *, k=10, classes, least=0.0):
    scores = []
    for cosine in _cosines(query, bank):
        order = sorted(range(len(bank)), key=lambda j: (-cosine[j], j))
        row = [0.0] * classes
        for j in order[:k]:
            row[int(labels[j])] += max(cosine[j], least)
        scores.append(row)
    return xp.array(_table(scores))


def _negative_cosines(query, bank, labels, *, k=10, classes):
    """The sum as the notebook has it, which divides only where it is positive."""
    rows = []
    for cosine in _cosines(query, bank):
        nearest = sorted(range(len(bank)), key=lambda j: (-cosine[j], j))[:k]
        row = [0.0] * classes
        for j in nearest:
            row[int(labels[j])] += cosine[j]
        total = sum(cosine[j] for j in nearest)
        rows.append([s / total for s in row] if total > 0 else row)
    return xp.array(rows)


def _reasons(
    predicted, shares, retrieval, weights, *, least_weight=0.1, least_share=0.6
):
    result = []
    for i in range(predicted.shape[1]):
        reasons = (
            len(set(predicted[:, i].tolist())) > 1,
            min(weights.tolist()) < least_weight,
            max(shares[i].tolist()) < least_share,
            _first(shares[i].tolist()) != _first(retrieval[i].tolist()),
        )
        result.append(float(any(reasons)))
    return xp.array(result)


def _agent_by_agent(
    predicted, confidence, weights, retrieval, again, *, gamma=1.0, smoothing=0.01
):
    """The powers themselves."""
    (A, N), C = predicted.shape, retrieval.shape[1]
    answers, sure = predicted.copy(), confidence.copy()
    for a in range(A):
        kept = gamma * float(weights[a])
        for i in range(N):
            if not again[i]:
                continue
            c, mine = float(confidence[a, i]), int(predicted[a, i])
            powers = []
            for k in range(C):
                p = c if k == mine else (1 - c) / (C - 1)
                p = (1 - smoothing) * p + smoothing / C
                r = (1 - smoothing) * float(retrieval[i, k]) + smoothing / C
                powers.append(p**kept * r ** (1 - kept))
            answers[a, i] = _first(powers)
            sure[a, i] = max(powers) / math.fsum(powers)
    return Answers(answers, sure)


def _twice(
    predicted,
    confidence,
    weights,
    retrieval,
    *,
    gamma=1.0,
    smoothing=0.01,
    least_weight=0.1,
    least_share=0.6,
):
    C = retrieval.shape[1]
    shares = _count(predicted, confidence, weights, classes=C).shares
    again = _reasons(
        predicted,
        shares,
        retrieval,
        weights,
        least_weight=least_weight,
        least_share=least_share,
    )
    second = _agent_by_agent(
        predicted,
        confidence,
        weights,
        retrieval,
        again,
        gamma=gamma,
        smoothing=smoothing,
    )
    last = _count(*second, weights, classes=C)
    return Orchestrated(last.prediction, last.confidence, again)


def _nothing_to_ask(inputs):
    """trusted agents agree, and the cases with them"""
    A, N = inputs["predicted"].shape
    C = inputs["retrieval"].shape[1]
    predicted = xp.zeros((A, N), dtype=int) + inputs["predicted"][:1]
    given = {
        "predicted": predicted,
        "confidence": 0.5 + inputs["confidence"] / 2,
        "weights": 0.5 + inputs["weights"] / 2,
    }
    cases = (predicted[0][:, None] == xp.arange(C)).astype(float)
    return {**given, "retrieval": cases}, given


LOOK = {
    "default": {},
    "probe": {
        "gamma": 0.6,
        "smoothing": 0.05,
        "least_weight": 0.3,
        "least_share": 0.8,
    },
}

NO_SUCH_ANSWER = {
    "an answer that is no class": {"predicted": 99},
}


METHOD = Method(
    key="roumeliotis2025orchestrator",
    provenance={
        "confirmed": ("retrieval",),
        "reconstructed": (
            "weights",
            "vote",
            "again",
            "reevaluated",
            "optimal",
        ),
    },
    functions=(
        Estimator(
            f=trust_weights,
            example=_calibrations,
            edges={
                "perfect, worst, and in between": lambda: {
                    "error": xp.array([0.0, 1.0, 0.5]),
                    "overconfidence": xp.array([0.0, 1.0, 0.25]),
                    "correlation": xp.array([1.0, -1.0, 0.0]),
                },
                "one agent below the floor": lambda: {
                    "error": xp.array([0.9]),
                    "overconfidence": xp.array([0.9]),
                    "correlation": xp.array([0.0]),
                },
            },
            settings={
                "default": {},
                "no floor": {"floor": 0.0},
                "probe": {"floor": 0.2},
            },
            brute_force=_earned,
            refused={
                "a correlation beyond 1": {"correlation": 1.5},
            },
        ),
        Estimator(
            f=weighted_vote,
            interface=AGENTS,
            settings={"default": {"classes": 3}, "probe": {"classes": 5}},
            brute_force=_count,
            refused=NO_SUCH_ANSWER,
        ),
        Estimator(
            f=retrieval_vote,
            example=_neighbours,
            edges={
                "none is similar": lambda: _bank(
                    [[1.0, 0.0]], [[-1.0, 0.5], [-2.0, -1.0], [0.0, 3.0]], [0, 1, 2]
                ),
                "equally similar": lambda: _bank(
                    [[1.0, 0.0], [0.0, 2.0]],
                    [[2.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 1.0]],
                    [3, 1, 1, 0],
                ),
                "nothing is known": lambda: _bank(
                    [[0.0, 0.0]], [[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]], [1, 1, 0]
                ),
                "one negative among them": lambda: _bank(
                    [[2.0, 1.0]], [[1.0, 0.5], [1.0, 3.0], [-1.0, -1.0]], [2, 1, 1]
                ),
            },
            settings={
                "default": {"k": 3, "classes": 4},
                "nearest": {"k": 1, "classes": 4},
                "probe": {"k": 2, "classes": 6},
            },
            brute_force=_case_by_case,
            deviations=(
                Deviation(
                    "cosines as they are",
                    _negative_cosines,
                    seen_in="Applied-AI-Research-Lab/Orchestrator-Agent-Trust, AgenticAI.ipynb",
                    computes="a negative cosine votes against its class; a sum that is not positive divides nothing",
                ),
            ),
            refused={
                "more neighbours than rows": {"k": 99},
                "a label that is no class": {"labels": 99},
            },
        ),
        Estimator(
            f=needs_reevaluation,
            interface=AGENTS,
            settings={
                "default": {},
                "never, unless they differ": {"least_weight": 0.0, "least_share": 0.0},
                "probe": {"least_weight": 0.3, "least_share": 0.7},
            },
            brute_force=_reasons,
        ),
        Estimator(
            f=reevaluated,
            interface=AGENTS,
            settings={
                "default": {},
                "the cases decide": {"gamma": 0.0},
                "probe": {"gamma": 0.6, "smoothing": 0.05},
            },
            brute_force=_agent_by_agent,
            refused=NO_SUCH_ANSWER,
        ),
        Estimator(
            f=orchestrate,
            interface=AGENTS,
            settings=LOOK,
            brute_force=_twice,
            limits=(
                Limit(
                    to="orchestrator_trust.weighted_vote",
                    hyper={},
                    to_hyper={"classes": 3},
                    where=_nothing_to_ask,
                    part="confidence",
                ),
            ),
            refused=NO_SUCH_ANSWER,
        ),
        Estimator(
            f=optimal_weights,
            example=lambda rng, size: {"accuracy": rng.uniform(0.02, 0.98, size)},
            edges={
                "chance": lambda: {"accuracy": xp.array([0.5, 0.25])},
                "one": lambda: {"accuracy": xp.array([0.9])},
            },
            settings={"default": {}, "probe": {"classes": 4}},
            brute_force=lambda accuracy, *, classes=2: xp.array(
                [
                    math.log(p) - math.log(1 - p) + math.log(classes - 1)
                    for p in accuracy.tolist()
                ]
            ),
            refused={
                "always right": lambda: ({"accuracy": xp.array([0.5, 1.0])}, {}),
                "always wrong": lambda: ({"accuracy": xp.array([0.5, 0.0])}, {}),
            },
        ),
    ),
)
