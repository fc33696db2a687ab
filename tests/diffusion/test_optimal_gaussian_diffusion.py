"""Theorems of OGD: moments and divergences of Gaussians, Gaussian data, guidance with and without the model."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from trref.catalog import find
from trref.conformance import verify
from trref.diffusion.optimal_gaussian_diffusion import (
    ecm_step,
    ecmr_step,
    full_guidance,
    goal_cost,
    ogd_forward,
    ogd_loss,
    ogd_prior,
    ogd_start,
    ogd_step,
)
from trref.problems.measurements import GoalCost
from trref.problems.mixtures import GaussianMixture, MixtureNoise, ScaledNoise, three_components, vp_schedule

MIXTURE = three_components()
SIGMA = np.sqrt(np.diag(MIXTURE.covariance()))


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _at(alpha_bar, beta0=0.1, beta1=20.0):
    """The time at which the variance-preserving schedule has this level: a quadratic equation."""
    L = -np.log(alpha_bar)
    return float((-beta0 + np.sqrt(beta0**2 + 2 * (beta1 - beta0) * L)) / (beta1 - beta0))


def _divergence(m0, S0, m1, S1):
    """KL of two Gaussians, the first from the second."""
    inverse = np.linalg.inv(S1)
    logs = np.linalg.slogdet(S1)[1] - np.linalg.slogdet(S0)[1]
    return 0.5 * (np.trace(inverse @ S0) + (m1 - m0) @ inverse @ (m1 - m0) - len(m0) + logs)


def test_by_hand():
    """x0 = 2, noise 1, sigma 0.5, alpha_bar 0.64: 1.6 + 0.6·0.5 = 1.9; prediction 0.3 has the error -0.2."""
    x0, noise, sigma = np.array([[2.0]]), np.array([[1.0]]), np.array([0.5])
    assert ogd_forward(x0, noise, sigma, alpha_bar=0.64) == pytest.approx(1.9)
    loss, gradient = ogd_loss(np.array([[0.3]]), noise, sigma)
    assert loss == pytest.approx(0.04) and gradient == pytest.approx(-0.4)
    assert ogd_start(noise, np.array([3.0]), sigma, alpha_bar=0.64) == pytest.approx(2.9)


@pytest.mark.parametrize("alpha_bar", [0.9, 0.5, 0.05])
def test_moments_of_the_end(alpha_bar):
    """Five standard errors; the variances are the data's at every time."""
    n = 200_000
    data, noise = MIXTURE.sample(np.random.default_rng(0), n), _draws(1, n, 2)
    x = ogd_forward(data, noise, SIGMA, alpha_bar=alpha_bar)
    prior = ogd_prior(MIXTURE.mean(), MIXTURE.covariance(), SIGMA, alpha_bar=alpha_bar)
    assert (abs(x.mean(0) - prior.mean) < 5 * SIGMA / n**0.5).all()
    centred = x - prior.mean
    for i in range(2):
        for j in range(2):
            products = centred[:, i] * centred[:, j]
            assert abs(products.mean() - prior.covariance[i, j]) < 5 * products.std() / n**0.5
    assert np.allclose(np.diag(prior.covariance), SIGMA**2, rtol=1e-12)
    independent = ogd_prior(MIXTURE.mean(), MIXTURE.covariance(), SIGMA, alpha_bar=alpha_bar, form="diagonal")
    assert np.allclose(independent.covariance, np.diag(SIGMA**2), rtol=1e-12)


def test_no_other_gaussian_has_a_smaller_cross_entropy():
    """On the same samples, whose own moments give the least; perturbed means and scales are worse."""
    alpha_bar, n = 0.5, 100_000
    x = ogd_forward(MIXTURE.sample(np.random.default_rng(2), n), _draws(3, n, 2), SIGMA, alpha_bar=alpha_bar)
    prior = ogd_prior(MIXTURE.mean(), MIXTURE.covariance(), SIGMA, alpha_bar=alpha_bar)

    def cross_entropy(mean, covariance):
        return -multivariate_normal(mean, covariance).logpdf(x).mean()

    least = cross_entropy(*prior)
    for k in range(6):
        shift, turn = 0.1 * _draws(10 + k, 2), np.eye(2) + 0.1 * _draws(20 + k, 2, 2)
        assert cross_entropy(prior.mean + shift, prior.covariance) > least
        assert cross_entropy(prior.mean, turn @ prior.covariance @ turn.T) > least
    assert cross_entropy(prior.mean, prior.covariance * (1 - alpha_bar)) > least + 0.1, "the usual factor"


