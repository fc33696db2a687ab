r"""A Gaussian process that smooths a trajectory and gives the distribution of its slope.

A state is seen at times t with noise, :math:`y = x(t) + \epsilon`. Let x be a Gaussian process with mean 0 and

.. math::
    :label: gradient-smoother-kernel

    k(t, t') = s_f^2\, e^{-(t - t')^2 / 2 \ell^2}, \qquad
    \dot k(t', t) = \partial_{t'} k = -\frac{t' - t}{\ell^2}\, k

so that, with :math:`C = K + s_n^2 I` and :math:`a = C^{-1} y`, its mean at other times and that of its slope are

.. math::
    :label: gradient-smoother-means

    \mu = k(t', t)\, a, \qquad \mu_S = \dot k(t', t)\, a

and the variance of its slope is

.. math::
    :label: gradient-smoother-variance

    \sigma_S^2 = \frac{s_f^2}{\ell^2} - \mathrm{diag}\big[ \dot k(t', t)\, C^{-1}\, \dot k(t', t)^\top \big] .

How badly it explains the data is twice the negative log-likelihood, without its constant,

.. math::
    :label: gradient-smoother-likelihood

    L = \log\det C + y^\top a, \qquad \partial L = \mathrm{tr}\big[ (C^{-1} - a a^\top)\, \partial C \big] .

Its parameters are :math:`\log \ell, \log s_f, \log s_n`, and the derivatives by them

.. math::
    :label: gradient-smoother-derivatives

    \begin{aligned}
    \partial_{\log \ell} K &= K \circ \frac{(t - t')^2}{\ell^2}, &
    \partial_{\log \ell} \dot k &= \dot k \circ \Big( \frac{(t - t')^2}{\ell^2} - 2 \Big), &
    \partial_{\log \ell} \frac{s_f^2}{\ell^2} &= -2 \frac{s_f^2}{\ell^2} \\
    \partial_{\log s_f} &= 2 \text{ times each}, & \partial_{\log s_n} C &= 2 s_n^2 I
    \end{aligned}

from which, with :math:`\partial a = -C^{-1} (\partial C)\, a` and :math:`B = \dot k\, C^{-1}`,

.. math::
    :label: gradient-smoother-pullback

    \begin{aligned}
    \partial \mu &= (\partial k)\, a + k\, \partial a \\
    \partial \mu_S &= (\partial \dot k)\, a + \dot k\, \partial a \\
    \partial \sigma_S^2 &= \partial \frac{s_f^2}{\ell^2}
    - 2\, \mathrm{diag}\big[ (\partial \dot k)\, B^\top \big] + \mathrm{diag}\big[ B\, (\partial C)\, B^\top \big] .
    \end{aligned}

Times may coincide. In rescaled time and state the slope scales with the ratio of the units, and

.. math::
    :label: gradient-smoother-units

    \dot x = r\, \dot x', \qquad \mathrm{Var}\, \dot x = r^2\, \mathrm{Var}\, \dot x' \qquad
    \text{for } x = c_x\, x',\ t = c_t\, t',\ r = c_x / c_t .

**Where implementations differ.** A branch of the authors' code scales the variance of the slope with the first power of
the ratio.

**Provenance.** Confirmed in the authors' code; the derivatives are worked out here. Their learned features and means of
the process, and random Fourier features, are left out.

Treven, Wenk, Dörfler and Krause, *Distributional Gradient Matching for Learning Uncertain Neural Dynamics Models*,
2021, arXiv:2106.11609.
"""

from typing import Any, NamedTuple

from trref.backend import linalg, xp
from trref.signature import M, N, NonNegative, PositiveFloat, Real, Scalar, checked

WIDEST, LARGEST, FARTHEST = 5.0, 1e4, 1e4


class Smoothed(NamedTuple):
    """Means of the state and of its slope, and the slope's variance: by rounding perhaps below 0, where it is known."""

    mean: Real[M]
    slope: Real[M]
    slope_variance: Real[M]


class HyperGradient(NamedTuple):
    """Slopes by the parameters of the process."""

    log_length: Scalar
    log_signal: Scalar
    log_noise: Scalar


class Slopes(NamedTuple):
    """Means and variances of slopes."""

    slope: Real[M]
    slope_variance: NonNegative[M]


class Process(NamedTuple):
    """The process given the data: all that the formulas need."""

    signal: Any
    noise: Any
    length: Any
    squares: Any
    kernel: Any
    inverse: Any
    a: Any


def moderate(t, y, log_length, log_signal, log_noise, t2=None, **_):
    """Neither parameters nor data nor times far beyond 1 in units of the process."""
    times = t if t2 is None else xp.concatenate([t, t2])
    named = {"log_length": log_length, "log_signal": log_signal, "log_noise": log_noise}
    return [
        (lambda: times.max() - times.min() <= FARTHEST, f"t must span {FARTHEST:g}"),
        (lambda: abs(y).max() <= LARGEST, f"y must be within {LARGEST:g} of 0"),
        *(
            (
                lambda p=p: abs(p).max() <= WIDEST,
                f"{name} must be within {WIDEST:g} of 0",
            )
            for name, p in named.items()
        ),
    ]


