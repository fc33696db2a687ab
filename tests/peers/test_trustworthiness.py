"""Confidences, fairness and rates against scikit-learn, fairlearn and statsmodels, on random data of many sizes."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss

from trref.trustworthiness import calibration, decoding_trust, dynamic_evaluation, fairness

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


@pytest.mark.parametrize("seed", range(20))
def test_fairness(seed):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    rng = np.random.default_rng(seed)
    cells = np.concatenate([np.arange(4), rng.integers(0, 4, int(rng.integers(1, 80)))])
    attribute, labels = (cells // 2).astype(float), (cells % 2).astype(float)
    predicted = (rng.random(len(cells)) < np.array([0.2, 0.8, 0.4, 0.9])[cells]).astype(float)
    theirs = fairlearn.demographic_parity_difference(labels, predicted, sensitive_features=attribute)
    assert fairness.demographic_parity(predicted, attribute) == pytest.approx(theirs, abs=1e-12)
    theirs = fairlearn.equalized_odds_difference(labels, predicted, sensitive_features=attribute)
    assert fairness.equalized_odds(predicted, labels, attribute) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_refusals_by_confusion_matrices(seed):
    """A refusal is one more column of scikit-learn's matrix."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 60))
    predicted, labels, refused = rng.integers(0, 3, n), rng.integers(0, 3, n), (rng.random(n) < 0.4).astype(float)
    refused[0] = 0
    table = confusion_matrix(labels, np.where(refused > 0, 3, predicted), labels=range(4))
    ours = decoding_trust.accuracy(predicted, labels, refused)
    assert ours.of_all == pytest.approx(np.trace(table) / n)
    assert ours.of_answered == pytest.approx(np.trace(table) / table[:, :3].sum())
    assert ours.refused == pytest.approx(table[:, 3].sum() / n)
    others = table[1:].sum()
    if others:
        assert decoding_trust.attack_success(predicted, labels, refused) == pytest.approx(table[1:, 0].sum() / others)


@pytest.mark.parametrize("seed", range(5))
def test_intervals(seed):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 500, 20)
    right = rng.binomial(counts, rng.random())
    level = float(rng.uniform(0.5, 0.999))
    low, high = proportion.proportion_confint(right, counts, alpha=1 - level, method="wilson")
    ours = dynamic_evaluation.wilson_interval(right / counts, counts.astype(float), level=level)
    assert np.allclose(ours.low, low, rtol=1e-9, atol=1e-12) and np.allclose(ours.high, high, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_components_of_variance(seed):
    """statsmodels' one-way analysis of variance: the mean squares between and within cases."""
    formula = pytest.importorskip("statsmodels.formula.api")
    anova = pytest.importorskip("statsmodels.stats.anova")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    M, N, V = 2, 12, int(rng.integers(2, 5))
    correct = (rng.random((M, N, V)) < rng.beta(2, 1, (M, N, 1))).astype(float)
    data = {"right": correct.ravel(), "case": np.repeat(np.arange(M * N), V)}
    table = anova.anova_lm(formula.ols("right ~ C(case)", pandas.DataFrame(data)).fit())
    between, within = table["mean_sq"]
    ours = dynamic_evaluation.dynamic_estimate(correct)
    assert ours.wording == pytest.approx(within, rel=1e-9)
    assert ours.case == pytest.approx((between - within) / V, rel=1e-9)
