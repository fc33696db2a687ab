r"""Gaussian mixtures whose noisy densities, scores and denoisers are known exactly.

If :math:`x_0 \sim \sum_k w_k N(m_k, S_k)` and :math:`x = \alpha x_0 + \sigma\varepsilon`, then :math:`x` is again a
mixture, with means :math:`\alpha m_k` and covariances :math:`\alpha^2 S_k + \sigma^2 I`.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from trref.backend import linalg, xp

__all__ = ["GaussianMixture", "MixtureNoise", "ring", "three_components", "vp_schedule"]


def vp_schedule(t, beta0=0.1, beta1=20.0):
    """Return signal and noise level of the variance-preserving schedule with a linear rate.

    Parameters
    ----------
    t : array
        Noise time: 0 data, 1 (almost) pure noise.
    beta0, beta1 : float
        Rates at 0 and 1.

    Returns
    -------
    alpha, sigma : array
        ``alpha² + sigma² = 1``.
    """
    log_alpha = -(t**2) * (beta1 - beta0) / 4 - t * beta0 / 2
    return xp.exp(log_alpha), xp.sqrt(-xp.expm1(2 * log_alpha))


@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """A mixture with weights (K,), means (K, d) and covariances (K, d, d)."""

    weights: Any
    means: Any
    covariances: Any

    def noised(self, alpha, sigma):
        """Return the mixture of ``alpha x + sigma noise`` for host numbers alpha and sigma."""
        eye = xp.eye(self.means.shape[1], dtype=self.means.dtype)
        return GaussianMixture(self.weights, alpha * self.means, alpha**2 * self.covariances + sigma**2 * eye)

    def _components(self, x):
        """Return log-densities (N, K) with weights, and component scores (N, K, d)."""
        difference = x[:, None] - self.means
        scores = -xp.einsum("kij,nkj->nki", linalg.inv(self.covariances), difference)
        log_det = linalg.slogdet(self.covariances)[1]
        square = -(difference * scores).sum(-1)
        d = self.means.shape[1]
        return xp.log(self.weights) - (square + log_det + d * math.log(2 * math.pi)) / 2, scores

    def log_density(self, x):
        """Log-density at x (N, d)."""
        log_terms, _ = self._components(x)
        top = log_terms.max(1, keepdims=True)
        return top[:, 0] + xp.log(xp.exp(log_terms - top).sum(1))

    def responsibilities(self, x):
        """Probability of each component given x (N, d): (N, K)."""
        return self._responsibilities(self._components(x)[0])

    @staticmethod
    def _responsibilities(log_terms):
        r = xp.exp(log_terms - log_terms.max(1, keepdims=True))
        return r / r.sum(1, keepdims=True)

    def score(self, x):
        """Gradient of the log-density at x (N, d)."""
        log_terms, scores = self._components(x)
        return (self._responsibilities(log_terms)[:, :, None] * scores).sum(1)

    def score_jacobian(self, x):
        """Hessian of the log-density at x (N, d): (N, d, d)."""
        log_terms, scores = self._components(x)
        r = self._responsibilities(log_terms)
        s = (r[:, :, None] * scores).sum(1)
        outer = xp.einsum("nk,nki,nkj->nij", r, scores, scores)
        return outer - s[:, :, None] * s[:, None] - xp.einsum("nk,kij->nij", r, linalg.inv(self.covariances))

    def mean(self):
        """Mean (d,)."""
        return self.weights @ self.means

    def covariance(self):
        """Covariance (d, d)."""
        centred = self.means - self.mean()
        return xp.einsum("k,ki,kj->ij", self.weights, centred, centred) + xp.einsum(
            "k,kij->ij", self.weights, self.covariances
        )

    def sample(self, rng, n):
        """Draw n points (n, d)."""
        u = xp.asarray(rng.random(n))
        component = (u[:, None] > xp.cumsum(self.weights)[:-1]).sum(1)
        z = xp.asarray(rng.standard_normal((n, self.means.shape[1])))
        return self.means[component] + xp.einsum("nij,nj->ni", linalg.cholesky(self.covariances)[component], z)


@dataclasses.dataclass(frozen=True)
class MixtureNoise:
    """The exact noise predictor of a mixture under `vp_schedule`: ``model(x (N, d), t (N,)) -> E[noise | x]`` (N, d).

    ``E[noise | x] = -sigma * score``; all entries of t must be equal, as they are in a sampler's step.
    """

    mixture: GaussianMixture
    beta0: float = 0.1
    beta1: float = 20.0

    def __call__(self, x, t):
        alpha, sigma = vp_schedule(t[0], self.beta0, self.beta1)
        return -sigma * self.mixture.noised(alpha, sigma).score(x)


def three_components():
    """Return three anisotropic components in the plane, as host arrays."""
    angles = np.array([0.3, 1.4, 2.6])
    rotations = np.stack([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    spreads = np.array([[0.4, 0.1], [0.3, 0.2], [0.5, 0.15]])
    covariances = np.einsum("kij,kj,klj->kil", rotations, spreads**2, rotations)
    return GaussianMixture(np.array([0.5, 0.3, 0.2]), np.array([[1.0, 0.5], [-1.0, 1.0], [0.0, -1.2]]), covariances)


def ring(modes=8, radius=1.5, spread=0.12):
    """Return equal round components on a circle in the plane, as host arrays."""
    angles = 2 * np.pi * np.arange(modes) / modes
    means = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return GaussianMixture(np.full(modes, 1 / modes), means, np.tile(spread**2 * np.eye(2), (modes, 1, 1)))
