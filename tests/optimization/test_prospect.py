"""Prospect: unbiased given its weights, SAGA where they are equal, still at the solution, and linearly convergent."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.optimization.prospect import minibatch_descent, prospect
from trref.optimization.spectral_risk import (
    extremile_spectrum,
    max_oracle,
    robust_objective,
    superquantile_spectrum,
)
from trref.problems.samples import LinearSamples

N, MU = 30, 0.1


def _task(seed, n=N):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    return LinearSamples(X, X @ np.ones(3) + rng.standard_t(3, n)), rng


def _spectrum(n=N):
    return superquantile_spectrum(np.linspace(0, 1, n + 1))


def _solution(samples, spectrum, **how):
    objective = lambda theta: robust_objective(samples, theta, spectrum, l2=MU, **how)  # noqa: E731
    return minimize(objective, np.zeros(3), jac=True, method="BFGS", options={"gtol": 1e-11}).x


def test_one_sample_by_hand():
    """(theta - 3)²/2 from 1: the first direction is the gradient -2, as all terms of the memory cancel."""
    samples = LinearSamples(np.array([[1.0]]), np.array([3.0]))
    path = prospect(samples, np.array([1.0]), np.ones(1), np.array([0, 0]), lr=0.5)
    assert np.allclose(path[:, 0], [1, 2, 2.5])


def test_the_direction_is_unbiased_given_the_weights():
    """Over all samples, the mean step after the same past is that of the full gradient at the remembered weights."""
    samples, rng = _task(0)
    start, past = rng.standard_normal(3), rng.integers(0, N, 12)
    for regulariser in ("gradient", "prox"):
        how = {"lr": 0.01, "shift_cost": 0.2, "l2": MU, "regulariser": regulariser}
        before = prospect(samples, start, _spectrum(), past, **how)
        seen = np.zeros(N, int)
        seen[past] = np.arange(12)  # the point at which each sample was seen last
        losses = np.array([samples.each(before[seen[i]])[0][i] for i in range(N)])
        q = max_oracle(losses, _spectrum(), shift_cost=0.2)
        ends = [prospect(samples, start, _spectrum(), np.r_[past, i], **how)[-1] for i in range(N)]
        theta = before[-1]
        gradient = q @ samples.each(theta)[1]
        if regulariser == "prox":
            wanted = (theta - 0.01 * gradient) / (1 + 0.01 * MU)
        else:
            wanted = theta - 0.01 * (gradient + MU * theta)
        assert np.allclose(np.mean(ends, 0), wanted, rtol=1e-12)


def test_equal_weights_are_saga():
    samples, rng = _task(1)
    order, theta = rng.integers(0, N, 60), np.zeros(3)
    path = prospect(samples, theta, np.full(N, 1 / N), order, lr=0.05)
    memory = samples.each(theta)[1]
    for k, i in enumerate(order):
        fresh = samples.each(theta)[1][i]
        theta = theta - 0.05 * (fresh - memory[i] + memory.mean(0))
        memory[i] = fresh
        assert np.allclose(path[k + 1], theta, rtol=1e-11)


@pytest.mark.parametrize("regulariser", ["gradient", "prox"])
def test_the_solution_is_a_fixed_point(regulariser):
    samples, rng = _task(2)
    solution = _solution(samples, _spectrum())
    # BFGS leaves a gradient of 1e-11 or, at worst, of what rounding of the value allows
    order = rng.integers(0, N, 30)
    path = prospect(samples, solution, _spectrum(), order, lr=0.02, l2=MU, regulariser=regulariser)
    assert abs(path - solution).max() < 1e-6


@pytest.mark.parametrize("penalty", ["chi2", "kl"])
def test_linear_convergence(penalty):
    """The logarithm of the distance falls along a line: over each third of the run by a similar factor."""
    how = {"shift_cost": 0.5, "penalty": penalty}
    for seed in (3, 4):
        samples, rng = _task(seed)
        solution = _solution(samples, _spectrum(), **how)
        order = rng.integers(0, N, 40 * N)
        path = prospect(samples, np.zeros(3), _spectrum(), order, lr=0.01, l2=MU, **how)
        distance = np.linalg.norm(path - solution, axis=1)
        slopes = np.diff(np.log10([distance[k * N] for k in (4, 16, 28, 40)]))
        assert (slopes < -0.4).all() and distance[-1] < 1e-3 * distance[0]


def test_minibatches_are_biased_and_whole_ones_are_not():
    """The expected step of a batch of two is not the gradient of the objective; that of all samples is."""
    samples, rng = _task(5, n=8)
    theta, spectrum = rng.standard_normal(3), _spectrum(8)
    gradient = robust_objective(samples, theta, spectrum, shift_cost=0.1, l2=MU)[1]
    how = {"lr": 1.0, "shift_cost": 0.1, "l2": MU}
    whole = minibatch_descent(samples, theta, spectrum, np.arange(8)[None], **how)
    assert np.allclose(theta - whole[1], gradient)
    pairs = [np.array([[i, j]]) for i in range(8) for j in range(8)]
    steps = [theta - minibatch_descent(samples, theta, _spectrum(2), p, **how)[1] for p in pairs]
    assert np.linalg.norm(np.mean(steps, 0) - gradient) > 0.05 * np.linalg.norm(gradient)


def test_refused():
    samples, _ = _task(6)
    with pytest.raises(ValueError, match="spectrum must have a weight for each of 30 samples, not 4"):
        prospect(samples, np.zeros(3), extremile_spectrum(np.linspace(0, 1, 5)), np.array([0]), lr=0.1)
    with pytest.raises(ValueError, match="order must be less than 30"):
        prospect(samples, np.zeros(3), _spectrum(), np.array([30]), lr=0.1)
    with pytest.raises(ValueError, match="batches must be less than 30"):
        minibatch_descent(samples, np.zeros(3), np.ones(1), np.array([[31]]), lr=0.1)
