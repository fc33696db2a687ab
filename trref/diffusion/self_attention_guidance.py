r"""Self-attention guidance: away from what the model says of its own blurred estimate.

Guidance needs no condition. Take the model's estimate of the image, blur it where the model pays attention, put the
same noise back and ask again; then exaggerate the difference. With :math:`x = \sqrt{\bar\alpha}\,x_0 +
\sqrt{1-\bar\alpha}\,\varepsilon` and the estimate :math:`\hat x_0` that belongs to the predicted noise
:math:`\epsilon(x)` (:func:`trref.diffusion.score_models.denoise`):

The blur B is a normalised Gaussian of the rows and of the columns, with the image mirrored at its edges,

.. math::
    :label: self-attention-guidance-blur

    (Bx)_{ij} = \sum_{k,l} g_k\, g_l\; x_{i+k,\,j+l}, \qquad
    g_k \propto e^{-k^2/2\sigma^2}, \quad |k| \le \tfrac{K-1}2

A layer of self-attention with rows :math:`A_{i\cdot}` that sum to 1 over P patches says how much attention a patch
*receives*. The mean over the patches is exactly 1, the threshold by default:

.. math::
    :label: self-attention-guidance-mask

    a_j = \sum_i \frac1{\mathrm{heads}} \sum_h A^h_{ij}, \qquad M_j = \mathbf 1[a_j > \psi]

:math:`M` is brought to the size of the image by repeating each patch. Then

.. math::
    :label: self-attention-guidance-degrade

    \bar x_0 = M \odot B\hat x_0 + (1 - M) \odot \hat x_0, \qquad
    \bar x = \sqrt{\bar\alpha}\,\bar x_0 + \sqrt{1-\bar\alpha}\;\epsilon(x)

.. math::
    :label: self-attention-guidance-noise

    \tilde\epsilon = \epsilon(\bar x) + (1 + s) \big( \epsilon(x) - \epsilon(\bar x) \big)

and any step of a sampler follows, with :math:`\tilde\epsilon` at :math:`x`. :math:`M = 1` is blur guidance. With a
condition, classifier-free guidance of scale w is added; mask and estimate are those of the unconditional branch:

.. math::
    :label: self-attention-guidance-with-cfg

    \tilde\epsilon = \epsilon_u + w (\epsilon_c - \epsilon_u) + s \big( \epsilon_u(x) - \epsilon_u(\bar x) \big)

**What it does to the estimate.** Both noises are used at :math:`x`, though one was predicted at :math:`\bar x`. With
:math:`\bar D = \hat x_0(\bar x)` the guided estimate is exactly

.. math:: \hat x_0 - s\,(\bar D - \bar x_0),

and to first order :math:`\bar D - \bar x_0 = (I - \sqrt{\bar\alpha}\, J)(\hat x_0 - \bar x_0)`, where
:math:`\sqrt{\bar\alpha}\, J = \tfrac{\bar\alpha}{1-\bar\alpha} \mathrm{Cov}(x_0|x)` is the model's Jacobian. So the
detail that was blurred away is exaggerated in directions in which the posterior is wider than the noise, between modes,
and *weakened* in all others: everywhere, if the data are one Gaussian, however wide.

Attention that is flat, within 1e-5, masks nothing. Where nothing is masked, or nothing is blurred, the noise stays.

**Where implementations differ.** The authors clip :math:`\hat x_0` to ±1 before they blur it, and count the scale from
the degraded answer, :math:`1 + s`. diffusers compares with 1 as it is: where attention is flat, rounding decides.

**Provenance.** Confirmed: masks, blur, the same noise and both rules of guidance by diffusers' pipeline, which was read
and names the paper's equations; that the authors clip, by notes on their sampler. The paper's text was not read. What
it does to the estimate is derived here. Sigma and kernel are those for latents; the authors take 3 and 31 (128 pixels)
or 9 and 31 (256), and a scale of 0.1 to 0.8 for ImageNet.

Hong, Lee, Jang and Kim, *Improving Sample Quality of Diffusion Models Using Self-Attention Guidance*, 2022,
arXiv:2210.00939.
"""

