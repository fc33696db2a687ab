r"""Muon: momentum whose singular values are made nearly equal.

The momentum of a weight matrix often has a few large singular values, and the directions of the small ones hardly move.
Muon replaces it by nearly its polar factor, so that all directions move alike:

.. math::
    :label: muon-momentum

    M_t = \mu\, M_{t-1} + (1 - \mu)\, G_t, \qquad B_t = \mu\, M_t + (1 - \mu)\, G_t \ \text{(Nesterov)} \text{ or } M_t

.. math::
    :label: muon-step

    W_t = (1 - \eta\lambda)\, W_{t-1} - \eta\, s\, O_t, \qquad O_t = \mathrm{NS}(B_t) ,

with five steps of the iteration of :mod:`trref.optimizers.polar_decomposition`, or the exact factor. The scale
depends on the shape, for a weight of m outputs (rows) and n inputs (columns):

.. math::
    :label: muon-scale

    s_{\text{muon}} = \sqrt{\max(1, m/n)}, \qquad s_{\text{adam}} = 0.2 \sqrt{\max(m, n)}, \qquad s_{\text{none}} = 1 .

The second gives steps of the size of Adam's. Muon is for hidden matrices; biases, embeddings and heads get Adam. The
first axis of a kernel counts outputs, a vector is one column. Zero gradients do not move anything. With the exact
factor the scale of the gradient does not matter.

===============  ==============
:math:`\eta`     `lr`
:math:`\mu`      `momentum`
:math:`\lambda`  `weight_decay`
===============  ==============

**Where implementations differ.** The write-up sums gradients up where all later code averages them; as the scale does
not matter, that is the same but for epsilon. The first versions multiplied by :math:`\sqrt{\max(m, n)}`: a rate that
was found with them is as many times too small today.

**Provenance.** Confirmed (KellerJordan/Muon; PyTorch 2.13, whose bfloat16 this one meets to its precision).

Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, *Muon: An Optimizer for Hidden Layers in Neural Networks*,
2024.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.optimizers.polar_decomposition import newton_schulz, polar_factor
from trref.signature import (
    Arrays,
    Decay,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    checked,
)


class MuonState(NamedTuple):
    """The average of the gradients."""

    m: Arrays


def init(params: Arrays) -> MuonState:
    """Return the state before the first step: average zero."""
    return MuonState([xp.zeros_like(p) for p in params])


def _orthogonalised(b, factor, steps, eps, scale):
    """The scaled step of one array, taken for a matrix."""
    rows = b.reshape(len(b), b.size // len(b))
    if factor == "svd":
        U = polar_factor.unchecked(rows)
    else:
        U = newton_schulz.unchecked(rows, coefficients=factor, steps=steps, eps=eps)
    # eq. muon-scale
    m, n = rows.shape
    sizes = {"muon": math.sqrt(max(1, m / n)), "adam": 0.2 * math.sqrt(max(m, n))}
    return sizes.get(scale, 1) * U.reshape(b.shape)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: MuonState,
    *,
    lr: PositiveFloat = 0.02,
    momentum: Decay = 0.95,
    nesterov: bool = True,
    weight_decay: NonNegativeFloat = 0.0,
    factor: Literal["muon", "polar_express", "svd"] = "muon",
    steps: PositiveInt = 5,
    eps: PositiveFloat = 1e-7,
    scale: Literal["muon", "adam", "none"] = "muon",
) -> tuple[Arrays, MuonState]:
    """Take one step of Muon.

    Parameters
    ----------
    momentum
        Decay of the average.
    nesterov
        Whether to look one step of the momentum ahead.
    weight_decay
        Rate at which weights shrink, relative to the step size.
    factor
        The coefficients of the iteration, or the exact polar factor.
    steps
        Of the iteration.
    eps
        Added to the norm by which the iteration divides first.
    scale
        How the length of the step depends on the shape.

    Returns
    -------
    params
    state
    """
    # eq. muon-momentum
    new = 1 - momentum
    m = [momentum * a + new * g for a, g in zip(state.m, grads, strict=True)]
    b = m
    if nesterov:
        b = [momentum * a + new * g for a, g in zip(m, grads, strict=True)]

    # eq. muon-step
    moves = [_orthogonalised(a, factor, steps, eps, scale) for a in b]
    keep = 1 - lr * weight_decay
    params = [keep * p - lr * a for p, a in zip(params, moves, strict=True)]

    return params, MuonState(m)
