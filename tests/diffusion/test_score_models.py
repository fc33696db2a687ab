"""Theorems of the DDIM step and its sampler on mixtures."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.diffusion.score_models import ddim_sample, ddim_step
from trref.problems.mixtures import GaussianMixture, MixtureNoise, three_components, vp_schedule


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_step_with_the_true_noise_is_exact():
    """From the noise that made x, eta 0 gives the point with less of the same noise."""
    x0, noise = _draws(0, 5, 2), _draws(1, 5, 2)
    x = np.sqrt(0.3) * x0 + np.sqrt(0.7) * noise
    step = ddim_step(x, noise, 0 * x, alpha_bar=0.3, next_alpha_bar=0.9)
    assert np.allclose(step, np.sqrt(0.9) * x0 + np.sqrt(0.1) * noise, rtol=1e-14)


def test_one_euler_step_of_the_exponential_form():
    """d(x/alpha) = noise d(sigma/alpha), to rounding."""
    x, noise = _draws(2, 5, 2), _draws(3, 5, 2)
    a, b = 0.2, 0.6
    level = lambda ab: np.sqrt((1 - ab) / ab)  # noqa: E731
    euler = np.sqrt(b) * (x / np.sqrt(a) + noise * (level(b) - level(a)))
    assert np.allclose(ddim_step(x, noise, 0 * x, alpha_bar=a, next_alpha_bar=b), euler, rtol=1e-13)


def test_eta_one_is_the_ddpm_posterior():
    x, noise, z = _draws(4, 6, 2), _draws(5, 6, 2), _draws(6, 6, 2)
    ab_t, ab_s = 0.3, 0.5
    x0, a = (x - np.sqrt(1 - ab_t) * noise) / np.sqrt(ab_t), ab_t / ab_s
    mean = (np.sqrt(ab_s) * (1 - a) * x0 + np.sqrt(a) * (1 - ab_s) * x) / (1 - ab_t)
    variance = (1 - ab_s) / (1 - ab_t) * (1 - a)
    step = ddim_step(x, noise, z, alpha_bar=ab_t, next_alpha_bar=ab_s, eta=1.0)
    assert np.allclose(step, mean + np.sqrt(variance) * z, rtol=1e-12)


def test_no_step_changes_nothing():
    x, noise = _draws(7, 4, 3), _draws(8, 4, 3)
    assert np.allclose(ddim_step(x, noise, x, alpha_bar=0.4, next_alpha_bar=0.4, eta=1.0), x, rtol=1e-13)


def test_first_order_convergence_to_the_probability_flow():
    """The end point of the ODE, by SciPy at 1e-10; doubling the steps halves the error."""
    model = MixtureNoise(three_components())
    start = _draws(9, 1, 2)

    def flow(t, x):
        rate = 0.1 + t * 19.9
        _, sigma = vp_schedule(np.array(t))
        score = -model(x[None], np.array([t]))[0] / sigma
        return -rate / 2 * (x + score)

    exact = solve_ivp(flow, (1.0, 1e-2), start[0], rtol=1e-10, atol=1e-12).y[:, -1]

    def end(steps):
        times = np.linspace(1.0, 0.1, steps + 1) ** 2
        alpha_bar, x = vp_schedule(times)[0] ** 2, start
        for k in range(steps):
            noise = model(x, times[k : k + 1])
            x = ddim_step(x, noise, 0 * x, alpha_bar=float(alpha_bar[k]), next_alpha_bar=float(alpha_bar[k + 1]))
        return np.linalg.norm(x[0] - exact)

    errors = [end(steps) for steps in (200, 400)]
    assert errors[0] < 0.05 and errors[0] / errors[1] == pytest.approx(2, rel=0.15)


def test_one_gaussian_is_recovered():
    """Everything is linear; the sampled variance is the data's."""
    data = GaussianMixture(np.ones(1), np.array([[1.0, -2.0]]), np.array([np.diag([0.25, 0.04])]))
    x = ddim_sample(np.random.default_rng(0), MixtureNoise(data), draws=4000, steps=200)
    assert np.allclose(x.mean(0), [1, -2], atol=0.03)
    assert np.allclose(x.std(0), [0.5, 0.2], rtol=0.05)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"alpha_bar": 0.0}, "alpha_bar must lie in"),
        ({"alpha_bar": 0.9, "next_alpha_bar": 0.5}, "next_alpha_bar must not be below"),
        ({"eta": 1.5}, "eta must lie in"),
    ],
)
def test_levels_out_of_range(bad, message):
    x = _draws(0, 2, 2)
    with pytest.raises(ValueError, match=message):
        ddim_step(x, x, x, **bad)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"draws": 0}, {"t_min": 0.0}, {"beta0": -1.0}])
def test_sampler_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        ddim_sample(np.random.default_rng(0), MixtureNoise(three_components()), **bad)
