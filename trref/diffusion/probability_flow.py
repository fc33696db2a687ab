r"""Probability flow: one equation without noise, and a family with noise, that have the same marginals.

The noisy data :math:`x_t = \alpha_t x_0 + \sigma_t\varepsilon` of a forward process with the rates :math:`f` and
:math:`g^2` (:mod:`trref.diffusion.noise_schedules`) have a density :math:`p_t` at each noise time. Its score, by way of
a model of the noise :math:`\hat\varepsilon = -\sigma\nabla\log p_t`, gives a velocity that moves points so that their
density stays :math:`p_t`. With :math:`\lambda = 0`,

.. math::
    :label: probability-flow-drift

    \frac{\mathrm dx}{\mathrm dt} = f x + \frac{1 + \lambda^2}{2}\, \frac{g^2}{\sigma}\, \hat\varepsilon(x, t),

and with churn :math:`\lambda > 0` the pull towards the data is stronger, and fresh noise makes up for it. From noise
time :math:`t` to a smaller one, with :math:`h = t_k - t_{k+1}`, a step of Euler and Maruyama is

.. math::
    :label: probability-flow-euler-maruyama

    x_{k+1} = x_k - h \Big( f x_k + \frac{1 + \lambda^2}{2}\, \frac{g^2}{\sigma}\, \hat\varepsilon \Big)
    + \lambda g \sqrt h\, z_k,

of order 1 (in law); without noise, Heun's rule takes the mean of the velocities at both ends and has order 2:

.. math::
    :label: probability-flow-heun

    \bar x = x_k - h v(x_k, t_k), \qquad x_{k+1} = x_k - \frac h2 \big( v(x_k, t_k) + v(\bar x, t_{k+1}) \big).

The linear term can be solved exactly. In the variables :math:`x/\alpha` and :math:`\sigma/\alpha` the velocity is the
noise, in :math:`x/\sigma` and :math:`\alpha/\sigma` the data, and one step of Euler's rule in either is, to
:math:`(\alpha', \sigma')`,

.. math::
    :label: probability-flow-exponential

    x' = \frac{\alpha'}{\alpha} x + \Big( \sigma' - \frac{\alpha'}{\alpha}\sigma \Big) \hat\varepsilon
       = \frac{\sigma'}{\sigma} x + \Big( \alpha' - \frac{\sigma'}{\sigma}\alpha \Big) \hat x_0,

which is a step of DDIM. Along the flow the density changes by the divergence of the velocity alone, so that with D
entries a point, and a last time T at which :math:`p_T` is taken to be :math:`N(0, \sigma_T^2 I)`,

.. math::
    :label: probability-flow-likelihood

    \log p_{t_0}(x) = \log p_T(x_T) + \int_{t_0}^T \Big( D f + \frac{g^2}{2\sigma}\,
    \mathrm{tr}\,\frac{\partial\hat\varepsilon}{\partial x} \Big)\, \mathrm dt,

integrated together with the point by Heun's rule.

**Where implementations differ.** The code of score-based SDEs, and diffusers after it, call the model at times from 1
to a small one and take steps of 1/N, whatever the distance of those times. Likelihoods of images take the trace from
one random probe instead of all entries.

**Provenance.** Standard formulas from memory, checked on Gaussian mixtures: against the exact densities, against an
adaptive solver, and for their orders.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, *Score-Based Generative Modeling through Stochastic Differential
Equations*, 2020, arXiv:2011.13456.
"""

import math
from collections.abc import Callable
from typing import Literal

from trref.backend import to_host, xp
from trref.diffusion.noise_schedules import rates
from trref.diffusion.terms import a_step, finite, not_rising, predicted, pulled
from trref.problems.mixtures import vp_schedule
from trref.problems.protocols import DenoisingModel
from trref.signature import (
    K1,
    D,
    FiniteFloat,
    K,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Rng,
    checked,
)


