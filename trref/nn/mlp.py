r"""The multilayer perceptron on one flat parameter vector.

Layer :math:`l = 1 … L` computes :math:`a_l = h_{l-1}W_l + b_l` and :math:`h_l = \phi(a_l)`, with :math:`h_0 = X`; the
last layer is linear, and its :math:`a_L` is the output. The parameters lie in one vector :math:`\theta`, in the order
:math:`W_1, b_1, W_2, …`, each :math:`W_l` of shape (inputs, outputs) row by row.

`sizes` is the tuple of widths, such as ``(64, 32, 10)``. Every function takes ``(theta, X)``; the ones that need a
forward pass take its `Cache` instead, so that it is made once.

Several networks of one kind, such as one a seed, are computed together: theta (S, P) with X (N, D), the same for all,
or (S, N, D) gives outputs (S, N, K) and gradients (S, P). Small networks gain nearly the factor S by it (sdat, ignite).
"""

import itertools
from typing import NamedTuple

from trref.backend import xp
from trref.nn import activations

__all__ = [
    "Cache",
    "deltas",
    "forward",
    "gauss_newton_product",
    "gradient",
    "hessian_product",
    "init",
    "input_gradient",
    "jvp",
    "size",
    "unpack",
    "vjp",
]


class Cache(NamedTuple):
    """What a forward pass leaves for the derivatives: inputs and pre-activations of each layer."""

    layers: list
    inputs: list
    pre_activations: list
    activation: str


def size(sizes):
    """Return the length of the parameter vector of a network with the widths `sizes`."""
    return sum((m + 1) * n for m, n in itertools.pairwise(sizes))


def init(rng, sizes, *, scale=1.0, dtype="float64"):
    """Draw parameters: weights with variance ``scale² / inputs``, biases 0.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws on the host, in float64: one seed is one network on every backend.
    sizes : tuple of int
    scale : float
    dtype : dtype

    Returns
    -------
    array (P,)
    """
    parts = []
    for m, n in itertools.pairwise(sizes):
        parts += [
            xp.asarray(rng.standard_normal(m * n) * (scale / m**0.5)),
            xp.zeros(n),
        ]
    return xp.concatenate(parts).astype(dtype)


def unpack(theta, sizes):
    """Return ``[(W_1, b_1), …]`` as views of the parameter vector; of several vectors, b_l as (S, 1, n).

    Raises
    ------
    ValueError
        `theta` does not have the length that `sizes` asks for.
    """
    if theta.shape[-1:] != (size(sizes),):
        raise ValueError(
            f"theta must have shape ({size(sizes)},) for sizes {tuple(sizes)}, not {tuple(theta.shape)}"
        )
    layers, start, several = [], 0, theta.shape[:-1]
    row = (*several, 1) if several else ()
    for m, n in itertools.pairwise(sizes):
        middle, end = start + m * n, start + m * n + n
        layers.append(
            (
                theta[..., start:middle].reshape(*several, m, n),
                theta[..., middle:end].reshape(*row, n),
            )
        )
        start = end
    return layers


def forward(theta, X, sizes, activation="tanh"):
    """Compute the network's output and the cache.

    Parameters
    ----------
    theta : array (P,) or (S, P)
    X : array (N, sizes[0]) or (S, N, sizes[0])
    sizes : tuple of int
    activation : {"tanh", "relu", "softplus", "gelu", "silu"}

    Returns
    -------
    output : array (N, sizes[-1]) or (S, N, sizes[-1])
    cache : Cache
    """
    phi = activations.get(activation)
    layers = unpack(theta, sizes)
    if X.ndim < 2 or X.shape[-1] != sizes[0]:
        raise ValueError(f"X must have shape (N, {sizes[0]}), not {tuple(X.shape)}")
    h, inputs, pre_activations = X, [], []
    for l, (W, b) in enumerate(layers):
        a = h @ W
        a += b
        inputs.append(h)
        pre_activations.append(a)
        if l + 1 < len(layers):
            h = phi.value(a)
    return a, Cache(layers, inputs, pre_activations, activation)


def vjp(cache, cotangent):
    """Backpropagate: the derivatives of ``sum(cotangent * output)``.

    Parameters
    ----------
    cache : Cache
    cotangent : array (N, sizes[-1])

    Returns
    -------
    d_theta : array (P,)
    d_X : array (N, sizes[0])
    """
    delta = deltas(cache, cotangent)
    return _join(cache, delta), delta[0] @ _T(cache.layers[0][0])


def gradient(cache, cotangent):
    """Backpropagate to the parameters only: the first half of `vjp`, without the product that the input would cost."""
    return _join(cache, deltas(cache, cotangent))


def input_gradient(cache, cotangent):
    """Backpropagate to the input only, (N, sizes[0]): the second half of `vjp`.

    For attacks (pgd), attributions (integrated_gradients, smoothgrad) and penalties on the input's gradient.
    """
    return deltas(cache, cotangent)[0] @ _T(cache.layers[0][0])


