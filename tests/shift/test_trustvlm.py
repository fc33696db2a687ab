"""Scores and figures by hand, at their limits, and against scikit-learn."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestCentroid

from trref.shift.trustvlm import (
    auroc,
    false_positive_rate,
    prototypes,
    risk_coverage,
    trust_scores,
    voted_scores,
    zero_shot_logits,
)


def test_scores_by_hand():
    """The class predicted from text is the first, whose prototype is at a right angle: only the text counts."""
    logits, features, centres = np.log(np.array([[0.7, 0.3]])), np.array([[0.0, 2.0]]), np.eye(2)
    trust = trust_scores(logits, features, centres, alpha=0.5)
    assert trust.prediction[0] == 0 and trust.score[0] == pytest.approx(0.7)
    voted = voted_scores(logits, features, centres, alpha=0.5)  # (0.7, 0.3) + 0.5 (0, 1)
    assert voted.prediction[0] == 1 and voted.score[0] == pytest.approx(0.3 + 0.5 + 0.5)


def test_logits_are_scaled_cosines():
    z = zero_shot_logits(np.array([[3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 9.0]]), scale=10.0)
    assert np.allclose(z, [[6.0, 8.0]], rtol=1e-9)


def test_prototypes_are_means_of_raw_embeddings():
    """A long vector counts more than a short one; a class without images has none."""
    features, labels = np.array([[8.0, 0.0], [0.0, 6.0], [0.0, -1.0]]), np.array([0, 0, 1])
    assert np.allclose(prototypes(features, labels, classes=3), [[0.8, 0.6], [0, -1], [0, 0]], rtol=1e-9)


def test_with_all_weight_on_them_prototypes_decide():
    """On unit vectors whose centroids are brought to unit length, the largest cosine is the nearest centroid."""
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((3, 4))
    y = np.repeat(np.arange(3), 15)
    f = centre[y] + 0.8 * rng.standard_normal((45, 4))
    mu = prototypes(f, y, classes=3)
    unit = f / np.linalg.norm(f, axis=1, keepdims=True)
    twice = [mu + e for e in (-1e-6, 1e-6)]  # it wants some spread within a class
    nearest = NearestCentroid().fit(np.concatenate(twice), np.tile(np.arange(3), 2)).predict(unit)
    voted = voted_scores(rng.standard_normal((45, 3)), f, mu, alpha=1e6, temperature=0.5)
    assert np.array_equal(voted.prediction, nearest)


def _answers(seed=0, N=60, ties=True):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 12, N) / 12 if ties else rng.random(N)
    return confidence, (rng.random(N) < 0.3 + 0.6 * confidence).astype(float)


def test_figures_against_scikit_learn():
    for seed, ties in itertools.product(range(3), (False, True)):
        confidence, correct = _answers(seed, ties=ties)
        assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence), rel=1e-12)
        fpr, tpr, _ = roc_curve(correct, confidence, drop_intermediate=False)
        for accepted in (0.5, 0.95):
            expected = fpr[np.flatnonzero(tpr >= accepted - 1e-9)[0]]
            assert false_positive_rate(confidence, correct, accepted=accepted) == pytest.approx(expected)


def test_the_risk_of_six_answers_over_all_orders():
    """Two ties: the mean over all orders within them, by enumeration of all orders of six that are sorted."""
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.5, 0.2, 0.2]), np.array([1.0, 0, 1, 0, 1, 0])
    curves = [
        np.cumsum(1 - correct[list(order)]) / np.arange(1, 7)
        for order in itertools.permutations(range(6))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    found = risk_coverage(confidence, correct)
    assert len(curves) == 12 and np.allclose(found.risk, np.mean(curves, 0), rtol=1e-13)
    assert found.area == pytest.approx(np.mean(curves))


def test_a_perfect_order_has_no_excess_and_no_order_the_mean_risk():
    N, r = 4000, 0.3
    correct = (np.arange(N) >= r * N).astype(float)
    perfect = risk_coverage(correct + np.arange(N) / N, correct)
    assert perfect.area == pytest.approx(r + (1 - r) * np.log(1 - r), abs=2 / N) and abs(perfect.excess) < 2 / N
    assert np.allclose(risk_coverage(np.ones(50), correct[::80]).risk, r, rtol=1e-12)


def test_only_the_order_matters():
    confidence, correct = _answers(5)
    for f in (lambda *a: risk_coverage(*a).risk, auroc, false_positive_rate):
        one, other = f(confidence, correct), f(np.exp(3 * confidence), correct)
        assert np.allclose(one, other, rtol=1e-13)


def test_a_common_direction_shrinks_the_spread_of_cosines():
    """All embeddings in one cone have cosines near 1."""
    rng = np.random.default_rng(6)
    logits, f = np.zeros((40, 3)), rng.standard_normal((40, 5))
    centres = rng.standard_normal((3, 5))
    unit = lambda m: m / np.linalg.norm(m, axis=1, keepdims=True)  # noqa: E731
    near, far = (np.std(trust_scores(logits, f + s, unit(centres + s)).score) for s in (0.0, 20.0))
    assert far < near / 20


def test_bad_input():
    with pytest.raises(ValueError, match="labels"):
        prototypes(np.ones((2, 2)), np.array([0, 3]), classes=3)
    with pytest.raises(ValueError, match="correct must hold only 0 and 1"):
        auroc(np.ones(2), np.array([0.5, 1.0]))
