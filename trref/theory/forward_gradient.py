r"""Forward gradients: a derivative along one direction, times that direction, and what makes a good direction.

The derivative of a loss along a direction u is one pass forward, without back-propagation. With the gradient g, it is
:math:`g^\top u`, and times the direction an estimate of g,

.. math::
    :label: forward-gradient-directional

    \hat g = \frac1k \sum_{i=1}^k (g^\top u_i)\, u_i

For independent entries of mean 0 and variance 1 its mean is g, and its mean square for d parameters

.. math::
    :label: forward-gradient-square

    E\, \|\hat g\|^2 = \Big( 1 + \frac{d + 1}k \Big) \|g\|^2 \;\text{ (normal)}, \qquad
    E\, \|\hat g\|^2 = \Big( 1 + \frac{d - 1}k \Big) \|g\|^2 \;\text{ (signs)}

which is nearly all noise. A better direction is a good *guess* G of the gradient, such as that of a small loss at the
block itself, without the rest of the network. Of the *target* g then remains the part along it,

.. math::
    :label: forward-gradient-project

    P_G(g) = \frac{\langle g, G \rangle}{\|G\|^2 + \varepsilon}\, G

.. math::
    :label: forward-gradient-error

    \|P_G(g) - g\|^2 = \|g\|^2 (1 - \cos^2), \qquad \langle P_G(g), g \rangle = \|g\|^2 \cos^2 \ge 0

with the cosine between g and G: always a descent direction, whatever the length or the sign of the guess, and shorter
than the target by the cosine. It is taken in one of three places. At the outputs of a block, for each sample n, where
what is left is then back-propagated within the block only:

.. math::
    :label: forward-gradient-activity

    \delta_n = P_{G_n}(g_n), \qquad g_n = \frac{\partial \ell}{\partial h_n}, \quad G_n = \frac{\partial
    \ell_{local}}{\partial h_n}

In the weights, for each sample, whose gradient at a layer of inputs x is :math:`x_n \delta_n^\top` (and
:math:`\delta_n` for the bias, a tensor by itself):

.. math::
    :label: forward-gradient-each

    \Delta W = \sum_n P_{G^W_n}(g^W_n) = \sum_n x_n\, P_{G_n}(g_n)^\top

(the length of :math:`x_n` cancels: it is the projection of the derivatives before the activation), or in the weights
once, for the sums over the batch:

.. math::
    :label: forward-gradient-batch

    \Delta W = P_{\sum_n G^W_n} \Big( \sum_n g^W_n \Big)

A guess of 0 gives 0. A guess equal to the target is back-propagation; an orthogonal one stands still. Local learning
is the guess itself, without any target.

====================  ===========================================
:math:`u`             `directions`
:math:`g_n, G_n`      rows of `target` and `guess`
:math:`x_n`           rows of `inputs`
====================  ===========================================

**Where implementations differ.** For random guesses the authors use :eq:`forward-gradient-directional` in their fast
trainer and the normalised :eq:`forward-gradient-project` in the other, which is shorter by about d. In their
estimators in the space of weights the bias's result is written into the place of the weight's: a batch norm, whose two
tensors have one shape, then takes the bias's update for its weight's.

**Provenance.** Projections and their three places confirmed by the authors' code (streethagore/ForwardLocalGradient);
the moments and the error are derived.

Fournier, Rivaud, Belilovsky, Eickenberg and Oyallon, *Can Forward Gradient Match Backpropagation?*, 2023,
arXiv:2306.06968.
"""

from typing import Literal, NamedTuple

from trref.signature import (
    D,
    H,
    K,
    N,
    P,
    PositiveInt,
    Real,
    Scalar,
    checked,
)

EPSILON = 1e-16  # of the authors' code: far below any guess, and a guess of 0 gives 0


class LayerUpdate(NamedTuple):
    """What stands in the place of a layer's gradient."""

    weight: Real[D, H]
    bias: Real[H]


@checked
def directional(target: Real[P], directions: Real[K, P]) -> Real[P]:
    """Mean over directions of the derivative along each, times it.

    Parameters
    ----------
    target
        The gradient, of which only the derivatives along the directions are used.
    directions
        One a row.
    """
    # eq. forward-gradient-directional
    return (directions @ target) @ directions / len(directions)


@checked
def expected_square(
    target: Real[P],
    *,
    directions: PositiveInt = 1,
    law: Literal["normal", "signs"] = "normal",
) -> Scalar:
    """Expected squared norm of `directional` over random directions.

    Parameters
    ----------
    target
        The gradient.
    directions
        How many.
    law
        Of their entries: standard normal, or 1 and -1 with equal probability.
    """
    excess = len(target) + (1 if law == "normal" else -1)
    return (1 + excess / directions) * (target @ target)  # eq. forward-gradient-square


@checked
def project(target: Real[P], guess: Real[P]) -> Real[P]:
    """Part of the target along the guess.

    Parameters
    ----------
    target
        The gradient.
    guess
        Of its direction; the length does not matter.
    """
    return _projected(target, guess)


def _projected(target, guess):
    """Each row along the guess's row."""
    along = (target * guess).sum(-1, keepdims=True)
    size = (guess * guess).sum(-1, keepdims=True)
    return along / (size + EPSILON) * guess  # eq. forward-gradient-project


@checked
def cosine_square(target: Real[P], guess: Real[P]) -> Scalar:
    """Squared cosine: the share of the target's squared length that is left; 0 where either is 0."""
    left = _projected(target, guess)
    size = target @ target
    # eq. forward-gradient-error
    return (left @ target) / (size + (size == 0))


@checked
def activity_signal(target: Real[N, H], guess: Real[N, H]) -> Real[N, H]:
    """Derivatives at the outputs of a block, of each sample along its guess."""
    return _projected(target, guess)  # eq. forward-gradient-activity


@checked
def weight_update(
    inputs: Real[N, D],
    target: Real[N, H],
    guess: Real[N, H],
    *,
    of: Literal["samples", "batch"] = "samples",
) -> LayerUpdate:
    """In the place of a layer's gradient: that of each sample, or of the batch, along its guess.

    Parameters
    ----------
    inputs
        Of the layer.
    target, guess
        Derivatives of the two losses by the layer's outputs before the activation; sums, not means.
    of
        Whose gradients are projected.
    """
    if of == "batch":
        # eq. forward-gradient-batch
        G, g = inputs.T @ guess, inputs.T @ target
        weight = _projected(g.reshape(1, -1), G.reshape(1, -1)).reshape(g.shape)
        return LayerUpdate(weight, _projected(target.sum(0), guess.sum(0)))

    left = _projected(target, guess)
    return LayerUpdate(inputs.T @ left, left.sum(0))  # eq. forward-gradient-each
