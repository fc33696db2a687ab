r"""Rewards from an imperfect verifier: invert the channel, or re-weight the score.

What differs from GRPO: the reward, before any baseline, and no division by the group's deviation. The verifier is a
noisy binary channel: it accepts a wrong answer with probability :math:`\rho_0` and rejects a right one with
:math:`\rho_1` (:mod:`trref.tokens.noisy_verifier`): the reward :math:`\tilde r` that it shows has mean :math:`\rho_0 +
\mathcal J r`, :math:`\mathcal J = 1 - \rho_0 - \rho_1 > 0`. The **backward** correction inverts it and is unbiased,
with variance :math:`q(1-q)/\mathcal J^2`, :math:`q = \mathbb E[\tilde r|r]`:

.. math::
    :label: noisy-rlvr-backward

    \hat r = \frac{\tilde r - \rho_0}{\mathcal J}, \qquad \mathbb E[\hat r \mid r] = r

The **forward** correction weights the score with numbers that need the rate of false negatives alone:

.. math::
    :label: noisy-rlvr-forward

    w(\tilde r) = \tilde r - (1 - \rho_1), \qquad \mathbb E[w \mid r] = -\mathcal J\,(1 - r)

With :math:`s = \hat r`, :math:`w` or, naively, :math:`\tilde r`, the update over n answers is

.. math::
    :label: noisy-rlvr-advantage

    \hat A_i = s_i - b_i, \qquad b_i = 0 \text{ or } \bar s_{g(i)}

.. math::
    :label: noisy-rlvr-gradient

    J = \frac1n \sum_i \hat A_i \sum_t m_{i,t} \log\pi_{i,t}, \qquad
    \mathbb E[\nabla J] = \nabla \mathbb E[r] \text{ (backward)},\quad
    \mathcal J\, \nabla \mathbb E[r] \text{ (forward, naive)}

without a baseline. So with rates that are the same everywhere the *naive* update has the clean direction, too: the
three differ in scale, variance and baseline. Forward **is** naive, with the baseline :math:`1 - \rho_1`; below the mean
of the group both are one, and backward is that divided by :math:`\mathcal J`. All three are increasing affine functions
of :math:`\tilde r`: standardised within a group they are identical, and GRPO sees none of the corrections. Where rates
differ from prompt to prompt, naive and forward weight a prompt by its :math:`\mathcal J`, and backward does not. The
rates are arrays for that reason. Noise that depends on the answer is outside the model: a wrong answer that is always
accepted stays a hack under each of them.

**Where implementations differ.** No public code was found. GRPO's division by the group's deviation, after the
correction, undoes it; by a public note the paper's later versions use fixed or moving scales for that reason.

**Provenance.** Partly: the two corrections by the abstract; the forward weights are from memory and have exactly the
property claimed for them. The expectations and the equality of naive and forward are derived and checked here.

Cai et al., *Reinforcement Learning with Verifiable yet Noisy Rewards under Imperfect Verifiers*, 2025,
arXiv:2510.00915.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.tokens.deviations import noisy_rlvr as deviations
from trref.tokens.interfaces import token_objective
from trref.tokens.noisy_verifier import check, with_rates

__all__ = ["backward_reward", "corrected_advantage", "corrected_gradient", "forward_weight"]

CORRECTIONS = ("backward", "forward", "naive")
BASELINES = ("none", "group_mean")
REWARD = token_objective("reward", without=("log_prob", "old_log_prob", "advantage", "mask"))
NOISY, ACCEPTED = with_rates(REWARD), with_rates(REWARD, ("rho1",))
GROUPS = with_rates(token_objective("reward", "group", without=("log_prob", "old_log_prob", "advantage", "mask")))
SCORES = with_rates(token_objective("reward", "group", without=("old_log_prob", "advantage")))


def backward_reward(reward, rho0, rho1, *, floor=0.0):
    """Reward with the true one as its mean.

    Parameters
    ----------
    reward : array (B,), 0 or 1
        The observed rewards.
    rho0, rho1 : array (B,)
    floor : float
        Least divisor, in [0, 1): against estimated rates that are too large. It leaves a bias where it acts.

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        As `trref.tokens.noisy_verifier.noisy_verifier`; or `floor` out of range.
    """
    check(NOISY, reward, rho0, rho1)
    validate.interval("[0, 1)", floor=floor)
    return (reward - rho0) / xp.maximum(1 - rho0 - rho1, floor)  # eq. noisy-rlvr-backward


def forward_weight(reward, rho1):
    """Weight of the score: rho1 of an accepted answer, rho1 - 1 of a rejected one.

    Parameters
    ----------
    reward : array (B,), 0 or 1
        The observed rewards.
    rho1 : array (B,)

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, rewards other than 0 and 1, rates outside [0, 1].
    """
    validate.inputs(ACCEPTED.inputs, reward, rho1)
    return reward - (1 - rho1)  # eq. noisy-rlvr-forward


def corrected_advantage(reward, group, rho0, rho1, *, correction="backward", baseline="none"):
    """Corrected rewards, less a baseline; never divided by a deviation.

    Parameters
    ----------
    reward : array (B,), 0 or 1
        The observed rewards.
    group : array (B,), integer
    rho0, rho1 : array (B,)
    correction : {"backward", "forward", "naive"}
    baseline : {"none", "group_mean"}
        With the mean of the group, forward is naive.

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        As `trref.tokens.noisy_verifier.noisy_verifier`; or an unknown correction or baseline.
    """
    check(GROUPS, reward, group, rho0, rho1)
    validate.choice(CORRECTIONS, correction=correction)
    validate.choice(BASELINES, baseline=baseline)
    return _advantage(reward, group, rho0, rho1, correction, baseline)


def _advantage(reward, group, rho0, rho1, correction, baseline):
    if correction == "backward":
        s = (reward - rho0) / (1 - rho0 - rho1)
    else:
        s = reward - (1 - rho1) if correction == "forward" else reward
    if baseline == "none":
        return xp.array(s)
    # as a mean of differences, which is exactly 0 for equal scores
    same = (group[:, None] == group[None, :]).astype(s.dtype)
    return (same * (s[:, None] - s[None, :])).sum(1) / same.sum(1)  # eq. noisy-rlvr-advantage


def corrected_gradient(log_prob, mask, reward, group, rho0, rho1, *, correction="backward", baseline="none"):
    """Score-function loss of corrected rewards: REINFORCE on whole answers.

    Parameters
    ----------
    log_prob : array (B, T)
    mask : array (B, T), 0 or 1
    reward, group, rho0, rho1, correction, baseline
        As in `corrected_advantage`.

    Returns
    -------
    loss : scalar array
        To minimise; only its gradient has a meaning.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        As `corrected_advantage`.
    """
    check(SCORES, log_prob, mask, reward, group, rho0, rho1)
    validate.choice(CORRECTIONS, correction=correction)
    validate.choice(BASELINES, baseline=baseline)
    A = _advantage(reward, group, rho0, rho1, correction, baseline)
    # eq. noisy-rlvr-gradient
    dJ = mask * A[:, None] / len(mask)
    J = (dJ * log_prob).sum()

    return -J, -dJ


def _by_inverting(reward, rho0, rho1, *, floor=0.0):
    """The rewards of a rejected and an accepted answer that have the true reward as mean, by Cramer's rule."""
    result = []
    for shown, fp, fn in zip(reward.tolist(), rho0.tolist(), rho1.tolist(), strict=True):
        # (1 - fp) x + fp y = 0 and fn x + (1 - fn) y = 1
        determinant = max((1 - fp) * (1 - fn) - fp * fn, floor)
        result.append((1 - fp) / determinant if shown else -fp / determinant)
    return result


