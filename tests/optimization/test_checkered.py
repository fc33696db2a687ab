"""Checkered regression: the product of tangents, one decision, symmetries, and the convolution by transforms."""

import numpy as np
import pytest

from trref.nn.losses import softmax_cross_entropy
from trref.optimization.checkered import (
    checkoid_loss,
    cross_checkoid_loss,
    multiclass_checkoid_loss,
    outcome_weights,
)


def _even(z):
    return (1 + np.tanh(z / 2).prod(-1)) / 2


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_the_product_of_tangents(m):
    rng = np.random.default_rng(m)
    z, labels = 2 * rng.standard_normal((40, m)), rng.integers(0, 2, 40) * 1.0
    value, gradient = checkoid_loss(z, labels)
    p = np.where(labels > 0, 1 - _even(z), _even(z))
    assert value == pytest.approx(-np.log(p).mean(), rel=1e-9)
    for k in range(m):
        others = _even(np.delete(z, k, 1))
        own = np.where(labels > 0, 1 - others, others)
        assert np.allclose(gradient[:, k], _sigmoid(z[:, k]) * (1 - own / p) / 40, rtol=1e-6, atol=1e-12)


def test_one_decision():
    """Logistic regression, and softmax regression."""
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((9, 1)), rng.integers(0, 2, 9) * 1.0
    value, gradient = checkoid_loss(z, labels)
    assert value == pytest.approx(np.logaddexp(0, (2 * labels - 1) * z[:, 0]).mean())
    assert np.allclose(gradient[:, 0], (_sigmoid(z[:, 0]) - 1 + labels) / 9)
    Z, classes = rng.standard_normal((9, 1, 4)), rng.integers(0, 4, 9)
    ours, theirs = multiclass_checkoid_loss(Z, classes), softmax_cross_entropy(Z[:, 0], classes)
    assert ours[0] == pytest.approx(theirs[0]) and np.allclose(ours[1][:, 0], theirs[1])


def test_two_outcomes_are_parities():
    rng = np.random.default_rng(1)
    z, labels = rng.standard_normal((7, 3)), rng.integers(0, 2, 7)
    binary = checkoid_loss(z, labels * 1.0)
    many = multiclass_checkoid_loss(np.stack([z, 0 * z], -1), labels)
    assert binary[0] == pytest.approx(many[0]) and np.allclose(binary[1], many[1][..., 0])


def test_symmetries():
    """One sign flipped exchanges the classes; two together do nothing; the closed form of two decisions."""
    rng = np.random.default_rng(2)
    z, labels = rng.standard_normal((20, 3)), rng.integers(0, 2, 20) * 1.0
    flipped = checkoid_loss(z * [1, -1, 1], 1 - labels)
    value, gradient = checkoid_loss(z, labels)
    assert flipped[0] == pytest.approx(value) and np.allclose(flipped[1] * [1, -1, 1], gradient)
    pair = z[:, :2].copy()
    even = _sigmoid(pair).prod(1) / _sigmoid(pair.sum(1))
    assert checkoid_loss(pair, np.zeros(20))[0] == pytest.approx(-np.log(even).mean())
    a, b = pair.T
    xor = _sigmoid(a) * _sigmoid(-b) + _sigmoid(-a) * _sigmoid(b)
    assert checkoid_loss(pair, np.ones(20))[0] == pytest.approx(-np.log(xor).mean())


def test_convolution_by_fourier_transforms():
    rng = np.random.default_rng(3)
    Z, labels = rng.standard_normal((8, 4, 5)), rng.integers(0, 5, 8)
    s = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
    p = np.fft.ifft(np.fft.fft(s).prod(1)).real[np.arange(8), labels]
    assert multiclass_checkoid_loss(Z, labels)[0] == pytest.approx(-np.log(p).mean())
    total = sum(np.exp(-8 * multiclass_checkoid_loss(Z[:1].repeat(8, 0), np.full(8, y))[0] / 8) for y in range(5))
    assert total == pytest.approx(1), "the classes' probabilities sum to 1"


def test_what_is_nearly_impossible_is_no_rounding():
    """Two decisions of 60 are odd with a probability of 2 exp(-60): a loss of 60 - log 2."""
    value, gradient = checkoid_loss(np.array([[60.0, 60.0]]), np.ones(1))
    assert value == pytest.approx(60 - np.log(2)) and np.allclose(gradient, 0.5)


def test_cross_gradients():
    """Seen from the point itself it is the gradient; its loss is above by a divergence that is 0 there."""
    rng = np.random.default_rng(4)
    Z, labels = rng.standard_normal((6, 3, 4)), rng.integers(0, 4, 6)
    w = outcome_weights(Z, labels)
    assert np.allclose(w.sum(-1), 1) and np.allclose(
        cross_checkoid_loss(Z, w)[1], multiclass_checkoid_loss(Z, labels)[1]
    )
    # convex: the tangent is below, at other points
    value, gradient = cross_checkoid_loss(Z, w)
    for _ in range(100):
        other = Z + rng.standard_normal(Z.shape)
        assert cross_checkoid_loss(other, w)[0] >= value + (gradient * (other - Z)).sum() - 1e-12


def test_nothing_moves_from_zero():
    labels = np.array([0, 1, 2])
    assert np.allclose(multiclass_checkoid_loss(np.zeros((3, 2, 3)), labels)[1], 0, atol=1e-16)
    assert not np.allclose(multiclass_checkoid_loss(np.zeros((3, 1, 3)), labels)[1], 0)


def test_refused():
    with pytest.raises(ValueError, match="labels must be less than 3"):
        multiclass_checkoid_loss(np.zeros((1, 2, 3)), np.array([3]))
    with pytest.raises(ValueError, match="labels must hold only 0 and 1"):
        checkoid_loss(np.zeros((1, 2)), np.array([0.5]))
