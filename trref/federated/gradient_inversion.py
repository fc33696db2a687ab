r"""Gradient inversion: which inputs a gradient gives away, foreseen from curvature.

A server that sees the gradient :math:`g^* = g(x^*)` that one sample left in a client may look for an input with the
same one. Here the network has one hidden layer, with parameters as :math:`W_1` (d, h) and :math:`W_2` (h, k), and
cross-entropy with a target y:

.. math::
    :label: gradient-inversion-gradient

    h = \tanh(x W_1 + b_1), \quad \delta = \operatorname{softmax}(h W_2 + b_2) - y, \quad
    \delta_h = (\delta W_2^\top) \circ (1 - h^2), \qquad
    g = (x \otimes \delta_h,\; \delta_h,\; h \otimes \delta,\; \delta).

The attack descends on how far the gradients are apart, or on the angle between them,

.. math::
    :label: gradient-inversion-loss

    D(x) = \|g(x) - g^*\|^2 \qquad \text{or} \qquad D(x) = 1 - \frac{g(x) \cdot g^*}{\|g(x)\| \|g^*\|},

.. math::
    :label: gradient-inversion-slope

    \nabla D = 2 J^\top (g - g^*) \qquad \text{or} \qquad
    \nabla D = -\frac{1}{\|g\|} J^\top \Big( I - \frac{g g^\top}{\|g\|^2} \Big) \frac{g^*}{\|g^*\|},

with the Jacobian :math:`J = \partial g / \partial x`. With :math:`u = W_2 \delta` its blocks are, for
:math:`W_1, b_1, W_2, b_2`,

.. math::
    :label: gradient-inversion-jacobian

    \begin{gathered}
    H_x = \operatorname{diag}(1 - h^2) W_1^\top, \quad
    D_p = (\operatorname{diag} p - p p^\top) W_2^\top H_x, \quad
    D_h = \operatorname{diag}(1 - h^2)\, W_2 D_p - 2 \operatorname{diag}(u \circ h)\, H_x, \\
    I \otimes \delta_h + x \otimes D_h, \qquad D_h, \qquad H_x \otimes \delta + h \otimes D_p, \qquad D_p.
    \end{gathered}

At the true input the residual is 0, so that the Hessian of D there needs no second derivative of g:

.. math::
    :label: gradient-inversion-hessian

    H = 2 J^\top J \qquad \text{or} \qquad
    H = \frac{1}{\|g^*\|^2} J^\top \Big( I - \frac{g^* g^{*\top}}{\|g^*\|^2} \Big) J.

Descent with the step :math:`\eta` from nearby then goes as

.. math::
    :label: gradient-inversion-contraction

    x_T - x^* \approx (I - \eta H)^T (x_0 - x^*),

by at most the factor :math:`\max(|1 - \eta \lambda_{\min}|, |1 - \eta \lambda_{\max}|)^T`. Small eigenvalues mean slow
recovery, and with :math:`\eta > 2 / \lambda_{\max}` there is none: these extreme eigenvalues (the loss-aware
vulnerability proxy) tell samples apart where the usual proxy, :math:`\|g^*\|`, knows nothing of the loss. Under the
angle, scaling all gradients changes neither D nor H; the ordered eigenvalues of :math:`\|g^*\|^2 H` are at most those
of :math:`J^\top J`.

No search is needed where a first layer has a bias, and the gradient is of one sample: any unit k gives

.. math::
    :label: gradient-inversion-leak

    x = \nabla_{W_1}[:, k] \,/\, \nabla_{b_1}[k],

here by the one whose bias gradient is largest. The angle is not defined where a gradient is 0.

**Where implementations differ.** No public code is known. With ReLU the gradient jumps in the input, and the Hessian
holds piece by piece only.

**Provenance.** The proxy, the two losses and the rank correlation as a measure are confirmed in the abstract; Hessians,
contraction and Jacobian are derived and checked here. Which of the eigenvalues the paper takes for which loss is not
known.

Hong, Lee, Cho and Kim, *Foreseeing Reconstruction Quality of Gradient Inversion: An Optimization Perspective*, 2023,
arXiv:2312.12488.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.nn import flat
from trref.nn.heads import log_softmax
from trref.signature import (
    D,
    H,
    K,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    Simplex,
    checked,
)

Kind = Literal["squared", "cosine"]


class Extremes(NamedTuple):
    """The extreme eigenvalues of a Hessian."""

    largest: Scalar
    smallest: Scalar


class _Pass(NamedTuple):
    """What the gradient and its derivative share."""

    h: Real[H]
    p: Real[K]
    delta: Real[K]
    back: Real[H]
    delta_h: Real[H]


def _forward(x, W1, b1, W2, b2, target):
    h = xp.tanh(x @ W1 + b1)
    p = xp.exp(log_softmax(h @ W2 + b2))
    delta = p - target
    back = W2 @ delta
    return _Pass(h, p, delta, back, back * (1 - h * h))


def _gradient(x, at):
    return flat.join(
        [x[:, None] * at.delta_h, at.delta_h, at.h[:, None] * at.delta, at.delta]
    )


@checked
def parameter_gradient(
    x: Real[D],
    W1: Real[D, H],
    b1: Real[H],
    W2: Real[H, K],
    b2: Real[K],
    target: Simplex[K],
) -> Real[P]:
    """The gradient that one sample leaves, flat: W1, b1, W2, b2.

    Parameters
    ----------
    x
        The input.
    W1, b1
        To the hidden units.
    W2, b2
        To the logits.
    target
        Probabilities of the classes; 1 for the label.
    """
    # eq. gradient-inversion-gradient
    return _gradient(x, _forward(x, W1, b1, W2, b2, target))


@checked
def gradient_jacobian(
    x: Real[D],
    W1: Real[D, H],
    b1: Real[H],
    W2: Real[H, K],
    b2: Real[K],
    target: Simplex[K],
) -> Real[P, D]:
    """The derivative of that gradient by the input."""
    return _jacobian(x, W1, W2, _forward(x, W1, b1, W2, b2, target))


def _jacobian(x, W1, W2, at):
    # eq. gradient-inversion-jacobian
    slope = 1 - at.h**2
    H_x = slope[:, None] * W1.T
    D_z = W2.T @ H_x
    D_p = at.p[:, None] * (D_z - at.p @ D_z)
    D_h = slope[:, None] * (W2 @ D_p) - 2 * (at.back * at.h)[:, None] * H_x

    one = xp.eye(len(x), dtype=x.dtype)
    first = one[:, None] * at.delta_h[:, None] + x[:, None, None] * D_h
    second = H_x[:, None] * at.delta[:, None] + at.h[:, None, None] * D_p
    rows = first.reshape(W1.size, len(x)), D_h, second.reshape(W2.size, len(x)), D_p
    return xp.concatenate(rows)


def _norm(v):
    return xp.sqrt((v * v).sum())


def _a_direction(kind, gradient, **_):
    """A gradient of 0, if `kind` is ``"cosine"``."""
    if kind == "squared":
        return []
    return [(lambda: abs(gradient).max() > 0, "gradient must not be 0 for the cosine")]


def _of_the_network(x, b1, b2, gradient, *, kind, **_):
    """A gradient of another length than the parameters, or of 0 if `kind` is ``"cosine"``."""
    size = len(b1) * (len(x) + 1) + len(b2) * (len(b1) + 1)
    if len(gradient) != size:
        raise ValueError(f"gradient must have length {size}, not {len(gradient)}")
    return _a_direction(kind, gradient)


@checked(also=_of_the_network)
def matching_loss(
    x: Real[D],
    W1: Real[D, H],
    b1: Real[H],
    W2: Real[H, K],
    b2: Real[K],
    target: Simplex[K],
    gradient: Real[P],
    *,
    kind: Kind = "squared",
) -> tuple[Scalar, Real[D]]:
    """How far an input's gradient is from the one that was seen.

    Parameters
    ----------
    gradient
        The one that was seen.
    kind
        The squared distance, or one less the cosine.

    Returns
    -------
    loss
    gradient
        With respect to `x`.
    """
    at = _forward(x, W1, b1, W2, b2, target)
    g, J = _gradient(x, at), _jacobian(x, W1, W2, at)
    # eq. gradient-inversion-loss, gradient-inversion-slope
    if kind == "squared":
        off = g - gradient
        return off @ off, 2 * off @ J
    size = _norm(g)
    size = xp.where(size > 0, size, 1)
    unit, seen = g / size, gradient / _norm(gradient)
    cosine = unit @ seen
    return 1 - cosine, (cosine * unit - seen) @ J / size


@checked(also=_a_direction)
def matching_hessian(
    jacobian: Real[P, D], gradient: Real[P], *, kind: Kind = "squared"
) -> Real[D, D]:
    """The Hessian of that loss at the true input.

    Parameters
    ----------
    jacobian
        Of the gradient there.
    """
    # eq. gradient-inversion-hessian
    if kind == "squared":
        return 2 * jacobian.T @ jacobian
    size = _norm(gradient)
    along = (gradient / size) @ jacobian
    return (jacobian.T @ jacobian - along[:, None] * along) / size**2


@checked
def extreme_eigenvalues(hessian: Real[D, D]) -> Extremes:
    """The proxy: the largest and the smallest eigenvalue.

    Parameters
    ----------
    hessian
        At the true input; symmetric, its lower half counts.
    """
    values = xp.linalg.eigvalsh(hessian)
    return Extremes(values[-1], values[0])


@checked
def predicted_offset(
    hessian: Real[D, D], offset: Real[D], *, lr: PositiveFloat, steps: PositiveInt
) -> Real[D]:
    """How far from the true input descent ends, from nearby.

    Parameters
    ----------
    offset
        How far from it descent starts.
    """
    # eq. gradient-inversion-contraction
    values, Q = xp.linalg.eigh(hessian)
    return Q @ ((1 - lr * values) ** steps * (Q.T @ offset))


def _a_bias_moved(bias_gradient, **_):
    """Bias gradients that are all 0."""
    return [(lambda: abs(bias_gradient).max() > 0, "bias_gradient must not be 0")]


@checked(also=_a_bias_moved)
def analytic_leak(weight_gradient: Real[D, H], bias_gradient: Real[H]) -> Real[D]:
    """The input, read off the first layer's gradient of one sample.

    Parameters
    ----------
    weight_gradient, bias_gradient
        Of that layer.
    """
    k = abs(bias_gradient).argmax()
    # eq. gradient-inversion-leak
    return xp.take(weight_gradient, k, axis=1) / xp.take(bias_gradient, k)
