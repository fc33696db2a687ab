"""Which step SGD stands near a minimum: the second moments against all batches, and the bounds against them."""

import itertools
import math

import numpy as np
import pytest

from trref.theory.dynamical_stability import (
    alignment,
    critical_step,
    diagonal_trace,
    difference_trace,
    one_step_critical,
    relu_trace,
    second_moment_map,
    step_bounds,
)


def _random(seed, n=6, P=3):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(-1, 1, (n, 1))) * rng.standard_normal((n, P))


@pytest.mark.parametrize(("batch", "replacement"), [(1, True), (3, True), (1, False), (4, False), (6, False)])
def test_one_step_over_all_batches(batch, replacement):
    g, lr, root = _random(0), 0.3, _random(1)
    M = root.T @ root
    draws = itertools.product(range(6), repeat=batch) if replacement else itertools.combinations(range(6), batch)
    moved = []
    for rows in draws:
        step = np.eye(3) - lr * g[list(rows)].T @ g[list(rows)] / batch
        moved.append(step @ M @ step)
    result = second_moment_map(M, g, lr=lr, batch=batch, replacement=replacement)
    assert result == pytest.approx(np.mean(moved, 0), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_moments_stay_below_the_critical_step_and_explode_above(batch):
    g = _random(2)
    critical = critical_step(g, batch=batch)
    norms = {}
    for share in (0.98, 1.02):
        M = np.eye(3)
        for _ in range(2000):
            M = second_moment_map(M, g, lr=share * critical, batch=batch)
        norms[share] = np.trace(M)
    assert norms[0.98] < 1e-3 and norms[1.02] > 1e3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("batch", "replacement"), [(1, True), (4, True), (2, False), (5, False)])
def test_order_of_the_bounds(seed, batch, replacement):
    """One step asks for more, the fourth powers and the trace for less; gradient descent stands more than SGD."""
    g = _random(seed)
    options = {"batch": batch, "replacement": replacement}
    one_step, critical = one_step_critical(g, **options), critical_step(g, **options)
    by_squares, by_trace, descent = step_bounds(g, **options)
    allowed = 1 + 1e-12
    assert one_step <= critical * allowed
    assert critical <= by_squares * allowed and by_squares <= by_trace * allowed
    assert critical <= descent * allowed


def test_a_large_batch_is_gradient_descent():
    g = _random(3)
    descent = step_bounds(g).gradient_descent
    assert critical_step(g, batch=6, replacement=False) == pytest.approx(descent, rel=1e-12)
    assert one_step_critical(g, batch=6, replacement=False) == pytest.approx(descent, rel=1e-12)
    gaps = [1 - critical_step(g, batch=batch) / descent for batch in (100, 200)]
    assert 0 < gaps[1] < 0.6 * gaps[0] < 0.1
    # and exceeds 2 over the trace, which bounds a batch of one only
    assert descent > 2 / (g**2).sum(1).mean()


def test_where_the_trace_decides():
    """Orthogonal gradients of one norm: each step touches one direction, η ‖g‖² ≤ 2; n of one sample: the same."""
    assert critical_step(2.0 * np.eye(4)) == pytest.approx(0.5, rel=1e-13)
    assert step_bounds(2.0 * np.eye(4)).by_trace == 0.5
    one = np.array([[3.0, 4.0]])
    assert critical_step(one) == pytest.approx(2 / 25, rel=1e-13)
    assert one_step_critical(one, replacement=False) == pytest.approx(2 / 25, rel=1e-13)
    assert step_bounds(one) == pytest.approx((2 / 25,) * 3, rel=1e-13)


def test_one_weight_by_hand():
    """g = 1 and 3: G = 5, mean fourth power 41; 1 - 2·5 η + 41 η² ≤ 1 at η = 10/41, in both senses."""
    g = np.array([[1.0], [3.0]])
    assert critical_step(g) == pytest.approx(10 / 41, rel=1e-14)
    assert one_step_critical(g) == pytest.approx(10 / 41, rel=1e-14)


def test_growth_of_the_loss_by_the_noise():
    """Over all draws: E L' is what the mean step leaves, and η² μ ‖G‖² L of the noise."""
    g, lr, d = _random(4), 0.2, np.array([0.5, -1.0, 2.0])
    G = g.T @ g / len(g)
    losses = [(e @ G @ e) / 2 for e in (d - lr * row * (row @ d) for row in g)]
    kept = d - lr * G @ d
    grown = lr**2 * alignment(g, d) * (G**2).sum() * (d @ G @ d) / 2
    assert np.mean(losses) == pytest.approx((kept @ G @ kept) / 2 + grown, rel=1e-12)


def test_traces_by_the_samples_themselves():
    """The gradients of the networks at many normal inputs; the mean of a squared norm has a standard error."""
    rng = np.random.default_rng(6)
    a, W, d = rng.standard_normal(4), rng.standard_normal((4, 3)), 3
    X = rng.standard_normal((40_000, d))
    active = X @ W.T > 0
    by_a, by_W = active * (X @ W.T), (active * a)[:, :, None] * X[:, None]
    squares = (by_a**2).sum(1) + (by_W**2).sum((1, 2))
    assert abs(squares.mean() - relu_trace(a, W).trace) < 4 * squares.std() / math.sqrt(len(X))
    u, v = rng.standard_normal((2, d))
    diagonal = ((v * X) ** 2 + (u * X) ** 2).sum(1)
    assert abs(diagonal.mean() - diagonal_trace(u, v).trace) < 4 * diagonal.std() / math.sqrt(len(X))
    assert difference_trace(u, v).trace == pytest.approx(4 * diagonal_trace(u, v).trace, rel=1e-14)


def test_equal_where_the_page_says():
    a = np.array([1.0, -2.0])
    assert relu_trace(a, np.array([[2.0, 0, 0, 0], [0, 4.0, 0, 0]])) == (20.0, 20.0)
    assert diagonal_trace(a, a[::-1] * [2, 0.5]).trace > diagonal_trace(a, -a).trace == diagonal_trace(a, -a).norm
    assert difference_trace(a, 0 * a) == (20.0, 20.0) and difference_trace(a, a) == (40.0, 0.0)


def test_what_is_refused():
    with pytest.raises(ValueError, match="batch must be at most the 6 rows"):
        critical_step(_random(0), batch=7, replacement=False)
    with pytest.raises(ValueError, match="gradients must not all be 0"):
        critical_step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="displacement must change the output"):
        alignment(np.array([[1.0, 0]]), np.array([0.0, 3]))
