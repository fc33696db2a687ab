r"""ROCM: a reward's gradient through the few noisy steps of a consistency model, held near the first model.

A consistency model maps a noisy point to a guess of the data. At the level :math:`\tau` it is

.. math::
    :label: rocm-consistency

    f_\theta(x, \tau) = \frac{\sigma_d^2}{(\tau - \epsilon)^2 + \sigma_d^2}\, x
    + \frac{\sigma_d\, (\tau - \epsilon)}{\sqrt{\tau^2 + \sigma_d^2}}\, F_\theta(x, \tau),

which is x itself at the smallest level :math:`\epsilon`. A sample takes one to eight steps: guess, put noise of a lower
level back, guess again. With the guess :math:`y_n` at the state :math:`x_n`,

.. math::
    :label: rocm-steps

    y_n = f_\theta(x_n, t_n), \qquad x_{n+1} = a_n y_n + s_n z_n, \qquad n = 0, \dots, K,

and :math:`y_K` is the sample. (For added noise :math:`a_n = 1` and :math:`s_n^2 = \tau_{n+1}^2 - \epsilon^2`; a
variance-preserving model takes signal and noise of :math:`t_{n+1}`.) Each noisy step is a Gaussian policy with the mean
:math:`a_n y_n`. Its divergence from that of the frozen first model, at the *same* state, is a function of

.. math::
    :label: rocm-distance

    \delta_n = \frac{a_n}{s_n} \big\| f_\theta(x_n, t_n) - f_{ref}(x_n, t_n) \big\|

alone, for the covariances agree:

.. math::
    :label: rocm-divergence

    \text{KL: } \tfrac12 \delta^2, \qquad \text{Hellinger: } 1 - e^{-\delta^2/8}, \qquad
    \text{total variation: } 2\Phi(\delta/2) - 1, \qquad \chi^2: e^{\delta^2} - 1, \\
    \text{Jensen-Shannon: } \log 2 - \mathbb E\, \mathrm{softplus}(-\delta w), \quad w \sim N(\delta/2, 1), \qquad
    \text{Fisher: } \delta^2 / s^2 .

KL is the same in both directions. What pulls the model back is the slope; the derivatives, divided by :math:`\delta` to
be finite at 0 for all but the total variation, are

.. math::
    :label: rocm-slope

    1, \qquad \tfrac14 e^{-\delta^2/8}, \qquad \frac{e^{-\delta^2/8}}{\sqrt{2\pi}\, \delta}, \qquad 2 e^{\delta^2},
    \qquad \mathbb E\, \mathrm{sigmoid}(-\delta w)^2, \qquad \frac2{s^2} .

Those of Hellinger, Jensen-Shannon and total variation vanish far off: who has escaped is not pulled back. (The fifth
comes from the derivative under the integral by Stein's identity.) What is maximised is

.. math::
    :label: rocm-objective

    J = \frac1N \sum \Big[ R(y_K) - \beta \sum_{n=0}^{K-1} D(\delta_n) \Big] .

Backwards, with :math:`q_n` the derivative of :math:`NJ` by :math:`x_n` and :math:`r_n` that of the penalty by
:math:`y_n`,

.. math::
    :label: rocm-backward

    r_n = -\beta\, \frac{D'(\delta_n)}{\delta_n}\, \frac{a_n^2}{s_n^2}\, (y_n - f_{ref}(x_n, t_n)), \qquad
    g_n = a_n q_{n+1} + r_n, \quad g_K = \nabla R(y_K), \\
    q_n = \Big( \frac{\partial f_\theta}{\partial x} \Big)^{\!\top} g_n
    - \Big( \frac{\partial f_{ref}}{\partial x} \Big)^{\!\top} r_n, \qquad
    \frac{\partial J}{\partial \theta} = \frac1N \sum_n
    \Big( \frac{\partial f_\theta}{\partial \theta} \Big)^{\!\top} g_n .

The cheaper form holds the states inside the divergences constant, and so needs no derivative of the reference:

.. math::
    :label: rocm-truncated

    q_n = \Big( \frac{\partial f_\theta}{\partial x} \Big)^{\!\top} a_n q_{n+1} .

At the reference the penalty and its gradient are 0; at :math:`\delta = 0` the derivative of the total variation is
taken to be 0. With :math:`\beta = 0` the reward alone is pushed back. One guess without noise has no divergence.

==========================  ==============================
:math:`a_n, s_n`            `signal, spread`
:math:`\tau, \epsilon`      `level, smallest`
:math:`\sigma_d`            `data_std`
==========================  ==============================

The objectives leave :math:`\chi^2` out: it overflows for a model a few deviations off.

**Where implementations differ.** No public code of the method was seen. Latent consistency models, which are tuned in
this way, scale by :math:`\tau / \sqrt{\tau^2 + \sigma_d^2}` without the factor :math:`\sigma_d`, and count the level
from 0 (diffusers' LCMScheduler); as F is learned, the form is a choice.

**Provenance.** Reconstructed: the objective, direct gradients through all steps and divergences between Gaussian
conditionals from the abstract and summaries of the paper; the list of divergences from memory; the scaling as in the
authors' code of consistency models (openai/consistency_models); slopes and gradients derived here and compared with
differences and quadrature.

Shekhar and Zhang, *ROCM: RLHF on consistency models*, 2025, arXiv:2503.06171.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.backend import special, xp
from trref.problems.denoisers import AskedNetwork
from trref.problems.protocols import DenoisingModel, DenoisingNetwork
from trref.signature import (
    K1,
    D,
    K,
    N,
    NonNegative,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    checked,
)

SPACING, NODES = 0.6, 134
"""Of the grid for Jensen-Shannon, in units of max(delta, 1): the trapezoidal rule errs by 1e-14 on it."""

LARGEST_CHI = 9.0
"""Distance beyond which the chi-square divergence is refused: it overflows in single precision."""

Kind = Literal[
    "kl", "hellinger", "jensen_shannon", "chi_square", "total_variation", "fisher"
]
Bounded = Literal["kl", "hellinger", "jensen_shannon", "total_variation", "fisher"]


@checked
def consistency(
    x: Real[N, D],
    output: Real[N, D],
    level: Positive[N],
    *,
    data_std: PositiveFloat = 0.5,
    smallest: PositiveFloat = 0.002,
) -> Real[N, D]:
    """The guess of the data, from the noisy data and a network's output.

    Parameters
    ----------
    x
        Data plus noise of the level.
    output
        Of the network.
    level
        Standard deviation of the noise.
    data_std
        Standard deviation of the data.
    smallest
        Level at which the guess is x.
    """
    # eq. rocm-consistency
    above, total = level - smallest, level**2 + data_std**2
    skip = data_std**2 / (above**2 + data_std**2)
    scale = data_std * above / xp.sqrt(total)
    return skip[:, None] * x + scale[:, None] * output


def _jensen_shannon(delta):
    """The divergence, and its slope over delta, by the trapezoidal rule on a grid that suits delta."""
    # eq. rocm-divergence, rocm-slope
    h = (SPACING / xp.maximum(delta, 1))[:, None]
    w = h * xp.arange(-NODES, NODES + 1, dtype=delta.dtype)
    density = xp.exp(-((w - delta[:, None] / 2) ** 2) / 2) / math.sqrt(2 * math.pi)
    less = xp.expm1(-delta[:, None] * w)
    # log 2 - softplus, without cancellation; it is log 2 where w is off the grid
    gain = -xp.log1p(less / 2)
    outside = xp.where(delta > 1, 1 - (h * density).sum(1), 0)
    value = (h * density * gain).sum(1) + math.log(2) * outside
    return value, (h * density * ((less + 1) / (less + 2)) ** 2).sum(1)


def _divergence(delta, kind, spread):
    """D and D'/delta."""
    far, tiny = xp.exp(-(delta**2) / 8), xp.finfo(delta.dtype).tiny
    if kind == "jensen_shannon":
        return _jensen_shannon(delta)
    # eq. rocm-divergence
    D = {
        "kl": lambda: delta**2 / 2,
        "hellinger": lambda: -xp.expm1(-(delta**2) / 8),
        "total_variation": lambda: special.erf(delta / math.sqrt(8)),
        "fisher": lambda: (delta / spread) ** 2,
    }[kind]()

    # eq. rocm-slope
    ratio = {
        "kl": lambda: xp.ones_like(delta),
        "hellinger": lambda: far / 4,
        "total_variation": lambda: (
            far / math.sqrt(2 * math.pi) / xp.maximum(delta, tiny)
        ),
        "fisher": lambda: xp.full_like(delta, 2) / spread**2,
    }[kind]()

    return D, ratio


