r"""Denoising diffusion: the DDIM step and its sampler.

Noisy data :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon` at noise time :math:`t` (0 data,
1 noise) and a model :math:`\hat\varepsilon(x_t, t)` of the noise in it give an estimate of the data,

.. math::
    :label: score-models-denoise

    \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}},

and a step to the smaller noise time :math:`s` puts back the noise that belongs there, part of it fresh,
:math:`z \sim N(0, I)`:

.. math::
    :label: score-models-ddim

    x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s - \tilde\sigma^2}\;\hat\varepsilon + \tilde\sigma z,
    \qquad \tilde\sigma^2 = \eta^2\, \frac{1-\bar\alpha_s}{1-\bar\alpha_t}
    \Big( 1 - \frac{\bar\alpha_t}{\bar\alpha_s} \Big)

:math:`\eta = 0` is the deterministic DDIM, one Euler step of
:math:`\mathrm d(x/\alpha) = \hat\varepsilon\,\mathrm d(\sigma/\alpha)`; :math:`\eta = 1` is DDPM with the posterior
variance. The schedule here is the variance-preserving one with a linear rate
(`trref.problems.mixtures.vp_schedule`). How a model of the noise is learned, and what it can be turned into, is
in :mod:`trref.diffusion.score_matching`.

**Where implementations differ.** DDPM comes with two standard variances; the posterior one is the smaller and visibly
under-dispersed with few steps. The last step should end at :math:`t_{min} > 0` or return :math:`\hat x_0`.

**Provenance.** Confirmed: standard formulas, checked on Gaussian mixtures, whose score is known.

Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv:2006.11239; Song, Meng and Ermon,
*Denoising Diffusion Implicit Models*, 2020, arXiv:2010.02502.
"""

import math

from trref import validate
from trref.backend import to_host, xp
from trref.catalog import Input, Method, Sampler, Transform
from trref.problems.mixtures import MixtureNoise, ring, three_components, vp_schedule

__all__ = ["ddim_sample", "ddim_step"]

STEP_INPUTS = {"x": Input("N D"), "noise": Input("N D"), "z": Input("N D")}


def ddim_step(x, noise, z, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    """Take one DDIM step towards the data.

    Parameters
    ----------
    x : array (N, D)
    noise : array (N, D)
        The model's estimate of the noise in `x`.
    z : array (N, D)
        Fresh standard normal noise; without effect for eta 0.
    alpha_bar, next_alpha_bar : float
        Squared signal level now and after the step, in (0, 1), the second not below the first.
    eta : float
        0 for DDIM, 1 for DDPM with the posterior variance; in [0, 1].

    Returns
    -------
    array (N, D)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, levels or eta out of range.
    """
    validate.inputs(STEP_INPUTS, x, noise, z)
    validate.interval("(0, 1)", alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar)
    validate.interval("[0, 1]", eta=eta)
    if next_alpha_bar < alpha_bar:
        raise ValueError(f"next_alpha_bar must not be below alpha_bar = {alpha_bar}, but is {next_alpha_bar}")
    x0 = (x - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)  # eq. score-models-denoise
    # eq. score-models-ddim
    variance = eta**2 * (1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)
    kept = math.sqrt(max(1 - next_alpha_bar - variance, 0.0))
    return math.sqrt(next_alpha_bar) * x0 + kept * noise + math.sqrt(variance) * z


def _step_jvp(x, noise, z, tangent, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    """The step is linear in x at a given noise estimate; the same scale serves as vjp."""
    return math.sqrt(next_alpha_bar / alpha_bar) * tangent


def _step_vjp(x, noise, z, cotangent, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    return _step_jvp(x, noise, z, cotangent, alpha_bar=alpha_bar, next_alpha_bar=next_alpha_bar, eta=eta)


def ddim_sample(
    rng, model, *, draws=1000, dims=2, steps=100, eta=0.0, t_min=1e-3, beta0=0.1, beta1=20.0, dtype="float64"
):
    """Sample by DDIM steps on a grid from noise time 1 to t_min that is uniform in the square root of the time.

    Parameters
    ----------
    rng : numpy.random.Generator
    model : callable
        ``model(x (N, D), t (N,)) -> (N, D)``: the estimated noise.
    draws, dims, steps : int
        N, D and the number of steps, each at least 1.
    eta : float
        As in `ddim_step`.
    t_min : float
        Where the last step ends, in (0, 1).
    beta0, beta1 : float
        Rates of the schedule at noise times 0 and 1, in (0, inf).
    dtype : dtype
        Of the draws.

    Returns
    -------
    array (N, D)

    Raises
    ------
    ValueError
        Numbers out of range, or a model that gives another shape.
    """
    if not callable(model):
        raise TypeError(f"model must be callable, not {type(model).__name__}")
    validate.integer("[1, inf)", draws=draws, dims=dims, steps=steps)
    validate.interval("(0, 1)", t_min=t_min)
    validate.interval("(0, inf)", beta0=beta0, beta1=beta1)
    times = (xp.linspace(1.0, math.sqrt(t_min), steps + 1) ** 2).astype(dtype)
    alpha, _ = vp_schedule(times, beta0, beta1)
    alpha_bar = to_host(alpha**2).tolist()
    draw = lambda: xp.asarray(rng.standard_normal((draws, dims)), dtype=dtype)  # noqa: E731
    x = draw()
    for k in range(steps):
        noise = model(x, times[k] + xp.zeros(draws, dtype=dtype))
        if noise.shape != x.shape:
            raise ValueError(f"model must give shape {tuple(x.shape)}, not {tuple(noise.shape)}")
        x = ddim_step(x, noise, draw(), alpha_bar=alpha_bar[k], next_alpha_bar=alpha_bar[k + 1], eta=eta)
    return x


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
    return {name: rng.standard_normal((size, 2)) for name in STEP_INPUTS}


METHOD = Method(
    title="Denoising Diffusion Implicit Models",
    key="song2020denoising",
    arxiv="2010.02502",
    provenance="confirmed",
    functions=(
        Transform(
            f=ddim_step,
            inputs=STEP_INPUTS,
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
            inputs={"model": Input("", "callable")},
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
