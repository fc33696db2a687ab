"""Blocks by hand, what each mode leaves alone, ablation, and routing against masking."""

import numpy as np
import pytest

from trref.gradients.selective_gradient_masking import (
    ablate,
    block,
    calibrate,
    masked_objective,
    routed_objective,
)
from trref.nn import mlp
from trref.nn.losses import softmax_cross_entropy
from trref.problems.networks import ClassifierLoss

RESERVED = np.array([0.0, 1.0, 0.0, 1.0])


def _task(seed=0):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(mlp.size((3, 4, 3)))
    return theta, rng.standard_normal((20, 3)), rng.integers(0, 3, 20)


def _own():
    return block(RESERVED, inputs=3, classes=3)


def test_the_block_by_hand():
    """Two inputs, two units of which the second is reserved, one output: W1, b1, W2, b2."""
    assert np.array_equal(block(np.array([0.0, 1.0]), inputs=2, classes=1), [0, 1, 0, 1, 0, 1, 0, 1, 0])


def test_by_default_it_is_the_plain_network():
    theta, X, labels = _task()
    value, gradient = masked_objective(theta, X, labels, RESERVED)
    expected = ClassifierLoss(X, labels, (3, 4, 3))(theta)
    assert value == pytest.approx(float(expected[0]), rel=1e-13) and np.allclose(
        gradient, expected[1], atol=1e-14, rtol=1e-9
    )


def test_forget_data_move_the_block_alone():
    theta, X, labels = _task(1)
    plain = ClassifierLoss(X, labels, (3, 4, 3))(theta)[1]
    gradient = masked_objective(theta, X, labels, RESERVED, mode="forget")[1]
    assert np.array_equal(gradient[_own() == 0], np.zeros(int((_own() == 0).sum())))
    assert np.allclose(gradient[_own() == 1], plain[_own() == 1], atol=1e-14, rtol=1e-9)
    assert abs(plain[_own() == 0]).min() > 0


def test_retain_data_neither_see_nor_move_it():
    theta, X, labels = _task(2)
    value, gradient = masked_objective(theta, X, labels, RESERVED, mode="retain")
    other = np.where(_own() == 1, 17.0, theta)
    assert masked_objective(other, X, labels, RESERVED, mode="retain")[0] == value
    assert not gradient[_own() == 1].any()
    removed = ClassifierLoss(X, labels, (3, 4, 3))(ablate(theta, _own()))
    assert value == pytest.approx(float(removed[0]), rel=1e-13)
    assert np.allclose(gradient[_own() == 0], removed[1][_own() == 0], atol=1e-14, rtol=1e-9)


def test_a_pair_of_networks_that_share_an_output():
    """With forget data through reserved units alone, the two kinds of data share nothing but the output's bias."""
    theta, X, labels = _task(3)
    shared = np.zeros(len(theta))
    shared[-3:] = 1
    gradient = masked_objective(theta, X, labels, RESERVED, mode="reserved alone")[1]
    assert not gradient[(_own() == 0) & (shared == 0)].any() and gradient[-3:].any()


def test_routing_and_masking_agree_before_the_hidden_units():
    """And not behind them: routed, the other units' outgoing weights and the output's bias still learn."""
    theta, X, labels = _task(4)
    routed = routed_objective(theta, X, labels, RESERVED)
    masked = masked_objective(theta, X, labels, RESERVED, mode="forget")
    assert routed[0] == masked[0]
    assert np.allclose(routed[1][:16], masked[1][:16], atol=1e-15, rtol=1e-9)
    rest = (_own() == 0) & (np.arange(len(theta)) >= 16)
    assert abs(routed[1][rest]).min() > 0 and not masked[1][rest].any()


def test_without_reserved_units_forget_data_do_nothing():
    theta, X, labels = _task(5)
    assert not masked_objective(theta, X, labels, 0 * RESERVED, mode="forget")[1].any()


def test_momentum_moves_what_is_masked():
    """A step of the default kind first: then momentum goes on where the masked gradient is 0."""
    theta, X, labels = _task(6)
    velocity = masked_objective(theta, X, labels, RESERVED)[1]
    velocity = 0.9 * velocity + masked_objective(theta, X, labels, RESERVED, mode="forget")[1]
    assert abs(velocity[_own() == 0]).min() > 0
    assert not (_own() * velocity)[_own() == 0].any()


def test_calibration_is_a_weighted_mean():
    rng = np.random.default_rng(7)
    logits, labels, bias = rng.standard_normal((3, 4)), np.array([0, 3, 3]), rng.standard_normal(4)
    value, gradient = calibrate(bias, logits, labels, np.array([1.0, 2.0, 0.0]))
    rows = np.array([0, 1, 1])
    expected, slopes = softmax_cross_entropy(logits[rows] + bias, labels[rows])
    assert value == pytest.approx(float(expected), rel=1e-13) and np.allclose(
        gradient, slopes.sum(0), atol=1e-15, rtol=1e-9
    )


def test_bad_input():
    theta, X, labels = _task()
    with pytest.raises(ValueError, match="theta must be the parameters"):
        masked_objective(theta[:-1], X, labels, RESERVED)
    with pytest.raises(ValueError, match="labels must be less than 3"):
        routed_objective(theta, X, labels + 1, RESERVED)
    with pytest.raises(ValueError, match="weight must not be 0"):
        calibrate(np.zeros(3), np.zeros((20, 3)), labels, np.zeros(20))