def deltas(cache, cotangent):
    """Return, layer by layer, the derivatives with respect to the pre-activations: each (N, width of the layer).

    Row i is that of the i-th sample alone: `trref.nn.per_sample` makes its gradients from them.
    """
    phi = activations.get(cache.activation)
    delta = [cotangent]
    for l in reversed(range(1, len(cache.layers))):
        back = delta[-1] @ _T(cache.layers[l][0])
        back *= phi.first(cache.pre_activations[l - 1], cache.inputs[l])
        delta.append(back)
    return delta[::-1]


def _join(cache, delta):
    """Return the flat gradient: inputs times deltas for the weights, their sum for the biases."""
    return _pack(
        (_T(h) @ d, d.sum(-2)) for h, d in zip(cache.inputs, delta, strict=True)
    )


def jvp(cache, v, X_tangent=None):
    """Push a tangent of the parameters (and of the input) forward: the directional derivative of the output.

    Parameters
    ----------
    cache : Cache
    v : array (P,)
    X_tangent : array (N, sizes[0]), optional

    Returns
    -------
    array (N, sizes[-1])
    """
    return _tangents(cache, v, X_tangent)[1][-1]


def _tangents(cache, v, X_tangent=None):
    """Return the tangents of every layer's input and pre-activation along `v`."""
    phi = activations.get(cache.activation)
    sizes = (*(W.shape[-2] for W, _ in cache.layers), cache.layers[-1][0].shape[-1])
    h_dot, inputs_dot, pre_dot = X_tangent, [], []
    for l, (W_dot, b_dot) in enumerate(unpack(v, sizes)):
        a_dot = cache.inputs[l] @ W_dot
        a_dot += b_dot
        if h_dot is not None:
            a_dot += h_dot @ cache.layers[l][0]
        inputs_dot.append(h_dot)
        pre_dot.append(a_dot)
        if l + 1 < len(cache.layers):
            h_dot = phi.first(cache.pre_activations[l], cache.inputs[l + 1])
            h_dot *= a_dot
    return inputs_dot, pre_dot


def hessian_product(cache, v, cotangent, output_hessian, X_tangent=None):
    """Multiply the Hessian of ``L(output(theta))`` by a vector: forward over reverse, `vjp` differentiated.

    With a tangent of the input too it is the derivative of the gradient when theta moves along `v` and X along
    `X_tangent`. For v = 0 and an `output_hessian` of zero that is the gradient of ``sum(cotangent * jvp(X_tangent))``,
    the slope of the output along `X_tangent`, by theta: what tangent propagation (rl_augmentation) and penalties on
    input gradients (input_gradient_penalty of robust_continual) need.

    Parameters
    ----------
    cache : Cache
    v : array (P,)
    cotangent : array (N, sizes[-1])
        dL/d output.
    output_hessian : callable
        ``output_hessian(u)``: the Hessian of L with respect to the output, times a tangent (N, sizes[-1]).
    X_tangent : array (N, sizes[0]), optional

    Returns
    -------
    array (P,)
    """
    phi = activations.get(cache.activation)
    inputs_dot, pre_dot = _tangents(cache, v, X_tangent)
    sizes = (*(W.shape[-2] for W, _ in cache.layers), cache.layers[-1][0].shape[-1])
    tangent_layers = unpack(v, sizes)
    delta, delta_dot, parts = cotangent, output_hessian(pre_dot[-1]), []
    for l in reversed(range(len(cache.layers))):
        W, W_dot = cache.layers[l][0], tangent_layers[l][0]
        h, h_dot = cache.inputs[l], inputs_dot[l]
        d_W = _T(h) @ delta_dot
        if h_dot is not None:
            d_W = d_W + _T(h_dot) @ delta
        parts.append((d_W, delta_dot.sum(-2)))
        if l > 0:
            a, a_dot = cache.pre_activations[l - 1], pre_dot[l - 1]
            back, back_dot = delta @ _T(W), delta_dot @ _T(W) + delta @ _T(W_dot)
            slope = phi.first(a, h)
            delta, delta_dot = (
                back * slope,
                back_dot * slope + back * phi.second(a, h) * a_dot,
            )
    return _pack(reversed(parts))


def gauss_newton_product(cache, v, output_hessian):
    """Multiply the Gauss-Newton matrix ``Jᵀ H_output J`` by a vector.

    For a log-likelihood with `output_hessian` its Fisher matrix this is the Fisher-vector product.

    Parameters
    ----------
    cache : Cache
    v : array (P,)
    output_hessian : callable
        As in `hessian_product`.

    Returns
    -------
    array (P,)
    """
    return gradient(cache, output_hessian(jvp(cache, v)))


def _T(a):
    return xp.swapaxes(a, -1, -2)


def _pack(parts):
    """Join weights (..., m, n) and biases (..., n), layer by layer, to (..., P)."""
    return xp.concatenate(
        [x for W, b in parts for x in (W.reshape(*b.shape[:-1], -1), b)], axis=-1
    )
