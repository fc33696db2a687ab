"""Confidences, fairness and rates against scikit-learn, fairlearn and statsmodels, on random data of many sizes."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from trref.trustworthiness import calibration

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("seed", range(10))
def test_calibration(seed):
    rng = np.random.default_rng(seed)
    n, bins = int(rng.integers(20, 400)), int(rng.integers(1, 30))
    confidence = rng.beta(2, 1, n)
    correct = (rng.random(n) < confidence**2).astype(float)
    right, claimed = calibration_curve(correct, confidence, n_bins=bins)
    ours = calibration.reliability(confidence, correct, bins=bins)
    seen = ours.share > 0
    assert ours.accuracy[seen] == pytest.approx(right, rel=1e-12)
    assert ours.confidence[seen] == pytest.approx(claimed, rel=1e-12)
    assert calibration.brier(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_cross_entropy_at_a_temperature(seed):
    rng = np.random.default_rng(seed)
    logits, labels, T = 3 * rng.standard_normal((30, 4)), rng.integers(0, 4, 30), rng.uniform(0.5, 4)
    p = np.exp(logits / T)
    theirs = log_loss(labels, p / p.sum(1, keepdims=True), labels=range(4))
    assert calibration.temperature_loss(logits, labels, np.array(T))[0] == pytest.approx(theirs, rel=1e-10)
