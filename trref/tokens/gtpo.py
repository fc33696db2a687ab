r"""GTPO: protect the tokens that right and wrong answers share, and avoid uncertain answers.

What differs from GRPO: there is no clip and no reference; each token has a weight :math:`\lambda`, each answer a filter
:math:`\delta`, and its advantage is lowered by its mean entropy. Tokens that
right and wrong answers of a group share at their beginnings and ends have :math:`\lambda` above 1 in right answers and
0 in wrong ones; :mod:`trref.tokens.conflict_tokens` says which. With the mean entropy of the policy over the
answer, and that of the first policy :math:`H_0`,

.. math::
    :label: gtpo-entropy

    \langle H \rangle_i = \frac1{|y_i|} \sum_t m_{i,t} \Big( -\sum_v \pi_{i,t,v} \log\pi_{i,t,v} \Big)

.. math::
    :label: gtpo-filter

    \delta_i = 0 \text{ if } H_0 < \log 2 < \langle H\rangle_i, \quad 1 \text{ else}

.. math::
    :label: gtpo-objective

    J = \frac1B \sum_i \frac{\delta_i\, (\hat A_i - \gamma \langle H \rangle_i)}{|y_i|}
    \sum_t m_{i,t}\, \rho_{i,t}\, \lambda_{i,t}, \qquad
    \frac{\partial J}{\partial\log\pi_{i,t}} =
    \frac{m_{i,t}}{B |y_i|}\, \delta_i\, (\hat A_i - \gamma\langle H\rangle_i)\, \rho_{i,t}\, \lambda_{i,t}

Weights, filter and entropies are constants, and the signs in the weights are those of :math:`\hat A` before the entropy
is subtracted: on-policy this is REINFORCE with other advantages than GRPO's. An entropy above :math:`\log 2` means that
no two tokens hold the distribution. Where all rewards of a group are equal the update pushes down whatever was sampled,
in proportion to its entropy.

**Where implementations differ.** The authors' code filters above a fixed 0.7, whatever :math:`H_0`; it divides each
answer's loss by the number of its conflict tokens as well; and it marks valid tokens by a padding id.

**Provenance.** Confirmed: objective and filter by the authors' README, conflicts and constants by their code; the text
of the paper was not read. The reading of :math:`\log 2` is ours.

Simoni, Fontana et al., *GTPO: Trajectory-Based Policy Optimization in Large Language Models*, 2025, arXiv:2508.03772.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, on_policy
from trref.nn.heads import categorical_entropy
from trref.tokens.conflict_tokens import weigh
from trref.tokens.deviations import gtpo as deviations
from trref.tokens.interfaces import full_distribution, token_objective
from trref.tokens.terms import token_weights

__all__ = ["entropy_filter", "gtpo", "mean_entropy"]

GTPO = token_objective("actions", "group", "entropy", advantage="B")
LOGITS = full_distribution(without=("old_logits", "actions", "advantage"))
ENTROPIES = token_objective("entropy", without=("log_prob", "old_log_prob", "advantage"))
LOG_2 = math.log(2)


def mean_entropy(logits, mask):
    """Mean entropy of the policy over each answer's tokens.

    Parameters
    ----------
    logits : array (B, T, V)
    mask : array (B, T), 0 or 1

    Returns
    -------
    array (B,)
        In nats; 0 for an answer without tokens.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    validate.inputs(LOGITS.inputs, logits, mask)
    return _mean(categorical_entropy(logits)[0], mask)


def _mean(entropy, mask):
    return (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)  # eq. gtpo-entropy


def entropy_filter(mask, entropy, *, initial_entropy=0.0, threshold=LOG_2):
    """Which answers stay: all, or, for a policy that began below the threshold, those whose mean entropy is not above.

    Parameters
    ----------
    mask : array (B, T), 0 or 1
    entropy : array (B, T)
        Of the policy before each token.
    initial_entropy : float
        Mean entropy of the first policy, in [0, inf).
    threshold : float
        In (0, inf).

    Returns
    -------
    array (B,), 0 or 1

    Raises
    ------
    ValueError
        Shapes that differ, values out of range.
    """
    validate.inputs(ENTROPIES.inputs, mask, entropy)
    validate.interval("[0, inf)", initial_entropy=initial_entropy)
    validate.interval("(0, inf)", threshold=threshold)
    return _filter(_mean(entropy, mask), initial_entropy, threshold)


def _filter(mean, initial_entropy, threshold):
    return ((mean <= threshold) | (initial_entropy >= threshold)).astype(mean.dtype)  # eq. gtpo-filter


