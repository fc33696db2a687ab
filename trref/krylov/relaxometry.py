r"""Maps from undersampled k-space: the nonlinear least squares of quantitative magnetic resonance imaging.

Instead of reconstructing an image for each time and fitting a curve to each pixel, fit the maps to the measurements.
The unknowns X are three real maps: the magnetisation :math:`m = M_x + i M_y` and a rate R, of decay or of recovery,

.. math::
    :label: relaxometry-signal

    s_t = m\, e^{-\tau_t R} \quad \text{(decay)}, \qquad s_t = m\, (1 - 2 e^{-\tau_t R}) \quad \text{(inversion)}

seen by coils of sensitivity :math:`S_c` through the unitary Fourier transform F, where a mask :math:`P_t` is 1. With a
pull towards a prior Z,

.. math::
    :label: relaxometry-objective

    \Phi(X) = \tfrac12 \sum_{t, c} \big\| P_t\, (F (S_c s_t) - y_{t,c}) \big\|^2 + \tfrac\lambda2 \|X - Z\|^2 .

With :math:`q_t = \sum_c \overline{S_c}\, F^H P_t (F (S_c s_t) - y_{t,c})` and :math:`E_t = e^{-\tau_t R}` its gradient
is

.. math::
    :label: relaxometry-gradient

    \partial_{M_x} \Phi = \sum_t \phi_t\, \mathrm{Re}\, q_t, \quad
    \partial_{M_y} \Phi = \sum_t \phi_t\, \mathrm{Im}\, q_t, \quad
    \partial_R \Phi = \sum_t \psi_t\, \mathrm{Re} (\bar m\, q_t)

each plus :math:`\lambda (X - Z)`, where

.. math::
    :label: relaxometry-factors

    \phi_t = E_t, \quad \psi_t = -\tau_t E_t \quad \text{(decay)}, \qquad
    \phi_t = 1 - 2 E_t, \quad \psi_t = 2 \tau_t E_t \quad \text{(inversion)}.

A step along a direction p must not make a rate negative. Where it would, p is replaced:

.. math::
    :label: relaxometry-positive

    R + a\, p < 0: \quad p \leftarrow -R / a \quad \text{(stop)}, \qquad
    R + a\, p < 10^{-4}: \quad p \leftarrow 0 \quad \text{(stay)} .

Complex arrays are two real ones, ``…_re`` and ``…_im``; the maps are one flat vector of three images. What the data
hold where the mask is 0 does not matter. In units in which rates and magnetisation are of one size, one step suits
both.

==================  ===================
:math:`\tau`        ``times``
:math:`Z`           ``prior``
:math:`\lambda`     ``weight``
==================  ===================

**Where implementations differ.** The authors' code for recovery lets a step end on a rate of 0, the one for decay lets
such a pixel stay.

**Provenance.** Confirmed in the authors' code.

Jiang, Jun, Cho, Gao, Yong and Bilgic, *NLCG-Net: A Model-Based Zero-Shot Learning Framework for Undersampled
Quantitative MRI Reconstruction*, 2024, arXiv:2401.12004.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    C,
    FiniteFloat,
    H,
    Mask,
    N,
    NonNegativeFloat,
    P,
    Real,
    Scalar,
    T,
    V,
    checked,
)

Kind = Literal["decay", "inversion"]
AtBound = Literal["stop", "stay"]
FASTEST, BRIGHTEST, LONGEST, NEAREST = 10.0, 1e6, 1e3, 1e-4


class Signal(NamedTuple):
    """Both parts of the magnetisation at each time."""

    re: Real[T, H, V]
    im: Real[T, H, V]


def _remaining(rate, times):
    return xp.exp(-times[:, None, None] * rate)


def _factor(E, kind):
    """What the magnetisation is multiplied by."""
    return E if kind == "decay" else 1 - 2 * E  # eq. relaxometry-factors


def _slow(times, rate):
    """Growth that is too fast."""
    message = (
        f"times must be within {LONGEST:g} of 0, and times · rate at least -{FASTEST:g}"
    )
    tau = times[:, None, None]
    return [
        (
            lambda: (abs(times).max() <= LONGEST) & ((tau * rate).min() >= -FASTEST),
            message,
        )
    ]


@checked(also=lambda mx, my, rate, times, **_: _slow(times, rate))
def signal(
    mx: Real[H, V],
    my: Real[H, V],
    rate: Real[H, V],
    times: Real[T],
    *,
    kind: Kind = "decay",
) -> Signal:
    """Magnetisation at each time.

    Parameters
    ----------
    mx, my
        Parts of the magnetisation at time 0.
    rate
        Of decay or of recovery.
    times
        Times of the measurements.
    kind
        Decay, or recovery after an inversion.
    """
    phi = _factor(_remaining(rate, times), kind)
    return Signal(mx * phi, my * phi)  # eq. relaxometry-signal


def _transform(x, sign):
    """Unitary Fourier transform of the last two axes; for a sign of 1 its inverse."""
    for n in x.shape[:-3:-1]:
        steps = xp.arange(n)
        angle = (steps[:, None] * steps % n) * (2 * math.pi / n)
        angle = angle.astype(x.real.dtype)
        matrix = (xp.cos(angle) + sign * 1j * xp.sin(angle)) / math.sqrt(n)
        x = (x @ matrix).swapaxes(-1, -2)
    return x


def _moderate(maps, coils_re, coils_im, mask, times, **_):
    """Maps of another size, or that are too bright."""
    size = mask[0].size
    if len(maps) != 3 * size:
        raise ValueError(f"maps must have {3 * size} entries, three images as mask has")
    shape = mask.shape[1:]
    bright = f"maps, coils_re and coils_im must be within {BRIGHTEST:g} of 0"
    largest = lambda: xp.maximum(abs(coils_re).max(), abs(coils_im).max())  # noqa: E731
    return [
        (lambda: xp.maximum(abs(maps).max(), largest()) <= BRIGHTEST, bright),
        *_slow(times, maps[2 * size :].reshape(shape)),
    ]


@checked(also=_moderate)
def kspace_objective(
    maps: Real[P],
    kspace_re: Real[T, C, H, V],
    kspace_im: Real[T, C, H, V],
    coils_re: Real[C, H, V],
    coils_im: Real[C, H, V],
    mask: Mask[T, H, V],
    times: Real[T],
    prior: Real[P],
    *,
    kind: Kind = "decay",
    weight: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[P]]:
    """How far maps are from what was measured, and from a prior.

    Parameters
    ----------
    maps
        Parts of the magnetisation, and rates: three images, flat.
    kspace_re, kspace_im
        What the coils measured.
    coils_re, coils_im
        Sensitivities of the coils.
    mask
        1 where it was measured.
    prior
        Maps that they are pulled to.
    weight
        Of the pull.
    """
    mx, my, rate = maps.reshape(3, *mask.shape[1:])
    E = _remaining(rate, times)
    phi = _factor(E, kind)
    m, coils = mx + 1j * my, coils_re + 1j * coils_im
    seen = _transform(coils * (m * phi)[:, None], -1)
    r = mask[:, None] * (seen - (kspace_re + 1j * kspace_im))
    off = maps - prior
    # eq. relaxometry-objective
    value = (r.real**2 + r.imag**2).sum() / 2 + weight / 2 * (off @ off)

    # eq. relaxometry-factors
    psi = (-1 if kind == "decay" else 2) * times[:, None, None] * E
    q = (coils.conj() * _transform(r, 1)).sum(1)
    # eq. relaxometry-gradient
    parts = (
        (phi * q.real).sum(0),
        (phi * q.imag).sum(0),
        (psi * (m.conj() * q).real).sum(0),
    )
    return value, xp.stack(parts).ravel() + weight * off


@checked
def keep_positive(
    direction: Real[N],
    x: Real[N],
    rates: Mask[N],
    *,
    step: FiniteFloat = 1.0,
    at_bound: AtBound = "stop",
) -> Real[N]:
    """Direction along which a step makes no rate negative.

    Parameters
    ----------
    direction
        Where it goes.
    x
        Where it begins: rates that are not negative, and others.
    rates
        1 at the entries that are rates.
    step
        Its length along the direction.
    at_bound
        What rates do that would become negative: stop at 0, or stay where they are.
    """
    # eq. relaxometry-positive
    if at_bound == "stop":
        beyond, instead = x + step * direction < 0, -x / (step or 1.0)
    else:
        beyond, instead = x + step * direction < NEAREST, xp.zeros_like(x)
    return xp.where((rates > 0) & beyond, instead, direction)
