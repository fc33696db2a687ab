"""A report of trust: by hand, against public metrics, and what a change is relative to."""

import numpy as np
import pytest

from trref.trustworthiness.compressed_trust import trust_change, trust_report

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
ATTACKED = np.array([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [1.0, 0.0]])
LABELS, GROUP = np.array([0, 1, 0, 0]), np.array([5, 5, 9, 9])


def test_by_hand():
    """The last is wrong, and right under the attack: that does not count."""
    report = trust_report(LOGITS, ATTACKED, LABELS, GROUP, threshold=0.7)
    assert report.accuracy == 0.75 and report.robust_accuracy == 0.5
    assert report.worst_group == 0.5 and report.parity_gap == 0
    assert report.abstention == 0.25, "the last, of confidence 0.62"
    sure = 1 / (1 + np.exp(-np.array([2.0, 1.0, 3.0, 0.5])))
    error = sum(abs(np.array([1, 1, 1, 0]) - sure)) / 4  # each in a bin of its own but two, which are both right
    assert report.calibration_error == pytest.approx(error, rel=1e-12)


def test_the_change():
    now = trust_change(LOGITS, ATTACKED, ATTACKED, ATTACKED, LABELS, GROUP)
    assert now.accuracy == pytest.approx(0), "three of four before and after"
    assert now.robust_accuracy == pytest.approx(0.5 / 0.75 - 1)
    same = trust_change(LOGITS, ATTACKED, LOGITS, ATTACKED, LABELS, GROUP)
    assert all(value == 0 for value in same)


def test_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    logits, labels, group = rng.standard_normal((200, 3)), rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    report = trust_report(logits, logits, labels, group)
    guess = logits.argmax(1)
    assert report.accuracy == pytest.approx(metrics.accuracy_score(labels, guess))
    assert report.robust_accuracy == report.accuracy
    worst = min(metrics.accuracy_score(labels[group == g], guess[group == g]) for g in range(4))
    assert report.worst_group == pytest.approx(worst)


def test_labels_must_be_classes():
    with pytest.raises(ValueError, match="labels must be less than 2"):
        trust_report(LOGITS, ATTACKED, LABELS + 2, GROUP)
