r"""Proximal policy optimisation: the clipped surrogate, and the whole objective with value and entropy.

The hard trust region of TRPO becomes an objective that a few epochs of gradient ascent can handle. Clipping removes the
incentive to move the probability ratio

.. math::
    :label: ppo-ratio

    r_t(\theta) = \exp\big(\log\pi_\theta(a_t|s_t) - \log\pi_{old}(a_t|s_t)\big)

beyond :math:`1 \pm \epsilon` in the profitable direction, and the minimum with the unclipped term keeps a pessimistic
bound on the unclipped surrogate:

.. math::
    :label: ppo-unclipped

    J^{CPI}(\theta) = \frac1N \sum_t r_t \hat A_t

.. math::
    :label: ppo-clipped

    J^{CLIP}(\theta) = \frac1N \sum_t \min\big\{ r_t \hat A_t,\;
    \mathrm{clip}(r_t, 1-\epsilon, 1+\epsilon)\, \hat A_t \big\}

Its derivative is that of the unclipped term where that term is the smaller one, and zero elsewhere:

.. math::
    :label: ppo-gradient

    \frac{\partial J^{CLIP}}{\partial \log\pi_t} = \frac1N\, r_t \hat A_t\;
    \mathbb 1\big[ r_t \hat A_t \le \mathrm{clip}(r_t, 1-\epsilon, 1+\epsilon)\, \hat A_t \big]

Where policy and value function share parameters, errors of the value and an entropy bonus join in:

.. math::
    :label: ppo-total

    J(\theta) = J^{CLIP}(\theta) - c_1 \frac1N \sum_t \big( V_\theta(s_t) - V_t^{targ} \big)^2
    + c_2 \frac1N \sum_t S[\pi_\theta](s_t)

All are maximised; the functions return :math:`-J` and its gradient. :math:`\hat A`, :math:`\log\pi_{old}` and
:math:`V^{targ}` are data. How many ratios are outside the interval,

.. math::
    :label: ppo-fraction

    \frac1N \sum_t \mathbb 1\big[ |r_t - 1| > \epsilon \big],

is what trainers log as the clip fraction.

**Where implementations differ.** Most public trainers standardise the advantages of each minibatch first, some with
the sample and some with the population standard deviation; neither is in the paper. Leaving out the minimum looks
harmless and is not: for a negative advantage and :math:`r > 1 + \epsilon` the gradient that pulls the ratio back is
lost. Clipping is no trust region: the ratio of a sample may leave the interval and stay outside. Clipping the value
function, clipping the gradient's norm (0.5), annealing the learning rate, and stopping an update when an estimate of
the divergence exceeds 1.5 times a target (Spinning Up, SB3; CleanRL tests the last minibatch against the target itself)
are all additions of the trainers. Spinning Up uses no minibatches.

**Provenance.** Confirmed: the objectives by five public implementations (baselines, Spinning Up, Stable-Baselines3,
CleanRL, rlax), :math:`c_1 = 1` and :math:`c_2 = 0.01` for Atari from memory; the gradient is derived and checked.

Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal Policy Optimization Algorithms*, 2017, arXiv:1707.06347.
"""

import math
from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective
from trref.policy import deviations
from trref.policy.interfaces import SURROGATE

__all__ = ["TotalGradient", "clip_fraction", "clipped_surrogate", "total_objective", "unclipped_surrogate"]


class TotalGradient(NamedTuple):
    """Derivatives with respect to log-probability, value and entropy, each (N,)."""

    log_prob: Any
    value: Any
    entropy: Any


def unclipped_surrogate(log_prob, old_log_prob, advantage):
    """Importance-weighted surrogate loss (conservative policy iteration).

    Parameters
    ----------
    log_prob, old_log_prob : array (N,)
        Log-probabilities of the actions taken, under the current and the sampling policy.
    advantage : array (N,)

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (N,)
        With respect to `log_prob`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart.
    """
    validate.inputs(SURROGATE.inputs, log_prob, old_log_prob, advantage)
    N = len(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)  # eq. ppo-ratio
    J = (ratio * advantage).sum() / N  # eq. ppo-unclipped
    return -J, -ratio * advantage / N


def clipped_surrogate(log_prob, old_log_prob, advantage, *, clip=0.2):
    """Clipped surrogate loss.

    Parameters
    ----------
    log_prob, old_log_prob : array (N,)
        Log-probabilities of the actions taken, under the current and the sampling policy.
    advantage : array (N,)
    clip : float
        Half-width of the interval around 1 in which the ratio earns, in (0, inf); 0.2 in the paper.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (N,)
        With respect to `log_prob`. At a kink, the derivative of the unclipped term.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` not positive.
    """
    validate.inputs(SURROGATE.inputs, log_prob, old_log_prob, advantage)
    validate.interval("(0, inf)", clip=clip)
    J, dJ = _clipped(log_prob, old_log_prob, advantage, clip)
    return -J, -dJ


def _clipped(log_prob, old_log_prob, advantage, clip):
    N = len(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)
    unclipped = ratio * advantage
    clipped = xp.clip(ratio, 1 - clip, 1 + clip) * advantage
    J = xp.minimum(unclipped, clipped).sum() / N  # eq. ppo-clipped
    dJ = xp.where(unclipped <= clipped, unclipped, 0) / N  # eq. ppo-gradient
    return J, dJ


