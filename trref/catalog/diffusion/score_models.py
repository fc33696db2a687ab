"""What is known of `trref.diffusion.score_models`."""

import math

from trref.catalog import Method, Sampler, Transform
from trref.diffusion.score_models import ddim_sample, ddim_step
from trref.problems.mixtures import MixtureNoise, ring, three_components


def _step_jvp(x, noise, z, tangent, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    """The step is linear in x at a given noise estimate; the same scale serves as vjp."""
    return math.sqrt(next_alpha_bar / alpha_bar) * tangent


def _step_vjp(x, noise, z, cotangent, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    return _step_jvp(x, noise, z, cotangent, alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar, eta=eta)


def _moments(x, model, *, draws=1000, eta=0.0, steps=100, **_):
    """Mean and covariance of the mixture: five standard errors, and a bias that falls like 1/steps."""
    mixture, n = model.mixture, len(x)
    mean, covariance = mixture.mean(), mixture.covariance()
    moments = {}
    for i in range(mean.size):
        deviation = math.sqrt(float(covariance[i, i]))
        moments[f"mean {i}"] = (float(x[:, i].mean()), float(mean[i]), deviation * (5 / math.sqrt(n) + 3 / steps))
        for j in range(i + 1):
            product = (x[:, i] - x[:, i].mean()) * (x[:, j] - x[:, j].mean())
            allowance = 5 * float(product.std()) / math.sqrt(n) + 6 / steps * deviation * float(covariance[j, j]) ** 0.5
            moments[f"covariance {i}{j}"] = (float(product.mean()), float(covariance[i, j]), allowance)
    return moments


def _step_example(rng, size):
    D = int(rng.integers(1, 5))
    return {name: rng.standard_normal((size, D)) for name in ("x", "noise", "z")}


METHOD = Method(
    key="song2020denoising",
    provenance="confirmed",
    functions=(
        Transform(
            f=ddim_step,
            example=_step_example,
            wrt="x",
            jvp=_step_jvp,
            vjp=_step_vjp,
            settings={
                "default": {},
                "DDPM": {"eta": 1.0},
                "probe": {"alpha_bar": 0.3, "next_alpha_bar": 0.45, "eta": 0.6},
            },
        ),
        Sampler(
            f=ddim_sample,
            example=lambda rng, size: {"model": MixtureNoise(three_components())},
            edges={"a ring of narrow modes": lambda: {"model": MixtureNoise(ring())}},
            settings={
                "default": {},
                "DDPM": {"eta": 1.0},
                "probe": {"draws": 700, "dims": 2, "steps": 80, "eta": 0.5, "t_min": 2e-3, "beta0": 0.2, "beta1": 15.0},
            },
            moments=_moments,
        ),
    ),
)
