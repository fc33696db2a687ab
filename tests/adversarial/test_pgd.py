"""Attacks by hand, against all corners, and against the exact maximum in a box."""

import itertools

import numpy as np
import pytest

from trref.adversarial.pgd import fgsm, pgd, pgd_path
from trref.nn import mlp
from trref.problems.rows import LinearScore, QuadraticScore, RowLoss


def test_numbers_by_hand():
    """Slopes 2, -1, 0 and 3: up, down, not at all, and up to the end of the range."""
    score, x = LinearScore(np.array([2.0, -1.0, 0.0, 3.0])), np.array([[0.5, 0.5, 0.5, 0.9]])
    assert np.allclose(fgsm(score, x, radius=0.2), [[0.7, 0.3, 0.5, 1.0]], atol=1e-15, rtol=1e-9)
    path = pgd_path(score, x, x, radius=0.2, lr=0.15, steps=2)
    assert np.allclose(path[0], x, rtol=1e-9) and np.allclose(path[1], [[0.65, 0.35, 0.5, 1.0]], atol=1e-15, rtol=1e-9)
    assert np.allclose(path[2], [[0.7, 0.3, 0.5, 1.0]], atol=1e-15, rtol=1e-9)


def test_the_start_is_put_into_ball_and_box():
    x = np.array([[0.1, 0.5]])
    path = pgd_path(LinearScore(np.zeros(2)), x, np.array([[-0.2, 0.9]]), radius=0.3, steps=1)
    assert np.allclose(path[0], [[0.0, 0.8]], rtol=1e-9) and np.array_equal(path[1], path[0])


def test_a_hill_by_hand():
    """Steps of 0.1 towards the top at 0.25, then to and fro around it."""
    hill, x = QuadraticScore(np.eye(1), np.array([0.25])), np.array([[0.5]])
    path = pgd_path(hill, x, x, radius=0.4, lr=0.1, steps=5)[:, 0, 0]
    assert np.allclose(path, [0.5, 0.4, 0.3, 0.2, 0.3, 0.2], rtol=1e-9)


def test_for_a_linear_score_no_corner_is_worse():
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, score = rng.random((1, 6)), LinearScore(rng.standard_normal(6))
        low, high = np.maximum(x - 0.2, 0), np.minimum(x + 0.2, 1)
        corners = [np.where(up, high[0], low[0]) for up in itertools.product((False, True), repeat=6)]
        worst = max(float(score(corner[None])[0][0]) for corner in corners)
        for moved in (fgsm(score, x, radius=0.2), pgd(score, x, x, radius=0.2, lr=0.4, steps=1)):
            assert float(score(moved)[0][0]) == pytest.approx(worst, rel=1e-13)


def test_a_separable_hill_is_climbed_to_within_a_step():
    """The maximum over the intersection of ball and box is, coordinate by coordinate, the nearest point to the top."""
    rng = np.random.default_rng(1)
    x, top = rng.random((20, 4)), rng.uniform(-0.3, 1.3, 4)
    hill = QuadraticScore(np.diag(rng.uniform(0.5, 3.0, 4)), top)
    best = np.clip(np.clip(top, x - 0.25, x + 0.25), 0, 1)
    end = pgd(hill, x, x, radius=0.25, lr=0.01, steps=60)
    assert abs(end - best).max() <= 0.01 + 1e-12


def _network(seed=2):
    rng, sizes = np.random.default_rng(seed), (4, 8, 3)
    loss = RowLoss(2 * mlp.init(rng, sizes), rng.integers(0, 3, 30), sizes)
    return loss, rng.random((30, 4)), rng


def test_nobody_leaves_ball_or_box_and_the_loss_rises():
    loss, x, rng = _network()
    start = x + 0.3 * rng.uniform(-1, 1, x.shape)
    path = pgd_path(loss, x, start, radius=0.1, lr=0.02, steps=30)
    assert path.shape == (31, 30, 4) and abs(path - x).max() <= 0.1 + 1e-15
    assert path.min() >= 0 and path.max() <= 1
    values = np.array([loss(point)[0] for point in path])
    assert (values[-1] > loss(x)[0]).all()
    assert np.array_equal(pgd(loss, x, start, radius=0.1, lr=0.02, steps=30), path[-1])


def test_to_first_order_the_loss_rises_by_the_sum_of_slopes():
    """l(x') - l(x) = r |g|_1 + O(r²): at a tenth of the radius a hundredth of the remainder."""
    loss, x, _ = _network(3)
    x = 0.2 + 0.6 * x
    value, g = loss(x)
    rise = lambda r: np.linalg.norm(loss(fgsm(loss, x, radius=r))[0] - value - r * abs(g).sum(1))  # noqa: E731
    assert rise(1e-3) / rise(1e-4) == pytest.approx(100, rel=0.05)


def test_rows_are_attacked_each_for_itself():
    loss, x, _ = _network(4)
    one = pgd(loss.on(slice(7, 8)), x[7:8], x[7:8], radius=0.1, lr=0.02)
    assert np.allclose(pgd(loss, x, x, radius=0.1, lr=0.02)[7], one[0], atol=1e-13, rtol=1e-9)


def test_bad_input():
    score, x = LinearScore(np.ones(2)), np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match="low must be less than high"):
        fgsm(score, x, low=0.5, high=0.5)
    for value in (-0.01, 1.01):
        with pytest.raises(ValueError, match="x must lie between low = 0 and high = 1"):
            pgd(score, np.array([[0.5, value]]), x)
    with pytest.raises(ValueError, match="steps must lie in"):
        pgd(score, x, x, steps=0)
    for returned, error, words in (
        (np.ones(1), TypeError, "a tuple"),
        ((np.ones(2), np.ones((1, 2))), ValueError, r"values of shape \(1,\)"),
        ((1.0, np.ones((1, 2))), TypeError, "the values that"),
        ((np.ones(1), np.ones(2)), ValueError, r"gradients of shape \(1, 2\)"),
        ((np.ones(1), np.ones((1, 2), np.float32)), TypeError, "float32"),
        ((np.ones(1), np.full((1, 2), np.nan)), ValueError, "finite"),
    ):
        with pytest.raises(error, match=words):
            fgsm(lambda x, returned=returned: returned, x)