TOTAL = {**SURROGATE.inputs, "value": Input("N"), "value_target": Input("N"), "entropy": Input("N")}


def total_objective(
    log_prob,
    old_log_prob,
    advantage,
    value,
    value_target,
    entropy,
    *,
    clip=0.2,
    value_weight=1.0,
    entropy_weight=0.01,
):
    """Clipped surrogate loss with the errors of a value function and an entropy bonus.

    Parameters
    ----------
    log_prob, old_log_prob, advantage, clip
        As in `clipped_surrogate`.
    value, value_target : array (N,)
        The current value function, and what it should be, such as `trref.policy.gae.lambda_return`.
    entropy : array (N,)
        Of the current policy in each state.
    value_weight, entropy_weight : float
        In [0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : TotalGradient
        With respect to `log_prob`, `value` and `entropy`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    N = validate.inputs(TOTAL, log_prob, old_log_prob, advantage, value, value_target, entropy)["N"]
    validate.interval("(0, inf)", clip=clip)
    validate.interval("[0, inf)", value_weight=value_weight, entropy_weight=entropy_weight)
    surrogate, d_log_prob = _clipped(log_prob, old_log_prob, advantage, clip)
    error = value - value_target
    J = surrogate - value_weight * (error * error).sum() / N + entropy_weight * entropy.sum() / N  # eq. ppo-total
    d_entropy = xp.full_like(entropy, entropy_weight / N)
    return -J, TotalGradient(-d_log_prob, 2 * value_weight * error / N, -d_entropy)


def clip_fraction(log_prob, old_log_prob, *, clip=0.2):
    """Return the share of ratios outside the interval.

    Parameters
    ----------
    log_prob, old_log_prob : array (N,)
    clip : float
        In (0, inf).

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, `clip` not positive.
    """
    N = validate.inputs(FRACTION, log_prob, old_log_prob)["N"]
    validate.interval("(0, inf)", clip=clip)
    outside = abs(xp.exp(log_prob - old_log_prob) - 1) > clip
    return outside.astype(log_prob.dtype).sum() / N  # eq. ppo-fraction


FRACTION = {name: SURROGATE.inputs[name] for name in ("log_prob", "old_log_prob")}


def _total_example(rng, size):
    batch = SURROGATE.example(rng, size)
    old_value = rng.standard_normal(size)
    return {
        **batch,
        "value": old_value + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal(size),
        "value_target": old_value + batch["advantage"],
        "entropy": rng.exponential(1.0, size),
    }


def _total_edge(batch):
    value = 0.5 * batch["advantage"]
    return {**batch, "value": value, "value_target": batch["advantage"] + 0.25, "entropy": abs(value)}


def _fraction_example(rng, size):
    batch = SURROGATE.example(rng, size)
    return {name: batch[name] for name in FRACTION}


def _count(log_prob, old_log_prob, *, clip=0.2):
    ratios = [math.exp(a - b) for a, b in zip(log_prob, old_log_prob, strict=True)]
    return sum(not 1 - clip <= r <= 1 + clip for r in ratios) / len(ratios)


METHOD = Method(
    title="Proximal Policy Optimization Algorithms",
    key="schulman2017proximal",
    arxiv="1707.06347",
    provenance="confirmed",
    functions=(
        Objective(f=unclipped_surrogate, interface=SURROGATE, wrt="log_prob"),
        Objective(
            f=clipped_surrogate,
            interface=SURROGATE,
            wrt="log_prob",
            settings={"default": {}, "atari": {"clip": 0.1}, "probe": {"clip": 0.35}},
            limits=(Limit(to="ppo.unclipped_surrogate", hyper={"clip": 1e14}),),
            deviations=(
                deviations.PPO_WITHOUT_MINIMUM,
                deviations.PPO_PRODUCT_CLIPPED,
                deviations.PPO_SAMPLE_STANDARDISED,
                deviations.PPO_POPULATION_STANDARDISED,
            ),
        ),
        Objective(
            f=total_objective,
            inputs=TOTAL,
            example=_total_example,
            edges={name: lambda make=make: _total_edge(make()) for name, make in SURROGATE.edges.items()},
            wrt=("log_prob", "value", "entropy"),
            settings={
                "default": {},
                "separate networks": {"value_weight": 0.0, "entropy_weight": 0.0},
                "probe": {"clip": 0.35, "value_weight": 0.5, "entropy_weight": 0.03},
            },
            deviations=(deviations.VALUE_CLIPPED, deviations.VALUE_CLIPPED_BRANCH, deviations.VALUE_HALVED),
        ),
        Estimator(
            f=clip_fraction,
            inputs=FRACTION,
            example=_fraction_example,
            edges={
                "on-policy": lambda: {"log_prob": xp.full(3, -1.0), "old_log_prob": xp.full(3, -1.0)},
                "one ratio outside": lambda: {"log_prob": xp.array([0.0]), "old_log_prob": xp.array([-1.0])},
            },
            settings={"default": {}, "probe": {"clip": 0.35}},
            brute_force=_count,
        ),
    ),
)
