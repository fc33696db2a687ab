"""The bounds on random problems, the exact identity behind them, the best weights, shapes, and medians by SciPy."""

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.optimize import minimize

from trref.optimizers.schedule_refinement import (
    last_iterate_bound,
    learner_steps,
    optimal_weights,
    refined_schedule,
    smooth_norms,
    stepsizes_from_weights,
    usual_schedule,
)


def test_steps_by_hand():
    """Weights 1, 2, 1: sums 4; 1 · 3/4, 2 · 1/4, and 0."""
    weights = np.array([1.0, 2.0, 1.0])
    assert np.allclose(stepsizes_from_weights(weights), [0.75, 0.5, 0.0], rtol=1e-15)
    assert np.allclose(learner_steps(weights), [0.75, 0.25, 0.0], rtol=1e-15)
    assert np.allclose(stepsizes_from_weights(np.ones(8)), 1 - np.arange(1, 9) / 8, rtol=1e-15)


def _absolute(rng, d=4, n=9):
    """Mean absolute error, and a subgradient."""
    A, b = rng.standard_normal((n, d)), rng.standard_normal(n)

    def f(x):
        r = A @ x - b
        return abs(r).sum() / n, A.T @ np.sign(r) / n

    return f, rng.standard_normal(d)


@pytest.mark.parametrize("seed", range(100))
def test_no_last_iterate_is_beyond_the_bound(seed):
    """For any weights and any point to compare with."""
    rng = np.random.default_rng(seed)
    f, x = _absolute(rng)
    weights, start, norms = 10.0 ** rng.uniform(-2, 1, 12), x, []
    for step in stepsizes_from_weights(weights):
        value, g = f(x)
        norms.append(np.linalg.norm(g))
        x = x - step * g
    for u in start + rng.standard_normal((20, 4)):
        bound = last_iterate_bound(weights, np.array(norms), distance=float(np.linalg.norm(start - u)))[0]
        assert value - f(u)[0] <= bound * (1 + 1e-9), "x_T is where the last gradient is taken"


def test_the_exact_identity():
    """The gap is the weighted regret less Bregman divergences, for a smooth convex function and any learner."""
    rng, T = np.random.default_rng(1), 9
    A, b = rng.standard_normal((6, 3)), rng.standard_normal(6)
    f = lambda x: (np.logaddexp(0, A @ x - b).sum(), A.T @ (1 / (1 + np.exp(b - A @ x))))  # noqa: E731
    w, u, z = rng.uniform(0.2, 2, T), rng.standard_normal(3), [rng.standard_normal(3)]
    x, shares, g = [z[0]], learner_steps(w), []
    for t in range(T):
        g.append(f(x[t])[1])
        z.append(z[t] - w[t] * rng.uniform(0.1, 0.3) * g[t])
        x.append(x[t] + shares[t] * (z[t + 1] - z[t]))
    total = np.cumsum(w)
    mean = [np.average(z[: t + 1], axis=0, weights=w[: t + 1]) for t in range(T)]
    bregman = lambda p, q: f(p)[0] - f(q)[0] - f(q)[1] @ (p - q)  # noqa: E731
    for t in range(T):
        assert np.allclose(x[t], (1 - shares[t]) * mean[t] + shares[t] * z[t], atol=1e-13, rtol=1e-9)
    regret = sum(w[t] * g[t] @ (z[t] - u) for t in range(T))
    lost = sum(
        w[t] / shares[t] * (bregman(x[t], mean[t]) + (1 - shares[t]) * bregman(mean[t], x[t])) for t in range(T - 1)
    )
    lost += sum(total[t - 1] * bregman(mean[t - 1], mean[t]) for t in range(1, T))
    lost += sum(w[t] * bregman(u, x[t]) for t in range(T))
    assert lost > 0
    assert total[-1] * (f(x[T - 1])[0] - f(u)[0]) == pytest.approx(regret - lost, rel=1e-9)


