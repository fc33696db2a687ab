r"""Gaussian mixtures whose noisy densities, scores and denoisers are known exactly.

If :math:`x_0 \sim \sum_k w_k N(m_k, S_k)` and :math:`x = \alpha x_0 + \sigma\varepsilon`, then :math:`x` is again a
mixture, with means :math:`\alpha m_k` and covariances :math:`\alpha^2 S_k + \sigma^2 I`.

Models are ``model(x (N, D), t (N,)) -> (N, D)`` in noise time, 0 for data and 1 for noise, with ``model.vjp(x, t,
cotangent)``, the derivative by x of ``sum(cotangent * model(x, t))``. All rows are at one time, as in a sampler's step.
"""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from trref import validate
from trref.backend import linalg, xp

__all__ = [
    "SCHEDULES",
    "GaussianMixture",
    "GuidedModel",
    "MixtureDenoiser",
    "MixtureNoise",
    "MixtureVelocity",
    "ScaledNoise",
    "ddpm_schedule",
    "flow_schedule",
    "low_rank_mixture",
    "ring",
    "template_images",
    "three_components",
    "ve_schedule",
    "vp_schedule",
]


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


def ve_schedule(t, smallest=0.01, largest=10.0):
    """Return signal 1 and noise level from `smallest` at noise time 0 to `largest` at 1, in geometric progression."""
    return xp.ones_like(t), smallest * xp.exp(t * math.log(largest / smallest))


def flow_schedule(t):
    """Return signal ``1 - t`` and noise level ``t``: straight lines from data to noise, with velocity noise - data."""
    return 1 - t, t


def ddpm_schedule(steps=1000, first=1e-4, last=0.02):
    """Return the squared signal level after each of DDPM's steps (steps,): products of ``1 - rate`` (host).

    The rates grow linearly from `first` to `last`. For the grids of dds and the samplers of score_models.
    """
    return np.cumprod(1 - np.linspace(first, last, steps))


SCHEDULES = {"vp": vp_schedule, "ve": ve_schedule, "flow": flow_schedule}


@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """A mixture with weights (K,), means (K, d) and covariances (K, d, d)."""

    weights: Any
    means: Any
    covariances: Any

    def noised(self, alpha, sigma):
        """Return the mixture of ``alpha x + sigma noise`` for host numbers alpha and sigma."""
        eye = xp.eye(self.means.shape[1], dtype=self.means.dtype)
        return GaussianMixture(
            self.weights,
            alpha * self.means,
            alpha**2 * self.covariances + sigma**2 * eye,
        )

    def _components(self, x):
        """Return log-densities (N, K) with weights, and component scores (N, K, d)."""
        d = self.means.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (N, {d}), not {tuple(x.shape)}")
        difference = x[:, None] - self.means
        scores = -xp.einsum("kij,nkj->nki", linalg.inv(self.covariances), difference)
        log_det = linalg.slogdet(self.covariances)[1]
        square = -(difference * scores).sum(-1)
        return xp.log(self.weights) - (
            square + log_det + d * math.log(2 * math.pi)
        ) / 2, scores

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
        return (
            outer
            - s[:, :, None] * s[:, None]
            - xp.einsum("nk,kij->nij", r, linalg.inv(self.covariances))
        )

    def mean(self):
        """Mean (d,)."""
        return self.weights @ self.means

    def covariance(self):
        """Covariance (d, d)."""
        centred = self.means - self.mean()
        return xp.einsum("k,ki,kj->ij", self.weights, centred, centred) + xp.einsum(
            "k,kij->ij", self.weights, self.covariances
        )

    def subset(self, components):
        """Return the mixture of some components, such as those of one class: what a class condition leaves."""
        weights = self.weights[components]
        return GaussianMixture(
            weights / weights.sum(),
            self.means[components],
            self.covariances[components],
        )

    def sample(self, rng, n):
        """Draw n points (n, d)."""
        u = xp.asarray(rng.random(n))
        component = (u[:, None] > xp.cumsum(self.weights)[:-1]).sum(1)
        z = xp.asarray(rng.standard_normal((n, self.means.shape[1])))
        return self.means[component] + xp.einsum(
            "nij,nj->ni", linalg.cholesky(self.covariances)[component], z
        )


