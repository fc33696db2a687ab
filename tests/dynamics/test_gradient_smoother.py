"""The smoother: numbers by hand, derivatives of the posterior, and pull-backs against differences."""

import numpy as np
import pytest

from trref.dynamics.gradient_smoother import in_units, likelihood, smoother, weighed_smoother


def _case(seed, n=12):
    rng = np.random.default_rng(seed)
    t, y = np.cumsum(rng.uniform(0.2, 0.8, n)), rng.standard_normal(n)
    return t, y, rng.uniform(t[0], t[-1], 7), *(np.array(v) for v in (0.2, 0.3, -1.0) + 0.1 * rng.standard_normal(3))


def test_numbers_by_hand():
    """One observation 2 at 0, length 1, signal 1, noise 1: C = 2, a = 1."""
    one = np.array(0.0), np.array(0.0), np.array(0.0)
    mean, slope, variance = smoother(np.zeros(1), np.array([2.0]), np.array([0.0, 1.0]), *one)
    e = np.exp(-0.5)
    assert mean == pytest.approx([1.0, e]) and slope == pytest.approx([0.0, -e])
    assert variance == pytest.approx([1.0, 1 - e * e / 2])
    value, gradient = likelihood(np.zeros(1), np.array([2.0]), *one)
    # log 2 + 4/2; tr[(1/2 - 1) dC] with dC = 0, 2, 2
    assert value == pytest.approx(np.log(2) + 2) and gradient == pytest.approx((0, -1, -1))


@pytest.mark.parametrize("seed", range(4))
def test_slopes_are_those_of_the_mean(seed):
    t, y, t2, *hyper = _case(seed)
    h = 1e-4
    up, down = (smoother(t, y, t2 + s, *hyper).mean for s in (h, -h))
    # error h²/6 of a third derivative below 10² / length³
    assert smoother(t, y, t2, *hyper).slope == pytest.approx((up - down) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_variance_is_that_of_a_difference(seed):
    """Of the posterior covariance: Var[(x(s + h) - x(s)) / h] tends to it as h does to 0."""
    t, y, t2, *hyper = _case(seed)
    length, signal, noise = np.exp(hyper)

    def k(a, b):
        return signal**2 * np.exp(-((a[:, None] - b) ** 2) / (2 * length**2))

    h, C = 1e-3, k(t, t) + noise**2 * np.eye(len(t))
    pair = np.concatenate([t2 - h, t2 + h])
    covariance = k(pair, pair) - k(pair, t) @ np.linalg.solve(C, k(t, pair))
    m = len(t2)
    difference = np.diag(covariance[:m, :m]) + np.diag(covariance[m:, m:]) - 2 * np.diag(covariance[:m, m:])
    assert smoother(t, y, t2, *hyper).slope_variance == pytest.approx(difference / (2 * h) ** 2, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_pull_back_against_differences(seed):
    """Each weight alone: the gradient is the slope of that entry."""
    t, y, t2, *hyper = _case(seed, n=6)
    h = 1e-5
    for part in range(3):
        for m in (0, 3):
            weights = np.zeros((3, len(t2)))
            weights[part, m] = 1
            value, gradient = weighed_smoother(t, y, t2, *hyper, *weights)
            assert value == pytest.approx(smoother(t, y, t2, *hyper)[part][m], rel=1e-12)
            for p in range(3):
                moved = [[q + s * h * (i == p) for i, q in enumerate(hyper)] for s in (1, -1)]
                up, down = (smoother(t, y, t2, *map(np.array, at))[part][m] for at in moved)
                assert gradient[p] == pytest.approx((up - down) / (2 * h), abs=1e-6)


def test_dense_data_without_noise():
    """A sine seen every tenth: mean and slope are those of the sine, and known well."""
    t = np.linspace(0, 6, 61)
    mean, slope, variance = smoother(t, np.sin(t), t[10:50] + 0.05, *map(np.array, (0.0, 0.0, -5.0)))
    assert mean == pytest.approx(np.sin(t[10:50] + 0.05), abs=1e-3)
    assert slope == pytest.approx(np.cos(t[10:50] + 0.05), abs=1e-2)
    assert variance.max() < 1e-3


def test_units():
    """Times in hours and in minutes: the slope is 60 times as small, its variance 3600 times."""
    t, y, t2, length, signal, noise = _case(5)
    hours = smoother(t, y, t2, length, signal, noise)
    minutes = smoother(60 * t, y, 60 * t2, np.array(length + np.log(60)), signal, noise)
    slope, variance = in_units(hours.slope, hours.slope_variance, ratio=1 / 60)
    assert slope == pytest.approx(minutes.slope, rel=1e-9, abs=1e-12)
    assert variance == pytest.approx(minutes.slope_variance, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"y": np.full(12, 1e5)}, "y"), ({"log_noise": np.array(-6.0)}, "log_noise"), ({"t": np.arange(12) * 1e4}, "t")],
)
def test_beyond_what_it_can(change, name):
    t, y, t2, length, signal, noise = _case(0)
    given = {"t": t, "y": y, "t2": t2, "log_length": length, "log_signal": signal, "log_noise": noise}
    with pytest.raises(ValueError, match=name):
        smoother(**given | change)
