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

from trref import validate
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import of_three_tokens, on_policy
from trref.tokens.deviations import dr_grpo as deviations
from trref.tokens.grpo import group_advantage
from trref.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["centred_advantage", "dr_grpo"]


def centred_advantage(reward, group):
    """Reward minus the mean of its group.

    Parameters
    ----------
    reward : array (B,)
    group : array (B,), integer

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    return group_advantage(reward, group, std="none")  # eq. dr-grpo-advantage


def dr_grpo(log_prob, old_log_prob, advantage, mask, *, max_length, clip=0.2):
    """Dr. GRPO loss: the sum over tokens, divided by the number of answers and a constant.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `centred_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    max_length : float
        The constant L, in (0, inf), as the largest length that answers may have; not the width of the batch.
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
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` or `max_length` not
        positive.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", clip=clip, max_length=max_length)
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    w = token_weights(mask, "constant", max_length=max_length)
    J = (w * term).sum()  # eq. dr-grpo-objective
    return -J, -w * derivative


def _brute_force(reward, group):
    result = []
    for r, g in zip(reward.tolist(), group.tolist(), strict=True):
        members = [float(x) for x, h in zip(reward, group, strict=True) if h == g]
        result.append(0.0 if len(set(members)) == 1 else r - sum(members) / len(members))
    return result


LENGTH = {"max_length": 8}
METHOD = Method(
    key="liu2025understanding",
    provenance="confirmed",
    functions=(
        Estimator(
            f=centred_advantage,
            interface=GROUP_REWARD,
            limits=(Limit(to="grpo.group_advantage", hyper={}, to_hyper={"std": "none"}),),
            deviations=(deviations.GROUP_OF_ONE_RAW,),
            brute_force=_brute_force,
        ),
        Objective(
            f=dr_grpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": LENGTH, "probe": {"max_length": 12.5, "clip": 0.35}},
            limits=(
                Limit("grpo.grpo", {"max_length": 3}, where=of_three_tokens),
                Limit("reinforce.reinforce", LENGTH, LENGTH, where=on_policy, gradient_only=True),
            ),
            deviations=(deviations.PADDED_WIDTH, deviations.SUM_OVER_CONSTANT, deviations.LOG_RATIO_CLAMP),
        ),
    ),
)