def _within_range(delta, kind, **_):
    """A chi-square divergence at more than 9."""
    if kind != "chi_square":
        return []
    message = f"delta must be at most {LARGEST_CHI:g} for the chi-square divergence"
    return [(lambda: (delta <= LARGEST_CHI).all(), message)]


@checked(also=_within_range)
def step_divergence(
    delta: NonNegative[N], *, kind: Kind = "kl", spread: PositiveFloat = 1.0
) -> tuple[Scalar, Real[N]]:
    """Mean divergence of Gaussians of one covariance at some distances, and its derivative.

    Parameters
    ----------
    delta
        Distance of the means, in standard deviations.
    kind
        The divergence.
    spread
        The standard deviation; only Fisher's divergence depends on it.
    """
    N = len(delta)
    if kind == "chi_square":
        # eq. rocm-divergence, rocm-slope
        D, ratio = xp.expm1(delta**2), 2 * xp.exp(delta**2)
    else:
        D, ratio = _divergence(delta, kind, spread)
    return D.sum() / N, ratio * delta / N


class _Run(NamedTuple):
    states: list
    guesses: list
    caches: list


def _run(asked, theta, x, z, times, signal, spread):
    run = _Run([x], [], [])
    for n in range(len(times)):
        # eq. rocm-steps
        y, cache = asked.forward(theta, run.states[n], times[n])
        if n < len(z):
            run.states.append(signal[n] * y + spread[n] * z[n])

        run.guesses.append(y)
        run.caches.append(cache)
    return run


