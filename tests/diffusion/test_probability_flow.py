"""Theorems of the probability flow on mixtures: marginals, orders, densities, the linear case in closed form."""

import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal

from trref.catalog.diffusion.probability_flow import on_grid
from trref.diffusion.noise_schedules import rates
from trref.diffusion.probability_flow import (
    exponential_step,
    flow_path,
    log_likelihood,
    reverse_drift,
    reverse_sample,
    sde_path,
)
from trref.problems.mixtures import SCHEDULES, GaussianMixture, MixtureNoise, three_components

MIXTURE = three_components()
START = np.random.default_rng(0).standard_normal((3, 2))


def _grid(steps, kind="vp", start=0.95, end=0.01, uniform=0.5):
    """Falling times, equally far apart in the root of the time."""
    return np.linspace(start**uniform, end**uniform, steps + 1) ** (1 / uniform)


def _flow(steps, kind="vp", rule="heun", **grid):
    given = on_grid(MixtureNoise(MIXTURE, kind), START, None, _grid(steps, kind, **grid), kind)
    del given["z"]
    return flow_path(**given, rule=rule)


@functools.cache
def _exact(kind):
    """The end of the flow by SciPy, from the mixture's own score."""

    def velocity(t, x):
        alpha, sigma = SCHEDULES[kind](t)
        drift, g2 = rates(np.array([t]), schedule=kind)
        score = MIXTURE.noised(alpha, sigma).score(x.reshape(-1, 2))
        return (drift[0] * x.reshape(-1, 2) - g2[0] / 2 * score).ravel()

    return solve_ivp(velocity, (0.95, 0.01), START.ravel(), rtol=1e-10, atol=1e-11).y[:, -1].reshape(-1, 2)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("kind", ["vp", "ve", "flow"])
def test_order(kind, rule, order):
    """Against an adaptive solver: doubling the steps divides the error by two, or by four."""
    errors = [np.linalg.norm(_flow(steps, kind, rule) - _exact(kind)) for steps in (150, 300)]
    assert errors[0] < 0.2
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


@pytest.mark.parametrize("kind", ["vp", "ve"])
def test_all_churns_have_the_same_marginals(kind):
    """One Gaussian in a line: variances by hand, step by step, fall on the exact ones as the grid is refined."""
    data, t = 0.25, _grid(4000, kind, end=0.05)
    alpha, sigma = SCHEDULES[kind](t)
    true = alpha**2 * data + sigma**2
    drift, g2 = rates(t, schedule=kind)
    for churn in (0.0, 0.7, 1.5):
        given = on_grid(
            MixtureNoise(GaussianMixture(np.ones(1), np.zeros((1, 1)), data * np.ones((1, 1, 1))), kind),
            np.ones((1, 1)),
            np.zeros((len(t) - 1, 1, 1)),
            t,
            kind,
        )
        slope = sde_path(**given, churn=churn)[0, 0]  # of the end by the start: all is linear
        h, variance, gain = -np.diff(t), true[0], 1.0
        for k, each in enumerate(h):
            step = 1 - each * (drift[k] + (1 + churn**2) / 2 * g2[k] / true[k])
            variance, gain = step**2 * variance + churn**2 * g2[k] * each, gain * step
        assert slope == pytest.approx(gain, rel=1e-9)
        assert variance == pytest.approx(true[-1], rel=0.01)


def test_a_linear_flow_scales_by_the_spreads():
    """One Gaussian of mean zero: x moves as its standard deviation, in every direction."""
    data = np.diag([0.3, 2.0])
    model = MixtureNoise(GaussianMixture(np.ones(1), np.zeros((1, 2)), data[None]), "flow")
    t = _grid(800)
    given = on_grid(model, START, None, t, "flow")
    del given["z"]
    spread = np.sqrt((1 - t[[0, -1], None]) ** 2 * np.diag(data) + t[[0, -1], None] ** 2)
    assert np.allclose(flow_path(**given), START * spread[1] / spread[0], rtol=1e-4)


