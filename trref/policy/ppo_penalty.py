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

**Where implementations differ.** None of the public trainers read adapts the weight this way. Those of language models
put the penalty into the reward and adapt it in proportion to the error. What is logged as approximate divergence is
:math:`k_2` in baselines' ppo2, the exact one in its ppo1, :math:`k_1` in Spinning Up, :math:`k_3` in Stable-Baselines3
and CleanRL.

**Provenance.** From memory of the paper; the gradient and the expectations are derived and checked. Keeping the weight
within 1e±10 is ours: it would under- or overflow after many updates on one side.

Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal Policy Optimization Algorithms*, 2017, arXiv:1707.06347.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method, Objective
from trref.nn import heads
from trref.policy import deviations
from trref.policy.interfaces import SURROGATE

__all__ = ["KLEstimates", "adapt_beta", "kl_estimators", "kl_penalty_objective"]


class KLEstimates(NamedTuple):
    """Three estimates of each sample's divergence, (N,); their means estimate KL(old‖new)."""

    k1: Any
    k2: Any
    k3: Any


PENALTY = {
    "logits": Input("N K"),
    "old_logits": Input("N K"),
    "actions": Input("N", "index"),
    "advantage": Input("N"),
}


def kl_penalty_objective(logits, old_logits, actions, advantage, *, beta=1.0):
    """Surrogate loss with a penalty on the exact divergence of categorical policies.

    Parameters
    ----------
    logits, old_logits : array (N, K)
        Of the current policy, and of the one that drew the actions.
    actions : integer array (N,)
    advantage : array (N,)
    beta : float
        Weight of the penalty, in [0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (N, K)
        With respect to `logits`.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, unknown actions, log-probabilities more than 30 apart,
        negative beta.
    """
    sizes, flags = validate.deferred(PENALTY, logits, old_logits, actions, advantage)
    flags.append((lambda: (actions < sizes["K"]).all(), f"actions must hold integers below {sizes['K']}"))
    flags.append((lambda: (abs(_log_ratio(logits, old_logits, actions)) <= 30).all(), FAR_APART))
    validate.require(*flags)
    validate.interval("[0, inf)", beta=beta)
    N = sizes["N"]
    ratio = xp.exp(_log_ratio(logits, old_logits, actions))
    _, d_log_prob = heads.categorical_log_prob(logits, actions)
    kl, _, d_kl = heads.categorical_kl(old_logits, logits)
    J = (ratio * advantage - beta * kl).sum() / N  # eq. ppo-penalty-objective
    dJ = ((ratio * advantage)[:, None] * d_log_prob - beta * d_kl) / N  # eq. ppo-penalty-gradient
    return -J, -dJ


FAR_APART = "logits and old_logits must give log-probabilities of the actions at most 30 apart"


def _log_ratio(logits, old_logits, actions):
    return heads.categorical_log_prob(logits, actions)[0] - heads.categorical_log_prob(old_logits, actions)[0]


BETA = {"beta": Input("", "positive"), "kl": Input("", "nonnegative")}


def adapt_beta(beta, kl, *, target=0.01):
    """Return the weight of the penalty for the next update.

    Parameters
    ----------
    beta : scalar array
        The weight of the update just made; where it starts does not matter much.
    kl : scalar array
        The mean divergence that the update has caused.
    target : float
        The divergence wanted, in (0, inf).

    Returns
    -------
    scalar array
        Within 1e-10 and 1e10.

    Raises
    ------
    ValueError
        Values that are not finite or out of range.
    """
    validate.inputs(BETA, beta, kl)
    validate.interval("(0, inf)", target=target)
    adapted = xp.where(kl < target / 1.5, beta / 2, xp.where(kl > 1.5 * target, 2 * beta, beta))  # eq. ppo-penalty-beta
    return xp.asarray(xp.clip(adapted, 1e-10, 1e10))


ESTIMATORS = {name: SURROGATE.inputs[name] for name in ("log_prob", "old_log_prob")}


