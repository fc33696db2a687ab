r"""Proximal policy optimisation: the clipped surrogate.

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

Both are maximised; the functions return :math:`-J` and its gradient. :math:`\hat A` and :math:`\log\pi_{old}` are data.

**Where implementations differ.** Most public trainers standardise the advantages of each minibatch first, some with
the sample and some with the population standard deviation; neither is in the paper. Leaving out the minimum looks
harmless and is not: for a negative advantage and :math:`r > 1 + \epsilon` the gradient that pulls the ratio back is
lost. Clipping is no trust region: the ratio of a sample may leave the interval and stay outside.

**Provenance.** Confirmed: the objective by five public implementations (baselines, Spinning Up, Stable-Baselines3,
CleanRL, rlax); the gradient is derived and checked.

Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal Policy Optimization Algorithms*, 2017, arXiv:1707.06347.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.policy import deviations
from trref.policy.interfaces import SURROGATE

__all__ = ["clipped_surrogate", "unclipped_surrogate"]


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
    N = len(log_prob)
    ratio = xp.exp(log_prob - old_log_prob)  # eq. ppo-ratio
    unclipped = ratio * advantage
    clipped = xp.clip(ratio, 1 - clip, 1 + clip) * advantage
    J = xp.minimum(unclipped, clipped).sum() / N  # eq. ppo-clipped
    dJ = xp.where(unclipped <= clipped, unclipped, 0) / N  # eq. ppo-gradient
    return -J, -dJ


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
                deviations.PPO_SAMPLE_STANDARDISED,
                deviations.PPO_POPULATION_STANDARDISED,
            ),
        ),
    ),
)