import math
from collections.abc import Callable
from typing import Annotated

from trref import validate
from trref.backend import xp
from trref.diffusion.adaptive_projected_guidance import cfg
from trref.diffusion.score_models import denoise
from trref.signature import (
    D,
    FiniteFloat,
    H,
    K,
    Mask,
    N,
    NonNegativeFloat,
    OpenFraction,
    P,
    PositiveFloat,
    Prob,
    Real,
    Simplex,
    V,
    checked,
)

Kernel = Annotated[int, "[1, 99]"]
Width = Annotated[float, "[0.001, inf)"]

TIE = 1e-5
"""What is above the threshold by less is not above it: rows of attention are only known to sum to 1 within this."""


def _odd(kernel, **_):
    """An even kernel."""
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, not {kernel}")
    return []


@checked(also=_odd)
def gaussian_blur(
    x: Real[N, H, V], *, sigma: Width = 1.0, kernel: Kernel = 9
) -> Real[N, H, V]:
    """Blur images, mirrored at their edges without repeating the edge.

    Parameters
    ----------
    x
        Images of H rows and V columns.
    sigma
        Width of the Gaussian, in pixels.
    kernel
        Pixels of the window along either axis, odd.
    """
    # eq. self-attention-guidance-blur
    rows, columns = (_window(n, sigma, kernel, x.dtype) for n in x.shape[1:])
    return rows @ x @ columns.T


@checked(also=_odd)
def gaussian_blur_vjp(
    x: Real[N, H, V],
    cotangent: Real[N, H, V],
    *,
    sigma: Width = 1.0,
    kernel: Kernel = 9,
) -> Real[N, H, V]:
    """Adjoint of the blur, which is linear: pixels near an edge collect what was mirrored there.

    Parameters
    ----------
    cotangent
        Of the blurred images.
    """
    rows, columns = (_window(n, sigma, kernel, x.dtype) for n in x.shape[1:])
    return rows.T @ cotangent @ columns


def _window(length, sigma, kernel, dtype):
    """The blur of one axis as a matrix."""
    offsets = xp.arange(kernel) - kernel // 2
    g = xp.exp(-((offsets / sigma) ** 2) / 2)
    g = (g / g.sum()).astype(dtype)
    period = max(2 * (length - 1), 1)
    seen = (xp.arange(length)[:, None] + offsets) % period
    seen = xp.minimum(seen, period - seen)
    return (g[:, None] * (seen[:, :, None] == xp.arange(length))).sum(1)


@checked
def attention_mask(
    attention: Simplex[N, K, P, P], *, threshold: PositiveFloat = 1.0
) -> Mask[N, P]:
    """1 on the patches that receive more attention than others.

    Parameters
    ----------
    attention
        Of K heads: from the patch of the row to that of the column.
    threshold
        Of the attention received, whose mean over the patches is 1.
    """
    # eq. self-attention-guidance-mask
    received = attention.mean(1).sum(1)
    return (received > threshold * (1 + TIE)).astype(attention.dtype)


