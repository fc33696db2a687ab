r"""Estimates of a KL divergence from samples: as a value, in the loss, in the reward.

With :math:`d = \log\pi_{ref} - \log\pi` of a sampled token, three estimates of :math:`KL(\pi\|\pi_{ref})` are in use,

.. math::
    :label: kl-estimators-values

    k_1 = -d, \qquad k_2 = \tfrac12 d^2, \qquad k_3 = e^d - d - 1 \ge 0 .

On tokens drawn from :math:`\pi`, :math:`k_1` and :math:`k_3` have the right mean; :math:`k_2` is right to second order.
In a loss they are differentiated with the sample held fixed:

.. math::
    :label: kl-estimators-derivatives

    k_1' = 1, \qquad k_2' = -d, \qquad k_3' = 1 - e^d

and now the means of the gradients are :math:`E[\nabla k_1] = 0`, :math:`E[\nabla k_2] = \nabla KL(\pi\|\pi_{ref})`,
and :math:`E[\nabla k_3] = \nabla KL(\pi_{ref}\|\pi)`: a right value is not a right gradient. With weights :math:`w`
that average over tokens,

.. math::
    :label: kl-estimators-loss

    L = \sum_{i,t} w_{i,t}\, k_{i,t}

is the penalty in the loss, and

.. math::
    :label: kl-estimators-reward

    L = \sum_{i,t} w_{i,t}\, \mathrm{sg}[k_{i,t}] \log\pi_{i,t}

the surrogate of a penalty in the reward (each token pays its own :math:`k`): there :math:`k_1` and :math:`k_3` are
charges with the right mean and :math:`k_1` gives the right gradient, that of :math:`k_2` in the loss. On tokens of an
old policy the ratio :math:`\rho = \pi/\pi_{old}`, not held constant, makes value and gradient of :math:`k_3` right:

.. math::
    :label: kl-estimators-corrected

    L = \sum_{i,t} w_{i,t}\, \rho_{i,t} k_{3,i,t}, \qquad
    \frac{\partial L}{\partial\log\pi_{i,t}} = -w_{i,t}\, \rho_{i,t}\, d_{i,t}

GRPO as published subtracts an estimate from its clipped terms :math:`\ell` (:mod:`trref.tokens.grpo`):

.. math::
    :label: kl-estimators-grpo

    J = \sum_{i,t} \frac{m_{i,t}}{B\,|y_i|}\, \big(\ell_{i,t} - \beta\, k_{i,t}\big)

On-policy that is REINFORCE where the reference is the policy, too, and not with :math:`k_1`, whose derivative is 1.

======================  ===========
:math:`k_1, k_2, k_3`   `estimator`
:math:`\mathrm{sg}[k]`  `charge`
:math:`\beta`           `kl_weight`
======================  ===========

Without any token each of these losses is 0.

**Where implementations differ.** TRL penalises with plain :math:`k_3`, uncorrected off policy unless
``use_bias_correction_kl``; its default :math:`\beta` is 0. verl, EasyR1, SkyRL and ROLL clamp :math:`k_3` to ±10,
OpenRLHF every estimate. verl's ``k3+`` takes the value of :math:`k_3` and the gradient of :math:`k_2`; its ``abs``, and
SkyRL's, is the absolute log-ratio, no divergence.

**Provenance.** Confirmed: the estimates, the corrected form (DeepSeek-V3.2) and GRPO's penalty by the loss code and
documentation of TRL and verl. The table of mean gradients is derived here and checked by enumeration.

Schulman, *Approximating KL Divergence*, 2020, http://joschu.net/blog/kl-approx.html.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    Lead,
    LogProb,
    Mask,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import clip_surrogate, seq_mean, token_mean

Estimate = Literal["k1", "k2", "k3"]


@checked
def kl_estimate(
    log_prob: LogProb[Lead], ref_log_prob: LogProb[Lead], estimator: Estimate
) -> tuple[Real[Lead], Real[Lead]]:
    """Estimate of each token's KL(policy ‖ reference), and its derivative.

    Parameters
    ----------
    estimator
        Which estimate.

    Returns
    -------
    estimate
    derivative
    """
    # eq. kl-estimators-values, kl-estimators-derivatives
    d = ref_log_prob - log_prob
    if estimator == "k1":
        return -d, xp.ones_like(d)
    if estimator == "k2":
        return d * d / 2, -d
    growth = xp.expm1(d)
    return growth - d, -growth


@checked
def kl_in_loss(
    log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    estimator: Estimate = "k3",
) -> tuple[Scalar, Real[B, T]]:
    """Mean estimate over all tokens, differentiated with the tokens held fixed.

    Parameters
    ----------
    estimator
        Right in the mean on policy: k2.
    """
    k, dk = kl_estimate.unchecked(log_prob, ref_log_prob, estimator)
    w = token_mean(mask)
    return (w * k).sum(), w * dk  # eq. kl-estimators-loss


@checked
def reward_charge(
    log_prob: LogProb[B, T], ref_log_prob: LogProb[B, T], *, estimator: Estimate = "k1"
) -> Real[B, T]:
    """Estimate that `kl_in_reward` charges each token."""
    return kl_estimate.unchecked(log_prob, ref_log_prob, estimator)[0]


@checked
def kl_in_reward(
    log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    estimator: Estimate = "k1",
    charge: Real[B, T] | None = None,
) -> tuple[Scalar, Real[B, T]]:
    """Surrogate of a reward of minus the estimate: the estimate is a number, the policy is differentiated.

    Parameters
    ----------
    estimator
        Right in the mean on policy: k1.
    charge
        The estimates, held constant; those of `reward_charge` if None.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    if charge is None:
        charge = reward_charge.unchecked(log_prob, ref_log_prob, estimator=estimator)
    weighted = token_mean(mask) * charge
    return (weighted * log_prob).sum(), weighted  # eq. kl-estimators-reward


@checked
def kl_off_policy(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
) -> tuple[Scalar, Real[B, T]]:
    """Mean of ratio times k3 over all tokens of an old policy: unbiased in value and in gradient."""
    d = ref_log_prob - log_prob
    weighted = token_mean(mask) * xp.exp(log_prob - old_log_prob)
    # eq. kl-estimators-corrected
    return (weighted * (xp.expm1(d) - d)).sum(), -weighted * d


@checked
def grpo_with_kl(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    ref_log_prob: LogProb[B, T],
    *,
    clip: PositiveFloat = 0.2,
    kl_weight: NonNegativeFloat = 0.04,
    estimator: Estimate = "k3",
) -> tuple[Scalar, Real[B, T]]:
    """GRPO loss as published: with the divergence from a reference policy inside the mean.

    Parameters
    ----------
    estimator
        k3 in the paper.
    """
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    k, dk = kl_estimate.unchecked(log_prob, ref_log_prob, estimator)
    w = seq_mean(mask)
    J = (w * (term - kl_weight * k)).sum()  # eq. kl-estimators-grpo
    return -J, -w * (derivative - kl_weight * dk)
