"""The network at its limits, the balanced loss against scikit-learn, selections and figures by hand."""

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from trref.datasampling.trust_functions import (
    balanced_loss,
    calibration_error,
    calibration_shift,
    correctness,
    recovery,
    select,
    trust_logits,
    trust_objective,
)

NAMES = ("gains", "A", "B", "C", "last_gain", "w", "c")


def _network(seed=0, N=9, L=2, D=4, H=3):
    rng = np.random.default_rng(seed)
    shapes = ((L, D), (L, D, H), (L, D, H), (L, H, D), (D,), (D,), ())
    parameters = {n: np.asarray(rng.standard_normal(s)) for n, s in zip(NAMES, shapes, strict=True)}
    return rng.standard_normal((N, D)), (rng.random(N) < 0.7).astype(float), parameters


def test_numbers_by_hand():
    """u = (3, 4) has root mean square sqrt 12.5; a gate of 0 lets half of nothing through."""
    u, zero = np.array([[3.0, 4.0]]), np.zeros((1, 2, 1))
    head = {"last_gain": np.ones(2), "w": np.array([1.0, -2.0]), "c": np.array(0.5)}
    s = trust_logits(u, np.ones((1, 2)), zero, zero + 1, np.ones((1, 1, 2)), **head, eps=1e-12)
    assert s == pytest.approx([0.5 - 5 / np.sqrt(12.5)])
    ones = np.ones((1, 2, 1))
    a = 7 / np.sqrt(12.5)  # both products of the normalised state; the block adds a² sigmoid(a) to either entry
    v = np.array([3.0, 4.0]) + a * a * special.expit(a)
    s = trust_logits(u, np.ones((1, 2)), ones, ones, np.ones((1, 1, 2)), **head, eps=1e-12)
    assert s == pytest.approx([0.5 + (v[0] - 2 * v[1]) / np.sqrt((v**2).mean())])


def test_scaling_the_state_changes_nothing_without_blocks():
    u, _, p = _network(1)
    p["C"] = 0 * p["C"]
    assert np.allclose(trust_logits(5 * u, **p, eps=1e-14), trust_logits(u, **p, eps=1e-14), rtol=1e-10)


def test_gradients_against_differences():
    u, t, p = _network(2)
    _, gradient = trust_objective(u, t, **p)
    rng = np.random.default_rng(3)
    for name in NAMES:
        v, step = np.asarray(rng.standard_normal(p[name].shape)), 1e-5
        ends = [
            float(trust_objective(u, t, **{**p, name: np.asarray(p[name] + sign * step * v)})[0]) for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((getattr(gradient, name) * v).sum()), rel=1e-6, abs=1e-9)


def test_without_blocks_it_is_balanced_logistic_regression():
    """scikit-learn's weights are N / (2 count), ours at the optimum is minus the penalty's slope."""
    u, t, p = _network(4, N=60)
    n = u / np.sqrt((u**2).mean(1, keepdims=True) + 1e-6)
    C = 10.0
    fit = LogisticRegression(C=C, class_weight="balanced", tol=1e-10, max_iter=1000).fit(n, t)
    p |= {"C": 0 * p["C"], "last_gain": np.ones(4), "w": fit.coef_[0], "c": np.asarray(fit.intercept_[0])}
    _, gradient = trust_objective(u, t, **p)
    assert np.allclose(60 * gradient.w, -fit.coef_[0] / C, rtol=0, atol=1e-5)
    assert abs(60 * gradient.c) < 1e-5


def test_a_constant_logit_is_best_at_0_whatever_the_rate():
    for rate in (0.1, 0.5, 0.9):
        t = (np.arange(10) < 10 * rate).astype(float)
        value, gradient = balanced_loss(np.zeros(10), t)
        assert value == pytest.approx(np.log(2)) and gradient.sum() == pytest.approx(0, abs=1e-16)


def test_the_shift_makes_probabilities_of_it():
    """By Bayes: odds of a half become odds of the rate."""
    s = np.array([0.3, -2.0])
    odds = np.exp(s) * 0.9 / 0.1
    assert np.allclose(special.expit(calibration_shift(s, prior=0.9)), odds / (1 + odds), rtol=1e-14)


def test_selections_by_hand():
    trust, group = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.3]), np.array([0, 0, 0, 1, 1, 1])
    assert np.array_equal(select(trust), [1, 1, 1, 0, 0, 0])
    assert np.array_equal(select(trust, group, share=0.34), [1, 0, 0, 0, 0, 1])
    assert np.array_equal(select(np.zeros(4)), [1, 1, 0, 0])  # of equal ones the earlier


def test_purity_of_a_perfect_score():
    """Right labels first: as long as there are any, all that is kept is right; then their number over m."""
    right = correctness(np.array([0, 1, 2, 3, 0]), np.array([0, 1, 2, 0, 1]))
    assert np.array_equal(right, [1, 1, 1, 0, 0])
    purity = lambda share: (select(right, share=share) * right).sum() / select(right, share=share).sum()  # noqa: E731
    assert purity(0.4) == purity(0.6) == 1 and purity(0.8) == pytest.approx(3 / 4)


def test_calibration_by_hand():
    """Bins 0 to 0.5 and 0.5 to 1: 0.2 against 1 of one, 0.8 against a half of two."""
    error, brier = calibration_error(np.array([0.2, 0.7, 0.9]), np.array([1.0, 0.0, 1.0]), bins=2)
    assert error == pytest.approx(0.8 / 3 + 2 / 3 * 0.3) and brier == pytest.approx((0.64 + 0.49 + 0.01) / 3)


def test_recovery_by_hand():
    accuracy, base, ceiling = np.array([0.5, 0.7, 0.9, 1.0]), np.full(4, 0.5), np.full(4, 0.9)
    assert np.allclose(recovery(accuracy, base, ceiling), [0, 50, 100, 125], rtol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="base and ceiling must differ"):
        recovery(np.array([0.5]), np.array([0.6]), np.array([0.6]))
    with pytest.raises(ValueError, match="prior must lie in"):
        calibration_shift(np.ones(1), prior=1.0)