def _tiled(x, patches):
    """Refuse patches that are no square tiles of the images."""
    H, V = x.shape[1:]
    side = math.isqrt(H * V // patches)
    if side == 0 or side * side * patches != H * V or H % side or V % side:
        raise ValueError(
            f"{patches} patches do not tile images of {H} x {V} pixels by squares"
        )


def _mask_tiles(x, mask, kernel, **_):
    """A mask whose patches do not tile the images by squares."""
    try:
        _tiled(x, mask.shape[1])
    except ValueError as error:
        raise ValueError(f"mask: {error}") from None
    return _odd(kernel)


@checked(also=_mask_tiles)
def degrade(
    x: Real[N, H, V],
    noise: Real[N, H, V],
    mask: Mask[N, P],
    *,
    alpha_bar: OpenFraction = 0.5,
    sigma: Width = 1.0,
    kernel: Kernel = 9,
) -> Real[N, H, V]:
    """Noisy images whose estimate is blurred where the mask is 1, with the noise as it was.

    Parameters
    ----------
    x
        Noisy images.
    noise
        The model's estimate of the noise in `x`.
    mask
        Of P square patches that tile an image, row by row.
    alpha_bar
        Squared signal level of `x`.
    """
    x0 = denoise.unchecked(x, noise, alpha_bar=alpha_bar)
    blurred = gaussian_blur.unchecked(x0, sigma=sigma, kernel=kernel)
    # eq. self-attention-guidance-degrade
    x0 = xp.where(_repeated(mask, x) > 0, blurred, x0)
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise


def _repeated(mask, x):
    """The mask of patches at the size of the images."""
    N, H, V = x.shape
    side = math.isqrt(H * V // mask.shape[1])
    tiles = mask.reshape(N, H // side, V // side)
    return xp.repeat(xp.repeat(tiles, side, 1), side, 2)


@checked
def sag_noise(
    noise: Real[N, D], degraded: Real[N, D], *, scale: NonNegativeFloat = 0.75
) -> Real[N, D]:
    """Predicted noise, guided away from the answer to the degraded image.

    Parameters
    ----------
    noise
        Predicted at the noisy images, a row each.
    degraded
        Predicted at the degraded ones.
    scale
        0 for no guidance.
    """
    # eq. self-attention-guidance-noise
    return degraded + (1 + scale) * (noise - degraded)


@checked
def sag_cfg_noise(
    conditional: Real[N, D],
    unconditional: Real[N, D],
    degraded: Real[N, D],
    *,
    scale: NonNegativeFloat = 0.75,
    cfg_scale: FiniteFloat = 7.5,
) -> Real[N, D]:
    """Predicted noise, guided towards a condition, too.

    Parameters
    ----------
    conditional, unconditional
        Predicted at the noisy images.
    degraded
        Predicted without the condition at the degraded images.
    cfg_scale
        Of classifier-free guidance: 1 for none.
    """
    guided = cfg.unchecked(conditional, unconditional, scale=cfg_scale)
    # eq. self-attention-guidance-with-cfg
    return guided + scale * (unconditional - degraded)


def _attention_tiles(x, attention, kernel, **_):
    """Attention between patches that do not tile the images by squares."""
    try:
        _tiled(x, attention.shape[2])
    except ValueError as error:
        raise ValueError(f"attention: {error}") from None
    return _odd(kernel)


@checked(also=_attention_tiles)
def sag(
    model: Callable,
    x: Real[N, H, V],
    noise: Real[N, H, V],
    attention: Simplex[N, K, P, P],
    times: Prob[N],
    *,
    alpha_bar: OpenFraction = 0.5,
    scale: NonNegativeFloat = 0.75,
    threshold: PositiveFloat = 1.0,
    sigma: Width = 1.0,
    kernel: Kernel = 9,
) -> Real[N, H, V]:
    """Guide the noise that a model predicted, by asking it once more.

    Parameters
    ----------
    model
        ``model(x (N, H V), t (N,)) -> (N, H V)``: the estimated noise at noise time t, of flat images.
    noise
        What the model says at `x`.
    attention
        The model's at `x`, or any other.
    times
        Noise times.
    threshold
        As by `attention_mask`.
    sigma, kernel
        Of the blur.

    Raises
    ------
    ValueError
        A `model` whose noise has another shape or is not finite.
    """
    mask = attention_mask.unchecked(attention, threshold=threshold)
    degraded = degrade.unchecked(
        x, noise, mask, alpha_bar=alpha_bar, sigma=sigma, kernel=kernel
    )
    rows, shape = noise.reshape(len(x), -1), x.shape
    answer = model(degraded.reshape(rows.shape), times)
    validate.returned("model", answer, rows.shape, finite=True)
    if answer.dtype != x.dtype:
        raise TypeError(f"model must return {x.dtype}, as x is, not {answer.dtype}")
    return sag_noise.unchecked(rows, answer, scale=scale).reshape(shape)