def test_best_weights():
    """The gradient of the bound vanishes, L-BFGS finds no better ones, and the bound is as stated."""
    rng = np.random.default_rng(2)
    norms, distance = rng.uniform(0.3, 3, 10), 2.5
    best = optimal_weights(norms, distance=distance)
    bound, slope = last_iterate_bound(best, norms, distance=distance)
    assert abs(slope).max() < 1e-14 and bound == pytest.approx(distance / np.sqrt((norms**-2.0).sum()), rel=1e-13)
    found = minimize(
        lambda w: last_iterate_bound(w, norms, distance=distance), np.ones(10), jac=True, bounds=[(1e-6, None)] * 10
    )
    assert found.fun == pytest.approx(float(bound), rel=1e-6) and found.fun >= bound * (1 - 1e-12)
    assert np.allclose(optimal_weights(3 * norms, distance=distance), best / 3, rtol=1e-13)
    # equal norms: D/(G √T), and linear decay
    best = optimal_weights(np.full(4, 2.0), distance=3.0)
    assert np.allclose(best, 3 / (2 * 2), rtol=1e-14)
    assert np.allclose(stepsizes_from_weights(best), 0.75 * (1 - np.arange(1, 5) / 4), rtol=1e-14)


def test_shapes():
    T = 200
    falling, rising = np.linspace(3, 1, T), np.r_[np.ones(T // 2), np.linspace(1, 4, T // 2)]
    linear = 1 - np.arange(1, T + 1) / T
    linear /= linear.max()
    for power in (1.0, 2.0):
        assert np.allclose(refined_schedule(np.full(T, 7.0), power=power), linear, rtol=1e-12, atol=1e-15)
        warm = refined_schedule(falling, power=power)
        top = warm.argmax()
        assert 0 < top < T - 1 and (np.diff(warm[: top + 1]) > 0).all() and (np.diff(warm[top:]) < 0).all()
        fast = refined_schedule(rising, power=power)
        assert (fast[T // 2 :] <= linear[T // 2 :]).all() and fast[-1] == warm[-1] == 0
        assert np.allclose(refined_schedule(1e3 * rising, power=power), fast, rtol=1e-12)
    assert refined_schedule(np.array([4.0])) == 1


@pytest.mark.parametrize("T", [1, 2, 5, 40, 101])
@pytest.mark.parametrize("window", [0.0, 0.1, 0.5, 1.0])
def test_medians_by_scipy(T, window):
    norms = np.random.default_rng(T).uniform(1, 9, T)
    width = 2 * int(window * T / 2) + 1
    padded = np.pad(norms, (0, 2 * width), mode="reflect") if T > 1 else np.full(1 + 2 * width, norms[0])
    expected = median_filter(padded, size=width, mode="nearest")[: -2 * width]
    assert np.array_equal(smooth_norms(norms, window=window), expected)


def test_medians_take_spikes_away_and_leave_slopes():
    spiked = np.ones(50)
    spiked[20] = 1e6
    assert np.array_equal(smooth_norms(spiked), np.ones(50))
    slope = np.linspace(5, 1, 50)
    assert np.array_equal(smooth_norms(slope)[3:-3], slope[3:-3])


def test_usual_schedules_by_hand():
    times = np.arange(4.0)
    shape = lambda **how: usual_schedule(times, total=4, **how)  # noqa: E731
    assert np.allclose(shape(), [1, 0.75, 0.5, 0.25], rtol=1e-9) and np.allclose(shape(kind="constant"), 1, rtol=1e-9)
    assert np.allclose(shape(kind="cosine"), [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2], rtol=1e-9)
    assert np.allclose(shape(kind="inverse"), [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-9)
    assert np.allclose(shape(kind="root", warmup=2), [0.5, 0.5**0.5, 3**-0.5, 0.5], rtol=1e-9)
    assert not usual_schedule(np.array([9.0]), total=4) and not usual_schedule(np.array([9.0]), total=4, kind="cosine")


def test_bad_input():
    with pytest.raises(ValueError, match="norms"):
        refined_schedule(np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="window must lie in"):
        smooth_norms(np.ones(3), window=1.5)
    with pytest.raises(ValueError, match="distance must lie in"):
        optimal_weights(np.ones(3), distance=0.0)
