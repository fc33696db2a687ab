r"""The clipped value loss of PPO trainers: the larger, the smaller, or the clipped one of two squared errors.

By analogy with the policy's clip, the new value of a state may leave the old one by at most :math:`\epsilon`:

.. math::
    :label: value-loss-clipped

    V^c = V^{old} + \mathrm{clip}(V - V^{old}, -\epsilon, \epsilon), \qquad u = (V - R)^2, \quad u^c = (V^c - R)^2

with the target R. The analogy is loose, and which of the two errors is kept decides everything. Nearly all trainers
keep the larger one (``max``), Engstrom et al. write the smaller one (``min``), Stable-Baselines3 the clipped one alone
(``clipped``). With the weights w of :mod:`trref.tokens.grpo`,

.. math::
    :label: value-loss-objective

    L = \tfrac12 \sum_{i,t} w_{i,t} \begin{cases} \max\{u, u^c\} \\ \min\{u, u^c\} \\ u^c \end{cases}

.. math::
    :label: value-loss-gradient

    \frac{\partial L}{\partial V_{i,t}} = w_{i,t}\,(V - R)\; \begin{cases} \mathbb 1[u \ge u^c] \\ \mathbb 1[u \le u^c]
    \\ \mathbb 1[|V - V^{old}| \le \epsilon] \end{cases}

The maximum is silent where the value has moved by more than :math:`\epsilon` and is nearer to its target than
:math:`V^c`: it stops improvement, and leaves the way back open. The minimum is silent in the rest of the outside: it
lets improvement pass and closes the way back. Term by term, max + min = unclipped + clipped. By small steps one batch
moves a value by at most :math:`\epsilon`, which therefore has the unit of the rewards. At :math:`V = V^{old}`, and for
infinite :math:`\epsilon`, all are the squared error. Positions with mask 0 count nowhere.

Trainers log the share of tokens on which the maximum is silent,

.. math::
    :label: value-loss-share

    \frac{1}{\sum m} \sum_{i,t} m_{i,t}\, \mathbb 1[u^c > u] ,

which is smaller than the share of those that have moved by more than :math:`\epsilon`.

================  ================
R                 `value_target`
:math:`\epsilon`  `clip`
================  ================

**Where implementations differ.** In the averages: tokens in verl, answers in others; in the factor of one half, which
slime leaves out; in the silent share, of which ROLL takes the mean over answers. The code beside Engstrom et al. takes
the maximum of the *signed* errors and squares it, which favours low predictions.

**Provenance.** Confirmed: the maximum by the code of verl, AReaL and others, the clipped error by Stable-Baselines3.
Partly: the minimum, as an issue of the authors' repository quotes the paper. The identity and where each is silent are
derived and checked. PPO's paper has none of it.

Engstrom et al., *Implementation Matters in Deep Policy Gradients: A Case Study on PPO and TRPO*, 2020,
arXiv:2005.12729.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Mask,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import token_mean, token_weights


@checked
def value_loss(
    value: Real[B, T],
    old_value: Real[B, T],
    value_target: Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
    kind: Literal["max", "min", "clipped"] = "max",
    aggregation: Literal["token_mean", "seq_mean", "constant"] = "token_mean",
    max_length: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """Clipped value loss.

    Parameters
    ----------
    old_value
        What the value function was when the answers were sampled.
    value_target
        Such as the λ-return, from the old values.
    clip
        How far a value may move.
    kind
        Which of the two squared errors is kept.

    Returns
    -------
    loss
    gradient
        Where the two errors are equal, that of the free one.
    """
    # eq. value-loss-clipped
    error, moved = value - value_target, value - old_value
    clipped_error = error - (moved - xp.clip(moved, -clip, clip))
    u, u_c = error**2, clipped_error**2

    # eq. value-loss-objective, value-loss-gradient
    if kind == "max":
        term, free = xp.maximum(u, u_c), u >= u_c
    elif kind == "min":
        term, free = xp.minimum(u, u_c), u <= u_c
    else:
        term, free = u_c, abs(moved) <= clip
    w = token_weights(mask, aggregation, max_length=max_length)
    return (w * term).sum() / 2, w * error * free


@checked
def silent_share(
    value: Real[B, T],
    old_value: Real[B, T],
    value_target: Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
) -> Scalar:
    """Share of the tokens on which the maximum of the two errors has no gradient."""
    error, moved = value - value_target, value - old_value
    clipped_error = error - (moved - xp.clip(moved, -clip, clip))
    silent = (clipped_error**2 > error**2).astype(mask.dtype)
    return (token_mean(mask) * silent).sum()  # eq. value-loss-share
