r"""Distributional gradient matching: a law of motion, and how sure of it one may be.

To learn :math:`\dot x = f(x)` from noisy trajectories without solving equations, compare slopes: those of a smoothed
trajectory (`trref.dynamics.gradient_smoother`) and those of a network at the smoothed states. Both are Gaussian, and
what is compared are the distributions:

.. math::
    :label: distributional-gradient-matching-w2

    W_2^2 = (\mu_S - \mu_D)^2 + (\sigma_S - \sigma_D)^2

in each dimension and at each matching time, with the derivatives

.. math::
    :label: distributional-gradient-matching-w2-gradient

    \frac{\partial W_2^2}{\partial \mu_S} = 2 (\mu_S - \mu_D) = -\frac{\partial W_2^2}{\partial \mu_D}, \qquad
    \frac{\partial W_2^2}{\partial \sigma_S} = 2 (\sigma_S - \sigma_D) = -\frac{\partial W_2^2}{\partial \sigma_D} .

The network has two hidden layers of tanh and gives twice the dimension,

.. math::
    :label: distributional-gradient-matching-network

    \mu_D(x), \qquad \sigma_D(x) = \mathrm{softplus}(r(x))

and smoothers and network are fitted together:

.. math::
    :label: distributional-gradient-matching-objective

    J = \sum_d L_d + 2 \beta\, \frac{n}{n'} \sum_d \sum_{t'} W_2^2 + \lambda\, \|\theta\|^2

(:math:`L_d` is twice a negative log-likelihood, hence the 2). The match also moves the smoothed states at which the
network is asked, and the smoothers' parameters, through :math:`\sigma_S` by

.. math::
    :label: distributional-gradient-matching-variance

    \frac{\partial W_2^2}{\partial \sigma_S^2} = \frac{\sigma_S - \sigma_D}{\sigma_S} .

(Variances below a floor count as the floor, and have no slope.) :math:`\beta` rises in training from 0 to 1.

A prediction draws one :math:`\xi \sim N(0, I)` for the whole trajectory, since the doubt is about the law, not a noise
of the motion, and solves

.. math::
    :label: distributional-gradient-matching-field

    \dot x = \mu_D(x) + \sigma_D(x) \circ \xi

here by the classical method of Runge and Kutta.

===============  =======================
:math:`\beta`    ``weight``
:math:`\lambda`  ``decay``
:math:`\xi`      ``noise``
===============  =======================

**Where implementations differ.** The authors' sampler of trajectories multiplies the noise by the softplus of the
variance, not by the standard deviation.

**Provenance.** Confirmed in the authors' code, whose hidden layers are sigmoids: the same functions as with tanh, by
other weights. A prior on the noise and their learned features are left out; the weight of the match is one number for
all dimensions.

Treven, Wenk, Dörfler and Krause, *Distributional Gradient Matching for Learning Uncertain Neural Dynamics Models*,
2021, arXiv:2106.11609.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.dynamics.gradient_smoother import (
    likelihood,
    moderate,
    smoother,
    weighed_smoother,
)
from trref.nn import mlp
from trref.problems.ode import rk4
from trref.signature import (
    D,
    M,
    N,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    T,
    checked,
)

HEAVIEST = 100.0


class MatchGradient(NamedTuple):
    """Slopes by means and standard deviations of both sides."""

    slope: Real[M, D]
    slope_std: Real[M, D]
    drift: Real[M, D]
    drift_std: Real[M, D]


class JointGradient(NamedTuple):
    """Slopes by the network's and by the smoothers' parameters."""

    theta: Real[P]
    log_length: Real[D]
    log_signal: Real[D]
    log_noise: Real[D]


class Drift(NamedTuple):
    """Means and standard deviations of the derivative."""

    drift: Real[N, D]
    drift_std: Positive[N, D]


@checked
def w2(
    slope: Real[M, D],
    slope_std: Positive[M, D],
    drift: Real[M, D],
    drift_std: Positive[M, D],
) -> tuple[Scalar, MatchGradient]:
    """Sum of squared Wasserstein distances between Gaussians.

    Parameters
    ----------
    slope, slope_std
        Means and standard deviations of the smoothed slopes.
    drift, drift_std
        Means and standard deviations of the learned ones.
    """
    mean, std = slope - drift, slope_std - drift_std
    # eq. distributional-gradient-matching-w2
    value = (mean * mean).sum() + (std * std).sum()
    # eq. distributional-gradient-matching-w2-gradient
    return value, MatchGradient(2 * mean, 2 * std, -2 * mean, -2 * std)


def network_sizes(theta, dims):
    """Widths (D, h, h, 2D) of the network that has so many parameters; ValueError if none has."""
    hidden = 1
    while mlp.size((dims, hidden, hidden, 2 * dims)) < len(theta):
        hidden += 1
    sizes = (dims, hidden, hidden, 2 * dims)
    if mlp.size(sizes) != len(theta):
        raise ValueError(
            f"theta must hold the parameters of a network of widths {dims}, h, h and {2 * dims} for some h"
        )
    return sizes


def _light(theta, x=None, x0=None, y=None, **_):
    """Parameters of no such network, or too large."""
    (states,) = (each for each in (x, x0, y) if each is not None)
    network_sizes(theta, states.shape[-1])
    message = f"theta must be within {HEAVIEST:g} of 0"
    return [(lambda: abs(theta).max() <= HEAVIEST, message)]


def _network(theta, x):
    """Mean, raw standard deviation, and the cache."""
    dims = x.shape[-1]
    output, cache = mlp.forward(theta, x, network_sizes(theta, dims))
    return output[:, :dims], output[:, dims:], cache


def _softplus(raw):
    """log(1 + e^raw), whose derivative is 1 less e to the minus it."""
    return xp.maximum(raw, 0) + xp.log1p(xp.exp(-abs(raw)))


@checked(also=_light)
def drift(theta: Real[P], x: Real[N, D]) -> Drift:
    """What the network takes the derivative to be.

    Parameters
    ----------
    theta
        Of a network with two equal hidden layers, flat.
    x
        States.
    """
    mean, raw, _ = _network(theta, x)
    # eq. distributional-gradient-matching-network
    return Drift(mean.copy(), _softplus(raw))


def _matched(theta, y, **arguments):
    """Parameters, data or times far beyond 1, or of no such network."""
    return moderate(y=y, **arguments) + _light(theta, y=y)


@checked(also=_matched)
def joint_objective(
    theta: Real[P],
    log_length: Real[D],
    log_signal: Real[D],
    log_noise: Real[D],
    t: Real[N],
    y: Real[N, D],
    t2: Real[M],
    *,
    weight: NonNegativeFloat = 1.0,
    decay: NonNegativeFloat = 0.0,
    floor: PositiveFloat = 1e-8,
) -> tuple[Scalar, JointGradient]:
    """What smoothers and network are fitted by.

    Parameters
    ----------
    log_length, log_signal, log_noise
        Logarithms of the kernel's length and of the standard deviations of state and noise, of each dimension.
    t
        Times of the data.
    y
        The data, centred, in units near 1.
    t2
        Times at which slopes are matched.
    weight
        Weight of the match.
    decay
        Weight of the network's squared parameters.
    floor
        Smallest variance of a slope.
    """
    share = 2 * weight * len(t) / len(t2)
    states_of = list(zip(y.T, log_length, log_signal, log_noise, strict=True))
    each = [smoother.unchecked(t, x, t2, *hyper) for x, *hyper in states_of]
    states, slopes, variances = (xp.stack(part, 1) for part in zip(*each, strict=True))
    mean, raw, cache = _network(theta, states)
    sigma_S, sigma_D = xp.sqrt(xp.maximum(variances, floor)), _softplus(raw)
    match, d = w2.unchecked(slopes, sigma_S, mean, sigma_D)

    back = xp.concatenate([d.drift, d.drift_std * -xp.expm1(-sigma_D)], 1)
    d_theta, d_states = mlp.vjp(cache, share * back)
    # eq. distributional-gradient-matching-variance
    d_variances = xp.where(variances > floor, d.slope_std / (2 * sigma_S), 0)

    value, gradients = decay * (theta @ theta), []
    for k, (x, *hyper) in enumerate(states_of):
        fit, by_fit = likelihood.unchecked(t, x, *hyper)
        back = (d_states, share * d.slope, share * d_variances)
        back = (part[:, k] for part in back)
        _, by_match = weighed_smoother.unchecked(t, x, t2, *hyper, *back)
        value = value + fit
        gradients.append([a + b for a, b in zip(by_fit, by_match, strict=True)])
    # eq. distributional-gradient-matching-objective
    value = value + share * match
    by_hyper = (xp.stack(part) for part in zip(*gradients, strict=True))
    return value, JointGradient(d_theta + 2 * decay * theta, *by_hyper)


@checked(also=_light)
def field(theta: Real[P], x: Real[N, D], noise: Real[N, D]) -> Real[N, D]:
    """One law of motion out of those that are likely.

    Parameters
    ----------
    noise
        Standard normal numbers, the same along a trajectory.
    """
    mean, std = drift.unchecked(theta, x)
    return mean + std * noise  # eq. distributional-gradient-matching-field


@checked(also=_light)
def trajectories(
    theta: Real[P],
    x0: Real[D],
    noise: Real[N, D],
    *,
    duration: PositiveFloat = 1.0,
    steps: PositiveInt = 20,
) -> Real[T, N, D]:
    """Trajectories from one state under several laws of motion.

    Parameters
    ----------
    x0
        Where they begin.
    noise
        Standard normal numbers, a row a trajectory.
    duration
        How long they go on.
    steps
        In how many steps.

    Returns
    -------
    path
        The states at the start and after each step.
    """
    times = [duration * k / steps for k in range(steps + 1)]
    start = xp.broadcast_to(x0, noise.shape)
    return rk4(
        lambda t, x, theta: field.unchecked(theta, x, noise), start, theta, times
    )