def gtpo(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    actions,
    group,
    entropy,
    *,
    entropy_weight=0.1,
    initial_entropy=0.0,
    boost=2.0,
    penalty=0.0,
):
    """GTPO loss.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    actions : array (B, T), integer
        The tokens.
    group : array (B,), integer
        The prompt of each answer.
    entropy : array (B, T)
        Of the policy before each token; a constant.
    entropy_weight : float
        The factor gamma, in [0, inf).
    initial_entropy : float
        Mean entropy of the first policy, in [0, inf); from log 2 on nothing is filtered.
    boost, penalty : float
        Weights of conflict tokens of right and of wrong answers, in [0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    validate.inputs(GTPO.inputs, log_prob, old_log_prob, advantage, mask, actions, group, entropy)
    validate.interval("[0, inf)", entropy_weight=entropy_weight, initial_entropy=initial_entropy)
    validate.interval("[0, inf)", boost=boost, penalty=penalty)
    weight = weigh(advantage, mask, actions, group, boost, penalty)
    mean = _mean(entropy, mask)
    A = _filter(mean, initial_entropy, LOG_2) * (advantage - entropy_weight * mean)
    # eq. gtpo-objective
    dJ = token_weights(mask, "seq_mean") * (xp.exp(log_prob - old_log_prob) * A[:, None] * weight)
    J = dJ.sum()

    return -J, -dJ


def _by_token(logits, mask):
    means = []
    for rows, here in zip(logits.tolist(), mask.tolist(), strict=True):
        total = 0.0
        for z, m in zip(rows, here, strict=True):
            log_sum = max(z) + math.log(sum(math.exp(x - max(z)) for x in z))
            total -= m * sum(math.exp(x - log_sum) * (x - log_sum) for x in z)
        means.append(total / max(sum(here), 1))
    return means


def _filter_by_rule(mask, entropy, *, initial_entropy=0.0, threshold=LOG_2):
    kept = []
    for here, h in zip(mask.tolist(), entropy.tolist(), strict=True):
        mean = sum(m * x for m, x in zip(here, h, strict=True)) / max(sum(here), 1)
        kept.append(0.0 if initial_entropy < threshold and mean > threshold else 1.0)
    return kept


def _no_wrong_answer(inputs):
    """all answers are right"""
    return {**inputs, "advantage": abs(inputs["advantage"])}


def _no_right_answer(inputs):
    """all answers are wrong"""
    return {**inputs, "advantage": -abs(inputs["advantage"])}


def _equal_rewards(inputs):
    """all advantages are 0; GRPO's is the mean entropy times -gamma"""
    mean = _mean(inputs["entropy"], inputs["mask"])
    return {**inputs, "advantage": 0 * mean}, {**inputs, "advantage": -0.1 * mean}


def _weighed(inputs):
    """the policies are equal, and REINFORCE has the weighed advantages"""
    ours = on_policy(inputs)
    A, mask, mean = ours["advantage"], ours["mask"], _mean(ours["entropy"], ours["mask"])
    A = _filter(mean, 0.0, LOG_2) * (A - 0.1 * mean)
    return ours, {
        **ours,
        "advantage": A[:, None] * weigh(ours["advantage"], mask, ours["actions"], ours["group"], 2.0, 0.0),
    }


NO_ENTROPIES, NO_CLIP = {"entropy_weight": 0.0, "initial_entropy": 0.8}, {"clip": 1e14}
METHOD = Method(
    key="simoni2025gtpo",
    provenance="confirmed",
    functions=(
        Estimator(f=mean_entropy, interface=LOGITS, brute_force=_by_token),
        Estimator(
            f=entropy_filter,
            interface=ENTROPIES,
            settings={
                "default": {},
                "uncertain from the start": {"initial_entropy": 0.8},
                "probe": {"initial_entropy": 0.3, "threshold": 0.9},
            },
            brute_force=_filter_by_rule,
        ),
        Objective(
            f=gtpo,
            interface=GTPO,
            wrt="log_prob",
            settings={
                "default": {},
                "probe": {"entropy_weight": 0.3, "initial_entropy": 0.8, "boost": 1.5, "penalty": 0.4},
            },
            limits=(
                Limit("grpo.grpo", {**NO_ENTROPIES, "boost": 1.0, "penalty": 1.0}, NO_CLIP),
                Limit("grpo.grpo", {"initial_entropy": 0.8}, NO_CLIP, where=_equal_rewards),
                Limit("grpo.grpo", NO_ENTROPIES, NO_CLIP, where=_no_wrong_answer),
                Limit("grpo.grpo", NO_ENTROPIES, NO_CLIP, where=_no_right_answer),
                Limit("grpo.grpo", {**NO_ENTROPIES, "boost": 1.0, "penalty": 1.0}, where=on_policy),
                Limit("reinforce.reinforce", {}, OVER_ANSWERS, where=_weighed, gradient_only=True),
            ),
            deviations=(deviations.FIXED_ENTROPY_BOUND, deviations.DIVIDED_BY_CONFLICTS),
        ),
    ),
)
