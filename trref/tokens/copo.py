r"""COPO: groups that agree learn from the other prompts, groups that disagree from themselves.

Where all answers to a prompt are right, or all are wrong, GRPO's advantage is zero and the group is wasted. What
differs here: a second advantage, the same for all answers to a prompt, says how well its group did among the P prompts
of the batch,

.. math::
    :label: copo-reward

    R_j = \frac1{G_j} \sum_{i \in j} r_i

.. math::
    :label: copo-global

    \hat A^{glob}_j = \frac{R_j - \bar R}{s_R + \varepsilon}, \qquad \bar R = \frac1P \sum_j R_j, \qquad
    s_R^2 = \frac1P \sum_j (R_j - \bar R)^2

exactly zero where all prompts did equally well. How much the final answers of the group agree decides which of the two
counts: :mod:`trref.tokens.copo_weight` has the weight w of the group's own advantage :math:`\hat A`
(:func:`trref.tokens.grpo.group_advantage`). With GRPO's clipped term :math:`\ell` the two losses are blended,

.. math::
    :label: copo-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \Big[ w_{j(i)}\, \ell_{i,t}(\hat A_i)
    + (1 - w_{j(i)})\, \ell_{i,t}(\hat A^{glob}_{j(i)}) \Big]

or, which is the same on-policy, where both are REINFORCE with the blended advantages, and while both advantages have
one sign, their advantages:

.. math::
    :label: copo-blended

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \ell_{i,t}\big( w_{j(i)} \hat A_i
    + (1 - w_{j(i)})\, \hat A^{glob}_{j(i)} \big)

With w = 1 this is GRPO; with w = 0 and groups of one it is
REINFORCE on rewards normalised over the batch; for a single prompt the global term vanishes.

A group of wrong answers has all of them pushed down alike, so that probability moves to answers that were not sampled.
Before the division by :math:`s_R` the mean of the global term's gradient on-policy is 1/G of the gradient of the
probability of being right: an ordinary policy gradient, weaker, with the batch as baseline. Its sign depends on which
prompts share the batch: easy ones are pushed up and hard ones down, whatever progress they make.

**Where implementations differ.** The authors' code could not be read. Where prompts have groups of different sizes, the
global statistics here count every prompt once, the loss every answer.

**Provenance.** Partly: the normalisation over the batch, by two reviews of the paper. Reconstructed:
that a prompt's reward is its group's mean, and that both losses share GRPO's clipped term.

Han et al., *COPO: Consistency-Aware Policy Optimization*, 2025, arXiv:2508.04138.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, on_policy
from trref.tokens.copo_weight import PROBE, UNITS, local_weight, weight_of_groups
from trref.tokens.interfaces import GROUP_REWARD, token_objective
from trref.tokens.terms import clip_surrogate, group_mean, token_weights

__all__ = ["copo", "global_advantage", "prompt_reward"]

BLENDS = ("losses", "advantages")
WITH_ANSWERS = token_objective("group", "reward", "answer")


def prompt_reward(reward, group):
    """Mean reward of each answer's group.

    Parameters
    ----------
    reward : array (B,)
    group : array (B,), integer
        The prompt of each answer: any non-negative numbers.

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    validate.inputs(GROUP_REWARD.inputs, reward, group)
    return group_mean(reward, group)[0]  # eq. copo-reward


def _global_advantage(reward, group, eps):
    # eq. copo-global
    R, count = group_mean(reward, group)
    each = 1 / count / (1 / count).sum()  # every prompt counts once
    rounding = 16 * float(xp.finfo(R.dtype).eps) * abs(reward).max()
    equal = (abs(R - R[0]) <= rounding).all()
    centred = xp.where(equal, 0, R - (each * R).sum())
    std = xp.sqrt((each * centred**2).sum()) + eps
    return centred / xp.maximum(std, float(xp.finfo(R.dtype).tiny))  # 0 where all are equal


def global_advantage(reward, group, *, eps=0.0):
    """How well each answer's group did among the prompts of the batch; exactly 0 where all did equally well.

    Parameters
    ----------
    reward, group
        As in `prompt_reward`.
    eps : float
        Added to the deviation, in [0, inf).

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        As `prompt_reward`; a negative `eps`.
    """
    validate.inputs(GROUP_REWARD.inputs, reward, group)
    validate.interval("[0, inf)", eps=eps)
    return _global_advantage(reward, group, eps)


