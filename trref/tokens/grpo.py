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
is the token mean and no divergence. verl's "vanilla" loss always adds the dual clip and clamps log-ratios to ±20, verl
leaves rows without tokens out of B, and gives a group of one its raw reward. An answer without tokens counts here.

**Provenance.** Confirmed: by the loss code and documentation of TRL and verl. The gradients are derived and checked.

Shao et al., *DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models*, 2024,
arXiv:2402.03300.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens._grpo_cases import actions, advantage_by_loops, weights_by_loops
from trref.tokens._places import REINFORCE_OVER_ANSWERS
from trref.tokens.deviations import grpo as deviations
from trref.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE, token_objective

__all__ = [
    "AGGREGATIONS",
    "aggregation_weights",
    "clip_surrogate",
    "group_advantage",
    "group_mean",
    "grpo",
    "logit_gradient",
    "seq_mean",
    "token_weights",
]

AGGREGATIONS = ("seq_mean", "token_mean", "group_token_mean", "constant")
STANDARD_DEVIATIONS = ("sample", "population", "batch", "none")
ANSWERS = token_objective("group", without=("log_prob", "old_log_prob", "advantage"))


def group_mean(x, group):
    """Building block, unchecked: the mean of x (B,) over the members of each row's group (B,), and their number."""
    same = (group[:, None] == group[None, :]).astype(x.dtype)
    count = same.sum(1)
    return same @ x / count, count


def group_advantage(reward, group, *, std="sample", baseline="mean", eps=0.0):
    """Advantage of each answer within its group; exactly 0 where all rewards of the group are equal.

    Parameters
    ----------
    reward : array (B,)
    group : array (B,), integer
        The prompt of each answer: any non-negative numbers.
    std : {"sample", "population", "batch", "none"}
        Divide by the group's deviation (n - 1 or n), by the sample deviation of the whole batch, or by nothing.
    baseline : {"mean", "leave_one_out"}
        The mean of the group, or that of the other answers.
    eps : float
        Added to the deviation, in [0, inf).

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, an unknown `std` or `baseline`, negative `eps`.
    """
    validate.inputs(GROUP_REWARD.inputs, reward, group)
    validate.choice(STANDARD_DEVIATIONS, std=std)
    validate.choice(("mean", "leave_one_out"), baseline=baseline)
    validate.interval("[0, inf)", eps=eps)
    mean, count = group_mean(reward, group)
    varies = ((group[:, None] == group[None, :]) & (reward[:, None] != reward[None, :])).any(1)
    centred = xp.where(varies, reward - mean, 0)
    others = xp.maximum(count - 1, 1)
    if std == "none":
        scale = xp.ones_like(reward)
    elif std == "batch":
        squares = (reward - reward.mean()) ** 2
        scale = xp.sqrt(squares.sum() / max(len(reward) - 1, 1)) + eps
    else:
        variance = group_mean(centred**2, group)[0] * (count / others if std == "sample" else 1)
        scale = xp.sqrt(variance) + eps
    if baseline == "leave_one_out":
        centred = centred * count / others
    return centred / xp.where(varies, scale, 1)  # eq. grpo-advantage


def aggregation_weights(mask, group, *, aggregation="seq_mean", max_length=None):
    """Weight of each token's term in the objective; an answer without tokens counts as one of the B.

    Parameters
    ----------
    mask : array (B, T), 0 or 1
    group : array (B,), integer
        The prompt of each answer: only ``"group_token_mean"`` asks.
    aggregation : {"seq_mean", "token_mean", "group_token_mean", "constant"}
    max_length : float, optional
        The constant L of ``"constant"``, in (0, inf): not the width of the batch.

    Returns
    -------
    array (B, T)

    Raises
    ------
    ValueError
        Shapes that differ, a mask other than 0 and 1, an unknown aggregation, `max_length` not positive.
    TypeError
        No `max_length` for ``"constant"``.
    """
    validate.inputs(ANSWERS.inputs, mask, group)
    validate.choice(AGGREGATIONS, aggregation=aggregation)
    if aggregation == "constant":
        validate.interval("(0, inf)", max_length=max_length)
    return token_weights(mask, aggregation, group=group, max_length=max_length)


