r"""LENS: confident mistakes cost, so that groups of wrong answers teach.

What differs from GRPO is the reward. Fitting the policy as a model of "this answer is right" by maximum likelihood
(:mod:`trref.tokens.lens_likelihood`) gives a wrong answer a negative reward that grows with the policy's confidence in
it. In practice confidence is that of the sampling policy, normalised by the length, and constant:

.. math::
    :label: lens-confidence

    \bar\pi_i = \exp\Big( \frac1{|y_i|} \sum_t m_{i,t} \log\pi^{old}_{i,t} \Big)

The difficulty D of the prompt is estimated from its right answers, and kept at twice the largest confidence at least:

.. math::
    :label: lens-difficulty

    D_j = \max\Big\{ \Big[ \frac1{G_j} \sum_{i \in j} \frac{r_i}{\bar\pi_i} \Big]^{-1},\; 2 \max_{i \in j} \bar\pi_i
    \Big\}, \qquad D_j = 2 \max_{i \in j} \bar\pi_i \ \text{ if no answer is right}

.. math::
    :label: lens-reward

    \tilde r_i = r_i - \frac{1 - r_i}{G_j}\, \frac{\bar\pi_i}{D_j - \bar\pi_i} \in \Big[ -\frac1{G_j}, 0 \Big]
    \ \text{ for wrong answers}

In mixed groups GRPO's standardisation follows. With the factor 1/G every right answer stays above the mean of its group
and every wrong one below. In groups of wrong answers the mean is taken off, and the group counts with the weight
:math:`\alpha`:

.. math::
    :label: lens-advantage

    \hat A_i = \frac{\tilde r_i - \mathrm{mean}_j\, \tilde r}{\mathrm{std}_j\, \tilde r} \ \text{ (some right)}, \qquad
    \hat A_i = \alpha\, (\tilde r_i - \mathrm{mean}_j\, \tilde r) \ \text{ (none right)}, \qquad
    \hat A_i = 0 \ \text{ (all right)}

so that the surest wrong answer is pushed down and the least sure one *up*. Where all are equally sure there is no
contrast, and no advantage. The objective is GRPO's:

.. math::
    :label: lens-objective

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|} \min\big\{ \rho_{i,t} \hat A_i,\;
    \mathrm{clip}(\rho_{i,t}, 1-\epsilon, 1+\epsilon)\, \hat A_i \big\}

With :math:`\alpha = 0` it is GRPO on mixed groups, with slightly different rewards.

**Where implementations differ.** No public code was found. The text standardises to unit variance and does not say
which; the sample deviation is the default here. Whether the estimate of D takes raw or normalised probabilities is
ambiguous in the text; they are normalised here, as everywhere else in it. An answer without tokens has confidence 1.

**Provenance.** Confirmed: by the paper's text, with :math:`\alpha = 0.25` and groups of sixteen. The bounds and signs
are checked.

Feng et al., *Don't Waste Mistakes: Leveraging Negative RL-Groups via Confidence Reweighting*, 2025, arXiv:2510.08696.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.tokens import _lens_cases as cases
from trref.tokens._places import OVER_ANSWERS, on_policy
from trref.tokens.deviations import lens as deviations
from trref.tokens.grpo import clip_surrogate, group_mean, token_weights
from trref.tokens.interfaces import token_objective

__all__ = ["calibrated_reward", "estimate_difficulty", "length_normalised_prob", "lens", "lens_advantage"]

STANDARD_DEVIATIONS = ("sample", "population")
ANSWERS = token_objective(without=("log_prob", "advantage"))
GROUPS = token_objective("group", "reward", without=("log_prob", "advantage"))
WITH_GROUPS = token_objective("group", "reward", without=("advantage",))


def _log_confidence(old_log_prob, mask):
    return (mask * old_log_prob).sum(1) / xp.maximum(mask.sum(1), 1)


def length_normalised_prob(old_log_prob, mask):
    """Confidence of each answer: the geometric mean of its tokens' probabilities.

    Parameters
    ----------
    old_log_prob : array (B, T)
        Log-probabilities of the tokens under the sampling policy.
    mask : array (B, T), 0 or 1
        The tokens of the answers.

    Returns
    -------
    array (B,), in [0, 1]

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    validate.inputs(ANSWERS.inputs, old_log_prob, mask)
    return xp.exp(_log_confidence(old_log_prob, mask))  # eq. lens-confidence


def _relative_difficulty(old_log_prob, mask, group, reward):
    """Confidence relative to the surest answer of the group, that answer's logarithm, and D in its units, each (B,)."""
    same, log_p = group[:, None] == group[None, :], _log_confidence(old_log_prob, mask)
    top = xp.where(same, log_p[None, :], log_p.min()).max(1)
    p = xp.exp(log_p - top)
    eps = float(xp.finfo(p.dtype).eps)  # one right answer as unsure as that, and D is at its bound
    inverse, _ = group_mean(reward / xp.maximum(p, eps), group)
    D = 1 / xp.where(inverse > 0, xp.minimum(inverse, 0.5), 0.5)  # eq. lens-difficulty
    return p, top, D


def estimate_difficulty(old_log_prob, mask, group, reward):
    """Estimate of each answer's D: at least twice the confidence of the surest answer of its group.

    Parameters
    ----------
    old_log_prob, mask
        As in `length_normalised_prob`.
    group : array (B,), integer
        The prompt of each answer.
    reward : array (B,), 0 or 1

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, rewards other than 0 and 1.
    """
    validate.inputs(GROUPS.inputs, old_log_prob, mask, group, reward)
    _, top, D = _relative_difficulty(old_log_prob, mask, group, reward)
    return xp.exp(top) * D


