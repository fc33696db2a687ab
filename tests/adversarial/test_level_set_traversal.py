"""Walks on a hyperplane in closed form, second-order drift, and the nearest point of an ellipsoid."""

import numpy as np
import pytest
from scipy import optimize

from trref.adversarial.level_set_traversal import (
    distances,
    orthogonal_component,
    path_width,
    segment_confidence,
    traverse,
    triangle_confidence,
)
from trref.nn import mlp
from trref.problems.rows import LinearScore, QuadraticScore, RowLoss


def test_numbers_by_hand():
    v = orthogonal_component(np.array([[2.0, 1.0]]), np.array([[3.0, 0.0]]))
    assert np.array_equal(v, [[0.0, 1.0]])
    rms, largest = distances(np.array([[0.0, 1.0]]), np.array([[0.6, 0.2]]))
    assert rms == pytest.approx([np.sqrt(0.5)]) and largest == pytest.approx([0.8])


def test_what_is_left_is_across_and_no_longer():
    v, g = np.random.default_rng(0).standard_normal((2, 6, 5))
    left = orthogonal_component(v, g)
    assert np.allclose((left * g).sum(1), 0, atol=1e-14, rtol=1e-9)
    assert (np.linalg.norm(left, axis=1) <= np.linalg.norm(v, axis=1)).all()
    along = (v * g).sum(1, keepdims=True) / (g * g).sum(1, keepdims=True) * g
    assert np.allclose(left + along, v, rtol=1e-13)


def test_of_a_linear_logit_the_walk_ends_at_the_nearest_point_of_the_level_set():
    """The error is (1 - lr) times smaller at each step; the logit never changes; the distance is to the hyperplane."""
    rng = np.random.default_rng(1)
    theta = rng.standard_normal(10)  # 4 x 2 weights, 2 biases
    loss = RowLoss(theta, np.array([0]), (4, 2))
    x, target = rng.standard_normal((2, 1, 4))
    walk = traverse(loss, x, target, lr=0.1, correction=0.0, steps=60, delta=0.5, low=-9.0, high=9.0)
    w = theta[:8].reshape(4, 2)
    g = w[:, 1] - w[:, 0]
    nearest = target - ((target - x) @ g)[:, None] * g / (g @ g)
    off = np.linalg.norm(walk.path[:, 0] - nearest, axis=1)
    assert np.allclose(off[1:] / off[:-1], 0.9, rtol=1e-9)
    assert np.allclose(walk.confidence, walk.confidence[0], rtol=1e-12)
    assert np.linalg.norm(nearest - target) == pytest.approx(abs((target - x) @ g)[0] / np.linalg.norm(g))


def _network(seed=2, N=5):
    rng, sizes = np.random.default_rng(seed), (4, 8, 3)
    theta, x = 1.5 * mlp.init(rng, sizes), 0.3 + 0.4 * rng.random((N, 4))
    loss = RowLoss(theta, mlp.forward(theta, x, sizes)[0].argmax(1), sizes)
    return loss, x, 0.2 + 0.6 * rng.random((N, 4))


def test_without_correction_the_loss_changes_to_second_order():
    """Half the step, a quarter of the change."""
    loss, x, target = _network()
    change = [
        abs(loss(traverse(loss, x, target, lr=lr, correction=0.0, steps=1).path[1])[0] - loss(x)[0])
        for lr in (0.02, 0.01)
    ]
    assert np.allclose(change[0] / change[1], 4, rtol=0.1)


def test_no_more_than_delta_is_lost_and_nobody_leaves_the_box():
    loss, x, target = _network(3)
    for how in ("stop", "reject"):
        walk = traverse(loss, x, target, lr=0.2, delta=0.01, correction=0.0, steps=40, on_violation=how)
        assert (walk.confidence >= walk.confidence[0] - 0.01).all()
        assert walk.path.min() >= 0 and walk.path.max() <= 1
        assert np.allclose(walk.confidence, [np.exp(-loss(p)[0]) for p in walk.path], rtol=1e-12)


