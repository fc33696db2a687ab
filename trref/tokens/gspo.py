r"""Group sequence policy optimisation (GSPO): one ratio for the whole answer.

The reward belongs to the answer, so the importance ratio and the clip should, too. GSPO takes the geometric mean of the
token ratios,

.. math::
    :label: gspo-ratio

    s_i = \exp\Big( \frac1{|y_i|} \sum_t m_{i,t} \big(\log\pi_{i,t} - \log\pi^{old}_{i,t}\big) \Big)

.. math::
    :label: gspo-objective

    J = \frac1B \sum_i \min\big\{ s_i \hat A_i,\; \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i \big\}

and clips far more tightly than a token ratio, because a mean over tokens moves less. All tokens of an answer share one
coefficient:

.. math::
    :label: gspo-gradient

    \frac{\partial J}{\partial\log\pi_{i,t}} = \frac{m_{i,t}}{B\,|y_i|}\, s_i \hat A_i\;
    \mathbb 1\big[s_i \hat A_i \le \mathrm{clip}(s_i, 1-\epsilon_l, 1+\epsilon_h)\, \hat A_i\big]

An answer without tokens contributes nothing, though it counts in B. For answers of one token this is GRPO. Where the
tokens of an answer have advantages of their own, its term is the mean of theirs, and so is the coefficient.

**Where implementations differ.** verl clamps the answer's log-ratio at 10. In TRL the level of the ratio and the
averaging are separate options, and the default averages over tokens, so that long answers count more. Without the
division by the length the ratio is that of the whole answer, which the published clip would always cut. With advantages
of tokens verl gives each token the coefficient of its own (GSPO-token), which is no gradient of this objective.

**Provenance.** Confirmed: by the loss code of TRL and verl; the default clips as TRL quotes section 5.1 of the paper.
The gradient is derived and checked.

Zheng et al., *Group Sequence Policy Optimization*, 2025, arXiv:2507.18071.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, fresh, of_one_token, one_advantage
from trref.tokens.deviations import gspo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["gspo", "mean_log_ratio"]


def mean_log_ratio(log_prob, old_log_prob, mask):
    """Building block, unchecked: the mean log-ratio (B,) over each answer's tokens; 0 for an answer without any."""
    return ((log_prob - old_log_prob) * mask).sum(1) / xp.maximum(mask.sum(1), 1)


def gspo(log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4):
    """GSPO loss.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    clip_low, clip_high : float
        The answer's ratio earns between 1 - clip_low and 1 + clip_high; in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, clips not positive.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high)
    log_s = mean_log_ratio(log_prob, old_log_prob, mask)[:, None]  # eq. gspo-ratio
    term, derivative = clip_surrogate(log_s, xp.zeros_like(log_s), advantage, clip_low, clip_high)
    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. gspo-objective
    length = xp.maximum(mask.sum(1, keepdims=True), 1)
    return -J, -mask / length * (w * derivative).sum(1, keepdims=True)  # eq. gspo-gradient


def _equal_ratios(inputs):
    """the tokens of an answer share ratio and advantage"""
    d = inputs["log_prob"] - inputs["old_log_prob"]
    return one_advantage({**inputs, "log_prob": inputs["old_log_prob"] + d[:, :1]})


WIDE = {"clip_low": 0.24, "clip_high": 0.24}  # no edge lies on these bounds, where means round
METHOD = Method(
    key="zheng2025group",
    provenance="confirmed",
    functions=(
        Objective(
            f=gspo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "wide": {"clip_low": 0.2, "clip_high": 0.28},
                "probe": {"clip_low": 0.15, "clip_high": 0.35},
            },
            limits=(
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=of_one_token),
                Limit("grpo.grpo", WIDE, {"clip": 0.24}, where=_equal_ratios),
                Limit("grpo.grpo", {}, where=fresh),
                Limit("reinforce.reinforce", {}, OVER_ANSWERS, where=fresh, gradient_only=True),
            ),
            deviations=(deviations.SEQUENCE_CLAMP, deviations.SEQUENCE_SUM, deviations.SEQUENCE_TOKEN_MEAN),
        ),
    ),
)
