"""Votes with earned trust: published numbers, a majority, neighbours by scikit-learn, the best weights by counting."""

import itertools

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from trref.trustworthiness.orchestrator_trust import (
    needs_reevaluation,
    optimal_weights,
    orchestrate,
    reevaluated,
    retrieval_vote,
    trust_weights,
    weighted_vote,
)


def _agents(seed, A=3, N=40, C=4):
    rng = np.random.default_rng(seed)
    shares = rng.random((N, C))
    return (
        rng.integers(0, C, (A, N)),
        rng.uniform(0.2, 1, (A, N)),
        rng.uniform(0.1, 1, A),
        shares / shares.sum(1, keepdims=True),
    )


def test_weights_of_the_published_agents():
    """The numbers in the notebook's prompt: the second earns more than three times the trust of the first."""
    error, rate, ccc = np.array([[0.45298828125, 0.2933203125], [0.5078125, 0.416015625], [0.1262067, 0.3609559]])
    first, second = trust_weights(error, rate, ccc)
    assert first == pytest.approx(0.54701172 * 0.4921875 * 0.56310335, rel=1e-7)
    assert second == pytest.approx(0.70667969 * 0.583984375 * 0.68047795, rel=1e-7)
    assert 0.15 < first < 0.16 and 0.28 < second < 0.29


def test_weights_are_monotone():
    rng = np.random.default_rng(0)
    error, rate, ccc = rng.random(50), rng.random(50), rng.uniform(-1, 1, 50)
    base = trust_weights(error, rate, ccc)
    assert (trust_weights(error / 2, rate, ccc) >= base).all()
    assert (trust_weights(error, rate / 2, ccc) >= base).all()
    assert (trust_weights(error, rate, (1 + ccc) / 2) >= base).all()
    assert base.min() == 0.05 and base.max() <= 1


def test_equal_weights_are_a_majority():
    predicted, _, _, _ = _agents(1, A=5)
    vote = weighted_vote(predicted, np.full(predicted.shape, 0.7), np.ones(5), classes=4)
    for i, votes in enumerate(predicted.T):
        counts = np.bincount(votes, minlength=4)
        assert vote.prediction[i] == counts.argmax() and vote.confidence[i] == pytest.approx(counts.max() / 5)


def test_only_proportions_of_weights_count():
    predicted, confidence, weights, _ = _agents(2)
    one = weighted_vote(predicted, confidence, weights, classes=4)
    other = weighted_vote(predicted, confidence, 1e-30 * weights, classes=4)
    assert np.allclose(one.shares, other.shares, rtol=1e-12, atol=1e-15)
    alone = weighted_vote(predicted, confidence, np.array([0.0, 0.4, 0.0]), classes=4)
    assert (alone.prediction == predicted[1]).all() and (alone.confidence == 1).all()


def test_neighbours_by_scikit_learn():
    rng = np.random.default_rng(3)
    bank, query, labels = rng.random((60, 5)), rng.random((25, 5)), rng.integers(0, 3, 60)
    theirs = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=lambda distance: 1 - distance)
    shares = retrieval_vote(query, bank, labels, k=7, classes=3)
    assert np.allclose(shares, theirs.fit(bank, labels).predict_proba(query), rtol=1e-10, atol=1e-12)
    assert np.allclose(shares.sum(1), 1)
    nearest = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(bank, labels).predict(query)
    assert (retrieval_vote(query, bank, labels, k=1, classes=3).argmax(1) == nearest).all()
    # all cases of one direction: their shares
    everyone = retrieval_vote(query[:, :1], bank[:, :1], labels, k=60, classes=3)
    assert np.allclose(everyone, np.bincount(labels) / 60)


def test_best_weights_by_counting():
    """All tables of answers of five independent agents: no other vote of a grid is right more often."""
    p, C = np.array([0.9, 0.75, 0.6, 0.6, 0.4]), 3
    tables = np.array(list(itertools.product(range(C), repeat=5)))  # class 0 is the truth
    chance = np.where(tables == 0, p, (1 - p) / (C - 1)).prod(1)
    assert chance.sum() == pytest.approx(1, rel=1e-12)

    def accuracy(weights):
        scores = np.stack([((tables == k) * weights).sum(1) for k in range(C)], 1)
        best = abs(scores - scores.max(1, keepdims=True)) < 1e-12
        return (chance * best[:, 0] / best.sum(1)).sum()

    best = accuracy(optimal_weights(p, classes=C))
    # Bayes: the class of the largest likelihood
    likelihood = np.stack([np.where(tables == k, p, (1 - p) / (C - 1)).prod(1) for k in range(C)], 1)
    assert best == pytest.approx(likelihood.max(1).sum() / C, rel=1e-12)
    grid = itertools.product(np.linspace(0, 2, 5), repeat=5)
    assert max(accuracy(np.array(w)) for w in itertools.islice(grid, 0, None, 7)) <= best + 1e-12
    assert accuracy(np.ones(5)) < best and accuracy(p) < best