@checked
def reverse_drift(
    x: Real[N, D],
    noise: Real[N, D],
    *,
    drift: FiniteFloat = -1.25,
    squared_diffusion: NonNegativeFloat = 2.1,
    sigma: PositiveFloat = 0.6,
    churn: NonNegativeFloat = 0.0,
) -> Real[N, D]:
    """Return the derivative by noise time: of the flow, or the drift of the equation with noise.

    Parameters
    ----------
    x
        The noisy data.
    noise
        The model's estimate of the noise in `x`.
    drift, squared_diffusion
        The rates f and g² of the forward process.
    sigma
        The noise level.
    churn
        0 for the flow, 1 for the reverse of the forward process.
    """
    # eq. probability-flow-drift
    return drift * x + (1 + churn**2) / 2 * squared_diffusion / sigma * noise


@checked
def exponential_step(
    x: Real[N, D],
    prediction: Real[N, D],
    *,
    alpha: PositiveFloat = 0.6,
    sigma: PositiveFloat = 0.8,
    next_alpha: NonNegativeFloat = 0.8,
    next_sigma: NonNegativeFloat = 0.6,
    given: Literal["noise", "data"] = "noise",
) -> Real[N, D]:
    """Take a step of Euler's rule with an exact linear term, with levels of any schedule.

    Parameters
    ----------
    prediction
        Of the model, at `x`.
    alpha, next_alpha
        Signal level now and after the step.
    sigma, next_sigma
        Noise level now and after the step.
    given
        What is predicted; it makes no difference but for rounding if the two belong to each other.
    """
    # eq. probability-flow-exponential
    if given == "noise":
        signal = next_alpha / alpha
        return signal * x + (next_sigma - signal * sigma) * prediction
    kept = next_sigma / sigma
    return kept * x + (next_alpha - kept * alpha) * prediction


def _rising(times, **_):
    """Times that fall, or fewer than two."""
    a_step(times=times)
    return [(lambda: (times[1:] >= times[:-1]).all(), "times must not fall")]


def _on_the_host(*arrays):
    """Columns of device arrays (K+1), as rows of floats."""
    return to_host(xp.stack(arrays, 1)).tolist()


@checked(also=not_rising)
def flow_path(
    model: Callable,
    x: Real[N, D],
    times: Prob[K1],
    sigma: Positive[K1],
    drift: Real[K1],
    squared_diffusion: NonNegative[K1],
    *,
    rule: Literal["euler", "heun"] = "heun",
) -> Real[N, D]:
    """Follow the flow from noise to data on a given grid.

    Parameters
    ----------
    model
        ``model(x (N, D), t (N,)) -> (N, D)``: the estimated noise at noise time t.
    x
        Noisy data at the first time.
    times
        Noise times.
    sigma
        Noise level at each time.
    drift, squared_diffusion
        Rates at each time: ``rates(times)`` of :mod:`trref.diffusion.noise_schedules`.
    rule
        With ``"heun"`` the model is called twice a step.

    Raises
    ------
    ValueError
        A `model` whose noise has another shape or is not finite.
    """
    at = _on_the_host(times, sigma, drift, squared_diffusion)

    def velocity(x, k):
        _, s, f, g2 = at[k]
        noise = predicted(model, x, times[k])
        levels = {"drift": f, "squared_diffusion": g2, "sigma": s}
        return reverse_drift.unchecked(x, noise, **levels)

    for k in range(len(at) - 1):
        h = at[k][0] - at[k + 1][0]
        v = velocity(x, k)
        end = x - h * v
        # eq. probability-flow-heun
        x = x - h / 2 * (v + velocity(end, k + 1)) if rule == "heun" else end
    return finite(x)