def _calibrated(old_log_prob, mask, group, reward):
    p, _, D = _relative_difficulty(old_log_prob, mask, group, reward)
    G = group_mean(reward, group)[1]
    return reward - (1 - reward) / G * p / (D - p)  # eq. lens-reward


def calibrated_reward(old_log_prob, mask, group, reward):
    """Reward of each answer: 1 if right, and between -1/G and 0 if wrong, the lower the surer.

    Parameters
    ----------
    old_log_prob, mask, group, reward
        As in `estimate_difficulty`.

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        As `estimate_difficulty`.
    """
    validate.inputs(GROUPS.inputs, old_log_prob, mask, group, reward)
    return _calibrated(old_log_prob, mask, group, reward)


def _advantage(old_log_prob, mask, group, reward, alpha, std):
    # eq. lens-advantage
    r = _calibrated(old_log_prob, mask, group, reward)
    right, G = group_mean(reward, group)
    differ = ((group[:, None] == group[None, :]) & (r[:, None] != r[None, :])).any(1)
    centred = xp.where(differ, r - group_mean(r, group)[0], 0)
    variance = group_mean(centred**2, group)[0] * (G / xp.maximum(G - 1, 1) if std == "sample" else 1)
    mixed = (right > 0) & (right < 1)
    A = centred / xp.where(mixed, xp.sqrt(variance), 1)
    return xp.where(mixed, A, alpha * A)


def lens_advantage(old_log_prob, mask, group, reward, *, alpha=0.25, std="sample"):
    """Advantage of each answer, not zero in groups of wrong answers.

    Parameters
    ----------
    old_log_prob, mask, group, reward
        As in `estimate_difficulty`.
    alpha : float
        Weight of groups of wrong answers, in [0, inf).
    std : {"sample", "population"}
        Deviation by which mixed groups are divided.

    Returns
    -------
    array (B,)
        Of sum 0 over every group.

    Raises
    ------
    ValueError
        As `estimate_difficulty`; a negative `alpha`, an unknown `std`.
    """
    validate.inputs(GROUPS.inputs, old_log_prob, mask, group, reward)
    validate.interval("[0, inf)", alpha=alpha)
    validate.choice(STANDARD_DEVIATIONS, std=std)
    return _advantage(old_log_prob, mask, group, reward, alpha, std)


def lens(log_prob, old_log_prob, mask, group, reward, *, clip=0.2, alpha=0.25, std="sample"):
    """LENS loss: GRPO's with the advantages of `lens_advantage`.

    Parameters
    ----------
    log_prob : array (B, T)
        Log-probabilities of the tokens under the current policy.
    old_log_prob, mask, group, reward
        As in `estimate_difficulty`.
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf).
    alpha, std
        As in `lens_advantage`.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        As `lens_advantage`; log-probabilities more than 30 apart, `clip` not positive.
    """
    validate.inputs(WITH_GROUPS.inputs, log_prob, old_log_prob, mask, group, reward)
    validate.interval("(0, inf)", clip=clip)
    validate.interval("[0, inf)", alpha=alpha)
    validate.choice(STANDARD_DEVIATIONS, std=std)
    A = _advantage(old_log_prob, mask, group, reward, alpha, std)
    term, derivative = clip_surrogate(log_prob, old_log_prob, A, clip, clip)
    w = token_weights(mask, "seq_mean")
    J = (w * term).sum()  # eq. lens-objective
    return -J, -w * derivative


def _with_these_advantages(inputs):
    """the advantage is that of LENS"""
    groups = {name: inputs[name] for name in GROUPS.inputs}
    return {**inputs, "advantage": lens_advantage(**groups)}


def _fresh(inputs):
    """the policies are equal, and the advantage is that of LENS"""
    return on_policy(_with_these_advantages(inputs))


PROBE = {"alpha": 0.6, "std": "population"}
METHOD = Method(
    title="Likelihood Estimation with Negative Samples (LENS)",
    key="feng2025lens",
    arxiv="2510.08696",
    provenance="confirmed",
    functions=(
        Estimator(f=length_normalised_prob, interface=ANSWERS, brute_force=cases.confidence_by_loops),
        Estimator(f=estimate_difficulty, interface=GROUPS, brute_force=cases.difficulty_by_loops),
        Estimator(f=calibrated_reward, interface=GROUPS, brute_force=cases.reward_by_loops),
        Estimator(
            f=lens_advantage,
            interface=GROUPS,
            settings={"default": {}, "population": {"std": "population"}, "probe": PROBE},
            brute_force=cases.advantage_by_loops,
        ),
        Objective(
            f=lens,
            interface=WITH_GROUPS,
            wrt="log_prob",
            settings={"default": {}, "mixed groups only": {"alpha": 0.0}, "probe": {**PROBE, "clip": 0.35}},
            limits=(
                Limit("grpo.grpo", {}, where=_with_these_advantages),
                Limit("reinforce.reinforce", {}, OVER_ANSWERS, where=_fresh, gradient_only=True),
            ),
            deviations=(deviations.LENS_UNBOUNDED, deviations.LENS_STANDARDISED),
        ),
    ),
)