class _Expected:
    """The conditional mean of ``noise_share * noise + data_share * data`` given x.

    Given component k it is ``f_k = A_k (x - alpha m_k) + data_share m_k``, where
    ``A_k = (noise_share sigma I + data_share alpha S_k) C_k⁻¹`` and C_k is the noised covariance; the mean weighs the
    f_k by the responsibilities. Nothing is divided by alpha or sigma, so that both ends of time are in reach.
    """

    def __post_init__(self):
        validate.choice(SCHEDULES, schedule=self.schedule)

    def _parts(self, x, t):
        """Return alpha, sigma, the noised mixture, responsibilities (N, K), component scores and f (N, K, D)."""
        alpha, sigma = SCHEDULES[self.schedule](t[0])
        noised = self.mixture.noised(alpha, sigma)
        log_terms, scores = noised._components(x)
        f = -self.noise_share * sigma * scores
        if self.data_share:
            m, S = self.mixture.means, self.mixture.covariances
            f += self.data_share * (m - alpha * xp.einsum("kij,nkj->nki", S, scores))
        return alpha, sigma, noised, noised._responsibilities(log_terms), scores, f

    def __call__(self, x, t):
        """Return the conditional mean (N, D) at x (N, D) and noise times t (N,), all equal."""
        *_, r, _, f = self._parts(x, t)
        return (r[:, :, None] * f).sum(1)

    def vjp(self, x, t, cotangent):
        """Return the derivative (N, D) of ``sum(cotangent * model(x, t))`` by x."""
        alpha, sigma, noised, r, scores, f = self._parts(x, t)
        noise = self.noise_share * sigma * xp.eye(x.shape[1], dtype=x.dtype)
        data = self.data_share * alpha * self.mixture.covariances
        A = (noise + data) @ linalg.inv(noised.covariances)
        direct = xp.einsum("nk,kij,nj->ni", r, A, cotangent)
        # a component's share in the mean changes by its score, less their mean
        pull = r * (f * cotangent[:, None]).sum(2)
        return direct + (
            pull[:, :, None] * (scores - (r[:, :, None] * scores).sum(1, keepdims=True))
        ).sum(1)


@dataclasses.dataclass(frozen=True)
class MixtureNoise(_Expected):
    """The exact noise predictor of a mixture, ``E[noise | x] = -sigma * score``.

    For score_models, optimal_gaussian_diffusion and every sampler whose error is to be its discretisation alone.
    """

    mixture: GaussianMixture
    schedule: str = "vp"
    noise_share: ClassVar[float] = 1.0
    data_share: ClassVar[float] = 0.0


@dataclasses.dataclass(frozen=True)
class MixtureDenoiser(_Expected):
    """The exact denoiser of a mixture, ``E[data | x]``.

    For self_attention_guidance, adaptive_projected_guidance and dds, which work on estimates of the data.
    """

    mixture: GaussianMixture
    schedule: str = "vp"
    noise_share: ClassVar[float] = 0.0
    data_share: ClassVar[float] = 1.0


@dataclasses.dataclass(frozen=True)
class MixtureVelocity(_Expected):
    """The exact velocity ``E[noise - data | x]`` of a mixture under `flow_schedule`: that of noise time.

    For grpo_guard, trqam, cfg_manifold_projection and rocm. Cards in data time have the opposite sign.
    """

    mixture: GaussianMixture
    schedule: ClassVar[str] = "flow"
    noise_share: ClassVar[float] = 1.0
    data_share: ClassVar[float] = -1.0


@dataclasses.dataclass(frozen=True)
class ScaledNoise:
    """The exact predictor of ``scale * noise`` in ``alpha x0 + sigma scale noise``, with a scale (D,) an entry.

    In the units of `scale` the noise is standard: it is `MixtureNoise` there. For optimal_gaussian_diffusion.
    """

    mixture: GaussianMixture
    scale: Any
    schedule: str = "vp"

    def _standard(self):
        s = self.scale
        means, covariances = self.mixture.means, self.mixture.covariances
        inner = GaussianMixture(
            self.mixture.weights, means / s, covariances / (s[:, None] * s)
        )
        return MixtureNoise(inner, self.schedule)

    def __call__(self, x, t):
        """Return the prediction (N, D)."""
        return self.scale * self._standard()(x / self.scale, t)

    def vjp(self, x, t, cotangent):
        """Return the derivative (N, D) of ``sum(cotangent * model(x, t))`` by x."""
        inner = self._standard().vjp(x / self.scale, t, self.scale * cotangent)
        return inner / self.scale