def test_with_a_negative_delta_nobody_moves():
    loss, x, target = _network(4)
    walk = traverse(loss, x, target, delta=-1.0, steps=3)
    assert np.array_equal(walk.path, np.stack([x] * 4))


def test_the_correction_climbs_back():
    """On a bent level set the walk loses less with it."""
    loss, x, target = _network(5)
    ends = [traverse(loss, x, target, lr=0.1, correction=c, steps=60, delta=0.9).confidence[-1] for c in (0.0, 0.005)]
    assert (ends[1] > ends[0]).all()


def test_an_ellipsoid():
    """Nobody comes nearer to the target than the nearest point of the level set; small steps nearly do."""
    hill = QuadraticScore(-np.diag([1.0, 4.0, 0.5]), np.zeros(3))  # a loss of x A x / 2
    x, target = np.array([[0.5, 0.2, 0.3]]), np.array([[0.1, 0.4, 0.8]])
    walk = traverse(hill, x, target, lr=0.01, correction=0.0, steps=800, delta=1.0)
    level = float(hill(walk.path[-1])[0][0])
    nearest = optimize.minimize(
        lambda y: ((y - target[0]) ** 2).sum(),
        x[0],
        constraints={"type": "eq", "fun": lambda y: float(hill(y[None])[0][0]) - level},
    )
    reached = ((walk.path[-1] - target) ** 2).sum()
    assert nearest.fun * (1 - 1e-6) <= reached < 1.01 * nearest.fun + 1e-5


def test_a_saturated_row_walks_straight():
    walk = traverse(LinearScore(np.zeros(2)), np.zeros((1, 2)), np.ones((1, 2)), lr=0.5, correction=0.0, steps=2)
    assert np.allclose(walk.path[:, 0, 0], [0, 0.5, 0.75], rtol=1e-9)


def test_figures_of_a_linear_loss_by_hand():
    """Confidence exp(-x) along an edge: of the grid 0, 1/2, 1, and of the six points of the triangle."""
    loss, x = LinearScore(np.array([1.0, 0.0])), np.zeros((1, 2))
    e = np.exp([0.0, -0.5, -1.0])
    along = segment_confidence(loss, x, np.array([[1.0, 0.0]]), points=2, delta=0.5)
    assert along.mean == pytest.approx([e.mean()]) and along.lowest == pytest.approx([e[2]])
    assert along.share == pytest.approx([2 / 3])
    over = triangle_confidence(loss, x, np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), points=2, delta=0.0)
    assert over.mean == pytest.approx([(3 * e[0] + 2 * e[1] + e[2]) / 6])
    assert over.share[0] == 0  # strictly: not even the source counts


def test_the_triangle_with_its_ends_at_the_source_is_the_source():
    loss, x, _ = _network(6)
    over = triangle_confidence(loss, x, x, x)
    assert np.allclose(over.mean, np.exp(-loss(x)[0]), rtol=1e-9) and (over.share == 1).all()


def test_beside_the_way():
    """In the plane the only directions are up and down; at a radius of 0 all is as on the way."""
    loss, x = LinearScore(np.array([0.0, 1.0])), np.zeros((1, 2))
    noise = np.random.default_rng(7).standard_normal((400, 1, 2))
    width = path_width(loss, x, np.array([[2.0, 0.0]]), noise, radius=0.3)
    assert width.low == pytest.approx([np.exp(-0.3)]) and width.high == pytest.approx([np.exp(0.3)])
    still = path_width(loss, x, np.array([[2.0, 0.0]]), noise, radius=0.0)
    assert still.low == still.high == pytest.approx([1.0])


def test_bad_input():
    with pytest.raises(ValueError, match="low must be less than high"):
        traverse(LinearScore(np.ones(1)), np.zeros((1, 1)), np.zeros((1, 1)), low=1.0, high=1.0)
    with pytest.raises(ValueError, match="x must lie between"):
        traverse(LinearScore(np.ones(1)), np.array([[2.0]]), np.zeros((1, 1)))
