"""The filter by hand, in its limits, and how often it takes directions drawn at random."""

import numpy as np
import pytest
from scipy import stats

from trref.gradients.gradient_agreement_filtering import filtered_mean

ROWS = np.array([[3.0, 4.0], [4.0, 3.0], [-1.0, -1.0], [1.0, -1.0]])


def test_numbers_by_hand():
    """24 of 25 agree; then the sum (7, 7), against which the third points, and to which the fourth is orthogonal."""
    result = filtered_mean(ROWS, tau=0.9)
    assert np.allclose(result.distances, [0, 0.04, 2, 1], atol=1e-15, rtol=1e-9)
    assert np.array_equal(result.accepted, [1, 1, 0, 0])
    assert np.allclose(result.direction, [3.5, 3.5], rtol=1e-15)
    result = filtered_mean(ROWS, tau=1.1)
    assert np.array_equal(result.accepted, [1, 1, 0, 1])
    assert np.allclose(result.direction, [8 / 3, 2.0], rtol=1e-15)


def test_a_bound_is_included():
    """Exactly orthogonal is taken at 1, opposite at 2, equal at 0."""
    right, up = np.array([2.0, 0.0]), np.array([0.0, 3.0])
    for second, tau in ((up, 1.0), (-right, 2.0), (right, 0.0)):
        assert np.array_equal(filtered_mean(np.stack([right, second]), tau=tau).accepted, [1, 1])
        if tau:
            assert np.array_equal(filtered_mean(np.stack([right, second]), tau=tau - 1e-9).accepted, [1, 0])


def test_nothing_agrees_and_the_step_is_left_out():
    result = filtered_mean(np.array([[1.0, 0.0], [-1.0, 0.1], [-2.0, 0.3]]))
    assert np.array_equal(result.direction, [0, 0]) and np.array_equal(result.accepted, [1, 0, 0])
    alone = filtered_mean(ROWS[:1])
    assert np.array_equal(alone.direction, [0, 0]) and np.array_equal(alone.accepted, [1])


def test_a_gradient_of_0_agrees_with_nothing():
    result = filtered_mean(np.array([[1.0, 2.0], [0.0, 0.0]]), tau=1.9)
    assert np.array_equal(result.distances, [0, 2]) and np.array_equal(result.direction, [0, 0])


def test_at_2_it_is_the_mean():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.standard_normal((int(rng.integers(2, 7)), 5)) * rng.choice([1e-3, 1.0, 1e3], (1, 5))
        assert np.allclose(filtered_mean(rows, tau=2.0).direction, rows.mean(0), rtol=1e-13, atol=1e-13)


def test_of_two_neither_order_nor_length_matters_to_the_decision():
    rng = np.random.default_rng(1)
    for _ in range(50):
        rows = rng.standard_normal((2, 4))
        one = filtered_mean(rows, tau=0.9)
        swapped = filtered_mean(rows[::-1].copy(), tau=0.9)
        assert np.allclose(one.direction, swapped.direction, atol=1e-15, rtol=1e-9)
        for lengths in (1e-200, 1.0), (1e60, 1e-60):
            scaled = filtered_mean(rows * np.array(lengths)[:, None], tau=0.9)
            assert np.array_equal(one.accepted, scaled.accepted)
            assert np.allclose(one.distances, scaled.distances, atol=1e-14, rtol=1e-9)


def test_of_more_the_order_matters():
    """(1, 0) is near both (0.1, 1) and (0.5, -1), and the sum with either is far from the other."""
    a, b, c = [1.0, 0.0], [0.1, 1.0], [0.5, -1.0]
    for order, mean in (([a, b, c], [0.55, 0.5]), ([a, c, b], [0.75, -0.5])):
        result = filtered_mean(np.array(order), tau=1.0)
        assert np.array_equal(result.accepted, [1, 1, 0]) and np.allclose(result.direction, mean, rtol=1e-15)


def test_what_is_taken_of_two_descends_on_both_and_is_long_enough():
    """With tau at most 1; |s|² is at least (|a|² + |b|² + 2(1 - tau)|a||b|)/4."""
    rng, taken = np.random.default_rng(2), 0
    for tau in (1.0, 0.9, 0.5):
        for _ in range(100):
            a, b = rng.standard_normal((2, 4)) * rng.choice([0.1, 1.0, 10.0], (2, 1))
            result = filtered_mean(np.stack([a, b]), tau=tau)
            if result.accepted[1]:
                taken += 1
                s, bound = result.direction, a @ a + b @ b + 2 * (1 - tau) * np.sqrt((a @ a) * (b @ b))
                assert s @ a > 0 and s @ b > 0 and s @ s >= bound / 4 - 1e-12
    assert 50 < taken < 250


def test_how_often_random_directions_agree():
    """(cos + 1)/2 of two directions in P dimensions has the law Beta((P - 1)/2, (P - 1)/2)."""
    rng, P, tries = np.random.default_rng(3), 8, 2000
    pairs = rng.standard_normal((tries, 2, P))
    for tau in (1.0, 0.7):
        share = np.mean([filtered_mean.unchecked(pair, tau=tau).accepted[1] for pair in pairs])
        expected = stats.beta((P - 1) / 2, (P - 1) / 2).sf((2 - tau) / 2)
        assert abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / tries)


def test_bad_input():
    with pytest.raises(ValueError, match="tau must lie in"):
        filtered_mean(ROWS, tau=2.1)
    with pytest.raises(ValueError, match="gradients must have shape"):
        filtered_mean(ROWS[0])