@dataclasses.dataclass(frozen=True)
class GuidedModel:
    """``unconditional + weight (conditional - unconditional)``: weight 1 is the conditional model.

    For adaptive_projected_guidance, cfg_manifold_projection and self_attention_guidance, and for the samples that
    guided models of alignprop start from.
    """

    conditional: Any
    unconditional: Any
    weight: float

    def __call__(self, x, t):
        """Return the guided prediction (N, D)."""
        plain = self.unconditional(x, t)
        return plain + self.weight * (self.conditional(x, t) - plain)

    def vjp(self, x, t, cotangent):
        """Return the derivative (N, D) of ``sum(cotangent * model(x, t))`` by x."""
        plain = self.unconditional.vjp(x, t, cotangent)
        return plain + self.weight * (self.conditional.vjp(x, t, cotangent) - plain)


def three_components():
    """Return three anisotropic components in the plane, as host arrays."""
    angles = np.array([0.3, 1.4, 2.6])
    rotations = np.stack(
        [[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]
    ).transpose(2, 0, 1)
    spreads = np.array([[0.4, 0.1], [0.3, 0.2], [0.5, 0.15]])
    covariances = np.einsum("kij,kj,klj->kil", rotations, spreads**2, rotations)
    return GaussianMixture(
        np.array([0.5, 0.3, 0.2]),
        np.array([[1.0, 0.5], [-1.0, 1.0], [0.0, -1.2]]),
        covariances,
    )


def ring(modes=8, radius=1.5, spread=0.12):
    """Return equal round components on a circle in the plane, as host arrays."""
    angles = 2 * np.pi * np.arange(modes) / modes
    means = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return GaussianMixture(
        np.full(modes, 1 / modes), means, np.tile(spread**2 * np.eye(2), (modes, 1, 1))
    )


def low_rank_mixture(rng, *, components=5, dims=32, rank=4, spread=0.05):
    """Return a mixture whose components lie near different subspaces, as host arrays.

    Each has a random mean and covariance ``U Uᵀ + spread² I`` with orthonormal U (dims, rank). For dds (measurements
    of fewer numbers than dims) and symplectic_adjoint (guidance that leaves the subspace is seen).
    """
    U = np.linalg.qr(rng.standard_normal((components, dims, rank)))[0]
    covariances = U @ np.swapaxes(U, 1, 2) + spread**2 * np.eye(dims)
    return GaussianMixture(
        np.full(components, 1 / components),
        rng.standard_normal((components, dims)),
        covariances,
    )


def template_images(rng, *, templates=60, spread=0.1):
    """Return a mixture around simple 8 × 8 images in [-1, 1], as host arrays: bars, crosses, frames and blocks.

    For self_attention_guidance (blur and attention need pixels) and dds (total variation).

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws kinds, places and sizes.
    templates : int
        Components.
    spread : float
        Standard deviation of each pixel.

    Returns
    -------
    GaussianMixture
        Means (templates, 64).
    """
    rows, columns = np.mgrid[:8, :8]
    images = np.empty((templates, 8, 8))
    for image in images:
        top, left = rng.integers(0, 4, 2)
        height, width = rng.integers(3, 5, 2)
        inside = (
            (rows >= top)
            & (rows < top + height)
            & (columns >= left)
            & (columns < left + width)
        )
        core = (
            (rows > top)
            & (rows < top + height - 1)
            & (columns > left)
            & (columns < left + width - 1)
        )
        shapes = (
            rows == top,
            columns == left,
            (rows == top) | (columns == left),
            inside & ~core,
            inside,
        )
        image[:] = 2.0 * shapes[rng.integers(len(shapes))] - 1
    covariances = np.tile(spread**2 * np.eye(64), (templates, 1, 1))
    return GaussianMixture(
        np.full(templates, 1 / templates), images.reshape(templates, 64), covariances
    )
