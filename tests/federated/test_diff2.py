"""Telescoping, what one sample can change, the error's law, and the budget against the exact Gaussian one."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from trref.federated.diff2 import (
    clip,
    code_multipliers,
    descent,
    epsilon_of,
    estimator_error,
    noise_multipliers,
    private_difference,
    private_mean,
    rho_of,
)
from trref.problems.samples import LogisticSamples

CLEAN = {"multiplier": 0.0, "difference_multiplier": 0.0}


def _task(seed=0, N=30, P=4):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, P))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return LogisticSamples(X, rng.choice([-1.0, 1.0], N)), rng


def test_clipping_by_hand():
    assert np.allclose(clip(np.array([[3.0, 4.0], [0.3, 0.4]]), bound=1.0), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-9)
    g = np.array([[3.0, 4.0], [0.0, 2.0]])
    assert np.allclose(private_mean(g, np.array([1.0, 0.0]), bound=1.0, multiplier=0.5), [0.3 + 0.5, 0.9], rtol=1e-9)
    d = private_difference(
        g,
        np.array([[0.0, 0.0], [0.0, 1.5]]),
        np.array([0.0, 2.0]),
        np.array([1.0, 0.0]),
        smoothness=0.5,
        multiplier=0.25,
    )
    assert np.allclose(d, [0.3 + 0.25, 0.65], rtol=1e-9)


def test_without_noise_and_clipping_the_differences_telescope():
    samples, rng = _task()
    path = descent(
        samples, rng.standard_normal(4), np.zeros((9, 4)), lr=2.0, restart=5, bound=1.0, smoothness=0.25, **CLEAN
    )
    for x, v in zip(path.points[:-1], path.estimates, strict=True):
        assert np.allclose(v, samples(x)[1], atol=1e-14, rtol=1e-9)


def test_a_mean_in_each_round_is_private_gradient_descent():
    samples, rng = _task(1)
    theta, noise = rng.standard_normal(4), rng.standard_normal((5, 4))
    how = {"bound": 0.5, "smoothness": 0.1, "multiplier": 2.0, "difference_multiplier": 9.0}
    path = descent(samples, theta, noise, lr=0.7, restart=1, **how)
    for xi, x in zip(noise, path.points[1:], strict=True):
        theta = theta - 0.7 * private_mean(samples.each(theta)[1], xi, bound=0.5, multiplier=2.0)
        assert np.allclose(x, theta, atol=1e-14, rtol=1e-9)


def test_what_one_sample_can_change():
    """Any row replaced by any other: at most 2 C/n, and nearly that where the two point against each other."""
    rng = np.random.default_rng(2)
    g, before, move = rng.standard_normal((6, 3)), rng.standard_normal((6, 3)), np.array([0.1, 0.0, 0.2])
    zero, worst = np.zeros(3), 0.0
    for other in (*rng.standard_normal((200, 3)), -100 * g[0]):
        new = np.concatenate([other[None], g[1:]])
        a, b = (private_mean(x, zero, bound=0.4, multiplier=0.0) for x in (g, new))
        worst = max(worst, np.linalg.norm(a - b))
        a, b = (private_difference(x, before, move, zero, smoothness=3.0, multiplier=0.0) for x in (g, new))
        assert np.linalg.norm(a - b) <= 2 * 3 * np.linalg.norm(move) / 6 + 1e-15
    assert worst <= 2 * 0.4 / 6 + 1e-15 and worst == pytest.approx(2 * 0.4 / 6, rel=1e-12)


def test_the_error_by_many_draws():
    """The path itself depends on the noise, so it is held: steps of a given length, gradients that do not change."""
    rng, P, n = np.random.default_rng(3), 5, 12
    moves = np.array([0.0, 0.5, 2.0, 1.0])
    how = {"bound": 0.7, "smoothness": 0.4, "multiplier": 3.0, "difference_multiplier": 5.0}
    expected = estimator_error(moves, dims=P, count=n, restart=3, **how)
    g, errors = np.zeros((n, P)), []
    for _ in range(4000):
        v, row = None, []
        for r, s in enumerate(moves):
            xi = rng.standard_normal(P)
            if r % 3 == 0:
                v = private_mean.unchecked(g, xi, bound=0.7, multiplier=3.0)
            else:
                move = np.array([s, 0, 0, 0, 0])
                v = v + private_difference.unchecked(g, g, move, xi, smoothness=0.4, multiplier=5.0)
            row.append(v @ v)
        errors.append(row)
    errors = np.array(errors)
    assert (abs(errors.mean(0) - expected) < 4.5 * errors.std(0) / np.sqrt(4000)).all()


def test_the_budget():
    rho = 100 / (2 * 20.0**2)
    assert epsilon_of(np.array([rho]), delta=1e-5)[0] == pytest.approx(2.52426, abs=1e-5)
    best = minimize_scalar(lambda a: rho * a + math.log(1e5) / (a - 1), bounds=(1.01, 200), method="bounded")
    assert epsilon_of(np.array([rho]), delta=1e-5)[0] == pytest.approx(best.fun, rel=1e-8)
    epsilons = np.array([0.1, 1.0, 3.0, 10.0])
    assert np.allclose(epsilon_of(rho_of(epsilons, delta=1e-5), delta=1e-5), epsilons, rtol=1e-13)
    z = noise_multipliers(np.array([0.3]), restarts=5, differences=40, share=0.8)
    assert 5 / (2 * z.mean**2) + 40 / (2 * z.difference**2) == pytest.approx(0.3)


def test_it_is_more_than_the_exact_gaussian_needs():
    """A Gaussian whose mean moves by sqrt(2 rho) standard deviations; its exact delta is smaller."""
    for epsilon in (1.0, 3.0):
        mu = math.sqrt(2 * float(rho_of(np.array([epsilon]), delta=1e-5)[0]))
        exact = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
        assert 1e-8 < exact < 1e-5


def test_the_code_spends_a_little_less_well():
    """Its multipliers are those of a budget of epsilon/(2 alpha), 1 to 8 % below the best."""
    for epsilon in (1.0, 3.0, 5.0):
        alpha = 1 + math.ceil(2 * math.log(1e5) / epsilon)
        spent = epsilon / (2 * alpha)
        theirs = code_multipliers(np.array([epsilon]), delta=1e-5, restarts=10, rounds=200)
        ours = noise_multipliers(np.array([spent]), restarts=10, differences=200, share=0.8)
        assert np.allclose(theirs.mean, ours.mean, rtol=1e-9) and np.allclose(
            theirs.difference, ours.difference, rtol=1e-9
        )
        assert 1.005 < float(rho_of(np.array([epsilon]), delta=1e-5)[0]) / spent < 1.09


def test_bad_input():
    with pytest.raises(ValueError, match="bound must"):
        clip(np.ones((1, 2)), bound=0.0)
    with pytest.raises(ValueError, match="delta must"):
        rho_of(np.ones(1), delta=1.0)