def _by_table(reward, rho1):
    return [fn if shown else fn - 1 for shown, fn in zip(reward.tolist(), rho1.tolist(), strict=True)]


def _by_loops(reward, group, rho0, rho1, *, correction="backward", baseline="none"):
    s = {
        "backward": lambda: _by_inverting(reward, rho0, rho1),
        "forward": lambda: _by_table(reward, rho1),
        "naive": reward.tolist,
    }[correction]()
    if baseline == "none":
        return s
    members = {g: [x for x, h in zip(s, group.tolist(), strict=True) if h == g] for g in group.tolist()}
    return [x - sum(members[g]) / len(members[g]) for x, g in zip(s, group.tolist(), strict=True)]


def _without_errors(inputs):
    """the verifier makes no errors"""
    return {**inputs, "rho0": xp.zeros_like(inputs["rho0"]), "rho1": xp.zeros_like(inputs["rho1"])}


def _one_verifier(inputs):
    """the same rates for all answers"""
    return {**inputs, "rho0": xp.full_like(inputs["rho0"], 0.1), "rho1": xp.full_like(inputs["rho1"], 0.3)}


def _corrected(inputs):
    """REINFORCE's advantage is the corrected reward"""
    return {**inputs, "advantage": backward_reward(*(inputs[name] for name in ("reward", "rho0", "rho1")))}


EACH = {
    "default": {},
    "forward": {"correction": "forward"},
    "naive": {"correction": "naive"},
    "below the group's mean": {"baseline": "group_mean"},
    "probe": {"correction": "forward", "baseline": "group_mean"},
}
METHOD = Method(
    key="cai2025reinforcement",
    provenance={"confirmed": ("backward",), "partly": ("forward", "advantage", "gradient")},
    functions=(
        Estimator(
            f=backward_reward,
            interface=NOISY,
            settings={"default": {}, "bounded": {"floor": 0.1}, "probe": {"floor": 0.6}},
            brute_force=_by_inverting,
        ),
        Estimator(f=forward_weight, interface=ACCEPTED, brute_force=_by_table),
        Estimator(
            f=corrected_advantage,
            interface=GROUPS,
            settings=EACH,
            limits=(
                Limit("dr_grpo.centred_advantage", {"correction": "naive", "baseline": "group_mean"}),
                Limit("dr_grpo.centred_advantage", {"baseline": "group_mean"}, where=_without_errors),
                Limit(
                    "dr_grpo.centred_advantage",
                    {"correction": "forward", "baseline": "group_mean"},
                    where=_one_verifier,
                ),
                Limit("noisy_rlvr.backward_reward", {}),
                Limit("noisy_rlvr.forward_weight", {"correction": "forward"}),
            ),
            deviations=(deviations.STANDARDISED_AFTER_CORRECTION,),
            brute_force=_by_loops,
        ),
        Objective(
            f=corrected_gradient,
            interface=SCORES,
            wrt="log_prob",
            settings={name: EACH[name] for name in ("default", "forward", "naive", "probe")},
            limits=(Limit("reinforce.reinforce", {}, where=_corrected),),
        ),
    ),
)
