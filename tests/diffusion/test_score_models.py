"""Theorems of the DDIM step and its sampler on mixtures."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.catalog import find
from trref.conformance import verify
from trref.diffusion.score_models import ddim_from_noise, ddim_sample, ddim_step, ddpm_step, denoise, renoise
from trref.problems.mixtures import GaussianMixture, MixtureNoise, three_components, vp_schedule

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st


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


def test_the_posterior_by_conditioning_a_joint_gaussian():
    """Given the data, (x_s, x_t) are jointly Gaussian: the mean of the one given the other, and its variance."""
    x, x0, z = _draws(4, 6, 2), _draws(5, 6, 2), _draws(6, 6, 2)
    t, s = 0.3, 0.55
    covariance = np.sqrt(t / s) * (1 - s)  # of x_s and x_t = sqrt(t/s) x_s + fresh noise
    mean = np.sqrt(s) * x0 + covariance / (1 - t) * (x - np.sqrt(t) * x0)
    variance = (1 - s) - covariance**2 / (1 - t)
    step = ddpm_step(x, x0, z, alpha_bar=t, next_alpha_bar=s)
    assert np.allclose(step, mean + np.sqrt(variance) * z, rtol=1e-12, atol=1e-13)


def test_an_estimate_that_was_changed_goes_through():
    """A clipped estimate: the posterior forgets what of the noise belonged to it; renoise with all noise does not."""
    x, noise, z = _draws(4, 6, 2), 2 * _draws(5, 6, 2), _draws(6, 6, 2)
    x0 = np.clip(denoise(x, noise, alpha_bar=0.3), -0.5, 0.5)
    again = (x - np.sqrt(0.3) * x0) / np.sqrt(0.7)
    levels = {"alpha_bar": 0.3, "next_alpha_bar": 0.55}
    posterior = ddpm_step(x, x0, z, **levels)
    assert np.allclose(posterior, renoise(x0, again, z, **levels, eta=1.0), rtol=1e-12)
    assert abs(posterior - renoise(x0, noise, z, **levels, eta=1.0)).max() > 0.1


def test_denoise_and_renoise_are_inverse():
    x0, noise = _draws(7, 4, 3), _draws(8, 4, 3)
    x = renoise(x0, noise, x0, alpha_bar=0.2, next_alpha_bar=0.7)
    assert np.allclose(denoise(x, noise, alpha_bar=0.7), x0, rtol=1e-12, atol=1e-14)


def test_one_data_point_keeps_the_right_law_under_the_posterior():
    """All x0 at one point c: each step leaves N(sqrt(s) c, 1 - s), from the mean and the variance alone."""
    t, s, c = 0.2, 0.6, np.array([[1.5]])
    move = lambda x, z: ddpm_step(x, c, z, alpha_bar=t, next_alpha_bar=s)  # noqa: E731
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    start = np.sqrt(t) * c
    assert np.allclose(move(start, zero), np.sqrt(s) * c, rtol=1e-14)
    slope, fresh = move(start + one, zero) - move(start, zero), move(start, one) - move(start, zero)
    assert slope**2 * (1 - t) + fresh**2 == pytest.approx(1 - s, rel=1e-13)


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


@pytest.mark.parametrize("bad", [{"steps": 0}, {"draws": 0}, {"t_min": 1.0}, {"beta0": -1.0}])
def test_sampler_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        ddim_sample(np.random.default_rng(0), MixtureNoise(three_components()), **bad)


@pytest.mark.parametrize("step", [renoise, ddpm_step])
def test_a_step_away_from_the_data_is_refused(step):
    x = _draws(0, 2, 2)
    with pytest.raises(ValueError, match="next_alpha_bar must not be below"):
        step(x, x, x, alpha_bar=0.9, next_alpha_bar=0.5)


def test_the_last_step_gives_the_estimate_of_the_data():
    """To the last bit, whatever eta and the fresh noise are."""
    x, noise, z = _draws(10, 5, 3), _draws(11, 5, 3), 1e3 * _draws(12, 5, 3)
    estimate = (x - np.sqrt(1 - 0.3) * noise) / np.sqrt(0.3)
    for eta in (0.0, 0.5, 1.0):
        assert np.array_equal(ddim_step(x, noise, z, alpha_bar=0.3, next_alpha_bar=1.0, eta=eta), estimate)


def test_the_grid_ends_at_t_min_and_at_zero_in_the_data():
    """A model that records its times; at t_min = 0 a model that knows the data hits them."""
    data, asked = np.array([[1.0, -2.0]] * 4), []

    def model(x, t):
        asked.append(t[0])
        alpha, sigma = vp_schedule(t[0])
        return (x - alpha * data) / sigma

    x = ddim_sample(np.random.default_rng(0), model, draws=4, steps=5, t_min=0.0, eta=1.0)
    assert np.allclose(x, data, atol=1e-12)
    assert np.allclose(asked, (1 - np.arange(5) / 5) ** 2)
    asked.clear()
    ddim_sample(np.random.default_rng(0), model, draws=4, steps=3, t_min=0.25)
    assert np.allclose(np.sqrt(asked), [1, 5 / 6, 2 / 3])


def test_the_sampler_is_the_path_from_its_own_draws():
    rng, model = np.random.default_rng(3), MixtureNoise(three_components())
    drawn, times = rng.standard_normal((5, 7, 2)), np.linspace(1, np.sqrt(1e-3), 5) ** 2
    path = ddim_from_noise(model, drawn[0], drawn[1:], times, vp_schedule(times)[0] ** 2, eta=0.4)
    assert np.array_equal(ddim_sample(np.random.default_rng(3), model, draws=7, steps=4, eta=0.4), path)


@pytest.mark.parametrize("name", ["schedule read one step late", "model asked at the next time"])
def test_a_slip_of_one_step_is_named(name):
    slip = next(d.f for d in find("score_models.ddim_from_noise").deviations if d.name == name)
    verdict = verify("score_models.ddim_from_noise", slip, sizes=(4,))
    assert not verdict.conforms and any(name in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (lambda x: None, "the result of model must be a numpy array"),
        (lambda x: x[:, :1], "model must give float64 arrays of shape"),
        (lambda x: x.astype(np.float32), "model must give float64 arrays of shape"),
        (lambda x: x * np.nan, "model must give finite values"),
    ],
)
def test_what_a_model_returns_is_named(noise, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ddim_sample(np.random.default_rng(0), lambda x, t: noise(x), draws=3, steps=2)


levels = st.floats(1e-6, 1 - 1e-6)


@given(alpha_bar=levels, share=st.floats(0, 1), eta=st.floats(0, 1), seed=st.integers(0, 10**6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_step_in_fifty_digits(alpha_bar, share, eta, seed):
    """Mean and spread of the step, by the algebra of DDPM's posterior in decimal arithmetic."""
    then = min(alpha_bar + share * (1 - alpha_bar), 1.0)
    x, noise, z = np.random.default_rng(seed).standard_normal((3, 1, 1))
    ours = ddim_step(x, noise, z, alpha_bar=alpha_bar, next_alpha_bar=then, eta=eta)
    with localcontext(prec=50):
        t, s, e = Decimal(alpha_bar), Decimal(then), Decimal(eta)
        a, b, c = (Decimal(float(v[0, 0])) for v in (x, noise, z))
        x0 = (a - (1 - t).sqrt() * b) / t.sqrt()
        variance = e**2 * (1 - s) * (s - t) / (s * (1 - t))
        exact = s.sqrt() * x0 + max(1 - s - variance, Decimal(0)).sqrt() * b + variance.sqrt() * c
        # rounding: a few eps of each term; 1 - s - variance may cancel, and its root then has the root of an eps
        size = s.sqrt() * (abs(a) + abs(b)) / t.sqrt() + abs(b) + abs(c)
        kept = max(1 - s - variance, Decimal("1e-30")).sqrt()
        allowed = size * Decimal(2) ** -49 + abs(b) * min(Decimal(2) ** -24, Decimal(2) ** -50 / kept)
        assert abs(Decimal(float(ours[0, 0])) - exact) <= allowed