def test_trust_ranks_but_does_not_weigh_best():
    """Calibrated agents, (1 - OCR)(1 + CCC)/2 aside: weights that fall with the error rank as the best ones do."""
    rates = np.array([0.45, 0.3, 0.2, 0.05])
    earned = trust_weights(np.zeros(4), rates, np.zeros(4))
    best = optimal_weights(1 - rates, classes=2)
    assert (np.argsort(earned) == np.argsort(best)).all()
    assert not np.allclose(earned / earned[0], best / best[0], rtol=0.5)


def test_each_reason_alone():
    agree, calm = np.array([[0], [0]]), np.array([[0.9, 0.1]])
    weights = np.array([0.5, 0.5])
    assert needs_reevaluation(agree, calm, calm, weights).tolist() == [0]
    assert needs_reevaluation(np.array([[0], [1]]), calm, calm, weights).tolist() == [1]
    assert needs_reevaluation(agree, calm, calm, np.array([0.5, 0.05])).tolist() == [1]
    assert needs_reevaluation(agree, np.array([[0.55, 0.45]]), calm, weights).tolist() == [1]
    assert needs_reevaluation(agree, calm, np.array([[0.4, 0.6]]), weights).tolist() == [1]


def test_second_look_by_hand():
    """Two classes, ω = 1/2, p = (0.9, 0.1), r = (0.1, 0.9): geometric means are equal, the first wins at 1/2."""
    one = {"predicted": np.array([[0]]), "confidence": np.array([[0.9]]), "retrieval": np.array([[0.1, 0.9]])}
    half = reevaluated(**one, weights=np.array([0.5]), again=np.ones(1), smoothing=1e-12)
    assert half.confidence[0, 0] == pytest.approx(0.5, rel=1e-9)
    # ω = 0 is the cases' opinion, ω = 1 the agent's own
    cases = reevaluated(**one, weights=np.array([0.0]), again=np.ones(1), smoothing=1e-12)
    assert cases.predicted.item() == 1 and cases.confidence.item() == pytest.approx(0.9, rel=1e-9)
    own = reevaluated(**one, weights=np.array([1.0]), again=np.ones(1), smoothing=1e-12)
    assert own.predicted.item() == 0 and own.confidence.item() == pytest.approx(0.9, rel=1e-9)
    untouched = reevaluated(**one, weights=np.array([0.0]), again=np.zeros(1))
    assert untouched.predicted.item() == 0 and untouched.confidence.item() == 0.9


def test_orchestration_is_its_parts():
    predicted, confidence, weights, retrieval = _agents(4)
    result = orchestrate(predicted, confidence, weights, retrieval, least_weight=0.0)
    first = weighted_vote(predicted, confidence, weights, classes=4)
    again = needs_reevaluation(predicted, first.shares, retrieval, weights, least_weight=0.0)
    second = reevaluated(predicted, confidence, weights, retrieval, again)
    last = weighted_vote(*second, weights, classes=4)
    assert (result.prediction == last.prediction).all() and (result.again == again).all()
    calm = again == 0
    assert (result.prediction[calm] == first.prediction[calm]).all()
    # nobody is trusted: retrieval decides
    follow = orchestrate(predicted, confidence, np.full(3, 1e-9), retrieval)
    assert (follow.prediction == retrieval.argmax(1)).all() and (follow.again == 1).all()


def test_what_is_refused():
    with pytest.raises(ValueError, match="k must be at most the 2 rows of bank"):
        retrieval_vote(np.ones((1, 2)), np.ones((2, 2)), np.array([0, 1]), classes=2)
    with pytest.raises(ValueError, match=r"correlation must lie in \[-1, 1\]"):
        trust_weights(np.zeros(1), np.zeros(1), np.array([1.2]))
    with pytest.raises(ValueError, match="predicted must be less than 2"):
        weighted_vote(np.array([[2]]), np.ones((1, 1)), np.ones(1), classes=2)
    with pytest.raises(ValueError, match=r"accuracy must lie inside \(0, 1\)"):
        optimal_weights(np.array([1.0]))
