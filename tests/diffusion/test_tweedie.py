"""Theorems of Tweedie's formula of second order: conditioning by components, quadrature, bounds."""

import numpy as np
import pytest

from trref.diffusion.tweedie import denoiser_jacobian, posterior_covariance
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser, three_components, vp_schedule

MIXTURE = three_components()
X = np.array([[0.3, -0.4], [1.5, 2.0], [0.0, 0.6]])


@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (1.0, 3.0), (0.2, 0.9)])
def test_by_conditioning_each_component(alpha, sigma):
    """Each component's posterior is Gaussian; the mixture's covariance is their mean plus that of their means."""
    noised = MIXTURE.noised(alpha, sigma)
    r, means, inner = noised.responsibilities(X), [], []
    for m, S in zip(MIXTURE.means, MIXTURE.covariances, strict=True):
        gain = alpha * S @ np.linalg.inv(alpha**2 * S + sigma**2 * np.eye(2))
        means.append(m + (X - alpha * m) @ gain.T)
        inner.append(S - alpha * gain @ S)
    means = np.stack(means, 1)
    centred = means - (r[:, :, None] * means).sum(1, keepdims=True)
    exact = np.einsum("nk,nki,nkj->nij", r, centred, centred) + np.einsum("nk,kij->nij", r, np.stack(inner))
    ours = posterior_covariance(noised.score_jacobian(X), alpha=alpha, sigma=sigma)
    assert np.allclose(ours, exact, rtol=1e-10, atol=1e-12)


def test_by_quadrature():
    """Two points of data, 0 and 1, each with probability 1/2: the variance of a coin that x has weighed."""
    alpha, sigma, x = 0.7, 0.5, np.array([[0.1], [0.35], [0.9]])
    one = 1 / (1 + np.exp(-(alpha * x - alpha**2 / 2) / sigma**2))
    tiny = GaussianMixture(np.array([0.5, 0.5]), np.array([[0.0], [1.0]]), np.zeros((2, 1, 1))).noised(alpha, sigma)
    ours = posterior_covariance(tiny.score_jacobian(x), alpha=alpha, sigma=sigma)
    assert np.allclose(ours[:, :, 0], one * (1 - one), rtol=1e-11)


def test_the_denoiser_moves_so():
    """Differences of the exact denoiser."""
    t, h = 0.3, 1e-5
    alpha, sigma = (float(level) for level in vp_schedule(np.array(t)))
    denoiser, time = MixtureDenoiser(MIXTURE), np.full(len(X), t)
    columns = [(denoiser(X + h * e, time) - denoiser(X - h * e, time)) / (2 * h) for e in np.eye(2)]
    ours = denoiser_jacobian(MIXTURE.noised(alpha, sigma).score_jacobian(X), alpha=alpha, sigma=sigma)
    assert np.allclose(ours, np.stack(columns, 2), rtol=1e-7, atol=1e-8)


def test_symmetric_and_no_variance_is_negative():
    x = 3 * np.random.default_rng(0).standard_normal((200, 2))
    ours = posterior_covariance(MIXTURE.noised(0.8, 0.6).score_jacobian(x))
    assert np.allclose(ours, ours.swapaxes(1, 2), rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(ours).min() > 0


def test_the_mean_over_points_is_below_the_data_s_covariance():
    """The law of total variance: what is left unknown is at most what was unknown."""
    x = MIXTURE.noised(0.8, 0.6).sample(np.random.default_rng(1), 4000)
    ours = posterior_covariance(MIXTURE.noised(0.8, 0.6).score_jacobian(x))
    assert np.linalg.eigvalsh(MIXTURE.covariance() - ours.mean(0)).min() > 0


def test_bad_input():
    with pytest.raises(ValueError, match="score_jacobian must have shape"):
        posterior_covariance(np.ones((2, 2, 3)))
    with pytest.raises(ValueError, match="alpha must lie in"):
        denoiser_jacobian(np.ones((1, 1, 1)), alpha=0.0)