def test_what_another_gaussian_wastes():
    """KL(q|N) = KL(q|p*) + KL(p*|N) for Gaussian data, and for independent entries with N of that kind."""
    m, factor = _draws(4, 3), _draws(5, 3, 3)
    S, sigma, alpha_bar = factor @ factor.T, np.array([0.5, 1.0, 2.0]), 0.3
    q = ogd_prior(m, S, sigma, alpha_bar=alpha_bar)
    best = ogd_prior(m, S, sigma, alpha_bar=alpha_bar, form="diagonal")
    for k in range(3):
        other = _draws(6 + k, 3), np.diag(np.exp(_draws(9 + k, 3)))
        split = _divergence(*q, *best) + _divergence(*best, *other)
        assert _divergence(*q, *other) == pytest.approx(split, rel=1e-12)
        assert _divergence(*best, *other) > 0


def test_the_best_predictor_is_the_scaled_score():
    """g = -sqrt(1 - alpha_bar) sigma² grad log q_t, q_t of full covariances."""
    alpha, s = vp_schedule(np.array(0.4))
    x = _draws(12, 5, 2)
    noised = GaussianMixture(
        MIXTURE.weights, alpha * MIXTURE.means, alpha**2 * MIXTURE.covariances + s**2 * np.diag(SIGMA**2)
    )
    g = ScaledNoise(MIXTURE, SIGMA)(x, np.full(5, 0.4))
    assert np.allclose(g, -s * SIGMA**2 * noised.score(x), rtol=0, atol=1e-12)
    plain = ScaledNoise(MIXTURE, np.ones(2))(x, np.full(5, 0.4))
    assert np.allclose(plain, MixtureNoise(MIXTURE)(x, np.full(5, 0.4)), rtol=0, atol=1e-13)


def test_the_predictor_minimises_the_loss():
    """On the same draws any other function of x does worse."""
    n, u = 50_000, 0.3
    alpha_bar = float(vp_schedule(np.array(u))[0] ** 2)
    noise = _draws(13, n, 2)
    x = ogd_forward(MIXTURE.sample(np.random.default_rng(14), n), noise, SIGMA, alpha_bar=alpha_bar)
    g = ScaledNoise(MIXTURE, SIGMA)(x, np.full(n, u))
    least = ogd_loss(g, noise, SIGMA)[0]
    for other in (g + 0.1 * np.sin(x), g / SIGMA, 0.8 * g):
        assert ogd_loss(other, noise, SIGMA)[0] > least


@pytest.mark.parametrize("steps", [1, 5, 200])
@pytest.mark.parametrize("alpha_bar", [0.95, 0.5, 0.02])
def test_gaussian_data_keep_their_mean_and_almost_their_spread(alpha_bar, steps):
    """With alpha_bar = cos² a, a step multiplies the spread by the cosine of the change of a."""
    mean, sigma = np.array([2.0, -1.0]), np.array([0.5, 3.0])
    data = GaussianMixture(np.ones(1), mean[None], np.diag(sigma**2)[None])
    model, times = ScaledNoise(data, sigma), np.linspace(_at(alpha_bar), 0, steps + 1)
    levels = np.minimum(vp_schedule(times)[0] ** 2, 1.0).tolist()
    noise = _draws(17, 4, 2)
    x = ogd_start(noise, mean, sigma, alpha_bar=levels[0])
    for k in range(steps):
        g = model(x, np.full(4, times[k]))
        x = ogd_step(x, g, 0 * x, sigma, alpha_bar=levels[k], next_alpha_bar=levels[k + 1])
    kept = np.prod(np.cos(np.diff(np.arccos(np.sqrt(levels)))))
    assert np.allclose(x, mean + kept * sigma * noise, rtol=0, atol=1e-9)
    assert kept > (0.985 if steps == 200 else 0.1)


def test_almost_no_diffusion_returns_the_gaussian():
    noise = _draws(18, 6, 2)
    start = ogd_start(noise, MIXTURE.mean(), SIGMA, alpha_bar=1 - 1e-12)
    g = ScaledNoise(MIXTURE, SIGMA)(start, np.full(6, _at(1 - 1e-12)))
    end = ogd_step(start, g, 0 * start, SIGMA, alpha_bar=1 - 1e-12, next_alpha_bar=1.0)
    assert np.allclose(end, MIXTURE.mean() + SIGMA * noise, rtol=0, atol=1e-3)


def _goal():
    return GoalCost(_draws(19, 2, 3), _draws(20, 2), _draws(21, 2))


