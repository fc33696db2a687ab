"""Two notions of fairness: numbers by hand, bounds, when both can be had, the surrogate and a covariance."""

import itertools

import numpy as np
import pytest

from trref.trustworthiness.fairness import (
    demographic_parity,
    equalized_odds,
    fairness_score,
    parity_surrogate,
)


def _random(seed, n=60):
    rng = np.random.default_rng(seed)
    cells = np.concatenate([np.arange(4), rng.integers(0, 4, n)])
    attribute, labels = (cells // 2).astype(float), (cells % 2).astype(float)
    return rng.integers(0, 2, len(cells)).astype(float), labels, attribute


def test_by_hand():
    predicted = np.array([1.0, 1, 0, 1, 0, 0, 0, 1])
    labels = np.array([1.0, 1, 0, 0, 1, 1, 0, 0])
    attribute = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    # shares 3/4 and 1/4; true positives 1 and 0, false positives 1/2 and 1/2
    assert demographic_parity(predicted, attribute) == 0.5
    assert equalized_odds(predicted, labels, attribute) == 1.0
    assert fairness_score(np.array([0.5]), np.array([1.0])) == 25.0


@pytest.mark.parametrize("seed", range(10))
def test_bounds_and_symmetry(seed):
    predicted, labels, attribute = _random(seed)
    parity, odds = demographic_parity(predicted, attribute), equalized_odds(predicted, labels, attribute)
    assert 0 <= parity <= 1 and 0 <= odds <= 1
    assert demographic_parity(predicted, 1 - attribute) == pytest.approx(parity)
    assert equalized_odds(predicted, labels, 1 - attribute) == pytest.approx(odds)
    assert equalized_odds(predicted, 1 - labels, attribute) == pytest.approx(odds)
    constant = np.ones_like(predicted)
    assert demographic_parity(constant, attribute) == 0 == equalized_odds(constant, labels, attribute)


def test_a_perfect_prediction_has_the_base_rates():
    labels, attribute = np.array([1.0, 1, 0, 1, 0, 0, 0]), np.array([1.0, 1, 1, 0, 0, 0, 0])
    gap = abs(labels[attribute == 1].mean() - labels[attribute == 0].mean())
    assert gap == pytest.approx(2 / 3 - 1 / 4)
    assert demographic_parity(labels, attribute) == pytest.approx(gap, rel=1e-12)
    assert equalized_odds(labels, labels, attribute) == 0


def test_equal_base_rates_bound_parity_by_odds():
    """Two items of each cell: all 256 predictions."""
    labels, attribute = np.array([0.0, 0, 1, 1] * 2), np.repeat([0.0, 1], 4)
    gaps = [
        equalized_odds(np.array(p), labels, attribute) - demographic_parity(np.array(p), attribute)
        for p in itertools.product([0.0, 1.0], repeat=8)
    ]
    assert min(gaps) > -1e-12 and max(gaps) > 0.4


def test_refusals_are_dropped_first():
    predicted, labels, attribute = _random(5)
    answered = (np.random.default_rng(6).random(len(labels)) < 0.7).astype(float)
    answered[:4] = 1
    here = answered > 0
    nonsense = np.where(here, predicted, 1 - predicted)
    assert demographic_parity(nonsense, attribute, answered) == demographic_parity(predicted[here], attribute[here])
    assert equalized_odds(nonsense, labels, attribute, answered) == equalized_odds(
        predicted[here], labels[here], attribute[here]
    )


def test_surrogate_is_a_covariance():
    rng = np.random.default_rng(7)
    attribute, logits = (rng.random(30) < 0.3).astype(float), rng.standard_normal(30)
    p = 1 / (1 + np.exp(-logits))
    share = attribute.mean()
    covariance = np.cov(p, attribute, bias=True)[0, 1]
    loss, gradient = parity_surrogate(logits, attribute)
    assert loss == pytest.approx((covariance / (share * (1 - share))) ** 2, rel=1e-10)
    step = 1e-5
    for i in range(30):
        moved = np.zeros(30)
        moved[i] = step
        slope = parity_surrogate(logits + moved, attribute)[0] - parity_surrogate(logits - moved, attribute)[0]
        assert gradient[i] == pytest.approx(slope / (2 * step), rel=1e-6, abs=1e-10)
    # of certain predictions it is the square of the parity itself
    sure = np.where(rng.random(30) < 0.5, 800.0, -800.0)
    assert parity_surrogate(sure, attribute)[0] == pytest.approx(
        demographic_parity((sure > 0).astype(float), attribute) ** 2, rel=1e-12
    )


def test_what_is_refused():
    one = np.ones(3)
    with pytest.raises(ValueError, match="attribute must have both groups among the answered"):
        demographic_parity(one, one)
    with pytest.raises(ValueError, match="labels must have both values among the answered items of each group"):
        equalized_odds(np.ones(4), np.array([1.0, 0, 1, 1]), np.array([1.0, 1, 0, 0]))
