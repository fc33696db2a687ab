r"""Velocity prediction: the derivative in the angle between data and noise, and the weights of its loss.

On a variance-preserving path, :math:`x = \alpha x_0 + \sigma\varepsilon` with :math:`\alpha = \cos\phi` and
:math:`\sigma = \sin\phi`, the derivative by the angle is

.. math::
    :label: v-prediction-target

    v = \alpha\varepsilon - \sigma x_0.

A prediction of it says something of the data where there is no signal, :math:`v = -x_0`, and something of the noise
where there is none, :math:`v = \varepsilon`: it is turned into both without a division,

.. math::

    \hat x_0 = \alpha x - \sigma\hat v, \qquad \hat\varepsilon = \sigma x + \alpha\hat v,

which is :func:`trref.diffusion.score_matching.convert_prediction` with the rates :math:`-\sigma` and :math:`\alpha`. A
step of DDIM turns the point by an angle:

.. math::
    :label: v-prediction-step

    x_{\phi'} = \cos(\phi' - \phi)\, x + \sin(\phi' - \phi)\, \hat v.

It is learned by weighted least squares, row by row at levels of its own,

.. math::
    :label: v-prediction-loss

    L = \frac1N \sum_n w_n \|\hat v_n - v_n\|^2, \qquad
    \|\hat v - v\|^2 = \frac1{\sigma^2} \|\hat x_0 - x_0\|^2 = \frac1{\alpha^2} \|\hat\varepsilon - \varepsilon\|^2,

so that a weight of 1 here is one of SNR + 1 on the data, :math:`\mathrm{SNR} = \alpha^2/\sigma^2`. The weights of
Min-SNR cap that of the data at k; for each kind of prediction they are

.. math::
    :label: v-prediction-weights

    w_{data} = \min(\mathrm{SNR}, k), \qquad w_{noise} = \frac{\min(\mathrm{SNR}, k)}{\mathrm{SNR}}, \qquad
    w_v = \frac{\min(\mathrm{SNR}, k)}{\mathrm{SNR} + 1},

one loss in three forms. The velocity of a flow at noise time u, :math:`\varepsilon - x_0`, is another quantity at
another scale. With :math:`n = \sqrt{(1-u)^2 + u^2}`, :math:`\alpha = (1-u)/n` and :math:`\sigma = u/n`, at the point x
of unit variance (the flow's divided by n),

.. math::
    :label: v-prediction-flow

    \varepsilon - x_0 = (\alpha + \sigma)\, v + (\sigma - \alpha)\, x.

**Where implementations differ.** diffusers' examples once took the minimum of SNR + 1 in the place of SNR, which leaves
a weight near 1 where there is no signal; the repository of Min-SNR first lacked the division.

**Provenance.** Target, conversions and signs confirmed by diffusers and by k-diffusion; the weights by the authors'
answers in their repository and by diffusers' correction; every identity checked here. The papers were not read again.

Salimans and Ho, *Progressive Distillation for Fast Sampling of Diffusion Models*, 2022, arXiv:2202.00512; the weights:
Hang et al., *Efficient Diffusion Training via Min-SNR Weighting Strategy*, 2023, arXiv:2303.09556.
"""

import math
from typing import Annotated, Literal

from trref.backend import xp
from trref.signature import (
    D,
    Fraction,
    N,
    NonNegative,
    PositiveFloat,
    Prob,
    Real,
    Scalar,
    checked,
)

Angle = Annotated[float, "[0, 1.5707963267948966]"]


def _levels(alpha_bar):
    """Levels of signal and noise, a column each."""
    return xp.sqrt(alpha_bar)[:, None], xp.sqrt(1 - alpha_bar)[:, None]


@checked
def velocity_target(
    data: Real[N, D], noise: Real[N, D], alpha_bar: Prob[N]
) -> Real[N, D]:
    """Return what is to be predicted.

    Parameters
    ----------
    data, noise
        What was mixed.
    alpha_bar
        Squared signal level of each row.
    """
    alpha, sigma = _levels(alpha_bar)
    return alpha * noise - sigma * data  # eq. v-prediction-target


@checked
def velocity_loss(
    predicted: Real[N, D],
    data: Real[N, D],
    noise: Real[N, D],
    alpha_bar: Prob[N],
    weight: NonNegative[N],
) -> tuple[Scalar, Real[N, D]]:
    """Weighted squared error of a predicted velocity: a sum over entries, a mean over rows.

    Parameters
    ----------
    predicted
        The model's output at the noisy data.
    weight
        1, or by `min_snr_weight`.
    """
    error = predicted - velocity_target.unchecked(data, noise, alpha_bar)
    N = len(weight)
    # eq. v-prediction-loss
    loss = (weight * (error * error).sum(1)).sum() / N
    return loss, 2 * weight[:, None] * error / N


@checked
def angular_step(
    x: Real[N, D],
    velocity: Real[N, D],
    *,
    angle: Angle = 1.0,
    next_angle: Angle = 0.6,
) -> Real[N, D]:
    """Take a step of DDIM by the velocity.

    Parameters
    ----------
    x
        Where it is.
    velocity
        The model's prediction there.
    angle, next_angle
        Between data (0) and noise (a right angle), now and after the step: signal is its cosine.
    """
    turn = next_angle - angle
    return math.cos(turn) * x + math.sin(turn) * velocity  # eq. v-prediction-step


def _noisy(alpha_bar, kind, **_):
    """Levels at which a weight is infinite, or 0/0."""
    flags = [(lambda: alpha_bar.max() < 1, "alpha_bar must be below 1")]
    if kind == "noise":
        flags += [(lambda: alpha_bar.min() > 0, "alpha_bar must be positive")]
    return flags


@checked(also=_noisy)
def min_snr_weight(
    alpha_bar: Prob[N],
    *,
    kind: Literal["velocity", "noise", "data"] = "velocity",
    cap: PositiveFloat = 5.0,
) -> Real[N]:
    """Return the weight of each row's squared error, for what is predicted.

    Parameters
    ----------
    kind
        What is predicted.
    cap
        The largest weight of an error of the data.
    """
    noise = 1 - alpha_bar
    # eq. v-prediction-weights
    data = xp.minimum(alpha_bar / noise, cap)
    if kind == "data":
        return data
    return data * noise / (alpha_bar if kind == "noise" else 1)


@checked
def flow_velocity(
    velocity: Real[N, D], x: Real[N, D], *, u: Fraction = 0.6
) -> Real[N, D]:
    """Return the velocity of a flow, noise less data, that belongs to one in the angle.

    Parameters
    ----------
    velocity
        In the angle.
    x
        The point at which it was predicted, of unit variance: that of the flow divided by the root of (1 - u)² + u².
    u
        Noise time of the flow.
    """
    n = math.hypot(1 - u, u)
    alpha, sigma = (1 - u) / n, u / n
    return (alpha + sigma) * velocity + (sigma - alpha) * x  # eq. v-prediction-flow
