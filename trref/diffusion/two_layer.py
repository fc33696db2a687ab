r"""A wide network with two layers: the denoiser whose training can be followed.

The network that stands for the denoiser in :mod:`trref.diffusion.score_estimation_ntk` sees a point and its time,
:math:`z = (x,\, t - t_{min},\, 1)`; without the 1 it is homogeneous, and 0 at the origin. With m hidden units,

.. math::
    :label: two-layer-network

    f(z) = \frac1{\sqrt m} \sum_{r=1}^m a_r\, \mathrm{relu}(w_r^\top z)

starts from :math:`w_r \sim N(0, I)` and signs :math:`a_r \in \{\pm 1\}^d`, and the :math:`w_r` alone are trained. Where
every unit comes twice, with opposite signs, it starts as 0:

.. math::
    :label: two-layer-start

    w_{m+r} = w_r, \qquad a_{m+r} = -a_r .

The loss is a sum over samples, with residuals :math:`R_j = f(z_j) - y_j`:

.. math::
    :label: two-layer-loss

    L = \frac12 \sum_j \|R_j\|^2

.. math::
    :label: two-layer-gradient

    \nabla_{w_r} L = \frac1{\sqrt m} \sum_j \mathbf 1[w_r^\top z_j > 0]\, (a_r^\top R_j)\, z_j

A unit exactly at its kink passes nothing back.

**Where implementations differ.** Theory sums over the samples, trainers take the mean: the step is another one by their
number. No code of the authors was found.

**Provenance.** Partly: that the network has two layers and that only the first is trained, from reviews of the paper;
the formulas are those of the theory of wide networks, from memory, checked.

Han, Razaviyayn and Xu, *Neural Network-Based Score Estimation in Diffusion Models: Optimization and Generalization*,
2024, arXiv:2401.15604.
"""

import math
from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    D,
    E,
    Fraction,
    M,
    N,
    P,
    Prob,
    Q,
    Real,
    Scalar,
    checked,
)


class Network(NamedTuple):
    """First and second layer."""

    W: Real[Q, P]
    """What is trained."""
    a: Real[Q, D]
    """Signs, fixed."""


@checked
def features(x: Real[N, D], t: Prob[N], *, t_min: Fraction = 0.05) -> Real[N, E]:
    """What the network sees: E = D + 2 numbers.

    Parameters
    ----------
    x
        Noisy data.
    t
        Their times.
    t_min
        The smallest time.
    """
    t = t[:, None]
    return xp.concatenate([x, t - t_min, xp.ones_like(t)], 1)


@checked
def zero_start(W: Real[M, P], a: Real[M, D]) -> Network:
    """Double the units, with the opposite signs: the network is 0.

    Parameters
    ----------
    W
        First layer: a row a unit.
    a
        Second layer: a row a unit.
    """
    # eq. two-layer-start
    return Network(xp.concatenate([W, W]), xp.concatenate([a, -a]))


@checked
def network(W: Real[M, P], a: Real[M, D], Z: Real[N, P]) -> Real[N, D]:
    """The network's outputs.

    Parameters
    ----------
    Z
        Inputs.
    """
    # eq. two-layer-network
    return xp.maximum(Z @ W.T, 0) @ a / math.sqrt(len(W))


@checked
def squared_loss(
    W: Real[M, P], a: Real[M, D], Z: Real[N, P], Y: Real[N, D]
) -> tuple[Scalar, Real[M, P]]:
    """Half the sum of squared residuals.

    Parameters
    ----------
    Z
        Inputs.
    Y
        Labels.
    """
    m = len(W)
    before = Z @ W.T
    R = xp.maximum(before, 0) @ a / math.sqrt(m) - Y
    loss = (R * R).sum() / 2  # eq. two-layer-loss
    # eq. two-layer-gradient
    return loss, xp.where(before > 0, R @ a.T, 0).T @ Z / math.sqrt(m)