def kl_estimators(log_prob, old_log_prob):
    """Return three estimates of KL(old‖new) from samples of the old policy.

    Parameters
    ----------
    log_prob, old_log_prob : array (N,)
        Log-probabilities of the sampled actions.

    Returns
    -------
    KLEstimates
        One estimate a sample.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart.
    """
    validate.inputs(ESTIMATORS, log_prob, old_log_prob)
    log_ratio = log_prob - old_log_prob
    k3 = xp.expm1(log_ratio) - log_ratio
    return KLEstimates(-log_ratio, log_ratio * log_ratio / 2, k3)  # eq. ppo-penalty-estimators


def _penalty_example(rng, size):
    old = rng.choice((0.1, 1.5)) * rng.standard_normal((size, 4))
    return {
        "logits": old + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 4)),
        "old_logits": old,
        "actions": rng.integers(0, 4, size),
        "advantage": rng.standard_normal(size),
    }


def _penalty_edge(logits, old_logits, advantage):
    return {
        "logits": xp.array(logits, dtype=float),
        "old_logits": xp.array(old_logits, dtype=float),
        "actions": xp.zeros(len(logits), dtype=int),
        "advantage": xp.array(advantage, dtype=float),
    }


def _beta_example(rng, size):
    return {"beta": xp.array(10.0 ** rng.uniform(-3, 3)), "kl": xp.array(0.01 * 4.0 ** rng.uniform(-1, 1))}


def _beta_edge(beta, kl):
    return {"beta": xp.array(beta), "kl": xp.array(kl)}


def _beta_by_cases(beta, kl, *, target=0.01):
    if kl * 1.5 < target:
        return max(float(beta) / 2, 1e-10)
    return min(float(beta) * 2, 1e10) if kl > 1.5 * target else float(beta)


def _estimators_example(rng, size):
    batch = SURROGATE.example(rng, size)
    return {name: batch[name] for name in ESTIMATORS}


def _estimators_by_ratio(log_prob, old_log_prob):
    ratio = xp.exp(log_prob) / xp.exp(old_log_prob)
    return xp.stack([xp.log(1 / ratio), xp.log(ratio) ** 2 / 2, ratio - 1 - xp.log(ratio)])


METHOD = Method(
    key="schulman2017proximal",
    provenance={"partly": ("objective", "beta", "estimators"), "reconstructed": ("gradient",)},
    functions=(
        Objective(
            f=kl_penalty_objective,
            inputs=PENALTY,
            example=_penalty_example,
            edges={
                "on-policy": lambda: _penalty_edge([[0.5, -1.0]] * 2, [[0.5, -1.0]] * 2, [1, -2]),
                "no advantages": lambda: _penalty_edge([[0.5, -1.0]], [[0.0, 0.0]], [0]),
                "all but deterministic": lambda: _penalty_edge([[5.0, 0.0]], [[-3.0, 0.0]], [1]),
            },
            wrt="logits",
            settings={"default": {}, "no penalty": {"beta": 0.0}, "probe": {"beta": 2.5}},
            deviations=(deviations.KL_IN_THE_ADVANTAGE,),
        ),
        Estimator(
            f=adapt_beta,
            inputs=BETA,
            example=_beta_example,
            edges={
                "on the target": lambda: _beta_edge(2.0, 0.01),
                "on the upper threshold": lambda: _beta_edge(2.0, 1.5 * 0.01),
                "no divergence": lambda: _beta_edge(3.0, 0.0),
                "at the smallest weight": lambda: _beta_edge(1e-10, 0.0),
                "at the largest weight": lambda: _beta_edge(1e10, 1.0),
            },
            settings={"default": {}, "probe": {"target": 0.03}},
            deviations=(deviations.BETA_PROPORTIONAL,),
            brute_force=_beta_by_cases,
        ),
        Estimator(
            f=kl_estimators,
            inputs=ESTIMATORS,
            example=_estimators_example,
            edges={
                "on-policy": lambda: {"log_prob": xp.full(3, -1.0), "old_log_prob": xp.full(3, -1.0)},
                "one sample": lambda: {"log_prob": xp.array([-0.5]), "old_log_prob": xp.array([-2.0])},
            },
            brute_force=_estimators_by_ratio,
        ),
    ),
)
