r"""Dr. GRPO ("GRPO done right"): no division by lengths, none by standard deviations.

Dividing each answer's sum by its length gives the tokens of long wrong answers a small weight, so that wrong answers
grow; dividing by the group's deviation gives the easiest and the hardest prompts a large one. Dr. GRPO drops both: its
advantage is

.. math::
    :label: dr-grpo-advantage

    \hat A_i = r_i - \bar r_g

(``group_advantage(…, std="none")`` of :mod:`trref.tokens.grpo`, whose clipped term :math:`\ell` it keeps), and its
objective has a constant in the place of the length:

.. math::
    :label: dr-grpo-objective

    J = \frac1{B L} \sum_{i,t} m_{i,t}\, \ell_{i,t}

With a mean baseline and G answers a group, the expected gradient is :math:`1 - 1/G` times that of the success
probability; the baseline that leaves the answer itself out has no such factor.

**Where implementations differ.** verl divides by the padded width of the batch unless it is given a constant, so that
the step size varies with the longest answer of the batch; a snapshot of early 2026 forgot the number of answers.

**Provenance.** Confirmed: by the loss code and documentation of TRL and verl; the gradient is derived and checked.

Liu et al., *Understanding R1-Zero-Like Training: A Critical Perspective*, 2025, arXiv:2503.20783.
"""

from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.grpo import group_advantage
from trref.tokens.terms import clip_surrogate, token_weights


@checked
def centred_advantage(reward: Real[B], group: Index[B]) -> Real[B]:
    """Reward minus the mean of its group; exactly 0 where all rewards of the group are equal."""
    return group_advantage.unchecked(reward, group, std="none")  # eq. dr-grpo-advantage


@checked
def dr_grpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    max_length: PositiveFloat,
    clip: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """Dr. GRPO loss: the sum over tokens, divided by the number of answers and a constant.

    Parameters
    ----------
    advantage
        As of `centred_advantage`.
    """
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    w = token_weights(mask, "constant", max_length=max_length)
    J = (w * term).sum()  # eq. dr-grpo-objective
    return -J, -w * derivative
