r"""Group relative policy optimisation (GRPO): the group of answers is its own baseline.

Sample a few answers to each prompt, compare each reward with the rest of its group, give every token of an answer the
same advantage, and ascend a clipped ratio as in PPO. No value function is needed. With :math:`g` the answers to one
prompt, :math:`\bar r_g` and :math:`s_g` the mean and standard deviation of their rewards,

.. math::
    :label: grpo-advantage

    \hat A_i = \frac{r_i - b_i}{s_g + \varepsilon}, \qquad b_i = \bar r_g

exactly zero where all rewards of the group are equal. The token term, which is maximised, is

.. math::
    :label: grpo-clip

    \ell_{i,t} = \min\big\{ \rho_{i,t} \hat A_i,\;
    \mathrm{clip}(\rho_{i,t}, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i \big\}, \qquad
    \rho_{i,t} = \exp(\log\pi_{i,t} - \log\pi^{old}_{i,t})

.. math::
    :label: grpo-clip-gradient

    \frac{\partial \ell_{i,t}}{\partial \log\pi_{i,t}} = \rho_{i,t} \hat A_i\;
    \mathbb 1\big[\rho_{i,t} \hat A_i \le \mathrm{clip}(\rho_{i,t}, 1-\epsilon_l, 1+\epsilon_h) \hat A_i\big]

Objectives of this family are weighted sums of such terms, and differ in the weights. With the mask :math:`m`, the
length :math:`|y_i| = \sum_t m_{i,t}`, B answers to P prompts and a constant :math:`L`,

.. math::
    :label: grpo-weights

    w_{i,t} = \frac{m_{i,t}}{B\,|y_i|},\qquad \frac{m_{i,t}}{\sum_j |y_j|},\qquad
    \frac{m_{i,t}}{P \sum_{j \in g(i)} |y_j|},\qquad \frac{m_{i,t}}{B L}

are the mean over answers of the mean over tokens (``seq_mean``: GRPO), the mean over tokens (``token_mean``), its
mean over prompts (``group_token_mean``: DAPO) and the sum over a constant (``constant``: Dr. GRPO). GRPO is

.. math::
    :label: grpo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \ell_{i,t}

from which the paper subtracts a divergence (:func:`trref.tokens.kl_estimators.grpo_with_kl`). A coefficient
:math:`c_{i,t} = \partial J/\partial\log\pi_{i,t}` reaches the logits by

.. math::
    :label: grpo-logits

    \frac{\partial J}{\partial z_{i,t}} = c_{i,t}\,(e_{y_{i,t}} - \pi_{i,t})

**Where implementations differ.** TRL and verl divide by the sample deviation plus 1e-4 and 1e-6, which at small groups
visibly changes :math:`|\hat A|`; the paper has no :math:`\varepsilon` and does not say which deviation. TRL's default
is the token mean and no divergence. verl's "vanilla" loss always adds the dual clip and clamps log-ratios to ±20, as do
OpenRLHF and SkyRL; ROLL's dual clip is at 1 + 2 :math:`\epsilon`. verl leaves rows without tokens out of B, and gives a
group of one its raw reward. An answer without tokens counts here.

**Provenance.** Confirmed: by the loss code and documentation of TRL and verl. The gradients are derived and checked.

Shao et al., *DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models*, 2024,
arXiv:2402.03300.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Index,
    LogProb,
    Mask,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, group_mean, seq_mean, token_weights


@checked
def group_advantage(
    reward: Real[B],
    group: Index[B],
    *,
    std: Literal["sample", "population", "batch", "none"] = "sample",
    baseline: Literal["mean", "leave_one_out"] = "mean",
    eps: NonNegativeFloat = 0.0,
) -> Real[B]:
    """Advantage of each answer within its group; exactly 0 where all rewards of the group are equal.

    Parameters
    ----------
    std
        Divide by the group's deviation (n - 1 or n), by the sample deviation of the whole batch, or by nothing.
    baseline
        The mean of the group, or that of the other answers.
    eps
        Added to the deviation.
    """
    mean, count = group_mean(reward, group)
    same = group[:, None] == group[None, :]
    varies = (same & (reward[:, None] != reward[None, :])).any(1)
    centred = xp.where(varies, reward - mean, 0)
    others = xp.maximum(count - 1, 1)
    if std == "none":
        scale = xp.ones_like(reward)
    elif std == "batch":
        squares = (reward - reward.mean()) ** 2
        scale = xp.sqrt(squares.sum() / max(len(reward) - 1, 1)) + eps
    else:
        variance = group_mean(centred**2, group)[0]
        variance = variance * (count / others if std == "sample" else 1)
        scale = xp.sqrt(variance) + eps
    if baseline == "leave_one_out":
        centred = centred * count / others
    return centred / xp.where(varies, scale, 1)  # eq. grpo-advantage


@checked
def aggregation_weights(
    mask: Mask[B, T],
    group: Index[B],
    *,
    aggregation: Literal[
        "seq_mean", "token_mean", "group_token_mean", "constant"
    ] = "seq_mean",
    max_length: PositiveFloat | None = None,
) -> NonNegative[B, T]:
    """Weight of each token's term; an answer without tokens counts as one of the B.

    Parameters
    ----------
    group
        Only ``"group_token_mean"`` asks.
    aggregation
        Which of the weights above.
    max_length
        The constant L of ``"constant"``: not the width of the batch.
    """
    if aggregation == "constant" and max_length is None:
        raise TypeError("max_length must be a number for the aggregation 'constant'")
    # in the family's terms: eq. grpo-weights
    return token_weights(mask, aggregation, group=group, max_length=max_length)


@checked
def grpo(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    clip: PositiveFloat = 0.2,
) -> tuple[Scalar, Real[B, T]]:
    """GRPO loss without the divergence: the mean over answers of the mean over tokens.

    Parameters
    ----------
    advantage
        As of `group_advantage`.
    """
    # in the family's terms: eq. grpo-clip, grpo-clip-gradient
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    w = seq_mean(mask)
    J = xp.vdot(w, term)  # eq. grpo-objective
    # logits get it from there, too: eq. grpo-logits
    return -J, -w * derivative
