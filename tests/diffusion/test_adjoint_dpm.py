"""Theorems of the adjoint of the flow: fine solutions, orders, drift, the linear case in closed form."""

import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.diffusion.adjoint_dpm import adjoint_gradient, t_of_rho, to_rho
from trref.diffusion.symplectic_adjoint import trained_guidance
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import GaussianMixture, MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import QuadraticReward

NETWORK = Residual(MixtureNoise(three_components()), TimeNetwork(2, (5,)))
THETA = 0.3 * np.random.default_rng(0).standard_normal(NETWORK.size)
X = np.random.default_rng(1).standard_normal((2, 2))
LOSS = QuadraticReward(np.array([0.5, -1.0]))
START, END = 0.8, 0.05


def _grid(steps):
    """Equal steps in the logarithm of the ratio."""
    alpha, sigma = vp_schedule(np.array([START, END]))
    ratio = np.geomspace(*(sigma / alpha), steps + 1)
    L = np.log1p(ratio**2) / 2  # and the time by the positive root of the quadratic
    return (-0.05 + np.sqrt(0.05**2 + 19.9 * L)) / (19.9 / 2)


@functools.cache
def _fine():
    """The gradient of the continuous problem: SciPy, in the time t, with the equation's linear part left in."""
    P = len(THETA)

    def both(t, state):
        x, a = state[:4].reshape(2, 2), state[4:8].reshape(2, 2)
        rate, (_, sigma) = 0.1 + 19.9 * t, vp_schedule(np.array(t))
        noise, cache = NETWORK.forward(THETA, x, np.full(2, t))
        by_theta, by_x = NETWORK.vjp(cache, a)
        speed = -rate / 2 * x + rate / (2 * sigma) * noise
        return np.concatenate(
            [speed.ravel(), (rate / 2 * a - rate / (2 * sigma) * by_x).ravel(), -rate / (2 * sigma) * by_theta]
        )

    options = {"rtol": 1e-11, "atol": 1e-12, "method": "DOP853"}
    ahead = solve_ivp(both, (START, END), np.concatenate([X.ravel(), np.zeros(4 + P)]), **options).y[:4, -1]
    values, gradient = LOSS(ahead.reshape(2, 2))
    back = solve_ivp(both, (END, START), np.concatenate([ahead, gradient.ravel(), np.zeros(P)]), **options).y[:, -1]
    return values.sum(), back[8:], back[4:8].reshape(2, 2)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_order(rule, order):
    """Loss, both gradients and the drift: doubling the steps divides their errors by the order's power of two."""
    steps = 160 if order == 1 else 40
    loss, by_theta, by_x = _fine()
    errors = []
    for n in (steps, 2 * steps):
        ours = adjoint_gradient(NETWORK, THETA, X, _grid(n), LOSS, rule=rule)
        gaps = (ours.loss - loss, ours.theta - by_theta, ours.x - by_x, ours.start - X)
        errors.append([np.linalg.norm(gap) for gap in gaps])
    ratios = np.array(errors[0]) / np.array(errors[1])
    assert (ratios > 0.6 * 2**order).all(), ratios
    assert max(errors[1]) < (0.5 if order == 1 else 0.05)


def test_the_gradient_of_the_steps_is_near_and_another():
    """It agrees to the error of the method, and differences of the sampler follow it, not the adjoint equation."""
    alpha, sigma = vp_schedule(_grid(8))
    ours = adjoint_gradient(NETWORK, THETA, X, _grid(8), LOSS)
    value, steps = trained_guidance(NETWORK, THETA, X, sigma / alpha, LOSS, rule="rk4")
    assert value == pytest.approx(ours.loss, rel=1e-10)
    gap = np.linalg.norm(ours.x - steps.x) / np.linalg.norm(steps.x)
    assert 1e-7 < gap < 0.1
    d, h = np.random.default_rng(3).standard_normal(X.shape), 1e-5
    f = lambda s: trained_guidance(NETWORK, THETA, X + s * h * d, sigma / alpha, LOSS, rule="rk4")[0]  # noqa: E731
    slope = (f(1) - f(-1)) / (2 * h)
    assert abs(slope - (steps.x * d).sum()) < 0.01 * abs(slope - (ours.x * d).sum())


def test_one_gaussian_in_closed_form():
    """x0 = x s_0 / s_T in each coordinate, with s² = alpha² data + sigma²; so the gradient is, too."""
    data = np.array([0.3, 2.0])
    model = MixtureNoise(GaussianMixture(np.ones(1), np.zeros((1, 2)), np.diag(data)[None]))
    network = Residual(model, TimeNetwork(2, (3,)))
    theta = network.init(np.random.default_rng(0))
    (a1, a0), (s1, s0) = vp_schedule(np.array([START, END]))
    scale = np.sqrt((a0**2 * data + s0**2) / (a1**2 * data + s1**2))
    ours = adjoint_gradient(network, theta, X, _grid(60), LOSS)
    end = X * scale
    assert ours.loss == pytest.approx(LOSS(end)[0].sum(), rel=1e-5)
    assert np.allclose(ours.x, scale * LOSS(end)[1], rtol=1e-5, atol=1e-6)


def test_the_variable_of_integration():
    """0 at the start, nearly minus the noise level at the data; euler steps in it are those of DDIM (its limit)."""
    t = np.array([0.7, 0.2, 1e-5])
    _, sigma = vp_schedule(np.array(0.7))
    rho = to_rho(t, t_max=0.7)
    assert rho[0] == pytest.approx(0, abs=1e-15) and rho[2] == pytest.approx(-sigma, abs=1e-3)
    assert np.allclose(t_of_rho(rho, t_max=0.7), t, rtol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="times must not rise"):
        adjoint_gradient(NETWORK, THETA, X, np.array([0.1, 0.5]), LOSS)
    with pytest.raises(ValueError, match="times must end at 1e-6 or above"):
        adjoint_gradient(NETWORK, THETA, X, np.array([0.5, 0.0]), LOSS)
    with pytest.raises(ValueError, match="rho must be above"):
        t_of_rho(np.array([-1.5]))
    with pytest.raises(ValueError, match="loss must return finite values"):
        adjoint_gradient(NETWORK, THETA, X, np.array([0.5, 0.4]), lambda x: (np.nan * x[:, 0], x))
