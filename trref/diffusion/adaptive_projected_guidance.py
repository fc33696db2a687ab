r"""Adaptive projected guidance: strong guidance without over-saturation.

A model that predicts the data with and without a condition, :math:`D_c` and :math:`D_u`, is guided by exaggerating the
difference :math:`\Delta = D_c - D_u`. Classifier-free guidance with the scale :math:`w` is

.. math::
    :label: adaptive-projected-guidance-cfg

    D_w = D_u + w\,\Delta = D_c + (w - 1)\,\Delta

and scale 1 is the conditional model. The part of the update along :math:`D_c` mostly scales the prediction, which
over-saturates; the part across it is what improves samples. In the space of data, one sample a vector,

.. math::
    :label: adaptive-projected-guidance-project

    v_\parallel = \frac{\langle v, D_c \rangle}{\langle D_c, D_c \rangle}\, D_c, \qquad v_\perp = v - v_\parallel .

Guidance is an ascent, for :math:`\Delta = \tfrac{\sigma^2}\alpha \nabla_x \log p(c|x)`, and so takes what ascents take:
a momentum, negative here, which pushes away from where the step before pushed, and then a bound on the length:

.. math::
    :label: adaptive-projected-guidance-momentum

    m_k = \Delta_k + \beta\, m_{k-1}, \qquad m_0 = 0

.. math::
    :label: adaptive-projected-guidance-rescale

    \bar\Delta_k = m_k\, \min\Big( 1, \frac{r}{\|m_k\|} \Big)

The parallel part is weighted down last:

.. math::
    :label: adaptive-projected-guidance-guided

    D = D_c + (w - 1) \big( \bar\Delta_\perp + \eta\, \bar\Delta_\parallel \big)

With :math:`\eta = 0` the update is orthogonal to :math:`D_c`, and
:math:`\|D\|^2 = \|D_c\|^2 + (w-1)^2 \|\bar\Delta_\perp\|^2`. For a constant :math:`\Delta` and :math:`|\beta| < 1` the
momentum tends to :math:`\Delta/(1-\beta)`: at :math:`\beta = -\tfrac12` two thirds of the update are left. At
:math:`\beta = -1` it is :math:`\Delta, 0, \Delta, 0, \dots` and never settles.

For gradients through a guided sampler: with :math:`n = D_c/\|D_c\|`, a cotangent :math:`g` of :math:`v_\perp` is pulled
back to

.. math::
    :label: adaptive-projected-guidance-vjp

    \bar v = g_\perp, \qquad
    \bar D_c = -\frac{\langle g, n \rangle\, v_\perp + \langle v, n \rangle\, g_\perp}{\|D_c\|} .

Models of noise or velocity are converted to data at the same :math:`x`, guided, and converted back. The origin matters:
parallel is meant with respect to the zero of the data's normalisation. The momentum counts evaluations of the model;
it starts from 0 with each trajectory. Where :math:`D_c = 0`, nothing is parallel; where :math:`\Delta = 0` and
:math:`m = 0`, the result is :math:`D_c`.

===============  ==============
:math:`w`        `scale`
:math:`\eta`     `parallel`
:math:`\beta`    `momentum`
:math:`r`        `radius`
:math:`m_{k-1}`  `buffer`
===============  ==============

**Where implementations differ.** diffusers adds :math:`w` times the update to the *unconditional* prediction by
default, which for :math:`\eta \ne 1` misses :math:`1-\eta` times the parallel part, and projects whatever the model
predicts, such as noise; its defaults are :math:`\eta = 1` and no momentum. ComfyUI's node ends one unit of guidance too
strong; in an earlier version it ignores a negative momentum.

**Provenance.** Confirmed by public code that agrees line by line, diffusers' guider among it, which was read: the
order momentum, bound, projection, and the weight :math:`w - 1`. The paper's text was not read; :math:`\eta = 0`,
:math:`r = 15` and :math:`\beta = -0.5` are what a port gives as the paper's choice for SDXL. The scale 7.5 is
diffusers'. The derivative and what is said of constant updates is derived here.

Sadat, Hilliges and Weber, *Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models*, 2024,
arXiv:2410.02416.
"""

from typing import Annotated

from trref.backend import linalg, xp
from trref.diffusion.score_matching import Prediction, convert_prediction
from trref.gradients.terms import unit
from trref.signature import D, FiniteFloat, N, PositiveFloat, Real, checked

Momentum = Annotated[float, "[-1, 1]"]


@checked
def cfg(
    conditional: Real[N, D], unconditional: Real[N, D], *, scale: FiniteFloat = 7.5
) -> Real[N, D]:
    """Classifier-free guidance.

    Parameters
    ----------
    conditional, unconditional
        Predictions with and without the condition: of the data, unless said otherwise.
    scale
        1 is the conditional model, 0 the unconditional one.
    """
    # eq. adaptive-projected-guidance-cfg
    return conditional + (scale - 1) * (conditional - unconditional)


@checked
def project(update: Real[N, D], conditional: Real[N, D]) -> Real[N, D]:
    """The part of each row of an update that is orthogonal to the prediction.

    Parameters
    ----------
    update
        Of the prediction.
    """
    along = unit(conditional)
    # eq. adaptive-projected-guidance-project
    return update - (update * along).sum(1, keepdims=True) * along


