r"""Dual clip and two-sided clip: a bound for bad tokens whose ratio has grown.

For a negative advantage the clipped term of PPO and GRPO has no lower bound: a token that the sampling policy found
unlikely may have a huge ratio :math:`\rho`, and one such token can rule the batch. Dual-clip PPO bounds the clipped
term :math:`\ell` (:mod:`trref.tokens.grpo`) for :math:`\hat A < 0` by a multiple :math:`c > 1` of the advantage:

.. math::
    :label: dual-clip-term

    \ell^{dual} = \max\{\ell,\; c\,\hat A\} \quad \text{where } \hat A < 0, \qquad \ell^{dual} = \ell
    \quad \text{elsewhere},

with no gradient where the bound holds. TRL's two-sided clip limits the ratio of the unclipped term instead:

.. math::
    :label: dual-clip-two-sided

    \ell^{two} = \min\big\{ \min(\rho, \delta)\, \hat A,\;
    \mathrm{clip}(\rho, 1-\epsilon_l, 1+\epsilon_h)\, \hat A \big\}

For :math:`\delta = c > 1 + \epsilon_h` the two are the same function. Both are averaged as in GRPO,

.. math::
    :label: dual-clip-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \ell^{dual}_{i,t}

=================  =======
c, :math:`\delta`  `bound`
=================  =======

**Where implementations differ.** verl's "vanilla" loss always has the dual clip, with :math:`c = 3`; neither GRPO nor
DAPO has it. TRL has it as ``delta``, off by default.

**Provenance.** Confirmed: by the loss code of verl and TRL; the gradients are derived and checked.

Ye et al., *Mastering Complex Control in MOBA Games with Deep Reinforcement Learning*, 2020, arXiv:1912.09729.
"""

from typing import Annotated

from trref.backend import xp
from trref.signature import B, LogProb, Mask, PositiveFloat, Real, Scalar, T, checked
from trref.tokens.terms import clip_surrogate, per_token, seq_mean


@checked
def dual_clip(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
    bound: Annotated[float, "(1, inf)"] = 3.0,
) -> tuple[Scalar, Real[B, T]]:
    """GRPO loss with the dual clip.

    Parameters
    ----------
    advantage
        As of `trref.tokens.grpo.group_advantage`.
    bound
        Largest ratio that counts where the advantage is negative.
    """
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    floor = bound * per_token(advantage)
    bounded = (floor < 0) & (term < floor)
    term = xp.where(bounded, floor, term)  # eq. dual-clip-term
    w = seq_mean(mask)
    J = (w * term).sum()  # eq. dual-clip-objective
    return -J, -w * xp.where(bounded, 0, derivative)


@checked
def two_sided_clip(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
    bound: Annotated[float, "(1, inf)"] = 3.0,
) -> tuple[Scalar, Real[B, T]]:
    """GRPO loss with the ratio of the unclipped term limited.

    Parameters
    ----------
    bound
        Below 1 + clip it is the upper clip of positive advantages, too.
    """
    # eq. dual-clip-two-sided
    A, ratio = per_token(advantage), xp.exp(log_prob - old_log_prob)
    unclipped = xp.minimum(ratio, bound) * A
    clipped = xp.clip(ratio, 1 - clip, 1 + clip) * A
    term = xp.minimum(unclipped, clipped)
    moves = xp.where(unclipped <= clipped, ratio <= bound, abs(ratio - 1) <= clip)
    derivative = xp.where(moves, ratio * A, 0)

    w = seq_mean(mask)
    J = (w * term).sum()  # eq. dual-clip-objective
    return -J, -w * derivative
