"""Weights, budgets and thresholds by hand and against NumPy's quantile."""

import numpy as np
import pytest

from trref.tokens.cppo_budget import dynamic_budget, position_weight, prefix_threshold


def test_weights_by_hand():
    mask = np.array([[1.0, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    expected = [[1, 0.95, 0.9, 0.85, 0.8], [1, 0, 0.9, 0, 0.8], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert np.allclose(position_weight(mask), expected, rtol=1e-14)


def test_thresholds_by_hand():
    """No drift, no change; a first divergence of 0.1 leaves 0.15 + 0.015 - 0.1, and later tokens earn it back."""
    ones = np.ones((1, 3))
    assert prefix_threshold(ones, 0 * ones)[0] == pytest.approx([0.15] * 3)
    assert prefix_threshold(ones, np.array([[0.1, 0.0, 0.0]]))[0] == pytest.approx([0.15, 0.065, 0.0785])
    assert prefix_threshold(ones, np.array([[0.5, 0.0, 0.0]]))[0, 1] < 0


def test_without_a_budget_the_threshold_only_falls():
    rng = np.random.default_rng(0)
    D = rng.exponential(0.02, (20, 30))
    c = prefix_threshold(np.ones_like(D), D, delta_b=0.0)
    w = position_weight(np.ones_like(D))
    assert (np.diff(c, axis=1) <= 1e-15).all()
    assert np.allclose(c[:, 1:], 0.15 - np.cumsum(w * D, axis=1)[:, :-1], atol=1e-14)


def test_a_large_budget_leaves_one_threshold():
    D = np.random.default_rng(1).random((5, 9))
    assert (prefix_threshold(np.ones_like(D), D, delta_b=1e6) == 0.15).all()
    assert (prefix_threshold(np.ones_like(D), D)[:, 0] == 0.15).all(), "the first token has no prefix"


def test_what_the_rule_keeps():
    """If all tokens are within their threshold, S_m <= delta + delta_b W_(m-1)."""
    rng = np.random.default_rng(2)
    D = rng.exponential(0.03, (400, 12))
    ones = np.ones_like(D)
    w, c = position_weight(ones), prefix_threshold(ones, D)
    kept = (w * D <= c).all(1)
    S, W = np.cumsum(w * D, axis=1), np.cumsum(w, axis=1) - w
    assert 20 < kept.sum() < 380 and (S <= 0.15 + 0.015 * W + 1e-14)[kept].all()


@pytest.mark.parametrize("length", [1, 2, 7, 11])
def test_decile(length):
    rng = np.random.default_rng(length)
    D, mask = rng.random((30, 11)), np.zeros((30, 11))
    for row in mask:
        row[rng.choice(11, length, replace=False)] = 1
    expected = [np.quantile(d[m == 1], 0.9) for d, m in zip(D, mask, strict=True)]
    assert dynamic_budget(mask, D, smallest=0.3) == pytest.approx(np.clip(expected, 0.3, 0.6))


def test_rows_are_accounts_of_their_own():
    rng = np.random.default_rng(3)
    D, mask = rng.exponential(0.05, (6, 8)), (np.arange(8) < rng.integers(1, 9, (6, 1))).astype(float)
    for budget in ("fixed", "dynamic"):
        together = prefix_threshold(mask, D, budget=budget)
        for i in range(6):
            n = int(mask[i].sum())
            alone = prefix_threshold(np.ones((1, n)), D[i : i + 1, :n], budget=budget)
            assert np.allclose(together[i, :n], alone[0], rtol=1e-14)
