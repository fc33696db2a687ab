"""Losses of samples: each against differences, the mean against the mean of each."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.problems.convex import Logistic
from trref.problems.networks import random_classifier
from trref.problems.samples import LinearSamples, LogisticSamples, QuadraticSamples, SoftmaxSamples


def _rng(seed=0):
    return np.random.default_rng(seed)


def _all(rng):
    X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    return {
        "linear": (LinearSamples(X, y, 0.3), 3),
        "logistic": (LogisticSamples(X, np.sign(y), 0.1), 3),
        "softmax": (SoftmaxSamples(X, rng.integers(0, 4, 7), 4, 0.2), 12),
        "quadratic": (QuadraticSamples(rng.random((7, 3)), rng.standard_normal((7, 3))), 3),
    }


KINDS = ("linear", "logistic", "softmax", "quadratic")


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_by_differences(kind):
    rng = _rng(1)
    samples, P = _all(rng)[kind]
    theta, V, h = rng.standard_normal(P), rng.standard_normal((7, P)), 1e-6
    _, gradients = samples.each(theta)
    for i in range(len(samples)):
        check_gradient(lambda t, i=i: samples.each(t)[0][i], theta, gradients[i], rng=rng)
    product = samples.each_product(theta, V)
    for i in range(len(samples)):
        ahead, behind = (samples.each(theta + s * V[i])[1][i] for s in (h, -h))
        assert np.allclose(product[i], (ahead - behind) / (2 * h), atol=1e-7, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_that_of_each(kind):
    rng = _rng(2)
    samples, P = _all(rng)[kind]
    theta, v = rng.standard_normal(P), rng.standard_normal(P)
    losses, gradients = samples.each(theta)
    value, gradient = samples(theta)
    assert value == pytest.approx(losses.mean(), rel=1e-13)
    assert np.allclose(gradient, gradients.mean(0), atol=1e-14, rtol=1e-9)
    product = samples.each_product(theta, np.tile(v, (7, 1)))
    assert np.allclose(samples.hessian_product(theta, v), product.mean(0), atol=1e-14, rtol=1e-9)
    rows = np.array([5, 0])
    assert len(samples.on(rows)) == 2
    assert np.allclose(samples.on(rows).each(theta)[1], gradients[rows], atol=1e-15, rtol=1e-9)
    with pytest.raises(ValueError, match="theta must have shape"):
        samples(theta[1:])


def test_logistic_is_the_convex_problem_and_softmax_of_two_classes_too():
    rng = _rng(3)
    X, y, theta = rng.standard_normal((6, 3)), np.sign(rng.standard_normal(6)), rng.standard_normal(3)
    value, gradient = LogisticSamples(X, y, 0.1)(theta)
    expected = Logistic(X, y, 0.1)(theta)
    assert value == pytest.approx(expected[0], rel=1e-13) and np.allclose(gradient, expected[1], atol=1e-14, rtol=1e-9)
    two = SoftmaxSamples(X, (y > 0).astype(int), 2)(np.stack([0 * theta, theta], 1).ravel())
    assert two[0] == pytest.approx(LogisticSamples(X, y)(theta)[0], rel=1e-13)


def test_least_squares_in_closed_form():
    rng = _rng(4)
    X, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    assert np.allclose(LinearSamples(X, y)(best)[1], 0, atol=1e-14, rtol=1e-9)


def test_a_network_knows_each_sample():
    rng = _rng(5)
    loss = random_classifier(rng, points=6)
    theta = rng.standard_normal(31)
    losses, gradients = loss.each(theta)
    for i in range(len(loss)):
        value, gradient = loss.on(np.array([i]))(theta)
        assert losses[i] == pytest.approx(value, rel=1e-12) and np.allclose(
            gradients[i], gradient, atol=1e-13, rtol=1e-9
        )


@pytest.mark.parametrize("kind", KINDS)
def test_strict_device(kind):
    samples, P = _all(_rng(6))[kind]
    theta, V = _rng(7).standard_normal(P), _rng(8).standard_normal((7, P))

    def everything(samples, theta, V):
        parts = (samples(theta), samples.each(theta), samples.each_product(theta, V))
        return (*parts, samples.hessian_product(theta, V[0]), samples.on(slice(2))(theta))

    same_on_strict(everything, samples, theta, V)


def test_extremes():
    f = LogisticSamples(np.array([[1.0]]), np.array([-1.0]))
    assert f(np.array([900.0]))[0] == 900.0 and f(np.array([-900.0]))[0] == 0.0