def _process(t, y, log_length, log_signal, log_noise):
    length, signal, noise = (xp.exp(p) for p in (log_length, log_signal, log_noise))
    squares = ((t[:, None] - t) / length) ** 2
    kernel = signal**2 * xp.exp(-squares / 2)  # eq. gradient-smoother-kernel
    eye = xp.eye(len(t), dtype=y.dtype)
    inverse = linalg.inv(kernel + noise**2 * eye)
    return Process(signal, noise, length, squares, kernel, inverse, inverse @ y)


def _cross(process, t, t2):
    """Distances of other times from those of the data in lengths, the kernel, and its slope."""
    distance = (t2[:, None] - t) / process.length
    kernel = process.signal**2 * xp.exp(-distance * distance / 2)
    return distance, kernel, -distance / process.length * kernel


@checked(also=moderate)
def smoother(
    t: Real[N],
    y: Real[N],
    t2: Real[M],
    log_length: Scalar,
    log_signal: Scalar,
    log_noise: Scalar,
) -> Smoothed:
    """Smooth one state.

    Parameters
    ----------
    t
        Times of the data.
    y
        The data, centred, in units near 1.
    t2
        Times at which the process is asked.
    log_length, log_signal, log_noise
        Logarithms of the kernel's length, of the state's and of the noise's standard deviation.
    """
    process = _process(t, y, log_length, log_signal, log_noise)
    _, k, slope = _cross(process, t, t2)
    prior = (process.signal / process.length) ** 2
    # eq. gradient-smoother-variance
    variance = prior - ((slope @ process.inverse) * slope).sum(1)
    # eq. gradient-smoother-means
    return Smoothed(k @ process.a, slope @ process.a, variance)


def _of_covariance(process, outer):
    """``tr[outer ∂C]`` for each parameter."""
    by_kernel, diagonal = process.kernel * outer, xp.trace(outer)
    # eq. gradient-smoother-derivatives
    by_length = (process.squares * by_kernel).sum()
    return by_length, 2 * by_kernel.sum(), 2 * process.noise**2 * diagonal


@checked(also=moderate)
def likelihood(
    t: Real[N], y: Real[N], log_length: Scalar, log_signal: Scalar, log_noise: Scalar
) -> tuple[Scalar, HyperGradient]:
    """Twice the negative log-likelihood of the data, without its constant."""
    process = _process(t, y, log_length, log_signal, log_noise)
    a, inverse = process.a, process.inverse
    # eq. gradient-smoother-likelihood
    value = y @ a - linalg.slogdet(inverse)[1]
    return value, HyperGradient(*_of_covariance(process, inverse - a[:, None] * a))


@checked(also=moderate)
def weighed_smoother(
    t: Real[N],
    y: Real[N],
    t2: Real[M],
    log_length: Scalar,
    log_signal: Scalar,
    log_noise: Scalar,
    d_mean: Real[M],
    d_slope: Real[M],
    d_variance: Real[M],
) -> tuple[Scalar, HyperGradient]:
    """Weighted sum of all that `smoother` returns: its gradient pulls weights back to the parameters.

    Parameters
    ----------
    d_mean, d_slope, d_variance
        Weights of the means, of the slopes and of the variances.
    """
    process = _process(t, y, log_length, log_signal, log_noise)
    distance, k, dk = _cross(process, t, t2)
    B, prior = dk @ process.inverse, (process.signal / process.length) ** 2
    value = d_mean @ (k @ process.a) + d_slope @ (dk @ process.a)
    value = value + d_variance @ (prior - (B * dk).sum(1))

    # eq. gradient-smoother-pullback
    by_k = k * d_mean[:, None] * process.a
    by_dk = dk * (d_slope[:, None] * process.a - 2 * d_variance[:, None] * B)
    by_a = process.inverse @ (k.T @ d_mean + dk.T @ d_slope)
    by_C = (B.T * d_variance) @ B - by_a[:, None] * process.a
    length, signal, noise = _of_covariance(process, by_C)
    squares, priors = distance * distance, 2 * prior * d_variance.sum()
    length = length + (squares * by_k + (squares - 2) * by_dk).sum() - priors
    signal = signal + 2 * (by_k + by_dk).sum() + priors

    return value, HyperGradient(length, signal, noise)


@checked
def in_units(
    slope: Real[M], slope_variance: NonNegative[M], *, ratio: PositiveFloat = 1.0
) -> Slopes:
    """Slopes in other units.

    Parameters
    ----------
    slope
        Means of the slopes, of standardised states by standardised times.
    slope_variance
        Their variances.
    ratio
        Unit of the state over unit of the time.
    """
    return Slopes(
        ratio * slope, ratio**2 * slope_variance
    )  # eq. gradient-smoother-units