def test_the_path_has_the_velocity_of_the_mixing():
    """alpha' x0 + sigma' noise, for the noise and the data that belong to each other."""
    x0, noise = START, START[::-1].copy()
    alpha, sigma, alpha_rate, sigma_rate = 0.7, 0.5, -1.3, 0.9
    f = alpha_rate / alpha
    v = reverse_drift(
        alpha * x0 + sigma * noise,
        noise,
        drift=f,
        squared_diffusion=2 * sigma * sigma_rate - 2 * f * sigma**2,
        sigma=sigma,
    )
    assert np.allclose(v, alpha_rate * x0 + sigma_rate * noise, rtol=1e-13)


def test_exponential_steps_solve_constant_predictions():
    """A constant prediction of noise, or of data, makes the step exact: two small ones are one large one."""
    x, guess = START, START[::-1].copy()
    levels = [(0.3, 1.1), (0.6, 0.7), (0.9, 0.2)]
    for given in ("noise", "data"):
        move = lambda x, a, b: exponential_step(  # noqa: E731
            x,
            guess,
            alpha=a[0],
            sigma=a[1],
            next_alpha=b[0],
            next_sigma=b[1],
            given=given,  # noqa: B023
        )
        there = move(move(x, levels[0], levels[1]), levels[1], levels[2])
        assert np.allclose(there, move(x, levels[0], levels[2]), rtol=1e-12)


@pytest.mark.parametrize("kind", ["vp", "flow"])
def test_log_likelihood_is_the_mixture_s(kind):
    """Against SciPy's densities; what is left is the order of the rule and the law that is assumed at the end."""
    t = _grid(400, kind, start=0.999, end=0.05)[::-1].copy()
    x = MIXTURE.noised(*SCHEDULES[kind](t[0])).sample(np.random.default_rng(3), 6)
    drift, g2 = rates(t, schedule=kind)
    alpha, sigma = SCHEDULES[kind](t)
    ours = log_likelihood(MixtureNoise(MIXTURE, kind), x, t, sigma, drift, g2)
    density = sum(
        w * multivariate_normal.pdf(x, alpha[0] * m, alpha[0] ** 2 * S + sigma[0] ** 2 * np.eye(2))
        for w, m, S in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.covariances, strict=True)
    )
    assert np.allclose(ours, np.log(density), atol=0.02)


def test_log_likelihood_of_noise_takes_no_step():
    t = np.array([0.4, 0.4])
    x, model = START, MixtureNoise(MIXTURE)
    ours = log_likelihood(model, x, t, np.array([0.5, 0.5]), -np.ones(2), np.ones(2))
    assert np.allclose(ours, multivariate_normal.logpdf(x, np.zeros(2), 0.25 * np.eye(2)), rtol=1e-13)


def test_samples_of_one_gaussian():
    data = GaussianMixture(np.ones(1), np.array([[1.0, -2.0]]), np.array([np.diag([0.25, 0.04])]))
    x = reverse_sample(np.random.default_rng(0), MixtureNoise(data), draws=4000, steps=300)
    assert np.allclose(x.mean(0), [1, -2], atol=0.03)
    assert np.allclose(x.std(0), [0.5, 0.2], rtol=0.05)


@pytest.mark.parametrize("noise", [lambda x: x[:, :1], lambda x: x * np.nan])
def test_what_a_model_returns_is_named(noise):
    t = np.array([0.9, 0.5])
    levels = (np.ones(2), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="model must give"):
        flow_path(lambda x, t: noise(x), START, t, *levels)
    with pytest.raises(ValueError, match="model must give"):
        sde_path(lambda x, t: noise(x), START, START[None], t, *levels)


def test_bad_input():
    t, one = np.array([0.5, 0.9]), np.ones(2)
    model = MixtureNoise(MIXTURE)
    with pytest.raises(ValueError, match="times must not rise"):
        flow_path(model, START, t, one, one, one)
    with pytest.raises(ValueError, match="times must hold at least two"):
        flow_path(model, START, t[:1], one[:1], one[:1], one[:1])
    with pytest.raises(ValueError, match="times must not fall"):
        log_likelihood(model, START, t[::-1].copy(), one, one, one)
    with pytest.raises(ValueError, match="t_min must be below"):
        reverse_sample(np.random.default_rng(0), model, t_max=0.2, t_min=0.3)
