r"""Hyper++: features of bounded norm, so that a hyperbolic head cannot throw the policy far off.

The gradients of a hyperbolic head by its parameters grow with the norm of the features
(:mod:`trref.manifolds.hyperbolic_head`), and one step of an optimiser can then change a policy by orders of magnitude.
Clipping the norm leaves few features alive in many dimensions. Hyper++ bounds it by construction: the encoder's output
a, in D dimensions, is divided by its root mean square, goes through tanh, and is pulled in or let out by a learned
share of what is allowed,

.. math::
    :label: hyperpp-features

    y = \tanh \frac a{\sqrt{\frac1D \sum_i a_i^2 + \epsilon}}, \qquad u = \frac y{\sqrt D}, \qquad v = \sigma(w^\top u +
    \beta)\, \frac{\mathrm{artanh}\, \alpha}{\sqrt c}\, u

so that on the Poincaré ball :math:`\tanh \sqrt c\, \|v\| < \alpha`, in any number of dimensions. More is true: the
division fixes the mean square, :math:`\tanh^2` is concave in the square, and :math:`\|u\| \le \tanh 1`, hence
:math:`\|v\| \le \tanh(1)\, \mathrm{artanh}(\alpha) / \sqrt c`, which is 1.395 by default. Along a tangent t, with
:math:`\rho` for the root, :math:`z = a/\rho` and :math:`\sigma` for the share,

.. math::
    :label: hyperpp-derivative

    du = \frac1{\sqrt D}\, (1 - y^2) \odot \frac1\rho \Big( t - z\, \frac{z^\top t}D \Big), \qquad dv = \sigma\,
    \frac{\mathrm{artanh}\, \alpha}{\sqrt c}\, \big( du + (1 - \sigma)\, (w^\top du)\, u \big)

Then come the two heads, both on the hyperboloid: one for the actions, and one for 51 bins of the value
(:mod:`trref.manifolds.histogram_loss`), and PPO as ever. An output a of 0 gives v = 0.

====================  =======================================
:math:`a`             ``features``
:math:`w, \beta`      ``gate_weight``, ``gate_bias``
:math:`c`             ``curvature``
====================  =======================================

**Where implementations differ.** The learned scaling is one of several options of the authors' code; with that for
the dimension alone the features are u, at most 0.76 long whatever is learned. The method that they compare with takes
this option, but has ReLU for tanh and spectral norms for the division: nothing bounds its features. On Atari their own
has ReLU as well, and its u is at most 1 long. Their epsilon is the machine's, 1.2e-7 in single precision. The layers of
Keras and transformers have 1e-6, which shrinks what was small before.

**Provenance.** Confirmed by the authors' code (Probabilistic-and-Interactive-ML/hyper-rl, networks.py and its
configurations). The sharper bound and the derivative are worked out here.

Klein et al., *Understanding and Improving Hyperbolic Deep Reinforcement Learning*, 2025, arXiv:2512.14202.
"""

import math
from typing import Annotated

from trref.backend import special, xp
from trref.nn.norm import rms_norm, rms_norm_jvp, rms_norm_vjp
from trref.signature import D, N, OpenFraction, Real, Scalar, checked

Curvature = Annotated[float, "[1e-6, 1e6]"]
Epsilon = Annotated[float, "[1e-12, 1]"]


@checked
def bounded_features(
    features: Real[N, D],
    gate_weight: Real[D],
    gate_bias: Scalar,
    *,
    curvature: Curvature = 1.0,
    alpha: OpenFraction = 0.95,
    eps: Epsilon = 2**-23,
) -> Real[N, D]:
    """Tangent vectors of bounded norm, from the output of an encoder.

    Parameters
    ----------
    features
        The encoder's output.
    gate_weight, gate_bias
        Of the learned share.
    curvature
        c: the space has the curvature -c.
    alpha
        Radius that is allowed on the Poincaré ball, as a share of the ball's.
    eps
        Added to the mean square.
    """
    _, u, share = _gated(features, gate_weight, gate_bias, eps)
    return share * _largest(alpha, curvature) * u  # eq. hyperpp-features


def _largest(alpha, curvature):
    return math.atanh(alpha) / math.sqrt(curvature)


def _gated(a, w, bias, eps):
    """What tanh leaves, the same over √D, and the learned share."""
    y = xp.tanh(rms_norm(a, 1, eps=eps))
    u = y / math.sqrt(a.shape[1])
    return y, u, special.expit(u @ w + bias)[:, None]


@checked
def bounded_features_jvp(
    features: Real[N, D],
    gate_weight: Real[D],
    gate_bias: Scalar,
    tangent: Real[N, D],
    *,
    curvature: Curvature = 1.0,
    alpha: OpenFraction = 0.95,
    eps: Epsilon = 2**-23,
) -> Real[N, D]:
    """Differential of `bounded_features` along `tangent`.

    Parameters
    ----------
    tangent
        Any vectors.
    """
    y, u, share = _gated(features, gate_weight, gate_bias, eps)
    # eq. hyperpp-derivative
    dy = (1 - y * y) * rms_norm_jvp(features, 1, tangent, eps=eps)
    du = dy / math.sqrt(features.shape[1])
    pulled = du + (1 - share) * (du @ gate_weight)[:, None] * u
    return share * _largest(alpha, curvature) * pulled


@checked
def bounded_features_vjp(
    features: Real[N, D],
    gate_weight: Real[D],
    gate_bias: Scalar,
    cotangent: Real[N, D],
    *,
    curvature: Curvature = 1.0,
    alpha: OpenFraction = 0.95,
    eps: Epsilon = 2**-23,
) -> Real[N, D]:
    """Adjoint of `bounded_features_jvp`.

    Parameters
    ----------
    cotangent
        Any vectors.
    """
    y, u, share = _gated(features, gate_weight, gate_bias, eps)
    along = (u * cotangent).sum(1, keepdims=True)
    by_u = cotangent + (1 - share) * along * gate_weight
    by_y = share * _largest(alpha, curvature) * by_u / math.sqrt(features.shape[1])
    by_rms = (1 - y * y) * by_y
    return rms_norm_vjp(features, xp.ones_like(gate_weight), by_rms, eps=eps)[0]