@checked
def next_buffer(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    buffer: Real[N, D],
    *,
    momentum: Momentum = -0.5,
) -> Real[N, D]:
    """The momentum after this step.

    Parameters
    ----------
    buffer
        The momentum after the step before, without the bound; 0 at the first step of a trajectory.
    momentum
        Useful are -0.75 to -0.25; 0 for none.
    """
    # eq. adaptive-projected-guidance-momentum
    return conditional - unconditional + momentum * buffer


def _bounded(m, radius):
    """The momentum within the ball, and the factor that took it there."""
    # eq. adaptive-projected-guidance-rescale
    shrink = radius / xp.maximum(linalg.norm(m, axis=1, keepdims=True), radius)
    return shrink * m, shrink


@checked
def apg(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    buffer: Real[N, D],
    *,
    scale: FiniteFloat = 7.5,
    radius: PositiveFloat = 15.0,
    momentum: Momentum = -0.5,
    parallel: FiniteFloat = 0.0,
) -> Real[N, D]:
    """Guide predictions of the data.

    Parameters
    ----------
    buffer
        The momentum after the step before, as by `next_buffer`.
    radius
        Largest norm of the update; 15 is for the latents of SDXL, and it grows with the norm of the data.
    parallel
        Share of the parallel part that is kept; more saturates more.
    """
    m = next_buffer.unchecked(conditional, unconditional, buffer, momentum=momentum)
    update, _ = _bounded(m, radius)
    across = project.unchecked(update, conditional)
    # eq. adaptive-projected-guidance-guided
    return conditional + (scale - 1) * (across + parallel * (update - across))


@checked
def apg_jvp(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    buffer: Real[N, D],
    tangent: Real[N, D],
    *,
    scale: FiniteFloat = 7.5,
    radius: PositiveFloat = 15.0,
    momentum: Momentum = -0.5,
    parallel: FiniteFloat = 0.0,
) -> Real[N, D]:
    """Differential of `apg` along a tangent of the conditional prediction.

    Parameters
    ----------
    buffer
        The momentum after the step before.
    tangent
        Of `conditional`.
    radius
        At the bound, the differential of the inside.
    parallel
        As by `apg`.
    """
    m = next_buffer.unchecked(conditional, unconditional, buffer, momentum=momentum)
    update, turned = _push(m, tangent, radius)
    along, size = unit(conditional), _size(conditional)
    across = project.unchecked(update, conditional)
    sideways = project.unchecked(tangent, conditional)
    lost = _dot(turned, along) * along
    lost += (_dot(across, tangent) * along + _dot(update, along) * sideways) / size
    return tangent + (scale - 1) * (turned - (1 - parallel) * lost)


@checked
def apg_vjp(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    buffer: Real[N, D],
    cotangent: Real[N, D],
    *,
    scale: FiniteFloat = 7.5,
    radius: PositiveFloat = 15.0,
    momentum: Momentum = -0.5,
    parallel: FiniteFloat = 0.0,
) -> Real[N, D]:
    """Adjoint of `apg_jvp`: what a cotangent of the guided prediction is for the conditional one.

    Parameters
    ----------
    buffer
        The momentum after the step before.
    cotangent
        Of the result of `apg`.
    radius
        At the bound, the differential of the inside.
    parallel
        As by `apg`.
    """
    m = next_buffer.unchecked(conditional, unconditional, buffer, momentum=momentum)
    along, size = unit(conditional), _size(conditional)
    g = (scale - 1) * cotangent
    g_across = project.unchecked(g, conditional)
    # the ball's differential is symmetric
    update, back = _push(m, g_across + parallel * (g - g_across), radius)
    across = project.unchecked(update, conditional)
    # eq. adaptive-projected-guidance-vjp
    turned = _dot(g, along) * across + _dot(update, along) * g_across
    return cotangent + back - (1 - parallel) * turned / size


def _push(m, tangent, radius):
    """The momentum within the ball, and the differential of that along a tangent."""
    update, shrink = _bounded(m, radius)
    out = unit(m)
    cut = tangent - _dot(out, tangent) * out
    return update, xp.where(shrink < 1, shrink * cut, tangent)


def _dot(a, b):
    return (a * b).sum(1, keepdims=True)


def _size(conditional):
    """The norm of each row; 1 in the place of 0, where nothing is parallel."""
    size = linalg.norm(conditional, axis=1, keepdims=True)
    return xp.where(size > 0, size, 1)


@checked
def apg_prediction(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    x: Real[N, D],
    buffer: Real[N, D],
    *,
    given: Prediction = "noise",
    alpha: PositiveFloat = 0.8,
    sigma: PositiveFloat = 0.6,
    scale: FiniteFloat = 7.5,
    radius: PositiveFloat = 15.0,
    momentum: Momentum = -0.5,
    parallel: FiniteFloat = 0.0,
) -> Real[N, D]:
    """Guide predictions of another kind, by way of the data.

    Parameters
    ----------
    conditional, unconditional
        Predictions of the kind `given`.
    x
        The noisy data that they were made from.
    buffer
        The momentum after the step before, of predictions of the data.
    given
        What is predicted; a velocity is that of the straight path, noise minus data.
    alpha, sigma
        Levels of signal and noise in `x`.
    parallel
        As by `apg`.
    """
    there = {"given": given, "wanted": "data", "alpha": alpha, "sigma": sigma}
    back = {**there, "given": "data", "wanted": given}
    guided = apg.unchecked(
        convert_prediction.unchecked(conditional, x, **there),
        convert_prediction.unchecked(unconditional, x, **there),
        buffer,
        scale=scale,
        radius=radius,
        momentum=momentum,
        parallel=parallel,
    )
    return convert_prediction.unchecked(guided, x, **back)
