r"""NormGrad: how much each place of an image would train a layer.

The gradient of a convolution's weights is a sum over places u, of output gradient times input patch:

.. math::
    :label: normgrad-weights

    \frac{\partial \ell}{\partial W} = \sum_u g_u\, \text{patch}_u(x)^\top.

How large a summand is says how much its place would train the layer. A *virtual* layer, put into a network as the
identity, changes nothing and makes the map available everywhere, from the activations x and the gradient g of a score
at the same place: a 1×1 convolution, an N×N one (with a border of zeros), a scaling, or a bias. What it extracts at
each place u is

.. math::
    :label: normgrad-extract

    m_u = g_u\, x_u^\top, \qquad g_u\, \text{patch}^N_u(x)^\top, \qquad g_u \circ x_u, \qquad g_u,

and for a depthwise convolution :math:`g_{uk}\, \text{patch}^N_{uk}(x)`, one channel k by itself. A number is made of it
by the norm, the sum, the largest entry, or the norm of the positive part:

.. math::
    :label: normgrad-aggregate

    s_u = \|m_u\|_F, \qquad \sum m_u, \qquad \max m_u, \qquad \|(m_u)_+\|_F.

Norms need no outer product:

.. math::
    :label: normgrad-norms

    \|g_u x_u^\top\|_F = \|g_u\|\, \|x_u\|, \qquad \|g_u\, \text{patch}_u^\top\|_F = \|g_u\|\, \|\text{patch}_u\|.

Older methods are among these: bias and sum is the plain gradient, scaling and sum the linear approximation. Grad-CAM
averages the gradient over places first,

.. math::
    :label: normgrad-grad-cam

    \Big(\sum_k \bar g_k\, x_{ku}\Big)_+, \qquad \bar g_k = \frac{1}{|u|} \sum_u g_{ku},

the same as the positive part of the linear approximation wherever g is equal at all places, as after the last
convolution before a global average.

Maps of several layers, of one size, are brought to [0, 1] each and combined by a mean or a product, with weights

.. math::
    :label: normgrad-combine

    \sum_l \hat \gamma_l\, m_l, \qquad \prod_l m_l^{\hat \gamma_l}, \qquad
    \hat \gamma_l = \frac{\gamma_l}{\sum_k \gamma_k},

a constant map being 0. *Class sensitivity* is the rank correlation of the maps for the most and the least probable
class, over places, with mean ranks R of equal values:

.. math::
    :label: normgrad-sensitivity

    \rho = \frac{\sum_u (R_u - \bar R)(R'_u - \bar R)}{\sqrt{\sum_u (R_u - \bar R)^2 \sum_u (R'_u - \bar R)^2}},

low if a method sees what class is asked for. Of a constant map it is 0. The *meta* version of any map is the same map
after one step on the one image, towards the class or away from it, with nothing differentiated through the step:

.. math::
    :label: normgrad-meta

    \theta' = \theta \mp \eta\, \nabla_\theta\, \text{CE}(f_\theta(x), c).

**Where implementations differ.** Products in the authors' script have no weights. TorchRay's function of this name is
the 1×1 form, whatever the layer.

**Provenance.** Confirmed in the authors' code (srebuffi/revisiting_saliency and the branch normgrad of TorchRay); the
weights of layers from memory of the paper.

Rebuffi, Fong, Ji and Vedaldi, *There and Back Again: Revisiting Backpropagation Saliency Methods*, 2020,
arXiv:2004.02866.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import xp
from trref.signature import (
    H,
    K,
    L,
    N,
    NonNegativeFloat,
    P,
    Positive,
    Prob,
    Real,
    V,
    checked,
)

Layer = Literal["conv1x1", "conv", "depthwise", "scaling", "bias"]
How = Literal["norm", "sum", "max", "positive"]
Odd = Annotated[int, "[1, 15]"]


def _odd(size, **_):
    """An even size."""
    if size % 2 == 0:
        raise ValueError(f"size must be odd, not {size}")
    return []


def _patches(x, size):
    """(N, K, H, V, size²), with a border of zeros."""
    r = size // 2
    wide = xp.pad(x, ((0, 0), (0, 0), (r, r), (r, r)))
    H, W = x.shape[2:]
    shifted = [
        wide[:, :, i : i + H, j : j + W] for i in range(size) for j in range(size)
    ]
    return xp.stack(shifted, -1)


@checked(also=_odd)
def saliency(
    x: Real[N, K, H, V],
    gradient: Real[N, K, H, V],
    *,
    layer: Layer = "conv1x1",
    how: How = "norm",
    size: Odd = 3,
) -> Real[N, H, V]:
    """The map of a virtual layer.

    Parameters
    ----------
    x
        Activations of N images in K channels, H rows and V columns.
    gradient
        Of a score by these activations.
    layer
        Which virtual layer.
    how
        What is made of an extract.
    size
        Of the patches of `conv` and `depthwise`; the others have none.
    """
    if layer == "bias":
        return _aggregate(gradient, how)
    if layer == "scaling":
        return _aggregate(gradient * x, how)
    patches = _patches(x, 1 if layer == "conv1x1" else size)
    if layer == "depthwise":
        m = gradient[..., None] * patches
        return _aggregate(xp.moveaxis(m, -1, 1).reshape(len(x), -1, *x.shape[2:]), how)
    flat = xp.moveaxis(patches, -1, 1).reshape(len(x), -1, *x.shape[2:])
    if how == "norm":
        return _norm(gradient) * _norm(flat)  # eq. normgrad-norms
    m = gradient[:, :, None] * flat[:, None]  # eq. normgrad-extract
    return _aggregate(m.reshape(len(x), -1, *x.shape[2:]), how)


def _norm(m):
    return xp.sqrt((m * m).sum(1))


def _aggregate(m, how):
    """Over the first axis after the images'."""
    # eq. normgrad-aggregate
    if how == "norm":
        return _norm(m)
    if how == "sum":
        return m.sum(1)
    return m.max(1) if how == "max" else _norm(xp.maximum(m, 0))