def copo(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    group,
    reward,
    answer,
    *,
    clip=0.2,
    gamma=20.0,
    threshold=1.5,
    unit="nats",
    eps=0.0,
    blend="losses",
):
    """COPO loss: GRPO's with the group's own and the global advantage, blended by how much the group agrees.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        The group's own, as of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    group : array (B,), integer
    reward : array (B,), 0 or 1
    answer : array (B,), integer
        Equal numbers are equal final answers.
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf).
    gamma, threshold, unit
        As in `trref.tokens.copo_weight.local_weight`.
    eps : float
        As in `global_advantage`.
    blend : {"losses", "advantages"}

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range, an
        unknown unit or blend.
    """
    validate.inputs(WITH_ANSWERS.inputs, log_prob, old_log_prob, advantage, mask, group, reward, answer)
    validate.interval("(0, inf)", clip=clip)
    validate.interval("[0, inf)", gamma=gamma, eps=eps)
    validate.interval("(-inf, inf)", threshold=threshold)
    validate.choice(UNITS, unit=unit)
    validate.choice(BLENDS, blend=blend)
    local = weight_of_groups(group, answer, log_prob.dtype, gamma, threshold, unit)[:, None]
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    A_global = _global_advantage(reward, group, eps)[:, None]
    w = token_weights(mask, "seq_mean")
    if blend == "advantages":
        term, derivative = clip_surrogate(log_prob, old_log_prob, local * A + (1 - local) * A_global, clip, clip)
        J, dJ = (w * term).sum(), w * derivative  # eq. copo-blended
        return -J, -dJ
    own, d_own = clip_surrogate(log_prob, old_log_prob, A, clip, clip)
    other, d_other = clip_surrogate(log_prob, old_log_prob, A_global, clip, clip)
    J, dJ = (w * (local * own + (1 - local) * other)).sum(), w * (local * d_own + (1 - local) * d_other)
    return -J, -dJ  # eq. copo-objective


def _members(group):
    return {g: [i for i, h in enumerate(group.tolist()) if h == g] for g in group.tolist()}


def _reward_by_loops(reward, group):
    R = {g: sum(float(reward[i]) for i in rows) / len(rows) for g, rows in _members(group).items()}
    return [R[g] for g in group.tolist()]


def _global_by_loops(reward, group, *, eps=0.0):
    R = dict(zip(group.tolist(), _reward_by_loops(reward, group), strict=True))
    mean = sum(R.values()) / len(R)
    std = math.sqrt(sum((x - mean) ** 2 for x in R.values()) / len(R))
    return [(R[g] - mean) / (std + eps) if std > 1e-12 * max(abs(mean), 1e-300) else 0.0 for g in group.tolist()]


def _with_the_global_advantage(inputs):
    """the advantage is the global one"""
    return {**inputs, "advantage": global_advantage(inputs["reward"], inputs["group"])}


def _rewards(reward, group):
    return {"reward": xp.array(reward), "group": xp.array(group)}


def _equal_prompts():
    """Two prompts with one right answer of three: the mean of both is not quite 1/3."""
    reward, old = xp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), xp.full((6, 2), -1.25)
    return {
        "log_prob": old + xp.array([0.1, -0.1]),
        "old_log_prob": old,
        "advantage": reward - 0.4,
        "mask": xp.ones((6, 2)),
        "group": xp.arange(6) // 3,
        "reward": reward,
        "answer": xp.arange(6) % 2,
    }


SCALES = {
    "prompts equal but for rounding": lambda: _rewards([0.1, 0.2, 0.0, 0.1], [0, 0, 0, 1]),
    "small rewards": lambda: _rewards([3e-20, 0.0, 1e-20], [0, 0, 1]),
}


def _blended(inputs):
    """the policies are equal, and REINFORCE has the blended advantages"""
    ours = on_policy(inputs)
    w = local_weight(ours["group"], ours["answer"])[:, None]
    A = ours["advantage"].reshape(len(w), -1) + xp.zeros_like(ours["mask"])
    return ours, {**ours, "advantage": w * A + (1 - w) * global_advantage(ours["reward"], ours["group"])[:, None]}


METHOD = Method(
    key="han2025copo",
    provenance={"partly": ("global",), "reconstructed": ("reward", "objective", "blended")},
    functions=(
        Estimator(f=prompt_reward, interface=GROUP_REWARD, brute_force=_reward_by_loops),
        Estimator(
            f=global_advantage,
            interface=GROUP_REWARD,
            edges={**GROUP_REWARD.edges, **SCALES},
            settings={"default": {}, "probe": {"eps": 0.3}},
            brute_force=_global_by_loops,
        ),
        Objective(
            f=copo,
            interface=WITH_ANSWERS,
            edges={**WITH_ANSWERS.edges, "equal prompts": _equal_prompts},
            wrt="log_prob",
            settings={
                "default": {},
                "blended advantages": {"blend": "advantages"},
                "probe": {**PROBE, "clip": 0.35, "eps": 0.3, "blend": "advantages"},
            },
            limits=(
                Limit("grpo.grpo", {"threshold": -1e6}),
                Limit("grpo.grpo", {"threshold": -1e6, "blend": "advantages"}),
                Limit("grpo.grpo", {"threshold": 1e6}, where=_with_the_global_advantage),
                Limit("grpo.grpo", {"threshold": 1e6, "blend": "advantages"}, where=_with_the_global_advantage),
                *(
                    Limit("reinforce.reinforce", {"blend": blend}, OVER_ANSWERS, where=_blended, gradient_only=True)
                    for blend in BLENDS
                ),
            ),
        ),
    ),
)