def seq_mean(mask):
    """Building block, unchecked: the weights of the mean over answers of the mean over tokens."""
    return mask * (1 / (len(mask) * xp.maximum(mask.sum(1), 1)))[:, None]  # eq. grpo-weights


def token_weights(mask, aggregation, *, group=None, max_length=None):
    """Building block, unchecked: `aggregation_weights` for objectives that have checked their inputs."""
    # eq. grpo-weights
    B, length = len(mask), mask.sum(1)
    if aggregation == "seq_mean":
        return seq_mean(mask)
    if aggregation == "token_mean":
        return mask / xp.maximum(length.sum(), 1)
    if aggregation == "group_token_mean":
        mean_length, count = group_mean(length, group)
        P = (1 / count).sum()
        return mask / (P * xp.maximum(mean_length * count, 1))[:, None]
    if aggregation == "constant":
        return mask / (B * max_length)
    raise ValueError(f"aggregation must be one of {', '.join(map(repr, AGGREGATIONS))}, not {aggregation!r}")


def clip_surrogate(log_prob, old_log_prob, advantage, clip_low, clip_high):
    """Building block, unchecked: the clipped token term and its derivative with respect to `log_prob`.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
    advantage : array (B,) or (B, T)
    clip_low, clip_high : float or array (B, T)

    Returns
    -------
    term, derivative : array (B, T)
        To maximise; at a kink, the derivative of the unclipped term.
    """
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    ratio = xp.exp(log_prob - old_log_prob)
    unclipped, clipped = ratio * A, xp.clip(ratio, 1 - clip_low, 1 + clip_high) * A
    term = xp.minimum(unclipped, clipped)  # eq. grpo-clip
    return term, unclipped * (unclipped <= clipped)  # eq. grpo-clip-gradient


def grpo(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    """GRPO loss without the divergence: the mean over answers of the mean over tokens.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` not positive.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip=clip)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    w = seq_mean(mask)
    J = xp.vdot(w, term)  # eq. grpo-objective
    return -J, -w * derivative


def logit_gradient(logits, actions, coefficient):
    """Building block, unchecked: coefficients (B, T) on the log-probabilities of actions, taken to logits (B, T, V)."""
    e = one_hot(actions, logits.shape[-1], logits.dtype)
    return coefficient[..., None] * (e - xp.exp(log_softmax(logits)))  # eq. grpo-logits


METHOD = Method(
    title="Group Relative Policy Optimization (DeepSeekMath)",
    key="shao2024deepseekmath",
    arxiv="2402.03300",
    provenance="confirmed",
    functions=(
        Estimator(
            f=group_advantage,
            interface=GROUP_REWARD,
            settings={
                "default": {},
                **{std: {"std": std} for std in STANDARD_DEVIATIONS[1:]},
                "batch, regularised": {"std": "batch", "eps": 0.1},
                "leave one out": {"std": "none", "baseline": "leave_one_out"},
                "TRL": {"eps": 1e-4},
                "verl": {"eps": 1e-6},
                "probe": {"std": "population", "baseline": "leave_one_out", "eps": 0.3},
            },
            deviations=(deviations.GROUP_OF_ONE_RAW,),
            brute_force=advantage_by_loops,
        ),
        Estimator(
            f=aggregation_weights,
            interface=ANSWERS,
            settings={
                "default": {},
                **{name: {"aggregation": name} for name in AGGREGATIONS[1:3]},
                "probe": {"aggregation": "constant", "max_length": 6.5},
            },
            brute_force=weights_by_loops,
        ),
        Objective(
            f=grpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35}},
            limits=(Limit("ppo.clipped_surrogate", {}, where=actions), REINFORCE_OVER_ANSWERS),
            deviations=(
                deviations.WITHOUT_MINIMUM,
                deviations.LOG_RATIO_CLAMP,
                deviations.VERL_VANILLA,
                deviations.TOKEN_MEAN,
                deviations.EMPTY_ROWS_DROPPED,
            ),
        ),
    ),
)