@checked(also=not_rising)
def sde_path(
    model: Callable,
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    sigma: Positive[K1],
    drift: Real[K1],
    squared_diffusion: NonNegative[K1],
    *,
    churn: NonNegativeFloat = 1.0,
) -> Real[N, D]:
    """Follow the equation with noise from noise to data on a given grid, with given fresh noise.

    Parameters
    ----------
    z
        Fresh standard normal noise of each step.
    churn
        1 for the reverse of the forward process, 0 for the flow.

    Raises
    ------
    ValueError
        A `model` whose noise has another shape or is not finite.
    """
    at = _on_the_host(times, sigma, drift, squared_diffusion)
    for k, fresh in enumerate(z):
        time, s, f, g2 = at[k]
        h = time - at[k + 1][0]
        levels = {"drift": f, "squared_diffusion": g2, "sigma": s, "churn": churn}
        noise = predicted(model, x, times[k])
        # eq. probability-flow-euler-maruyama
        v = reverse_drift.unchecked(x, noise, **levels)
        x = x - h * v + churn * math.sqrt(g2 * h) * fresh

    return finite(x)


def _a_stretch(t_max, t_min, **_):
    """Ends of time in the wrong order."""
    if t_min >= t_max:
        raise ValueError(f"t_min must be below t_max = {t_max}")
    return []


@checked(also=_a_stretch)
def reverse_sample(
    rng: Rng,
    model: Callable,
    *,
    draws: PositiveInt = 1000,
    dims: PositiveInt = 2,
    steps: PositiveInt = 100,
    churn: NonNegativeFloat = 1.0,
    t_max: OpenFraction = 0.999,
    t_min: OpenFraction = 1e-3,
    dtype: str | type = "float64",
) -> Real[N, D]:
    """Sample a model of the schedule "vp" from noise, on a grid that is uniform in the square root of the time.

    Parameters
    ----------
    t_max, t_min
        Where the first step begins and the last one ends.
    """
    root = xp.linspace(math.sqrt(t_max), math.sqrt(t_min), steps + 1)
    times = (root**2).astype(dtype)
    _, sigma = vp_schedule(times)
    drawn = rng.standard_normal((steps + 1, draws, dims))
    drawn = xp.asarray(drawn, dtype=dtype)
    start, forward = sigma[0] * drawn[0], rates.unchecked(times)
    return sde_path.unchecked(
        model, start, drawn[1:], times, sigma, *forward, churn=churn
    )


@checked(also=_rising)
def log_likelihood(
    model: DenoisingModel,
    x: Real[N, D],
    times: Prob[K1],
    sigma: Positive[K1],
    drift: Real[K1],
    squared_diffusion: NonNegative[K1],
) -> Real[N]:
    """Return the log-density of points at the first time: follow them to the noise.

    Parameters
    ----------
    model
        The estimated noise, with its derivative, such as `trref.problems.mixtures.MixtureNoise`.
    x
        Points at the first time.
    times
        Noise times, from small to large.

    Raises
    ------
    ValueError
        A `model` whose noise or derivative has another shape or is not finite.
    """
    at = _on_the_host(times, sigma, drift, squared_diffusion)
    D = x.shape[1]

    def velocity(x, k):
        _, s, f, g2 = at[k]
        levels = {"drift": f, "squared_diffusion": g2, "sigma": s}
        v = reverse_drift.unchecked(x, predicted(model, x, times[k]), **levels)
        trace = xp.zeros_like(x[:, 0])
        for i in range(D):
            unit = xp.zeros_like(x)
            unit[:, i] = 1
            trace = trace + pulled(model, x, times[k], unit)[:, i]
        return v, D * f + g2 / (2 * s) * trace

    gained = xp.zeros_like(x[:, 0])
    # eq. probability-flow-likelihood
    for k in range(len(at) - 1):
        h = at[k + 1][0] - at[k][0]
        v, rate = velocity(x, k)
        next_v, next_rate = velocity(x + h * v, k + 1)
        x = x + h / 2 * (v + next_v)
        gained = gained + h / 2 * (rate + next_rate)
    variance = at[-1][1] ** 2
    squares = (x * x).sum(1) / variance
    prior = -(squares + D * math.log(2 * math.pi * variance)) / 2

    return finite(prior + gained)