@checked(also=_odd)
def weight_gradient(
    x: Real[N, K, H, V], gradient: Real[N, K, H, V], *, size: Odd = 3
) -> Real[K, P]:
    """The gradient of a virtual convolution's weights, all images together: a row an output channel.

    Parameters
    ----------
    size
        Of the kernel; columns are input channels, and within each the kernel's entries, row by row.
    """
    # eq. normgrad-weights
    patches = _patches(x, size)
    return xp.einsum("nkhv,nchvp->kcp", gradient, patches).reshape(x.shape[1], -1)


@checked
def grad_cam(x: Real[N, K, H, V], gradient: Real[N, K, H, V]) -> Real[N, H, V]:
    """Grad-CAM: activations weighed by the mean gradient of their channel."""
    mean = gradient.mean((2, 3), keepdims=True)
    return xp.maximum((mean * x).sum(1), 0)  # eq. normgrad-grad-cam


@checked
def combine(
    maps: Real[L, N, H, V],
    weights: Positive[L],
    *,
    rule: Literal["mean", "product"] = "mean",
) -> Prob[N, H, V]:
    """The maps of several layers as one.

    Parameters
    ----------
    maps
        Of L layers, of one size.
    weights
        Of the layers.
    rule
        How they are combined.
    """
    low = maps.min((2, 3), keepdims=True)
    room = maps.max((2, 3), keepdims=True) - low
    unit = xp.where(room > 0, (maps - low) / xp.where(room > 0, room, 1), 0)
    share = (weights / weights.sum())[:, None, None, None]
    # eq. normgrad-combine
    if rule == "mean":
        return xp.minimum((share * unit).sum(0), 1)
    return (unit**share).prod(0)


@checked
def class_sensitivity(likely: Real[N, H, V], unlikely: Real[N, H, V]) -> Real[N]:
    """The rank correlation of two maps of each image.

    Parameters
    ----------
    likely
        Maps for the most probable class.
    unlikely
        Maps for the least probable class.
    """
    a, b = (_ranks(m.reshape(len(m), -1)) for m in (likely, unlikely))
    total = xp.sqrt((a * a).sum(1) * (b * b).sum(1))
    # eq. normgrad-sensitivity
    return xp.where(total > 0, (a * b).sum(1) / xp.where(total > 0, total, 1), 0)


def _ranks(m):
    """Mean ranks, less their mean: half of how many more are below than above."""
    return xp.sign(m[:, :, None] - m[:, None]).sum(2) / 2


@checked
def meta_parameters(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    lr: NonNegativeFloat = 2.5e-3,
    towards: bool = True,
) -> Real[P]:
    """The parameters after one step on one image, at which a map is taken again.

    Parameters
    ----------
    loss_and_grad
        ``loss_and_grad(theta) -> (loss, gradient)``, the cross-entropy of the image with the class in question.
    towards
        Learn the class; else unlearn it.
    """
    _, g = validate.loss_and_grad(loss_and_grad, theta)
    return theta - lr * g if towards else theta + lr * g  # eq. normgrad-meta
