r"""Asymmetric confidence penalties (ACE): the surer a wrong answer has become, the harder it is pushed down.

Group-relative advantages punish all wrong answers of a group alike. Yet some were explored (the policy rates them as
the reference did), and some were reinforced by chance (it rates them far higher). ACE measures that by the mean token
log-ratio of the answer to a frozen reference, and leaves right answers alone:

.. math::
    :label: ace-shift

    c_i = \frac1{|y_i|} \sum_t m_{i,t}\, \big( \log\pi_{i,t} - \log\pi^{ref}_{i,t} \big)

.. math::
    :label: ace-factor

    \hat A^{ACE}_i = \hat A_i\, \big( 1 + \alpha\, \mathrm{softplus}(\mathrm{sg}[c_i]) \big) \ \text{ where }
    \hat A_i < 0, \qquad \hat A^{ACE}_i = \hat A_i \ \text{ elsewhere}

with rewards 0 and 1, :math:`\hat A_i < 0` says that the answer is wrong and another one of its group right. That is all
that differs from the method underneath, here GRPO (or, over all tokens and with a higher upper clip, DAPO):

.. math::
    :label: ace-objective

    J = \sum_{i,t} w_{i,t} \min\big\{ \rho_{i,t} \hat A^{ACE}_i,\;
    \mathrm{clip}(\rho_{i,t}, 1-\epsilon_l, 1+\epsilon_h)\, \hat A^{ACE}_i \big\}

As softplus(0) = log 2, wrong answers of an unchanged policy are punished by the factor :math:`1 + \alpha\log 2`; with
max(c, 0) in its place (``"relu"``) by 1: on-policy this is REINFORCE with :math:`\hat A^{ACE}`, not with
:math:`\hat A`. The group's advantages no longer sum to zero, and a group of wrong answers only still has none. What the
additional update descends is in :mod:`trref.tokens.confidence_regulariser`.

Trainers can log which share of the wrong answers is overconfident, exploratory and self-correcting:

.. math::
    :label: ace-shares

    c_i > \tau, \qquad |c_i| \le \tau, \qquad c_i < -\tau

**Where implementations differ.** The abstract prints c without the division by the length: for long answers it is then
large and the penalty unbounded (``shift="sum"``). Letting the gradient flow through c adds that of
:math:`\mathrm{softplus}(c)` to every token of a wrong answer, which is another method.

**Provenance.** Confirmed: shift, factor and objective by two technical reviews of the full text, which write them out.
Reconstructed: the threshold of the shares.

Xu, Sang, Zhou, He and Wang, *Overconfident Errors Need Stronger Correction: Asymmetric Confidence Penalties for
Reinforcement Learning*, 2026, arXiv:2602.21420.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.catalog.tokens.places import OVER_ANSWERS, at_the_reference, nothing_negative, on_policy
from trref.tokens.deviations import ace as deviations
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import clip_surrogate, token_weights

__all__ = ["ace", "confidence_shift", "error_shares", "penalty_factor"]

WITH_REFERENCE = token_objective("ref_log_prob")
SHIFT = token_objective("ref_log_prob", without=("old_log_prob", "advantage"))
SHARES = token_objective("ref_log_prob", "reward", without=("old_log_prob", "advantage"))
WITH_FACTOR = {**WITH_REFERENCE.inputs, "factor": Input("B", optional=True)}
SHIFTS, SHAPES, POLICIES = ("mean", "sum"), ("softplus", "relu"), ("current", "rollout")


def _shift(log_prob, mask, ref_log_prob, shift):
    length = xp.maximum(mask.sum(1), 1) if shift == "mean" else 1
    return (mask * (log_prob - ref_log_prob)).sum(1) / length  # eq. ace-shift


def confidence_shift(log_prob, mask, ref_log_prob, *, shift="mean"):
    """How much surer of each answer the policy is than the reference; 0 for an answer without tokens.

    Parameters
    ----------
    log_prob : array (B, T)
    mask : array (B, T), 0 or 1
    ref_log_prob : array (B, T)
    shift : {"mean", "sum"}
        Of the log-ratios of the tokens.

    Returns
    -------
    array (B,), in nats

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart.
    """
    validate.inputs(SHIFT.inputs, log_prob, mask, ref_log_prob)
    validate.choice(SHIFTS, shift=shift)
    return _shift(log_prob, mask, ref_log_prob, shift)


def error_shares(log_prob, mask, ref_log_prob, reward, *, threshold=0.1):
    """Which shares of the wrong answers are overconfident, exploratory and self-correcting.

    Parameters
    ----------
    log_prob, mask, ref_log_prob
        As in `confidence_shift`.
    reward : array (B,), 0 or 1
    threshold : float
        Largest absolute shift of an exploratory answer, in [0, inf).

    Returns
    -------
    array (3,)
        Zeros if no answer is wrong.

    Raises
    ------
    ValueError
        As `confidence_shift`; a negative `threshold`.
    """
    validate.inputs(SHARES.inputs, log_prob, mask, ref_log_prob, reward)
    validate.interval("[0, inf)", threshold=threshold)
    c, wrong = confidence_shift(log_prob, mask, ref_log_prob), 1 - reward
    kinds = xp.stack([c > threshold, abs(c) <= threshold, c < -threshold])  # eq. ace-shares
    return (kinds * wrong).sum(1) / xp.maximum(wrong.sum(), 1)


def penalty_factor(
    log_prob, old_log_prob, mask, ref_log_prob, *, alpha=1.0, shape="softplus", shift="mean", policy="current"
):
    """Building block, unchecked: the factor (B,) on negative advantages; parameters as in `ace`."""
    c = _shift(log_prob if policy == "current" else old_log_prob, mask, ref_log_prob, shift)
    return 1 + alpha * (xp.logaddexp(0, c) if shape == "softplus" else xp.maximum(c, 0))  # eq. ace-factor


def ace(
    log_prob,
    old_log_prob,
    advantage,
    mask,
    ref_log_prob,
    *,
    alpha=1.0,
    clip_low=0.2,
    clip_high=0.2,
    aggregation="seq_mean",
    shape="softplus",
    shift="mean",
    policy="current",
    factor=None,
):
    """ACE loss: GRPO's or DAPO's, with the negative advantages of overconfident answers enlarged.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    ref_log_prob : array (B, T)
        Under the frozen reference.
    alpha : float
        Strength, in [0, inf); 1 in the paper, where larger values cost accuracy.
    clip_low, clip_high : float
        The ratio earns between 1 - clip_low and 1 + clip_high; in (0, inf).
    aggregation : {"seq_mean", "token_mean"}
        GRPO's mean, or that over all tokens.
    shape : {"softplus", "relu"}
    shift : {"mean", "sum"}
        As in `confidence_shift`.
    policy : {"current", "rollout"}
        Whose shift counts: that of `log_prob` or of `old_log_prob`.
    factor : array (B,), optional
        Held constant; that of `penalty_factor` if not given.

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
        unknown choice.
    """
    validate.inputs(WITH_FACTOR, log_prob, old_log_prob, advantage, mask, ref_log_prob, factor)
    validate.interval("[0, inf)", alpha=alpha)
    validate.interval("(0, inf)", clip_low=clip_low, clip_high=clip_high)
    validate.choice(("seq_mean", "token_mean"), aggregation=aggregation)
    validate.choice(SHAPES, shape=shape)
    validate.choice(SHIFTS, shift=shift)
    validate.choice(POLICIES, policy=policy)
    if factor is None:
        options = {"alpha": alpha, "shape": shape, "shift": shift, "policy": policy}
        factor = penalty_factor(log_prob, old_log_prob, mask, ref_log_prob, **options)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    A = xp.where(A < 0, A * factor[:, None], A)
    term, derivative = clip_surrogate(log_prob, old_log_prob, A, clip_low, clip_high)
    w = token_weights(mask, aggregation)
    J = (w * term).sum()  # eq. ace-objective
    return -J, -w * derivative


def _shift_by_loops(log_prob, mask, ref_log_prob, *, shift="mean"):
    result = []
    for x, m, y in zip(log_prob.tolist(), mask.tolist(), ref_log_prob.tolist(), strict=True):
        d = [a - b for a, b, kept in zip(x, y, m, strict=True) if kept]
        result.append(sum(d) / (len(d) if shift == "mean" else 1) if d else 0.0)
    return result


def _shares_by_counting(log_prob, mask, ref_log_prob, reward, *, threshold=0.1):
    c = [x for x, r in zip(_shift_by_loops(log_prob, mask, ref_log_prob), reward, strict=True) if r == 0]
    over, under = sum(x > threshold for x in c), sum(x < -threshold for x in c)
    return [n / max(len(c), 1) for n in (over, len(c) - over - under, under)]


def _with_these_advantages(inputs):
    """the policies are equal, and REINFORCE has the advantages of ACE"""
    ours = on_policy(inputs)
    A = ours["advantage"].reshape(len(ours["mask"]), -1)
    factor = penalty_factor(*(ours[name] for name in ("log_prob", "old_log_prob", "mask", "ref_log_prob")))
    return ours, {**ours, "advantage": xp.where(A < 0, A * factor[:, None], A) + xp.zeros_like(ours["mask"])}


DAPO = {"clip_high": 0.28, "aggregation": "token_mean"}
METHOD = Method(
    key="xu2026overconfident",
    provenance={"confirmed": ("shift", "factor", "objective"), "reconstructed": ("shares",)},
    functions=(
        Estimator(
            f=confidence_shift,
            interface=SHIFT,
            settings={"default": {}, "probe": {"shift": "sum"}},
            brute_force=_shift_by_loops,
        ),
        Estimator(
            f=error_shares,
            interface=SHARES,
            settings={"default": {}, "probe": {"threshold": 0.03}},
            brute_force=_shares_by_counting,
        ),
        Objective(
            f=ace,
            interface=WITH_REFERENCE,
            wrt="log_prob",
            stopped={"factor": penalty_factor},
            settings={
                "default": {},
                "DAPO": DAPO,
                "relu": {"shape": "relu"},
                "shift of the rollout": {"policy": "rollout"},
                "probe": {
                    "alpha": 2.5,
                    "clip_low": 0.15,
                    "clip_high": 0.35,
                    "aggregation": "token_mean",
                    "shape": "relu",
                    "shift": "sum",
                    "policy": "rollout",
                },
            },
            limits=(
                Limit(to="grpo.grpo", hyper={"alpha": 0.0}),
                Limit(to="dapo.dapo_over_batch", hyper={"alpha": 0.0, **DAPO}),
                Limit("grpo.grpo", {"shape": "relu"}, where=at_the_reference),
                Limit("grpo.grpo", {}, where=nothing_negative),
                Limit("reinforce.reinforce", {}, OVER_ANSWERS, where=_with_these_advantages, gradient_only=True),
            ),
            deviations=(deviations.SHIFT_DIFFERENTIATED,),
        ),
    ),
)
