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

**Where implementations differ.** verl's "vanilla" loss always has the dual clip, with :math:`c = 3`; neither GRPO nor
DAPO has it. TRL has it as ``delta``, off by default.

**Provenance.** Confirmed: by the loss code of verl and TRL; the gradients are derived and checked.

Ye et al., *Mastering Complex Control in MOBA Games with Deep Reinforcement Learning*, 2020, arXiv:1912.09729.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, nothing_negative
from trref.tokens.interfaces import TOKEN_OBJECTIVE
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["dual_clip", "two_sided_clip"]


def dual_clip(log_prob, old_log_prob, advantage, mask, *, clip=0.2, bound=3.0):
    """GRPO loss with the dual clip.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf).
    bound : float
        c, in (1, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` not positive,
        `bound` not above 1.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip=clip)
    validate.interval("(1, inf)", bound=bound)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    floor = bound * (advantage[:, None] if advantage.ndim == 1 else advantage)
    bounded = (floor < 0) & (term < floor)
    term = xp.where(bounded, floor, term)  # eq. dual-clip-term
    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. dual-clip-objective
    return -J, -w * xp.where(bounded, 0, derivative)


def two_sided_clip(log_prob, old_log_prob, advantage, mask, *, clip=0.2, delta=3.0):
    """GRPO loss with the ratio of the unclipped term limited.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, mask, clip
        As in `dual_clip`.
    delta : float
        Largest ratio, in (1, inf); below 1 + clip it is the upper clip of positive advantages.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)

    Raises
    ------
    ValueError
        As `dual_clip`.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip=clip)
    validate.interval("(1, inf)", delta=delta)
    # eq. dual-clip-two-sided
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    ratio = xp.exp(log_prob - old_log_prob)
    unclipped, clipped = xp.minimum(ratio, delta) * A, xp.clip(ratio, 1 - clip, 1 + clip) * A
    term = xp.minimum(unclipped, clipped)
    moves = xp.where(unclipped <= clipped, ratio <= delta, abs(ratio - 1) <= clip)
    derivative = xp.where(moves, ratio * A, 0)

    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. dual-clip-objective
    return -J, -w * derivative


METHOD = Method(
    key="ye2020mastering",
    provenance="confirmed",
    functions=(
        Objective(
            f=dual_clip,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35, "bound": 1.6}},
            limits=(
                Limit("grpo.grpo", {"bound": 1e14}),
                Limit("grpo.grpo", {}, where=nothing_negative),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
        Objective(
            f=two_sided_clip,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "below the clip": {"delta": 1.1}, "probe": {"clip": 0.35, "delta": 1.6}},
            limits=(
                Limit("grpo.grpo", {"delta": 1e14}),
                Limit("grpo.grpo", {}, where=nothing_negative),
                Limit("dual_clip.dual_clip", {}),
                Limit("dual_clip.dual_clip", {"delta": 2.5}, {"bound": 2.5}),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
    ),
)
