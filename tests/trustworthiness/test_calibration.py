"""Calibration: the published table of 160 answers, bounds, what each number does not see, scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from trref.trustworthiness.calibration import (
    brier,
    calibration_error,
    calibration_floor,
    correlation,
    histogram_binning,
    overconfidence,
    reliability,
    temperature_loss,
)

# Results/Case1/test_set_zero_shot_classification.csv of the authors: confidence -> answers, right ones
PUBLISHED = {
    "Qwen": {0.8: (4, 2), 0.85: (10, 4), 0.9: (16, 0), 0.95: (105, 46), 1.0: (25, 20)},
    "GPT": {0.7: (1, 0), 0.8: (2, 1), 0.85: (103, 44), 0.9: (27, 19), 0.95: (27, 27)},
}


def _published(agent):
    rows = [(c, float(i < right)) for c, (n, right) in PUBLISHED[agent].items() for i in range(n)]
    return np.array(rows).T.copy()


def _random(seed, n=500, skill=0.7):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, n)
    return confidence, (rng.random(n) < skill * confidence).astype(float)


@pytest.mark.parametrize(
    ("agent", "error", "above", "rate"), [("Qwen", 0.4928125, 0.5, 0.55), ("GPT", 0.305, 0.05, 0.43125)]
)
def test_published_table(agent, error, above, rate):
    """Both are too sure in every bin, so that the error is the difference of the means; wrong answers are counted."""
    confidence, correct = _published(agent)
    assert calibration_error(confidence, correct) == pytest.approx(error, rel=1e-12)
    assert confidence.mean() - correct.mean() == pytest.approx(error, rel=1e-12)
    assert overconfidence(confidence, correct) == pytest.approx(above, rel=1e-12)
    assert overconfidence(confidence, correct, threshold=0.0) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [1, 2, 7, 50])
def test_error_is_at_least_the_gap(seed, bins):
    confidence, correct = _random(seed)
    gap = abs(confidence.mean() - correct.mean())
    error = calibration_error(confidence, correct, bins=bins)
    assert error >= gap * (1 - 1e-12)
    order = np.random.default_rng(seed).permutation(len(confidence))
    assert calibration_error(confidence[order], correct[order], bins=bins) == pytest.approx(error, rel=1e-12)
    if bins == 1:
        assert error == pytest.approx(gap, rel=1e-12)


def test_by_scikit_learn():
    """Its bins are closed at the other side, which no random number meets."""
    confidence, correct = _random(3)
    right, claimed = calibration_curve(correct, confidence, n_bins=10)
    ours = reliability(confidence, correct)
    assert ours.accuracy == pytest.approx(right, rel=1e-12) and ours.confidence == pytest.approx(claimed, rel=1e-12)
    weighted = ours.share @ abs(right - claimed)
    assert calibration_error(confidence, correct) == pytest.approx(weighted, rel=1e-12)
    assert brier(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence), rel=1e-12)
    assert correlation(confidence, correct) == pytest.approx(stats.pointbiserialr(correct, confidence)[0], rel=1e-12)


def test_calibrated_by_construction():
    """Ten answers of which as many are right as each claims: the error is 0."""
    confidence = np.repeat([0.25, 0.75], 8)
    correct = np.array([1.0, 1] + [0.0] * 6 + [1.0] * 6 + [0, 0])
    assert calibration_error(confidence, correct) == 0 and calibration_error(confidence, correct, bins=50) == 0


def test_floor_falls_as_the_root():
    """Four times the answers, half the floor; and it is not 0. In a bin of one confidence c, half the draws are 1."""
    rng, floors = np.random.default_rng(4), []
    for n in (250, 1000, 4000):
        confidence = rng.random(n)
        floors.append(calibration_floor(confidence, rng.random((200, n)), bins=10))
    assert 0.45 < floors[1] / floors[0] < 0.55 and 0.45 < floors[2] / floors[1] < 0.55
    # one bin, n answers at 1/2: the mean distance of a binomial from its mean, which SciPy sums
    n = 12
    exact = stats.binom(n, 0.5).expect(lambda k: abs(k / n - 0.5))
    draws = np.random.default_rng(5).random((20_000, n))
    spread = np.abs((draws < 0.5).mean(1) - 0.5).std() / np.sqrt(20_000)
    assert abs(calibration_floor(np.full(n, 0.5), draws, bins=1) - exact) < 4 * spread


def test_none_replaces_the_others():
    """An affine map keeps the correlation and spoils the calibration; a constant is calibrated and knows nothing."""
    confidence, correct = _random(6, skill=1.0, n=4000)
    squeezed = 0.8 + 0.2 * confidence
    assert correlation(squeezed, correct) == pytest.approx(correlation(confidence, correct), rel=1e-10)
    assert calibration_error(squeezed, correct) > 10 * calibration_error(confidence, correct)
    constant = np.full(4, 0.75)
    truth = np.array([1.0, 1, 1, 0])
    assert calibration_error(constant, truth) == 0 == correlation(constant, truth)
    assert correlation(constant, np.ones(4)) == 0
    # nobody is ever surer than the threshold, all answers are wrong
    assert overconfidence(np.full(3, 0.6), np.zeros(3)) == 0


def test_overconfidence_falls_with_the_threshold():
    confidence, correct = _random(7)
    rates = [overconfidence(confidence, correct, threshold=t) for t in np.linspace(0, 1, 21)]
    assert (np.diff(rates) <= 0).all() and rates[0] == 1 - correct.mean()
    sure = confidence >= 0.7
    conditional = overconfidence(confidence, correct, threshold=0.7, conditional=True)
    assert conditional == pytest.approx(1 - correct[sure].mean(), rel=1e-12)


def test_histogram_binning_repairs_what_it_saw():
    confidence, correct = _random(8, n=2000, skill=0.6)
    # repaired confidences of one bin fall into one bin: its members are right as often as they say
    repaired = histogram_binning(confidence, correct, confidence)
    assert calibration_error(repaired, correct, bins=1) < 1e-12
    assert calibration_error(confidence, correct) > 0.15
    for value in np.unique(repaired):
        assert correct[repaired == value].mean() == pytest.approx(value, rel=1e-12)
    assert histogram_binning(np.array([0.1]), np.array([1.0]), np.array([0.15, 0.95])).tolist() == [1.0, 0.95]


def test_best_temperature():
    """Logits drawn from their own law and multiplied by 3: the best temperature is 3, where the slope is 0."""
    rng = np.random.default_rng(9)
    logits = 1.5 * rng.standard_normal((4000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)

    def loss(T):
        return temperature_loss(3 * logits, labels, np.array(T))

    found = optimize.minimize_scalar(lambda T: loss(T)[0], bounds=(0.5, 10), method="bounded").x
    assert found == pytest.approx(3, rel=0.1)
    root = optimize.brentq(lambda T: loss(T)[1], 0.5, 10)
    assert root == pytest.approx(found, rel=1e-4)
    step = 1e-5
    difference = (loss(2 + step)[0] - loss(2 - step)[0]) / (2 * step)
    assert loss(2.0)[1] == pytest.approx(difference, rel=1e-7)


def test_what_is_refused():
    logits, labels = np.zeros((2, 2)), np.array([0, 1])
    with pytest.raises(ValueError, match=r"temperature must lie between 0.001 and 1000"):
        temperature_loss(logits, labels, np.array(0.0))
    with pytest.raises(ValueError, match="labels must be less than 2"):
        temperature_loss(logits, labels + 1, np.array(1.0))
    with pytest.raises(ValueError, match="confidence must lie in"):
        calibration_error(np.array([95.0]), np.array([1.0]))
