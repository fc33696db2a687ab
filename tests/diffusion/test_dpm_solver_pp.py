"""Theorems of DPM-Solver++: orders, predictions for which it is exact, DDIM, uneven grids."""

import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.diffusion.dpm_solver_pp import multistep, singlestep_2, singlestep_3, step_orders
from trref.diffusion.noise_schedules import log_snr
from trref.diffusion.score_models import ddim_from_noise
from trref.diffusion.symplectic_adjoint import solve_flow
from trref.problems.mixtures import MixtureDenoiser, MixtureNoise, three_components

MIXTURE = three_components()
MODEL = MixtureDenoiser(MIXTURE)
X = np.random.default_rng(0).standard_normal((3, 2))
SOLVERS = {
    "2M": (multistep, {}, 2),
    "2M heun": (multistep, {"kind": "heun"}, 2),
    "2S": (singlestep_2, {}, 2),
    "2S heun": (singlestep_2, {"kind": "heun"}, 2),
    "2S at a third": (singlestep_2, {"r1": 0.3}, 2),
    "3S": (singlestep_3, {}, 3),
    "3S, asked half way": (singlestep_3, {"r2": 0.5}, 2),
}


@functools.cache
def _exact():
    def speed(ratio, y):
        alpha = 1 / np.sqrt(1 + ratio**2)
        return (-ratio * MIXTURE.noised(1.0, ratio).score(y.reshape(3, 2))).ravel() + 0 * alpha

    start = X * np.sqrt(1 + 9.0)
    return solve_ivp(speed, (3.0, 0.1), start.ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(3, 2) / np.sqrt(1.01)


@pytest.mark.parametrize("name", SOLVERS)
def test_order(name):
    """Doubling the steps divides the error by two to the order of the name."""
    f, hyper, order = SOLVERS[name]
    errors = [np.linalg.norm(f(MODEL, X, np.geomspace(3.0, 0.1, n + 1), **hyper) - _exact()) for n in (30, 60)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.3)


class Changing:
    """A prediction ``c + d λ`` that only the time tells, with λ = log(alpha/sigma)."""

    def __init__(self, constant, slope):
        self.constant, self.slope = np.array(constant), np.array(slope)

    def __call__(self, x, t):
        return np.broadcast_to(self.constant + self.slope * log_snr(t[:1]) / 2, x.shape).copy()

    def end(self, x, first, last):
        """Integrated by hand: ∫ e^λ (c + dλ) dλ = e^λ (c + d (λ - 1))."""
        (a, b), (alpha, beta) = (-np.log(first), -np.log(last)), (1 / np.sqrt(1 + r**2) for r in (first, last))
        gained = [np.exp(s) * (self.constant + self.slope * (s - 1)) for s in (a, b)]
        return last * beta / (first * alpha) * x + last * beta * (gained[1] - gained[0])


@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_prediction_is_solved_exactly(name):
    f, hyper, _ = SOLVERS[name]
    model, levels = Changing([1.0, -2.0], [0.0, 0.0]), np.array([3.0, 2.5, 0.4, 0.3])
    assert np.allclose(f(model, X, levels, **hyper), model.end(X, 3.0, 0.3), rtol=1e-12)


def test_a_linear_prediction_is_solved_exactly_by_its_integral():
    """By the heun forms, on an uneven grid, where a ratio that is upside down shows; not by the midpoint forms."""
    model, levels = Changing([1.0, -2.0], [0.5, 1.0]), np.array([3.0, 2.5, 0.4, 0.3])
    start = multistep(model, X, levels[:2])  # the first step of 2M has no slope to take
    assert np.allclose(multistep(model, X, levels, kind="heun"), model.end(start, 2.5, 0.3), rtol=1e-10)
    assert np.allclose(singlestep_2(model, X, levels, kind="heun"), model.end(X, 3.0, 0.3), rtol=1e-10)
    assert np.allclose(singlestep_3(model, X, levels), model.end(X, 3.0, 0.3), rtol=1e-10)
    assert abs(multistep(model, X, levels) - model.end(start, 2.5, 0.3)).max() > 0.01
    assert abs(singlestep_2(model, X, levels) - model.end(X, 3.0, 0.3)).max() > 0.01


def test_the_first_order_is_ddim():
    """One step of 2M; and all its steps where the prediction does not change."""
    levels = np.array([1.5, 0.6])
    noise = solve_flow(MixtureNoise(MIXTURE), X, levels)
    assert np.allclose(multistep(MODEL, X, levels), noise, rtol=1e-9, atol=1e-11)
    times, alpha_bar = np.array([0.6, 0.3]), 1 / (1 + levels**2)
    point = Changing([0.5, 1.0], [0.0, 0.0])
    as_noise = lambda x, t: (x - np.sqrt(alpha_bar[0]) * point(x, t)) / np.sqrt(1 - alpha_bar[0])  # noqa: E731
    ddim = ddim_from_noise(as_noise, X, 0 * X[None], times, alpha_bar)
    assert np.allclose(multistep(point, X, levels), ddim, rtol=1e-12)


@pytest.mark.parametrize("f", [multistep, singlestep_2, singlestep_3])
def test_the_step_to_the_data_gives_the_prediction(f):
    """Of the point before it, whatever came before."""
    levels = np.array([2.0, 0.7, 0.0])
    before = f(MODEL, X, levels[:2])
    assert np.allclose(f(MODEL, X, levels), f(MODEL, before, levels[1:]), rtol=1e-12)
    one = np.ones((1, 1))
    seen = []
    f(lambda x, t: seen.append(t[0]) or 0 * x, one, np.array([2.0, 0.0]))
    assert len(seen) == 1, "the last step asks once"


def test_orders_spend_the_calls_and_end_low():
    found = {n: step_orders(calls=n).tolist() for n in (1, 2, 3, 6, 7, 8)}
    assert found == {1: [1], 2: [2], 3: [2, 1], 6: [3, 2, 1], 7: [3, 3, 1], 8: [3, 3, 2]}
    assert step_orders(calls=5, order=2).tolist() == [2, 2, 1]
    assert step_orders(calls=4, order=2).tolist() == [2, 2]
    assert all(step_orders(calls=n, order=k).sum() == n for n in range(1, 20) for k in (1, 2, 3))


def test_lower_order_at_the_end():
    levels = np.array([2.0, 0.9, 0.4, 0.2])
    lower = multistep(MODEL, X, levels, lower_order_below=4)
    assert np.allclose(lower, multistep(MODEL, multistep(MODEL, X, levels[:3]), levels[2:]), rtol=1e-12)
    assert np.array_equal(multistep(MODEL, X, levels, lower_order_below=3), multistep(MODEL, X, levels))
    assert abs(lower - multistep(MODEL, X, levels)).max() > 1e-3


@pytest.mark.parametrize("f", [multistep, singlestep_2, singlestep_3])
def test_bad_input(f):
    with pytest.raises(ValueError, match="levels must fall"):
        f(MODEL, X, np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="levels must hold at least two"):
        f(MODEL, X, np.array([1.0]))
    with pytest.raises(ValueError, match="model must give finite values"):
        f(lambda x, t: x * np.nan, X, np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="schedule must be one of"):
        f(MODEL, X, np.array([2.0, 1.0]), schedule="cosine")
