r"""Proximal policy optimisation with a KL penalty: a weight that adapts, and estimators of the divergence.

The alternative to clipping: the surrogate is charged for the divergence of each state's new policy from the old one,

.. math::
    :label: ppo-penalty-objective

    J^{KLPEN}(\theta) = \frac1N \sum_t \Big[ r_t(\theta) \hat A_t
    - \beta\, D_{KL}\big( \pi_{old}(\cdot|s_t) \,\|\, \pi_\theta(\cdot|s_t) \big) \Big],

with the derivative in the logits :math:`z_t` of the new policy

.. math::
    :label: ppo-penalty-gradient

    \frac{\partial J^{KLPEN}}{\partial z_t} = \frac1N \Big[ r_t \hat A_t\, (e_{a_t} - \pi_\theta)
    - \beta\, (\pi_\theta - \pi_{old}) \Big].

After each update the mean divergence :math:`d` decides about the weight of the next one:

.. math::
    :label: ppo-penalty-beta

    \beta \leftarrow \begin{cases} \beta / 2 & d < d_{targ} / 1.5 \\ 2 \beta & d > 1.5\, d_{targ} \\
    \beta & \text{otherwise} \end{cases}

Where only sampled actions are at hand, the divergence is estimated from :math:`\ell = \log\pi_\theta(a) -
\log\pi_{old}(a)` with :math:`a \sim \pi_{old}`:

.. math::
    :label: ppo-penalty-estimators

    k_1 = -\ell, \qquad k_2 = \tfrac12 \ell^2, \qquad k_3 = (e^\ell - 1) - \ell.

:math:`k_1` and :math:`k_3` are unbiased for :math:`D_{KL}(\pi_{old}\|\pi_\theta)`, :math:`k_2` and :math:`k_3` never
negative.

===================  =======================================
:math:`\beta`        `kl_weight`
:math:`d_{targ}`     `target`
:math:`d`            `kl`, the mean divergence
===================  =======================================

On a threshold the weight stays.

**Where implementations differ.** None of the public trainers read adapts the weight this way. Those of language models
put the penalty into the reward and adapt it in proportion to the error. What is logged as approximate divergence is
:math:`k_2` in baselines' ppo2, the exact one in its ppo1, :math:`k_1` in Spinning Up, :math:`k_3` in Stable-Baselines3
and CleanRL.

**Provenance.** From memory of the paper; the gradient and the expectations are derived and checked. Keeping the weight
within 1e±10 is ours: it would under- or overflow after many updates on one side.

Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal Policy Optimization Algorithms*, 2017, arXiv:1707.06347.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn import heads
from trref.signature import (
    Index,
    K,
    LogProb,
    N,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class KLEstimates(NamedTuple):
    """Three estimates of each sample's divergence; their means estimate KL(old‖new)."""

    k1: Real[N]
    k2: Real[N]
    k3: Real[N]


def _possible(logits, old_logits, actions, **_):
    """Unknown actions, and log-probabilities of the actions more than 30 apart."""
    bound = validate.LOG_RATIO_BOUND
    near = f"logits and old_logits must give the actions log-probabilities within {bound:g} of each other"
    return [
        validate.labels(actions, logits.shape[1], "actions"),
        (lambda: (abs(_log_ratio(logits, old_logits, actions)) <= bound).all(), near),
    ]


def _log_ratio(logits, old_logits, actions):
    log_prob, _ = heads.categorical_log_prob(logits, actions)
    return log_prob - heads.categorical_log_prob(old_logits, actions)[0]


@checked(also=_possible)
def kl_penalty_objective(
    logits: Real[N, K],
    old_logits: Real[N, K],
    actions: Index[N],
    advantage: Real[N],
    *,
    kl_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, Real[N, K]]:
    """Surrogate loss with a penalty on the exact divergence of categorical policies."""
    N = len(logits)
    ratio = xp.exp(_log_ratio(logits, old_logits, actions))
    _, d_log_prob = heads.categorical_log_prob(logits, actions)
    kl, _, d_kl = heads.categorical_kl(old_logits, logits)
    # eq. ppo-penalty-objective, ppo-penalty-gradient
    J = (ratio * advantage - kl_weight * kl).sum() / N
    dJ = ((ratio * advantage)[:, None] * d_log_prob - kl_weight * d_kl) / N
    return -J, -dJ


@checked
def adapt_kl_weight(
    kl_weight: Positive[()], kl: NonNegative[()], *, target: PositiveFloat = 0.01
) -> Scalar:
    """Weight of the penalty for the next update.

    Parameters
    ----------
    kl_weight
        That of the update just made; where it starts does not matter much.
    kl
        The mean divergence that the update has caused.
    target
        The divergence wanted.

    Returns
    -------
    kl_weight
        Within 1e-10 and 1e10.
    """
    # eq. ppo-penalty-beta
    doubled = xp.where(kl > 1.5 * target, 2 * kl_weight, kl_weight)
    adapted = xp.where(kl < target / 1.5, kl_weight / 2, doubled)
    return xp.asarray(xp.clip(adapted, 1e-10, 1e10))


@checked
def kl_estimators(log_prob: LogProb[N], old_log_prob: LogProb[N]) -> KLEstimates:
    """Three estimates of KL(old‖new) from samples of the old policy."""
    log_ratio = log_prob - old_log_prob
    k3 = xp.expm1(log_ratio) - log_ratio
    # eq. ppo-penalty-estimators
    return KLEstimates(-log_ratio, log_ratio * log_ratio / 2, k3)
