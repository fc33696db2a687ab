r"""Gradient clipping: no step longer than a threshold, by the norm of all, by the norm of each tensor, or by value.

Where a loss is steep, or its gradient is noisy with heavy tails, one bad gradient can throw away what many good ones
have found. So the gradient is shortened before the step. Its length is the norm of all parameters together,

.. math::
    :label: gradient-clipping-norm

    \|g\|_p = \Big( \sum_i |g_i|^p \Big)^{1/p}, \qquad \|g\|_\infty = \max_i |g_i|,

with :math:`p = 2`, written :math:`\|g\|`, unless said otherwise. A gradient longer than the threshold c is cut to it,
and keeps its direction:

.. math::
    :label: gradient-clipping-global

    g \leftarrow g\, \min\Bigl( 1, \frac{c}{\|g\|} \Bigr) .

This is the point of the ball of radius c that is nearest to the gradient. The same cut can be made for each tensor
:math:`g^{(k)}` alone, so that a long gradient of one layer does not shorten the others; the whole then changes its
direction:

.. math::
    :label: gradient-clipping-each

    g^{(k)} \leftarrow g^{(k)}\, \min\Bigl( 1, \frac{c}{\|g^{(k)}\|} \Bigr) .

Or each entry is cut, which gives the nearest point of a cube and turns the gradient most:

.. math::
    :label: gradient-clipping-value

    g_i \leftarrow \max(-c, \min(c, g_i)) .

Who differentiates through the clip, as learned optimisers do, needs its Jacobian. It is the identity where nothing is
cut, and else

.. math::
    :label: gradient-clipping-jacobian

    \frac{\partial}{\partial g} \frac{c\, g}{\|g\|} = \frac{c}{\|g\|} \Bigl( I - \frac{g g^\top}{\|g\|^2} \Bigr),
    \qquad \frac{\partial}{\partial g_i} \max(-c, \min(c, g_i)) = [\, |g_i| \le c \,] .

Both are symmetric. At the threshold stands the derivative of the inside. A step of gradient descent,

.. math::
    :label: gradient-clipping-step

    \theta_t = \theta_{t-1} - \eta\, \mathrm{clip}(g_t),

is at most :math:`\eta c` long. With a small c and :math:`\eta c` held fixed it is normalised gradient descent, with a
large c gradient descent. Adam divides by the size of its gradients: a clip that shortens all of them alike does nothing
there, and only the changes of the factor act.

With accumulated gradients the sum is clipped, not its parts; a distributed trainer needs the norm over all shards, and
one with scaled losses takes the scale out first. Joining or cutting tensors changes the clip of each tensor and neither
of the others. A gradient of zero stays zero. An infinite or undefined gradient is refused here; in PyTorch and optax it
becomes NaN in its own entry and 0 in the others, so that most tensors take a step with the gradient 0.

=====================  ============
:math:`c`              `threshold`
:math:`p`              `order`
:math:`\eta`           `lr`
=====================  ============

**Where implementations differ.** PyTorch adds :math:`10^{-6}` to the norm: what it cuts is a little shorter than the
threshold, by a ten-thousandth where norms are near 0.01. Keras' ``clipnorm`` cuts each tensor and its
``global_clipnorm`` all together, and the first is taken for the second. Where a clip by value stands for the clip by
norm, the direction changes.

**Provenance.** Confirmed by PyTorch 2.13 and optax 0.2.8, run beside this module, and by Keras 3.15.1. The Jacobian and
the limits are derived here and checked. The clip of all parameters together is the paper's.

Pascanu, Mikolov and Bengio, *On the difficulty of training Recurrent Neural Networks*, 2013, arXiv:1211.5063.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.nn.flat import join
from trref.signature import Arrays, P, PositiveFloat, Real, Scalar, checked


@checked
def global_norm(
    g: Real[P], *, order: Annotated[float, "[1, inf)"] | None = 2.0
) -> Scalar:
    """Length of a gradient.

    Parameters
    ----------
    g
        The gradient of all parameters together.
    order
        Of the norm; None takes the largest entry.
    """
    size = abs(g)
    largest = size.max()
    if order is None:
        return largest
    unit = xp.where(largest > 0, largest, 1)  # so that no power overflows
    # eq. gradient-clipping-norm
    total = ((size / unit) ** order).sum(keepdims=True)
    return (largest * total ** (1 / order))[0]


@checked
def clip_global(g: Real[P], *, threshold: PositiveFloat = 1.0) -> Real[P]:
    """Cut a gradient to a norm.

    Parameters
    ----------
    g
        It may be that of one tensor alone.
    threshold
        The longest that is left as it is.
    """
    norm = global_norm.unchecked(g)
    # eq. gradient-clipping-global
    return g * (threshold / xp.maximum(norm, threshold))


@checked
def clip_global_jvp(
    g: Real[P], tangent: Real[P], *, threshold: PositiveFloat = 1.0
) -> Real[P]:
    """Differential of `clip_global` along a tangent; it is its own adjoint.

    Parameters
    ----------
    tangent
        How the gradient changes.
    """
    norm = global_norm.unchecked(g)
    unit = g / xp.where(norm > 0, norm, 1)
    # eq. gradient-clipping-jacobian
    cut = (tangent - (unit @ tangent) * unit) * (
        threshold / xp.maximum(norm, threshold)
    )
    return xp.where(norm > threshold, cut, tangent)


@checked
def clip_value(g: Real[P], *, threshold: PositiveFloat = 1.0) -> Real[P]:
    """Cut each entry of a gradient."""
    # eq. gradient-clipping-value
    return xp.clip(g, -threshold, threshold)


@checked
def clip_value_jvp(
    g: Real[P], tangent: Real[P], *, threshold: PositiveFloat = 1.0
) -> Real[P]:
    """Differential of `clip_value` along a tangent; it is its own adjoint."""
    # eq. gradient-clipping-jacobian
    return xp.where(abs(g) <= threshold, tangent, 0)


class ClippingState(NamedTuple):
    """Norm of the last gradient of all parameters together, before it was cut; 0 before the first step."""

    norm: Scalar


def init(params: Arrays) -> ClippingState:
    """Return the state before the first step."""
    return ClippingState(xp.zeros_like(params[0].ravel()[0]))


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: ClippingState,
    *,
    lr: PositiveFloat = 0.1,
    threshold: PositiveFloat = 1.0,
    kind: Literal["global", "each", "value"] = "global",
) -> tuple[Arrays, ClippingState]:
    """Take one step of gradient descent with the clipped gradient.

    Parameters
    ----------
    kind
        Whether the norm of all tensors together is cut, the norm of each alone, or each entry.

    Returns
    -------
    params
    state
    """
    norm = global_norm.unchecked(join(grads))
    if kind == "global":
        factor = threshold / xp.maximum(norm, threshold)
        clipped = [factor * g for g in grads]
    else:
        # eq. gradient-clipping-each
        cut = {"each": clip_global, "value": clip_value}[kind].unchecked
        clipped = [cut(g.ravel(), threshold=threshold).reshape(g.shape) for g in grads]

    # eq. gradient-clipping-step
    params = [p - lr * g for p, g in zip(params, clipped, strict=True)]

    return params, ClippingState(norm)