def test_the_goal_is_one_cost_in_two_forms():
    cost, x0 = _goal(), _draws(22, 5, 3)
    values, gradients = cost(x0)
    total, gradient = goal_cost(x0, cost.decoder, cost.offset, cost.goal)
    assert total == pytest.approx(values.sum()) and np.allclose(gradient, gradients, rtol=1e-13)


def test_guidance_moves_the_estimate_and_keeps_the_noise():
    cost, x, g = _goal(), _draws(23, 5, 3), _draws(24, 5, 3)
    levels = {"alpha_bar": 0.4, "next_alpha_bar": 0.7}
    plain = ogd_step(x, g, 0 * x, np.ones(3), **levels)
    x0 = (x - np.sqrt(0.6) * g) / np.sqrt(0.4)
    small = ecm_step(cost, x, g, **levels, lr=0.01, bound=1e9)
    assert np.allclose(small, plain - np.sqrt(0.7) * 0.01 * cost(x0)[1], rtol=0, atol=1e-12)
    large = ecm_step(cost, x, g, **levels, lr=1e9, bound=0.2)
    assert np.allclose(large, plain - np.sqrt(0.7) * 0.2 * np.sign(cost(x0)[1]), rtol=0, atol=1e-12)
    assert np.allclose(ecm_step(cost, x, g, **levels, lr=0.0), plain, rtol=0, atol=1e-13)


def test_the_reference_replaces_what_costs_more():
    """Costs (x - 1)²: of the estimates 4, 1.5 and 1.2 and the mode 1.4 the first two are replaced."""
    cost = GoalCost(np.ones((1, 1)), np.zeros(1), np.ones(1))
    estimates = np.array([[4.0], [1.5], [1.2]])
    x = np.sqrt(0.5) * estimates
    after = ecmr_step(cost, x, 0 * x, np.array([[9.0], [1.4]]), next_alpha_bar=1.0, lr=0.0)
    assert after.ravel() == pytest.approx([1.4, 1.4, 1.2])
    # the gradient is taken at the replaced estimate
    moved = ecmr_step(cost, x, 0 * x, np.array([[9.0], [1.4]]), next_alpha_bar=1.0, lr=0.1)
    assert moved.ravel() == pytest.approx([1.4 - 0.08, 1.4 - 0.08, 1.2 - 0.04])
    none = ecmr_step(cost, x, 0 * x, np.array([[9.0]]), next_alpha_bar=1.0)
    assert np.array_equal(none, ecm_step(cost, x, 0 * x, next_alpha_bar=1.0))


def test_the_gradient_through_the_exact_model():
    """J = (I + (1 - alpha_bar) diag(sigma²) Hessian of log q) / sqrt(alpha_bar)."""
    u, x, sigma = 0.3, _draws(25, 4, 2), np.array([0.4, 1.5])
    alpha, s = (float(level) for level in vp_schedule(np.array(u)))
    cost = GoalCost(np.array([[1.0, -0.5]]), np.zeros(1), np.ones(1))
    noised = GaussianMixture(
        MIXTURE.weights, alpha * MIXTURE.means, alpha**2 * MIXTURE.covariances + s**2 * np.diag(sigma**2)
    )
    J = (np.eye(2) + s**2 * np.diag(sigma**2) @ noised.score_jacobian(x)) / alpha
    x0 = (x + s**2 * sigma**2 * noised.score(x)) / alpha
    _, gradient = full_guidance(ScaledNoise(MIXTURE, sigma), cost, x, time=u, alpha_bar=alpha**2)
    assert np.allclose(gradient, np.einsum("nij,ni->nj", J, cost(x0)[1]), rtol=0, atol=1e-11)


def test_the_mean_cost_of_a_batch_is_named():
    record = find("optimal_gaussian_diffusion.ecm_step")
    verdict = verify(record.name, record.deviations[0].f, sizes=(4,))
    assert not verdict.conforms and any("mean cost" in str(e) for e in verdict.explanations), str(verdict)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, s: ogd_forward(x, x, 0 * s), "sigma must be positive"),
        (lambda x, s: ogd_step(x, x, x, s, alpha_bar=0.5, next_alpha_bar=0.4), "next_alpha_bar must not be below"),
        (lambda x, s: ecm_step(lambda y: (y[:1, 0], y), x, x), "cost must return values of shape"),
        (lambda x, s: ecm_step(lambda y: (y[:, 0], y * np.nan), x, x), "cost must return finite"),
        (lambda x, s: ecmr_step(lambda y: (y[:, 0], y), x, x, x[:, :1]), "modes must have shape"),
        (lambda x, s: ecm_step(lambda y: (y[:, 0], y), x, x, bound=0.0), "bound must lie in"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(_draws(0, 3, 2), np.ones(2))