@checked
def noisy_states(
    model: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    signal: NonNegative[K],
    spread: Positive[K],
) -> Real[K1, N, D]:
    """The states that a multistep sampler guesses the data from.

    Parameters
    ----------
    model
        The guess of the data in x at a noise time: the whole f, not F.
    x
        Noise at the first time.
    z
        Fresh noise of each step.
    times
        Noise times of the guesses.
    signal, spread
        What each guess but the last is multiplied with, and the standard deviation of the noise that is added.
    """
    asked = AskedNetwork("model", model)
    return xp.stack(_run(asked, theta, x, z, times, signal, spread).states)


@checked
def multistep_sample(
    model: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    signal: NonNegative[K],
    spread: Positive[K],
) -> Real[N, D]:
    """The last guess."""
    asked = AskedNetwork("model", model)
    return _run(asked, theta, x, z, times, signal, spread).guesses[-1]


def _gap(reference, y, x, t):
    """The guess less the reference's, and the reference's derivative by x along a cotangent."""
    times = xp.zeros_like(x[:, 0]) + t
    other = validate.returned("reference", reference(x, times), x.shape, finite=True)

    def pull(cotangent):
        pulled = reference.vjp(x, times, cotangent)
        return validate.returned("reference.vjp", pulled, x.shape, finite=True)

    return y - other, pull


def _pulls(gap, signal, spread, kind):
    """The divergences (N), and their derivatives (N, D) by the guess."""
    scaled = gap * (signal / spread)
    delta = xp.sqrt((scaled * scaled).sum(1))  # eq. rocm-distance
    D, ratio = _divergence(delta, kind, spread)
    return D, ratio[:, None] * scaled * (signal / spread)


@checked
def rocm_objective(
    model: DenoisingNetwork,
    theta: Real[P],
    reference: DenoisingModel,
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    signal: NonNegative[K],
    spread: Positive[K],
    reward: Callable,
    *,
    beta: NonNegativeFloat = 0.1,
    kind: Bounded = "kl",
) -> tuple[Scalar, Real[P]]:
    """Loss of the samples' reward less the divergences of all noisy steps, and its whole gradient.

    Parameters
    ----------
    reference
        The model to stay near, such as `trref.problems.denoisers.WithParameters` at the first parameters.
    reward
        ``reward(x (N, D)) -> (values (N,), gradients (N, D))``, as in `trref.problems.rewards`.
    beta
        Weight of the divergences.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    asked, N = AskedNetwork("model", model), len(x)
    run = _run(asked, theta, x, z, times, signal, spread)
    value, g = validate.rows(reward, run.guesses[-1], "reward")
    d_theta, q = asked.vjp(run.caches[-1], g)
    J, dJ = value.sum() / N, d_theta / N
    for n in reversed(range(len(z))):
        gap, pull = _gap(reference, run.guesses[n], run.states[n], times[n])
        D, slope = _pulls(gap, signal[n], spread[n], kind)
        J = J - beta * D.sum() / N  # eq. rocm-objective

        # eq. rocm-backward
        r = -beta * slope
        d_theta, q = asked.vjp(run.caches[n], signal[n] * q + r)
        dJ, q = dJ + d_theta / N, q - pull(r)

    return -J, -dJ


@checked
def truncated_objective(
    model: DenoisingNetwork,
    theta: Real[P],
    reference: DenoisingModel,
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    signal: NonNegative[K],
    spread: Positive[K],
    reward: Callable,
    states: Real[K1, N, D] | None = None,
    *,
    beta: NonNegativeFloat = 0.1,
    kind: Bounded = "kl",
) -> tuple[Scalar, Real[P]]:
    """The same loss, and a gradient that holds the states inside the divergences constant.

    Parameters
    ----------
    states
        At which the divergences are taken; by default `noisy_states` at theta.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    asked, N = AskedNetwork("model", model), len(x)
    run = _run(asked, theta, x, z, times, signal, spread)
    value, g = validate.rows(reward, run.guesses[-1], "reward")
    d_theta, q = asked.vjp(run.caches[-1], g)
    J, dJ = value.sum() / N, d_theta / N
    for n in reversed(range(len(z))):
        y, cache, at = run.guesses[n], run.caches[n], run.states[n]
        if states is not None:
            at = states[n]
            y, cache = asked.forward(theta, at, times[n])
        gap, _ = _gap(reference, y, at, times[n])
        D, slope = _pulls(gap, signal[n], spread[n], kind)
        J = J - beta * D.sum() / N
        dJ = dJ + asked.vjp(cache, -beta * slope)[0] / N

        # eq. rocm-truncated
        d_theta, q = asked.vjp(run.caches[n], signal[n] * q)
        dJ = dJ + d_theta / N

    return -J, -dJ
