"""What a step does to the training and to the test loss: all training sets of a small population, one by one."""

import itertools

import numpy as np
import pytest

from trref.problems.samples import LogisticSamples, QuadraticSamples, SoftmaxSamples
from trref.theory.sgd_generalization import (
    gap_growth,
    gradient_moments,
    sgd_minus_gd,
    squared_gradient,
    trace_gradient,
)

RNG = np.random.default_rng(5)
POINTS = 5
LOSSES = {
    "logistic": LogisticSamples(RNG.standard_normal((POINTS, 3)), np.array([1.0, -1, 1, 1, -1])),
    "softmax": SoftmaxSamples(RNG.standard_normal((POINTS, 2)), np.array([0, 1, 2, 1, 0]), 3),
    "quadratic": QuadraticSamples(RNG.exponential(1.0, (POINTS, 3)), RNG.standard_normal((POINTS, 3))),
}
THETAS = {name: 0.5 * RNG.standard_normal(6 if name == "softmax" else 3) for name in LOSSES}


def _population_spread(loss, theta):
    gradients = loss.each(theta)[1]
    return ((gradients - gradients.mean(0)) ** 2).sum() / len(gradients)


def _average_over_training_sets(loss, N, f):
    """The mean of ``f(rows)`` over all ordered training sets of N samples, drawn with replacement."""
    values = [f(np.array(rows)) for rows in itertools.product(range(len(loss)), repeat=N)]
    return sum(values) / len(values)


def _as_population(gradients):
    """Rows of which the unbiased trace is the population's: the spread is scaled by n / (n - 1) there."""
    n = len(gradients)
    return gradients.mean(0) + np.sqrt((n - 1) / n) * (gradients - gradients.mean(0))


def test_moments_by_hand():
    """(0, 0), (2, 0), (1, 3): the mean is (1, 1), the squared distances 2, 2 and 4, halved."""
    mean, trace = gradient_moments(np.array([[0.0, 0], [2, 0], [1, 3]]))
    assert mean.tolist() == [1, 1] and trace == 4
    assert squared_gradient(np.array([[0.0, 0], [2, 0], [1, 3]]), train_size=8) == 2 + 0.5
    assert gap_growth(np.array([[0.0, 0], [2, 0], [1, 3]]), lr=0.5, train_size=8) == 0.25


@pytest.mark.parametrize("name", LOSSES)
def test_squared_gradient_of_all_training_sets(name):
    loss, theta, N = LOSSES[name], THETAS[name], 3
    exact = _average_over_training_sets(loss, N, lambda rows: (loss.on(rows)(theta)[1] ** 2).sum())
    stated = squared_gradient(_as_population(loss.each(theta)[1]), train_size=N)
    assert stated == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("part", [3, 1], ids=["whole training set", "one of three samples"])
def test_gap_after_one_step(name, part):
    """Test loss minus training loss over all training sets, less what it was, over η: the rest is of order η."""
    loss, theta, N = LOSSES[name], THETAS[name], 3

    def growth(lr):
        def of(rows):
            train = loss.on(rows)
            moved = theta - lr * loss.on(rows[:part])(theta)[1]
            return (loss(moved)[0] - train(moved)[0]) - (loss(theta)[0] - train(theta)[0])

        return _average_over_training_sets(loss, N, of)

    stated = gap_growth(_as_population(loss.each(theta)[1]), lr=1.0, train_size=N)
    errors = [abs(growth(lr) / lr - stated) for lr in (0.02, 0.01)]
    assert errors[1] < 0.05 * stated
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


@pytest.mark.parametrize("name", LOSSES)
def test_trace_gradient_by_differences(name):
    loss, theta, h = LOSSES[name], THETAS[name], 1e-5
    steps = h * np.eye(len(theta))
    numeric = [(_population_spread(loss, theta + e) - _population_spread(loss, theta - e)) / (2 * h) for e in steps]
    assert trace_gradient(loss, theta) == pytest.approx(np.array(numeric), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("T", [2, 3])
def test_an_epoch_of_sgd_and_gradient_descent(name, T):
    """Over all training sets of T samples, one a batch: the paths differ as stated, up to a third order in η."""
    loss, theta = LOSSES[name], THETAS[name]

    def difference(lr):
        def of(rows):
            sgd = gd = theta
            for i in rows:
                sgd = sgd - lr * loss.on(np.array([i]))(sgd)[1]
                gd = gd - lr * loss.on(rows)(gd)[1]
            return np.append(sgd - gd, loss(sgd)[0] - loss(gd)[0])

        return _average_over_training_sets(loss, T, of)

    lrs = (0.02, 0.01)
    errors = []
    for lr in lrs:
        moved, test_loss = sgd_minus_gd(loss, theta, lr=lr, train_size=T, steps=T)
        errors.append(np.abs(difference(lr) - np.append(moved, test_loss)) / lr**2)
    size = np.abs(np.append(*sgd_minus_gd(loss, theta, lr=1.0, train_size=T, steps=T))).max()
    assert errors[1].max() < 0.25 * size
    assert errors[1].sum() < 0.75 * errors[0].sum()


def test_no_difference_without_a_change_of_the_variance():
    """Noise that is added to one quadratic has the same variance everywhere; one step is one step."""
    equal = QuadraticSamples(np.tile([1.0, 2.0], (4, 1)), RNG.standard_normal((4, 2)))
    assert trace_gradient(equal, np.array([1.0, -1])) == pytest.approx(np.zeros(2), abs=1e-15)
    moved, test_loss = sgd_minus_gd(LOSSES["logistic"], THETAS["logistic"], steps=1)
    assert not moved.any() and test_loss == 0


def test_with_replacement_something_else_holds():
    """Two draws with replacement from a training set of two: only the variance of their sum counts."""
    loss, theta, lr = LOSSES["quadratic"], THETAS["quadratic"], 0.01

    def of(rows):
        gd = theta
        for _ in rows:
            gd = gd - lr * loss.on(rows)(gd)[1]
        ends = []
        for drawn in itertools.product(rows, repeat=2):
            sgd = theta
            for i in drawn:
                sgd = sgd - lr * loss.on(np.array([i]))(sgd)[1]
            ends.append(loss(sgd)[0] - loss(gd)[0])
        return np.mean(ends)

    measured = _average_over_training_sets(loss, 2, of) / lr**2
    # the two draws are the same sample half of the time, as the two gradients of gradient descent are in the mean;
    # given the training set the sum of both has twice its variance, which is C/2 in the mean
    gradients, curvature = loss.each(theta)[1], loss.a.mean(0)
    assert measured == pytest.approx(0.5 * (curvature * gradients.var(0)).sum(), rel=0.05)
    assert measured > 0 and abs(measured - sgd_minus_gd(loss, theta, lr=1.0, train_size=2, steps=2).test_loss) > 0.1
