"""Points of regions by hand, that they stay in ball and range, and the two kinds of training at the ends."""

import numpy as np
import pytest
from scipy import special

from trref.adversarial.pgd import pgd, pgd_path
from trref.adversarial.regional_adversarial_training import (
    box_point,
    distance_share,
    hull_point,
    rat_objective,
    segment_point,
    smoothed_labels,
    soft_cross_entropy,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss
from trref.problems.rows import RowLoss


def test_numbers_by_hand():
    vertices = np.array([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
    assert np.allclose(hull_point(vertices, np.array([[0.5, 0.25, 0.25]])), [[0.5, 0.75]], rtol=1e-9)
    assert np.allclose(box_point(vertices, np.array([[0.25, 1.0]])), [[0.25, 1.0]], rtol=1e-9)
    x, end = np.array([[0.0, 1.0]]), np.array([[0.2, 0.6]])
    assert np.allclose(segment_point(x, end, np.array([0.5]), least=0.5), [[0.15, 0.7]], rtol=1e-9)
    assert distance_share(end, x, radius=0.5) == pytest.approx([0.8])
    t = smoothed_labels(np.array([0.5]), np.array([1]), classes=4, most=0.4, power=2.0)
    assert np.allclose(t, [[0.025, 0.925, 0.025, 0.025]], rtol=1e-9)


def test_the_cross_entropy_with_scipy():
    rng = np.random.default_rng(0)
    z, t = rng.standard_normal((6, 4)), rng.dirichlet(np.ones(4), 6)
    expected = -(t * special.log_softmax(z, 1)).sum(1).mean()
    value, gradient = soft_cross_entropy(z, t)
    assert value == pytest.approx(expected)
    assert np.allclose(gradient, (special.softmax(z, 1) - t) / 6, rtol=1e-9)


def _attack(seed=1, N=20):
    rng, sizes = np.random.default_rng(seed), (4, 8, 3)
    theta, x, y = 2 * mlp.init(rng, sizes), rng.random((N, 4)), rng.integers(0, 3, N)
    loss = RowLoss(theta, y, sizes)
    path = pgd_path(loss, x, x + 0.2 * rng.uniform(-1, 1, x.shape), radius=0.2, lr=0.07, steps=5)
    return rng, theta, x, y, sizes, path


def test_no_point_leaves_ball_or_range():
    rng, _, x, _, _, path = _attack()
    points = [hull_point(path, rng.dirichlet(np.full(6, c), 20)) for c in (0.1, 1.0, 10.0)]
    points += [box_point(path, rng.random(x.shape)), segment_point(x, path[-1], rng.random(20))]
    for p in points:
        assert abs(p - x).max() <= 0.2 + 1e-15 and p.min() >= 0 and p.max() <= 1
        assert distance_share(p, x, radius=0.2).max() <= 1


def test_targets_are_probabilities_and_keep_their_class():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 5, 30)
    t = smoothed_labels(rng.random(30), y, classes=5, most=0.9)
    assert np.allclose(t.sum(1), 1, rtol=1e-9) and np.array_equal(t.argmax(1), y)
    assert np.array_equal(smoothed_labels(np.zeros(30), y, classes=5), np.eye(5)[y])


def test_the_last_corner_is_adversarial_training_and_the_input_plain_training():
    _, theta, x, y, sizes, path = _attack(3)
    last, clean = np.eye(7)[[5] * 20], np.eye(7)[[6] * 20]
    corners = np.concatenate([path, x[None]])
    hard = smoothed_labels(distance_share(path[-1], x, radius=0.2), y, classes=3, most=0.0)
    loss = ClassifierLoss(x, y, sizes)
    start = path[0]
    end = pgd(RowLoss(theta, y, sizes), x, start, radius=0.2, lr=0.07, steps=5)
    for weights, at in ((last, end), (clean, x)):
        value, gradient = rat_objective(loss.at(hull_point(corners, weights)), theta, hard)
        expected, slope = loss.at(at)(theta)
        assert value == pytest.approx(expected, rel=1e-12) and np.allclose(gradient, slope, rtol=1e-9, atol=1e-14)


def test_one_sign_step_is_the_worst_point_of_logistic_regression():
    """log(1 + exp(-y w x + r |w|_1)): the loss at the end of the path, and no larger one within the region."""
    rng = np.random.default_rng(4)
    w = rng.standard_normal(5)
    theta = np.concatenate([np.column_stack([-w / 2, w / 2]).ravel(), [0.0, 0.0]])
    x, y = rng.uniform(0.3, 0.7, (1, 5)), np.array([1])
    path = pgd_path(RowLoss(theta, y, (5, 2)), x, x, radius=0.1, lr=0.2, steps=1)
    value = lambda p: RowLoss(theta, y, (5, 2))(p)[0][0]  # noqa: E731
    worst = np.log1p(np.exp(-x[0] @ w + 0.1 * abs(w).sum()))
    assert value(path[-1]) == pytest.approx(worst, rel=1e-12)
    assert all(value(hull_point(path, rng.dirichlet(np.ones(2), 1))) <= worst for _ in range(20))


def test_bad_input():
    with pytest.raises(ValueError, match="labels"):
        smoothed_labels(np.ones(1), np.array([3]), classes=3)
    with pytest.raises(ValueError, match="weights must be non-negative"):
        hull_point(np.ones((2, 1, 1)), np.array([[0.5, 0.6]]))
    with pytest.raises(TypeError, match=r"logits\(\)"):
        rat_objective(lambda theta: theta, np.ones(1), np.ones((1, 1)))
    network = ClassifierLoss(np.ones((2, 1)), np.array([0, 1]), (1, 2))
    with pytest.raises(ValueError, match="network must have logits of the shape of targets"):
        rat_objective(network, np.ones(4), np.ones((1, 1)))
